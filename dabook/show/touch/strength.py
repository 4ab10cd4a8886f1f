"""Strength of colour distortion and blur, step by step: what the student is shown, what a network
sees in it, and how far that is from its map of the clean image.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dabook.show import divider
from dabook.show.html import Html, number
from dabook.show.touch import shell
from dabook.show.touch.shell import Axes, Number
from dalib.errors import ConfigError
from dalib.losses import affine_invariant

LEAST, MOST = 2, 12
"""Steps of the slider."""
LONGEST, LONGEST_MAP = 232, 96  # pixels of the longer side of what the page holds
DIGITS = 3
CAPTION = (
    "One image under one draw of colour distortion and blur, its strength from none to twice what "
    "the recipe uses, and the map of one network at each step. The loss is that of this map "
    "against the network's own map of the clean image: in training that map is the teacher's, and "
    "the student is asked to give it all the same. Another image, or another draw, has another curve."
)


def losses(maps: Sequence[Float[Tensor, "h w"]]) -> list[float]:
    """The affine-invariant loss of each map against the first, as the library has it."""
    target = maps[0][None]
    everywhere = torch.ones_like(target, dtype=torch.bool)
    return [float(affine_invariant(d[None], target, everywhere)) for d in maps]


def figure(
    frames: Sequence[UInt8[Tensor, "3 H W"]],
    maps: Sequence[Float[Tensor, "h w"]],
    strengths: Sequence[float | int],
    *,
    title: str,
    first: int = 0,
    caption: str = CAPTION,
) -> Html:
    """One image at several strengths of perturbation, with what a network sees in each.

    Args:
        frames: the image at each strength, the clean one first.
        maps: what a network predicts for each.
        strengths: growing from 0.
        title: what is seen.
        first: the step that is shown at first.
        caption: below the figure.

    Raises:
        ConfigError: too few or too many steps, lists of several lengths, pictures of several sizes,
            or strengths that do not grow from 0.
    """
    _check(title, frames, maps, strengths, first)
    found = losses(maps)
    words = [f"{s:g}" for s in strengths]
    texts = [number(value, DIGITS) for value in found]

    # what stands still: every step
    still = []
    for k, (frame, seen) in enumerate(zip(frames, maps, strict=True)):
        picture = shell.address(divider.smaller(frame, LONGEST))
        depth = shell.address(divider.coloured(divider.smaller_map(seen, LONGEST_MAP)))
        still.append(
            '<div class="panel"><div class="stage">'
            + shell.image(picture, f"{title}, strength {words[k]}: image", key=f"frame{k}")
            + '</div><div class="stage">'
            + shell.image(depth, f"{title}, strength {words[k]}: network", key=f"map{k}")
            + f"</div><p>{words[k]}: loss {texts[k]}</p></div>"
        )

    # the curve, with a mark at the step
    high = 1.1 * max(found) or 1.0
    axes = Axes(
        x=(float(strengths[0]), float(strengths[-1])),
        y=(0, high),
        x_ticks={float(s): w for s, w in zip(strengths, words, strict=True) if s * 2 % 1 == 0},
        y_ticks=shell.ticks(0, high, most=4),
        x_label="strength",
        y_label="loss against the clean map",
        height=200,
    )
    places = [axes.place(float(s), value) for s, value in zip(strengths, found, strict=True)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    x, y = places[first]
    curve = axes.drawing(
        f'<polyline class="accent-line" points="{points}"/>',
        alt="loss over strength",
        above=f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="5"/>',
    )
    names = {"frame": "distorted image", "map": "the network's map"}
    live = shell.panels(
        [
            shell.panel(name, shell.stage(shell.copied(f"{key}{first}"), key=key))
            for key, name in names.items()
        ],
        columns="1fr 1fr",
    )
    shown = shell.numbers(
        [Number(key="loss", label="loss against the clean map", value=texts[first])]
    )
    return shell.frame(
        "strength",
        title,
        payload={
            "strengths": words,
            "losses": texts,
            "places": [[round(a, 1), round(b, 1)] for a, b in places],
        },
        live=shell.beside(live, '<div class="charts"></div>', columns="3fr 2fr")
        + shell.controls(
            shell.slider(
                "strength",
                "strength",
                low=0,
                high=len(frames) - 1,
                value=first,
                shown=words[first],
            )
        )
        + shown,
        still=f'<div class="panels steps">{"".join(still)}</div><div class="charts">{curve}</div>',
        caption=caption,
    )


def _check(
    title: str,
    frames: Sequence[Tensor],
    maps: Sequence[Tensor],
    strengths: Sequence[float | int],
    first: int,
) -> None:
    counts = {len(frames), len(maps), len(strengths)}
    if len(counts) > 1:
        raise ConfigError(
            f"{title}: {len(frames)} frames, {len(maps)} maps and {len(strengths)} strengths; give "
            "one of each for a step"
        )
    if not LEAST <= len(frames) <= MOST:
        raise ConfigError(f"{title}: {len(frames)} steps; give {LEAST} to {MOST}")
    if strengths[0] != 0 or any(b <= a for a, b in pairwise(strengths)):
        raise ConfigError(f"{title}: strengths {list(strengths)} do not grow from 0")
    if not 0 <= first < len(frames):
        raise ConfigError(f"{title}: step {first} of {len(frames)}")
    for frame, seen in zip(frames, maps, strict=True):
        shell.check(title, "a frame", frame, frames[0].shape)
        shell.check(title, "a map", seen, maps[0].shape)
