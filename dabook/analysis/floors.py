"""The floors, predictions that look at no picture: what a row of a table has to be held
against."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from dabook.analysis import bootstrap
from dabook.analysis.statistics import LEVEL, MEAN, Domain, Estimate, Results, estimate
from dabook.runs.floors import Scores, read_floors, size_of
from dabook.runs.records import Entry
from dalib.evaluation.protocols import SCALE, inverted


def real_scores() -> Scores:
    """The floors on the real data sets; nothing where none is recorded."""
    record = read_floors()
    return record["floors"] if record else {}


def drawn_scores(results: Results) -> Scores:
    """The floors on the drawn domains that the rows of a table were scored on.

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


def level(
    scores: dict[str, dict], domain: Domain, domains: Iterable[str], metric: str = "abs_rel"
) -> float:
    """A floor's mean over images, then over domains; NaN where one of them is not recorded.

    Args:
        scores: of one floor.
        domain: one of them, several, or `MEAN` over `domains`.
        domains: the test domains.
        metric: one of `dalib.evaluation.metrics.METRICS`.
    """
    if domain == MEAN:
        chosen = list(domains)
    elif isinstance(domain, str):
        chosen = [domain]
    else:
        chosen = list(domain)
    means = [
        float(np.nanmean(scores[d][metric])) if metric in scores.get(d, {}) else np.nan
        for d in chosen
    ]
    return float(np.mean(means)) if means else float("nan")


def best(floors: Scores, domain: Domain, domains: Iterable[str] = ()) -> tuple[str, float]:
    """The floor with the least AbsRel on a domain, or on the mean of several, and that error; ("",
    NaN) without floors."""
    levels = {name: level(scores, domain, domains) for name, scores in floors.items()}
    known = {name: value for name, value in levels.items() if value == value}
    name = min(known, key=known.__getitem__, default="")
    return name, known.get(name, float("nan"))


def gap(
    found: Sequence[Entry], floors: Scores, domains: Sequence[str], *, group: str = "images"
) -> Estimate:
    """AbsRel of a row minus that of the best floor of each domain, in percent of the floors': a
    mean over images, then domains, then seeds.

    Both intervals: over seeds, and over seeds and the images of each domain. Which floor is the
    best is taken as it is.

    Args:
        found: the recorded seeds of the row.
        floors: on the same images.
        domains: each with the same weight.
        group: of the record, "images" (the drawn domains) or "real".

    Returns:
        An `Estimate()` without records, floors or domains.
    """
    if not found or not floors or not domains:
        return Estimate()
    winners = {d: floors[best(floors, d)[0]][d] for d in domains}
    lowest = {d: np.array(scores["abs_rel"], float) for d, scores in winners.items()}
    ours = {d: np.array([e.record[group][d]["abs_rel"] for e in found], float) for d in domains}
    unit = 100 / np.mean([np.nanmean(lowest[d]) for d in domains])

    # over seeds
    gaps = [np.nanmean(ours[d], axis=1) - np.nanmean(lowest[d]) for d in domains]
    by_seed = np.mean(gaps, axis=0)
    change = estimate(unit * by_seed)
    if change.count < 2:
        return change

    # over seeds and images
    blocks = [np.stack([ours[d], np.broadcast_to(lowest[d], ours[d].shape)]) for d in domains]
    both = bootstrap.interval(blocks, np.array([unit, -unit]), level=LEVEL)
    return replace(change, resampled=both)


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
