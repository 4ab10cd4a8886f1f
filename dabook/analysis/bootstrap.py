"""Intervals over seeds and images: what would the mean be, had other seeds been run and other
images been scored?

Seeds and images are crossed: every seed and every row is scored on the same images. A draw
therefore takes seeds with replacement, and within each domain images with replacement, the same for
all of them (A. B. Owen, "The pigeonhole bootstrap", 2007). Images of one sequence are drawn together,
for they resemble each other: the units of such a domain are its sequences. With few seeds such an
interval is too narrow, so the book believes it only together with Student's t over seeds.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from dabook.analysis.means import logarithms
from dalib.evaluation.segmentation import resampled

DRAWS = 20_000
"""Enough that an end of an interval moves by a fiftieth of its width or less from one set of draws to
another."""
Units = Int[np.ndarray, " images"] | None


@lru_cache
def counts(size: int, stream: int, draws: int = DRAWS) -> Float[np.ndarray, "draws size"]:
    """How often each of `size` items is taken in each draw. A stream is always the same: 0 for
    seeds, then one per domain."""
    generator = np.random.default_rng((20240119, stream))
    return generator.multinomial(size, np.full(size, 1 / size), size=draws).astype(np.float64)


def draw_means(
    scores: Sequence[Float[np.ndarray, "rows seeds _"]],
    weights: Float[np.ndarray, " rows"],
    *,
    draws: int = DRAWS,
    logs: bool = False,
    units: Sequence[Units] | None = None,
) -> Float[np.ndarray, " draws"]:
    """A weighted sum of rows in each draw: the mean over seeds of the mean over domains of the mean
    over images.

    Args:
        scores: one array per domain, NaN where nothing could be scored; such an image is left out
            of its mean.
        weights: of the rows, such as (1, -1) for a difference.
        draws: how many.
        logs: sum up the logarithms of the means over images, see `dabook.analysis.means`.
        units: of each domain the number of the unit that an image is drawn with, counted from 0;
            None where each image is one by itself.
    """
    rows, seeds = scores[0].shape[:2]
    total = np.zeros((draws, seeds))
    for stream, domain in enumerate(scores, 1):
        times = _times(domain.shape[2], stream, draws, units[stream - 1] if units else None)
        flat = domain.reshape(rows * seeds, -1)
        means = _means(times, flat)
        means = logarithms(means) if logs else means
        total += np.tensordot(means.reshape(draws, rows, seeds), weights, axes=(1, 0))
    return _over_seeds(total) / len(scores)


def _means(
    times: Float[np.ndarray, "draws images"], flat: Float[np.ndarray, "some images"]
) -> Float[np.ndarray, "draws some"]:
    """Means over the images that are taken; NaN, which could not be scored, is left out."""
    known = ~np.isnan(flat)
    if known.all():
        return (times @ flat.T) / times.sum(1, keepdims=True)
    with np.errstate(invalid="ignore"):  # a draw of unscored images alone has no mean
        return (times @ np.where(known, flat, 0).T) / (times @ known.T)


def draw_errors(
    areas: Sequence[Float[np.ndarray, "rows seeds 3 _ _"]],
    weights: Float[np.ndarray, " rows"],
    *,
    draws: int = DRAWS,
    logs: bool = False,
) -> Float[np.ndarray, " draws"]:
    """As `draw_means`, of 1 - mIoU in the place of a mean over images: in each draw sums of areas
    are divided.

    Args:
        areas: one array per domain, (row, seed, part, image, class), see
            `dalib.evaluation.segmentation.Areas`.
        weights: of the rows.
        draws: how many.
        logs: as there.
    """
    rows, seeds = areas[0].shape[:2]
    total = np.zeros((draws, seeds))
    for stream, domain in enumerate(areas, 1):
        times = counts(domain.shape[3], stream, draws)
        for row, seed in np.ndindex(rows, seeds):
            error = 1 - resampled(times, domain[row, seed])
            total[:, seed] += weights[row] * (logarithms(error) if logs else error)
    return _over_seeds(total) / len(areas)


def _times(images: int, stream: int, draws: int, units: Units) -> Float[np.ndarray, "draws images"]:
    """How often each image is taken in each draw: as often as its unit."""
    if units is None:
        return counts(images, stream, draws)
    if len(units) != images:
        raise ValueError(f"{len(units)} units for {images} images; each image has one")
    return counts(int(units.max()) + 1, stream, draws)[:, units]


def _over_seeds(values: Float[np.ndarray, "draws seeds"]) -> Float[np.ndarray, " draws"]:
    """In each draw the mean over the seeds that it takes."""
    draws, seeds = values.shape
    return (counts(seeds, 0, draws) * values).sum(1) / seeds


def percentiles(values: Float[np.ndarray, " draws"], *, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of draws."""
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def interval(
    scores: Sequence[Float[np.ndarray, "rows seeds _"]],
    weights: Float[np.ndarray, " rows"],
    *,
    level: float = 0.95,
    logs: bool = False,
    units: Sequence[Units] | None = None,
) -> tuple[float, float]:
    """The percentile interval of `draw_means`."""
    return percentiles(draw_means(scores, weights, logs=logs, units=units), level=level)
