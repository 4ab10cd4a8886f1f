"""Rooms and tabletops: where things stand, where the camera is and how it looks; and the light and
the camera of the other kinds. Each function fills a `Builder` from one random stream."""

from __future__ import annotations

import math
from random import Random

from dalib.data.scenes import figures
from dalib.data.scenes import fittings as fit
from dalib.data.scenes import objects as o
from dalib.data.scenes.objects import hsv, stuff, tone
from dalib.data.scenes.primitives import Builder, Material, Real
from dalib.data.scenes.textures import PATTERNS


def sun(b: Builder, rng: Random) -> None:
    """Daylight: a sun at 15 to 65 degrees, the weaker, the more light comes from the sky; clouds, and
    half of the time a trace of fog."""
    azimuth = rng.uniform(0, math.tau)
    height = math.radians(rng.uniform(15, 65))
    light = b.light
    power = rng.uniform(0.35, 1.1)
    light.main = (
        math.sin(azimuth) * math.cos(height),
        math.sin(height),
        math.cos(azimuth) * math.cos(height),
        0.0,
    )
    light.colour = (power, power * rng.uniform(0.86, 0.97), power * rng.uniform(0.7, 0.92))
    level = rng.uniform(0.4, 0.75) + 0.3 * (1.1 - power)
    light.above = (level * 0.88, level * 0.96, level * rng.uniform(1.0, 1.2))
    light.below = (level * 0.5, level * 0.47, level * 0.42)
    pale = rng.random() ** 1.5
    light.horizon = (1.3 + 0.3 * pale, 1.45 + 0.2 * pale, 1.65)
    light.zenith = (0.3 + 1.1 * pale, 0.6 + 0.9 * pale, 1.4)
    light.clouds = rng.uniform(0, 1.0)
    light.cloud_shift = rng.uniform(0, 10)
    light.fog = rng.choice((0.0, rng.uniform(0.0, 0.003)))


def indoors(b: Builder, rng: Random, w: Real, h: Real, d: Real) -> None:
    """A lamp just below the ceiling, not too near the walls, and plenty of light from all sides; or
    light from a side, as of a window, and little else."""
    light = b.light
    power = rng.uniform(0.5, 1.3)
    warm = rng.uniform(0.65, 1.0)
    light.main = (rng.uniform(-0.35, 0.35) * w, h - 0.12, rng.uniform(-0.35, 0.35) * d, 1.0)
    if rng.random() < 0.35:
        side = rng.choice((-0.46, 0.46))
        across = rng.uniform(-0.46, 0.46)
        x, z = (side * w, across * d) if rng.random() < 0.6 else (across * w, side * d)
        light.main = (x, h * rng.uniform(0.6, 0.85), z, 1.0)
        power *= 1.6
    light.colour = (power, power * (0.7 + 0.3 * warm), power * warm)
    light.reach = rng.uniform(1.5, 4.0)
    level = rng.uniform(0.12, 0.6)
    light.above, light.below = (
        (level, level * (0.88 + 0.1 * warm), level * (0.75 + 0.22 * warm)),
        (level * 0.8, level * 0.72, level * 0.62),
    )
    light.shadow = rng.uniform(0.4, 0.9)


def look(
    b: Builder,
    rng: Random,
    yaw: Real,
    pitch: tuple[Real, Real],
    fov: tuple[Real, Real],
    roll: Real = 1.5,
) -> None:
    """Point the camera. Angles in degrees; `pitch` is mean and spread and `roll` the spread, about
    level, of normal laws, `fov` the range of the field of view."""
    b.angles = (
        math.radians(yaw),
        math.radians(rng.gauss(*pitch)),
        math.radians(rng.gauss(0, roll)),
    )
    b.fov = rng.uniform(*fov)


def _wall_frames(w: Real, d: Real) -> list[tuple[Real, Real, Real, Real]]:
    """(x, z, yaw, length) of the four walls, seen so that -z points into the room."""
    return [
        (0, d / 2, 0.0, w),
        (w / 2, 0, math.pi / 2, d),
        (0, -d / 2, math.pi, w),
        (-w / 2, 0, -math.pi / 2, d),
    ]


def _hang(b: Builder, rng: Random, length: Real, h: Real) -> None:
    """On a wall: perhaps a window, with or without curtains, perhaps a door, up to five pictures,
    perhaps a board with things on it and a skirting board."""
    trim = stuff(rng, hsv(rng, saturation=(0, 0.15), value=(0.5, 0.9)), "plain wood")
    if rng.random() < 0.45:
        x = rng.uniform(-0.3, 0.3) * length
        pane = rng.uniform(0.8, min(2.4, 0.7 * length))
        tall = rng.uniform(0.9, 1.4)
        day = hsv(rng, (0.5, 0.62), (0.0, 0.25), (0.75, 1.0))
        view = Material(
            tone(day, 0.6),
            day,
            PATTERNS[rng.choice(("plain", "smooth", "picture", "clouds"))],
            3.0,
            0.1,
            0.3,
            1.2,
        )
        y = rng.uniform(0.7, 1.0)
        b.box(
            x,
            y,
            -0.01,
            pane,
            tall,
            0.03,
            view._replace(a=day if rng.random() < 0.5 else view.a),
            "opening",
        )
        for side in (-1, 0, 1):
            b.box(
                x + side * pane / 2, y, -0.02, 0.06, tall + 0.1, 0.06, trim, "opening", casts=False
            )
        for k in (0, 1):
            b.box(
                x,
                y + k * tall - 0.05 * (1 - k),
                -0.03,
                pane + 0.1,
                0.06,
                0.08,
                trim,
                "opening",
                casts=False,
            )
        if rng.random() < 0.4:
            cloth = stuff(
                rng, hsv(rng, saturation=(0, 0.5), value=(0.3, 0.9)), "corrugated stripes", 1.6
            )
            for side in (-1, 1):
                b.box(
                    x + side * (pane / 2 + 0.12),
                    0.15,
                    -0.1,
                    0.4,
                    min(y + tall + 0.05, h - 0.2),
                    0.08,
                    cloth,
                    "opening",
                )
    if rng.random() < 0.3:
        x = rng.uniform(-0.35, 0.35) * length
        leaf = o.furniture_surface(rng)
        b.box(x, 0, -0.02, 0.95, 2.08, 0.06, trim, "opening", casts=False)
        b.box(x, 0, -0.04, 0.82, 2.0, 0.06, leaf, "opening", casts=False)
        b.ball(x + 0.33, 0.98, -0.1, 0.06, 0.06, 0.06, o.METAL, "opening")
    for _ in range(rng.choice((0, 1, 2, 3, 5))):
        size = rng.uniform(0.25, 0.9)
        x = rng.uniform(-0.42, 0.42) * length
        y = rng.uniform(1.2, 1.8) - size / 4
        ratio = rng.uniform(0.6, 1.5)
        b.box(
            x,
            y,
            -0.015,
            size + 0.05,
            size / ratio + 0.05,
            0.03,
            o.furniture_surface(rng),
            "opening",
            casts=False,
        )
        art = stuff(
            rng,
            hsv(rng, value=(0.1, 0.6)),
            "poster picture poster letters smooth",
            size,
            hsv(rng, value=(0.4, 0.95)),
            gloss=0.3,
        )
        b.box(x, y + 0.025, -0.02, size, size / ratio, 0.03, art, "opening", casts=False)
    if rng.random() < 0.2:  # a board with things on it
        wide = rng.uniform(0.6, 1.4)
        with b.at(rng.uniform(-0.35, 0.35) * length, rng.uniform(1.2, 1.8), -0.12):
            b.box(0, 0, 0, wide, 0.03, 0.24, o.furniture_surface(rng), "furniture")
            o.scatter(b, rng, 0.9 * wide, 0.1, 0.03, rng.randint(1, 6), 0.2)
    if rng.random() < 0.5:
        b.box(0, 0, -0.01, length, rng.uniform(0.06, 0.12), 0.02, trim, "wall", casts=False)


PLACES = {
    "living": "sofa sofa tall shelf shelf low plant lamp chair screen radiator heap gap gap",
    "bedroom": "bed bed tall tall low low lamp shelf desk heap radiator gap gap",
    "office": "desk desk desk shelf shelf tall table low plant heap gap",
    "kitchen": "kitchen kitchen kitchen table low tall shelf radiator chair gap gap",
    "bath": "bath bath bath low radiator gap",
    "mixed": "low tall shelf table bed sofa chair plant desk kitchen screen lamp heap gap gap",
}
"""What stands along the walls, by the use of the room; what is named twice is so as likely."""
WIDTHS = {
    "tall": (0.7, 2.0),
    "bed": (0.95, 1.9),
    "sofa": (1.0, 2.4),
    "chair": (0.6, 0.7),
    "plant": (0.5, 0.7),
    "kitchen": (1.2, 3.2),
    "bath": (0.75, 1.9),
    "desk": (1.1, 1.8),
    "lamp": (0.45, 0.5),
    "screen": (1.0, 1.8),
    "radiator": (1.0, 1.4),
    "heap": (0.6, 1.0),
}
DEPTHS = {
    "bed": 2.1,
    "sofa": 0.95,
    "table": 0.75,
    "desk": 0.9,
    "kitchen": 0.64,
    "tall": 0.6,
    "bath": 0.75,
    "radiator": 0.15,
    "heap": 0.7,
}


def stand(b: Builder, rng: Random, name: str, w: Real, h: Real) -> None:
    """One piece of furniture of width `w` in a room of height `h`."""
    depth = DEPTHS.get(name, 0.45)
    if name == "bed":
        o.bed(b, rng, w)
    elif name == "sofa":
        o.sofa(b, rng, w)
    elif name == "shelf":
        o.shelf(b, rng, w, rng.uniform(0.9, min(2.2, h)), 0.32)
    elif name == "table":
        o.table(b, rng, w, 0.7, rng.uniform(0.68, 0.78), rng.randint(1, 9))
    elif name == "desk":
        fit.desk(b, rng, w)
    elif name == "kitchen":
        fit.kitchen(b, rng, w, h)
    elif name == "bath":
        fit.bath(b, rng, w)
    elif name == "chair":
        o.chair(b, rng)
    elif name == "plant":
        o.plant(b, rng, rng.uniform(0.5, 1.3))
    elif name == "lamp":
        fit.standing_lamp(b, rng)
    elif name == "radiator":
        fit.radiator(b, rng)
    elif name == "heap":
        fit.heap(b, rng, 0.5 * w)
    elif name == "screen":
        o.cabinet(b, rng, w, rng.uniform(0.4, 0.6), depth)
        with b.at(0, 0.5, 0):
            fit.screen(b, rng, 0.8 * w)
    elif name == "tall":
        o.cabinet(b, rng, w, rng.uniform(1.5, min(2.3, h)), depth)
    else:
        o.cabinet(b, rng, w, rng.uniform(0.4, 1.2), depth)


def _along(
    b: Builder, rng: Random, length: Real, h: Real, eye: tuple[Real, Real], use: str = "mixed"
) -> None:
    """Furniture with its back to the wall, from left to right, with gaps; none where the camera
    stands."""
    x = -length / 2 + rng.uniform(0.0, 0.5)
    fx, _, fz, turn = b.frame
    while x < length / 2 - 0.5:
        room = length / 2 - x
        name = rng.choice(PLACES[use].split())
        w = rng.uniform(*WIDTHS.get(name, (0.6, 1.5)))
        depth = DEPTHS.get(name, 0.45)
        middle = x + w / 2
        ex = fx + math.cos(turn) * middle - math.sin(turn) * depth / 2
        ez = fz - math.sin(turn) * middle - math.cos(turn) * depth / 2
        clear = math.hypot(ex - eye[0], ez - eye[1]) > max(w, depth) / 2 + 0.55
        if name != "gap" and w < room and clear:
            with b.at(middle, 0, -depth / 2 - 0.02 - 0.05 * rng.random()):
                stand(b, rng, name, w, h)
        x += w + rng.choice((0.02, 0.1, rng.uniform(0.1, 0.8)))


def _overhead(b: Builder, rng: Random, w: Real, h: Real, d: Real, white: Material) -> None:
    """The ceiling lamp, hanging lamps, and now and then the slopes and rafters of an attic."""
    bright = Material((1, 0.97, 0.9), (1, 0.97, 0.9), PATTERNS["fine"], 1.0, 0.0, 0.0, 1.5)
    b.cone(
        b.light.main[0], h - 0.1, b.light.main[2], 0.45, 0.1, 0.45, bright, "object", casts=False
    )
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        x = rng.uniform(-0.4, 0.4) * w
        z = rng.uniform(-0.3, 0.4) * d
        drop = rng.uniform(0.25, 1.0)
        s = rng.uniform(0.15, 0.5)
        if math.hypot(x - b.eye[0], z - b.eye[2]) > 0.7:
            b.cone(x, h - drop, z, 0.02, drop, 0.02, o.RUBBER, "object", casts=False)
            shade = o.paint(rng)._replace(glow=0.5) if rng.random() < 0.5 else bright
            rng.choice((b.ball, b.cone))(
                x,
                h - drop - 0.6 * s,
                z,
                s,
                0.7 * s,
                s,
                shade,
                "object",
                taper=(0.5, 0),
                casts=False,
            )
    if rng.random() < 0.1:
        boards = white if rng.random() < 0.4 else o.wood(rng)
        for side in (-1, 1):
            b.box(
                side * 0.36 * w,
                0.78 * h,
                0,
                0.6 * w,
                0.1,
                d,
                boards,
                "ceiling",
                roll=-side * rng.uniform(0.5, 0.8),
                casts=False,
            )
            for k in range(4):
                b.box(
                    side * 0.33 * w,
                    0.74 * h,
                    (k - 1.5) * d / 4,
                    0.6 * w,
                    0.14,
                    0.1,
                    boards,
                    "ceiling",
                    roll=-side * 0.65,
                    casts=False,
                )


def _wall(
    b: Builder, rng: Random, length: Real, h: Real, paper: Material, eye: tuple[Real, Real]
) -> bool:
    """A wall; if long, it may have a passage into another room. Whether it has one."""
    if length < 2.6 or rng.random() > 0.22:
        b.box(0, 0, 0.1, length + 0.4, h, 0.2, paper, "wall", casts=False)
        return False
    gap = rng.choice((0.9, 0.9, rng.uniform(1.2, 0.6 * length)))
    tall = 2.05 if gap < 1 else min(rng.uniform(2.05, 2.6), h)
    x = rng.uniform(-0.5, 0.5) * (length - gap - 0.4)
    left, right = x - gap / 2 + length / 2 + 0.2, length / 2 + 0.2 - x - gap / 2
    b.box(-length / 2 - 0.2 + left / 2, 0, 0.1, left, h, 0.2, paper, "wall", casts=False)
    b.box(length / 2 + 0.2 - right / 2, 0, 0.1, right, h, 0.2, paper, "wall", casts=False)
    if tall < h:
        b.box(x, tall, 0.1, gap, h - tall, 0.2, paper, "wall", casts=False)
    # the room behind: three walls and what stands there
    deep = rng.uniform(1.5, 5.5)
    wide = rng.uniform(1.6, 4.0) + gap
    other = stuff(rng, hsv(rng, saturation=(0, 0.4), value=(0.3, 0.9)), "plain plain noise tiles")
    b.box(x, 0, deep + 0.3, wide, h, 0.2, other, "wall", casts=False)
    for side in (-1, 1):
        b.box(x + side * wide / 2, 0, deep / 2 + 0.2, 0.2, h, deep, other, "wall", casts=False)
    with b.at(x, 0, deep + 0.2):
        _hang(b, rng, 0.8 * wide, h)
        _along(b, rng, 0.8 * wide, h, eye)
    if gap < 1 and rng.random() < 0.5:
        with b.at(x - gap / 2, 0, -0.02):
            fit.open_door(b, rng)
    return True


def _camera(b: Builder, rng: Random, w: Real, d: Real, h: Real, narrow: bool) -> None:
    """Where the camera is and where it looks: across the room, at something from close by (a desk,
    a bed, the floor, from above), from low down, or up."""
    x, z = rng.uniform(-0.5, 0.5) * (w - 1.0), rng.uniform(-0.5, 0.1 - 0.45 * narrow) * (d - 1.0)
    target = (rng.uniform(-0.4, 0.4) * w, rng.uniform(0.5 if narrow else 0.1, 0.5) * d)
    yaw = math.degrees(math.atan2(target[0] - x, target[1] - z))
    yaw += rng.gauss(0, 6 if narrow else 15)
    tall = rng.uniform(1.0, 1.75)
    pitch = (-9, 8)
    mode = rng.random()
    if mode < 0.25:  # down at what is near
        tall = rng.uniform(1.1, min(2.2, h - 0.2))
        pitch = (-28, 9)
    elif mode < 0.35:
        tall = rng.uniform(0.3, 0.9)
        pitch = (0, 7)
    elif mode < 0.45:
        pitch = (10, 9)
    b.eye = (x, tall, z)
    fov = rng.choice(((36, 60), (36, 60), (45, 60), (56, 82)))
    look(b, rng, yaw, pitch, fov, rng.choice((1.2, 1.2, 3.0, 9.0)))


def _in_view(b: Builder, rng: Random, near: Real, far: Real) -> tuple[Real, Real]:
    """A place on the floor that the camera looks at, between two distances."""
    a = b.angles[0] + math.radians(rng.uniform(-0.45, 0.45) * b.fov)
    r = rng.uniform(near, far)
    return b.eye[0] + r * math.sin(a), b.eye[2] + r * math.cos(a)


def _inside(x: Real, z: Real, w: Real, d: Real, margin: Real) -> bool:
    return abs(x) < w / 2 - margin and abs(z) < d / 2 - margin


def room(b: Builder, rng: Random) -> None:
    """A furnished room, now and then a narrow or a large one, seen from within."""
    w = rng.uniform(2.6, 6.5)
    d = rng.uniform(3.0, 8.0)
    h = rng.uniform(2.3, 3.1)
    shape = rng.random()
    if narrow := shape < 0.13:
        w = rng.uniform(1.6, 2.6)
        d = rng.uniform(6, 16)
    elif shape > 0.88:  # an office floor, a lobby, a class room
        w = rng.uniform(6, 12)
        d = rng.uniform(7, 15)
        h = rng.uniform(2.6, 4.0)
    use = rng.choice(tuple(PLACES))
    indoors(b, rng, w, h, d)
    _camera(b, rng, w, d, h, narrow)
    eye = (b.eye[0], b.eye[2])

    # floor, ceiling, and the walls with what hangs and stands there
    pale = hsv(rng, saturation=(0, rng.choice((0.12, 0.35, 0.7))), value=(0.35, 0.95))
    paper = stuff(
        rng,
        pale,
        "plain plain plain noise smooth stripes bricks dots tiles concrete planks",
        1.2,
        tone(pale, rng.uniform(0.65, 0.95)),
        grunge=rng.uniform(0.02, 0.3),
    )
    carpet = hsv(rng, (0.0, 0.15) if rng.random() < 0.7 else None, (0, 0.5), (0.12, 0.85))
    ground = stuff(
        rng,
        carpet,
        "tiles noise fine checker carpet plain gravel speckle mottle concrete weave",
        1.6,
        gloss=rng.choice((0, 0, 0.3)),
    )
    if rng.random() < 0.45:
        ground = o.wood(rng)._replace(size=rng.uniform(0.8, 1.6))
    b.box(0, -0.5, 0, w + 12, 0.5, d + 12, ground, "floor", casts=False)
    white = stuff(
        rng,
        hsv(rng, saturation=(0, 0.06), value=(0.6, 0.95)),
        "plain plain noise tiles",
        2.4,
        grunge=rng.uniform(0.02, 0.15),
    )
    b.box(0, h, 0, w + 12, 0.3, d + 12, white, "ceiling", casts=False)
    _overhead(b, rng, w, h, d, white)
    for x, z, turn, length in _wall_frames(w, d):
        with b.at(x, 0, z, turn):
            own = (
                paper
                if rng.random() < 0.85
                else stuff(rng, hsv(rng), "plain noise bricks wood concrete")
            )
            if not _wall(b, rng, length, h, own, eye):
                _hang(b, rng, length, h)
                _along(b, rng, length, h, eye, use)

    # in the middle: groups of furniture, then what lies about and who is there
    if rng.random() < 0.4:
        rug = o.fabric(rng)._replace(pattern=PATTERNS[rng.choice(("carpet", "weave", "heap"))])
        x, z = _in_view(b, rng, 1.0, 4.0)
        wide, deep = (rng.uniform(1.0, 2.5) for _ in range(2))
        b.box(x, 0, z, wide, 0.012, deep, rug._replace(size=2.0), "floor", casts=False)
    large = w * d > 45
    for _ in range(rng.randint(2, 5) if large else rng.choice((0, 1, 1, 2))):
        x, z = _in_view(b, rng, 1.6, 7.0 if large else 3.5)
        if _inside(x, z, w, d, 0.7):
            with b.at(x, 0, z, rng.choice((0, math.pi / 2, rng.uniform(0, math.tau)))):
                pick = rng.choice(("table", "table", "sofa", "bed", "desk", "low"))
                stand(b, rng, pick, rng.uniform(*WIDTHS.get(pick, (0.8, 1.6))), h)
                for side in (-1, 1, 0) if pick == "table" else ():
                    if rng.random() < 0.6:
                        turn = math.pi * (side < 0) + rng.gauss(0, 0.4)
                        across = side * 0.75 if side else 1.2
                        with b.at(rng.uniform(-0.4, 0.4), 0, across, turn):
                            o.chair(b, rng)
    if rng.random() < 0.45:  # something close
        x, z = _in_view(b, rng, 0.75, 1.5)
        if _inside(x, z, w, d, 0.3):
            with b.at(x, 0, z, rng.uniform(0, math.tau)):
                pick = rng.choice(("chair", "chair", "table", "low", "desk", "plant", "heap"))
                stand(b, rng, pick, rng.uniform(0.7, 1.3), min(h, 1.2))
    for _ in range(rng.choice((0, 1, 2, 4, 7))):
        x, z = _in_view(b, rng, 1.0, 4.5)
        if _inside(x, z, w, d, 0.3):
            with b.at(x, 0, z):
                if rng.random() < 0.25:
                    fit.heap(b, rng, rng.uniform(0.3, 0.6))
                else:
                    o.thing(b, rng, rng.choice((0.2, 0.4)))
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        x, z = _in_view(b, rng, 1.1, 4.5)
        if _inside(x, z, w, d, 0.4):
            with b.at(x, 0, z, rng.uniform(0, math.tau)):
                if rng.random() < 0.8:
                    figures.person(b, rng)
                else:
                    figures.animal(b, rng, rng.choice((0.25, 0.3, 0.5)))


def tabletop(b: Builder, rng: Random) -> None:
    """A table full of things seen from close by, with a room behind it."""
    h = 2.6
    indoors(b, rng, 4, h, 4)
    b.light.main = (rng.uniform(-1, 1), rng.uniform(1.9, 2.4), rng.uniform(-1, 0.5), 1.0)
    top = 0.75
    deep = rng.uniform(0.7, 1.1)
    back = deep / 2 + rng.choice((rng.uniform(0.02, 0.6), rng.uniform(0.3, 2.5)))
    pitch = rng.uniform(-50, -12)
    away = rng.uniform(0.55, 1.1)
    b.eye = (
        rng.uniform(-0.15, 0.15),
        top + 0.08 - away * math.sin(math.radians(pitch)),
        -away * math.cos(math.radians(pitch)),
    )
    look(b, rng, rng.gauss(0, 8), (pitch, 2), (35, 58), 3.0)
    b.box(
        0,
        -0.5,
        back - 4,
        9,
        0.5,
        8,
        o.wood(rng) if rng.random() < 0.5 else o.fabric(rng),
        "floor",
        casts=False,
    )
    for k, (x, z, turn, length) in enumerate(_wall_frames(rng.uniform(3, 9), 8)):
        with b.at(x, 0, z + back - 4, turn):
            wall = stuff(rng, hsv(rng, saturation=(0, 0.4), value=(0.3, 0.9)))
            b.box(0, 0, 0.1, length, h, 0.2, wall, "wall", casts=False)
            _hang(b, rng, 4, h)
            if k or back > 2:
                _along(b, rng, min(length, 5), h, (b.eye[0], b.eye[2]))
    surface = o.furniture_surface(rng) if rng.random() < 0.7 else o.fabric(rng)
    b.box(
        0,
        top - 0.04,
        0,
        rng.uniform(1.0, 2.2),
        0.04,
        deep,
        surface._replace(size=rng.uniform(0.4, 0.9)),
        "furniture",
    )
    if rng.random() < 0.25:
        b.box(0, top, 0, 0.5, 0.004, 0.35, o.fabric(rng), "object", yaw=rng.gauss(0, 0.3))
    for k in range(rng.randint(4, 12)):
        r = 0.42 * math.sqrt((k + rng.random()) / 12)
        a = 2.4 * k + rng.random()
        with b.at(1.3 * r * math.cos(a), top, r * math.sin(a) * deep):
            o.thing(b, rng, rng.uniform(0.08, 0.24))
