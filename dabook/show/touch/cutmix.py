"""A CutMix box to drag: both regional losses, their weights, and the loss with the regions
normalised apart and together.
"""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from dabook.show.html import Html, number
from dabook.show.pictures import ERROR, NEAR
from dabook.show.touch import shell
from dabook.show.touch.shell import Number
from dalib.errors import ConfigError
from dalib.losses import affine_invariant, cutmix_unlabelled, normalise, region_weights

LEAST, LEAST_SIDE, MOST_SIDE = 3, 8, 80
"""Pixels of a map: the smallest side of the box, and the sides that maps may have."""
DIGITS = 4
SHOWN = (-2.0, 3.0)
"""Normalised disparity at the ends of the colours."""
SHOWN_ERROR = (0.0, 2.0)
CAPTION = (
    "Image a fills the box, image b is around it. The teacher's label and the student's map are "
    "shown after normalisation, as the loss compares them, and below them what is left between "
    "the two. Regions apart, the loss is the sum of both, each times its weight. No network runs "
    "in the page: the student's map was made for each whole image and is cut and pasted as the "
    "image is. A student that saw the mixed image would see something else, above all near the "
    "border of the box."
)
WORDS = {"apart": "apart, as eq. 6 to 8 say", "together": "together, as one image"}


def losses(
    teacher: Float[Tensor, "2 h w"],
    student: Float[Tensor, "2 h w"],
    box: tuple[int, int, int, int],
) -> dict[str, float]:
    """What the library gives for a box: the loss "inside" and "outside", the "weight" of the inside
    and of the "rest", and the loss "apart" and "together".

    Args:
        teacher: maps of a and b.
        student: the same.
        box: top, left, bottom, right, in pixels of the maps.
    """
    inside = within(box, tuple(teacher.shape[1:]))[None]
    label = torch.where(inside, teacher[:1], teacher[1:])
    pred = torch.where(inside, student[:1], student[1:])
    everywhere = torch.ones_like(inside)
    weight = region_weights(inside, everywhere)
    found = {
        "inside": affine_invariant(pred, label, inside),
        "outside": affine_invariant(pred, label, ~inside),
        "weight": weight,
        "rest": 1 - weight,
        "apart": cutmix_unlabelled(pred, teacher[1:], target_inside=teacher[:1], inside=inside),
        "together": affine_invariant(pred, label, everywhere),
    }
    return {name: float(value) for name, value in found.items()}


def within(box: tuple[int, int, int, int], size: tuple[int, ...]) -> Bool[Tensor, "h w"]:
    """The inside of a box as a mask."""
    top, left, bottom, right = box
    mask = torch.zeros(size, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def figure(
    images: UInt8[Tensor, "2 3 H W"],
    teacher: Float[Tensor, "2 h w"],
    student: Float[Tensor, "2 h w"],
    *,
    title: str,
    box: tuple[int, int, int, int],
    caption: str = CAPTION,
) -> Html:
    """Two images under CutMix with a box that moves.

    Args:
        images: a, which fills the box, and b, around it; of any size.
        teacher: its maps of the whole images, 8 to 80 pixels a side.
        student: its maps of the same.
        title: what is seen.
        box: at first: top, left, bottom, right, in pixels of the maps.
        caption: below the figure.

    Raises:
        ConfigError: maps of several sizes, too small or too large, or a box that is not within them
            or has a side below `LEAST`.
    """
    _, height, width = teacher.shape
    _check(title, teacher, student, box)
    top, left, bottom, right = box
    found = losses(teacher, student, box)

    # the mixed image: a, cut to the box, on b
    a, b = (
        shell.image(shell.address(picture), f"{title}: image {name}", key=name)
        for picture, name in zip(images, "ab", strict=True)
    )
    place = {
        "top": top / height,
        "left": left / width,
        "bottom": 1 - bottom / height,
        "right": 1 - right / width,
    }
    where = "; ".join(f"--{side}: {100 * share:.3f}%" for side, share in place.items())

    # the maps as the loss compares them, the regions apart
    inside = within(box, (height, width))
    compared = [_apart(torch.where(inside, m[0], m[1]), inside) for m in (teacher, student)]
    maps = {
        "label": ("label", compared[0], (*SHOWN, NEAR)),
        "student": ("student", compared[1], (*SHOWN, NEAR)),
        "error": ("difference", (compared[0] - compared[1]).abs(), (*SHOWN_ERROR, ERROR)),
    }
    edge = '<span class="box"></span>'
    still, live = [], []
    for key, (words, values, (low, high, name)) in maps.items():
        picture = shell.address(shell.painted(values, low, high, name), "PNG")
        drawn = shell.image(picture, f"{title}: {words}", exact=True)
        still.append(shell.panel(words, shell.stage(drawn + edge)))
        drawn = shell.canvas(key, width, height, f"{title}: {words}")
        live.append(shell.panel(words, shell.stage(drawn + edge)))
    handles = "".join(f'<i class="{corner}"></i>' for corner in ("nw", "ne", "sw", "se"))
    hand = (
        '<span class="box hand" role="application" tabindex="0" aria-label="The CutMix box. Drag '
        f'it. Arrow keys move it, with Shift they resize it.">{handles}</span>'
    )
    mixed = '<div class="stage mixed">{b}<span class="cut">{a}</span>{box}</div>'

    def block(picture: str, others: list[str]) -> str:
        large = shell.panel("image a within image b", picture)
        return shell.main(large, others, columns="3.4fr 1fr", style=where, kind="cutmix")

    shown = shell.numbers(
        [
            Number(key=key, label=label, value=number(found[key], digits))
            for key, label, digits in (
                ("inside", "loss inside", DIGITS),
                ("outside", "loss outside", DIGITS),
                ("apart", "loss, regions apart", DIGITS),
                ("weight", "weight inside", 3),
                ("rest", "weight outside", 3),
                ("together", "loss, together", DIGITS),
            )
        ]
    )
    return shell.frame(
        "cutmix",
        title,
        payload={
            "teacher": shell.stored(teacher, "f4"),
            "student": shell.stored(student, "f4"),
            "box": list(box),
            "least": LEAST,
            "digits": DIGITS,
            "shown": [SHOWN, SHOWN_ERROR],
            "tables": [shell.table(NEAR), shell.table(ERROR)],
        },
        live=block(mixed.format(a=shell.copied("a"), b=shell.copied("b"), box=hand), live)
        + shell.controls(shell.choice("how", "the maps are normalised", WORDS, chosen="apart"))
        + shown,
        still=block(mixed.format(a=a, b=b, box=edge), still) + shown,
        caption=caption,
    )


def _apart(d: Float[Tensor, "h w"], inside: Bool[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """A mixed map with each region normalised by itself."""
    parts = [normalise(d[None], mask[None])[0] for mask in (inside, ~inside)]
    return torch.where(inside, *parts)


def _check(title: str, teacher: Tensor, student: Tensor, box: tuple[int, int, int, int]) -> None:
    _, height, width = teacher.shape
    if not all(LEAST_SIDE <= side <= MOST_SIDE for side in (height, width)):
        raise ConfigError(
            f"{title}: maps of {height} x {width}; give {LEAST_SIDE} to {MOST_SIDE} pixels a side"
        )
    shell.check(title, "teacher", teacher, teacher.shape)
    shell.check(title, "student", student, teacher.shape)
    top, left, bottom, right = box
    fits = 0 <= top <= bottom - LEAST and bottom <= height
    if not (fits and 0 <= left <= right - LEAST and right <= width):
        raise ConfigError(
            f"{title}: box {box} does not lie in a map of {height} x {width} with sides of "
            f"{LEAST} or more"
        )
