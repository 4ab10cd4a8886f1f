"""Real images: every row of a table scored per data set, beside the floors and beside the other
rows.

Motorcycle came twice, out of scikit-image's wheel and with the collection of real images (as
`middlebury`). It is shown twice and counted once: scikit-image's copy is left out of every mean and
of every count where the other is there.
"""

from collections.abc import Sequence

import numpy as np

from dabook.analysis import units
from dabook.analysis.floors import blind, gap, real_scores
from dabook.analysis.statistics import Estimate, Results
from dabook.runs.floors import Record, read_floors
from dalib.evaluation.protocols import HALVES

NAMES = {
    "flyingthings3d": "FlyingThings3D",
    "icl_nuim": "ICL-NUIM",
    "kitti": "KITTI",
    "mvs_outdoor": "MVS outdoor",
    "nuscenes": "nuScenes",
    "nyuv2": "NYUv2",
    "sunrgbd": "SUN RGB-D",
    "tum": "TUM",
}
TWICE = {"motorcycle": "middlebury"}
"""A data set that is a copy of another's image."""


def name_of(data_set: str) -> str:
    """A data set as the book writes it."""
    return NAMES.get(data_set, data_set.capitalize())


def data_sets(results: Results, floors: Record | None) -> dict[str, list[str]]:
    """Half -> data sets that anything was scored on, the table half first, and in it NYUv2 and KITTI,
    and in each half this project's own first; Motorcycle stands by itself, it needs no download."""
    scored = [entry.record.get("real", {}) for entry in results.found]
    scored += floors["floors"].values() if floors else []
    seen = {d: scores["half"] for by_set in scored for d, scores in by_set.items()}
    known = {half: [d for d in sets if d in seen] for half, sets in HALVES.items()}
    ours = {"motorcycle", *(d for sets in known.values() for d in sets)}
    for d, half in seen.items():
        if d not in ours:  # of a manifest of somebody's own
            known[half].append(d)
    known = {half: known[half] for half in ("table", "tune")}
    return {**known, "wheel": ["motorcycle"] if "motorcycle" in seen else []}


def of_half(results: Results, half: str) -> list[str]:
    """The data sets of a half among `counted`: what a mean over it is of."""
    return [d for d in counted(results) if d in HALVES[half]]


def counted(results: Results) -> list[str]:
    """The data sets that means and counts are over: each image once."""
    sets = [d for half in data_sets(results, read_floors()).values() for d in half]
    return [d for d in sets if TWICE.get(d) not in sets]


def images(results: Results, data_set: str) -> int:
    """How many images a data set has, in the records or else in that of the floors; 0 where neither
    knows it."""
    scored = [
        e.record["real"][data_set]["abs_rel"]
        for e in results.found
        if data_set in e.record.get("real", {})
    ]
    scored += [
        scores[data_set]["abs_rel"] for scores in real_scores().values() if data_set in scores
    ]
    return max(map(len, scored), default=0)


def change(results: Results, row: str, other: str, sets: Sequence[str]) -> Estimate:
    """AbsRel of a row against that of another on real data sets, paired by seed, in percent.

    A mean over images, then over the data sets, each with the same weight (`dabook.analysis.means`).
    Both intervals: over seeds, and over seeds and the images of each data set, or its sequences
    (`dabook.analysis.units`); the data sets are not drawn anew. An `Estimate()` where something is
    missing.
    """
    return results.change(row, tuple(sets), versus=other, group="real")


def independent(results: Results, data_set: str) -> int:
    """How many images or sequences of a data set stand by themselves; 0 where nothing is
    recorded."""
    scored = [e.record.get("real", {}).get(data_set) for e in results.found]
    scored += [scores.get(data_set) for scores in real_scores().values()]
    return max((units.count(scores) for scores in scored if scores), default=0)


def comparisons(results: Results) -> list[tuple[str, str]]:
    """Each row beside the one that it is compared with, and the last beside the first."""
    longer = set(results.equal_compute.values())  # labelled images alone, told last
    pairs = sorted(results.against.items(), key=lambda pair: pair[0] in longer)
    return pairs + [whole(results)] * (len(pairs) > 1)


def whole(results: Results) -> tuple[str, str]:
    """The last row beside the first."""
    rows = list(results.rows)
    return rows[-1], rows[0]


def below_floors(results: Results, row: str) -> dict[str, Estimate]:
    """For each data set that counts: AbsRel of a row against that of the best floor there, in
    percent of the floor's.

    Intervals over seeds, and over seeds and images or sequences where a data set has several.
    """
    return {
        d: change
        for d in counted(results)
        if (change := against_floors(results, row, sets=[d])).count
    }


def against_floors(
    results: Results, row: str, *, half: str = "table", sets: Sequence[str] | None = None
) -> Estimate:
    """AbsRel of a row against that of the best floor of each data set, in percent of the floors':
    over the data sets, each with the same weight, then over seeds.

    Resampled are seeds and the images or sequences of each data set; the data sets are not.

    Args:
        results: of an experiment.
        row: of it.
        half: whose data sets.
        sets: these instead, whatever half they are of.
    """
    floors = blind(real_scores())
    found = results.of(row)
    sets = [
        d
        for d in (HALVES[half] if sets is None else sets)
        if all(d in e.record.get("real", {}) for e in found)
    ]
    sets = [d for d in sets if all(d in scores for scores in floors.values())]
    return gap(found, floors, sets, group="real")


def side(change: Estimate) -> int:
    """-1 where a row is surely below the best floor, 1 where it is surely above, 0 where both
    intervals do not say."""
    return int(np.sign(change.mean)) if change.decided else 0
