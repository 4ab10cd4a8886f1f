"""Where a claim is tested: each source of evidence answers to one interface, whatever it measures.

A source has rows and their records, columns in which they are compared, and references that a row
may be compared with. `source` finds one by the name that `data/claims.yaml` gives it: an
experiment, or one of `SPECIAL`. A new kind of evidence is a class with these members and a line
there; nothing that judges or shows a claim has to know of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from dabook.analysis import corruption, metric, real, segmentation
from dabook.analysis.statistics import MEAN, VALIDATION, Domain, Estimate, Results, recorded
from dabook.runs import robustness
from dabook.runs.experiments import Experiment, expand, experiments
from dalib.data.scenes import TEST_DOMAINS
from dalib.evaluation.protocols import HALVES

FLOORS = "floors"
"""The reference of the real images: the best floor of each data set."""
REAL = "real"
"""The column of the mean over the real data sets of the table half."""
REAL_COLUMNS = {REAL: "on the real data sets of the table half"} | {
    d: f"on {real.name_of(d)}" for sets in HALVES.values() for d in sets
}
"""The columns of real images: that mean, and each data set by its name."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is measured for a claim, and what the claim says will come out.

    Attributes:
        experiment: the name of a source.
        row: whose change counts.
        expect: "lower" or "higher" error, or "no_gain": no error lower by more than the margin.
        versus: what it is compared with: one of the source's references.
        beside: a row whose own change is subtracted; `versus` is then the source's for both.
        column: one of the source's columns, or several that it averages.
    """

    experiment: str
    row: str
    expect: str
    versus: str
    beside: str | None = None
    column: Domain = MEAN


class Evidence(Protocol):
    """A source of evidence."""

    results: Results
    """The rows, and the records behind them."""
    link: str
    """The page that shows them, from any page of the book."""
    columns: Mapping[str, str]
    """What a comparison may name as its column -> how a sentence about it ends; "" says nothing."""
    averaged: tuple[str, ...]
    """The columns of which a comparison may name several, for their mean."""
    references: Mapping[str, str]
    """What a row may be compared with -> its name in a sentence."""
    contrasts: bool
    """Whether the change of one row may be held against that of another."""

    def reference(self, row: str) -> str | None:
        """What a row is compared with where nothing else is said."""

    def estimate(self, comparison: Comparison) -> Estimate:
        """The paired change that a comparison asks for, in percent; beside another row the
        difference of two changes, in percentage points. An `Estimate()` where records are
        missing."""


class Table:
    """An experiment's rows on the drawn domains, and on real images.

    Args:
        name: of the experiment.
        blank: without any record: what could be compared, not what came out.
    """

    averaged: tuple[str, ...] = TEST_DOMAINS
    contrasts = True

    def __init__(self, name: str, *, blank: bool = False):
        self.link = f"../notebooks/{name}.html"
        self.results = self._blank(name) if blank else self._recorded(name)

    def _recorded(self, name: str) -> Results:
        return recorded(name)

    def _blank(self, name: str) -> Results:
        plan = expand(name, profile="study", seeds=1)
        return Results(_no_records(plan), against=plan.against)

    @property
    def columns(self) -> Mapping[str, str]:
        """The mean over the test domains, which needs no words, each domain by its name, and what is
        real."""
        named = {d: d.replace("_", " ") for d in TEST_DOMAINS}
        return {MEAN: "", VALIDATION: "in-domain", **named, **REAL_COLUMNS}

    @property
    def references(self) -> Mapping[str, str]:
        """The rows by their labels."""
        return {name: f"“{row.label}”" for name, row in self.results.rows.items()}

    def reference(self, row: str) -> str | None:
        """What the experiment says."""
        return self.results.against.get(row)

    def estimate(self, comparison: Comparison) -> Estimate:
        """See `Evidence`."""
        row = comparison.row
        column = comparison.column
        group = "test"
        if column in REAL_COLUMNS:
            group = "real"
            column = tuple(real.of_half(self.results, "table")) if column == REAL else (column,)
        if comparison.beside:
            return self.results.contrast(row, comparison.beside, column, group=group)
        return self.results.change(row, column, versus=comparison.versus, group=group)


class Corruption(Table):
    """The rows of the main table under corruption; a column is what was done to the images."""

    averaged = ()

    def _recorded(self, name: str) -> Results:
        return corruption.Robustness(robustness.entries())

    def _blank(self, name: str) -> Results:
        plan = expand(robustness.TABLE, profile="study", seeds=1)
        return corruption.Robustness(_no_records(plan))

    @property
    def columns(self) -> Mapping[str, str]:
        """What was done, in words."""
        summed = {MEAN: "under corruption", corruption.GAP: "what corruption adds"}
        return corruption.TITLES | summed


class RealImages(Table):
    """The rows of the main table on the real data sets, where each stands against the floors."""

    averaged = ()
    contrasts = False

    def _recorded(self, name: str) -> Results:
        return super()._recorded("main_table")

    def _blank(self, name: str) -> Results:
        return super()._blank("main_table")

    @property
    def columns(self) -> Mapping[str, str]:
        """The mean over the data sets alone."""
        return {MEAN: ""}

    @property
    def references(self) -> Mapping[str, str]:
        """The best floor alone."""
        return {FLOORS: "the best floor"}

    def reference(self, row: str) -> str | None:
        """The best floor, for every row."""
        return FLOORS

    def estimate(self, comparison: Comparison) -> Estimate:
        """See `Evidence`."""
        return real.against_floors(self.results, comparison.row)


class Segmentation(Table):
    """The rows of the transfer to segmentation, whose error is 1 - mIoU."""

    def _recorded(self, name: str) -> Results:
        return segmentation.recorded(name)

    def _blank(self, name: str) -> Results:
        plan = expand(name, profile="study", seeds=1)
        return segmentation.Transfer(_no_records(plan), against=plan.against)

    @property
    def columns(self) -> Mapping[str, str]:
        """As of every experiment; the mean says what the error is."""
        drawn = {name: words for name, words in super().columns.items() if name not in REAL_COLUMNS}
        return {**drawn, MEAN: "in 1 − mIoU", VALIDATION: "in-domain, in 1 − mIoU"}


class Metric(Table):
    """The rows that are fine-tuned to metres, each by its own domains."""

    averaged = ()

    def _recorded(self, name: str) -> Results:
        return metric.recorded(name)

    def _blank(self, name: str) -> Results:
        plan = expand(name, profile="study", seeds=1)
        return metric.Metres(_no_records(plan), against=plan.against)

    @property
    def columns(self) -> Mapping[str, str]:
        """Zero-shot and in-domain alone: the single domains are not those of every row."""
        return {MEAN: "in metres, zero-shot", VALIDATION: "in metres, in-domain"}


SPECIAL: dict[str, type[Table]] = {
    robustness.EXPERIMENT: Corruption,
    "real_images": RealImages,
    metric.EXPERIMENT: Metric,
    segmentation.EXPERIMENT: Segmentation,
}
"""The sources that are no experiment of experiments.yaml, or one that is scored in its own way;
each by the name of its page."""


def sources() -> list[str]:
    """The names of all sources: the experiments, and `SPECIAL`."""
    return list(dict.fromkeys([*experiments(), *SPECIAL]))


def source(name: str, *, blank: bool = False) -> Evidence:
    """The source of this name; `blank` is one without records, which says what could be compared.

    Raises `ConfigError` for an unknown name.
    """
    return SPECIAL.get(name, Table)(name, blank=blank)


def _no_records(plan: Experiment) -> list[robustness.Entry]:
    """The first seed of every row, unrecorded."""
    return [robustness.Entry(row=row, config=row.configs[0], record=None) for row in plan.rows]
