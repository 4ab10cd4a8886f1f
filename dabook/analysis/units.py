"""Which real images are drawn together when images are drawn anew: frames of one sequence, and views
of one instant, resemble each other, so that to draw them one by one would promise more than is known.

A record says it itself where the manifest has a column `sequence`. For this project's own collection,
which has none, it is written down here: what its README and the names of its files tell.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from dabook.runs.records import Entry, Scores
from dalib.evaluation.intervals import unit_numbers

TOGETHER = {
    "nyuv2_slambook_ch5_": "one room, a sequence",
    "icl_nuim_slambook_ch12_": "one room, a sequence",
    "nuscenes_CAM_": "three views of one instant",
}
"""Beginning of an image's name -> why these are one unit."""


def sequences(scores: Scores) -> list[str]:
    """Of each scored image the sequence that it belongs to, "" for one by itself."""
    if "sequences" in scores:
        return [str(name) for name in scores["sequences"]]
    names = [str(name) for name in scores.get("names", ())]
    return [next((start for start in TOGETHER if n.startswith(start)), "") for n in names]


def numbers(scores: Scores) -> Int[np.ndarray, " images"] | None:
    """The number of each image's unit; None where each image is one by itself."""
    found = sequences(scores)
    return unit_numbers(found) if any(found) else None


def count(scores: Scores) -> int:
    """How many units a data set has."""
    found = numbers(scores)
    return len(scores["abs_rel"]) if found is None else int(found.max()) + 1


def of_records(found: Sequence[Entry], data_set: str) -> Any:
    """As `numbers`, of a data set that records were scored on."""
    scores = [e.record["real"][data_set] for e in found if data_set in e.record.get("real", {})]
    return numbers(scores[0]) if scores else None
