"""Kinds of scene in the open: street, nature, furniture adrift; and the table of all kinds."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from dalib.data.scenes import figures
from dalib.data.scenes import objects as o
from dalib.data.scenes import outdoors as out
from dalib.data.scenes.halls import warehouse
from dalib.data.scenes.interiors import WIDTHS, indoors, look, room, stand, sun, tabletop
from dalib.data.scenes.objects import hsv, stuff, tone
from dalib.data.scenes.primitives import Builder, Material, Real
from dalib.data.scenes.textures import PATTERNS


def _clear(b: Builder, x: Real, z: Real, gap: Real) -> bool:
    return math.hypot(x - b.eye[0], z - b.eye[2]) > gap


def _backdrop(b: Builder, rng: Random) -> None:
    """The end of the street, then far hills, woods or towers at 100 to 400 m."""
    if rng.random() < 0.5:
        with b.at(rng.uniform(-45, -10), 0, rng.uniform(45, 130), math.pi / 2):
            if rng.random() < 0.65:
                out.belt(b, rng, rng.uniform(30, 80), rng.uniform(5, 12))
            else:
                out.house(b, rng, 12, rng.uniform(6, 20), 90, False)
    green = o.leaves(rng)._replace(size=40.0)
    for _ in range(rng.randint(2, 6)):
        a = rng.uniform(-1.0, 1.0)
        r = rng.uniform(110, 350)
        x = r * math.sin(a)
        z = r * math.cos(a)
        s = r * rng.uniform(0.05, 0.2)
        if rng.random() < 0.6:
            b.ball(x, -1.2 * s, z, 6 * s, 2 * s, 2 * s, green, "terrain", casts=False)
        else:
            with b.at(x, 0, z, rng.uniform(-0.4, 0.4)):
                out.house(b, rng, s, rng.uniform(0.5, 2) * s, s, False)


def _lanes(b: Builder, rng: Random, half: Real) -> None:
    """Marks on the road: the middle, the edges, a crossing, arrows; and patches of other asphalt."""
    paint = Material((0.75, 0.75, 0.7), (0.6, 0.6, 0.55), PATTERNS["noise"], 1.0, 0.5)
    yellow = paint._replace(a=(0.75, 0.55, 0.15), b=(0.6, 0.45, 0.15))
    mark = paint if rng.random() < 0.8 else yellow
    if rng.random() < 0.8:
        phase = rng.uniform(0, 9)
        middles = (0.0,) if half < 5.5 else (-half / 2, 0.0, half / 2)
        for x in middles:
            if rng.random() < 0.3:
                b.box(x, 0, 60, 0.14, 0.006, 200, mark, "road", casts=False)
                continue
            for k in range(8 if x == 0 else 4):
                b.box(x, 0, k * 9 + phase - 9, 0.14, 0.006, 4, mark, "road", casts=False)
    if rng.random() < 0.4:
        for x in (-1, 1):
            b.box(x * (half - 0.3), 0, 100, 0.14, 0.006, 300, mark, "road", casts=False)
    if rng.random() < 0.25:
        z = rng.uniform(4, 25)
        for k in range(int(half / 0.5)):
            b.box(-half + 0.5 + k, 0, z, 0.5, 0.006, 3, paint, "road", casts=False)
    for _ in range(rng.choice((0, 1, 2, 4))):
        dark = hsv(rng, (0.05, 0.15), (0, 0.1), rng.choice(((0.06, 0.15), (0.3, 0.5))))
        patch = stuff(rng, dark, "asphalt noise mottle", 1.5, grunge=0.4)
        x, z = rng.uniform(-0.8, 0.8) * half, rng.uniform(2, 30)
        b.box(x, 0, z, rng.uniform(0.4, 2.5), 0.004, rng.uniform(0.5, 7), patch, "road",
              casts=False)  # fmt: skip


def _on_foot(b: Builder, rng: Random, half: Real, walk: Real, near: int) -> None:
    """People, animals, bicycles and benches on the pavement, and `near` more things, plants among
    them, in front of the camera."""
    for _ in range(rng.choice((0, 1, 2, 4))):
        x = rng.choice((-1, 1)) * rng.uniform(half - 1, half + walk)
        z = rng.uniform(3.5, 35)
        with b.at(x, 0.13, z, rng.choice((0, math.pi, 1.5, -1.5)) + rng.gauss(0, 0.3)):
            pick = rng.random()
            if pick < 0.7:
                figures.person(b, rng)
            elif pick < 0.85:
                out.cycle(b, rng)
                if rng.random() < 0.4:
                    figures.person(b, rng)
            else:
                (out.bench if pick < 0.93 else figures.animal)(b, rng)
    for _ in range(near):
        a = b.angles[0] + math.radians(rng.uniform(-0.6, 0.6) * b.fov)
        r = 1.8 + 14 * rng.random() ** 1.5
        x, z = b.eye[0] + r * math.sin(a), b.eye[2] + r * math.cos(a)
        with b.at(x, 0.1, z, rng.uniform(0, math.tau)):
            figure = rng.choice((figures.person, figures.person, figures.animal, out.cycle,
                                 out.bench, out.bush, out.bush, out.rock, out.tree))  # fmt: skip
            figure(b, rng)


def street(b: Builder, rng: Random) -> None:
    """A road through a town, a suburb or the country from a car, or what is seen on foot beside
    it."""
    sun(b, rng)
    place = rng.random()
    country, suburb = place < 0.15, 0.15 <= place < 0.35
    half = rng.uniform(3.0, 7.5) if rng.random() < 0.85 else rng.uniform(7, 12)
    walk = rng.uniform(1.5, 4.5)
    driving = rng.random() < 0.65
    b.eye = (
        rng.uniform(-0.6, 0.6) * half if driving else rng.choice((-1, 1)) * (half + walk / 2),
        rng.uniform(1.2, 1.9) + rng.choice((0.0, 0.0, 0.6)) if driving else rng.uniform(0.9, 1.9),
        0.0,
    )
    wide = driving and rng.random() < 0.55
    aside = 0.15 if driving else 0.55
    look(
        b,
        rng,
        rng.gauss(0, 9) if rng.random() > aside else rng.uniform(-110, 110),
        (-2.0, 3) if driving else (-2, 8),
        (24, 40) if wide else (34, 66),
        1.0 if driving else 2.5,
    )
    grey = hsv(rng, (0.05, 0.15), (0, 0.12), (0.12, 0.5))
    asphalt = stuff(
        rng, grey, "asphalt fine noise gravel mottle", 2.0, tone(grey, 1.35), grunge=0.4
    )
    plates = stuff(
        rng,
        hsv(rng, (0.05, 0.12), (0, 0.25), (0.3, 0.7)),
        "tiles stones bricks noise concrete",
        2.0,
    )
    lawn = hsv(rng, (0.16, 0.32), (0.3, 0.6), (0.12, 0.4))
    verge = stuff(rng, lawn, "grass grass mottle", 3.0, tone(lawn, 1.7), grunge=0.5)
    b.box(0, -1, 0, 4000, 0.98, 4000, verge, "terrain", casts=False)
    b.box(0, -0.5, 150, 2 * half, 0.5, 400, asphalt, "road", casts=False)
    _lanes(b, rng, half)
    cross = rng.uniform(14, 60) if rng.random() < 0.5 and not country else 1e3
    if cross < 1e3:
        b.box(0, -0.5, cross, 160, 0.504, 2 * half, asphalt, "road", casts=False)
    for side in (-1, 1):
        for z0, z1 in ((-15, cross - half), (cross + half, 200)):
            if z1 > z0 and not country:
                b.box(
                    side * (half + walk / 2),
                    0,
                    (z0 + min(z1, 200)) / 2,
                    walk,
                    0.13,
                    min(z1, 200) - z0,
                    plates,
                    "pavement",
                    casts=False,
                )
        built = 0.0 if country else 0.6 if suburb else 0.8
        _roadside(b, rng, side, half, walk, cross, built=built, apart=suburb)
        if rng.random() < (0.6 if country else 0.15):
            with b.at(side * (half + 0.3), 0, rng.uniform(-2, 8)):
                out.barrier(b, rng, min(rng.uniform(15, 80), max(cross - half - 10, 3)))
    _traffic(b, rng, half)
    near = rng.choice((0, 1, 2, 3)) if abs(b.angles[0]) < 0.6 else rng.randint(2, 7)
    _on_foot(b, rng, half, walk, near=0 if driving and rng.random() < 0.9 else near)
    if driving and half > 5 and rng.random() < 0.15:
        with b.at(0, 0, rng.uniform(14, 50)):
            out.gantry(b, rng, 2 * half + 1)
    if rng.random() < 0.6:
        _backdrop(b, rng)


def _roadside(
    b: Builder,
    rng: Random,
    side: int,
    half: Real,
    walk: Real,
    cross: Real,
    *,
    built: Real,
    apart: bool,
) -> None:
    """Houses with the chance `built`, in a row or `apart` in gardens, garden walls or woods, then
    trees, poles and bushes nearer to the road."""
    built = rng.random() < built
    line = half + walk
    z = -rng.uniform(2, 12)
    roof = apart or rng.random() < 0.35
    alley = rng.uniform(6, 14) if apart else rng.choice((0.0, rng.uniform(1, 9)))
    back = rng.uniform(3, 10) if apart else rng.choice((0.2, rng.uniform(1, 8)))
    while z < 110:
        d = rng.uniform(7, 18)
        if z + d > cross - half - walk and z < cross + half + walk:
            z = cross + half + walk
            continue
        w = rng.uniform(7, 12)
        x = line + back + rng.choice((0, rng.uniform(0, 1.5)))
        if built and rng.random() < 0.93:
            with b.at(side * (x + w / 2), 0.05, z + d / 2):
                out.house(b, rng, w, rng.uniform(3, 6) if roof else rng.uniform(6, 20), d, roof)
            if apart and rng.random() < 0.6:
                with b.at(side * (line + rng.uniform(1, back)), 0, z + rng.uniform(0, d)):
                    (out.bush if rng.random() < 0.6 else out.tree)(b, rng)
        elif rng.random() < 0.8 and z > 2:
            with b.at(side * (line + rng.uniform(2, 7)), 0, z + d / 2):
                (out.tree if rng.random() < 0.6 else out.bush)(b, rng)
        z += d + alley * rng.uniform(0.3, 1.5)
    if rng.random() < 0.3:
        fence = stuff(
            rng,
            hsv(rng, (0, 0.15), (0, 0.5), (0.2, 0.7)),
            "bricks stones planks leaves corrugated",
            1.5,
        )
        end = min(cross - half - walk, 70)
        if end > 5:
            b.box(side * (line + 0.15), 0, end / 2, 0.3, rng.uniform(0.5, 2.0), end, fence, "wall")
    if not built or rng.random() < 0.15:
        near = rng.uniform(2, 14)
        tall = rng.uniform(1.5, 8)
        with b.at(side * (line + rng.uniform(0.5, 4) + tall / 2), 0, near):
            out.belt(b, rng, max(min(cross - half - walk - near - tall, 90), 0), tall)
    planted = rng.random() < 0.5
    gap = rng.uniform(6, 14)
    x = half + rng.uniform(0.4, 0.9)
    for k in range(7):
        z = 4 + k * gap + rng.uniform(-1, 1)
        if abs(z - cross) < half + 1 or not _clear(b, side * x, z, 2.5):
            continue
        with b.at(side * x, 0.1, z, math.pi * (side < 0)):
            pick = rng.random()
            if planted and pick < 0.7:
                out.tree(b, rng, rng.uniform(4, 9), z < 22)
            elif pick < 0.3:
                out.lamp_post(b, rng, rng.uniform(4, 8))
            elif pick < 0.45:
                out.sign(b, rng)


def _traffic(b: Builder, rng: Random, half: Real) -> None:
    for side in (-1, 1):
        if rng.random() < 0.7:  # parked in a row
            z = rng.uniform(-3, 6)
            full = rng.uniform(0.2, 0.95)
            while z < 55:
                if rng.random() < full and _clear(b, side * (half - 1.1), z, 4.6):
                    with b.at(
                        side * (half - 1.1),
                        0,
                        z,
                        math.pi * (rng.random() < 0.5) + rng.gauss(0, 0.03),
                    ):
                        out.car(b, rng, z < 22)
                z += rng.uniform(5.2, 7.5)
        for _ in range(rng.choice((0, 1, 1, 2))):
            z = rng.uniform(8.5, 60)
            if half > 3.6:
                with b.at(side * half * 0.32, 0, z, math.pi * (side > 0) + rng.gauss(0, 0.03)):
                    out.car(b, rng, z < 22)


def nature(b: Builder, rng: Random) -> None:
    sun(b, rng)
    b.eye = (0.0, rng.uniform(1.2, 2.2), 0.0)
    look(b, rng, rng.uniform(-180, 180), (-3, 6), (32, 60), 2.5)
    yaw = b.angles[0]
    base = hsv(
        rng,
        *rng.choice(
            (
                ((0.16, 0.3), (0.3, 0.65), (0.15, 0.45)),
                ((0.07, 0.13), (0.15, 0.5), (0.25, 0.6)),
                ((0.5, 0.6), (0, 0.06), (0.7, 0.9)),
            )
        ),
    )
    ground = stuff(rng, base, "grass grass gravel leaves noise", 2.5, tone(base, 1.6), grunge=0.5)
    b.box(
        0,
        -1,
        0,
        6000,
        1,
        6000,
        ground,
        "terrain",
        casts=False,
        pitch=rng.gauss(0, 0.03),
        roll=rng.gauss(0, 0.03),
    )
    for _ in range(rng.randint(3, 9)):
        a = yaw + rng.uniform(-0.8, 0.8)
        r = rng.uniform(6, 60)
        s = rng.uniform(0.4, 0.9) * r
        rise = rng.uniform(0.02, 0.1) * r
        b.ball(
            r * math.sin(a),
            -3 * rise,
            r * math.cos(a),
            2 * s,
            4 * rise,
            2 * s,
            ground._replace(grunge=rng.uniform(0.3, 0.6)),
            "terrain",
            yaw=rng.uniform(0, 3),
        )
    if rng.random() < 0.3:
        a = rng.choice((0.0, rng.uniform(-0.5, 0.5))) + yaw
        path = stuff(rng, hsv(rng, (0.06, 0.12), (0.1, 0.4), (0.3, 0.65)), "gravel noise", 2.0)
        b.box(
            60 * math.sin(a),
            -0.3,
            60 * math.cos(a),
            rng.uniform(1.2, 3),
            0.34,
            160,
            path,
            "road",
            casts=False,
            yaw=a,
        )
    _backdrop_wild(b, rng, yaw)
    forest = rng.random() < 0.5
    for _ in range(rng.randint(8, 22) if forest else rng.randint(1, 8)):
        a = yaw + rng.uniform(-0.75, 0.75)
        r = 4.0 + 55 * rng.random() ** 1.6
        with b.at(r * math.sin(a), -0.1, r * math.cos(a), rng.uniform(0, 6)):
            out.tree(b, rng, min(rng.uniform(4, 12), 1.2 * r), r < 16)
    for _ in range(rng.randint(2, 14)):
        a = yaw + rng.uniform(-0.7, 0.7)
        r = 2.6 + 25 * rng.random() ** 2
        with b.at(r * math.sin(a), 0, r * math.cos(a), rng.uniform(0, 6)):
            (out.rock if rng.random() < 0.5 else out.bush)(
                b, rng, rng.uniform(0.3, 1.6) * (0.4 + r / 20)
            )
    if rng.random() < 0.2:
        a = yaw + rng.uniform(-0.4, 0.4)
        with b.at(rng.uniform(4, 9) * math.sin(a), 0, 6 * math.cos(a), rng.uniform(0, 6)):
            figures.person(b, rng)


def _backdrop_wild(b: Builder, rng: Random, yaw: Real) -> None:
    stone = hsv(rng, (0.5, 0.65), (0.05, 0.25), (0.3, 0.55))
    for _ in range(rng.randint(0, 5)):
        a = yaw + rng.uniform(-0.8, 0.8)
        r = rng.uniform(150, 900)
        s = r * rng.uniform(0.2, 0.5)
        far = stuff(rng, stone, "noise smooth", s, tone(stone, 0.7), grunge=0.5)
        b.ball(
            r * math.sin(a),
            -0.5 * s,
            r * math.cos(a),
            3 * s,
            s * rng.uniform(0.8, 1.3),
            3 * s,
            far,
            "terrain",
            casts=False,
        )


FURNITURE = ("chair", "chair", "table", "sofa", "bed", "low", "shelf", "tall")


def _adrift(b: Builder, rng: Random, s: Real) -> None:
    """A piece of furniture, a crate, a ball or a stone of some `s` metres, about the origin."""
    pick = rng.random()
    if pick < 0.55:
        name = rng.choice(FURNITURE)
        with b.at(0, -0.45, 0):
            stand(b, rng, name, rng.uniform(*WIDTHS.get(name, (0.8, 1.5))), 2.2)
        return
    size = (s * rng.uniform(0.6, 1.4), s * rng.uniform(0.6, 1.4), s * rng.uniform(0.6, 1.4))
    m = o.paint(rng)._replace(size=s)
    if pick < 0.75:
        b.box(0, -size[1] / 2, 0, *size, m, "object")
        band = stuff(rng, hsv(rng), "plain wood", s)
        for y in (-0.5, 0.38):
            b.box(0, y * size[1], 0, size[0] + 0.06, 0.12 * size[1], size[2] + 0.06, band, "object")
    elif pick < 0.88:
        b.ball(0, -s / 2, 0, s, s, s, m, "object")
    else:
        b.cone(0, -s / 2, 0, 0.7 * s, s, 0.7 * s, m, "object", taper=(rng.uniform(-0.3, 0.6), 0))


def floating(b: Builder, rng: Random) -> None:
    """Furniture, crates and balls adrift in a hall: nothing stands on anything, so that low in the
    image is not near. What tells depth is the hall's perspective, the known sizes of the things,
    what hides what, and their shadows.

    Nothing is much nearer than the hall is deep: the scale of a fit over an image with one thing
    under the camera's nose is ruled by that thing, whatever a network sees elsewhere.
    """
    side = rng.uniform(2.8, 5.0)
    deep = rng.uniform(8, 15)
    low = -rng.uniform(1.5, 3.2)
    high = rng.uniform(1.5, 3.5)
    indoors(b, rng, 2 * side, high, deep)
    b.light.reach = rng.uniform(4, 8)
    b.light.main = (*b.light.main[:2], rng.uniform(0.3, 0.6) * deep, 1.0)
    b.eye = (rng.uniform(-0.4, 0.4) * side, 0.0, 0.0)
    look(b, rng, rng.gauss(0, 8), (0, 6), (42, 62), 10.0)
    squares = "checker tiles bricks planks parquet"
    floor, lining, above, end = (
        stuff(rng, hsv(rng, value=(0.3, 0.9)), squares, size, gloss=0.1)
        for size in (2.5, 3.0, 3.0, 3.0)
    )
    b.box(0, low - 1, deep / 2 - 3, 2 * side + 2, 1, deep + 8, floor, "floor", casts=False)
    b.box(0, low, deep + 0.5, 2 * side + 2, high - low, 1, end, "wall", casts=False)
    b.box(0, high, deep / 2 - 3, 2 * side + 2, 1, deep + 8, above, "ceiling", casts=False)
    for x in (-1, 1):
        b.box(x * (side + 0.5), low, deep / 2 - 3, 1, high - low, deep + 8, lining, "wall",
              casts=False)  # fmt: skip
    slots = rng.randint(9, 20)
    for k in range(slots):
        z = 3.0 + (deep - 4.2) * (k + rng.random()) / slots
        x = rng.uniform(max(0.8 - side, b.eye[0] - 0.6 * z), min(side - 0.8, b.eye[0] + 0.6 * z))
        y = rng.uniform(max(low + 0.6, -0.4 * z), min(high - 0.6, 0.4 * z))
        turn = {"yaw": rng.uniform(0, 6), "pitch": rng.gauss(0, 0.9), "roll": rng.gauss(0, 0.9)}
        with b.tumbled(x, y, z, **turn):
            _adrift(b, rng, rng.uniform(0.7, 1.5))


KINDS: dict[str, Callable[[Builder, Random], None]] = {
    "room": room,
    "street": street,
    "nature": nature,
    "tabletop": tabletop,
    "warehouse": warehouse,
    "floating": floating,
}
