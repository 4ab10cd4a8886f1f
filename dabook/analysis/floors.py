"""The floors, predictions that look at no picture, and a quadratic surface that is fitted to each
truth: what a row of a table has to be held against."""

from collections.abc import Iterable, Sequence
from math import nan

import numpy as np
import pandas as pd

from dabook.analysis import means, units
from dabook.analysis.statistics import (
    MEAN,
    Block,
    Domain,
    Estimate,
    Results,
    over_images,
    shown,
)
from dabook.runs.floors import Scores, read_floors, size_of
from dabook.runs.records import Entry
from dalib.evaluation.floors import SURFACE
from dalib.evaluation.protocols import SCALE, inverted


def real_scores() -> Scores:
    """The floors on the real data sets, and the quadratic surface where it is recorded; nothing
    where no floor is."""
    record = read_floors()
    return record["floors"] if record else {}


def drawn_scores(results: Results) -> Scores:
    """The floors on the drawn domains that the rows of a table were scored on, and the quadratic
    surface where it is recorded.

    Nothing where none is recorded at the size and number of images of the rows, or where these
    differ from row to row.
    """
    sizes = {(size_of(e.config), e.config.test_images) for e in results.entries}
    if len(sizes) != 1:
        return {}
    size, images = sizes.pop()
    found = (read_floors() or {}).get("drawn", {}).get(size, {})
    lengths = {len(scores["abs_rel"]) for domains in found.values() for scores in domains.values()}
    return found if lengths == {images} else {}


def blind(scores: Scores) -> Scores:
    """The floors among what is recorded: predictions that look at no picture. The quadratic surface
    is none, for it is fitted to the truth."""
    return {name: found for name, found in scores.items() if name != SURFACE}


def surface(scores: Scores) -> Scores:
    """The quadratic surface among what is recorded, or nothing: no prediction, but the line below
    which a network has seen more than the layout."""
    return {name: found for name, found in scores.items() if name == SURFACE}


def heading(name: str) -> str:
    """What the line of a floor, or of the surface, begins with."""
    return f"fitted to the truth: {name}" if name == SURFACE else f"floor: {name}"


def level(
    scores: dict[str, dict], domain: Domain, domains: Iterable[str], metric: str = "abs_rel"
) -> float:
    """A floor's mean over images, then over domains (`dabook.analysis.means`); NaN where one of
    them is not recorded.

    Args:
        scores: of one floor.
        domain: one of them, several, or `MEAN` over `domains`.
        domains: the test domains.
        metric: one of `dalib.evaluation.metrics.METRICS`.
    """
    levels = _levels(scores, domain, domains, metric)
    return float(means.over_domains(np.array(levels), metric)) if levels else float("nan")


def plain_level(scores: dict[str, dict], domains: Iterable[str]) -> float:
    """As `level`, AbsRel by the plain mean over domains."""
    levels = _levels(scores, MEAN, domains, "abs_rel")
    return float(np.mean(levels)) if levels else float("nan")


def _levels(
    scores: dict[str, dict], domain: Domain, domains: Iterable[str], metric: str
) -> list[float]:
    if domain == MEAN:
        chosen = list(domains)
    elif isinstance(domain, str):
        chosen = [domain]
    else:
        chosen = list(domain)
    return [
        float(np.nanmean(scores[d][metric])) if metric in scores.get(d, {}) else np.nan
        for d in chosen
    ]


def best(floors: Scores, domain: Domain, domains: Iterable[str] = ()) -> tuple[str, float]:
    """The floor with the least AbsRel on a domain, or on the mean of several, and that error; ("",
    NaN) without floors. The quadratic surface is none of them."""
    domains = list(domains)
    levels = {name: level(scores, domain, domains) for name, scores in blind(floors).items()}
    known = {name: value for name, value in levels.items() if value == value}
    name = min(known, key=known.__getitem__, default="")
    return name, known.get(name, float("nan"))


def gap(
    found: Sequence[Entry], floors: Scores, domains: Sequence[str], *, group: str = "images"
) -> Estimate:
    """AbsRel of a row against that of the best floor of each domain, in percent of the floors': a
    mean over images, then domains, then seeds (`dabook.analysis.means`).

    Both intervals: over seeds, and over seeds and the images or sequences of each domain. Which
    floor is the best is taken as it is.

    Args:
        found: the recorded seeds of the row.
        floors: on the same images.
        domains: each with the same weight.
        group: of the record, "images" (the drawn domains) or "real".

    Returns:
        An `Estimate()` without records, floors or domains.
    """
    floors = blind(floors)
    if not found or not floors or not domains:
        return Estimate()
    return _above(found, {d: floors[best(floors, d)[0]][d] for d in domains}, group)


def above_surface(
    found: Sequence[Entry], scores: Scores, domains: Sequence[str], *, group: str = "images"
) -> Estimate:
    """As `gap`, against the quadratic surface."""
    known = surface(scores).get(SURFACE, {})
    if not found or not domains or not set(domains) <= set(known):
        return Estimate()
    return _above(found, {d: known[d] for d in domains}, group)


def _above(found: Sequence[Entry], lines: dict[str, dict], group: str) -> Estimate:
    """AbsRel of a row against one line of each domain, in percent of the line."""
    seeds = [e.config.seed for e in found]
    rows = pd.MultiIndex.from_product([("row", "line"), seeds], names=["row", "seed"])
    blocks = []
    levels = []
    for d, line in lines.items():
        ours = np.array([e.record[group][d]["abs_rel"] for e in found], float)
        if ours.shape[1] != len(line["abs_rel"]):  # of other images
            return Estimate()
        theirs = np.broadcast_to(np.array(line["abs_rel"], float), ours.shape)
        grouped = units.of_records(found, d) if group == "real" else None
        blocks.append(Block(pd.DataFrame(np.concatenate([ours, theirs]), rows), grouped))
        levels.append([np.nanmean(ours, axis=1), np.nanmean(theirs, axis=1)])
    if means.has_zero(np.ravel(levels), "abs_rel"):
        return Estimate(nan, nan, len(found), why=means.ZERO)
    ours, theirs = np.moveaxis(means.logarithms(np.array(levels)), 0, -1)  # each (seed, domain)
    values = pd.Series((ours - theirs).mean(axis=1), seeds)
    change = over_images(values, {"row": 1.0, "line": -1.0}, blocks, logs=True)
    return shown(change, means.percent)


def inversions(scores: Iterable[dict]) -> tuple[int, int] | None:
    """(images with a fitted scale below zero, images) over several domains' scores; None where the
    scales are not recorded."""
    scores = list(scores)
    if not scores or any(SCALE not in s for s in scores):
        return None
    scales = [x for s in scores for x in s[SCALE]]
    return inverted(scales), len(scales)


def inversion_text(found: tuple[int, int] | None) -> str:
    """ "2 of 24", or "not recorded"."""
    return "not recorded" if found is None else f"{found[0]} of {found[1]}"
