"""What rooms are fitted with beside furniture: desks, kitchens, baths, lamps, screens, doors. Each
stands at the origin of the builder's frame with its back at +z, in metres."""

from __future__ import annotations

import math
from random import Random

from dalib.data.scenes import objects as o
from dalib.data.scenes.objects import hsv, stuff
from dalib.data.scenes.primitives import Builder, Material, Real
from dalib.data.scenes.textures import PATTERNS

CERAMIC = Material((0.82, 0.82, 0.8), (0.7, 0.7, 0.68), PATTERNS["smooth"], 1.0, 0.05, 0.8)


def screen(b: Builder, rng: Random, w: Real) -> None:
    """A flat screen on its foot, or hung if the frame is high up; on or off."""
    bright = rng.random() < 0.6
    picture = stuff(rng, hsv(rng, value=(0.1, 0.5) if bright else (0.01, 0.05)),
                    "scene letters picture smooth" if bright else "plain", w,
                    hsv(rng, value=(0.4, 0.9)) if bright else None,
                    gloss=0.6, glow=0.5 * bright)  # fmt: skip
    b.box(0, 0, 0, 0.4 * w, 0.02, 0.2, o.RUBBER, "object")
    b.box(0, 0, 0.04, 0.08 * w, 0.2 * w, 0.03, o.RUBBER, "object")
    b.box(0, 0.12 * w, 0, w, 0.6 * w, 0.04, o.RUBBER, "object")
    b.box(0, 0.14 * w, -0.022, 0.95 * w, 0.55 * w, 0.005, picture, "object", casts=False)


def desk(b: Builder, rng: Random, w: Real) -> None:
    """A work place: one or two screens, keyboard, papers, clutter, drawers below, a chair."""
    h = rng.uniform(0.7, 0.78)
    d = rng.uniform(0.65, 0.85)
    o.table(b, rng, w, d, h, 0)
    for k in range(rng.choice((0, 1, 1, 2))):
        with b.at((k - 0.3) * 0.6 + rng.gauss(0, 0.1), h, 0.12, rng.gauss(0, 0.25)):
            screen(b, rng, rng.uniform(0.4, 0.65))
    for _ in range(rng.randint(0, 4)):
        paper = stuff(rng, hsv(rng, saturation=(0, 0.2), value=(0.6, 0.95)), "letters plain", 0.3,
                      hsv(rng, value=(0.05, 0.5)))  # fmt: skip
        b.box(rng.uniform(-0.45, 0.45) * w, h, rng.uniform(-0.35, 0.1) * d, rng.uniform(0.15, 0.4),
              rng.uniform(0.004, 0.03), rng.uniform(0.12, 0.3), paper, "object",
              yaw=rng.gauss(0, 0.4), casts=False)  # fmt: skip
    o.scatter(b, rng, 0.9 * w, 0.8 * d, h, rng.randint(1, 8), 0.16)
    if rng.random() < 0.5:
        with b.at(0.3 * w, 0, 0.05):
            o.cabinet(b, rng, 0.42, 0.6, 0.5)
    if rng.random() < 0.7:
        with b.at(rng.gauss(0, 0.25), 0, -0.55 * d - 0.2, math.pi + rng.gauss(0, 0.6)):
            o.chair(b, rng)


def kitchen(b: Builder, rng: Random, w: Real, h: Real) -> None:
    """Base units with a worktop, wall units, a splashback, an oven or a fridge, things about."""
    front = o.furniture_surface(rng)
    top = stuff(rng, hsv(rng, saturation=(0, 0.3), value=(0.1, 0.85)), "speckle marble wood plain",
                0.6, gloss=0.5)  # fmt: skip
    units = max(2, round(w / 0.6))
    b.box(0, 0.08, 0.02, w, 0.78, 0.56, front, "furniture")
    b.box(0, 0.86, 0, w + 0.04, 0.04, 0.62, top, "furniture")
    tiles = stuff(rng, hsv(rng, saturation=(0, 0.4), value=(0.4, 0.9)), "tiles bricks plain", 0.8)
    b.box(0, 0.9, 0.295, w, 0.5, 0.01, tiles, "wall", casts=False)
    for k in range(units):
        x = (k + 0.5) / units * w - w / 2
        oven = rng.random() < 0.2
        b.box(x, 0.12, -0.27, w / units - 0.015, 0.7, 0.02, o.RUBBER if oven else front,
              "furniture", casts=False)  # fmt: skip
        b.box(x, 0.74, -0.295, 0.16, 0.015, 0.02, o.METAL, "furniture", casts=False)
        if rng.random() < 0.75:
            b.box(x, 1.4, 0.13, w / units - 0.01, rng.choice((0.6, 0.7)), 0.34, front, "furniture")
            b.box(x, 1.45, -0.05, 0.015, 0.14, 0.02, o.METAL, "furniture", casts=False)
    if rng.random() < 0.4:
        with b.at(w / 2 + 0.36, 0, 0):
            fridge = stuff(rng, hsv(rng, saturation=(0, 0.1), value=(0.3, 0.95)), gloss=0.6)
            tall = min(rng.uniform(1.5, 2.0), h - 0.1)
            b.box(0, 0, 0, 0.66, tall, 0.64, fridge, "furniture")
            b.box(0, 0.62 * tall, -0.322, 0.64, 0.01, 0.01, o.RUBBER, "furniture", casts=False)
    with b.at(rng.uniform(-0.3, 0.3) * w, 0.9, 0):
        if rng.random() < 0.5:  # a tap
            b.cone(0, 0, 0.2, 0.04, 0.3, 0.04, o.METAL, "object")
            b.box(0, 0.28, 0.1, 0.03, 0.03, 0.2, o.METAL, "object")
    o.scatter(b, rng, 0.9 * w, 0.35, 0.9, rng.randint(1, 9), 0.2)


def bath(b: Builder, rng: Random, w: Real) -> None:
    """A basin with a mirror, a toilet, or a tub, by the room there is."""
    if w > 1.5:
        b.box(0, 0, 0, min(w, 1.7), 0.55, 0.75, CERAMIC, "furniture")
        b.box(0, 0.45, 0, min(w, 1.7) - 0.14, 0.102, 0.6, o.GLASS._replace(a=(0.5, 0.52, 0.52)),
              "furniture", casts=False)  # fmt: skip
        if rng.random() < 0.4:
            cloth = stuff(rng, hsv(rng, saturation=(0, 0.6)), "corrugated stripes dots", 1.0)
            b.box(-0.3, 0.3, -0.36, 0.7, 1.6, 0.04, cloth, "opening")
    elif rng.random() < 0.5:
        b.box(0, 0.4, 0.22, 0.4, 0.42, 0.18, CERAMIC, "furniture")
        b.cone(0, 0, 0, 0.28, 0.38, 0.4, CERAMIC, "furniture", taper=(-0.3, 0))
        b.cone(0, 0.38, -0.05, 0.4, 0.04, 0.5, CERAMIC, "furniture")
    else:
        o.cabinet(b, rng, 0.7, 0.78, 0.42)
        b.ball(0, 0.7, -0.02, 0.55, 0.2, 0.42, CERAMIC, "furniture")
        b.cone(0, 0.82, 0.15, 0.03, 0.2, 0.03, o.METAL, "object")
        silver = Material((0.5, 0.53, 0.55), (0.3, 0.33, 0.36), PATTERNS["scene"], 1.4, 0.05, 0.9)
        b.box(0, 1.15, 0.2, 0.6, 0.8, 0.03, silver, "opening", casts=False)


def standing_lamp(b: Builder, rng: Random) -> None:
    h = rng.uniform(1.2, 1.8)
    b.cone(0, 0, 0, 0.28, 0.03, 0.28, o.METAL, "furniture")
    b.cone(0, 0, 0, 0.03, h, 0.03, o.METAL, "furniture")
    shade = stuff(rng, hsv(rng, (0.08, 0.14), (0.05, 0.4), (0.7, 0.95)), "plain", glow=0.8)
    b.cone(0, h - 0.05, 0, 0.42, 0.32, 0.42, shade._replace(b=shade.a), "furniture",
           taper=(rng.choice((0.0, 0.4)), 0))  # fmt: skip


def radiator(b: Builder, rng: Random) -> None:
    w = rng.uniform(0.6, 1.4)
    m = stuff(rng, hsv(rng, saturation=(0, 0.08), value=(0.7, 0.9)), "corrugated", 0.9)
    b.box(0, 0.12, 0, w, rng.uniform(0.4, 0.65), 0.09, m, "furniture")


def open_door(b: Builder, rng: Random) -> None:
    """A door leaf that stands open into the room."""
    with b.at(0, 0, 0, rng.uniform(0.5, 2.2)):
        b.box(0.42, 0.01, 0, 0.84, 2.02, 0.04, o.furniture_surface(rng), "opening")
        b.ball(0.76, 0.98, -0.05, 0.06, 0.06, 0.08, o.METAL, "opening")


def heap(b: Builder, rng: Random, size: Real) -> None:
    """Things thrown down: clothes, bags, cushions, boxes."""
    for _ in range(rng.randint(2, 6)):
        s = size * rng.uniform(0.4, 1.0)
        x, z = (rng.gauss(0, 0.4) * size for _ in range(2))
        m = o.fabric(rng) if rng.random() < 0.7 else o.paint(rng)
        turn = {"yaw": rng.uniform(0, 6), "roll": rng.gauss(0, 0.3)}
        if rng.random() < 0.65:
            b.ball(x, -0.15 * s, z, s, s * rng.uniform(0.3, 0.8), s * rng.uniform(0.5, 1), m,
                   "object", **turn)  # fmt: skip
        else:
            b.box(x, 0, z, s, s * rng.uniform(0.2, 0.7), s * 0.7, m, "object", yaw=turn["yaw"])
