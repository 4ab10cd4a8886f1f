"""Colours and materials, and what is made of them indoors: furniture, plants, clutter. Each
stands at the origin of the builder's frame and faces -z, in metres."""

from __future__ import annotations

import colorsys
import math
from random import Random

from dalib.data.scenes.primitives import Builder, Colour, Material, Real
from dalib.data.scenes.textures import PATTERNS

CLOUDY = ("noise", "smooth", "fine", "speckle", "mottle", "concrete", "asphalt")
"""Patterns of one stuff in lighter and darker shades, never of two colours."""


def hsv(
    rng: Random,
    hue: tuple[Real, Real] | None = None,
    saturation: tuple[Real, Real] = (0, 1),
    value: tuple[Real, Real] = (0.1, 0.9),
) -> Colour:
    """A colour from ranges; without a hue, the mix of a made world: mostly earthy, some blue, a few
    of any."""
    hue = hue or rng.choice(((0.0, 0.14), (0.03, 0.15), (0.05, 0.12), (0.52, 0.66), (0, 1), (0, 1)))
    return colorsys.hsv_to_rgb(rng.uniform(*hue) % 1, rng.uniform(*saturation), rng.uniform(*value))


def tone(colour: Colour, factor: Real) -> Colour:
    return tuple(min(c * factor, 1.0) for c in colour)


def stuff(
    rng: Random,
    a: Colour,
    patterns: str = "plain noise",
    size: Real = 0.8,
    b: Colour | None = None,
    **options,
) -> Material:
    """Colour `a` with one of the named patterns. The second colour is `b`, by default a darker or
    lighter shade, as it always is where the pattern is a cloudy one."""
    pattern = rng.choice(patterns.split())
    cloudy = pattern in CLOUDY
    b = (
        b
        if b and not cloudy
        else tone(
            a, rng.choice((0.4, 0.6, 0.8, 1.3, 1.7) if cloudy else (0.35, 0.6, 0.8, 1.3, 1.8))
        )
    )
    return Material(
        a,
        b,
        PATTERNS[pattern],
        size * rng.uniform(0.6, 1.6),
        **({"grunge": rng.uniform(0.02, 0.4)} | options),
    )


def paint(rng: Random) -> Material:
    """Anything painted, printed or moulded."""
    ranges = ((0, 0.15), (0.05, 0.9)) if rng.random() < 0.4 else ((0.2, 0.9), (0.12, 0.75))
    a = hsv(rng, None, *ranges)
    patterns = "plain plain plain noise stripes checker dots letters picture heap scene plaid"
    return stuff(rng, a, patterns, 0.35, hsv(rng), gloss=rng.choice((0, 0, 0.3, 0.8)))


def wood(rng: Random) -> Material:
    a = hsv(rng, (0.05, 0.11), (0.25, 0.7), (0.12, 0.7))
    return stuff(
        rng,
        a,
        "wood wood planks parquet plain",
        0.7,
        tone(a, rng.uniform(0.5, 0.85)),
        gloss=rng.choice((0, 0.2, 0.5)),
    )


def furniture_surface(rng: Random) -> Material:
    if rng.random() < 0.55:
        return wood(rng)
    a = hsv(rng, saturation=(0, 0.2), value=rng.choice(((0.03, 0.15), (0.5, 0.9))))
    return stuff(rng, a, "plain plain noise smooth", gloss=rng.choice((0, 0.3, 0.6)))


def fabric(rng: Random) -> Material:
    a = hsv(rng, saturation=(0, 0.6), value=(0.08, 0.85))
    return stuff(
        rng,
        a,
        "plain fine weave noise stripes plaid dots carpet smooth mottle heap",
        0.6,
        hsv(rng, saturation=(0, 0.5)),
    )


def leaves(rng: Random, ragged: Real = 0.0) -> Material:
    a = hsv(rng, (0.18, 0.34), (0.4, 0.8), (0.08, 0.28))
    if rng.random() < 0.1:
        a = hsv(rng, (0.03, 0.14), (0.5, 0.9), (0.2, 0.5))
    return stuff(
        rng, a, "leaves bush", 1.6, tone(a, rng.uniform(1.8, 3.0)), grunge=0.4, ragged=ragged
    )


METAL = Material((0.45, 0.46, 0.48), (0.3, 0.3, 0.32), PATTERNS["noise"], 0.5, 0.15, 0.8)
GLASS = Material((0.05, 0.07, 0.09), (0.12, 0.15, 0.18), PATTERNS["smooth"], 1.5, 0.1, 1.0)
RUBBER = Material((0.03, 0.03, 0.035), (0.06, 0.06, 0.06), PATTERNS["noise"], 0.4, 0.1)


def legs(b: Builder, w: Real, h: Real, d: Real, m: Material, thick: Real = 0.05) -> None:
    for x in (-1, 1):
        for z in (-1, 1):
            b.box(x * (w - thick) / 2, 0, z * (d - thick) / 2, thick, h, thick, m, "furniture")


def table(
    b: Builder, rng: Random, w: Real = 1.4, d: Real = 0.8, h: Real = 0.74, things: int = 3
) -> None:
    m = furniture_surface(rng)
    if rng.random() < 0.2:
        b.cone(0, h - 0.04, 0, d * 1.2, 0.04, d * 1.2, m, "furniture")
        b.cone(0, 0.02, 0, 0.09, h - 0.06, 0.09, METAL, "furniture")
        b.cone(0, 0, 0, 0.5, 0.03, 0.5, METAL, "furniture")
    else:
        b.box(0, h - 0.04, 0, w, 0.04, d, m, "furniture")
        legs(
            b,
            w * 0.94,
            h - 0.04,
            d * 0.92,
            m if rng.random() < 0.7 else METAL,
            rng.uniform(0.03, 0.07),
        )
    scatter(b, rng, w * 0.8, d * 0.7, h, things)


def chair(b: Builder, rng: Random) -> None:
    frame = furniture_surface(rng)
    seat = fabric(rng)
    h = rng.uniform(0.42, 0.48)
    w = rng.uniform(0.4, 0.5)
    if rng.random() < 0.7:
        legs(b, w, h - 0.05, w, frame, 0.035)
    else:
        b.cone(0, 0.05, 0, 0.06, h - 0.08, 0.06, METAL, "furniture")
        b.cone(0, 0, 0, 0.55, 0.06, 0.55, RUBBER, "furniture", taper=(0.7, 0))
    b.box(0, h - 0.05, 0, w, 0.06, w, seat, "furniture")
    b.box(
        0,
        h + rng.uniform(0.02, 0.2),
        w / 2 - 0.02,
        w * 0.95,
        rng.uniform(0.25, 0.5),
        0.04,
        rng.choice((frame, seat)),
        "furniture",
        pitch=0.12,
    )


def sofa(b: Builder, rng: Random, w: Real = 2.0) -> None:
    m = fabric(rng)
    h = rng.uniform(0.38, 0.46)
    d = rng.uniform(0.8, 1.0)
    back = rng.uniform(0.75, 0.95)
    arm = rng.uniform(0.1, 0.25)
    b.box(0, 0.06, 0, w, h - 0.06, d, m, "furniture")
    b.wedge(0, h, d / 2 - 0.12, w, back - h, 0.24, m, "furniture", taper=(0, 0.4))
    for x in (-1, 1):
        b.box(x * (w - arm + 0.03) / 2, 0.05, -0.02, arm, rng.uniform(0.5, 0.58), d, m, "furniture")
    for k in range(rng.randint(0, 3)):
        cushion = fabric(rng)
        b.ball(
            -w / 2 + arm + 0.25 + k * 0.5,
            h - 0.02,
            0.12,
            0.42,
            0.4,
            0.2,
            cushion,
            "object",
            pitch=-0.3,
        )


def bed(b: Builder, rng: Random, w: Real = 1.5) -> None:
    frame = furniture_surface(rng)
    sheet = stuff(rng, hsv(rng, saturation=(0, 0.2), value=(0.6, 0.9)))
    cover = fabric(rng)
    h = rng.uniform(0.42, 0.62)
    b.box(0, 0.08, 0, w, h * 0.5, 2.0, frame, "furniture")
    b.box(0, h * 0.5, 0, w * 0.97, h * 0.5, 1.95, sheet, "furniture")
    b.box(0, h * 0.52, -0.33, w * 1.01, h * 0.5 + 0.02, 1.33, cover, "furniture")
    b.box(0, 0, 1.02, w * 1.03, rng.uniform(0.8, 1.2), 0.06, frame, "furniture")
    for x in (-1, 1) if w > 1.2 else (0,):
        b.ball(
            x * w / 4,
            h - 0.03,
            0.7,
            0.62,
            0.22,
            0.42,
            sheet if rng.random() < 0.6 else fabric(rng),
            "furniture",
        )


def cabinet(b: Builder, rng: Random, w: Real = 0.9, h: Real = 0.9, d: Real = 0.45) -> None:
    """Chest, wardrobe or counter: a body with door leaves or drawers in front, and things on top of a
    low one."""
    body = furniture_surface(rng)
    front = body if rng.random() < 0.6 else furniture_surface(rng)
    b.box(0, 0, 0, w, h, d, body, "furniture")
    columns = max(1, round(w / rng.uniform(0.4, 0.7)))
    rows = max(1, round(h / rng.choice((0.25, 0.7, 1.8))))
    for i in range(columns):
        for j in range(rows):
            x, y = (i + 0.5) / columns * w - w / 2, 0.04 + j * (h - 0.06) / rows
            b.box(
                x,
                y + 0.01,
                -d / 2 - 0.008,
                w / columns - 0.025,
                (h - 0.06) / rows - 0.02,
                0.016,
                front,
                "furniture",
                casts=False,
            )
            b.box(
                x,
                y + (h - 0.06) / rows * 0.6,
                -d / 2 - 0.03,
                0.1,
                0.015,
                0.02,
                METAL,
                "furniture",
                casts=False,
            )
    if h < 1.4:
        scatter(b, rng, w * 0.8, d * 0.6, h, rng.randint(0, 4))


def shelf(b: Builder, rng: Random, w: Real = 0.9, h: Real = 1.9, d: Real = 0.32) -> None:
    m = furniture_surface(rng)
    levels = rng.randint(3, 6)
    for x in (-1, 1):
        b.box(x * (w / 2 - 0.012), 0, 0, 0.024, h, d, m, "furniture")
    b.box(0, 0, d / 2 - 0.01, w, h, 0.01, m, "furniture")
    for k in range(levels + 1):
        b.box(0, k * (h - 0.03) / levels, 0, w, 0.024, d, m, "furniture")
        if k == levels or rng.random() < 0.15:
            continue
        x, room = -w / 2 + 0.04, h / levels
        while x < w / 2 - 0.12:
            run = min(rng.uniform(0.1, 0.5), w / 2 - 0.03 - x)
            y = k * (h - 0.03) / levels + 0.024
            if rng.random() < 0.6:
                books = stuff(
                    rng, hsv(rng, value=(0.05, 0.4)), "books", 0.6, hsv(rng, value=(0.4, 0.9))
                )
                b.box(
                    x + run / 2,
                    y,
                    -0.02,
                    run,
                    room * rng.uniform(0.5, 0.85),
                    d * 0.7,
                    books,
                    "object",
                )
            elif rng.random() < 0.7:
                b.cone(
                    x + run / 2,
                    y,
                    -0.02,
                    min(run, 0.2),
                    room * rng.uniform(0.3, 0.7),
                    0.15,
                    paint(rng),
                    "object",
                    taper=(rng.choice((0, 0.3)), 0),
                )
            x += run + rng.uniform(0.0, 0.08)


def plant(b: Builder, rng: Random, s: Real) -> None:
    b.cone(0, 0, 0, 0.5 * s, 0.5 * s, 0.5 * s, paint(rng), "object", taper=(-0.25, 0))
    for _ in range(3):
        x = rng.uniform(-0.3, 0.3) * s
        y = rng.uniform(0.4, 0.7) * s
        z = rng.uniform(-0.3, 0.3) * s
        b.ball(x, y, z, 0.8 * s, 0.8 * s, 0.8 * s, leaves(rng, 0.9), "vegetation")


def thing(b: Builder, rng: Random, size: Real = 0.2) -> None:
    """One piece of clutter: box, pile of books, bottle, cup, ball, plant, lamp or screen."""
    m = paint(rng)
    pick = rng.random()
    s = size * rng.uniform(0.5, 1.4)
    yaw = rng.uniform(0, math.tau)
    if pick < 0.25:
        b.box(
            0,
            0,
            0,
            s * rng.uniform(0.5, 1.4),
            s * rng.uniform(0.3, 1.4),
            s * rng.uniform(0.4, 1),
            m,
            "object",
            yaw=yaw,
        )
    elif pick < 0.35:
        for k in range(rng.randint(2, 4)):
            b.box(
                0,
                k * 0.16 * s,
                0,
                1.2 * s,
                0.15 * s,
                0.85 * s,
                paint(rng),
                "object",
                yaw=yaw + rng.uniform(-0.3, 0.3),
            )
    elif pick < 0.5:
        b.cone(0, 0, 0, 0.4 * s, s, 0.4 * s, m, "object")
        b.cone(0, s, 0, 0.38 * s, 0.3 * s, 0.38 * s, m, "object", taper=(0.6, 0))
        b.cone(0, 1.3 * s, 0, 0.16 * s, 0.25 * s, 0.16 * s, m, "object")
    elif pick < 0.65:
        b.cone(0, 0, 0, 0.5 * s, 0.6 * s, 0.5 * s, m, "object", taper=(rng.uniform(-0.3, 0.3), 0))
    elif pick < 0.77:
        b.ball(0, 0, 0, 0.6 * s, 0.6 * s * rng.uniform(0.7, 1.1), 0.6 * s, m, "object")
    elif pick < 0.85:
        plant(b, rng, s)
    elif pick < 0.92:
        b.cone(0, 0, 0, 0.35 * s, 0.04 * s, 0.35 * s, METAL, "object")
        b.cone(0, 0, 0, 0.06 * s, 1.1 * s, 0.06 * s, METAL, "object")
        shade = stuff(rng, hsv(rng, (0.08, 0.14), (0.1, 0.4), (0.7, 0.95)), "plain", glow=0.6)
        b.cone(
            0, s, 0, 0.8 * s, 0.6 * s, 0.8 * s, shade._replace(b=shade.a), "object", taper=(0.45, 0)
        )
    else:
        with b.at(0, 0, 0, rng.uniform(-0.5, 0.5)):
            b.box(0, 0, 0, s, 0.04 * s, 0.6 * s, RUBBER, "object")
            b.box(0, 0, 0.1 * s, 0.2 * s, 0.5 * s, 0.05 * s, RUBBER, "object")
            b.box(0, 0.4 * s, 0, 2.2 * s, 1.4 * s, 0.12 * s, RUBBER, "object")
            b.box(
                0,
                0.45 * s,
                -0.062 * s,
                2.1 * s,
                1.3 * s,
                0.01 * s,
                stuff(rng, hsv(rng), "picture letters plain", 2 * s, gloss=0.5, glow=0.3),
                "object",
            )


def scatter(
    b: Builder, rng: Random, w: Real, d: Real, y: Real, count: int, size: Real = 0.2
) -> None:
    for _ in range(count):
        with b.at(rng.uniform(-w, w) / 2, y, rng.uniform(-d, d) / 2):
            thing(b, rng, size)
