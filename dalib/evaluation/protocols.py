"""How each data set is scored: crop, range of depth, and alignment in disparity space.

Caps and crops are those customary for each data set; the paper's authors state none.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dalib.data.sources import DepthManifest
from dalib.errors import ConfigError
from dalib.evaluation.align import check_finite, check_shapes, least_squares
from dalib.evaluation.metrics import depth_metrics
from dalib.paths import realdepth

EIGEN = (45 / 480, 471 / 480, 41 / 640, 601 / 640)
"""Rows 45:471 and columns 41:601 of 480x640, as fractions (Eigen et al. 2014, for the white border of NYUv2)."""
GARG = (0.40810811, 0.99189189, 0.03594771, 0.96405229)
"""Top, bottom, left, right as fractions (Garg et al. 2016, for KITTI)."""
SCALE = "scale"
"""Key of the scale that was fitted to each image, beside its metrics: ground truth's disparity per predicted one."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Which pixels of a data set count.

    Args:
        name: for records and tables.
        min_depth: ground truth nearer than this does not count, metres (or the unit of the data set).
        max_depth: ground truth farther than this does not count, and predictions are clamped to it. None: all of the
            ground truth counts, and predictions are clamped to the farthest of it in the same image.
        crop: "eigen" or "garg" as fractions of the image; the rest does not count.
    """

    name: str
    min_depth: float | int = 1e-3
    max_depth: float | int | None = None
    crop: str | None = None

    def __post_init__(self) -> None:
        if self.crop not in (None, "eigen", "garg"):
            raise ConfigError(f"crop of protocol {self.name!r} is {self.crop!r}; it must be None, 'eigen' or 'garg'")
        if not 0 <= self.min_depth < (self.max_depth or float("inf")):
            raise ConfigError(f"protocol {self.name!r}: min_depth {self.min_depth} must lie in 0..{self.max_depth}")

    def crop_mask(self, height: int, width: int) -> Bool[Tensor, "H W"]:
        """True inside the crop. Edges are rounded to the nearest pixel for Eigen, down for Garg, as is customary."""
        top, bottom, left, right = {None: (0, 1, 0, 1), "eigen": EIGEN, "garg": GARG}[self.crop]
        edge = int if self.crop == "garg" else round
        mask = torch.zeros(height, width, dtype=torch.bool)
        mask[edge(top * height) : edge(bottom * height), edge(left * width) : edge(right * width)] = True
        return mask


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol(name="relative", min_depth=0.0),
        Protocol(name="scenes", max_depth=80.0),
        Protocol(name="indoor", max_depth=10.0),
        Protocol(name="driving", max_depth=80.0),
        Protocol(name="nyuv2", max_depth=10.0, crop="eigen"),
        Protocol(name="kitti", max_depth=80.0, crop="garg"),
    )
}
"""`relative` is for ground truth of unknown scale."""


def scored(
    target_disparity: Float[Tensor, "B H W"], valid: Bool[Tensor, "B H W"], protocol: Protocol
) -> Bool[Tensor, "B H W"]:
    """The pixels that count: valid, not infinitely far, within the range of depth, inside the crop."""
    inside = protocol.crop_mask(*target_disparity.shape[1:]).to(valid.device)
    disparity = target_disparity.double()
    counts = valid & inside & (disparity > 0)
    if protocol.min_depth > 0:
        counts &= disparity <= 1 / protocol.min_depth
    if protocol.max_depth is not None:
        counts &= disparity >= 1 / protocol.max_depth
    return counts


def score(
    pred_disparity: Float[Tensor, "B H W"],
    target_disparity: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    protocol: Protocol,
) -> dict[str, Float[Tensor, " B"]]:
    """Metrics of each image: align in disparity over the pixels that count, clamp below at 1 / cap, invert, compare.

    The fitted scale may be below zero. Then the prediction has near and far the wrong way round and is scored as if it had them
    right; whoever sums up scores should count such images (`inverted`).

    Args:
        pred_disparity: up to scale and shift, of any precision.
        target_disparity: in 1/m or proportional to it; 0 (sky) never counts.
        valid: where there is ground truth.
        protocol: crop and range of depth.

    Returns:
        As `depth_metrics`, and the fitted `SCALE`; NaN for an image of which no pixel counts.

    Raises:
        ValueError: as `least_squares`; in particular a prediction that is NaN where it is scored.
    """
    check_shapes(pred_disparity, target_disparity, valid)
    check_finite("target", torch.where(valid, target_disparity, 0).flatten(1))
    valid = scored(target_disparity, valid, protocol)
    target = target_disparity.double().masked_fill(~valid, 1)
    scale, shift = least_squares(pred_disparity, target, valid)
    if protocol.max_depth is None:
        least = target.masked_fill(~valid, torch.inf).flatten(1).amin(1)
        least = torch.where(torch.isfinite(least), least, 1)[:, None, None]  # (B, 1, 1); 1 where nothing counts
    else:
        least = target.new_full((1, 1, 1), 1 / protocol.max_depth)
    aligned = scale[:, None, None] * pred_disparity.double() + shift[:, None, None]
    pred_depth = 1 / torch.where(valid, torch.maximum(aligned, least), 1)
    nothing_counts = ~valid.flatten(1).any(1)
    return depth_metrics(pred_depth, 1 / target, valid) | {SCALE: scale.masked_fill(nothing_counts, torch.nan)}


def inverted(scales: Iterable[float]) -> int:
    """How many images have a fitted scale below zero: their near and far are the wrong way round."""
    return sum(scale < 0 for scale in scales)


@dataclass(frozen=True, kw_only=True)
class RealSet:
    """One real data set: `half` "tune" may guide the design of the scenes, "table" is only ever reported."""

    name: str
    half: Literal["tune", "table"]
    source: DepthManifest
    protocol: Protocol


HALVES = {
    "tune": {"sunrgbd": "indoor", "tum": "indoor", "icl_nuim": "indoor", "habitat": "indoor", "nuscenes": "driving"},
    "table": {
        "nyuv2": "nyuv2",
        "kitti": "kitti",
        "redwood": "indoor",
        "middlebury": "indoor",
        "mvs_outdoor": "relative",
        "flyingthings3d": "relative",
    },
}
"""Data set -> name of its protocol, by half. Fixed before any result was seen."""


def real_sets() -> list[RealSet]:
    """The data sets of `../shared/realdepth`, rows with a known offset only; an empty list where it is absent."""
    folder = realdepth()
    if not folder.is_dir():
        return []
    return [
        RealSet(
            name=name,
            half=half,
            source=DepthManifest(folder, dataset=name, offset_known=True),
            protocol=PROTOCOLS[protocol],
        )
        for half, sets in HALVES.items()
        for name, protocol in sets.items()
    ]
