"""Every decision between a prediction and its score, as one record, and the scores that it leads to.

`dalib.evaluation.measure` computes what a protocol says, and refuses what is a mistake. Here the
ways that other people score are computed as they compute them, mistakes included, so that their
numbers can be compared with ours (`dalib.evaluation.conventions`).
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dalib.config import check_names
from dalib.data.schema import Source
from dalib.errors import ConfigError, DataError
from dalib.evaluation.align import ALIGNMENTS, Alignment, fit
from dalib.evaluation.measure import KINDS
from dalib.evaluation.protocols import EIGEN, GARG, PROTOCOLS, ROUNDING, SAME_SHAPE, Protocol

FITS = {
    **ALIGNMENTS,
    "disparity_scale": Alignment(
        name="disparity_scale", space="disparity", parameters="scale", source="Junyi42/monst3r#7"
    ),
    "absolute": Alignment(
        name="absolute",
        space="disparity",
        parameters="scale_shift",
        fit="absolute",
        source="Junyi42/monst3r:dust3r/depth_eval.py",
    ),
    "ends": Alignment(
        name="ends",
        space="disparity",
        parameters="scale_shift",
        fit="ends",
        source="SoccerNet/sn-depth#2",
    ),
    "mixed": Alignment(name="mixed", space="mixed", parameters="scale_shift"),
}
"""The alignments, and what else is done: a scale alone in disparity, the least sum of absolute
errors, the ends of the range brought to those of the truth, and the mistake of fitting a prediction
as it is to truth of another kind."""

CROPS = {
    "none": ((0.0, 1.0, 0.0, 1.0), round),
    "eigen": (EIGEN, round),
    "eigen_matlab": ((44 / 480, 471 / 480, 40 / 640, 601 / 640), round),
    "nyu_monodepth2": ((20 / 480, 459 / 480, 24 / 640, 615 / 640), round),
    "garg": (GARG, int),
    "eigen_kitti": ((0.3324324, 0.91351351, 0.0359477, 0.96405229), int),
    "border": ((0.05, 0.95, 0.05, 0.95), round),
}
"""Top, bottom, left and right as fractions, and how they become pixels."""
RESIZES = ("bilinear", "nearest", "align_corners", "bicubic", "other_kind", "truth")
"""How prediction and truth come to one size. `other_kind`: bilinear, but of the depth where the
network predicts disparity (and the other way). `truth`: the truth to the size of the prediction, by
the nearest pixel."""
METRICS = (
    "abs_rel",
    "sq_rel",
    "rmse",
    "rmse_log",
    "log10",
    "delta05",
    "delta1",
    "delta2",
    "delta3",
)
"""What can be scored here."""
SQUARES = ("rmse", "rmse_log")
"""Metrics whose squares are means over pixels."""
FLOOR = 1e-3
"""A prediction of disparity that is turned into depth before anything is fitted is held to this
share of the image's largest value, since zero has no depth. Scripts add a small number or clip,
each its own; this one is ours, and does not depend on the scale."""
COARSE = 64
"""Pixels along the longer side to which a coarse fit is thinned out."""


Samples = Source | Sequence[Mapping[str, Any]]
# the truth of each image: `disparity` (H, W) and `valid` (H, W), see `dalib.data.schema`


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to score, from the network's output to one number. `of_protocol` makes the one that a
    protocol describes.

    Args:
        flip: whether the prediction is the mean with that of the mirrored image.
        stored: "float", or "8 bit" or "16 bit": scaled to whole numbers between each map's ends.
        resize: one of `RESIZES`.
        resolution: "full", or "half": scored at half the height and width, the truth by the nearest
            pixel.
        crop: one of `CROPS`.
        frame: height and width of the whole images that a crop is made for; None: of any.
        min_depth, max_depth: the range of truth that counts; None: no cap.
        bounds: whether the ends of the range count, "closed" or "open".
        beyond: what becomes of truth beyond the cap, and of sky: "dropped", or "at cap".
        unknown: what becomes of pixels without truth: "dropped", or "nearest": they count as the
            near end of the range, as when a stored 0 is clipped.
        fit: one of `FITS`.
        fit_over: the pixels of the fit: "scored"; "valid", all that have truth, before crop and
            range; "positive", those that are scored and where the prediction is above 0; "coarse",
            every n-th of those that are scored.
        fit_scope: what shares one fit: "image", "sequence" or "set".
        clamp: after the fit: "far", to the cap (or the farthest truth of the image where there is
            none); "farthest", to the farthest truth of the image; "both", also to the near end;
            "none", not at all. A prediction that was fitted in depth is held to both ends unless it
            is "none", as in `measure`.
        quantity: what is compared, "depth" or "disparity".
        inclusive: whether a ratio of exactly the threshold counts as good.
        mean: "images", "pixels", "median" (of the images) or "sequences" (of each sequence, then
            over them).
    """

    flip: bool = False
    stored: str = "float"
    resize: str = "bilinear"
    resolution: str = "full"
    crop: str = "none"
    frame: tuple[float | int, float | int] | None = None
    min_depth: float | int = 0.0
    max_depth: float | int | None = None
    bounds: str = "closed"
    beyond: str = "dropped"
    unknown: str = "dropped"
    fit: str = "disparity"
    fit_over: str = "scored"
    fit_scope: str = "image"
    clamp: str = "far"
    quantity: str = "depth"
    inclusive: bool = False
    mean: str = "images"

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            check_names([getattr(self, name)], known, what=f"{name} of a recipe:")

    def with_(self, changes: Mapping[str, Any]) -> "Recipe":
        """The same with other entries."""
        check_names(changes, FIELDS, what="entry of a recipe:")
        return replace(self, **changes)

    @property
    def possible(self) -> bool:
        """Whether one fit can be shared as this says: least squares can, of one space."""
        how = FITS[self.fit]
        return self.fit_scope == "image" or (
            how.parameters == "scale_shift" and how.fit == "least_squares"
        )


CHOICES = {
    "stored": ("float", "8 bit", "16 bit"),
    "resize": RESIZES,
    "resolution": ("full", "half"),
    "crop": tuple(CROPS),
    "bounds": ("closed", "open"),
    "beyond": ("dropped", "at cap"),
    "unknown": ("dropped", "nearest"),
    "fit": tuple(FITS),
    "fit_over": ("scored", "valid", "positive", "coarse"),
    "fit_scope": ("image", "sequence", "set"),
    "clamp": ("far", "farthest", "both", "none"),
    "quantity": ("depth", "disparity"),
    "mean": ("images", "pixels", "median", "sequences"),
}
"""Entry of a `Recipe` -> what it may be, where that is a word."""
FIELDS = tuple(f.name for f in fields(Recipe))


def of_protocol(protocol: Protocol | str, *, alignment: str | None = None) -> Recipe:
    """What a protocol describes, as a recipe; its scores are those of
    `dalib.evaluation.measure.measure`.

    Args:
        protocol: its name, or your own.
        alignment: in place of the protocol's own.
    """
    if not isinstance(protocol, Protocol):
        check_names([protocol], PROTOCOLS, what="protocol")
        protocol = PROTOCOLS[protocol]
    protocol = protocol.with_alignment(alignment)
    return Recipe(
        resize="truth" if protocol.resize.startswith("truth") else "bilinear",
        crop=protocol.crop or "none",
        frame=protocol.frame,
        min_depth=protocol.min_depth,
        max_depth=protocol.max_depth,
        bounds=protocol.bounds,
        fit=protocol.align,
        clamp={"far": "far", "range": "both"}[protocol.clamp],
        mean=protocol.mean,
    )


# ---- one image


@dataclass(kw_only=True)
class Picture:
    """One image's prediction and truth.

    Attributes:
        name: for messages.
        pred: float64 (h, w), of any size.
        mirrored: the prediction for the mirrored image, turned back, of the size of `pred`; or None.
        truth: disparity, float64 (H, W), 0 = infinitely far.
        valid: bool (H, W).
        group: the sequence that it belongs to.
    """

    name: str
    pred: Float[Tensor, "h w"]
    mirrored: Float[Tensor, "h w"] | None
    truth: Float[Tensor, "H W"]
    valid: Tensor
    group: Hashable = None
    _small: dict = field(default_factory=dict)
    _large: dict = field(default_factory=dict)

    def once(self, key: tuple, make: Any) -> Any:
        """What was made under this key, made now if nobody has."""
        if key not in self._small:
            self._small[key] = make()
        return self._small[key]

    def last(self, stage: str, key: tuple, make: Any) -> Any:
        """The same for what is large: of each stage only the last is kept."""
        known, value = self._large.get(stage, (None, None))
        if known != key:
            value = make()
            self._large[stage] = key, value
        return value


Maps = tuple[Tensor, Tensor, Tensor]
# prediction, true disparity and where there is truth, of one size


def _sized(picture: Picture, kind: str, r: Recipe) -> Maps:
    """Prediction and truth as they come to one size."""
    pred = picture.pred
    if r.flip:
        if picture.mirrored is None:
            raise ConfigError("flip averaging needs the predictions for the mirrored images")
        pred = (pred + picture.mirrored) / 2
    pred = _stored(pred, r.stored)
    truth, valid = picture.truth, picture.valid
    if r.resize == "truth":
        size = tuple(pred.shape)
        truth, valid = _nearest(truth, size), _nearest(valid.double(), size) > 0
    if r.resolution == "half":
        truth, valid = truth[::2, ::2], valid[::2, ::2]
    return _resized(pred, tuple(truth.shape), kind, r.resize), truth, valid


def _stored(pred: Tensor, how: str) -> Tensor:
    """A map after it was kept as whole numbers between its ends."""
    if how == "float":
        return pred
    levels = {"8 bit": 255, "16 bit": 65535}[how]
    low, high = pred.min(), pred.max()
    if high <= low:
        return pred
    return ((pred - low) / (high - low) * levels).floor() / levels * (high - low) + low


def _nearest(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x[None, None], size, mode="nearest")[0, 0]


def _resized(pred: Tensor, size: tuple[int, ...], kind: str, how: str) -> Tensor:
    if tuple(pred.shape) == size:
        return pred
    if how == "nearest":
        return _nearest(pred, size)
    if how == "bicubic":
        return F.interpolate(pred[None, None], size, mode="bicubic", align_corners=False)[0, 0]
    if how == "other_kind":
        other = "disparity" if kind == "depth" else "depth"
        away = _brought(pred, kind, other)
        back = F.interpolate(away[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        return _brought(back, other, kind)
    corners = how == "align_corners"
    return F.interpolate(pred[None, None], size, mode="bilinear", align_corners=corners)[0, 0]


def _brought(x: Tensor, kind: str, space: str) -> Tensor:
    """A prediction in another space; what would have no depth there is held to `FLOOR`."""
    if kind == space:
        return x
    if kind == "log_depth":
        return x.exp() if space == "depth" else (-x).exp()
    x = x.clamp(min=FLOOR * float(x.max())) if x.numel() else x
    return x.log() if kind == "depth" and space == "log_depth" else _from_disparity(x, kind, space)


def _from_disparity(x: Tensor, kind: str, space: str) -> Tensor:
    return -x.log() if kind == "disparity" and space == "log_depth" else 1 / x


def crop_mask(size: tuple[int, ...], crop: str, frame: tuple | None) -> Tensor:
    """True inside a crop; everywhere where the image is no whole `frame`."""
    height, width = size
    whole = frame is None or abs(height / width * frame[1] / frame[0] - 1) <= SAME_SHAPE
    (top, bottom, left, right), edge = CROPS[crop if whole else "none"]
    mask = torch.zeros(height, width, dtype=torch.bool)
    rows = slice(edge(top * height), edge(bottom * height))
    mask[rows, edge(left * width) : edge(right * width)] = True
    return mask


@dataclass(frozen=True, kw_only=True)
class _Counted:
    """The pixels that count, in one row: prediction and true disparity, those of the fit, and the
    ends of the range as disparities."""

    pred: Tensor
    truth: Tensor
    fit_pred: Tensor
    fit_truth: Tensor
    least: float
    most: float
    farthest: float


def _counted(maps: Maps, r: Recipe) -> _Counted:
    pred, truth, valid = maps
    inside = crop_mask(tuple(truth.shape), r.crop, r.frame)
    inwards = 0.0 if r.bounds == "closed" else ROUNDING
    near = 1 / r.min_depth if r.min_depth > 0 else math.inf
    far = 1 / r.max_depth if r.max_depth is not None else 0.0

    # truth that counts as it is, and the ends of the range, as `protocols.limits` has them
    within = valid & (truth > 0) & (truth <= near * (1 - inwards)) & (truth >= far * (1 + inwards))
    scored = within & inside
    seen = truth[scored]
    farthest = float(seen.min()) if seen.numel() else 1.0
    least = far if r.max_depth is not None else farthest
    most = near if r.min_depth > 0 else (float(seen.max()) if seen.numel() else 1.0)

    # truth that is moved into the range
    target = truth
    if r.beyond == "at cap":
        beyond = valid & (truth < (far if r.max_depth is not None else least))
        target = torch.where(beyond, least, target)
        scored = scored | (beyond & inside)
    if r.unknown == "nearest":
        target = torch.where(valid, target, most)
        scored = scored | (~valid & inside)

    # the pixels of the fit
    fitted = scored
    if r.fit_over == "valid":
        fitted = valid & (truth > 0)
    elif r.fit_over == "positive":
        fitted = scored & (pred > 0)
    elif r.fit_over == "coarse":
        step = math.ceil(max(truth.shape) / COARSE)
        grid = torch.zeros_like(scored)
        grid[::step, ::step] = True
        fitted = scored & grid
    return _Counted(
        pred=pred[scored],
        truth=target[scored],
        fit_pred=pred[fitted],
        fit_truth=target[fitted],
        least=least,
        most=most,
        farthest=farthest,
    )


def _space(how: Alignment, kind: str) -> tuple[str, str]:
    """The space of the prediction and that of the truth in a fit."""
    if how.space == "mixed":
        return kind, "disparity" if kind == "depth" else "depth"
    space = how.space or kind
    return space, space


def _of_truth(disparity: Tensor, space: str) -> Tensor:
    if space == "disparity":
        return disparity
    return 1 / disparity if space == "depth" else -disparity.log()


def _line(how: Alignment, p: Tensor, t: Tensor) -> tuple[float, float]:
    """Scale and shift of one image; 0 and 0 where there is nothing to fit, NaN where the fit does
    not exist."""
    if not p.numel():
        return 0.0, 0.0
    if how.fit == "absolute":
        return least_absolute(p, t)
    if how.fit == "ends":
        spread = float(p.max() - p.min())
        scale = float(t.max() - t.min()) / spread if spread > 0 else 0.0
        return scale, float(t.min()) - scale * float(p.min())
    row = p[None, None], t[None, None]
    try:
        scale, shift = fit(*row, torch.ones_like(row[0], dtype=torch.bool), how)
    except ValueError:  # a median that is not above 0
        return math.nan, math.nan
    return float(scale), float(shift)


def least_absolute(
    p: Float[Tensor, " N"], t: Float[Tensor, " N"], *, steps: int = 50
) -> tuple[float, float]:
    """The (scale, shift) with the least sum of absolute errors, nearly: by least squares that are
    weighted anew, each pixel by one over its error, from the fit of least squares on. The scripts
    that fit so descend by steps of their own and end near it, too.

    Args:
        p, t: float64, at least one value.
        steps: how often it is weighted.
    """
    centre = p.mean()
    x = p - centre
    weight = torch.ones_like(p)
    scale = shift = p.new_zeros(())
    for _ in range(steps):
        total = weight.sum()
        mean_x, mean_t = (weight * x).sum() / total, (weight * t).sum() / total
        variance = (weight * (x - mean_x).square()).sum()
        covariance = (weight * (x - mean_x) * (t - mean_t)).sum()
        scale = covariance / variance if variance > 0 else torch.zeros_like(variance)
        shift = mean_t - scale * mean_x
        residual = (scale * x + shift - t).abs()
        tiny = 1e-6 * residual.mean() + 1e-300
        weight = 1 / residual.clamp(min=float(tiny))
    return float(scale), float(shift - scale * centre)


def _depth(c: _Counted, kind: str, r: Recipe, line: tuple[float, float]) -> Tensor:
    """Depth after the fit and the clamp; below 0, or infinite, where nothing prevents it."""
    how = FITS[r.fit]
    space, target = _space(how, kind)
    fitted = line[0] * _brought(c.pred, kind, space) + line[1]
    if r.clamp == "none":
        if target == "disparity":
            return 1 / fitted
        return fitted.exp() if target == "log_depth" else fitted
    least = c.farthest if r.clamp == "farthest" else c.least
    if target == "disparity":
        both = r.clamp == "both" or how.space is None
        held = fitted.clamp(max=c.most) if both else fitted
        return 1 / held.clamp(min=least)
    depth = fitted.exp() if target == "log_depth" else fitted
    return depth.clamp(min=1 / c.most, max=1 / least)


def _scores(
    depth: Tensor, truth: Tensor, r: Recipe, names: Sequence[str]
) -> tuple[list[float], int]:
    """The metrics of one image, as scripts compute them, and how many pixels there are. Depth below
    0 is compared like any other, so that its ratio counts as good; NaN stays NaN."""
    count = int(truth.numel())
    if not count:
        return [math.nan] * len(names), 0
    p, t = depth, 1 / truth
    if r.quantity == "disparity":
        p, t = 1 / p, truth
    found = []
    for name in names:
        if name == "abs_rel":
            value = ((p - t).abs() / t).mean()
        elif name == "sq_rel":
            value = ((p - t).square() / t).mean()
        elif name == "rmse":
            value = (p - t).square().mean().sqrt()
        elif name == "rmse_log":
            value = (p.log() - t.log()).square().mean().sqrt()
        elif name == "log10":
            value = (p.log10() - t.log10()).abs().mean()
        else:
            power = 0.5 if name == "delta05" else int(name[-1])
            ratio = torch.maximum(p / t, t / p)
            good = ratio <= 1.25**power if r.inclusive else ratio < 1.25**power
            value = torch.where(ratio.isnan(), math.nan, good.double()).mean()
        found.append(float(value))
    return found, count


# ---- many images


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What recipes give on the same images.

    Attributes:
        recipes: in the order of the first axis of `values`.
        names: the metrics.
        values: float64 (recipes, images, metrics), NaN for an image of which nothing counts.
        pixels: (recipes, images), how many count.
        groups: the sequence of each image.
    """

    recipes: tuple[Recipe, ...]
    names: tuple[str, ...]
    values: np.ndarray
    pixels: np.ndarray
    groups: tuple[Hashable, ...]

    def number(self, index: int, name: str, *, chosen: np.ndarray | None = None) -> float:
        """One number for all images, by the recipe's own mean.

        Args:
            index: of the recipe.
            name: of the metric.
            chosen: the images, by number and as often as they are named; all of them by default.
        """
        values = self.values[index, :, self.names.index(name)]
        pixels = self.pixels[index]
        groups = np.array([hash(g) for g in self.groups])
        if chosen is not None:
            values, pixels, groups = values[chosen], pixels[chosen], groups[chosen]
        # an image that a recipe cannot score at all makes the number NaN, as it would a script's
        some = pixels > 0
        values, pixels, groups = values[some], pixels[some], groups[some]
        if not len(values):
            return math.nan
        mean = self.recipes[index].mean
        if mean == "median":
            return float(np.median(values))
        if mean == "sequences":
            return float(np.mean([values[groups == g].mean() for g in dict.fromkeys(groups)]))
        if mean == "images":
            return float(values.mean())
        if name in SQUARES:
            return float(np.sqrt(np.average(values**2, weights=pixels)))
        return float(np.average(values, weights=pixels))


def score_recipes(
    predictions: Sequence[Any],
    source: Samples,
    recipes: Iterable[Recipe],
    *,
    kind: str = "disparity",
    names: Sequence[str] = ("abs_rel",),
    mirrored: Sequence[Any] | None = None,
    groups: Sequence[Hashable] | None = None,
    report: Callable[[str], None] | None = None,
) -> Scores:
    """The scores of the same predictions by many recipes. Images are read one at a time, twice where
    some recipe shares a fit between them.

    Args:
        predictions: a map (h, w) for each image, of any size: best what the network gives, before
            anything is resized.
        source: for each image its truth, `disparity` (H, W) and `valid` (H, W), as in
            `dalib.data.schema`.
        recipes: those to score by.
        kind: what the predictions are, one of `KINDS`.
        names: the metrics, of `METRICS`.
        mirrored: predictions for the mirrored images, turned back; for `Recipe.flip`.
        groups: for each image the sequence that it belongs to; each image is its own by default.
        report: told after each image how many are done.

    Raises:
        ConfigError: an unknown kind or metric; no recipe; not as many predictions as images; a
            recipe that is not `possible`.
        DataError: a prediction that is not a map of finite numbers, or truth that is not; the
            message names the image.
    """
    recipes = tuple(recipes)
    check_names([kind], KINDS, what="kind of prediction")
    check_names(names, METRICS, what="metric")
    _check(predictions, source, recipes, mirrored, groups)
    found = np.full((len(recipes), len(source), len(names)), np.nan)
    pixels = np.zeros((len(recipes), len(source)), np.int64)
    owners = tuple(groups) if groups is not None else tuple(range(len(source)))

    # the fits that images share
    shared = list(dict.fromkeys(_shared(r) for r in recipes if r.fit_scope != "image"))
    moments: dict[tuple, _Moments] = {}
    for i in range(len(source)) if shared else ():
        picture = _picture(predictions, source, mirrored, owners, i)
        for r in shared:
            c = _prepared(picture, kind, r)
            space, target = _space(FITS[r.fit], kind)
            p, t = _brought(c.fit_pred, kind, space), _of_truth(c.fit_truth, target)
            moments.setdefault(_whose(r, picture.group), _Moments()).add(p, t)

    # every image by every recipe; what two recipes share is computed once, which needs them in order
    order = sorted(range(len(recipes)), key=lambda k: repr((_fit_key(recipes[k]), k)))
    for i in range(len(source)):
        picture = _picture(predictions, source, mirrored, owners, i)
        for k in order:
            r = recipes[k]
            c = _prepared(picture, kind, r)
            if r.fit_scope == "image":
                line = picture.once(("line", *_fit_key(r)), lambda r=r, c=c: _own(c, kind, r))
            else:
                line = moments[_whose(_shared(r), picture.group)].line()
            key = ("scores", *(getattr(r, name) for name in FIELDS if name != "mean"))
            values, pixels[k, i] = picture.once(
                key,
                lambda r=r, c=c, line=line: _scores(_depth(c, kind, r, line), c.truth, r, names),
            )
            found[k, i] = values
        if report is not None:
            report(f"{i + 1} of {len(source)} images by {len(recipes)} ways to score")
    return Scores(recipes=recipes, names=tuple(names), values=found, pixels=pixels, groups=owners)


SIZED = ("flip", "stored", "resize", "resolution")
COUNTED = (*SIZED, "crop", "frame", "min_depth", "max_depth", "bounds", "beyond", "unknown")
FITTED = (*COUNTED, "fit_over", "fit")


def _key(r: Recipe, names: tuple[str, ...]) -> tuple:
    return tuple(getattr(r, name) for name in names)


def _fit_key(r: Recipe) -> tuple:
    return _key(r, FITTED)


def _prepared(picture: Picture, kind: str, r: Recipe) -> _Counted:
    maps = picture.last("sized", _key(r, SIZED), lambda: _sized(picture, kind, r))
    key = (*_key(r, COUNTED), r.fit_over)
    return picture.last("counted", key, lambda: _counted(maps, r))


def _own(c: _Counted, kind: str, r: Recipe) -> tuple[float, float]:
    how = FITS[r.fit]
    space, target = _space(how, kind)
    return _line(how, _brought(c.fit_pred, kind, space), _of_truth(c.fit_truth, target))


def _shared(r: Recipe) -> Recipe:
    """The recipe with all that does not matter to its fit as in the simplest."""
    plain = {name: getattr(r, name) for name in (*FITTED, "fit_scope")}
    return Recipe(**plain)


def _whose(r: Recipe, group: Hashable) -> tuple:
    return r, group if r.fit_scope == "sequence" else None


@dataclass
class _Moments:
    """Means, variance and covariance of pixels that come in parts, without loss of digits (Chan,
    Golub and LeVeque 1979)."""

    count: float = 0.0
    mean_p: float = 0.0
    mean_t: float = 0.0
    square: float = 0.0
    product: float = 0.0

    def add(self, p: Tensor, t: Tensor) -> None:
        if not p.numel():
            return
        count, mean_p, mean_t = p.numel(), float(p.mean()), float(t.mean())
        total = self.count + count
        off_p, off_t = mean_p - self.mean_p, mean_t - self.mean_t
        both = self.count * count / total
        self.square += float((p - mean_p).square().sum()) + off_p * off_p * both
        self.product += float(((p - mean_p) * (t - mean_t)).sum()) + off_p * off_t * both
        self.mean_p += off_p * count / total
        self.mean_t += off_t * count / total
        self.count = total

    def line(self) -> tuple[float, float]:
        scale = self.product / self.square if self.square > 0 else 0.0
        return scale, self.mean_t - scale * self.mean_p


# ---- what is handed in


def _check(
    predictions: Sequence[Any],
    source: Samples,
    recipes: tuple[Recipe, ...],
    mirrored: Sequence[Any] | None,
    groups: Sequence[Hashable] | None,
) -> None:
    if not recipes:
        raise ConfigError("recipes: none given; there is nothing to score by")
    if not len(source):
        raise ConfigError("source: no image; give at least one with its truth")
    beside = {"predictions": predictions, "mirrored": mirrored, "groups": groups}
    for name, given in beside.items():
        if given is not None and len(given) != len(source):
            raise ConfigError(f"{name}: {len(given)} for {len(source)} images; give one each")
    for r in recipes:
        if not r.possible:
            raise ConfigError(
                f"fit_scope {r.fit_scope!r}: only a fit of scale and shift by least squares can be "
                f"shared, and this one is {r.fit!r}"
            )


def _picture(
    predictions: Sequence[Any],
    source: Samples,
    mirrored: Sequence[Any] | None,
    owners: tuple[Hashable, ...],
    index: int,
) -> Picture:
    sample = source[index]
    name = str(sample.get("name", index))
    pred = _map(predictions[index], f"prediction of image {name!r}")
    truth = torch.as_tensor(sample["disparity"]).double().cpu()
    valid = torch.as_tensor(sample["valid"]).bool().cpu()
    if truth.ndim != 2 or truth.shape != valid.shape:
        raise DataError(
            f"truth of image {name!r}: disparity {tuple(truth.shape)} and valid "
            f"{tuple(valid.shape)} must be maps of one size"
        )
    if not bool(torch.isfinite(truth[valid]).all()) or bool((truth[valid] < 0).any()):
        raise DataError(
            f"truth of image {name!r}: valid disparity must be finite and not below 0 (0 = sky)"
        )
    other = None
    if mirrored is not None:
        other = _map(mirrored[index], f"mirrored prediction of image {name!r}")
        if other.shape != pred.shape:
            raise DataError(
                f"mirrored prediction of image {name!r}: {tuple(other.shape)}, and the prediction "
                f"{tuple(pred.shape)}; both must have one size"
            )
    truth = truth.masked_fill(~valid, 0)
    return Picture(
        name=name, pred=pred, mirrored=other, truth=truth, valid=valid, group=owners[index]
    )


def _map(given: Any, what: str) -> Tensor:
    x = torch.as_tensor(given).detach().cpu().double()
    if x.ndim == 3 and x.shape[0] == 1:
        x = x[0]
    if x.ndim != 2 or not x.numel():
        raise DataError(f"{what}: shape {tuple(x.shape)}; a map has rows and columns")
    if not bool(torch.isfinite(x).all()):
        raise DataError(f"{what}: NaN or infinite values; a fit or a resize would spread them")
    return x
