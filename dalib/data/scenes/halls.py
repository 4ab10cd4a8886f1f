"""Halls and corridors: racks, pallets, boxes under tube lights."""

from __future__ import annotations

from random import Random

from dalib.data.scenes import figures
from dalib.data.scenes import objects as o
from dalib.data.scenes.interiors import indoors, look
from dalib.data.scenes.objects import hsv, stuff, tone
from dalib.data.scenes.primitives import Builder, Material, Real
from dalib.data.scenes.textures import PATTERNS


def warehouse(b: Builder, rng: Random) -> None:
    """A hall or corridor with racks, pallets and pillars."""
    w = rng.uniform(5, 14)
    d = rng.uniform(14, 45)
    h = rng.uniform(3.2, 7)
    indoors(b, rng, w, h, 6.0)
    b.light.reach = rng.uniform(4, 9)
    b.eye = (rng.uniform(-0.15, 0.15) * w, rng.uniform(1.2, 1.9), 0.0)
    look(b, rng, rng.gauss(0, 14), (-4, 4), (36, 62), 2.0)
    grey = hsv(rng, (0.05, 0.6), (0, 0.12), (0.3, 0.65))
    b.box(
        0,
        -0.5,
        d / 2 - 3,
        w,
        0.5,
        d,
        stuff(rng, grey, "noise fine tiles", 3.0, gloss=0.3),
        "floor",
        casts=False,
    )
    b.box(
        0,
        h,
        d / 2 - 3,
        w,
        0.3,
        d,
        stuff(rng, tone(grey, 0.9), "corrugated planks plain"),
        "ceiling",
        casts=False,
    )
    wall = stuff(
        rng, hsv(rng, saturation=(0, 0.3), value=(0.35, 0.8)), "bricks corrugated tiles noise", 2.0
    )
    for side in (-1, 1):
        b.box(side * (w / 2 + 0.1), 0, d / 2 - 3, 0.2, h, d, wall, "wall", casts=False)
    b.box(0, 0, d - 3, w, h, 0.2, wall, "wall", casts=False)
    b.box(
        rng.uniform(-0.3, 0.3) * w,
        0,
        d - 3.02,
        2.5,
        2.8,
        0.2,
        stuff(rng, hsv(rng), "corrugated plain"),
        "opening",
        casts=False,
    )
    b.box(0, 0, -3, w, h, 0.2, wall, "wall", casts=False)
    tube = Material((1, 1, 0.95), (1, 1, 0.95), PATTERNS["plain"], 1, 0, 0, 1.5)
    for k in range(6):
        b.box(0, h - 0.15, 1 + k * 5, 0.25, 0.08, 1.6, tube, "object", casts=False)
        b.light.lamps.append((0.0, h - 0.2, 1 + k * 5.0, 2.0, (0.25, 0.25, 0.23))) if k in (
            1,
            3,
        ) else None
    steel = stuff(
        rng, hsv(rng, rng.choice(((0.05, 0.1), (0.55, 0.65))), (0.5, 0.9), (0.3, 0.7)), "plain"
    )
    for side in (-1, 1):
        if rng.random() < 0.75:
            z = rng.uniform(0.5, 3)
            while z < min(d - 5, 26):
                with b.at(side * (w / 2 - 0.55), 0, z + 1.3):
                    _rack(b, rng, steel, min(h - 0.6, rng.choice((1.8, 3.0, 4.2))))
                z += rng.choice((2.65, 2.65, 5.0))
    for _ in range(rng.randint(1, 6)):
        x = rng.uniform(-0.4, 0.4) * w
        z = rng.uniform(2.5, 18)
        if abs(x - b.eye[0]) > 0.9 or z > 5:
            with b.at(x, 0, z, rng.gauss(0, 0.4)):
                if rng.random() < 0.2:
                    figures.person(b, rng)
                else:
                    _pallet(b, rng)


def _pallet(b: Builder, rng: Random) -> None:
    b.box(0, 0, 0, 1.1, 0.14, 0.9, o.wood(rng), "object")
    for k in range(rng.randint(1, 3)):
        for x in (-0.27, 0.27):
            if rng.random() < 0.8:
                kraft = stuff(
                    rng, hsv(rng, (0.06, 0.1), (0.2, 0.6), (0.35, 0.7)), "plain letters noise", 0.6
                )
                b.box(
                    x,
                    0.14 + 0.42 * k,
                    rng.gauss(0, 0.02),
                    0.5,
                    0.4,
                    0.8,
                    kraft if rng.random() < 0.8 else o.paint(rng),
                    "object",
                    yaw=rng.gauss(0, 0.05),
                )


def _rack(b: Builder, rng: Random, steel: Material, h: Real) -> None:
    for x in (-0.42, 0.42):
        for z in (-1.3, 1.3):
            b.box(x, 0, z, 0.08, h, 0.08, steel, "furniture")
    levels = max(2, round(h / 1.2))
    for k in range(levels):
        y = k * h / levels + 0.1
        b.box(0, y, 0, 0.95, 0.08, 2.6, steel, "furniture")
        for z in (-0.85, 0.0, 0.85):
            if rng.random() < 0.75:
                kraft = stuff(
                    rng, hsv(rng, (0.06, 0.1), (0.2, 0.6), (0.3, 0.7)), "plain letters noise", 0.6
                )
                size = (
                    rng.uniform(0.5, 0.8),
                    rng.uniform(0.35, 0.85) * h / levels,
                    rng.uniform(0.5, 0.8),
                )
                b.box(
                    0,
                    y + 0.08,
                    z,
                    *size,
                    kraft if rng.random() < 0.65 else o.paint(rng),
                    "object",
                    yaw=rng.gauss(0, 0.05),
                )
