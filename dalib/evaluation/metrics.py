"""Depth metrics of each image. Their mean is taken over images, then over data sets; never over
pooled pixels, unless a protocol says so.

p is the prediction and t the truth, in the same unit, over the valid pixels of one image. Where
nothing else is said, a definition is that of Eigen et al. 2014 ("Depth map prediction from a single
image using a multi-scale deep network", section 4), which nearly all papers print:

- `abs_rel`: mean of abs(p - t) / t;
- `sq_rel`: mean of (p - t)^2 / t, in the unit of t; KITTI's devkit (evaluate_depth.cpp) divides by
  t^2;
- `rmse`: root of the mean of (p - t)^2, in the unit of t;
- `rmse_log`: root of the mean of (ln p - ln t)^2;
- `silog`: 100 times the root of the variance of ln p - ln t, in per cent, see `silog`;
- `log10`: mean of abs(log10 p - log10 t) (cleinc/bts:pytorch/bts_eval.py);
- `delta05`, `delta1`, `delta2`, `delta3`: share of pixels with max(p / t, t / p) < 1.25^k, for k =
  0.5, 1, 2, 3.

A perfect prediction has 1 in the deltas and 0 in the others.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dalib.config import check_names
from dalib.errors import ConfigError
from dalib.evaluation.align import check_finite, check_shapes, median

METRICS = ("abs_rel", "delta1", "delta2", "delta3", "rmse")
"""The five of the recorded study."""
ALL_METRICS = (
    "abs_rel",
    "sq_rel",
    "rmse",
    "rmse_log",
    "silog",
    "log10",
    "delta05",
    "delta1",
    "delta2",
    "delta3",
)
"""Every metric of depth, in the order of tables."""
BETTER = {name: "higher" if name.startswith("delta") else "lower" for name in ALL_METRICS}
"""Which way is better."""
LOG_BIAS = "log_bias"
"""Mean of ln p - ln t: how much too far, as a logarithm. No score, but what `silog` leaves out."""
PIXELS = "pixels"
"""How many pixels were scored."""
MEANS = ("images", "pixels", "median")
"""How the scores of images become one number, see `summarise`."""


def depth_metrics(
    pred_depth: Float[Tensor, "B H W"],
    target_depth: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    *,
    names: Sequence[str] = METRICS,
) -> dict[str, Float[Tensor, " B"]]:
    """Metrics of each image over its valid pixels, as defined at the top of this module.

    abs_rel = mean |p - t| / t; delta_k = share of pixels with max(p / t, t / p) < 1.25^k; rmse =
    sqrt(mean (p - t)^2), in the unit of the target (Eigen et al. 2014).

    Args:
        pred_depth: aligned depth, of any precision; the sums are float64.
        target_depth: ground truth in the same unit, positive where valid.
        valid: pixels to score; what the others hold never matters.
        names: which ones, of `ALL_METRICS` and `LOG_BIAS`; the five of the recorded study by
            default.

    Returns:
        float64 (B,) for each of `names`, in their order; NaN for an image without a valid pixel.

    Raises:
        ConfigError: an unknown name.
        ValueError: shapes that are not three times (B, H, W), a valid pixel that is NaN or
            infinite, or one that is not positive: two negative depths would have a perfect ratio.
    """
    check_names(names, (*ALL_METRICS, LOG_BIAS), what="metric")
    p, t, mean = _ready(pred_depth, target_depth, valid)
    return {name: _METRICS[name](p, t, mean) for name in names}


def silog(
    pred_depth: Float[Tensor, "B H W"],
    target_depth: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    *,
    lam: float | int = 1,
    root: bool = True,
    factor: float | int = 100,
) -> Float[Tensor, " B"]:
    """The scale-invariant logarithmic error: factor * sqrt(mean d^2 - lam * (mean d)^2) with d =
    ln p - ln t.

    Under one name stand several conventions. The defaults are those of BTS
    (cleinc/bts:pytorch/bts_eval.py) and Marigold (prs-eth/Marigold:src/util/metric.py). KITTI's
    devkit (evaluate_depth.cpp) has no factor (`factor=1`), and its table of results shows 100 times
    that. Eigen et al. 2014 (section 3.2) have the square, without a root (`root=False, factor=1`).
    lam = 0.5 is their *training loss* (section 3.3), which Depth Anything V2's metric code reports
    as a metric (`lam=0.5, factor=1`; DepthAnything/Depth-Anything-V2:metric_depth/util/metric.py).

    Args:
        pred_depth, target_depth, valid: as for `depth_metrics`.
        lam: how much of a common factor is forgiven, from 0 (none: RMSE log) to 1 (all of it).
        root: whether the root is taken.
        factor: the unit; 100 for per cent.

    Returns:
        float64 (B,), NaN for an image without a valid pixel.

    Raises:
        ConfigError: lam outside 0..1.
        ValueError: as `depth_metrics`.
    """
    if not 0 <= lam <= 1:
        raise ConfigError(f"lam: {lam} must lie in 0..1")
    p, t, mean = _ready(pred_depth, target_depth, valid)
    return _silog(p, t, mean, lam=lam, root=root, factor=factor)


Mean = Callable[[Tensor], Tensor]


def _ready(pred: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Mean]:
    """Both maps as float64 (B, H * W), 1 where they do not count, and the mean over what counts."""
    check_shapes(pred, target, valid)
    use = valid.flatten(1)  # (B, H, W) -> (B, H * W)
    p = pred.flatten(1).double().masked_fill(~use, 1)
    t = target.flatten(1).double().masked_fill(~use, 1)
    check_finite("prediction", p)
    check_finite("target", t)
    if (torch.minimum(p, t) <= 0).any():
        raise ValueError(
            "depth must be positive at valid pixels: align in disparity, clamp and invert first"
        )
    count = use.sum(1)

    def mean(x: Tensor) -> Tensor:
        return x.masked_fill(~use, 0).sum(1) / count  # 0 / 0 = NaN where nothing is valid

    return p, t, mean


def _abs_rel(p: Tensor, t: Tensor, mean: Mean) -> Tensor:
    return mean((p - t).abs() / t)


def _sq_rel(p: Tensor, t: Tensor, mean: Mean) -> Tensor:
    return mean((p - t).square() / t)


def _rmse(p: Tensor, t: Tensor, mean: Mean) -> Tensor:
    return mean((p - t).square()).sqrt()


def _rmse_log(p: Tensor, t: Tensor, mean: Mean) -> Tensor:
    return mean((p.log() - t.log()).square()).sqrt()


def _log_bias(p: Tensor, t: Tensor, mean: Mean) -> Tensor:
    return mean(p.log() - t.log())


def _silog(
    p: Tensor,
    t: Tensor,
    mean: Mean,
    *,
    lam: float | int = 1,
    root: bool = True,
    factor: float | int = 100,
) -> Tensor:
    d = p.log() - t.log()
    bias = mean(d)
    # centred first: mean d^2 - (mean d)^2 would cancel, and could fall below zero
    square = mean((d - bias[:, None]).square()) + (1 - lam) * bias.square()
    return factor * (square.sqrt() if root else square)


def _log10(p: Tensor, t: Tensor, mean: Mean) -> Tensor:
    return mean((p.log10() - t.log10()).abs())


def _delta(power: float | int) -> Callable[[Tensor, Tensor, Mean], Tensor]:
    def share(p: Tensor, t: Tensor, mean: Mean) -> Tensor:
        ratio = torch.maximum(p / t, t / p)
        return mean((ratio < 1.25**power).double())

    return share


_METRICS = {
    "abs_rel": _abs_rel,
    "sq_rel": _sq_rel,
    "rmse": _rmse,
    "rmse_log": _rmse_log,
    "silog": _silog,
    "log10": _log10,
    "delta05": _delta(0.5),
    "delta1": _delta(1),
    "delta2": _delta(2),
    "delta3": _delta(3),
    LOG_BIAS: _log_bias,
}


def by_depth(
    pred_depth: Float[Tensor, "B H W"],
    target_depth: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    *,
    edges: Sequence[float | int],
    names: Sequence[str] = METRICS,
) -> dict[str, Float[Tensor, "B bins"]]:
    """The metrics of each image apart for near and far: over the pixels whose *true* depth lies in
    each bin.

    Args:
        pred_depth, target_depth, valid, names: as for `depth_metrics`.
        edges: of the bins, growing, in the unit of the target; the last may be infinite. A bin
            holds its lower edge and not its upper one, the last bin holds both.

    Returns:
        float64 (B, bins) for each of `names`, NaN for an image without a pixel in a bin; and
        `PIXELS`, how many there are.

    Raises:
        ConfigError: fewer than two edges, or edges that do not grow.
        ValueError: as `depth_metrics`.
    """
    edges = [float(e) for e in edges]
    if len(edges) < 2 or not all(a < b for a, b in pairwise(edges)):
        raise ConfigError(f"edges: {edges} must be two or more growing depths")
    check_shapes(pred_depth, target_depth, valid)
    found: dict[str, list[Tensor]] = {name: [] for name in (*names, PIXELS)}
    last = len(edges) - 2
    for k, (low, high) in enumerate(pairwise(edges)):
        below = target_depth <= high if k == last else target_depth < high
        inside = valid & (target_depth >= low) & below
        part = depth_metrics(pred_depth, target_depth, inside, names=names)
        for name, value in (part | {PIXELS: inside.flatten(1).sum(1).double()}).items():
            found[name].append(value)
    return {name: torch.stack(values, 1) for name, values in found.items()}


def summarise(
    found: Mapping[str, Sequence[float] | Float[Tensor, " N"]],
    *,
    mean: str = "images",
    names: Iterable[str] | None = None,
) -> dict[str, float]:
    """One number for each metric, of the scores of many images.

    Args:
        found: metric -> its value on each image, NaN for those without a score.
        mean: "images", the mean over the images that have a score; "median", their median;
            "pixels", the metric as if all pixels were those of one image, which needs `PIXELS`, and
            for `silog` also `LOG_BIAS`, among what is found.
        names: which of them; by default those of `ALL_METRICS` that are there.

    Returns:
        Metric -> number; NaN where no image has a score.

    Raises:
        ConfigError: an unknown mean, or something that it needs and that was not found.
    """
    check_names([mean], MEANS, what="mean")
    names = [n for n in ALL_METRICS if n in found] if names is None else list(names)
    check_names(names, found, what="metric")
    if mean != "pixels":
        return {name: _middle(_column(found, name), mean) for name in names}
    needed = [PIXELS] + [LOG_BIAS] * ("silog" in names)
    missing = [n for n in needed if n not in found]
    if missing:
        raise ConfigError(f"mean: over pixels needs {' and '.join(missing)} of each image")
    weight = _column(found, PIXELS)
    return {name: _pooled(found, name, weight) for name in names}


def _column(found: Mapping[str, Sequence[float] | Tensor], name: str) -> Float[Tensor, " N"]:
    return torch.as_tensor(found[name], dtype=torch.float64)


def _middle(values: Float[Tensor, " N"], mean: str) -> float:
    values = values[~values.isnan()]
    if not len(values):
        return math.nan
    if mean == "images":
        return float(values.mean())
    return float(median(values))


def _pooled(
    found: Mapping[str, Sequence[float] | Tensor], name: str, weight: Float[Tensor, " N"]
) -> float:
    """A metric over the pixels of all images, from those of each."""
    values = _column(found, name)
    use = ~values.isnan() & (weight > 0)
    if not use.any():
        return math.nan
    share = weight[use] / weight[use].sum()
    values = values[use]
    if name in ("rmse", "rmse_log"):
        return float((share * values.square()).sum().sqrt())
    if name == "silog":  # the variance within images, and that of their means
        bias = _column(found, LOG_BIAS)[use]
        between = (share * (bias - (share * bias).sum()).square()).sum()
        return float(100 * ((share * (values / 100).square()).sum() + between).sqrt())
    return float((share * values).sum())
