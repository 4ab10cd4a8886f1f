"""Means over seeds with their intervals, and differences paired by seed: the numbers behind every
table and figure. What kind of mean it is decides `dabook.analysis.means`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import exp, isnan, nan, sqrt

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from dabook.analysis import bootstrap, means, units
from dabook.runs import records
from dabook.runs.experiments import Row, expand
from dabook.runs.records import Entry
from dalib.config import check_names

LEVEL = 0.95
MEAN = "mean"  # the column that holds the mean over the test domains
VALIDATION = "validation"
OVER_SEEDS = "over seeds"
Domain = str | tuple[str, ...]  # a column, or several test domains, of which the mean is meant


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its two intervals.

    Attributes:
        mean: NaN where there is none.
        half: half the width of the interval over seeds, Student's t; NaN for fewer than two seeds.
        count: seeds.
        resampled: the interval over seeds and images (`dabook.analysis.bootstrap`), where one was
            asked for.
        ends: of the interval over seeds where the mean is not in its middle, as that of a factor.
        ratio: mean / half of what was averaged, where that is another number than the one shown.
        over: what was drawn anew beside the seeds: "images", or "sequences" of them.
        why: why there is no number although there are records; else nothing.
    """

    mean: float = nan
    half: float = nan
    count: int = 0
    resampled: tuple[float, float] | None = None
    ends: tuple[float, float] | None = None
    ratio: float | None = None
    over: str = "images"
    why: str = ""

    @property
    def low(self) -> float:
        return self.ends[0] if self.ends else self.mean - self.half

    @property
    def high(self) -> float:
        return self.ends[1] if self.ends else self.mean + self.half

    @property
    def point(self) -> "Estimate":
        """The mean without its interval, for a crowded table."""
        return Estimate(self.mean, nan, self.count, why=self.why)

    @property
    def decided(self) -> bool:
        """Whether the interval, and the resampled one where there is one, lie on one side of
        zero."""
        return not isnan(self.half) and all(low > 0 or high < 0 for low, high in self.intervals)

    @property
    def p(self) -> float:
        """Two-sided p-value of Student's t against a mean of zero, over seeds; NaN for fewer than
        two seeds.

        What the interval over seeds is of: it holds exactly where the 95 % interval leaves out zero
        that p is below 0.05.
        """
        if self.count < 2 or isnan(self.half):
            return nan
        if self.half == 0:
            return float(self.mean == 0)
        ratio = self.mean / self.half if self.ratio is None else self.ratio
        t = abs(ratio) * stdtrit(self.count - 1, (1 + LEVEL) / 2)
        return float(2 * stdtr(self.count - 1, -t))

    @property
    def named(self) -> dict[str, tuple[float, float]]:
        """The intervals by what they are over: "over seeds", and "over seeds and images" or "over
        seeds and sequences", as far as there are any."""
        found = {} if isnan(self.half) else {OVER_SEEDS: (self.low, self.high)}
        return found | ({f"{OVER_SEEDS} and {self.over}": self.resampled} if self.resampled else {})

    @property
    def intervals(self) -> list[tuple[float, float]]:
        """Those of `named`, in that order."""
        return list(self.named.values())


def estimate(values: Iterable[float], *, level: float = LEVEL) -> Estimate:
    """Mean and Student's t interval of a few independent values; an `Estimate()` of NaN for
    none."""
    values = np.asarray(list(values), dtype=np.float64)
    count = len(values)
    if count < 2:
        return Estimate(float(values[0]) if count else nan, nan, count)
    half = stdtrit(count - 1, (1 + level) / 2) * values.std(ddof=1) / sqrt(count)
    return Estimate(float(values.mean()), float(half), count)


def shown(found: Estimate, how: Callable[[float], float]) -> Estimate:
    """An estimate of logarithms as what a reader wants to know, through a rising function such as
    `exp` or `means.percent`; the p-value stays that of the logarithms."""
    if isnan(found.mean):
        return found
    mean = float(how(found.mean))
    resampled = found.resampled
    if resampled is not None:
        resampled = (float(how(resampled[0])), float(how(resampled[1])))
    if isnan(found.half):
        return replace(found, mean=mean, resampled=resampled)
    low, high = float(how(found.low)), float(how(found.high))
    ratio = found.mean / found.half if found.half else None
    half = (high - low) / 2
    return replace(found, mean=mean, half=half, resampled=resampled, ends=(low, high), ratio=ratio)


def over_seeds(levels: Iterable[float], metric: str) -> Estimate:
    """The mean of a few seeds' scores and its interval over seeds: of an error both of logarithms."""
    levels = np.asarray(list(levels), dtype=np.float64)
    if means.has_zero(levels, metric):
        return Estimate(0.0, nan, len(levels), why=means.ZERO)
    if not means.geometric(metric):
        return estimate(levels)
    return shown(estimate(means.logarithms(levels)), exp)


@dataclass(frozen=True)
class Block:
    """The images of a domain: their scores, (row, seed) by image, and which of them are drawn
    together, see `bootstrap.draw_means`."""

    scores: pd.DataFrame
    units: bootstrap.Units = None

    @property
    def count(self) -> int:
        """How many units there are to draw from."""
        return self.scores.shape[1] if self.units is None else int(self.units.max()) + 1


def over_images(
    values: pd.Series,
    weights: Mapping[str, float],
    blocks: Sequence[Block],
    *,
    logs: bool = False,
) -> Estimate:
    """An estimate with both intervals: over seeds, and over seeds and images.

    Where no domain has two units there is nothing to draw beside the seeds, and so no second
    interval.

    Args:
        values: by seed, the weighted sum of rows.
        weights: row -> weight.
        blocks: one per domain.
        logs: `values` are of logarithms of the means over images.
    """
    found = estimate(values)
    if found.count < 2 or max((block.count for block in blocks), default=0) < 2:
        return found
    scores = [
        np.stack([block.scores.loc[row].loc[values.index].to_numpy() for row in weights])
        for block in blocks
    ]
    units = [block.units for block in blocks]
    ends = bootstrap.interval(
        scores, np.array(list(weights.values())), level=LEVEL, logs=logs, units=units
    )
    grouped = any(block.units is not None for block in blocks)
    return replace(found, resampled=ends, over="sequences" if grouped else "images")


def _pivots(lines: pd.DataFrame, metric: str) -> dict[str, pd.DataFrame]:
    """A metric as one table per domain, (row, seed) by image."""
    parts = lines.groupby("domain")
    return {
        str(d): part.pivot(index=["row", "seed"], columns="image", values=metric)
        for d, part in parts
    }


class Results:
    """Every record of an experiment, ready to be averaged, compared and linked.

    Args:
        entries: rows and seeds with their records, as `records.entries` or `runner.run` return
            them.
        against: what each row is compared with: "above", the row before it; "first", the first row;
            or row -> row. The first row of such a chain is its base.
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
        self.equal_compute = {
            name: row.equal_compute
            for name, row in self.rows.items()
            if row.equal_compute in self.rows
        }
        self._scores: dict[tuple[str, str], pd.DataFrame] = {}
        self._sums: dict[tuple, Estimate] = {}
        self._pivoted: dict[tuple[str, str], dict[str, pd.DataFrame]] = {}

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
        domains their `MEAN` first, as `dabook.analysis.means` takes it.

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
        wide.insert(0, MEAN, means.over_domains(wide[tests].to_numpy(), metric))
        return wide

    @cached_property
    def domains(self) -> list[str]:
        """The test domains, in the order of the records."""
        return [d for d in self.scores() if d not in (MEAN, VALIDATION)]

    @cached_property
    def heaviest(self) -> str:
        """The test domain with the largest error, mean over all recorded rows: the one that would
        rule a plain mean. Empty without records."""
        return str(self.scores()[self.domains].mean().idxmax()) if self.found else ""

    @property
    def others(self) -> tuple[str, ...]:
        """The test domains without the heaviest."""
        return tuple(d for d in self.domains if d != self.heaviest)

    def value(
        self, row: str, domain: Domain = MEAN, metric: str | None = None, *, group: str = "test"
    ) -> Estimate:
        """One cell of a table with both intervals; of several domains, their mean. Of an error the
        mean over seeds is geometric, as that over domains."""
        metric = metric or self.metric
        levels = self.column(domain, metric, group=group)
        if row not in levels.index.get_level_values("row"):
            return Estimate()
        levels = levels[row].dropna()
        key = ("value", row, domain, metric, group)
        if key not in self._sums:
            self._sums[key] = self._level(levels, row, domain, metric, group)
        return self._sums[key]

    def _level(
        self, levels: pd.Series, row: str, domain: Domain, metric: str, group: str
    ) -> Estimate:
        """The mean of a row over its seeds, with both intervals."""
        if means.has_zero(levels, metric):
            return Estimate(0.0, nan, len(levels), why=means.ZERO)
        if not means.geometric(metric):
            return self._estimate(levels, {row: 1.0}, domain, metric, group)
        logs = pd.Series(means.logarithms(levels.to_numpy()), levels.index)
        return shown(self._estimate(logs, {row: 1.0}, domain, metric, group), exp)

    def plain(self, row: str, domains: Sequence[str] | None = None, *, group: str = "test"):
        """The plain mean of the error over domains and seeds, without interval: what stands beside
        the geometric one.

        Args:
            row: the row.
            domains: the test domains by default.
            group: "test" or "real".
        """
        wide = self.scores(group=group)
        domains = list(self.domains if domains is None else domains)
        known = bool(domains) and set(domains) <= set(wide)
        if not known or row not in wide.index.get_level_values("row"):
            return Estimate()
        return estimate(wide.loc[row, domains].mean(axis=1, skipna=False).dropna()).point

    def base(self, row: str) -> str:
        """The row at which the chain of comparisons begins."""
        while row in self.against:
            row = self.against[row]
        return row

    def column(
        self, domain: Domain = MEAN, metric: str | None = None, *, group: str = "test"
    ) -> pd.Series:
        """The score of each (row, seed) on a domain, or its mean over several; empty where one of
        them is not recorded."""
        metric = metric or self.metric
        wide = self.scores(metric, group=group)
        names = [domain] if isinstance(domain, str) else list(domain)
        if not names or not set(names) <= set(wide):
            return pd.Series(index=wide.index[:0], dtype=float)
        if isinstance(domain, str):
            return wide[domain]
        return pd.Series(means.over_domains(wide[names].to_numpy(), metric), wide.index)

    def change(
        self,
        row: str,
        domain: Domain = MEAN,
        *,
        versus: str | None = None,
        group: str = "test",
    ) -> Estimate:
        """The error of a row against that of the row it is compared with, paired by seed: the mean
        of the differences of ln AbsRel, as 100 (exp(d) - 1) per cent.

        Args:
            row: the row.
            domain: a test domain, several of them, the mean over all, or validation; of "real"
                data sets one or several.
            versus: another row to compare with.
            group: "test" or "real".
        """
        return self._sum(self._change(row, domain, versus, group), domain, group=group)

    def contrast(
        self, row: str, other: str, domain: Domain = MEAN, *, group: str = "test"
    ) -> Estimate:
        """The change of a row beside the change of another, paired by seed: by how many per cent
        the factor of the one is that of the other."""
        first = self._change(row, domain, group=group)
        second = self._change(other, domain, group=group)
        if not first or not second:
            return Estimate()
        weights = {r: first.get(r, 0) - second.get(r, 0) for r in first | second}
        return self._sum(weights, domain, group=group)

    def _change(
        self, row: str, domain: Domain, versus: str | None = None, group: str = "test"
    ) -> dict[str, float]:
        """A change as weights of rows; none where something is missing."""
        other = versus or self.against.get(row)
        known = self.column(domain, group=group).index.get_level_values("row")
        if other is None or not {row, other} <= set(known):
            return {}
        return {row: 1.0, other: -1.0}

    def _sum(
        self,
        weights: dict[str, float],
        domain: Domain,
        *,
        metric: str | None = None,
        group: str = "test",
    ) -> Estimate:
        """A weighted sum of rows over the seeds that all of them have: of an error its logarithms,
        in per cent; of a share the shares themselves, in points."""
        metric = metric or self.metric
        key = (domain, metric, group, *weights.items())
        if not weights or key in self._sums:
            return self._sums.get(key, Estimate())
        column = self.column(domain, metric, group=group)
        levels = pd.concat({row: column[row] for row in weights}, axis=1).dropna()
        logs = means.geometric(metric)
        if means.has_zero(levels.to_numpy().ravel(), metric):
            found = Estimate(nan, nan, len(levels), why=means.ZERO)
        else:
            terms = levels.apply(means.logarithms) if logs else 100 * levels
            values = (terms * pd.Series(weights)).sum(axis=1, skipna=False)
            scaled = weights if logs else {row: 100 * w for row, w in weights.items()}
            found = self._estimate(values, scaled, domain, metric, group)
            found = shown(found, means.percent) if logs else found
        self._sums[key] = found
        return found

    def _estimate(
        self,
        values: pd.Series,
        weights: dict[str, float],
        domain: Domain,
        metric: str,
        group: str,
    ) -> Estimate:
        """A weighted sum of rows, by seed, with both intervals; of an error that of logarithms."""
        blocks = self._blocks(domain, metric, group)
        return over_images(values, weights, blocks, logs=means.geometric(metric))

    def _blocks(self, domain: Domain, metric: str, group: str) -> list[Block]:
        """The images of each domain that a column averages over."""
        if isinstance(domain, str):
            domain = self.domains if domain == MEAN and group != "real" else [domain]
        tables = self.by_image(metric, group=group)
        if group != "real":
            return [Block(tables[d]) for d in domain]
        return [Block(tables[d], units.of_records(self.found, d)) for d in domain]

    def by_image(self, metric: str | None = None, *, group: str = "test"):
        """The score of each image, (row, seed) by image: one table per domain or data set."""
        metric = metric or self.metric
        if (metric, group) not in self._pivoted:
            lines = self.frame[(self.frame.group == "real") == (group == "real")]
            self._pivoted[metric, group] = _pivots(lines, metric)
        return self._pivoted[metric, group]

    def changes(self, domain: str = MEAN) -> pd.DataFrame:
        """The differences of `change`, one line per row and seed, for a figure."""
        column = self.column(domain)
        lines = []
        for row, other in self.against.items():
            if {row, other} <= set(column.index.get_level_values("row")):
                levels = pd.concat([column[row], column[other]], axis=1).dropna()
                if means.has_zero(levels.to_numpy().ravel(), self.metric):
                    continue
                logs = means.difference(levels.iloc[:, 0], levels.iloc[:, 1], self.metric)
                lines += [
                    {"row": row, "seed": seed, "change": means.percent(value)}
                    for seed, value in zip(levels.index, logs, strict=True)
                ]
        return pd.DataFrame(lines, columns=["row", "seed", "change"])


def recorded(name: str, *, profile: str = "study") -> Results:
    """What is recorded of an experiment, compared as experiments.yaml says."""
    plan = expand(name, profile=profile)
    return Results(records.entries(plan), against=plan.against)
