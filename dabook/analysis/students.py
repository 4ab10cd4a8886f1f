"""What the record of a student says: errors and shares with intervals over what was scored. One network
is one seed, so that nothing here says how another one of the same recipe would do."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from dabook.analysis import bootstrap, means, units
from dabook.analysis.real import TWICE
from dabook.analysis.statistics import Results
from dabook.runs import records
from dabook.runs.students import Marked
from dalib import paths
from dalib.data.scenes import TEST_DOMAINS
from dalib.evaluation.intervals import Estimate, estimates, unit_numbers
from dalib.evaluation.metrics import summarise

METRIC = "abs_rel"
FIRST = "full"
"""The row of the first study whose networks are shown beside the students."""

Scores = Mapping[str, Mapping[str, Any]]


def by_set(scores: Scores) -> dict[str, Estimate]:
    """AbsRel of each data set or domain, with an interval over its images, or its sequences
    (`dabook.analysis.units`)."""
    return {
        name: estimates({METRIC: found[METRIC]}, _sequences(found))[METRIC]
        for name, found in scores.items()
    }


def means_by_set(scores: Scores) -> dict[str, float]:
    """AbsRel of each data set or domain, as in `by_set`, without an interval."""
    return {
        name: summarise({METRIC: found[METRIC]}, names=(METRIC,))[METRIC]
        for name, found in scores.items()
    }


def _sequences(found: Mapping[str, Any]) -> list[str]:
    """Of each image its sequence; drawn scenes have none, nor names."""
    return units.sequences(found) or [""] * len(found[METRIC])


def counted(scores: Scores, half: str | None = None) -> dict[str, Mapping[str, Any]]:
    """The real data sets that a mean is over: of one half, or all; each image once."""
    return {
        name: found
        for name, found in scores.items()
        if TWICE.get(name) not in scores and half in (None, found["half"])
    }


def drawn(scores: Scores) -> dict[str, Mapping[str, Any]]:
    """The test domains, without in-domain validation."""
    return {name: scores[name] for name in TEST_DOMAINS if name in scores}


def middle(scores: Scores, *, plain: bool = False) -> Estimate:
    """Mean AbsRel over data sets or domains, each with the same weight, and an interval over the images
    or sequences of each.

    Args:
        scores: of the data sets.
        plain: the arithmetic mean over data sets; else the geometric one (of log AbsRel), which no data
            set decides alone.

    Returns:
        An estimate whose `n` counts the data sets; NaN without any.
    """
    nan = float("nan")
    if not scores:
        return Estimate(mean=nan, low=nan, high=nan, n=0, median=nan, units=0)
    found = list(scores.values())
    levels = np.array([np.nanmean(np.array(each[METRIC], float)) for each in found])
    drawn = np.stack([_draws(each, place) for place, each in enumerate(found, 1)], axis=-1)
    over = np.mean if plain else _geometric
    low, high = bootstrap.percentiles(over(drawn, -1))
    return Estimate(
        mean=float(over(levels, -1)),
        low=low,
        high=high,
        n=len(levels),
        median=float(np.median(levels)),
        units=sum(len(each[METRIC]) for each in found),
    )


def _draws(found: Mapping[str, Any], stream: int) -> Float[np.ndarray, " draws"]:
    """The mean of a data set in each draw of its images or sequences; of a single one always the
    same."""
    column = np.array(found[METRIC], float)
    known = ~np.isnan(column)
    unit = unit_numbers(_sequences(found))
    sums = np.bincount(unit, np.where(known, column, 0))
    images = np.bincount(unit, known)
    times = bootstrap.counts(len(sums), stream)
    with np.errstate(invalid="ignore"):  # a draw of unscored images alone has no mean
        return (times @ sums) / (times @ images)


def _geometric(levels: Float[np.ndarray, "*_ _"], _axis: int) -> Float[np.ndarray, "*_"]:
    return means.over_domains(levels, METRIC)


def marked(found: Marked) -> dict[str, Estimate]:
    """The share of marked pairs in the right order, of `all` and of the `hard` ones, with an interval
    over photographs (a photograph is drawn with all of its pairs)."""
    shares = {}
    for name, chosen in (("all", None), ("hard", found["hard"])):
        keep = [k for k in range(len(found["right"])) if chosen is None or chosen[k]]
        if keep:
            values = {name: [found["right"][k] for k in keep]}
            shares |= estimates(values, [found["images"][k] for k in keep])
    return shares


def first_study() -> dict[str, Mapping[str, Any]]:
    """Real scores of the first study's networks of the whole recipe, each image the mean of the seeds;
    nothing where they are not at hand."""
    folder = paths.root() / "data" / "first_study" / "records" / "main_table"
    found = [records.read(path) for path in sorted(folder.glob("*.json"))]
    found = [r for r in found if r["row"] == FIRST and r["profile"] == "study" and "real" in r]
    if not found:
        return {}
    shared = set.intersection(*(set(r["real"]) for r in found))
    return {
        name: scores | {METRIC: np.mean([r["real"][name][METRIC] for r in found], axis=0).tolist()}
        for name, scores in found[0]["real"].items()
        if name in shared
    }


def change(before: Scores, after: Scores) -> Estimate:
    """Mean AbsRel of one network against that of another on the real data sets that both were scored
    on, in per cent of the latter's (`before`): what licences or a lever bring. Means of log AbsRel over
    data sets, each image once, with an interval over the images or sequences of each, drawn together
    for both."""
    shared = [d for d in counted(after) if d in before]
    shared = [d for d in shared if len(before[d][METRIC]) == len(after[d][METRIC])]
    nan = float("nan")
    if not shared:
        return Estimate(mean=nan, low=nan, high=nan, n=0, median=nan, units=0)
    ratios = []
    levels = []
    for place, name in enumerate(shared, 1):
        pair = after[name], before[name]
        ratios.append(means.difference(*(_draws(s, place) for s in pair), METRIC))
        levels.append(means.difference(*(np.nanmean(s[METRIC]) for s in pair), METRIC))
    low, high = bootstrap.percentiles(np.mean(ratios, axis=0))
    return Estimate(
        mean=means.percent(np.mean(levels)),
        low=means.percent(low),
        high=means.percent(high),
        n=len(shared),
        median=means.percent(np.median(levels)),
        units=sum(len(after[name][METRIC]) for name in shared),
    )


def between_seeds(results: Results, half: str | None) -> float:
    """How far two networks of one recipe lie apart on a half of the real sets, or on both, by their
    seeds (and what is drawn with them), in per cent of AbsRel, in all but one of twenty pairs: 1.96
    sqrt(2) standard deviations of its logarithm, pooled over the rows of a study; NaN where no row has
    two seeds."""
    variances = []
    for row in results.rows:
        real = [entry.record["real"] for entry in results.of(row) if "real" in entry.record]
        levels = [middle(counted(scores, half)).mean for scores in real]
        if len(levels) > 1:
            variances.append(np.var(means.logarithms(np.array(levels)), ddof=1))
    if not variances:
        return float("nan")
    return means.percent(1.96 * np.sqrt(2 * np.mean(variances)))
