"""The puzzle of one exercise: two numbers of the same predictions. Whoever reads this file knows the
answer."""

from collections.abc import Sequence

from torch import Tensor

from dalib.data.schema import Sample
from dalib.evaluation.conventions import rescore

NAMES = ("abs_rel", "delta1")
DIGITS = 4
_CAUSE = ("cap_10", "mean_pixels")


def somebodys(predictions: Sequence[Tensor], scenes: Sequence[Sample]) -> dict[str, str]:
    """What somebody else gives these predictions, as printed in a paper that does not say how.

    Args:
        predictions: disparity of each scene.
        scenes: with `disparity` and `valid`.
    """
    found = rescore(predictions, scenes, protocol="scenes", conventions=_CAUSE, names=NAMES)
    return {name: f"{value:.{DIGITS}f}" for name, value in found.items()}
