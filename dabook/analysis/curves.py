"""Learning curves: rows that differ in their steps alone, as an experiment of experiments.yaml
declares them under `curves`.

How far along is a budget? Where more steps still help much, a difference between two rows may be that
one of them learns faster. So each row stands at several budgets, and at each beside the first curve's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dabook.analysis.statistics import Estimate, Results
from dabook.runs.experiments import Experiment


@dataclass(frozen=True, kw_only=True)
class Point:
    """A row at one budget.

    Attributes:
        row: its name.
        steps: that it took.
        level: its error, the mean over the test domains.
        gained: its change from the budget before, in percent; an `Estimate()` at the first.
        beside: its change from the first curve at the same steps, in percent; an `Estimate()` on that
            curve.
    """

    row: str
    steps: int
    level: Estimate
    gained: Estimate
    beside: Estimate


def curves(results: Results, declared: Mapping[str, Sequence[str]]) -> dict[str, list[Point]]:
    """Every point of every curve, by the labels of the experiment (`Experiment.curves`)."""
    steps = {name: row.configs[0].steps for name, row in results.rows.items()}
    first = {steps[row]: row for row in next(iter(declared.values()), ())}
    found = {}
    for label, rows in declared.items():
        points = []
        for before, row in zip([None, *rows[:-1]], rows, strict=True):
            other = first.get(steps[row])
            level = results.value(row)
            gained = results.change(row, versus=before) if before else Estimate()
            beside = results.change(row, versus=other) if other not in (None, row) else Estimate()
            points.append(
                Point(row=row, steps=steps[row], level=level, gained=gained, beside=beside)
            )
        found[label] = points
    return found


def of(experiment: Experiment, results: Results) -> dict[str, list[Point]]:
    """The curves of an experiment."""
    return curves(results, experiment.curves)
