"""Flicker: how much the prediction of a film changes from frame to frame where the truth does not.

Three measures, none of which needs optical flow. Each is given for every pair of neighbouring
frames, so that a single jump shows; `over_sequences` makes one number of each film.

- `flicker`: beside ground truth, of depth. How much the change of the predicted depth differs from
  the change of the true depth at the same pixel, as a logarithm, where the true depth hardly
  changes. After the temporal gradient matching of Video Depth Anything (Chen et al. 2025,
  arXiv:2501.12375), a loss which likewise looks only at pixels whose true change is small and
  so needs no flow. It compares magnitudes of changes of disparity; here they keep their sign, since a
  prediction that moves the wrong way flickers too, and are ratios of depth, since those have no unit.
- `temporal_alignment_error`: without ground truth, of depth, for a camera at rest: TAE of the same
  paper's evaluation (DepthAnything/Video-Depth-Anything:benchmark/eval/eval_tae.py), with poses
  that are the same in both frames. It is the mean AbsRel between neighbouring frames, each taken
  once for the truth of the other, in per cent.
- `static_flicker`: without ground truth, of disparity up to scale and shift, for a camera at rest:
  the mean change in units of the film's own spread.

What they cannot see: a prediction that is wrong and stays so; slow drift, which is small in each
pair; anything at pixels whose true depth does change, which is where things move and where edges
flicker most (TAE and `static_flicker` take what moves for flicker); and whatever an alignment took
away. So align a film as one group (`dalib.evaluation.measure`, `groups`): a fit to each frame forgives
the flicker of scale and shift.
"""

import math
from collections.abc import Hashable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dalib.errors import ConfigError
from dalib.evaluation.align import check_finite, check_shapes, median

STILL = 0.05
"""Up to which change of the logarithm of true depth, about 5 %, a pixel counts as still."""


def flicker(
    pred_depth: Float[Tensor, "T H W"],
    target_depth: Float[Tensor, "T H W"],
    scored: Bool[Tensor, "T H W"],
    *,
    still: float | int = STILL,
) -> Float[Tensor, " T-1"]:
    """100 times the mean of abs(ln(p' / p) - ln(t' / t)) over the pixels that count in both of two
    neighbouring frames and have abs(ln(t' / t)) <= still.

    Args:
        pred_depth: aligned, above 0, the frames of one film in order (`aligned_depth`
            of `dalib.evaluation.measure`, with `groups`).
        target_depth: in the same unit.
        scored: the pixels that count.
        still: how much the true depth may change.

    Returns:
        float64, per cent; NaN for a pair of frames without such a pixel.

    Raises:
        ConfigError: still below 0.
        ValueError: other shapes, or a pixel that counts and is not finite and above 0.
    """
    if not still >= 0:
        raise ConfigError(f"still: {still} must be at least 0")
    check_shapes(pred_depth, target_depth, scored)
    logs = [_log(n, x, scored) for n, x in (("prediction", pred_depth), ("target", target_depth))]
    change, true = (x[1:] - x[:-1] for x in logs)
    counts = scored[1:] & scored[:-1] & (true.abs() <= still)
    return 100 * _mean((change - true).abs(), counts)


def temporal_alignment_error(
    pred_depth: Float[Tensor, "T H W"], scored: Bool[Tensor, "T H W"] | None = None
) -> Float[Tensor, " T-1"]:
    """100 times the mean AbsRel between neighbouring frames of a camera at rest, both ways:
    (mean abs(p' - p) / p' + mean abs(p' - p) / p) / 2.

    Args:
        pred_depth: up to scale, above 0, the frames of one film in order.
        scored: pixels to use; all by default.

    Returns:
        float64, per cent; NaN for a pair of frames without a pixel to use.

    Raises:
        ValueError: other shapes, or a pixel to use that is not finite and above 0.
    """
    scored = torch.ones_like(pred_depth, dtype=torch.bool) if scored is None else scored
    check_shapes(pred_depth, pred_depth, scored)
    p = _log("prediction", pred_depth, scored).exp()
    step = (p[1:] - p[:-1]).abs()
    counts = scored[1:] & scored[:-1]
    return 100 * (_mean(step / p[1:], counts) + _mean(step / p[:-1], counts)) / 2


def static_flicker(
    pred: Float[Tensor, "T H W"], scored: Bool[Tensor, "T H W"] | None = None
) -> Float[Tensor, " T-1"]:
    """100 times the mean change between neighbouring frames of a camera at rest, as a share of the
    film's spread: the mean absolute deviation of all its values from their median, with which the
    affine-invariant loss scales a map (Yang et al. 2024, equation 3).

    It is the same for every scale (but 0) and shift of the whole film.

    Args:
        pred: up to scale and shift, the frames of one film in order.
        scored: pixels to use; all by default.

    Returns:
        float64, per cent; 0 for a film that is the same everywhere; NaN for a pair of frames
        without a pixel to use.

    Raises:
        ValueError: other shapes, or a pixel to use that is NaN or infinite.
    """
    scored = torch.ones_like(pred, dtype=torch.bool) if scored is None else scored
    check_shapes(pred, pred, scored)
    x = pred.double().masked_fill(~scored, 0)
    check_finite("prediction", x.flatten(1))
    step = _mean((x[1:] - x[:-1]).abs(), scored[1:] & scored[:-1])
    values = x[scored]
    spread = (values - median(values)).abs().mean() if len(values) else step.new_tensor(0.0)
    return 100 * step / torch.where(spread > 0, spread, 1)


def over_sequences(
    values: Sequence[float] | Float[Tensor, " N"], groups: Sequence[Hashable]
) -> dict[Hashable, float]:
    """The mean over the pairs of frames of each film; NaN where none has a value.

    Args:
        values: of pairs of neighbouring frames.
        groups: for each, the film that it belongs to.
    """
    values = torch.as_tensor(values, dtype=torch.float64).tolist()
    if len(values) != len(groups):
        raise ValueError(f"groups: {len(groups)} names for {len(values)} values; give one each")
    found: dict[Hashable, list[float]] = {name: [] for name in groups}
    for value, name in zip(values, groups, strict=True):
        if not math.isnan(value):
            found[name].append(value)
    return {name: sum(v) / len(v) if v else math.nan for name, v in found.items()}


def _log(
    name: str, x: Float[Tensor, "T H W"], scored: Bool[Tensor, "T H W"]
) -> Float[Tensor, "T H W"]:
    x = x.double().masked_fill(~scored, 1)
    check_finite(name, x.flatten(1))
    if (x <= 0).any():
        bad = (x <= 0).flatten(1).any(1).nonzero().flatten().tolist()
        raise ValueError(f"{name} is not above 0 at scored pixels of frames {bad}: give depth")
    return x.log()


def _mean(x: Float[Tensor, "N H W"], use: Bool[Tensor, "N H W"]) -> Float[Tensor, " N"]:
    return x.masked_fill(~use, 0).flatten(1).sum(1) / use.flatten(1).sum(1)
