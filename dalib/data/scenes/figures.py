"""People and animals out of ellipsoids and cones. Each stands at the origin of the builder's frame
and faces -z, in metres."""

from __future__ import annotations

import math
from random import Random

from dalib.data.scenes.objects import fabric, hsv, stuff, tone
from dalib.data.scenes.primitives import Builder, Material, Real


def _skin(rng: Random) -> Material:
    return stuff(rng, hsv(rng, (0.04, 0.08), (0.3, 0.6), (0.25, 0.85)), "plain", grunge=0.1)


def person(b: Builder, rng: Random) -> None:
    """A grown-up or a child, standing, walking, or seated on something 0.45 m high."""
    h = rng.uniform(1.5, 1.9) if rng.random() < 0.8 else rng.uniform(0.9, 1.4)
    skin = _skin(rng)
    top = fabric(rng)
    trousers = fabric(rng)
    sleeve = top if rng.random() < 0.6 else skin
    seated = rng.random() < 0.2
    hip = 0.45 if seated else 0.48 * h
    stride = rng.choice((0.0, rng.uniform(0, 0.45)))
    for side in (-1, 1):
        if seated:
            thigh = 0.27 * h
            b.cone(side * 0.1, hip - 0.06, -thigh / 2, 0.15, thigh, 0.15, trousers, "person",
                   pitch=math.pi / 2, taper=(0.2, 0))  # fmt: skip
            b.cone(side * 0.1, 0, -thigh, 0.11, hip, 0.12, trousers, "person")
        else:
            b.cone(side * 0.09, 0, side * stride * 0.22 * h, 0.14, hip, 0.15, trousers, "person",
                   taper=(-0.25, 0), pitch=side * stride)  # fmt: skip
            b.ball(side * 0.09, -0.03, side * stride * 0.42 * h - 0.05, 0.1, 0.12, 0.26, trousers,
                   "person")  # fmt: skip
        swing = -side * stride * rng.uniform(0.5, 1.5) - rng.choice((0, 0, rng.uniform(0, 1.0)))
        with b.at(side * 0.22, hip + 0.1, 0):
            b.cone(0, -0.1, 0, 0.1, 0.36 * h, 0.11, sleeve, "person", pitch=swing, roll=side * 0.12)
    b.ball(0, hip - 0.06, 0, 0.36, 0.16 * h, 0.26, trousers, "person")
    b.cone(0, hip + 0.02, 0, 0.32, 0.2 * h, 0.21, top, "person", taper=(-0.2, 0))
    b.ball(0, hip + 0.05 * h, 0, 0.42, 0.34 * h, 0.25, top, "person")
    b.cone(0, hip + 0.33 * h, 0, 0.11, 0.08 * h, 0.11, skin, "person")
    b.ball(0, hip + 0.375 * h, -0.01, 0.17, 0.145 * h, 0.21, skin, "person")
    hair = stuff(rng, hsv(rng, (0.03, 0.1), (0.2, 0.7), (0.02, 0.4)), "fine", 0.3)
    long = rng.random() < 0.4
    b.ball(0, hip + (0.34 if long else 0.41) * h, 0.03, 0.2, (0.19 if long else 0.12) * h, 0.21,
           hair, "person")  # fmt: skip
    if rng.random() < 0.25:  # a bag or a rucksack
        side = rng.choice((-0.3, 0.3, 0.0))
        b.box(side, hip + 0.02 * h * (1 if side else 6), 0 if side else 0.2, 0.14 if side else 0.3,
              0.24 * h * 0.8, 0.3 if side else 0.16, fabric(rng), "object")  # fmt: skip


def animal(b: Builder, rng: Random, size: Real | None = None) -> None:
    """Something on four legs from cat to horse, standing, lying or with its head down; or a bird."""
    if rng.random() < 0.15:
        return _bird(b, rng)
    h = size or rng.choice((0.28, 0.45, 0.6, 0.75, 1.1, 1.5))  # to the shoulder
    a = hsv(rng, (0.04, 0.12), (0.05, 0.6), rng.choice(((0.03, 0.15), (0.2, 0.5), (0.6, 0.9))))
    coat = stuff(rng, a, "noise mottle heap fine plain", h, tone(a, rng.choice((0.4, 0.7, 1.6))))
    lying = rng.random() < 0.25
    long = h * rng.uniform(1.2, 1.7)
    deep = h * rng.uniform(0.38, 0.55)
    base = 0.0 if lying else h - deep * 0.95
    for x in (-1, 1):
        for z in (-1, 1):
            if not lying:
                b.cone(x * 0.3 * deep, 0, z * 0.33 * long, 0.26 * deep, base + 0.4 * deep,
                       0.3 * deep, coat, "object", taper=(-0.5, 0), pitch=rng.gauss(0, 0.15))  # fmt: skip
    b.ball(0, base, 0, 0.95 * deep, deep, 1.15 * long, coat, "object")
    b.ball(0, base + 0.05 * deep, -0.3 * long, 0.85 * deep, 1.05 * deep, 0.55 * long, coat,
           "object")  # fmt: skip
    raised = rng.uniform(0.1, 0.9) * deep * (1 if rng.random() < 0.75 else -1)
    head = h * rng.uniform(0.24, 0.34)
    y, z = base + 0.55 * deep, -0.55 * long
    b.ball(0, y + raised / 2 - 0.15 * deep, z + 0.06 * long, 0.4 * deep, abs(raised) + 0.6 * deep,
           0.45 * deep, coat, "object", pitch=0.4)  # fmt: skip
    top = y + raised
    b.ball(0, top, z - 0.2 * head, 0.75 * head, 0.75 * head, head, coat, "object")
    b.ball(0, top + 0.08 * head, z - 0.8 * head, 0.4 * head, 0.42 * head, 0.6 * head, coat,
           "object")  # fmt: skip
    for x in (-1, 1):
        b.cone(x * 0.25 * head, top + 0.6 * head, z - 0.1 * head, 0.22 * head, 0.4 * head,
               0.12 * head, coat, "object", taper=(0.8, 0))  # fmt: skip
    b.cone(0, base + 0.35 * deep, 0.56 * long, 0.14 * deep, 0.45 * h, 0.14 * deep, coat, "object",
           pitch=rng.uniform(-0.9, 0.5))  # fmt: skip
    return None


def _bird(b: Builder, rng: Random) -> None:
    s = rng.uniform(0.15, 0.6)
    a = hsv(rng, value=(0.05, 0.8))
    coat = stuff(rng, a, "noise heap mottle plain", s)
    for x in (-1, 1):
        b.cone(x * 0.1 * s, 0, 0, 0.05 * s, 0.4 * s, 0.05 * s, coat, "object")
    b.ball(0, 0.3 * s, 0, 0.45 * s, 0.45 * s, s, coat, "object", pitch=0.35)
    b.ball(0, 0.65 * s, -0.4 * s, 0.25 * s, 0.55 * s, 0.22 * s, coat, "object", pitch=0.2)
    b.ball(0, 1.05 * s, -0.45 * s, 0.26 * s, 0.26 * s, 0.3 * s, stuff(rng, hsv(rng)), "object")
    b.cone(0, 1.05 * s, -0.68 * s, 0.1 * s, 0.3 * s, 0.1 * s, stuff(rng, hsv(rng, (0.05, 0.15))),
           "object", pitch=-1.5, taper=(0.9, 0))  # fmt: skip
