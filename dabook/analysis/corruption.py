"""Robustness: the rows of the main table under corruption, by the means and methods of every other
table."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from dabook.analysis.statistics import MEAN, Estimate, Results, over_images
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
    GAP: "gap",
}


class Robustness(Results):
    """The rows of the main table under corruption, by the means and methods of every other table.

    In the place of a domain stands what was done to the images: `clean`, a corruption (mean over
    its five strengths), `mean` (over all five corruptions), and `gap`: `mean` minus `clean`. A
    score is a mean over images, then over the six test domains. Changes are in percent of the base
    row's error in the same column; those of the gap in percent of its clean error.
    """

    experiment = robustness.EXPERIMENT

    def __init__(self, entries: Sequence[robustness.Entry]):
        super().__init__(entries, against=AGAINST)

    @property
    def command(self) -> str:
        return f"python -m dabook robustness --profile {self.profile}"

    @cached_property
    def levels(self) -> pd.DataFrame:
        """One line per row, seed, corruption ("clean" too) and strength, with each of `METRICS`
        averaged over the test domains."""
        records.one_device(self.found)
        lines = []
        for entry in self.found:
            for kind, strength in CONDITIONS:
                domains = entry.record["scores"][condition_name(kind, strength)].values()
                means = {
                    m: sum(mean_over_images(d[m]) for d in domains) / len(domains) for m in METRICS
                }
                head = {
                    "row": entry.row.name,
                    "seed": entry.config.seed,
                    "kind": kind,
                    "strength": strength,
                }
                lines.append(head | means)
        return pd.DataFrame(lines)

    def _average(self, metric: str, group: str) -> pd.DataFrame:
        if not self.found:
            return super()._average(metric, group)  # empty
        wide = (
            self.levels.groupby(["row", "seed", "kind"])[metric]
            .mean()
            .unstack("kind")[[CLEAN, *STRENGTHS]]
        )
        wide[MEAN] = wide[list(STRENGTHS)].mean(axis=1)
        wide[GAP] = wide[MEAN] - wide[CLEAN]
        return wide

    def unit(self, row: str, domain: str = MEAN) -> float:
        return super().unit(row, CLEAN if domain == GAP else domain)

    def _images(self, column: str, metric: str = "abs_rel") -> list[pd.DataFrame]:
        domains = self.found[0].record["scores"][CLEAN]
        return [_condition_means(self.found, domain, column, metric) for domain in domains]

    def points(self, row: str, column: str, metric: str = "ordinal") -> Estimate:
        """The paired change of a share, in percentage points."""
        wide = self.scores(metric)
        weights = {row: 100.0, self.against[row]: -100.0}
        if not set(weights) <= set(wide.index.get_level_values("row")):
            return Estimate()
        values = sum(weight * wide.loc[r, column] for r, weight in weights.items()).dropna()
        return over_images(values, weights, self._images(column, metric))


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
        chosen = [v for (kind, _), v in scores.items() if column in (kind, MEAN, GAP)]
        mean = np.mean(chosen, axis=0) if chosen else clean
        lines[entry.row.name, entry.config.seed] = mean - clean if column == GAP else mean
    return pd.DataFrame.from_dict(lines, orient="index").set_axis(
        pd.MultiIndex.from_tuples(lines, names=["row", "seed"])
    )
