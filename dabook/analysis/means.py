"""How the errors of several domains become one number, and two errors one difference: the one place
that decides it, for tables, figures, sentences and verdicts.

The mean over domains, over real data sets and over seeds is geometric: the mean of ln AbsRel. A
domain whose error is twice as large then weighs the same, where it would rule a plain mean; and a
difference of two such means is a factor, printed as 100 (exp(d) - 1) per cent of the error that is
compared with. Within a domain, images are averaged plainly, as the field does.

Two kinds of numbers have no such mean. Shares that are right (delta1, mIoU, ordered pairs) are no
errors: larger is better and 0 is common, so they are averaged plainly and differ by points. And an
error of exactly 0, that of a perfect network, has no logarithm: the geometric mean is then 0, and no
change in per cent can be told from it or towards it; `ZERO` says so in its place.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from dalib.config import check_names
from dalib.evaluation.metrics import ALL_METRICS, BETTER

ERRORS = (*(name for name in ALL_METRICS if BETTER[name] == "lower"), "error")
"""Metrics above 0 of which smaller is better; `error` is 1 - mIoU."""
SHARES = (*(name for name in ALL_METRICS if BETTER[name] == "higher"), "miou", "ordinal")
"""Metrics from 0 to 1 of which larger is better."""
ZERO = "an error of 0 has no logarithm, and no change in per cent"
"""What stands in the place of a change that cannot be told."""


def geometric(metric: str) -> bool:
    """Whether the means of a metric over domains, data sets and seeds are geometric, and its
    differences factors; else both are plain.

    Raises `ConfigError` for a metric that is neither of `ERRORS` nor of `SHARES`.
    """
    check_names([metric], (*ERRORS, *SHARES), what="metric")
    return metric in ERRORS


def logarithms(levels: Float[np.ndarray, "*_"]) -> Float[np.ndarray, "*_"]:
    """ln of errors; -inf for an error of 0, NaN for one that is not there."""
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(levels, dtype=np.float64))


def over_domains(levels: Float[np.ndarray, "*_ _"], metric: str) -> Float[np.ndarray, "*_"]:
    """The mean over domains, the last axis: geometric or plain, as `geometric` says. NaN where a
    domain is missing, and 0 where an error is 0."""
    levels = np.asarray(levels, dtype=np.float64)
    if not geometric(metric):
        return levels.mean(axis=-1)
    return np.exp(logarithms(levels).mean(axis=-1))


def difference(level: Float[np.ndarray, "*_"], other: Float[np.ndarray, "*_"], metric: str):
    """What is averaged over seeds of two levels: the difference of their logarithms, or their
    plain difference."""
    if not geometric(metric):
        return np.asarray(level) - np.asarray(other)
    return logarithms(level) - logarithms(other)


def percent(log_difference: float) -> float:
    """A difference of logarithms in per cent of what is compared with: 100 (exp(d) - 1)."""
    return 100 * float(np.expm1(log_difference))


def has_zero(levels: Iterable[float], metric: str) -> bool:
    """Whether an error is exactly 0 where a logarithm is asked for."""
    return geometric(metric) and any(level == 0 for level in levels)
