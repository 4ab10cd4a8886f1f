"""Fine-tuning to metres: each row by its own domains.

A row learns one kind of scene, to the metres that it reaches, and is compared with rows of that kind
alone: in-domain on unseen scenes of it (the paper's tables 3 and 4), zero-shot on the other test
domains of its sort, indoors or outdoors (table 5). So the columns of every other table have a meaning
here too: `MEAN` is zero-shot, `VALIDATION` in-domain. Nothing is fitted to any image.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from dabook.analysis import means
from dabook.analysis.statistics import (
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
from dalib.data.scenes import TEST_DOMAINS

EXPERIMENT = "metric"
ZERO_SHOT = {
    "room": ("warm_tabletop", "noisy_warehouse", "drawn_room"),
    "street": ("night_street", "fog_nature"),
}
"""Kind that is learnt -> the test domains of its sort. Things adrift are of neither."""
REAL = {"room": "nyuv2", "street": "kitti"}
"""Kind that is learnt -> the real data set of the paper's table for it."""


class Metres(Results):
    """The rows of a question on metres. In `scores` a row has its own domains alone: what lies outside
    the sort of scenes that it is for is left out, NaN where another row has a value."""

    def __init__(self, entries: Sequence[Entry], *, against: str | Mapping[str, str] = "above"):
        super().__init__(entries, against=against)
        self.kinds = {e.row.name: kind(e) for e in self.entries}
        for row, other in self.against.items():
            if self.kinds[row] != self.kinds[other]:
                raise ValueError(f"{row} and {other} learn different kinds of scenes")

    def own(self, row: str) -> dict[str, tuple[str, ...]]:
        """The domains of a row: `MEAN` and `VALIDATION`, what they average over."""
        return {MEAN: ZERO_SHOT[self.kinds[row]], VALIDATION: (self.kinds[row],)}

    def _average(self, metric: str, group: str) -> pd.DataFrame:
        wide = super()._average(metric, group)
        if not self.found or group == "real":
            return wide
        for row, seed in wide.index:
            for column, domains in self.own(row).items():
                levels = wide.loc[(row, seed), list(domains)].to_numpy(dtype=float)
                wide.loc[(row, seed), column] = means.over_domains(levels, metric)
            others = [d for d in TEST_DOMAINS if d not in ZERO_SHOT[self.kinds[row]]]
            wide.loc[(row, seed), others] = float("nan")
        return wide[[MEAN, *TEST_DOMAINS, VALIDATION]]

    def _estimate(
        self,
        values: pd.Series,
        weights: dict[str, float],
        domain: Domain,
        metric: str,
        group: str,
    ) -> Estimate:
        if len({self.kinds[row] for row in weights}) > 1:  # whose images are others
            return estimate(values)
        if group != "real" and isinstance(domain, str):
            domain = self.own(next(iter(weights))).get(domain, (domain,))
        return super()._estimate(values, weights, domain, metric, group)


def kind(entry: Entry) -> str:
    """The kind of scenes that a run learns, by its labelled source: "room" or "street"."""
    (source,) = entry.config.sources["labelled"]
    found = source.removeprefix("scenes:labelled_")
    if found not in ZERO_SHOT:
        raise ValueError(f"{entry.row.name} learns {source}; known are {', '.join(ZERO_SHOT)}")
    return found


def recorded(name: str = EXPERIMENT, *, profile: str = "study") -> Metres:
    """What is recorded of the question, compared as experiments.yaml says."""
    plan = expand(name, profile=profile)
    return Metres(records.entries(plan), against=plan.against)
