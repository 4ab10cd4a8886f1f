"""Robustness: the rows of the main table under corruption, by the means and methods of every other
table."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from dabook.analysis import means
from dabook.analysis.statistics import MEAN, Block, Domain, Estimate, Results, over_images
from dabook.runs import records, robustness
from dalib.evaluation.corruptions import STRENGTHS
from dalib.evaluation.robustness import CONDITIONS, METRICS, condition_name
from dalib.evaluation.run import mean_over_images

CLEAN = "clean"
GAP = "gap"
AGAINST = {"perturbed": "naive", "full": "perturbed"}
TITLES = {
    CLEAN: "clean",
    **{k: {"jpeg": "JPEG"}.get(k, k) for k in STRENGTHS},
    MEAN: "all five",
    GAP: "corrupted to clean",
}


class Robustness(Results):
    """The rows of the main table under corruption, by the means and methods of every other table.

    In the place of a domain stands what was done to the images: `clean`, a corruption (its five
    strengths together), `mean` (all five corruptions together), and `gap`: what corruption adds, of
    an error the factor from `clean` to `mean`, of a share the difference. A score is a mean over the
    images of a test domain under all that was done to them, then over the six domains
    (`dabook.analysis.means`).
    """

    experiment = robustness.EXPERIMENT

    def __init__(self, entries: Sequence[robustness.Entry]):
        super().__init__(entries, against=AGAINST)

    @property
    def command(self) -> str:
        return f"python -m dabook robustness --profile {self.profile}"

    @cached_property
    def levels(self) -> pd.DataFrame:
        """One line per row, seed, corruption ("clean" too) and strength, with the mean of each of
        `METRICS` over the test domains."""
        records.one_device(self.found)
        lines = []
        for entry in self.found:
            for kind, strength in CONDITIONS:
                domains = entry.record["scores"][condition_name(kind, strength)].values()
                head = {
                    "row": entry.row.name,
                    "seed": entry.config.seed,
                    "kind": kind,
                    "strength": strength,
                }
                levels = {m: np.array([mean_over_images(d[m]) for d in domains]) for m in METRICS}
                lines.append(head | {m: float(means.over_domains(levels[m], m)) for m in METRICS})
        return pd.DataFrame(lines)

    def _average(self, metric: str, group: str) -> pd.DataFrame:
        if not self.found:
            return super()._average(metric, group)  # empty
        records.one_device(self.found)
        wide = {}
        for column in (CLEAN, *STRENGTHS, MEAN):
            tables = self._tables(column, metric)
            levels = pd.concat([table.mean(axis=1) for table in tables], axis=1)
            wide[column] = pd.Series(means.over_domains(levels.to_numpy(), metric), levels.index)
        wide = pd.DataFrame(wide)
        geometric = means.geometric(metric)
        wide[GAP] = wide[MEAN] / wide[CLEAN] if geometric else wide[MEAN] - wide[CLEAN]
        return wide

    def _tables(self, column: str, metric: str) -> list[pd.DataFrame]:
        """The score of each image under a column, (row, seed) by image, a table for each domain."""
        domains = self.found[0].record["scores"][CLEAN]
        return [_condition_means(self.found, domain, column, metric) for domain in domains]

    def _estimate(
        self,
        values: pd.Series,
        weights: dict[str, float],
        domain: Domain,
        metric: str,
        group: str,
    ) -> Estimate:
        if domain != GAP:
            return super()._estimate(values, weights, domain, metric, group)
        # hurt and clean images side by side, for both are of the same draw
        pairs = zip(self._tables(MEAN, metric), self._tables(CLEAN, metric), strict=True)
        blocks = [Block(pd.concat([hurt, clean.rename(_clean, level=0)])) for hurt, clean in pairs]
        both = weights | {_clean(row): -weight for row, weight in weights.items()}
        return over_images(values, both, blocks, logs=means.geometric(metric))

    def _blocks(self, domain: Domain, metric: str, group: str) -> list[Block]:
        return [Block(table) for table in self._tables(str(domain), metric)]

    def points(self, row: str, column: str, metric: str = "ordinal") -> Estimate:
        """The paired change of a share, in percentage points."""
        other = self.against[row]
        if not {row, other} <= set(self.scores(metric).index.get_level_values("row")):
            return Estimate()
        return self._sum({row: 1.0, other: -1.0}, column, metric=metric)


def _clean(row: str) -> str:
    """The name of a row on clean images, beside its own under corruption."""
    return f"{row} {CLEAN}"


def _condition_means(
    found: Sequence[robustness.Entry], domain: str, column: str, metric: str
) -> pd.DataFrame:
    """The score of each image of a domain, (row, seed) by image, averaged over the conditions of a
    column."""
    lines = {}
    for entry in found:
        scores = {
            c: np.array(entry.record["scores"][condition_name(*c)][domain][metric], float)
            for c in CONDITIONS
        }
        clean = scores.pop(CONDITIONS[0])
        chosen = [v for (kind, _), v in scores.items() if column in (kind, MEAN)]
        lines[entry.row.name, entry.config.seed] = np.mean(chosen, axis=0) if chosen else clean
    return pd.DataFrame.from_dict(lines, orient="index").set_axis(
        pd.MultiIndex.from_tuples(lines, names=["row", "seed"])
    )
