"""Depth metrics of each image. Their mean is taken over images, then over data sets; never over
pooled pixels."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dalib.evaluation.align import check_finite, check_shapes

METRICS = ("abs_rel", "delta1", "delta2", "delta3", "rmse")


def depth_metrics(
    pred_depth: Float[Tensor, "B H W"],
    target_depth: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
) -> dict[str, Float[Tensor, " B"]]:
    """AbsRel, delta1..3 and RMSE of each image over its valid pixels (Eigen et al. 2014).

    abs_rel = mean |p - t| / t; delta_k = share of pixels with max(p / t, t / p) < 1.25^k; rmse =
    sqrt(mean (p - t)^2), in the unit of the target.

    Args:
        pred_depth: aligned depth, of any precision; the sums are float64.
        target_depth: ground truth in the same unit, positive where valid.
        valid: pixels to score; what the others hold never matters.

    Returns:
        float64 (B,) for each of `METRICS`, NaN for an image without a valid pixel.

    Raises:
        ValueError: shapes that are not three times (B, H, W), a valid pixel that is NaN or
            infinite, or one that is not positive: two negative depths would have a perfect ratio.
    """
    check_shapes(pred_depth, target_depth, valid)
    use = valid.flatten(1)  # (B, H, W) -> (B, H * W)
    p = pred_depth.flatten(1).double().masked_fill(~use, 1)
    t = target_depth.flatten(1).double().masked_fill(~use, 1)
    check_finite("prediction", p)
    check_finite("target", t)
    if (torch.minimum(p, t) <= 0).any():
        raise ValueError(
            "depth must be positive at valid pixels: align in disparity, clamp and invert first"
        )
    count = use.sum(1)

    def mean(x: Tensor) -> Tensor:
        return x.masked_fill(~use, 0).sum(1) / count  # 0 / 0 = NaN where nothing is valid

    ratio = torch.maximum(p / t, t / p)
    deltas = {f"delta{k}": mean((ratio < 1.25**k).double()) for k in (1, 2, 3)}
    return {"abs_rel": mean((p - t).abs() / t), **deltas, "rmse": mean((p - t).square()).sqrt()}
