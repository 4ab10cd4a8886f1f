"""Runs of the recorded study that were made once more on another machine: how much of a record
comes back."""

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np

from dabook.analysis import means
from dabook.analysis.statistics import MEAN, Results
from dabook.runs import records
from dabook.show.html import Html, html, number, record_link
from dalib import certificates, paths
from dalib.data.scenes import TEST_DOMAINS

NONE = "No recorded run of this study has been made again on another machine yet."


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A record and the same run made again."""

    record: dict
    again: dict

    @property
    def levels(self) -> tuple[float, float]:
        """AbsRel of both, mean over the six test domains."""
        return _mean(self.record), _mean(self.again)

    @property
    def change(self) -> float:
        """Of that mean, in percent of the record's."""
        return 100 * (self.levels[1] / self.levels[0] - 1)

    @property
    def largest(self) -> float:
        """The largest difference of any test image's AbsRel."""
        return max(
            float(np.abs(_images(self.record, d) - _images(self.again, d)).max())
            for d in TEST_DOMAINS
        )


def _images(record: dict, domain: str) -> np.ndarray:
    return np.array(record["images"][domain]["abs_rel"], float)


def _mean(record: dict) -> float:
    levels = np.array([_images(record, d).mean() for d in TEST_DOMAINS])
    return float(means.over_domains(levels, "abs_rel"))


def pairs() -> list[Pair]:
    """Every rerun whose record is there and was made by the same code, in the order of rows and
    seeds."""
    known = {path.stem: path for path in sorted(paths.records().glob("*/*.json"))}
    again = [records.read(path) for path in sorted(paths.reruns().glob("*.json"))]
    found = [
        Pair(record=records.read(known[r["hash"]]), again=r) for r in again if r["hash"] in known
    ]
    same = [p for p in found if _of_one_code(p)]
    return sorted(same, key=lambda p: (p.again["row"], p.again["seed"], p.again["instructions"]))


def _of_one_code(pair: Pair) -> bool:
    """Whether both runs were trained by the same code, or by code that a certificate joins."""
    return pair.again["training_hash"] in certificates.joined(
        "training", pair.record["training_hash"]
    )


def table(found: list[Pair]) -> Html:
    """One line per rerun: both errors, and how far they lie apart, in the mean and in a single
    image."""
    lines = {}
    headings = []
    for k, pair in enumerate(found):
        first, second = pair.levels
        lines[str(k)] = {
            "AbsRel, recorded": f'<a href="{record_link(pair.record)}">{number(first)}</a>',
            "again": number(second),
            "change, %": number(pair.change, 1, sign=True),
            "largest change of an image": number(pair.largest),
            "again with": pair.again["instructions"],
        }
        headings.append(f"{pair.record['label']}, seed {pair.record['seed']}")
    return html(lines, headings, name="reruns") if found else Html("")


def reading(found: list[Pair], results: Results) -> str:
    """How far a mean moves when a run is made again elsewhere, and how far two seeds of one row of
    `results` lie apart: sentences."""
    if not found:
        return NONE
    changes = [pair.change for pair in found]
    typical = number(sqrt(sum(c * c for c in changes) / len(changes)), 1)
    ends = " to ".join(f"{number(x, 1, sign=True)} %" for x in (min(changes), max(changes)))
    kinds = ", ".join(dict.fromkeys(pair.again["instructions"] for pair in found))
    seeds = nan
    if results.seeds > 1:
        by_row = results.scores()[MEAN].groupby("row")
        relative = (by_row.var() / by_row.mean() ** 2).mean()
        seeds = 100 * sqrt(2 * relative)  # of a difference, whose variance is twice as large
    return (
        f"{len(found)} recorded runs, made again on a processor of another kind ({kinds}), came "
        f"out {ends} away in mean AbsRel,"
        f" {typical} % by the root of the mean square; by the same measure two seeds of one row "
        f"lie {number(seeds, 1)} % apart."
    )
