"""Reading the test vectors, which are JSON: any language can."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

FOLDER = Path(__file__).with_name("vectors")


@dataclass(frozen=True, kw_only=True)
class Vector:
    """One test vector.

    Args:
        name, about, tags: what it holds.
        inputs: by argument: float64, bool, or a number.
        expected: convention -> values, (B,) or a map; NaN where no number is expected.
        gradient: convention -> gradient; the key "" stands for all; empty where it is not checked.
        faults: fault -> what its faulty twin gives: values, or one number.
        tolerance: factor on what is allowed.
        undefined: images whose value is open.
    """

    name: str
    about: str
    tags: tuple[str, ...]
    inputs: Mapping[str, Array | float]
    expected: Mapping[str, Array]
    gradient: Mapping[str, Array]
    faults: Mapping[str, Array]
    tolerance: float = 1.0
    undefined: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.name


@cache
def read(kind: str, metric: str | None = None) -> tuple[Vector, ...]:
    """The vectors of a kind, and of one metric."""
    content = json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    found = []
    for entry in content["vectors"]:
        parts = {k: entry[k][metric] if metric else entry[k] for k in ("expected", "faults")}
        found.append(
            Vector(
                name=entry["name"],
                about=entry["about"],
                tags=tuple(entry["tags"]),
                inputs={k: _read(x, k) for k, x in entry["inputs"].items()},
                gradient={k: _frozen(x) for k, x in entry.get("gradient", {}).items()},
                tolerance=_factor(entry.get("tolerance", 1.0), metric),
                undefined=tuple(entry.get("undefined", ())),
                **{k: {w: _frozen(x) for w, x in part.items()} for k, part in parts.items()},
            )
        )
    return tuple(found)


def _factor(tolerance: float | Mapping[str, float], metric: str | None) -> float:
    return tolerance.get(metric, 1.0) if isinstance(tolerance, Mapping) else tolerance


def _read(x: object, name: str) -> Array | float:
    if not isinstance(x, list):
        return float(x)
    return _frozen(x).astype(bool) if name in ("valid", "inside") else _frozen(x)


def _frozen(x: object) -> Array:
    """An array that nobody writes into."""
    found = np.array(x, dtype=float)  # null becomes NaN
    found.setflags(write=False)
    return found


def as_lists(x: Array | float) -> object:
    """For JSON: nested lists; 0 and 1 for bool, null for what is not finite."""
    x = np.asarray(x)
    if x.dtype == bool:
        return x.astype(int).tolist()
    return _nulled(x.tolist())


def _nulled(x: object) -> object:
    if isinstance(x, list):
        return [_nulled(y) for y in x]
    if not np.isfinite(x):
        return None
    return int(x) if x == int(x) and abs(x) < 2**53 else x
