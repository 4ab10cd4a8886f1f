"""One labelled image as a few numbers, so that a collection of any size is looked at in one pass."""

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.stats import rankdata

from dalib.data.doubles import dhash
from dalib.data.schema import Sample

SHORT = 240
"""Pixels: a map is thinned out by whole steps as long as its short side keeps so many. No value is
mixed with another."""
GRID = 72, 96
"""Rows and columns to which edges are brought before an image is compared with a map."""
MARGIN = 6
"""Cells at the border of the grid that are not compared: a shift brings them in from the other
side."""
ENOUGH = 200
"""Places that a map must have for its bend, and cells for its edges."""


class Bend(NamedTuple):
    """How much values bend over surfaces that slope gently: medians of d d'' / d'^2, for the values
    d = disparity and for d = 1 / disparity, each with two distances between neighbours, H/24 and
    H/12. On a plane, disparity is linear in the image: 0 for it and 2 for its inverse."""

    of_disparity: tuple[float, float]
    of_inverse: tuple[float, float]


class Edges(NamedTuple):
    """Where an image and its map have edges, on one grid."""

    image: Float[np.ndarray, "72 96"]
    map: Float[np.ndarray, "72 96"]
    known: Bool[np.ndarray, "72 96"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """A map as a few numbers. Shares are of the valid pixels unless said otherwise.

    Attributes:
        valid: share of all pixels.
        sky: share that is infinitely far.
        hanging: share of the sky above which nothing else is known, up to the upper edge; NaN
            without sky. Far values that stand for sky (see `far_share`) count as sky.
        low: share of the sky that lies in the lower third of the picture; NaN without sky.
        row: rank correlation of disparity with the row, 1 where all that is lower is nearer; NaN
            where one of them does not change.
        bend: see `Bend`; None where too few places slope gently.
        depth: median of 1 / disparity without sky.
        spread: ln of the 95th by the 5th percentile of disparity without sky.
        levels: different values, among `per_level` times as many pixels.
        per_level: pixels to a value.
        gap: median over pixels of the step from a value to the next, as a share of it.
        far_share: share at the very farthest value, where it stands out from the next ones, and
            does not stand for sky: less than a fiftieth of the median disparity, on 3 % of the
            pixels or more.
        near_share: share at the very nearest value, where it stands out.
        mode: share at the most frequent value, without sky.
        digest: of disparity and validity.
        scale_known: disparity is said to be in 1/m.
        given: correlation of the image's edges with the map's; NaN where too little is known.
        gains: by how much another place or image correlates better, see `others`.
        swapped: share of the pixels inside the mask that hold no value, and of those outside that
            hold one; None without a mask or without the stored map.
    """

    valid: float
    sky: float
    hanging: float
    low: float
    row: float
    bend: Bend | None
    depth: float
    spread: float
    levels: int
    per_level: float
    gap: float
    far_share: float
    near_share: float
    mode: float
    digest: int
    scale_known: bool
    given: float
    gains: dict[str, float] = field(default_factory=dict)
    swapped: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """An image as a few numbers.

    Attributes:
        index: in its source.
        domain: as the sample has it.
        kind: "depth_m" or "disparity", as the source declares it; None where it does not.
        size: rows and columns.
        contrast: standard deviation of grey, 0..127.5.
        clipped: share of pixels with all three channels below 6 or above 249.
        digest: of the pixels.
        dhash: see `dalib.data.doubles`.
        truth: None without ground truth.
    """

    index: int
    domain: str
    kind: str | None
    size: tuple[int, int]
    contrast: float
    clipped: float
    digest: int
    dhash: int
    truth: Truth | None


def summarise(
    sample: Sample,
    *,
    index: int,
    before: Edges | None = None,
    kind: str | None = None,
    swapped: tuple[float, float] | None = None,
) -> tuple[Summary, Edges | None]:
    """A sample as numbers, and its edges, which the next one is compared with.

    Args:
        sample: see `dalib.data.schema`.
        index: in its source.
        before: edges of the sample before this one, where that was looked at too.
        kind: as declared, see `Summary`.
        swapped: see `Truth`.
    """
    image = sample["image"].numpy()
    grey = image.mean(0, dtype=np.float32)  # (3, H, W) -> (H, W)
    ends = (image > 249).all(0) | (image < 6).all(0)
    truth, edges = None, None
    if "disparity" in sample:
        disparity = sample["disparity"].numpy().astype(np.float64)
        valid = sample["valid"].numpy()
        edges = _edges(grey, disparity, valid)
        given, gains = _compare(edges, before)
        truth = Truth(
            **_measure(disparity, valid),
            digest=_digest(disparity, valid),
            scale_known=bool(sample.get("scale_known", False)),
            given=given,
            gains=gains,
            swapped=swapped,
        )
    summary = Summary(
        index=index,
        domain=sample["domain"],
        kind=kind,
        size=grey.shape,
        contrast=float(grey.std()),
        clipped=float(ends.mean()),
        digest=_digest(image),
        dhash=dhash(sample["image"]),
        truth=truth,
    )
    return summary, edges


def _digest(*arrays: np.ndarray) -> int:
    total = hashlib.blake2b(digest_size=8)
    for array in arrays:
        total.update(repr(array.shape).encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return int.from_bytes(total.digest(), "big")


# ------------------------------------------------------------------------------- values of a map


def _measure(disparity: np.ndarray, valid: np.ndarray) -> dict:
    """What `Truth` says of the values of a map (H, W)."""
    share = float(valid.mean())
    step = max(1, min(disparity.shape) // SHORT)
    thin = disparity[::step, ::step]
    known = valid[::step, ::step]
    if not known.any():  # a few pixels that the thinning missed
        thin, known = disparity, valid
    finite = known & (thin > 0)
    count = max(1, int(known.sum()))
    levels, pixels = np.unique(thin[finite], return_counts=True)
    if not len(levels):  # nothing but sky, or nothing at all
        return {
            "valid": share,
            "sky": float(known.sum() / count),
            "hanging": _hanging(known, known),
            "low": _low(known),
            "row": np.nan,
            "bend": None,
            "depth": np.nan,
            "spread": 0.0,
            "levels": 0,
            "per_level": 0.0,
            "gap": 0.0,
            "far_share": 0.0,
            "near_share": 0.0,
            "mode": 0.0,
        }
    values = thin[finite]
    middle = float(np.median(values))

    # A far value on many pixels, next to nothing beside the others, is a sky that is not called so.
    sky = known & (thin == 0)
    far_share = _at_the_end(pixels) / count
    if far_share >= 0.03 and levels[0] < middle / 50:
        sky |= known & (thin == levels[0])
        far_share = 0.0

    low, high = np.percentile(values, [5, 95])
    return {
        "valid": share,
        "sky": float(sky.sum() / count),
        "hanging": _hanging(sky, known),
        "low": _low(sky),
        "row": _row(thin, known),
        "bend": _bend(thin, finite),
        "depth": 1 / middle,
        "spread": float(np.log(high / low)),
        "levels": len(levels),
        "per_level": len(values) / len(levels),
        "gap": _gap(levels, pixels),
        "far_share": far_share,
        "near_share": _at_the_end(pixels[::-1]) / count,
        "mode": float(pixels.max() / count),
    }


def _hanging(sky: np.ndarray, known: np.ndarray) -> float:
    """What is not known does not come between sky and the upper edge."""
    if not sky.any():
        return np.nan
    open_above = np.logical_and.accumulate(sky | ~known, axis=0)
    return float((open_above & sky).sum() / sky.sum())


def _low(sky: np.ndarray) -> float:
    return float(sky[len(sky) * 2 // 3 :].sum() / sky.sum()) if sky.any() else np.nan


def _at_the_end(pixels: np.ndarray) -> int:
    """Pixels at the first value; 0 unless they are three times as many as at each of the next
    three, in the mean: in a map of few steps, the last one holds many as well."""
    if len(pixels) < 2 or pixels[0] < 3 * pixels[1:4].mean():
        return 0
    return int(pixels[0])


def _row(disparity: np.ndarray, known: np.ndarray) -> float:
    rows, columns = np.nonzero(known)
    step = max(1, len(rows) // 20000)
    rows, columns = rows[::step], columns[::step]
    ranks = rankdata(disparity[rows, columns])
    if np.ptp(ranks) == 0 or np.ptp(rows) == 0:
        return np.nan
    return float(np.corrcoef(ranks, rows)[0, 1])


def _gap(levels: np.ndarray, pixels: np.ndarray) -> float:
    """Median over pixels of the step to the next level, relative."""
    if len(levels) < 2:
        return 0.0
    steps = np.diff(levels) / levels[:-1]
    weights = (pixels[1:] + pixels[:-1]) / 2
    order = np.argsort(steps)
    reached = np.cumsum(weights[order]) >= weights.sum() / 2
    return float(steps[order][np.argmax(reached)])


def _bend(disparity: np.ndarray, finite: np.ndarray) -> Bend | None:
    inverse = np.where(finite, 1 / np.where(finite, disparity, 1), 0)
    steps = [max(2, len(disparity) // part) for part in (24, 12)]
    medians = [
        [_bend_of(values, finite, step) for step in steps] for values in (disparity, inverse)
    ]
    if np.isnan(medians).any():
        return None
    return Bend(tuple(medians[0]), tuple(medians[1]))


def _bend_of(values: np.ndarray, finite: np.ndarray, step: int) -> float:
    """Median of d d'' / d'^2 along rows and columns where the slope is gentle and no edge lies."""
    found = []
    for d, ok in ((values, finite), (values.T, finite.T)):
        before, here, after = d[: -2 * step], d[step:-step], d[2 * step :]
        slope = (after - before) / 2
        second = before - 2 * here + after
        usable = ok[: -2 * step] & ok[step:-step] & ok[2 * step :]
        usable &= (np.abs(slope) > 0.03 * here) & (np.abs(slope) < 0.3 * here)
        usable &= np.abs(second) < np.abs(slope)
        found.append(here[usable] * second[usable] / slope[usable] ** 2)
    all_places = np.concatenate(found)
    return float(np.median(all_places)) if len(all_places) >= ENOUGH else np.nan


# ------------------------------------------------------------------------- edges, and what fits them


def _edges(grey: np.ndarray, disparity: np.ndarray, valid: np.ndarray) -> Edges | None:
    if not valid.any():
        return None
    # the map, thinned out, holes filled with their nearest value, brought to 0..1
    step = max(1, min(disparity.shape) // SHORT)
    thin, known = disparity[::step, ::step], valid[::step, ::step]
    if not known.any():
        return None
    away, nearest = ndimage.distance_transform_edt(~known, return_indices=True)
    filled = thin[tuple(nearest)]
    middle = np.median(thin[known])
    bounded = filled / (filled + middle) if middle > 0 else (filled > 0).astype(float)
    rows, columns = GRID
    cell = max(thin.shape[0] / rows, thin.shape[1] / columns, 1)
    known_cells = _mean_cells((away < 3 * cell).astype(float)) > 0.5
    return Edges(
        image=_edge_strength(np.log(_mean_cells(grey) + 8)),
        map=_edge_strength(_mean_cells(bounded)),
        known=known_cells,
    )


def _mean_cells(values: np.ndarray) -> np.ndarray:
    """(H, W) -> means over the cells of the grid, (72, 96), whatever the aspect."""
    for axis, cells in enumerate(GRID):
        size = values.shape[axis]
        ends = np.linspace(0, size, cells + 1)
        total = np.concatenate(
            [np.zeros_like(values.take([0], axis)), np.cumsum(values, axis, dtype=np.float64)], axis
        )
        below = np.floor(ends).astype(int).clip(max=size)
        above = (below + 1).clip(max=size)
        share = (ends - below).reshape([-1 if axis == a else 1 for a in (0, 1)])
        at_ends = total.take(below, axis) * (1 - share) + total.take(above, axis) * share
        values = np.diff(at_ends, axis=axis) / (size / cells)
    return values


def _edge_strength(values: np.ndarray) -> np.ndarray:
    """Root of the gradient's size, smoothed over a cell: the root lets faint edges count."""
    down = ndimage.gaussian_filter(values, 1.0, order=(1, 0))
    right = ndimage.gaussian_filter(values, 1.0, order=(0, 1))
    return np.sqrt(np.hypot(down, right))


def _zoomed(values: np.ndarray, factor: float) -> np.ndarray:
    """Seen through a window of 1 / factor of the size around the middle; repeated at the border."""
    rows, columns = (
        ((np.arange(size) + 0.5 - size / 2) / factor + size / 2).astype(int).clip(0, size - 1)
        for size in values.shape
    )
    return values[rows][:, columns]


def others(image: np.ndarray) -> dict[str, np.ndarray]:
    """The same edges in other places: turned about, moved by 5 %, drawn larger or smaller by 10 %.

    "up" is an image that is moved upwards to lie over its map: the map lies too high.
    """
    rows, columns = image.shape
    down, right = round(0.05 * rows), round(0.05 * columns)
    return {
        "mirrored": image[:, ::-1],
        "upside down": image[::-1],
        "turned by 180 degrees": image[::-1, ::-1],
        "left": np.roll(image, -right, 1),
        "right": np.roll(image, right, 1),
        "up": np.roll(image, -down, 0),
        "down": np.roll(image, down, 0),
        "larger": _zoomed(image, 1.1),
        "smaller": _zoomed(image, 1 / 1.1),
    }


def _compare(edges: Edges | None, before: Edges | None) -> tuple[float, dict[str, float]]:
    """How well the edges of image and map agree, and by how much better they do otherwise."""
    if edges is None:
        return np.nan, {}
    given = _correlation(edges.image, edges)
    gains = {
        name: _correlation(image, edges) - given for name, image in others(edges.image).items()
    }
    if before is not None:
        gains["the image before"] = _correlation(before.image, edges) - given
        gains["the image after"] = _correlation(edges.image, before) - _correlation(
            before.image, before
        )
    return given, {name: gain for name, gain in gains.items() if not np.isnan(gain)}


def _correlation(image: np.ndarray, edges: Edges) -> float:
    inner = np.zeros(GRID, bool)
    inner[MARGIN:-MARGIN, MARGIN:-MARGIN] = True
    places = edges.known & inner
    if places.sum() < ENOUGH:
        return np.nan
    one, two = image[places], edges.map[places]
    if one.std() < 1e-9 or two.std() < 1e-9:
        return np.nan
    return float(np.corrcoef(one, two)[0, 1])
