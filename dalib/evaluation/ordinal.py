"""Ordinal accuracy: which of two pixels is nearer? No alignment, no scale; after DIW (Chen et al.
2016) and DA-2K (Yang et al. 2024)."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dalib.evaluation.align import check_finite, check_shapes

PAIRS = 500
"""Random pairs of pixels per image, before those that do not count are left out."""
RATIO = 1.1
"""Two pixels count as a pair if one is more than 1.1 times as far as the other."""


def draw_pairs(
    height: int, width: int, *, index: int, count: int = PAIRS, seed: int = 0
) -> Int[Tensor, "n 2"]:
    """Pairs of pixels of one image, each as row * width + column; uniform, and a function of (seed,
    index) alone."""
    rng = np.random.default_rng([seed, index])
    return torch.from_numpy(rng.integers(0, height * width, (count, 2)))


def ordinal_accuracy(
    pred: Float[Tensor, "B H W"],
    target: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    *,
    indices: Sequence[int] | None = None,
    count: int = PAIRS,
    ratio: float | int = RATIO,
    seed: int = 0,
) -> Float[Tensor, " B"]:
    """The share of pairs that each prediction puts in the true order; a tie is worth one half, as a
    guess would be.

    A pair counts where both pixels are valid and the greater true disparity is more than `ratio`
    times the smaller.

    Args:
        pred: disparity up to any growing function: greater is nearer.
        target: true disparity, not negative; 0 is infinitely far.
        valid: pixels to use; what the others hold never matters.
        indices: which images these are, see `draw_pairs`; the first ones by default.
        count, ratio, seed: of the pairs.

    Returns:
        float64, NaN for an image of which no pair counts.

    Raises:
        ValueError: shapes that are not three times (B, H, W), or a valid pixel that is NaN or
            infinite.
    """
    check_shapes(pred, target, valid)
    indices = range(len(pred)) if indices is None else indices
    height, width = pred.shape[1:]
    drawn = [draw_pairs(height, width, index=int(i), count=count, seed=seed) for i in indices]
    pairs = (
        torch.stack(drawn).to(pred.device).flatten(1)
        if drawn
        else pred.new_empty(0, 2 * count, dtype=torch.int64)
    )

    def both(x: Tensor) -> Tensor:
        return x.flatten(1).gather(1, pairs).unflatten(1, (count, 2))  # (B, H * W) -> (B, count, 2)

    use = valid.flatten(1)
    for name, x in (("prediction", pred), ("target", target)):
        check_finite(name, x.flatten(1).masked_fill(~use, 0))
    true = both(target).double()
    seen = both(pred).double()
    counts = both(valid).all(2) & (true.amax(2) > ratio * true.amin(2))
    # 1, 0 for a tie, or -1
    order = torch.sign(true[..., 0] - true[..., 1]) * torch.sign(seen[..., 0] - seen[..., 1])
    return ((1 + order) / 2).masked_fill(~counts, 0).sum(1) / counts.sum(1)
