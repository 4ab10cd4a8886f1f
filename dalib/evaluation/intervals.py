"""One number for the scores of many images, with an interval: what would it be, had other images
been scored?

A bootstrap of percentiles (Efron and Tibshirani 1993, section 13.3). What is drawn anew are the
units that a data set has many of: images, or whole sequences where frames belong together. The
frames of one sequence resemble each other, so that drawing them one by one would promise more than
is known; a sequence is drawn with all of its frames (a cluster bootstrap).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from dalib.config import check_names
from dalib.evaluation.metrics import LOG_BIAS, MEANS, PIXELS, summarise

DRAWS = 2000
LEVEL = 0.95
FEW = 20
"""Units below which a bootstrap interval is known to be too narrow."""
SEED = 20240119
BLOCK = 2**22
"""Numbers that are drawn at a time, so that memory does not grow with the images."""
SQUARES = ("rmse", "rmse_log")
"""Metrics whose squares are pooled over pixels, not they themselves."""

Values = Mapping[str, Sequence[float]]  # measure -> a value for each image, NaN where it has none


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One number for many images, and its interval.

    Attributes:
        mean: by the protocol's own mean, which is that over images unless its card says otherwise.
            NaN where no image has a value.
        low, high: of the interval at level 0.95; NaN where there are fewer than two units, of which
            nothing can be drawn anew.
        n: images that have a value.
        median: over those images.
        units: what was drawn anew: images, or sequences.
    """

    mean: float
    low: float
    high: float
    n: int
    median: float
    units: int

    def leaves_out(self, value: float | int) -> bool:
        """Whether the interval does not hold a value."""
        return not math.isnan(self.low) and not self.low <= value <= self.high


def unit_numbers(sequences: Sequence[str]) -> Int[np.ndarray, " n"]:
    """Which unit each image belongs to: its sequence, or itself where it has none ("")."""
    numbers: dict[tuple[str, int], int] = {}
    found = []
    for place, sequence in enumerate(sequences):
        key = (sequence, -1) if sequence else ("", place)
        found.append(numbers.setdefault(key, len(numbers)))
    return np.array(found, np.int64)


def estimates(
    values: Values, sequences: Sequence[str], *, mean: str = "images", beside: Values | None = None
) -> dict[str, Estimate]:
    """The number of each measure, with its interval.

    Args:
        values: the measures.
        sequences: of the images, "" for an image by itself.
        mean: one of `dalib.evaluation.metrics.MEANS`.
        beside: for the mean over pixels: `PIXELS`, and `LOG_BIAS` for `silog`.
    """
    units = unit_numbers(sequences)
    middle = summarise({**(beside or {}), **values}, mean=mean, names=values)
    drawn = draws(values, units, mean=mean, beside=beside)
    return {
        name: _estimate(middle[name], drawn[name], _array(column), units)
        for name, column in values.items()
    }


def differences(
    this: Values,
    other: Values,
    sequences: Sequence[str],
    *,
    mean: str = "images",
    beside: tuple[Values, Values] = ({}, {}),
) -> dict[str, Estimate]:
    """The number of this minus that of the other, for each measure that both have, on the same
    images in the same order; an image counts where both have a value.

    The same units are drawn for both, so that what makes an image hard for either goes out. `median`
    is that of the images' own differences.
    """
    units = unit_numbers(sequences)
    shared = [name for name in this if name in other]
    known = {n: ~np.isnan(_array(this[n])) & ~np.isnan(_array(other[n])) for n in shared}
    numbers = []
    drawn = []
    columns = []
    for values, more in zip((this, other), beside, strict=True):
        own = {n: np.where(known[n], _array(values[n]), np.nan).tolist() for n in shared}
        columns.append(own)
        numbers.append(summarise({**more, **own}, mean=mean, names=shared))
        drawn.append(draws(own, units, mean=mean, beside=more))
    return {
        name: _estimate(
            numbers[0][name] - numbers[1][name],
            drawn[0][name] - drawn[1][name],
            _array(columns[0][name]) - _array(columns[1][name]),
            units,
        )
        for name in shared
    }


def draws(
    values: Values,
    units: Int[np.ndarray, " n"],
    *,
    mean: str = "images",
    beside: Values | None = None,
    count: int = DRAWS,
) -> dict[str, Float[np.ndarray, " draws"]]:
    """The number of each measure in each draw of the units, NaN where a draw has no value. Which
    units are drawn depends on how many there are and on nothing else."""
    check_names([mean], MEANS, what="mean")
    if mean == "median":
        return _medians(values, units, count)
    parts = {name: _moments(name, column, mean, beside or {}) for name, column in values.items()}
    table = np.concatenate(list(parts.values()), axis=1) if parts else np.empty((len(units), 0))
    sums = np.zeros((int(units.max(initial=-1)) + 1, table.shape[1]))
    np.add.at(sums, units, table)
    totals = np.concatenate([times @ sums for times in _times(len(sums), count)])

    found = {}
    start = 0
    for name, part in parts.items():
        stop = start + part.shape[1]
        found[name] = _number(name, totals[:, start:stop], mean)
        start = stop
    return found


# ---- the means over images and over pixels, as functions of sums


def _moments(
    name: str, column: Sequence[float], mean: str, beside: Values
) -> Float[np.ndarray, "n k"]:
    """What is summed up of each image; the last column is its weight."""
    values = _array(column)
    known = ~np.isnan(values)
    if mean == "images":
        weight = known.astype(np.float64)
        parts = [values]
    else:
        weight = np.where(known, _array(beside[PIXELS]), 0)
        parts = [values]
        if name in SQUARES:
            parts = [values**2]
        if name == "silog":  # the variance within images, and what makes that of their means
            bias = _array(beside[LOG_BIAS])
            parts = [(values / 100) ** 2 + bias**2, bias]
    columns = [np.where(known, part, 0) * weight for part in parts]
    return np.stack([*columns, weight], axis=1)


def _number(
    name: str, totals: Float[np.ndarray, "draws k"], mean: str
) -> Float[np.ndarray, " draws"]:
    """The measure, of such sums."""
    weight = totals[:, -1]
    means = totals[:, :-1] / np.where(weight > 0, weight, np.nan)[:, None]
    if mean == "pixels" and name in SQUARES:
        return np.sqrt(means[:, 0])
    if mean == "pixels" and name == "silog":
        return 100 * np.sqrt(np.maximum(means[:, 0] - means[:, 1] ** 2, 0))
    return means[:, 0]


def _times(units: int, count: int):
    """How often each unit is taken in each draw, some draws at a time."""
    generator = np.random.default_rng((SEED, units))
    step = max(1, BLOCK // max(units, 1))
    for start in range(0, count, step):
        size = min(step, count - start)
        if units == 0:
            yield np.zeros((size, 0))
        else:
            chances = np.full(units, 1 / units)
            yield generator.multinomial(units, chances, size=size).astype(np.float64)


# ---- the median, which is none


def _medians(
    values: Values, units: Int[np.ndarray, " n"], count: int
) -> dict[str, Float[np.ndarray, " draws"]]:
    columns = {name: _array(column) for name, column in values.items()}
    found: dict[str, list[float]] = {name: [] for name in values}
    for block in _times(int(units.max(initial=-1)) + 1, count):
        for times in block:
            often = times[units].astype(np.int64)
            for name, column in columns.items():
                taken = np.repeat(column, often)
                taken = taken[~np.isnan(taken)]
                found[name].append(float(np.median(taken)) if len(taken) else math.nan)
    return {name: np.array(column) for name, column in found.items()}


def _estimate(
    middle: float,
    drawn: Float[np.ndarray, " draws"],
    column: Float[np.ndarray, " n"],
    units: Int[np.ndarray, " n"],
) -> Estimate:
    known: Bool[np.ndarray, " n"] = ~np.isnan(column)
    used = len(np.unique(units[known]))
    low = high = math.nan
    if used >= 2:
        share = (1 - LEVEL) / 2
        low, high = (float(end) for end in np.nanquantile(drawn, [share, 1 - share]))
    return Estimate(
        mean=float(middle),
        low=low,
        high=high,
        n=int(known.sum()),
        median=float(np.median(column[known])) if known.any() else math.nan,
        units=used,
    )


def _array(column: Sequence[float]) -> Float[np.ndarray, " n"]:
    return np.asarray(column, np.float64)
