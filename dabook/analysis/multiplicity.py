"""Many comparisons at once: p-values adjusted for their number, beside the verdicts of the claims
page."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import false_discovery_control


def holm(p: Sequence[float]) -> Float[np.ndarray, " n"]:
    """Holm's step-down adjustment (1979): what is below a level here keeps the chance of any false
    finding below that level.

    The smallest of n p-values is multiplied by n, the next by n - 1, and so on; none may fall below
    the one before it, nor rise above 1.

    Args:
        p: one per comparison, each in 0..1, in any order.

    Returns:
        The adjusted values in the order given.
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def benjamini_hochberg(p: Sequence[float]) -> Float[np.ndarray, " n"]:
    """Benjamini and Hochberg's adjustment (1995): of those below a level, that share at most is
    expected to be false.

    Args, Returns: as `holm`.
    """
    p = np.asarray(p, dtype=np.float64)
    return false_discovery_control(p, method="bh") if len(p) else p
