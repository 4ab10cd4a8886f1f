"""Makes the test vectors, from a frozen random sequence and `dalib.conformance.reference` alone.

    python -m dalib.conformance.build [FOLDER]

Inputs are multiples of 1/64 or of a smaller power of two, so that float32 holds them exactly. What
is random comes from `numpy.random.RandomState`, whose sequence NumPy promises never to change.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from dalib.conformance import reference as ref
from dalib.conformance.catalogue import KINDS, SCORES, Kind, merged, reductions
from dalib.conformance.files import FOLDER, as_lists

GRID = 64


@dataclass(kw_only=True)
class Case:
    """One vector before its values are known.

    Args:
        about: what it holds, one line.
        tags: what may make a function fail here.
        inputs: by argument.
        gradient: whether it is unique here, and checked.
        tolerance: factor on what is allowed, where digits cannot but cancel; or by metric.
        undefined: images whose value is open: any will do.
    """

    about: str
    tags: tuple[str, ...] = ()
    inputs: dict[str, Array | float] = field(default_factory=dict)
    gradient: bool = False
    tolerance: float | dict[str, float] = 1.0
    undefined: tuple[int, ...] = ()


class Draw:
    """Numbers of one case."""

    def __init__(self, seed: int):
        self.state = np.random.RandomState(seed)

    def maps(self, *shape: int, low: float | int = 0.25, high: float | int = 4) -> Array:
        """On the grid, no value twice in an image."""
        images = []
        for _ in range(shape[0]):
            steps = np.arange(int(low * GRID), int(high * GRID) + 1)
            size = int(np.prod(shape[1:]))
            assert len(steps) >= size
            images.append(self.state.permutation(steps)[:size].reshape(shape[1:]) / GRID)
        return np.array(images)

    def like(self, target: Array, noise: float = 0.75) -> Array:
        """A prediction: another scale and shift, and noise."""
        steps = int(noise * GRID)
        rough = self.state.randint(-steps, steps + 1, target.shape) / GRID
        # an eighth of a step, different in every pixel: no two are equal, and no median is shared
        fine = np.array(
            [self.state.permutation(target[0].size).reshape(target[0].shape) for _ in target]
        )
        return 0.5 * target + 2 + rough + fine / (GRID * 64)

    def holes(self, *shape: int, counts: tuple[int, ...]) -> Array:
        """So many valid pixels in each image."""
        valid = np.zeros(shape, bool)
        for image, count in zip(valid, counts, strict=True):
            image.ravel()[self.state.permutation(image.size)[:count]] = True
        return valid

    def ints(self, low: int, high: int, *shape: int) -> Array:
        """Whole numbers as float64."""
        return self.state.randint(low, high, shape).astype(float)


def full(x: Array) -> Array:
    """All pixels are valid."""
    return np.ones(x.shape, bool)


# maps --------------------------------------------------------------------------------------------


def affine_invariant_cases() -> dict[str, Case]:
    """For `affine_invariant`."""
    cases = {}

    def add(name: str, about: str, pred: Array, target: Array, valid: Array, **more) -> None:
        tags = more.pop("tags", ())
        if (valid.sum((1, 2)) % 2 == 0).any() and not more.get("gradient"):
            tags = (*tags, "even")
        cases[name] = Case(
            about=about,
            tags=tags,
            inputs={"pred": pred, "target": target, "valid": valid},
            **more,
        )

    d = Draw(1)
    target = d.maps(2, 5, 7)
    pred = d.like(target)
    add("plain", "two maps, all pixels valid", pred, target, full(pred), gradient=True)

    d = Draw(2)
    target = d.maps(2, 6, 8)
    pred = d.like(target)
    add(
        "even",
        "an even number of pixels: the median may be the lower or the upper of the two in the "
        "middle, or their mean",
        pred,
        target,
        full(pred),
    )

    d = Draw(3)
    target, valid = d.maps(3, 5, 7), d.holes(3, 5, 7, counts=(31, 19, 9))
    pred = d.like(target)
    add(
        "holes",
        "invalid pixels hold 0 in the label",
        pred,
        np.where(valid, target, 0),
        valid,
        gradient=True,
        tags=("holes",),
    )

    d = Draw(4)
    target, valid = d.maps(2, 5, 7), d.holes(2, 5, 7, counts=(25, 13))
    pred = d.like(target)
    junk = d.ints(-90, 90, 2, 5, 7)
    add(
        "holes_with_junk",
        "invalid pixels hold large numbers in the label",
        pred,
        np.where(valid, target, junk),
        valid,
        gradient=True,
        tags=("holes", "junk"),
    )
    add(
        "holes_with_nan",
        "invalid pixels hold NaN in the label",
        pred,
        np.where(valid, target, np.nan),
        valid,
        gradient=True,
        tags=("holes", "nan"),
    )

    d = Draw(5)
    target = d.maps(2, 5, 7)
    target[:, :2] = 0
    valid = full(target)
    valid[1, 4, :4] = False
    pred = d.like(target)
    add(
        "sky",
        "the upper rows of the label are sky: disparity 0, and valid",
        pred,
        target,
        valid,
        gradient=True,
        tags=("sky",),
    )

    d = Draw(6)
    target = d.maps(3, 5, 7)
    pred = d.like(target)
    add(
        "few_valid",
        "one valid pixel (costs 0), two, and 34",
        pred,
        target,
        d.holes(3, 5, 7, counts=(1, 2, 34)),
        tags=("holes", "few"),
    )
    add(
        "one_empty",
        "an image of the batch has no valid pixel, and costs 0",
        pred,
        np.where(np.arange(3)[:, None, None] == 1, 0, target),
        np.repeat([35, 0, 35], 35).reshape(3, 5, 7) > 0,
        tags=("empty",),
    )
    add(
        "all_empty",
        "no image of the batch has a valid pixel",
        pred[:2],
        0 * target[:2],
        np.zeros((2, 5, 7), bool),
        tags=("empty", "whole batch empty"),
    )

    d = Draw(7)
    target = d.maps(3, 5, 7)
    pred = d.like(target)
    pred[0], target[1] = 0.5, 1.5
    pred[2], target[2] = 0.5, 1.5
    add(
        "constant",
        "a constant prediction (costs 1), a constant label (costs 1), both (cost 0)",
        pred,
        target,
        full(pred),
        tags=("constant",),
    )

    d = Draw(8)
    target = d.maps(2, 5, 7)
    pred = np.round(d.like(target) * GRID * 8) / (GRID * 8)
    add(
        "offset",
        "the prediction lies at 10000",
        pred + 10000,
        target,
        full(pred),
        tags=("offset",),
    )

    d = Draw(9)
    target, valid = d.maps(3, 5, 7), d.holes(3, 5, 7, counts=(35, 21, 7))
    pred = d.like(target)
    size = np.array([1, 128, 1 / 32])[:, None, None]
    add(
        "scales",
        "three images of very different scale and count of valid pixels",
        pred * size[::-1],
        target * size,
        valid,
        gradient=True,
        tags=("holes", "scales"),
    )

    d = Draw(10)
    target = d.maps(2, 5, 7)
    pred = d.like(target)
    add(
        "small",
        "maps of a spread of a thousandth",
        pred / 512,
        target / 1024,
        full(pred),
        tags=("small",),
    )

    d = Draw(11)
    target = d.maps(3, 5, 7)
    pred = np.stack([2 * target[0] + 3, target[1] / 4 - 1, 5 - target[2]])
    add(
        "affine",
        "two predictions that are right up to scale and shift (cost 0), and one with near and far "
        "exchanged",
        pred,
        target,
        full(pred),
        tags=("perfect",),
    )

    d = Draw(12)
    target = d.maps(2, 5, 7)
    pred = d.like(target)
    target[:, 2, 3], target[:, 4, 1], pred[1, 0, 0] = 96, 64, 80
    add(
        "outliers",
        "gross errors in single pixels",
        pred,
        target,
        full(pred),
        gradient=True,
        tags=("outliers",),
    )

    d = Draw(13)
    target = d.maps(1, 5, 7)
    pred = d.like(target)
    add("one_image", "a batch of one", pred, target, full(pred), gradient=True)
    return cases


def box(shape: tuple[int, ...], *edges: tuple[int, int, int, int]) -> Array:
    """Top, left, bottom, right of each image."""
    inside = np.zeros(shape, bool)
    for image, (top, left, bottom, right) in zip(inside, edges, strict=True):
        image[top:bottom, left:right] = True
    return inside


def cutmix_cases() -> dict[str, Case]:
    """For `cutmix`. Boxes of 15 of 42 pixels, 27 outside: both odd, so that medians are unique."""
    cases = {}

    def add(name: str, about: str, inside: Array, seed: int, **more) -> None:
        d = Draw(seed)
        shape = inside.shape
        target = d.maps(*shape)
        partner = d.maps(*shape, low=1, high=9)
        change = more.pop("change", lambda maps: None)
        pred = d.like(np.where(inside, partner, target))
        maps = {
            "pred": pred,
            "target": target,
            "target_inside": partner,
            "inside": inside,
            "valid": full(pred),
        }
        change(maps)
        cases[name] = Case(about=about, inputs=maps, **more)

    plain = (2, 6, 7)
    middle = box(plain, (1, 2, 4, 7), (2, 1, 5, 6))
    add("plain", "a box in each of two images", middle, 21, gradient=True)
    add(
        "edges",
        "boxes that touch the edges and corners of the image",
        box((3, 6, 7), (0, 0, 3, 5), (3, 2, 6, 7), (0, 4, 5, 7)),
        22,
        gradient=True,
        tags=("edges",),
    )
    add(
        "no_box",
        "one image is not mixed: its box has no area",
        box((2, 7, 7), (2, 2, 2, 5), (1, 1, 6, 6)),
        23,
        tags=("no area",),
    )
    add(
        "no_box_at_all",
        "no image is mixed",
        box((2, 5, 7), (0, 0, 0, 0), (3, 3, 3, 3)),
        24,
        gradient=True,
        tags=("no area",),
    )
    add(
        "whole_image",
        "the box of one image is the whole of it",
        box((2, 5, 7), (0, 0, 5, 7), (1, 1, 4, 4)),
        25,
        tags=("whole", "even"),
    )
    add(
        "even",
        "even numbers of pixels inside and outside",
        box((2, 6, 8), (1, 1, 5, 5), (2, 3, 6, 6)),
        26,
        tags=("even",),
    )
    add(
        "one_pixel",
        "a box of one pixel, which costs 0",
        box((2, 6, 7), (2, 2, 3, 3), (1, 2, 4, 7)),
        27,
        tags=("one pixel", "even"),
    )

    def far(maps: dict) -> None:
        maps["target_inside"] *= 64
        maps["pred"] = np.where(middle, maps["pred"] * 32, maps["pred"])

    add(
        "scales",
        "the partner's label has a scale 64 times the image's own",
        middle,
        28,
        gradient=True,
        change=far,
        tags=("scales",),
    )

    def holed(maps: dict) -> None:
        d = Draw(129)
        inside, valid = maps["inside"], full(middle)
        for here, counts in ((inside, (9, 13)), (~inside, (19, 11))):
            for image, region, count in zip(valid, here, counts, strict=True):
                places = np.flatnonzero(region)
                image.ravel()[d.state.permutation(places)[count:]] = False
        maps["valid"] = valid

    add(
        "holes",
        "invalid pixels inside and outside the box; the weights may be shares of the valid pixels, "
        "or of all",
        middle,
        29,
        gradient=True,
        change=holed,
        tags=("holes",),
    )

    def emptied(maps: dict) -> None:
        maps["valid"][0] &= ~maps["inside"][0]
        maps["valid"][1] &= maps["inside"][1]

    add(
        "one_region",
        "nothing is valid inside the first box, nor outside the second",
        middle,
        30,
        change=emptied,
        tags=("holes", "empty region"),
    )

    def sky(maps: dict) -> None:
        maps["target"][:, :2] = 0
        maps["target_inside"][:, :2] = 0

    add(
        "sky",
        "the upper rows of both labels are sky: disparity 0, and valid",
        box(plain, (0, 2, 3, 7), (1, 1, 4, 6)),
        35,
        gradient=True,
        change=sky,
        tags=("sky",),
    )

    def nothing(maps: dict) -> None:
        maps["valid"][:] = False

    add(
        "all_empty",
        "no image has a valid pixel",
        middle,
        36,
        change=nothing,
        tags=("holes", "empty", "whole batch empty"),
    )

    def emptied_all(maps: dict) -> None:
        maps["valid"][0] = False

    add(
        "one_empty",
        "an image has no valid pixel at all, and costs 0",
        middle,
        31,
        change=emptied_all,
        tags=("holes", "empty"),
    )

    def hidden(maps: dict) -> None:
        inside = maps["inside"]
        maps["target"][inside] = np.nan
        maps["target_inside"][~inside] = np.nan

    add(
        "hidden_nan",
        "both labels are NaN where they are not shown",
        middle,
        32,
        gradient=True,
        change=hidden,
        tags=("nan",),
    )

    def flat(maps: dict) -> None:
        maps["target_inside"][0] = 2
        maps["pred"][1][~maps["inside"][1]] = 2

    add(
        "constant",
        "a constant label inside, a constant prediction outside",
        middle,
        33,
        change=flat,
        tags=("constant",),
    )
    return cases


# features ----------------------------------------------------------------------------------------


def turned(d: Draw, cosines: Array, channels: int, *, grid: int = 256) -> tuple[Array, Array]:
    """Student and frozen features (B, C, H, W) whose tokens have about these cosines (B, H, W)."""
    b, h, w = cosines.shape
    frozen = d.ints(-64, 65, b, channels, h, w) / 64
    other = d.ints(-64, 65, b, channels, h, w) / 64

    def unit(x: Array) -> Array:
        return x / np.sqrt((x * x).sum(1, keepdims=True))

    y = unit(frozen)
    z = unit(other - (other * y).sum(1, keepdims=True) * y)
    c = cosines[:, None]
    student = 2 * (c * y + np.sqrt(1 - c * c) * z)
    return np.round(student * grid) / grid, frozen


def signs(count: int, total: int = 16) -> Array:
    """Ones, of which so many have a minus: the cosine with ones is exactly 1 - 2 count / total."""
    return np.where(np.arange(total) < count, -1.0, 1.0)


def feature_alignment_cases() -> dict[str, Case]:
    """For `feature_alignment`."""
    cases = {}

    def add(
        name: str, about: str, student: Array, frozen: Array, margin: float = 0.85, **more
    ) -> None:
        inputs = {"student": student, "frozen": frozen, "margin": margin}
        cases[name] = Case(about=about, inputs=inputs, **more)

    def spread(seed: int, low: float | int, high: float | int, shape: tuple = (2, 3, 4)) -> Array:
        d = Draw(seed)
        return low + (high - low) * d.state.randint(0, 1001, shape) / 1000

    plain = spread(40, 0.6, 0.99)
    add(
        "plain",
        "cosines between 0.6 and 0.99, on both sides of the margin",
        *turned(Draw(41), plain, 6),
        gradient=True,
    )
    add(
        "all_below",
        "every token counts",
        *turned(Draw(42), spread(43, 0.2, 0.8), 6),
        gradient=True,
    )
    add(
        "all_above",
        "no token counts: the loss is 0",
        *turned(Draw(44), spread(45, 0.9, 0.99), 6),
        tags=("no token counts",),
    )
    add(
        "negative",
        "cosines below 0",
        *turned(Draw(46), spread(47, -0.9, 0.9), 6),
        gradient=True,
        tags=("negative",),
    )
    near = np.array([[[0.845, 0.855], [0.83, 0.87]], [[0.855, 0.845], [0.88, 0.82]]])
    add(
        "near_margin",
        "cosines within 0.03 of the margin",
        *turned(Draw(48), near, 5, grid=4096),
        gradient=True,
        tags=("near the margin",),
    )
    mixed = np.stack([spread(49, 0.88, 0.99, (3, 3)), spread(50, 0.1, 0.6, (3, 3))])
    add(
        "apart",
        "all tokens of the first image are above the margin, all of the second below",
        *turned(Draw(51), mixed, 6),
        tags=("no token counts", "images differ"),
    )
    add(
        "apart_above",
        "a few tokens below the margin among many above it",
        *turned(Draw(52), np.where(spread(53, 0, 1) < 0.2, 0.7, 0.97), 6),
        gradient=True,
        tags=("images differ",),
    )
    student, frozen = turned(Draw(54), spread(55, 0.5, 0.97), 6)
    sizes = np.array([512.0, 1 / 64])[:, None, None, None]
    add(
        "lengths",
        "features of very different length",
        student * sizes,
        frozen * sizes[::-1],
        gradient=True,
        tags=("lengths",),
    )
    ones = np.ones((1, 16, 1, 4))
    steps = np.stack([signs(k) for k in (1, 2, 4, 8)], axis=-1)[None, :, None, :]
    add(
        "at_margin",
        "cosines of exactly 0.875, 0.75, 0.5 and 0 under a margin of 0.75: a token at the margin "
        "may count or not",
        steps,
        ones,
        0.75,
        tags=("another margin", "at the margin"),
    )
    add(
        "other_margin",
        "a margin of 0.5",
        *turned(Draw(56), spread(57, 0.2, 0.8), 6),
        0.5,
        gradient=True,
        tags=("another margin",),
    )
    student, frozen = turned(Draw(58), spread(59, 0.2, 0.8), 6)
    student[0, :, 0, 0], frozen[1, :, 1, 1] = 0, 0
    add("zero_token", "a token of zeros has the cosine 0", student, frozen, tags=("zero token",))
    add("one_token", "a map of one token", *turned(Draw(60), np.full((2, 1, 1), 0.7), 6))
    return cases


# scale and shift ---------------------------------------------------------------------------------


def aligner_cases() -> dict[str, Case]:
    """For `aligner`."""
    maps = affine_invariant_cases()
    tags = {
        "constant": ("constant", "cancels"),
        "offset": ("offset", "cancels"),
        "few_valid": ("holes", "few", "cancels"),
    }
    names = (
        *("plain", "holes", "holes_with_junk", "holes_with_nan", "few_valid", "one_empty"),
        *("constant", "offset", "scales", "affine", "outliers", "one_image"),
    )
    cases = {}
    for name in names:
        case = maps[name]
        inputs = dict(case.inputs)
        if name == "constant":
            inputs["pred"][2] = 0.1  # what float32 and float64 round in different ways
            inputs["pred"] = inputs["pred"].astype(np.float32).astype(float)
        cases[name] = Case(
            about=case.about,
            tags=tags.get(name, case.tags),
            inputs=inputs,
            undefined=(1,) if name == "one_empty" else (),
            tolerance=1e3 if name == "offset" else 1.0,
        )
    cases[
        "constant"
    ].about = "a constant prediction becomes the target's mean, a constant target it"
    cases["few_valid"].about = "one valid pixel (any fit through it), two, and 34"
    cases[
        "affine"
    ].about = "predictions that are right up to scale and shift, one by a scale below 0"
    cases["one_empty"].about = "an image has no valid pixel: whatever comes back for it will do"
    return cases


# metrics -----------------------------------------------------------------------------------------


def metric_cases() -> dict[str, Case]:
    """For every metric."""
    cases = {}

    def add(name: str, about: str, pred: Array, target: Array, valid: Array, **more) -> None:
        inputs = {"pred": pred, "target": target, "valid": valid}
        cases[name] = Case(about=about, inputs=inputs, **more)

    def guess(d: Draw, target: Array) -> Array:
        """Between 0.4 and 2.4 times the target, on a fine grid."""
        factor = d.state.randint(40, 241, target.shape) / 100
        return np.round(target * factor * GRID * 8) / (GRID * 8)

    d = Draw(70)
    target = d.maps(2, 5, 7, low=1, high=20)
    add("plain", "two images, all pixels valid", guess(d, target), target, full(target))

    d = Draw(71)
    target, valid = d.maps(3, 5, 7, low=1, high=20), d.holes(3, 5, 7, counts=(33, 18, 6))
    pred = guess(d, target)
    add(
        "holes",
        "invalid pixels hold another depth; three images with different numbers of valid pixels",
        pred,
        np.where(valid, target, np.round(target) + 9),
        valid,
        tags=("holes",),
    )
    add(
        "holes_with_zeros",
        "invalid pixels hold 0",
        pred,
        np.where(valid, target, 0),
        valid,
        tags=("holes", "zeros"),
    )
    add(
        "holes_with_nan",
        "invalid pixels hold NaN",
        pred,
        np.where(valid, target, np.nan),
        valid,
        tags=("holes", "nan"),
    )

    d = Draw(72)
    target = d.maps(2, 5, 7, low=1, high=20) * np.array([1, 64])[:, None, None]
    valid = d.holes(2, 5, 7, counts=(35, 12))
    add(
        "ranges",
        "two images of very different range",
        guess(d, target),
        target,
        valid,
        tags=("holes", "ranges"),
    )

    target = np.array([[[1, 2, 4, 8], [1.25, 2.5, 5, 10], [4, 4, 4, 4], [4, 64, 6.25, 5]]])
    pred = np.array([[[1.25, 2.5, 5, 10], [1, 2, 4, 8], [4, 6.25, 5, 4.5], [6.25, 125, 4, 3]]])
    add(
        "threshold",
        "ratios of exactly 1.25, 1.25^2 and 1.25^3",
        pred,
        target,
        full(target),
        tags=("at a threshold",),
    )

    d = Draw(73)
    target = d.maps(2, 5, 7, low=1, high=20)
    add(
        "perfect",
        "the prediction is the target",
        target,
        target,
        full(target),
        tags=("perfect",),
        tolerance={"silog": 1e3},
    )
    pred = np.stack([target[0] * 1.5, target[1] * 0.75])
    add(
        "scaled",
        "too far by half, and too near by a quarter",
        pred,
        target,
        full(target),
        tags=("scaled",),
        tolerance={"silog": 1e3},  # the root of what is left when equal numbers are subtracted
    )

    d = Draw(74)
    target = d.maps(3, 5, 7, low=1, high=20)
    add(
        "few_valid",
        "one valid pixel, two, and all",
        guess(d, target),
        target,
        d.holes(3, 5, 7, counts=(1, 2, 35)),
        tags=("holes", "few"),
    )
    add(
        "one_empty",
        "an image has no valid pixel: NaN, and left out of a mean",
        guess(d, target),
        target,
        np.repeat([1, 0, 1], 35).reshape(3, 5, 7) > 0,
        tags=("holes", "empty"),
    )
    return cases


# whole evaluations -------------------------------------------------------------------------------


def evaluator_cases() -> dict[str, Case]:
    """For a whole evaluation: disparity in, a score out."""
    cases = {}

    def add(name: str, about: str, pred: Array, target: Array, valid: Array, **more) -> None:
        inputs = {
            "pred": pred,
            "target": target,
            "valid": valid,
            "max_depth": more.pop("max_depth", 80.0),
        }
        cases[name] = Case(about=about, inputs=inputs, **more)

    def guess(d: Draw, target: Array, noise: float = 0.3) -> Array:
        steps = int(noise * 1024)
        return 2 * target + 1 + d.state.randint(-steps, steps + 1, target.shape) / 1024

    d = Draw(80)
    target = d.maps(2, 5, 7, low=0.25, high=2)
    add("plain", "two images, all pixels valid", guess(d, target), target, full(target))

    d = Draw(81)
    target, valid = d.maps(3, 5, 7, low=0.25, high=2), d.holes(3, 5, 7, counts=(33, 18, 7))
    pred = guess(d, target, 2.0)
    add(
        "holes",
        "invalid pixels hold another disparity; images with different numbers of valid pixels",
        pred,
        np.where(valid, target, 2 * target + 1),
        valid,
        tags=("holes",),
    )

    d = Draw(82)
    target = d.maps(2, 5, 7, low=0.25, high=2)
    sizes = np.array([1, 1 / 16])[:, None, None]
    pred = guess(d, target) * np.array([1, -4])[:, None, None]
    add(
        "ranges",
        "two images of very different distance, one prediction with near and far exchanged",
        pred,
        target * sizes,
        d.holes(2, 5, 7, counts=(35, 11)),
        tags=("holes", "ranges"),
    )

    d = Draw(83)
    target = d.maps(2, 5, 7, low=0.25, high=2)
    target[:, :2] = 0
    add(
        "sky",
        "sky: disparity 0, valid, and not scored",
        guess(d, target),
        target,
        full(target),
        tags=("sky",),
    )

    d = Draw(84)
    target = d.maps(2, 5, 7, low=0.25, high=2)
    target[:, 2] /= 256
    target[:, 3] /= 16
    add(
        "beyond",
        "ground truth beyond the cap of 80, and predictions that come to lie behind it",
        guess(d, target),
        target,
        full(target),
        tags=("cap",),
    )
    add(
        "another_cap",
        "a cap of 10",
        guess(d, target),
        target * 2,
        full(target),
        max_depth=10.0,
        tags=("cap",),
    )

    d = Draw(85)
    target = d.maps(2, 5, 7, low=0.25, high=2)
    pred = np.stack([4 * target[0] + 1, target[1] / 2 - 0.125])
    add(
        "perfect",
        "right up to scale and shift",
        pred,
        target,
        full(target),
        tags=("perfect",),
        tolerance={"silog": 1e3},
    )

    d = Draw(86)
    target = d.maps(3, 5, 7, low=0.25, high=2)
    add(
        "one_empty",
        "an image has no valid pixel: NaN, and left out of a mean",
        guess(d, target),
        target,
        np.repeat([1, 0, 1], 35).reshape(3, 5, 7) > 0,
        tags=("holes", "empty"),
    )
    return cases


def trimmed_cases() -> dict[str, Case]:
    """For `trimmed`: the maps of `affine_invariant`, without gradients."""
    return {name: replace(case, gradient=False) for name, case in affine_invariant_cases().items()}


# files -------------------------------------------------------------------------------------------

CASES: Mapping[str, Callable[[], dict[str, Case]]] = {
    "affine_invariant": affine_invariant_cases,
    "cutmix": cutmix_cases,
    "feature_alignment": feature_alignment_cases,
    "trimmed": trimmed_cases,
    "aligner": aligner_cases,
}
OF_SCORES = {"metric": metric_cases, "evaluator": evaluator_cases}


def expected(kind: Kind, case: Case, options: Mapping, *, reduction: str = "", name: str = ""):
    """What comes back under some options: for each image, or one number for a fault of
    reduction."""
    values = np.real(kind.values(case.inputs, options))
    if reduction:
        return reductions(values, kind.counts(case.inputs), how=reduction, name=name)[0]
    return values


def slope(kind: Kind, case: Case, options: Mapping) -> Array:
    """Gradient of each image's loss."""
    return ref.gradient(
        lambda x: kind.values(case.inputs | {kind.gradient: x}, options),
        case.inputs[kind.gradient],
    )


def described(kind: Kind, cases: Mapping[str, Case], *, name: str = "") -> dict:
    """One kind's file."""
    conventions = kind.conventions()
    first = next(iter(conventions.values()))
    vectors = []
    for title, case in cases.items():
        entry: dict = {"name": title, "about": case.about, "tags": list(case.tags)}
        if case.tolerance != 1:
            entry["tolerance"] = case.tolerance
        if case.undefined:
            entry["undefined"] = list(case.undefined)
        entry["inputs"] = {k: as_lists(x) for k, x in case.inputs.items()}
        entry["expected"] = {
            words: as_lists(expected(kind, case, o)) for words, o in conventions.items()
        }
        if case.gradient:
            entry["gradient"] = {
                words: as_lists(slope(kind, case, o)) for words, o in conventions.items()
            }
            entry |= _once(entry)
        entry["faults"] = {
            _label(fault, number, detail.changes): as_lists(
                expected(kind, case, merged(first, change), reduction=detail.reduction, name=name)
            )
            for fault, detail in kind.faults.items()
            for number, change in enumerate(detail.changes or ({},) * bool(detail.reduction))
            if set(change) != {"detach"}
        }
        vectors.append(entry)
    return {
        "kind": name or next(k for k, x in KINDS.items() if x is kind),
        "about": kind.about,
        "license": "Apache-2.0",
        "arguments": dict(kind.arguments),
        "returns": kind.returns,
        "null": "NaN, or a number that is not finite",
        "vectors": vectors,
    }


def _once(entry: dict) -> dict:
    """A gradient that is the same under every convention stands once."""
    found = entry["gradient"]
    first = next(iter(found.values()))
    return {"gradient": {"": first}} if all(x == first for x in found.values()) else {}


def _label(fault: str, number: int, changes: tuple) -> str:
    return f"{fault} {number + 1}" if len(changes) > 1 else fault


def everything() -> dict[str, dict]:
    """File name -> content."""
    files = {name: described(KINDS[name], make()) for name, make in CASES.items()}
    return files | {name: _of_scores(name, make()) for name, make in OF_SCORES.items()}


def _of_scores(kind: str, cases: Mapping[str, Case]) -> dict:
    """The file of a kind that is one for each metric: the maps are those of all, and stand once."""
    files = {m: described(SCORES[kind](m), cases, name=m) for m in ref.METRICS}
    first = next(iter(files.values()))
    vectors = []
    for place, vector in enumerate(first["vectors"]):
        own = {m: file["vectors"][place] for m, file in files.items()}
        shared = {k: v for k, v in vector.items() if k not in ("expected", "faults")}
        parts = ("expected", "faults")
        vectors.append(shared | {part: {m: v[part] for m, v in own.items()} for part in parts})
    return first | {"kind": kind, "about": f"{kind}s, each by name", "vectors": vectors}


def write(folder: Path) -> list[Path]:
    """Write all files, one vector a line of each part; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in everything().items():
        path = folder / f"{name}.json"
        path.write_text(dumped(content), encoding="utf-8")
        paths.append(path)
    return paths


def dumped(content: dict) -> str:
    """JSON with a line for each part of a vector, so that a change can be read in a diff."""
    head = {k: v for k, v in content.items() if k != "vectors"}
    lines = [f" {json.dumps(k)}: {json.dumps(v)}," for k, v in head.items()]
    vectors = []
    for vector in content["vectors"]:
        parts = []
        for key, value in vector.items():
            if isinstance(value, dict) and value:
                rows = ",\n".join(
                    f"    {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}"
                    for k, v in value.items()
                )
                parts.append(f"   {json.dumps(key)}: {{\n{rows}\n   }}")
            else:
                parts.append(f"   {json.dumps(key)}: {json.dumps(value)}")
        vectors.append("  {\n" + ",\n".join(parts) + "\n  }")
    return "{\n" + "\n".join(lines) + '\n "vectors": [\n' + ",\n".join(vectors) + "\n ]\n}\n"


if __name__ == "__main__":
    print(*write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER), sep="\n")
