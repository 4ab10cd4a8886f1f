"""Boundaries of depth: where one surface ends in front of another, and whether a prediction has the
same ones.

Two definitions are in use. Both call a pair of neighbouring pixels a boundary where one depth is
more than t times the other, for ten t from 1.05 to 1.25, and both take the F1 of the pairs that
prediction and target have in common. They differ in which pixels are neighbours and in how they
average:

- "depth_pro" (Bochkovskii et al. 2024, "Depth Pro", section 3.4): the pixel to the left, to the
  right, above and below. Precision and recall are averaged over the four directions before F1 is
  taken, and thresholds weigh t.
- "moge" (Wang et al. 2025, "MoGe", its evaluation's code): every pixel within `radius`. All pairs
  count together, and thresholds weigh t - 1. Pixels nearer to the border of the image than `radius`
  are no centres of pairs. A radius above 1 forgives a boundary that is a little off, and finds one
  that a resize has spread over a few pixels.

As published, a threshold or direction at which the target has no boundary counts as a failure, so
that a perfect prediction gets less than 1: a map whose boundaries all face to the left gets 1/4 in
"depth_pro". Here such thresholds and directions are left out, unless the prediction has boundaries
there; `published` gives the published numbers.

Both need depth up to scale alone: a shift changes ratios. For maps that are known up to scale *and*
shift, such as disparity aligned to a teacher's, pass `torch.exp` of the map in a unit of your own:
the ratio of two values is then a function of their difference, ln 1.05 to ln 1.25 of that unit.
"""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dalib.errors import ConfigError
from dalib.evaluation.align import check_finite, check_shapes

THRESHOLDS = tuple(1.05 + 0.2 * k / 9 for k in range(10))
"""Ratios of depths from which on a pair of neighbours is a boundary, in both definitions."""
DEFINITIONS = ("depth_pro", "moge")

Pairs = tuple[Float[Tensor, "B M"], Float[Tensor, "B M"], Bool[Tensor, "B M"]]


def boundary_f1(
    pred: Float[Tensor, "B H W"],
    target: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    *,
    definition: str = "moge",
    radius: int = 1,
    published: bool = False,
) -> Float[Tensor, " B"]:
    """How well the boundaries of each prediction are those of its target: 1 where they are the
    same, 0 where none is.

    Args:
        pred: depth above 0, up to scale, of any precision.
        target: the same of the truth, or of a teacher.
        valid: pixels to use; a pair counts where both of its pixels are valid. What the others hold
            never matters.
        definition: "depth_pro" or "moge", see above.
        radius: of the neighbourhood in pixels, for "moge".
        published: the arithmetic of the published codes, see above.

    Returns:
        float64. NaN where the target has no boundary at the smallest threshold: nothing is to be
        found there (0 as published).

    Raises:
        ConfigError: an unknown definition, or a radius below 1.
        ValueError: shapes that are not three times (B, H, W), or a valid pixel that is not finite
            or not above 0.
    """
    if definition not in DEFINITIONS:
        raise ConfigError(f"definition: {definition!r} is not one of {', '.join(DEFINITIONS)}")
    if radius < 1:
        raise ConfigError(f"radius: {radius} pixels; must be at least 1")
    check_shapes(pred, target, valid)
    logs = [_log(name, x, valid) for name, x in (("prediction", pred), ("target", target))]

    # counts of boundaries at each threshold: one group of pairs for each direction, or for all
    if definition == "depth_pro":
        steps = ((0, 1), (0, -1), (1, 0), (-1, 0))
        groups = [[_pairs(*logs, valid, step, margin=0)] for step in steps]
        weights = torch.tensor(THRESHOLDS, dtype=torch.float64)
    else:
        steps = _neighbours(radius)
        groups = [(_pairs(*logs, valid, step, margin=radius) for step in steps)]
        weights = torch.tensor(THRESHOLDS, dtype=torch.float64) - 1
    both, seen, true = (torch.stack(x) for x in zip(*map(_counts, groups), strict=True))

    # (groups, B, thresholds) -> (B, thresholds)
    present = torch.ones_like(seen) if published else (seen + true > 0).to(seen)
    count = present.sum(0).clamp_min(1)
    precision = (both / seen.clamp_min(1)).sum(0) / count
    recall = (both / true.clamp_min(1)).sum(0) / count
    total = precision + recall
    f1 = torch.where(total > 0, 2 * precision * recall / total.where(total > 0, 1), 0)

    # (B, thresholds) -> (B,)
    weights = weights.to(f1) * (present.sum(0) > 0)
    score = (f1 * weights).sum(1) / weights.sum(1).clamp_min(1e-12)
    return score if published else score.masked_fill(true[..., 0].sum(0) == 0, torch.nan)


def _log(
    name: str, x: Float[Tensor, "B H W"], valid: Bool[Tensor, "B H W"]
) -> Float[Tensor, "B H W"]:
    """Logarithm of depth in float64, 0 where it is not valid."""
    x = x.double().masked_fill(~valid, 1)
    check_finite(name, x.flatten(1))
    if (x <= 0).any():
        bad = (x <= 0).flatten(1).any(1).nonzero().flatten().tolist()
        raise ValueError(f"{name} is not above 0 at valid pixels of images {bad}: depth is needed")
    return x.log()


def _neighbours(radius: int) -> list[tuple[int, int]]:
    """(rows, columns) to every other pixel within a radius."""
    span = range(-radius, radius + 1)
    return [(i, j) for i in span for j in span if 0 < i * i + j * j <= radius * radius]


def _pairs(
    pred: Float[Tensor, "B H W"],
    target: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    step: tuple[int, int],
    *,
    margin: int,
) -> Pairs:
    """How much farther the neighbour at `step` is, in logarithms, in both maps, and where both
    pixels are valid. Centres keep `margin` from the border."""
    height, width = pred.shape[1:]
    rows, columns = (
        _centres(n, k, margin=margin) for n, k in zip((height, width), step, strict=True)
    )
    here = [x[:, rows[0], columns[0]].flatten(1) for x in (pred, target, valid)]  # (B, M)
    there = [x[:, rows[1], columns[1]].flatten(1) for x in (pred, target, valid)]
    return there[0] - here[0], there[1] - here[1], here[2] & there[2]


def _centres(side: int, move: int, *, margin: int) -> tuple[slice, slice]:
    """Along one side: the pixels that are centres of pairs, and their neighbours at `move`."""
    first = max(margin, -move)
    last = max(first, min(side - margin, side - move))
    return slice(first, last), slice(first + move, last + move)


def _counts(
    groups: Iterable[Pairs],
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Pairs above each threshold in both maps, in the prediction, and in the target."""
    totals: list[Tensor] = []
    for pred, target, valid in groups:
        found = [_above(x, valid) for x in (torch.minimum(pred, target), pred, target)]
        totals = [a + b for a, b in zip(totals, found, strict=True)] if totals else found
    return tuple(totals)


def _above(step: Float[Tensor, "B M"], valid: Bool[Tensor, "B M"]) -> Float[Tensor, "B T"]:
    """How many valid steps exceed the logarithm of each threshold."""
    edges = torch.tensor([math.log(t) for t in THRESHOLDS], dtype=step.dtype, device=step.device)
    level = torch.bucketize(step, edges)  # how many thresholds are below it
    level = level.masked_fill(~valid, 0)
    counts = torch.zeros(len(step), len(THRESHOLDS) + 1, dtype=step.dtype, device=step.device)
    counts.scatter_add_(1, level, torch.ones_like(step))
    return counts[:, 1:].flip(1).cumsum(1).flip(1)
