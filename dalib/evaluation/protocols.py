"""How each data set is scored: crop, range of depth, and alignment in disparity space.

Caps and crops are those customary for each data set; the paper's authors state none. They stand in
`cards.yaml`, each with its source (`dalib.evaluation.cards`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dalib import strict_yaml
from dalib.config import check_names
from dalib.data.sources import DepthManifest
from dalib.errors import ConfigError, DataError
from dalib.evaluation.align import ALIGNMENTS, check_finite, check_shapes, least_squares
from dalib.evaluation.cards import CARDS, Card, sourced
from dalib.evaluation.metrics import MEANS, depth_metrics
from dalib.paths import realdepth

EIGEN = (45 / 480, 471 / 480, 41 / 640, 601 / 640)
"""Rows 45:471 and columns 41:601 of 480x640, as fractions (Eigen et al. 2014, for the white border
of NYUv2)."""
GARG = (0.40810811, 0.99189189, 0.03594771, 0.96405229)
"""Top, bottom, left, right as fractions (Garg et al. 2016, for KITTI)."""
SCALE = "scale"
"""Key of the scale that was fitted to each image, beside its metrics: ground truth's disparity per
predicted one."""


RESIZES = ("prediction, bilinear", "truth, nearest")
"""What is brought to the size of what: the prediction to that of the truth, or the other way."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How the pixels of a data set are scored. As text: its card.

    Args:
        name: for records and tables.
        min_depth: ground truth nearer than this does not count, metres (or the unit of the data
            set).
        max_depth: ground truth farther than this does not count, and predictions are clamped to it.
            None: all of the ground truth counts, and predictions are clamped to the farthest of it
            in the same image.
        crop: "eigen" or "garg" as fractions of the image; the rest does not count.
        bounds: "closed", ground truth at exactly min_depth or max_depth counts, or "open", it does
            not.
        frame: height and width of the whole image that the crop was made for. Images of another
            shape (height / width differs by more than 1 %) are taken for crops already, and not
            cropped again. None: every image is cropped.
        clamp: "far", no prediction is farther than max_depth (or the farthest truth of its image);
            "range", and none nearer than min_depth (or the nearest truth, where min_depth is 0). A
            prediction that was aligned in depth is always held to both ends, for it may be below 0.
        align: the alignment, one of `ALIGNMENTS`.
        mean: how the scores of images become one, one of `MEANS`.
        resize: what is brought to the size of what, one of `RESIZES`. `measure` takes maps of one
            size; whoever reads them resizes.
        truth, sky: in words, what the ground truth is and what becomes of the sky. Disparity 0 never
            counts, whatever they say.

    Raises:
        ConfigError: an entry of which there is no such value.
    """

    name: str
    min_depth: float | int = 1e-3
    max_depth: float | int | None = None
    crop: str | None = None
    bounds: str = "closed"
    frame: tuple[float | int, ...] | None = None
    clamp: str = "far"
    align: str = "disparity"
    mean: str = "images"
    resize: str = RESIZES[0]
    truth: str = "every valid pixel"
    sky: str = "never counts"

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
        choices = {
            "bounds": ("closed", "open"),
            "clamp": ("far", "range"),
            "align": tuple(ALIGNMENTS),
            "mean": MEANS,
            "resize": RESIZES,
        }
        for key, known in choices.items():
            check_names([getattr(self, key)], known, what=f"{key} of protocol {self.name!r}:")
        if self.frame is not None and (len(self.frame) != 2 or min(self.frame) <= 0):
            raise ConfigError(
                f"protocol {self.name!r}: frame {self.frame} must be a height and a width"
            )

    def crop_mask(self, height: int, width: int) -> Bool[Tensor, "H W"]:
        """True inside the crop. Edges are rounded to the nearest pixel for Eigen, down for Garg, as
        is customary. True everywhere where the image is no whole `frame`."""
        crop = self.crop if self.crops(height, width) else None
        top, bottom, left, right = {None: (0, 1, 0, 1), "eigen": EIGEN, "garg": GARG}[crop]
        edge = int if crop == "garg" else round
        mask = torch.zeros(height, width, dtype=torch.bool)
        mask[
            edge(top * height) : edge(bottom * height), edge(left * width) : edge(right * width)
        ] = True
        return mask

    def crops(self, height: int, width: int) -> bool:
        """Whether an image of this size is cropped."""
        if self.crop is None or self.frame is None:
            return self.crop is not None
        return abs(height / width * self.frame[1] / self.frame[0] - 1) <= SAME_SHAPE

    @property
    def in_metres(self) -> bool:
        """Whether it needs ground truth of known scale."""
        return self.min_depth > 0 or self.max_depth is not None

    @property
    def card(self) -> Card:
        """What is printed beside a number: every entry with its source, where it is the one of the
        card of this name in `cards.yaml`."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}
        return sourced(self.name, "depth", values)

    @property
    def hash(self) -> str:
        """Twelve hex digits of the entries; the name and the sources do not count."""
        return self.card.hash

    def with_alignment(self, name: str | None) -> "Protocol":
        """The same with another alignment, which makes it another protocol; None changes
        nothing."""
        return self if name is None else replace(self, align=name)

    def __str__(self) -> str:
        return str(self.card)


SAME_SHAPE = 0.01
"""By how much height / width may differ from that of a whole image."""


def of_card(card: Card) -> Protocol:
    """The protocol that a card of depth describes."""
    return Protocol(name=card.name, **card.values)


PROTOCOLS = {card.name: of_card(card) for card in CARDS.values() if card.scores == "depth"}
"""The protocols by name. `relative` is for ground truth of unknown scale."""


def scored(
    target_disparity: Float[Tensor, "B H W"], valid: Bool[Tensor, "B H W"], protocol: Protocol
) -> Bool[Tensor, "B H W"]:
    """The pixels that count: valid, not infinitely far, within the range of depth, inside the
    crop."""
    inside = protocol.crop_mask(*target_disparity.shape[1:]).to(valid.device)
    disparity = target_disparity.double()
    counts = valid & inside & (disparity > 0)
    inwards = 0.0 if protocol.bounds == "closed" else ROUNDING
    if protocol.min_depth > 0:
        counts &= disparity <= 1 / protocol.min_depth * (1 - inwards)
    if protocol.max_depth is not None:
        counts &= disparity >= 1 / protocol.max_depth * (1 + inwards)
    return counts


ROUNDING = 2.0**-22
"""What float32 may add to a disparity: where a bound itself does not count, nothing this close to
it does."""


def limits(
    target_disparity: Float[Tensor, "B H W"], scored: Bool[Tensor, "B H W"], protocol: Protocol
) -> tuple[Float[Tensor, "_ 1 1"], Float[Tensor, "_ 1 1"]]:
    """The least and the greatest disparity that predictions are held to: those of the range's far
    and near end, or of the farthest and the nearest truth of each image where the range has none.

    Args:
        target_disparity: float64.
        scored: the pixels that count.
        protocol: gives the range; what it says of `clamp` is for the caller to follow.

    Returns:
        float64, for each image or for all; 1 for an image of which nothing counts.
    """
    if protocol.max_depth is None:
        least = target_disparity.masked_fill(~scored, torch.inf).flatten(1).amin(1)
        # (B, 1, 1); 1 where nothing counts
        least = torch.where(torch.isfinite(least), least, 1)[:, None, None]
    else:
        least = target_disparity.new_full((1, 1, 1), 1 / protocol.max_depth)
    if protocol.min_depth == 0:
        most = target_disparity.masked_fill(~scored, 0).flatten(1).amax(1)
        most = torch.where(most > 0, most, 1)[:, None, None]
    else:
        most = target_disparity.new_full((1, 1, 1), 1 / protocol.min_depth)
    return least, most


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
        ConfigError: a protocol that aligns in another way; `dalib.evaluation.measure` knows all of
            them, and predictions of depth.
        ValueError: as `least_squares`; in particular a prediction that is NaN where it is scored.
    """
    if protocol.align != "disparity":
        raise ConfigError(
            f"protocol {protocol.name!r} aligns by {protocol.align!r}, and what is scored here is "
            "aligned in disparity; take dalib.evaluation.measure"
        )
    check_shapes(pred_disparity, target_disparity, valid)
    check_finite("target", torch.where(valid, target_disparity, 0).flatten(1))
    valid = scored(target_disparity, valid, protocol)
    target = target_disparity.double().masked_fill(~valid, 1)
    scale, shift = least_squares(pred_disparity, target, valid)
    least, most = limits(target, valid, protocol)
    aligned = scale[:, None, None] * pred_disparity.double() + shift[:, None, None]
    if protocol.clamp == "range":
        aligned = torch.minimum(aligned, most)
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


def collection(folder: Path, *, protocol: str | None = None) -> tuple[list[RealSet], list[str]]:
    """The data sets of a manifest, and what a reader should be told of them: what is left out, and
    what was chosen.

    Args:
        folder: holds the manifest; or a manifest by any name.
        protocol: of all of them, whatever is declared.

    A data set is called as in the column `dataset`, or like the folder where there is none. Its
    protocol and half stand in the columns `protocol` and `half`, or in `protocols.yaml`. Without
    either, the data sets in `HALVES` have the ones given there, and any other is scored as
    `relative`, which needs nothing known of it, in the half `table`.
    """
    if not folder.is_dir() and not folder.is_file():
        return [], []

    # the data sets, those of the paper first
    table = DepthManifest(folder)
    parts = table.by_dataset()
    ours = {
        name: (half, protocol) for half, sets in HALVES.items() for name, protocol in sets.items()
    }
    declared = {} if folder.is_file() else _declared(folder / DECLARED, parts)
    sets = []
    chosen = []
    apart = {}
    names = [n for n in ours if n in parts]
    names += [n for n in parts if n not in ours]

    # each by the protocol that is declared, or known, or needs nothing known
    for name in names:
        rows = parts[name].rows
        half, usual = ours.get(name, ("table", "relative"))
        said = _of_columns(table.manifest, name, rows)
        for key, entry in declared.get(name, {}).items():
            if said.setdefault(key, entry) != entry:
                where = f"{folder / DECLARED}: {key} of data set {name!r} is {entry}"
                raise ConfigError(f"{where}, but {said[key]} in {table.manifest.name}; keep one")
        if protocol is not None:
            said["protocol"] = protocol
        if name not in ours and "protocol" not in said:
            chosen.append(name)
        source, unknown = parts[name].with_known_offset()
        if unknown:
            apart[name] = unknown
        if source is None:
            continue
        taken = PROTOCOLS[said.get("protocol", usual)]
        half = said.get("half", half)
        if taken.name != "relative" and not source.scale_is_known():
            what = (
                f"rows of data set {name!r} have no known scale, which protocol {taken.name} needs"
            )
            raise ConfigError(
                f"{table.manifest}: {what}; declare protocol relative for it (column or {DECLARED})"
            )
        sets.append(RealSet(name=name, half=half, source=source, protocol=taken))
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
