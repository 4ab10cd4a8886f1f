"""Means over seeds with their intervals, and differences paired by seed: the numbers behind every
table and figure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isnan, nan, sqrt

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from dabook.analysis import bootstrap
from dabook.runs import records
from dabook.runs.experiments import Row, expand
from dabook.runs.records import Entry
from dalib.config import check_names

LEVEL = 0.95
MEAN = "mean"  # the column that holds the mean over the test domains
VALIDATION = "validation"
Domain = str | tuple[str, ...]  # a column, or several test domains, of which the mean is meant


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, and half the width of its interval (NaN for fewer than two seeds).

    `resampled` is the interval over seeds and images (`dabook.analysis.bootstrap`), where one was
    asked for.
    """

    mean: float = nan
    half: float = nan
    count: int = 0
    resampled: tuple[float, float] | None = None

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    @property
    def point(self) -> "Estimate":
        """The mean without its interval, for a crowded table."""
        return Estimate(self.mean, nan, self.count)

    @property
    def decided(self) -> bool:
        """Whether the interval, and the resampled one where there is one, lie on one side of
        zero."""
        return abs(self.mean) > self.half and all(
            low > 0 or high < 0 for low, high in self.intervals
        )

    @property
    def p(self) -> float:
        """Two-sided p-value of Student's t against a mean of zero, over seeds; NaN for fewer than
        two seeds.

        What `half` is of: it holds exactly where the 95 % interval leaves out zero that p is below
        0.05.
        """
        if self.count < 2 or isnan(self.half):
            return nan
        if self.half == 0:
            return float(self.mean == 0)
        t = abs(self.mean) / self.half * stdtrit(self.count - 1, (1 + LEVEL) / 2)
        return float(2 * stdtr(self.count - 1, -t))

    @property
    def intervals(self) -> list[tuple[float, float]]:
        """Over seeds, and over seeds and images, as far as there are any."""
        over_seeds = [] if isnan(self.half) else [(self.low, self.high)]
        return over_seeds + ([self.resampled] if self.resampled else [])


def estimate(values: Iterable[float], *, level: float = LEVEL) -> Estimate:
    """Mean and Student's t interval of a few independent values; an `Estimate()` of NaN for
    none."""
    values = np.asarray(list(values), dtype=np.float64)
    count = len(values)
    if count < 2:
        return Estimate(float(values[0]) if count else nan, nan, count)
    half = stdtrit(count - 1, (1 + level) / 2) * values.std(ddof=1) / sqrt(count)
    return Estimate(float(values.mean()), float(half), count)


def over_images(
    values: pd.Series, weights: Mapping[str, float], images: Sequence[pd.DataFrame]
) -> Estimate:
    """An estimate with both intervals: over seeds, and over seeds and images.

    Args:
        values: by seed, the weighted sum of rows.
        weights: row -> weight.
        images: one table per domain, (row, seed) by image.
    """
    found = estimate(values)
    if found.count < 2:
        return found
    blocks = [
        np.stack([table.loc[row].loc[values.index].to_numpy() for row in weights])
        for table in images
    ]
    return replace(
        found, resampled=bootstrap.interval(blocks, np.array(list(weights.values())), level=LEVEL)
    )


def _pivots(lines: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """AbsRel as one table per domain, (row, seed) by image."""
    parts = lines.groupby("domain")
    return {
        str(d): part.pivot(index=["row", "seed"], columns="image", values="abs_rel")
        for d, part in parts
    }


class Results:
    """Every record of an experiment, ready to be averaged, compared and linked.

    Args:
        entries: rows and seeds with their records, as `records.entries` or `runner.run` return
            them.
        against: what each row is compared with: "above", the row before it; "first", the first row;
            or row -> row. The first row of such a chain is its base, and a change is given in
            percent of the base's error.
    """

    metric = "abs_rel"
    """What is averaged and compared where nothing else is said: an error, smaller is better."""

    def __init__(self, entries: Sequence[Entry], *, against: str | Mapping[str, str] = "above"):
        self.entries = list(entries)
        self.rows: dict[str, Row] = {e.row.name: e.row for e in self.entries}
        names = list(self.rows)
        if isinstance(against, str):
            check_names([against], ("above", "first"), what="comparison")
            others = names[1:]
            against = dict(
                zip(others, names if against == "above" else [names[0]] * len(others), strict=False)
            )
        check_names([*against, *against.values()], names, what="row to compare")
        self.against = dict(against)
        self._scores: dict[tuple[str, str], pd.DataFrame] = {}
        self._sums: dict[tuple, Estimate] = {}

    @property
    def experiment(self) -> str:
        return self.entries[0].row.experiment

    @property
    def profile(self) -> str:
        return self.entries[0].row.profile

    @property
    def command(self) -> str:
        """What records the missing entries."""
        return f"python -m dabook run {self.experiment} --profile {self.profile}"

    @cached_property
    def found(self) -> list[Entry]:
        """The entries that have a record."""
        return [e for e in self.entries if e.record]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One line per row, seed, domain and image (see `records.frame`)."""
        return records.frame(self.entries)

    @property
    def seeds(self) -> int:
        """Seeds that every row has."""
        return min(sum(e.row.name == name for e in self.found) for name in self.rows)

    def of(self, row: str) -> list[Entry]:
        """The recorded seeds of one row."""
        return [e for e in self.found if e.row.name == row]

    def scores(self, metric: str | None = None, *, group: str = "test") -> pd.DataFrame:
        """Mean over images: one line per (row, seed), one column per domain, and for the test
        domains their `MEAN` first.

        Args:
            metric: one of `dalib.evaluation.metrics.METRICS`; AbsRel by default.
            group: "test" (with validation as the last column) or "real".

        Empty where nothing is recorded. An image that nothing could be scored on is left out of its
        mean.
        """
        metric = metric or self.metric
        if (metric, group) not in self._scores:
            self._scores[metric, group] = self._average(metric, group)
        return self._scores[metric, group]

    def _average(self, metric: str, group: str) -> pd.DataFrame:
        if not self.found:
            return pd.DataFrame(index=pd.MultiIndex.from_tuples([], names=["row", "seed"]))
        lines = self.frame[(self.frame.group == "real") == (group == "real")]
        wide = lines.groupby(["row", "seed", "domain"], sort=False)[metric].mean().unstack("domain")
        wide = wide[lines.domain.drop_duplicates()]
        if group == "real":
            return wide
        tests = [d for d in wide if d != VALIDATION]
        wide.insert(0, MEAN, wide[tests].mean(axis=1, skipna=False))
        return wide

    @cached_property
    def domains(self) -> list[str]:
        """The test domains, in the order of the records."""
        return [d for d in self.scores() if d not in (MEAN, VALIDATION)]

    @cached_property
    def heaviest(self) -> str:
        """The test domain with the largest error, mean over all recorded rows: the one that rules
        the mean. Empty without records."""
        return str(self.scores()[self.domains].mean().idxmax()) if self.found else ""

    @property
    def others(self) -> tuple[str, ...]:
        """The test domains without the heaviest."""
        return tuple(d for d in self.domains if d != self.heaviest)

    def value(
        self, row: str, domain: Domain = MEAN, metric: str | None = None, *, group: str = "test"
    ) -> Estimate:
        """One cell of a table; of several domains, their mean."""
        wide = self.scores(metric, group=group)
        columns = [domain] if isinstance(domain, str) else list(domain)
        if (
            not columns
            or not set(columns) <= set(wide)
            or row not in wide.index.get_level_values("row")
        ):
            return Estimate()
        return estimate(wide.loc[row, columns].mean(axis=1, skipna=False).dropna())

    def base(self, row: str) -> str:
        """The row at which the chain of comparisons begins."""
        while row in self.against:
            row = self.against[row]
        return row

    def column(self, domain: Domain = MEAN) -> pd.Series:
        """AbsRel of each (row, seed) on a domain, or its mean over several."""
        wide = self.scores()
        return (
            wide[domain]
            if isinstance(domain, str)
            else wide[list(domain)].mean(axis=1, skipna=False)
        )

    def unit(self, row: str, domain: Domain = MEAN) -> float:
        """What a change is given in percent of: the base row's mean error, which the intervals take
        as it is."""
        return float(self.column(domain)[self.base(row)].mean())

    def change(self, row: str, domain: Domain = MEAN, *, versus: str | None = None) -> Estimate:
        """AbsRel of a row minus that of the row it is compared with, seed by seed, in percent of
        the base row's mean error.

        Args:
            row: the row.
            domain: a test domain, several of them, the mean over all, or validation.
            versus: another row to compare with.
        """
        return self._sum(self._change(row, domain, versus), domain)

    def contrast(self, row: str, other: str, domain: Domain = MEAN) -> Estimate:
        """The change of a row minus the change of another, seed by seed, in percentage points."""
        first = self._change(row, domain)
        second = self._change(other, domain)
        if not first or not second:
            return Estimate()
        return self._sum({r: first.get(r, 0) - second.get(r, 0) for r in first | second}, domain)

    def _change(self, row: str, domain: Domain, versus: str | None = None) -> dict[str, float]:
        """A change as weights of rows; none where something is missing."""
        other = versus or self.against.get(row)
        wide = self.scores()
        if other is None or not {row, other, self.base(row)} <= set(
            wide.index.get_level_values("row")
        ):
            return {}
        unit = 100 / self.unit(row, domain)
        return {row: unit, other: -unit}

    def _sum(self, weights: dict[str, float], domain: Domain) -> Estimate:
        """A weighted sum of rows over the seeds that all of them have."""
        key = (domain, *weights.items())
        if not weights or key in self._sums:
            return self._sums.get(key, Estimate())
        column = self.column(domain)
        values = sum(weight * column[row] for row, weight in weights.items()).dropna()
        self._sums[key] = self._estimate(values, weights, domain)
        return self._sums[key]

    def _estimate(self, values: pd.Series, weights: dict[str, float], domain: Domain) -> Estimate:
        """A weighted sum of rows, by seed, with both intervals."""
        return over_images(values, weights, self._images(domain))

    def _images(self, domain: Domain) -> list[pd.DataFrame]:
        """AbsRel of each image, (row, seed) by image: one table per domain that the column averages
        over."""
        if isinstance(domain, str):
            domain = self.domains if domain == MEAN else [domain]
        return [self._by_image[d] for d in domain]

    @cached_property
    def _by_image(self) -> dict[str, pd.DataFrame]:
        return _pivots(self.frame[self.frame.group != "real"])

    @cached_property
    def by_real_image(self) -> dict[str, pd.DataFrame]:
        """AbsRel of each image of the real data sets, (row, seed) by image: one table per data
        set."""
        return _pivots(self.frame[self.frame.group == "real"]) if self.found else {}

    def changes(self, domain: str = MEAN) -> pd.DataFrame:
        """The differences of `change`, one line per row and seed, for a figure."""
        wide = self.scores()
        lines = []
        for row, other in self.against.items():
            if {row, other, self.base(row)} <= set(wide.index.get_level_values("row")):
                column = wide[domain]
                change = 100 * (column[row] - column[other]).dropna() / self.unit(row, domain)
                lines += [
                    {"row": row, "seed": seed, "change": value} for seed, value in change.items()
                ]
        return pd.DataFrame(lines, columns=["row", "seed", "change"])


def recorded(name: str, *, profile: str = "study") -> Results:
    """What is recorded of an experiment, compared as experiments.yaml says."""
    plan = expand(name, profile=profile)
    return Results(records.entries(plan), against=plan.against)
