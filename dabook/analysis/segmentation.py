"""Transfer to semantic segmentation: rows by mIoU, by the intervals and comparisons of every other
table.

mIoU is of a whole data set (`dalib.evaluation.segmentation`), so that its resampled interval
divides sums in each draw. Where a table has an error, here stands 1 - mIoU: smaller is better, and
its mean over domains is geometric and its changes factors, as everywhere (`dabook.analysis.means`).
mIoU itself is averaged plainly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from dabook.analysis import bootstrap, means
from dabook.analysis.statistics import (
    LEVEL,
    MEAN,
    VALIDATION,
    Domain,
    Estimate,
    Results,
    estimate,
)
from dabook.runs import records
from dabook.runs.experiments import expand
from dabook.runs.records import Entry
from dalib.evaluation.segmentation import Areas

EXPERIMENT = "segmentation"
ERROR = "error"
MIOU = "miou"


class Transfer(Results):
    """The rows of a question on segmentation. Scores: `ERROR`, which is 1 - `MIOU`, and `MIOU`,
    both 0..1 and of a whole domain."""

    metric = ERROR

    def __init__(self, entries: Sequence[Entry], *, against: str | Mapping[str, str] = "above"):
        super().__init__(entries, against=against)
        self._areas: dict[tuple[str, str], Areas] = {}

    def areas(self, entry: Entry, domain: str) -> Areas:
        """What a recorded run scored on a domain."""
        key = entry.record["hash"], domain
        if key not in self._areas:
            self._areas[key] = Areas.from_dict(entry.record["images"][domain])
        return self._areas[key]

    def _average(self, metric: str, group: str) -> pd.DataFrame:
        if not self.found or group == "real":  # no real data set here has classes
            return pd.DataFrame(index=pd.MultiIndex.from_tuples([], names=["row", "seed"]))
        records.one_device(self.found)
        lines = {}
        for entry in self.found:
            found = {d: self.areas(entry, d).miou for d in entry.record["images"]}
            lines[entry.row.name, entry.config.seed] = found
        wide = pd.DataFrame.from_dict(lines, orient="index")
        wide.index = pd.MultiIndex.from_tuples(lines, names=["row", "seed"])
        tests = [d for d in wide if d != VALIDATION]
        wide = wide if metric == MIOU else 1 - wide
        wide.insert(0, MEAN, means.over_domains(wide[tests].to_numpy(), metric))
        return wide

    def _estimate(
        self,
        values: pd.Series,
        weights: dict[str, float],
        domain: Domain,
        metric: str,
        group: str,
    ) -> Estimate:
        found = estimate(values)
        if found.count < 2:
            return found
        domains = [domain] if isinstance(domain, str) else list(domain)
        domains = self.domains if domain == MEAN else domains
        entries = {(e.row.name, e.config.seed): e for e in self.found}

        def block(name: str) -> np.ndarray:
            """The areas of a domain, (row, seed, part, image, class)."""
            seeds = values.index
            rows = [[self.areas(entries[row, s], name).parts for s in seeds] for row in weights]
            return np.array(rows)

        blocks = [block(name) for name in domains]
        factors = np.array(list(weights.values()), dtype=np.float64)
        draws = bootstrap.draw_errors(blocks, factors, logs=means.geometric(metric))
        if metric == MIOU:
            draws = factors.sum() - draws
        return replace(found, resampled=bootstrap.percentiles(draws, level=LEVEL))

    def points(self, row: str, domain: Domain = MEAN, *, versus: str | None = None) -> Estimate:
        """mIoU of a row minus that of the row it is compared with, seed by seed, in percentage
        points: above zero is better. Both intervals."""
        other = versus or self.against.get(row)
        if other is None or not {row, other} <= set(self.scores().index.get_level_values("row")):
            return Estimate()
        return self._sum({row: 1.0, other: -1.0}, domain, metric=MIOU)

    def iou(self, row: str, domain: str) -> dict[str, Estimate]:
        """Class -> its IoU on a domain over seeds, of the classes that the domain has; nothing
        where the row is not recorded."""
        found = [self.areas(e, domain).iou for e in self.of(row)]
        names = found[0] if found else ()
        return {name: estimate(each[name] for each in found) for name in names}


def recorded(name: str = EXPERIMENT, *, profile: str = "study") -> Transfer:
    """What is recorded of the question, compared as experiments.yaml says."""
    plan = expand(name, profile=profile)
    return Transfer(records.entries(plan), against=plan.against)
