"""How each data set is scored: crop, range of depth, and alignment in disparity space.

Caps and crops are those customary for each data set; the paper's authors state none.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dalib import strict_yaml
from dalib.config import check_names
from dalib.data.sources import DepthManifest
from dalib.errors import ConfigError, DataError
from dalib.evaluation.align import check_finite, check_shapes, least_squares
from dalib.evaluation.metrics import depth_metrics
from dalib.paths import realdepth

EIGEN = (45 / 480, 471 / 480, 41 / 640, 601 / 640)
"""Rows 45:471 and columns 41:601 of 480x640, as fractions (Eigen et al. 2014, for the white border
of NYUv2)."""
GARG = (0.40810811, 0.99189189, 0.03594771, 0.96405229)
"""Top, bottom, left, right as fractions (Garg et al. 2016, for KITTI)."""
SCALE = "scale"
"""Key of the scale that was fitted to each image, beside its metrics: ground truth's disparity per
predicted one."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Which pixels of a data set count.

    Args:
        name: for records and tables.
        min_depth: ground truth nearer than this does not count, metres (or the unit of the data
            set).
        max_depth: ground truth farther than this does not count, and predictions are clamped to it.
            None: all of the ground truth counts, and predictions are clamped to the farthest of it
            in the same image.
        crop: "eigen" or "garg" as fractions of the image; the rest does not count.
    """

    name: str
    min_depth: float | int = 1e-3
    max_depth: float | int | None = None
    crop: str | None = None

    def __post_init__(self) -> None:
        if self.crop not in (None, "eigen", "garg"):
            raise ConfigError(
                f"crop of protocol {self.name!r} is {self.crop!r}; it must be None, "
                "'eigen' or 'garg'"
            )
        if not 0 <= self.min_depth < (self.max_depth or float("inf")):
            raise ConfigError(
                f"protocol {self.name!r}: min_depth {self.min_depth} must lie in "
                f"0..{self.max_depth}"
            )

    def crop_mask(self, height: int, width: int) -> Bool[Tensor, "H W"]:
        """True inside the crop. Edges are rounded to the nearest pixel for Eigen, down for Garg, as
        is customary."""
        top, bottom, left, right = {None: (0, 1, 0, 1), "eigen": EIGEN, "garg": GARG}[self.crop]
        edge = int if self.crop == "garg" else round
        mask = torch.zeros(height, width, dtype=torch.bool)
        mask[
            edge(top * height) : edge(bottom * height), edge(left * width) : edge(right * width)
        ] = True
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
    """The pixels that count: valid, not infinitely far, within the range of depth, inside the
    crop."""
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
    """Metrics of each image: align in disparity over the pixels that count, clamp below at 1 / cap,
    invert, compare.

    The fitted scale may be below zero. Then the prediction has near and far the wrong way round and
    is scored as if it had them right; whoever sums up scores should count such images (`inverted`).

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
        # (B, 1, 1); 1 where nothing counts
        least = torch.where(torch.isfinite(least), least, 1)[:, None, None]
    else:
        least = target.new_full((1, 1, 1), 1 / protocol.max_depth)
    aligned = scale[:, None, None] * pred_disparity.double() + shift[:, None, None]
    pred_depth = 1 / torch.where(valid, torch.maximum(aligned, least), 1)
    nothing_counts = ~valid.flatten(1).any(1)
    return depth_metrics(pred_depth, 1 / target, valid) | {
        SCALE: scale.masked_fill(nothing_counts, torch.nan)
    }


def inverted(scales: Iterable[float]) -> int:
    """How many images have a fitted scale below zero: their near and far are the wrong way
    round."""
    return sum(scale < 0 for scale in scales)


@dataclass(frozen=True, kw_only=True)
class RealSet:
    """One real data set: `half` "tune" may guide the design of the scenes, "table" is only ever
    reported."""

    name: str
    half: Literal["tune", "table"]
    source: DepthManifest
    protocol: Protocol


HALVES = {
    "tune": {
        "sunrgbd": "indoor",
        "tum": "indoor",
        "icl_nuim": "indoor",
        "habitat": "indoor",
        "nuscenes": "driving",
    },
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


DECLARED = "protocols.yaml"
"""Beside a manifest: `DATA SET: {protocol: NAME, half: NAME}`, for manifests without such
columns."""


def real_sets() -> list[RealSet]:
    """The data sets of the collection of real images, rows with a known offset only; an empty list
    where it is absent.

    Raises:
        ConfigError: an unknown protocol, half or data set in the manifest or in `protocols.yaml`,
            or `DALIB_REALDEPTH` set to something else than such a folder.
        DataError: as `DepthManifest`, or no row that can be scored.
    """
    return collection(realdepth())[0]


def collection(folder: Path) -> tuple[list[RealSet], list[str]]:
    """The data sets of a manifest, and what a reader should be told of them: what is left out, and
    what was chosen.

    A data set is called as in the column `dataset`, or like the folder where there is none. Its
    protocol and half stand in the columns `protocol` and `half`, or in `protocols.yaml`. Without
    either, the data sets in `HALVES` have the ones given there, and any other is scored as
    `relative`, which needs nothing known of it, in the half `table`.
    """
    if not folder.is_dir():
        return [], []

    # the data sets, those of the paper first
    table = DepthManifest(folder)
    parts = table.by_dataset()
    ours = {
        name: (half, protocol) for half, sets in HALVES.items() for name, protocol in sets.items()
    }
    declared = _declared(folder / DECLARED, parts)
    sets = []
    chosen = []
    apart = {}
    names = [n for n in ours if n in parts]
    names += [n for n in parts if n not in ours]

    # each by the protocol that is declared, or known, or needs nothing known
    for name in names:
        rows = parts[name].rows
        half, protocol = ours.get(name, ("table", "relative"))
        said = _of_columns(table.manifest, name, rows)
        for key, entry in declared.get(name, {}).items():
            if said.setdefault(key, entry) != entry:
                where = f"{folder / DECLARED}: {key} of data set {name!r} is {entry}"
                raise ConfigError(f"{where}, but {said[key]} in {table.manifest.name}; keep one")
        if name not in ours and "protocol" not in said:
            chosen.append(name)
        source, unknown = parts[name].with_known_offset()
        if unknown:
            apart[name] = unknown
        if source is None:
            continue
        protocol = PROTOCOLS[said.get("protocol", protocol)]
        half = said.get("half", half)
        if protocol.name != "relative" and not source.scale_is_known():
            what = (
                f"rows of data set {name!r} have no known scale, which protocol "
                f"{protocol.name} needs"
            )
            raise ConfigError(
                f"{table.manifest}: {what}; declare protocol relative for it (column or {DECLARED})"
            )
        sets.append(RealSet(name=name, half=half, source=source, protocol=protocol))
    if not sets:
        raise DataError(
            f"{table.manifest}: no row has a known offset, so none can be scored; see offset_known"
        )

    # what a reader should know
    notes = []
    if apart:
        counts = ", ".join(f"{count} of {name}" for name, count in apart.items())
        notes.append(f"{table.manifest}: rows of unknown offset are not scored: {counts}")
    if chosen:
        how = f"declare another in a column protocol or in {DECLARED}"
        notes.append(
            f"{table.manifest}: scored by the protocol relative (no crop, no cap): "
            f"{', '.join(chosen)}; {how}"
        )
    return sets, notes


def _of_columns(manifest: Path, name: str, rows: list[dict[str, str]]) -> dict[str, str]:
    """What the columns `protocol` and `half` say of a data set, empty entries aside."""
    said = {}
    for column, known in (("protocol", PROTOCOLS), ("half", HALVES)):
        entries = sorted({row[column] for row in rows if row.get(column)})
        check_names(entries, known, what=f"{column} of data set {name!r} in {manifest}:")
        if len(entries) > 1:
            raise ConfigError(
                f"{manifest}: data set {name!r} has several entries of {column}: "
                f"{', '.join(entries)}; keep one"
            )
        if entries:
            said[column] = entries[0]
    return said


def _declared(path: Path, known: Iterable[str]) -> dict[str, dict[str, str]]:
    """What `protocols.yaml` says of each data set; nothing where there is no such file."""
    if not path.is_file():
        return {}
    tree = strict_yaml.read(path)
    if not isinstance(tree, dict) or not all(isinstance(entry, dict) for entry in tree.values()):
        raise ConfigError(
            f"{path}: write one line for each data set, DATA SET: {{protocol: NAME, half: NAME}}"
        )
    said = {
        str(name): {str(key): str(value) for key, value in entry.items()}
        for name, entry in tree.items()
    }
    check_names(said, known, what=f"data set in {path}:")
    for name, entry in said.items():
        check_names(entry, ("protocol", "half"), what=f"entry of data set {name!r} in {path}:")
        for key, names in (("protocol", PROTOCOLS), ("half", HALVES)):
            check_names(
                [entry[key]] if key in entry else [],
                names,
                what=f"{key} of data set {name!r} in {path}:",
            )
    return said
