"""The first study, which ended in November 2026 and is kept in `data/first_study`: its records as they
were written, and the numbers behind the page about its faults.

Nothing here asks today's code what a row is. Settings are data, which today's `RunConfig` need not be
able to read; hashes are names; means over domains and data sets are the plain ones that the study was
made with. Rows are named by where their records lie, as in "main_table.full".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dabook.analysis import bootstrap, multiplicity
from dabook.analysis.statistics import LEVEL, VALIDATION, Estimate, estimate
from dabook.analysis.verdicts import (
    NOT_REPRODUCED,
    REPRODUCED,
    UNDECIDED,
    outcome,
)
from dabook.runs import records
from dabook.runs.experiments import check_keys
from dalib import paths, strict_yaml
from dalib.errors import DataError

TWICE = "motorcycle"
"""A copy of the one image of `middlebury`, left out of every mean."""
FLOORS = "floors"
"""In the place of a row: the best floor of each data set."""
GAP = "gap"
"""What corruption adds: under corruption minus clean."""
DRAWN, REAL, ROBUSTNESS = "drawn", "real", "robustness"
REMEDY = "restore it: git checkout -- data/first_study"

Record = dict[str, Any]
Domains = Sequence[str] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """What the study measured for a claim, by the records that it read.

    Attributes:
        claim: its name.
        row, versus: what stands against what; `versus` may be `FLOORS`.
        base: the row of whose error the change is in percent.
        expect: "lower", "higher" or "no_gain", see `verdicts.outcome`.
        scored: `DRAWN`, `REAL` or `ROBUSTNESS`.
        columns: domains instead of all six, or `GAP`.
        beside: another change that is subtracted, as row, versus and base.
    """

    claim: str
    row: str
    versus: str
    expect: str
    base: str = ""
    scored: str = DRAWN
    columns: tuple[str, ...] = ()
    beside: Mapping[str, str] | None = None


class FirstStudy:
    """The records of a folder that is laid out as `data/first_study`.

    Args:
        folder: that one by default. Raises `DataError` where a file in it is missing or damaged.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder or paths.first_study()

    def _load(self, path: Path) -> Any:
        return records.split_hash(records.load(path, remedy=REMEDY))

    @cached_property
    def runs(self) -> dict[str, dict[int, Record]]:
        """Row -> seed -> record of the training run."""
        return self._by_row("records/*/*.json", "experiment")

    @cached_property
    def corrupted(self) -> dict[str, dict[int, Record]]:
        """Row -> seed -> scores under corruption."""
        return self._by_row("robustness/*.json", "table")

    def _by_row(self, pattern: str, table: str) -> dict[str, dict[int, Record]]:
        found: dict[str, dict[int, Record]] = {}
        for path in sorted(self.folder.glob(pattern)):
            record = self._load(path)
            found.setdefault(f"{record[table]}.{record['row']}", {})[record["seed"]] = record
        if not found:
            raise DataError(f"{self.folder / pattern}: nothing there; {REMEDY}")
        return {row: dict(sorted(seeds.items())) for row, seeds in found.items()}

    @cached_property
    def all_runs(self) -> list[Record]:
        """Every record of a training run."""
        return [record for seeds in self.runs.values() for record in seeds.values()]

    @cached_property
    def floors(self) -> Record:
        """The record of the floors: `floors` on real data sets, `drawn` by the size of images."""
        return self._load(self.folder / "records" / "floors.json")

    @cached_property
    def surface(self) -> dict[str, Record]:
        """Real data set -> the quadratic surface that is fitted to the truth of each image, scored
        as if it were a prediction."""
        return self._load(self.folder / "surface.json")["real"]

    @cached_property
    def again(self) -> list[tuple[Record, Record]]:
        """Runs made once more on another kind of processor: (record, record of the rerun)."""
        known = {record["hash"]: record for record in self.all_runs}
        found = [self._load(path) for path in sorted((self.folder / "reruns").glob("*.json"))]
        return [(known[r["hash"]], r) for r in found]

    # levels

    @cached_property
    def domains(self) -> list[str]:
        """The test domains."""
        return [d for d in self.all_runs[0]["images"] if d != VALIDATION]

    def data_sets(self, half: str | None = None) -> list[str]:
        """The real data sets of a half, "table" or "tune", or of both; each image once."""
        real = self.all_runs[0]["real"]
        return [d for d in real if d != TWICE and half in (None, real[d]["half"])]

    def by_seed(
        self, row: str, domains: Domains = None, *, group: str = DRAWN, seeds: Sequence[int] = ()
    ) -> np.ndarray:
        """AbsRel by seed: the mean over images, then over domains.

        Args:
            row: as "main_table.full".
            domains: some of them; by default all test domains, or the table half of the real ones.
            group: `DRAWN`, `REAL` or `ROBUSTNESS`.
            seeds: all by default.
        """
        blocks = self._images(row, domains, group, seeds or self.seeds(row))
        return np.mean([np.nanmean(block, axis=1) for block in blocks], axis=0)

    def level(self, row: str, domains: Domains = None, *, group: str = DRAWN) -> Estimate:
        """AbsRel of a row over its seeds, arguments as of `by_seed`."""
        return estimate(self.by_seed(row, domains, group=group))

    def seeds(self, *rows: str) -> list[int]:
        """The seeds that all of the rows have."""
        return sorted(set.intersection(*(set(self.runs[row]) for row in rows)))

    def floor(
        self, name: str, domains: Domains = None, *, group: str = DRAWN, size: str = "96 x 128"
    ) -> float:
        """AbsRel of a floor, as `by_seed` averages it."""
        scores = self.floors[FLOORS][name] if group == REAL else self.floors["drawn"][size][name]
        chosen = domains or (self.data_sets("table") if group == REAL else self.domains)
        return float(np.mean([np.nanmean(np.array(scores[d]["abs_rel"], float)) for d in chosen]))

    def best_floor(self, data_set: str) -> str:
        """The floor with the least AbsRel on a real data set."""
        return min(self.floors[FLOORS], key=lambda f: self.floor(f, [data_set], group=REAL))

    # differences

    def change(
        self, row: str, versus: str, *, base: str = "", domains: Domains = None, group: str = DRAWN
    ) -> Estimate:
        """AbsRel of a row minus that of another, seed by seed, in percent of the base row's error,
        which is `versus` by default; both intervals."""
        return self._sum(self._change(row, versus, base or versus, domains, group), domains, group)

    def _change(
        self, row: str, versus: str, base: str, domains: Domains, group: str
    ) -> dict[str, float]:
        """A change as weights of rows."""
        seeds = self.seeds(row, versus, base)
        clean = [] if domains == (GAP,) else domains
        unit = 100 / float(self.by_seed(base, clean, group=group, seeds=seeds).mean())
        return {row: unit, versus: -unit}

    def _sum(self, weights: Mapping[str, float], domains: Domains, group: str) -> Estimate:
        """A weighted sum of rows over the seeds that all of them have, with both intervals."""
        seeds = self.seeds(*weights)
        blocks = [self._images(row, domains, group, seeds) for row in weights]
        factors = np.array(list(weights.values()))
        return _both([np.stack(domain) for domain in zip(*blocks, strict=True)], factors)

    def against_floors(self, row: str, data_sets: Sequence[str] | None = None) -> Estimate:
        """AbsRel of a row minus that of the best floor of each real data set, in percent of the
        floors'; both intervals."""
        sets = data_sets or self.data_sets("table")
        ours = self._images(row, sets, REAL, self.seeds(row))
        scores = [self.floors[FLOORS][self.best_floor(d)][d]["abs_rel"] for d in sets]
        lowest = [np.array(values, float) for values in scores]
        unit = 100 / np.mean([np.nanmean(values) for values in lowest])
        pairs = zip(ours, lowest, strict=True)
        blocks = [np.stack([a, np.broadcast_to(b, a.shape)]) for a, b in pairs]
        return _both(blocks, np.array([unit, -unit]))

    def _images(
        self, row: str, domains: Domains, group: str, seeds: Sequence[int]
    ) -> list[np.ndarray]:
        """AbsRel of each image, (seeds, images): one array per domain."""
        if group == ROBUSTNESS:
            return self._corrupted_images(row, domains, seeds)
        key = "real" if group == REAL else "images"
        chosen = domains or (self.data_sets("table") if group == REAL else self.domains)
        scored = [self.runs[row][seed][key] for seed in seeds]
        return [np.array([s[d]["abs_rel"] for s in scored], float) for d in chosen]

    def _corrupted_images(
        self, row: str, domains: Domains, seeds: Sequence[int]
    ) -> list[np.ndarray]:
        """The same under corruption, averaged over all conditions; clean for an empty list, and
        the difference of the two for `GAP`."""
        scored = [self.corrupted[row][seed]["scores"] for seed in seeds]
        blocks = []
        for domain in self.domains:
            each = {c: [s[c][domain]["abs_rel"] for s in scored] for c in scored[0]}
            clean = np.array(each.pop("clean"), float)
            hurt = np.mean([np.array(values, float) for values in each.values()], axis=0)
            gap = hurt - clean
            blocks.append(hurt if domains is None else gap if domains == (GAP,) else clean)
        return blocks

    # the claims

    @cached_property
    def comparisons(self) -> dict[str, list[Comparison]]:
        """Claim -> what was measured for it, from `comparisons.yaml`."""
        path = self.folder / "comparisons.yaml"
        tree = strict_yaml.read(path)
        check_keys(tree, "the file", file=path.name, required=("margin", "claims"))
        found = {}
        for name, claim in tree["claims"].items():
            check_keys(claim, f"claim {name}", file=path.name, required=("claim", "tests"))
            found[name] = [_comparison(name, test, path.name) for test in claim["tests"]]
        return found

    @cached_property
    def margin(self) -> float:
        """The gain that was not worth the name, in percent."""
        return float(strict_yaml.read(self.folder / "comparisons.yaml")["margin"])

    @cached_property
    def measured(self) -> dict[Comparison, Estimate]:
        """Every comparison with what came out."""
        return {test: self.estimate(test) for tests in self.comparisons.values() for test in tests}

    def estimate(self, test: Comparison) -> Estimate:
        """What came out of a comparison, in percent, or points of percent beside another."""
        domains = test.columns or None
        if test.versus == FLOORS:
            return self.against_floors(test.row)
        weights = self._change(test.row, test.versus, test.base, domains, test.scored)
        if test.beside:
            other = self._change(**test.beside, domains=domains, group=test.scored)
            rows = weights | other
            weights = {row: weights.get(row, 0) - other.get(row, 0) for row in rows}
        return self._sum(weights, domains, test.scored)

    @cached_property
    def verdicts(self) -> dict[str, str]:
        """Claim -> its verdict by the rules of the claims page at the time."""
        found = {}
        for name, tests in self.comparisons.items():
            words = [outcome(self.measured[t], t.expect, margin=self.margin) for t in tests]
            ranked = (w for w in (NOT_REPRODUCED, UNDECIDED) if w in words)
            found[name] = next(ranked, REPRODUCED)
        return found

    def kept_by_holm(self, level: float = 0.05) -> list[Comparison]:
        """The comparisons that differ from zero when their number is counted in."""
        adjusted = multiplicity.holm([change.p for change in self.measured.values()])
        pairs = zip(self.measured, adjusted, strict=True)
        return [test for test, p in pairs if p < level]


def _comparison(claim: str, value: object, file: str) -> Comparison:
    where = f"claim {claim}"
    optional = ("base", "scored", "columns", "beside")
    check_keys(value, where, file=file, required=("row", "versus", "expect"), optional=optional)
    if "beside" in value:
        keys = ("row", "versus", "base")
        check_keys(value["beside"], f"{where}, beside", file=file, required=keys)
    return Comparison(claim=claim, **value | {"columns": tuple(value.get("columns", ()))})


def _both(blocks: Sequence[np.ndarray], weights: np.ndarray) -> Estimate:
    """The weighted sum of rows with both intervals, from (rows, seeds, images) per domain."""
    means = np.mean([np.nanmean(block, axis=2) for block in blocks], axis=0)
    found = estimate(weights @ means)
    if found.count < 2:
        return found
    return replace(found, resampled=bootstrap.interval(blocks, weights, level=LEVEL))
