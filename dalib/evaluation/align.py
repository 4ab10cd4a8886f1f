"""Scale and shift of a prediction by least squares, in whatever space both maps share: disparity,
in this project."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CONSTANT = 1e-12
"""A prediction whose variance is at most this share of its mean square is constant: a spread of
1e-6 of its size, eight steps of float32, holds rounding and no depth."""


def check_shapes(pred: Tensor, target: Tensor, valid: Tensor) -> None:
    """A `ValueError` unless all three are (B, H, W): other shapes would broadcast, or pool the
    pixels of several images."""
    shapes = [tuple(x.shape) for x in (pred, target, valid)]
    if len(set(shapes)) != 1 or len(shapes[0]) != 3:
        named = ", ".join(
            f"{n} {s}" for n, s in zip(("prediction", "target", "valid"), shapes, strict=True)
        )
        raise ValueError(
            f"{named}: all must be (images, rows, columns), so that no pixels are "
            "pooled over images"
        )


def check_finite(name: str, x: Float[Tensor, "B N"]) -> None:
    """A `ValueError` that names the images with a value that is NaN or infinite: leaving it out
    quietly would flatter."""
    bad = ~torch.isfinite(x).all(1)
    if bad.any():
        raise ValueError(
            f"{name} is NaN or infinite at valid pixels of images "
            f"{bad.nonzero().flatten().tolist()}"
        )


def least_squares(
    pred: Float[Tensor, "B H W"], target: Float[Tensor, "B H W"], valid: Bool[Tensor, "B H W"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """The (scale, shift) of each image with the least sum of (scale * pred + shift - target)^2 over
    its valid pixels.

    Closed form in float64 about the means: scale = cov(pred, target) / var(pred), shift =
    mean(target) - scale * mean(pred). Centring first keeps the digits that the textbook determinant
    n * sum(p^2) - sum(p)^2 cancels.

    Args:
        pred: disparity of any precision.
        target: in the same space: disparity, never depth.
        valid: pixels to use; what the others hold never matters, NaN included.

    Returns:
        float64, always finite. A constant prediction (see `CONSTANT`) has scale 0 and shift = mean
        target; an image without a valid pixel has 0 and 0.

    Raises:
        ValueError: shapes that are not three times (B, H, W), or a valid pixel that is NaN or
            infinite.
    """
    check_shapes(pred, target, valid)
    weight = valid.flatten(1).double()  # (B, H, W) -> (B, H * W), as are p and t
    p = torch.where(valid, pred, 0).flatten(1).double()
    t = torch.where(valid, target, 0).flatten(1).double()
    count = weight.sum(1, keepdim=True).clamp(min=1)
    # (B, 1)
    mean_p = p.sum(1, keepdim=True) / count
    mean_t = t.sum(1, keepdim=True) / count
    check_finite("prediction", mean_p)
    check_finite("target", mean_t)
    centred = p.addcmul_(weight, mean_p, value=-1)  # p - mean where valid, 0 elsewhere
    variance = torch.einsum("bn,bn->b", centred, centred) / count[:, 0]
    constant = variance <= CONSTANT * (variance + mean_p[:, 0].square())
    covariance = torch.einsum("bn,bn->b", centred, t) / count[:, 0]
    scale = torch.where(constant, 0, covariance / torch.where(constant, 1, variance))
    return scale, mean_t[:, 0] - scale * mean_p[:, 0]
