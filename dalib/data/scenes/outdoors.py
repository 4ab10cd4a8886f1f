"""Composites of the open air: cars, trees, houses, lamps, rocks."""

from __future__ import annotations

import math
from random import Random

from dalib.data.scenes.objects import GLASS, METAL, RUBBER, hsv, leaves, paint, stuff, tone
from dalib.data.scenes.primitives import Builder, Material, Real
from dalib.data.scenes.textures import PATTERNS

WHITE_LAMP = Material((0.9, 0.9, 0.85), (0.95, 0.93, 0.85), PATTERNS["fine"], 1.0, 0.0, 0.5, 1.2)
RED_LAMP = Material((0.5, 0.02, 0.02), (0.7, 0.03, 0.02), PATTERNS["fine"], 1.0, 0.0, 0.5, 0.8)
PLATE = Material((0.8, 0.8, 0.75), (0.1, 0.1, 0.1), PATTERNS["letters"], 0.5)


def car(b: Builder, rng: Random, detail: bool = True) -> None:
    """Faces -z; now and then a van or a lorry."""
    grey = rng.random() < 0.65
    colour = hsv(rng, (0, 1), (0, 0.08) if grey else (0.5, 0.9), (0.03, 0.85))
    body = stuff(rng, colour, "plain", gloss=1.0, grunge=0.05)
    kind = rng.random()
    low = 0.22
    wheel = rng.uniform(0.6, 0.7)
    w = rng.uniform(1.65, 1.9)
    n = rng.uniform(3.8, 4.8)
    waist = rng.uniform(0.62, 0.72)
    top = rng.uniform(0.5, 0.65)
    large = kind > 0.85  # van, lorry, bus
    if large:
        w, n, top = 2.0 + 0.4 * (kind > 0.95), 5.5 + 3 * (kind > 0.95), 1.4 + 1.0 * (kind > 0.95)
    cabin, shift = (n * 0.96, 0.0) if kind > 0.7 else (n * 0.62, n * 0.05)
    lean, y, pane = (
        (0.22, 0.06 if large else 0.32 if kind < 0.7 else 0.2),
        low + waist,
        0.36 if large else 0.75,
    )
    b.wedge(0, low, 0, w, waist, n, body, "vehicle", taper=(0.06, 0.04))
    b.wedge(0, y, shift, w * 0.94, top, cabin, body, "vehicle", taper=lean)
    inner = {"taper": (lean[0] * 0.75, lean[1]), "casts": False}
    b.wedge(0, y + 0.04, shift, w * 0.955, top * pane, cabin * 0.86, GLASS, "vehicle", **inner)
    inner = {"taper": (lean[0], lean[1] * 0.72), "casts": False}
    b.wedge(0, y + 0.04, shift, w * 0.8, top * pane, cabin * 1.006, GLASS, "vehicle", **inner)
    for x in (-1, 1):
        for z in (-1, 1):
            middle = (x * (w / 2 - 0.1), wheel / 2 - 0.11, z * n * 0.31)
            b.cone(*middle, wheel, 0.23, wheel, RUBBER, "vehicle", roll=math.pi / 2, casts=detail)
            if detail:
                b.cone(
                    middle[0] + 0.02 * x,
                    *middle[1:],
                    wheel * 0.6,
                    0.23,
                    wheel * 0.6,
                    METAL,
                    "vehicle",
                    roll=math.pi / 2,
                    casts=False,
                )
        b.box(
            x * w * 0.36,
            low + waist * 0.5,
            -n / 2,
            w * 0.2,
            0.13,
            0.06,
            WHITE_LAMP,
            "vehicle",
            casts=False,
        )
        b.box(
            x * w * 0.38,
            low + waist * 0.55,
            n / 2,
            w * 0.17,
            0.16,
            0.05,
            RED_LAMP,
            "vehicle",
            casts=False,
        )
        if detail:
            b.box(
                x * (w / 2 + 0.06),
                y,
                shift - 0.3 * cabin,
                0.16,
                0.12,
                0.1,
                body,
                "vehicle",
                casts=False,
            )
    if detail:
        b.box(0, low + 0.1, 0, w * 0.9, 0.16, n * 1.01, RUBBER, "vehicle", casts=False)
        b.box(0, low + waist * 0.3, n / 2, 0.5, 0.12, 0.04, PLATE, "vehicle", casts=False)


def bark(rng: Random) -> Material:
    a = hsv(rng, (0.05, 0.12), (0.15, 0.5), (0.08, 0.3))
    return stuff(rng, a, "bark", 0.8, tone(a, 1.7))


def tree(b: Builder, rng: Random, h: Real | None = None, detail: bool = True) -> None:
    h = h or rng.uniform(4, 11)
    trunk = bark(rng)
    green = leaves(rng, rng.uniform(0.5, 1.0))
    width = 0.03 * h + 0.05
    if rng.random() < 0.22:  # fir
        b.cone(0, 0, 0, width, 0.3 * h, width, trunk, "vegetation")
        for k in range(6):
            s = h * (0.42 - 0.055 * k)
            shade = green._replace(a=tone(green.a, 0.5 + 0.1 * k), b=tone(green.b, 0.5 + 0.08 * k))
            b.ball(0, (0.1 + 0.14 * k) * h, 0, s, 0.34 * h, s, shade, "vegetation", yaw=k)
        return
    clear = rng.uniform(0.2, 0.38)
    b.cone(
        0,
        0,
        0,
        width,
        0.75 * h,
        width,
        trunk,
        "vegetation",
        taper=(0.6, 0),
        roll=rng.uniform(-0.04, 0.04),
    )
    crown = (1 - clear) * h
    spread = rng.uniform(0.3, 0.5) * h
    for k in range(rng.randint(5, 8) if detail else 4):
        a = 2.4 * k + rng.random()
        level = rng.random()
        r = (
            0.5
            * spread
            * rng.uniform(0.4, 1.0)
            * math.sqrt(1 - (1.6 * level - 0.6) ** 2 * 0.8)
            * (k > 0)
        )
        s = spread * rng.uniform(0.6, 0.85) * (1.3 if k == 0 else 1.0)
        y = clear * h + (crown - 0.8 * s) * (level if k else 0.4)
        shade = green._replace(a=tone(green.a, rng.uniform(0.75, 1.3)))
        b.ball(
            r * math.cos(a),
            y,
            r * math.sin(a),
            s,
            s * rng.uniform(0.7, 0.95),
            s,
            shade,
            "vegetation",
            yaw=a,
        )
    for _ in range(2 * detail):
        a = rng.random() * math.tau
        b.cone(
            0.08 * h * math.cos(a),
            clear * h,
            0.08 * h * math.sin(a),
            0.4 * width,
            0.3 * h,
            0.4 * width,
            trunk,
            "vegetation",
            yaw=math.pi / 2 - a,
            pitch=-0.6,
            taper=(0.5, 0),
        )


def bush(b: Builder, rng: Random, s: Real = 1.2) -> None:
    green = leaves(rng, rng.uniform(0.4, 0.9))
    for _ in range(rng.randint(1, 4)):
        w = s * rng.uniform(0.6, 1.2)
        b.ball(
            rng.uniform(-s, s) / 2,
            -0.15 * s,
            rng.uniform(-s, s) / 2,
            w,
            w * rng.uniform(0.7, 1.0),
            w,
            green,
            "vegetation",
        )


def rock(b: Builder, rng: Random, s: Real = 1.0) -> None:
    a = hsv(rng, (0.05, 0.13), (0.03, 0.25), (0.2, 0.55))
    m = stuff(rng, a, "noise gravel marble smooth", 1.5 * s, tone(a, 0.6), grunge=0.5)
    for _ in range(rng.randint(1, 3)):
        size = (s * rng.uniform(0.5, 1.2), s * rng.uniform(0.3, 0.8), s * rng.uniform(0.5, 1.2))
        where = (rng.uniform(-s, s) * 0.3, -0.1 * s, rng.uniform(-s, s) * 0.3)
        turn = {
            "yaw": rng.uniform(0, 3),
            "pitch": rng.uniform(-0.3, 0.3),
            "roll": rng.uniform(-0.3, 0.3),
        }
        if rng.random() < 0.5:
            b.ball(*where, *size, m, "rock", **turn)
        else:
            b.wedge(
                *where,
                *size,
                m,
                "rock",
                taper=(rng.uniform(0.2, 0.7), rng.uniform(0.2, 0.7)),
                **turn,
            )


def house(b: Builder, rng: Random, w: Real, h: Real, d: Real, roof: bool) -> None:
    """A facade with windows on all sides, a plinth or shop front, sometimes a gable, cornice,
    balconies and a door."""
    wall = hsv(rng, (0.0, 0.16) if rng.random() < 0.8 else (0.5, 0.7), (0.02, 0.65), (0.2, 0.9))
    glass = hsv(rng, (0.5, 0.65), (0.1, 0.4), (0.04, 0.25))
    storey = rng.uniform(2.7, 3.4)
    pattern = rng.choice(("windows", "sash", "windows", "sash", "office", "bands"))
    if rng.random() < 0.3:
        glass = hsv(rng, (0.5, 0.65), (0.05, 0.3), (0.4, 0.9))
    size = storey * (4 if pattern == "office" else 2)
    face = Material(
        wall, glass, PATTERNS[pattern], size, rng.uniform(0.1, 0.6), 0.05, rng.uniform(0.2, 1.0)
    )
    b.box(0, 0, 0, w, h, d, face, "building")
    if rng.random() < 0.6:
        base = stuff(
            rng,
            hsv(rng, saturation=(0, 0.5), value=(0.1, 0.7)),
            "plain bricks stones noise letters tiles",
            2.0,
            gloss=0.1,
        )
        b.box(0, 0, 0, w + 0.12, rng.uniform(0.6, 3.2), d + 0.12, base, "building")
    if roof:
        a = hsv(rng, (0.0, 0.08), (0.1, 0.6), (0.1, 0.4))
        tiles = stuff(rng, a, "bricks corrugated tiles", 1.6, tone(a, 0.6))
        b.wedge(
            0,
            h,
            0,
            w + 0.5,
            rng.uniform(0.25, 0.5) * w,
            d + 0.5,
            tiles,
            "building",
            taper=(0.98, rng.choice((0.0, 0.3))),
        )
    elif rng.random() < 0.6:
        b.box(0, h - 0.3, 0, w + 0.4, 0.45, d + 0.4, stuff(rng, tone(wall, 0.8)), "building")
    door = stuff(rng, hsv(rng, value=(0.05, 0.5)), "plain wood", 1.0)
    for side in (-1, 1):
        z = rng.uniform(-0.3, 0.3) * d
        b.box(side * (w / 2 + 0.07), 0, z, 0.1, 2.2, 1.1, door, "opening")
        if rng.random() < 0.3:
            for k in range(1, int(h / storey)):
                b.box(
                    side * (w / 2 + 0.5),
                    k * storey,
                    -z,
                    1.0,
                    rng.choice((0.15, 1.0)),
                    2.6,
                    stuff(rng, tone(wall, 0.9)),
                    "building",
                )
        if rng.random() < 0.3:
            b.wedge(
                side * (w / 2 + 0.6),
                2.6,
                z * 0.5,
                1.3,
                0.25,
                d * 0.4,
                paint(rng),
                "building",
                taper=(0.5, 0),
            )


def lamp_post(b: Builder, rng: Random, h: Real = 6.0) -> None:
    b.cone(0, 0, 0, 0.16, h, 0.16, METAL, "pole", taper=(0.4, 0))
    b.box(-0.6, h - 0.1, 0, 1.3, 0.06, 0.06, METAL, "pole")
    b.box(
        -1.1,
        h - 0.18,
        0,
        0.5,
        0.1,
        0.2,
        Material((0.9, 0.85, 0.7), (1, 0.9, 0.7), PATTERNS["plain"], 1, 0, 0, 1.0),
        "pole",
        casts=False,
    )


def sign(b: Builder, rng: Random) -> None:
    h = rng.uniform(2.0, 3.0)
    b.cone(0, 0, 0, 0.07, h, 0.07, METAL, "pole")
    m = stuff(
        rng,
        hsv(rng, saturation=(0.5, 0.9), value=(0.4, 0.8)),
        "plain letters picture",
        0.6,
        (0.9, 0.9, 0.9),
    )
    if rng.random() < 0.5:
        b.box(0, h - 0.1, -0.05, 0.7, 0.5, 0.03, m, "pole")
    else:
        b.cone(0, h - 0.3, -0.05, 0.6, 0.03, 0.6, m, "pole", pitch=math.pi / 2)
    if rng.random() < 0.4:
        for k in range(3):
            b.ball(
                0,
                h + 0.05 + 0.25 * k,
                -0.1,
                0.2,
                0.2,
                0.2,
                Material(
                    *[hsv(rng, (0.33 - 0.165 * k,) * 2, (0.9, 1), (0.3, 0.9))] * 2,
                    0,
                    1,
                    0,
                    0.3,
                    0.5,
                ),
                "pole",
            )


def belt(b: Builder, rng: Random, length: Real, h: Real) -> None:
    """A dense row of foliage along z from 0 to `length`: a hedge, the edge of a wood."""
    green = leaves(rng, rng.uniform(0.5, 0.9))
    z = 0.0
    while z < length:
        s = h * rng.uniform(0.7, 1.2)
        shade = green._replace(a=tone(green.a, rng.uniform(0.7, 1.3)), size=max(1.2, 0.3 * h))
        b.ball(
            rng.uniform(-0.2, 0.2) * h,
            -0.25 * s,
            z,
            s,
            1.25 * s,
            1.3 * s,
            shade,
            "vegetation",
            yaw=rng.random(),
        )
        z += 0.75 * s


def barrier(b: Builder, rng: Random, length: Real) -> None:
    """A crash barrier, a row of blocks or a railing along z from 0 to `length`."""
    pick = rng.random()
    if pick < 0.4:
        b.box(0, 0.45, length / 2, 0.08, 0.32, length, METAL, "wall")
        step, low, high = 4.0, 0.12, 0.6
    elif pick < 0.7:
        a = hsv(rng, saturation=(0, 0.9), value=(0.3, 0.9))
        block = stuff(rng, a, "plain stripes concrete checker", 2.0, (0.9, 0.9, 0.88))
        high = rng.uniform(0.5, 1.1)
        b.wedge(0, 0, length / 2, 0.5, high, length, block, "wall", taper=(0.5, 0))
        return
    else:
        high = rng.uniform(0.8, 1.2)
        b.box(0, high - 0.05, length / 2, 0.05, 0.05, length, METAL, "pole")
        b.box(0, 0.4 * high, length / 2, 0.04, 0.04, length, METAL, "pole")
        step, low = 2.0, 0.05
    for k in range(int(min(length, 40) / step) + 1):
        b.box(0, 0, k * step, low, high, low, METAL, "pole")


def bench(b: Builder, rng: Random) -> None:
    m = stuff(rng, hsv(rng, (0.05, 0.11), (0.25, 0.7), (0.12, 0.6)), "wood planks", 0.7)
    w = rng.uniform(1.2, 2.0)
    b.box(0, 0.42, 0, w, 0.06, 0.45, m, "furniture")
    b.box(0, 0.55, 0.22, w, 0.32, 0.05, m, "furniture", pitch=0.15)
    for x in (-0.42, 0.42):
        b.box(x * w, 0, 0, 0.07, 0.43, 0.4, METAL, "furniture")


def cycle(b: Builder, rng: Random) -> None:
    """A bicycle or a motor bike, with its back to +x."""
    frame = paint(rng)
    motor = rng.random() < 0.4
    r = 0.3 if motor else 0.34
    thick = 0.14 if motor else 0.05
    for x in (-0.52, 0.52):
        b.cone(x, r - thick / 2, 0, 2 * r, thick, 2 * r, RUBBER, "vehicle", pitch=math.pi / 2)
        b.cone(x, r - thick * 0.6, 0, 1.5 * r, 1.2 * thick, 1.5 * r, METAL, "vehicle",
               pitch=math.pi / 2)  # fmt: skip
    if motor:
        b.ball(0, 0.3, 0, 1.0, 0.5, 0.35, frame, "vehicle")
        b.ball(0.25, 0.7, 0, 0.8, 0.14, 0.3, RUBBER, "vehicle")
    b.box(0, 0.58, 0, 0.75, 0.06, 0.05, frame, "vehicle")
    b.box(-0.1, 0.32, 0, 0.06, 0.5, 0.05, frame, "vehicle", roll=0.5)
    b.box(0.2, 0.35, 0, 0.05, 0.6, 0.05, frame, "vehicle", roll=-0.3)
    b.box(-0.45, 0.32, 0, 0.05, 0.7, 0.05, frame, "vehicle", roll=-0.2)
    b.box(-0.4, 0.98, 0, 0.05, 0.04, 0.6, METAL, "vehicle")
    b.box(0.28, 0.85, 0, 0.28, 0.07, 0.16, RUBBER, "vehicle")


def gantry(b: Builder, rng: Random, width: Real) -> None:
    """Signs, or a foot bridge, over the road."""
    h = rng.uniform(5.2, 6.5)
    for x in (-1, 1):
        b.box(x * width / 2, 0, 0, 0.4, h, 0.4, METAL, "pole")
    if rng.random() < 0.5:
        grey = hsv(rng, saturation=(0, 0.15), value=(0.3, 0.7))
        b.box(0, h, 0, width + 8, 1.3, 3, stuff(rng, grey, "concrete noise"), "building")
        return
    b.box(0, h - 0.2, 0, width, 0.25, 0.25, METAL, "pole")
    blue = hsv(rng, rng.choice(((0.55, 0.65), (0.35, 0.45))), (0.6, 0.9), (0.2, 0.6))
    for _ in range(rng.randint(1, 3)):
        board = stuff(rng, blue, "letters picture", 2.0, (0.95, 0.95, 0.95))
        b.box(rng.uniform(-0.4, 0.4) * width, h - 1.2, -0.2, rng.uniform(2, 4), 2.0, 0.1, board,
              "pole")  # fmt: skip
