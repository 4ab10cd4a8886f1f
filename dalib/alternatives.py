"""Losses that the paper does not print: for the ablations CutMix regions normalised together, dropping
the worst error, V2's gradients; and for fine-tuning to metres the scale-invariant log loss.

Those of the ablations are built on one map, the residual r = normalise(pred) - normalise(target),
whose absolute value eq. 1 averages.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from dalib.errors import ConfigError
from dalib.losses import normalise, shown

CELL = 8  # pixels on a side of the regions that are dropped
SCALES = 4  # of the gradient matching
LAMBDA = 0.5
"""Share of the squared mean error that the scale-invariant log loss forgives: Eigen et al. 2014
(arXiv:1406.2283, section 3.2), and the metric fine-tuning of V2 (`metric_depth/util/loss.py` of
DepthAnything/Depth-Anything-V2). BTS, AdaBins and ZoeDepth take 0.85."""
NEAREST_M = 1e-6  # metres: a prediction below it has the logarithm of this
ROOT = 1e-4  # below it the loss is its own square, scaled: a root has no slope at 0


def residual(
    pred: Float[Tensor, "b h w"], target: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"]
) -> Float[Tensor, "b h w"]:
    """The signed error under the absolute value of eq. 1; 0 in invalid pixels."""
    return normalise(pred, valid) - normalise(target, valid)


def cutmix_residual(
    pred: Float[Tensor, "b h w"],
    target: Float[Tensor, "b h w"],
    *,
    target_inside: Float[Tensor, "b h w"] | None = None,
    inside: Bool[Tensor, "b h w"] | None = None,
    valid: Bool[Tensor, "b h w"],
    together: bool,
) -> Float[Tensor, "b h w"]:
    """The signed error of mixed images: each region by itself (eq. 6-7), or one median and scale
    for the mixed maps.

    The mean absolute value over the valid pixels of the former is `losses.cutmix_unlabelled` (eq. 8
    weights by area).

    Args:
        pred, target, target_inside, inside: as of `losses.cutmix_unlabelled`.
        valid: pixels to compare; the label must be finite there.
        together: one median and scale for the whole image.
    """
    label = shown(target, target_inside, inside)
    if together or inside is None:
        return residual(pred, label, valid)
    error_inside = residual(pred, target_inside, inside & valid)
    return error_inside + residual(pred, target, ~inside & valid)


def spared(
    error: Float[Tensor, "b h w"],
    valid: Bool[Tensor, "b h w"],
    *,
    share: float,
    unit: str = "pixel",
) -> Bool[Tensor, "b h w"]:
    """The valid pixels that are left when the worst `share` of each image is dropped
    (arXiv:2406.09414 drops 10 %).

    Args:
        error: absolute error; what stands in invalid pixels does not matter.
        valid: pixels that count.
        share: in 0..1; of n valid pixels (or cells that hold one), floor(share * n) are dropped.
        unit: "pixel", or "region": cells of `CELL` x `CELL` pixels by their mean error, dropped
            whole.
    """
    if unit not in ("pixel", "region"):
        raise ConfigError(f"unit: {unit!r} is neither pixel nor region")
    if unit == "region":
        count = _cells(valid.float())
        total = _cells(error.detach().masked_fill(~valid, 0))
        mean = total / count.clamp_min(torch.finfo(count.dtype).tiny)
        kept = spared(mean, count > 0, share=share)
        kept = kept.repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)
        return valid & kept[:, : valid.shape[1], : valid.shape[2]]
    flat = error.detach().masked_fill(~valid, -1).flatten(1)
    counts = valid.flatten(1).sum(1, keepdim=True)
    rank = flat.argsort(dim=1, descending=True, stable=True).argsort(dim=1)  # 0: the worst
    return valid & (rank >= (share * counts).floor()).view_as(valid)


def _cells(x: Float[Tensor, "b h w"]) -> Float[Tensor, "b h2 w2"]:
    """Sums over cells, the last ones filled up with 0."""
    rows, columns = (-side % CELL for side in x.shape[1:])
    return F.avg_pool2d(F.pad(x, (0, columns, 0, rows))[:, None], CELL)[:, 0] * CELL**2


def gradient_matching(
    error: Float[Tensor, "b h w"],
    valid: Bool[Tensor, "b h w"],
    inside: Bool[Tensor, "b h w"] | None = None,
) -> Float[Tensor, " b"]:
    """Multi-scale gradient matching of each image (MiDaS, arXiv:1907.01341, eq. 11; V2's L_gm).

    The sum over `SCALES` of the mean over valid pixels of |dx r| + |dy r|, where scale k reads
    every 2^k-th pixel. Images too small for a scale end there.

    Args:
        error: the signed residual r.
        valid: a difference counts where both its pixels do.
        inside: regions that were normalised apart: a difference across their border says nothing
            and is left out.
    """
    region = torch.zeros_like(valid) if inside is None else inside
    result = torch.zeros(len(error), device=error.device)
    for k in range(SCALES):
        r, v, g = (x[:, :: 2**k, :: 2**k] for x in (error, valid, region))
        count = v.flatten(1).sum(1).clamp_min(1)
        for axis in (1, 2):
            r0, r1 = _neighbours(r, axis)
            v0, v1 = _neighbours(v, axis)
            g0, g1 = _neighbours(g, axis)
            step = torch.where(v0 & v1 & (g0 == g1), (r1 - r0).abs(), 0)
            result = result + step.flatten(1).sum(1) / count
    return result


def _neighbours(maps: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The first pixel of each pair of neighbours along an axis, and the second."""
    pairs = maps.shape[axis] - 1
    first = maps.narrow(axis, 0, pairs)
    second = maps.narrow(axis, 1, pairs)
    return first, second


def map_loss(
    error: Float[Tensor, "b h w"],
    valid: Bool[Tensor, "b h w"],
    *,
    inside: Bool[Tensor, "b h w"] | None = None,
    drop: float = 0.0,
    drop_unit: str = "pixel",
    gradient_weight: float = 0.0,
) -> Float[Tensor, " b"]:
    """Loss of each image from its residual: mean absolute value over what is spared, plus weighted
    gradient matching.

    Args:
        error, valid: the signed residual and its pixels.
        inside: regions that were normalised apart, see `gradient_matching`.
        drop, drop_unit: see `spared`; what is dropped is missing from both terms.
        gradient_weight: of the gradient matching; V2 has 2.
    """
    kept = spared(error.abs(), valid, share=drop, unit=drop_unit) if drop else valid
    count = kept.flatten(1).sum(1).clamp_min(1)
    loss = torch.where(kept, error.abs(), 0).flatten(1).sum(1) / count
    if gradient_weight:
        loss = loss + gradient_weight * gradient_matching(error, kept, inside)
    return loss


def scale_invariant_log(
    pred: Float[Tensor, "b h w"],
    target: Float[Tensor, "b h w"],
    valid: Bool[Tensor, "b h w"],
    *,
    share: float | int = LAMBDA,
) -> Float[Tensor, " b"]:
    """The scale-invariant log loss of each image, for networks of metres: the root of
    mean(d^2) - share * mean(d)^2 with d = ln(pred) - ln(target) over its valid pixels (Eigen et al.
    2014, eq. 4; the root is of BTS, arXiv:1907.10326, and of V2)::

        loss = scale_invariant_log(network(images)[0], 1 / disparity, valid & (disparity > 0)).mean()

    Each image has its own mean, however many pixels of it are valid, so that one with LiDAR on 2 % of
    them weighs as much as a dense one beside it. V2's script takes one mean over all valid pixels of
    a batch, in which it would weigh a fiftieth, and which is NaN where there are none. Here an image
    without valid pixels costs 0 and has no gradient.

    Labels may be sparse: that they are costs little. What makes such a training stall is told on the
    page "Fine-tune to metres".

    Args:
        pred: depth in metres, above 0.
        target: true depth in metres; what invalid pixels hold never matters, NaN included.
        valid: pixels to compare; those where the target is not a finite number above 0 are left out
            as well.
        share: lambda. 0 is the root mean square of d; 1 forgives a wrong scale altogether.

    Raises:
        ConfigError: the three shapes differ, or a `share` that is not in 0..1.
    """
    if not pred.shape == target.shape == valid.shape:
        raise ConfigError(
            f"pred {tuple(pred.shape)}, target {tuple(target.shape)} and valid "
            f"{tuple(valid.shape)} must have one shape"
        )
    if not 0 <= share <= 1:
        raise ConfigError(f"share: {share} must lie in 0..1")
    valid = valid & torch.isfinite(target) & (target > 0)
    count = valid.flatten(1).sum(1).clamp_min(1)
    guess = pred.float().masked_fill(~valid, 1).clamp_min(NEAREST_M)
    error = guess.log() - target.float().masked_fill(~valid, 1).log()  # (b, h, w), 0 where invalid
    mean = error.flatten(1).sum(1) / count
    centred = (error - mean[:, None, None]).masked_fill(~valid, 0)
    # mean(d^2) - share * mean(d)^2, without the difference of two large numbers
    square = centred.square().flatten(1).sum(1) / count + (1 - share) * mean.square()
    return torch.where(square > ROOT**2, square.clamp_min(ROOT**2).sqrt(), square / ROOT)
