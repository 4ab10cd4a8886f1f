"""Scale and shift of a prediction, in whatever space both maps share: by least squares in
disparity, in this project, and in the other ways that people use."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dalib.errors import ConfigError

# for each image, the sequence that it belongs to
Groups = Sequence[Hashable] | np.ndarray | Tensor
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


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How a prediction is brought to the scale of the truth before depths are compared.

    Args:
        name: for the command line and for records.
        space: of the fit, "disparity", "depth" or "log_depth"; None where nothing is fitted.
        parameters: what is fitted, "none", "scale" or "scale_shift".
        fit: "least_squares", "median" (the ratio of the medians) or "trimmed" (least squares over
            the pixels that fit best, see `trimmed_least_squares`).
        source: who aligns so.
    """

    name: str
    space: str | None
    parameters: str
    fit: str = "least_squares"
    source: str = "unstated"

    @property
    def words(self) -> str:
        """For a card: what is fitted, in which space, and how."""
        if self.space is None:
            return "no alignment"
        what = {"scale": "scale", "scale_shift": "scale and shift"}[self.parameters]
        how = {
            "least_squares": "least squares",
            "median": "ratio of medians",
            "trimmed": f"least squares over the best {TRIMMED:.0%}",
        }[self.fit]
        return f"{what} in {self.space.replace('_', ' ')}, {how}"


TRIMMED = 0.8
"""Share of the pixels that a trimmed fit keeps: MiDaS's trimmed loss leaves out the 20 % with the
largest residuals (Ranftl et al. 2020)."""
ALIGNMENTS = {
    a.name: a
    for a in (
        Alignment(
            name="none",
            space=None,
            parameters="none",
            source="metric depth: cleinc/bts:pytorch/bts_eval.py",
        ),
        Alignment(
            name="median",
            space="depth",
            parameters="scale",
            fit="median",
            source="nianticlabs/monodepth2:evaluate_depth.py, after Zhou et al. 2017",
        ),
        Alignment(
            name="scale",
            space="depth",
            parameters="scale",
            source="kmatzen/plumbline:src/plumbline/metrics/alignment.py (lstsq)",
        ),
        Alignment(
            name="disparity",
            space="disparity",
            parameters="scale_shift",
            source="isl-org/DPT:EVALUATION.md, for MiDaS; microsoft/MoGe:moge/test/metrics.py",
        ),
        Alignment(
            name="depth",
            space="depth",
            parameters="scale_shift",
            source="prs-eth/Marigold:src/util/alignment.py (least_square)",
        ),
        Alignment(
            name="log_depth",
            space="log_depth",
            parameters="scale_shift",
            source="kmatzen/plumbline:src/plumbline/metrics/alignment.py (space log)",
        ),
        Alignment(
            name="robust",
            space="disparity",
            parameters="scale_shift",
            fit="trimmed",
            source="Rousseeuw 1984 (least trimmed squares); the share is that of MiDaS's trimmed loss",
        ),
    )
}
"""The alignments by name; `disparity` is the default."""


def fit(
    pred: Float[Tensor, "B H W"],
    target: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    alignment: Alignment,
    *,
    groups: Groups | None = None,
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """The (scale, shift) of an alignment, where both maps are in its space already.

    Args:
        pred, target, valid: as for `least_squares`, in the space of the alignment.
        alignment: one of `ALIGNMENTS`, or your own.
        groups: for each image, the sequence it belongs to: the pixels of all images of one group
            share one fit. None: each image has its own. Sequences whose frames differ in size can
            be padded with pixels that are not valid.

    Returns:
        float64, always finite; 1 and 0 where nothing is fitted. Constant predictions and images
        without a valid pixel are as in `least_squares`: scale 0.

    Raises:
        ValueError: as `least_squares`; as many groups as images are needed; a median that is not
            above 0.
    """
    check_shapes(pred, target, valid)
    if groups is None:
        return _FITS[alignment.parameters, alignment.fit](pred, target, valid)
    groups = groups.tolist() if hasattr(groups, "tolist") else list(groups)  # tensors, arrays too
    if len(groups) != len(pred):
        raise ValueError(f"groups: {len(groups)} names for {len(pred)} images; give one each")
    scales = torch.zeros(len(pred), dtype=torch.float64, device=pred.device)
    shifts = torch.zeros_like(scales)
    for group in dict.fromkeys(groups):
        members = [i for i, name in enumerate(groups) if name == group]
        # (n, H, W) -> (1, n * H, W): one tall image of all frames
        frames = [x[members].flatten(0, 1)[None] for x in (pred, target, valid)]
        scale, shift = _FITS[alignment.parameters, alignment.fit](*frames)
        scales[members] = scale
        shifts[members] = shift
    return scales, shifts


def least_squares_scale(
    pred: Float[Tensor, "B H W"], target: Float[Tensor, "B H W"], valid: Bool[Tensor, "B H W"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """The scale of each image with the least sum of (scale * pred - target)^2, a line through zero:
    sum(pred * target) / sum(pred^2), and a shift of 0.

    Args and errors as for `least_squares`; a prediction of zeros has scale 0.
    """
    check_shapes(pred, target, valid)
    p = torch.where(valid, pred, 0).flatten(1).double()
    t = torch.where(valid, target, 0).flatten(1).double()
    check_finite("prediction", p)
    check_finite("target", t)
    size = p.abs().amax(1, keepdim=True) if p.shape[1] else p.new_ones(len(p), 1)
    size = torch.where(size > 0, size, 1)
    p = p / size  # so that no square underflows
    square = torch.einsum("bn,bn->b", p, p)
    product = torch.einsum("bn,bn->b", p, t)
    scale = product / torch.where(square > 0, square, 1) / size[:, 0]
    return scale, torch.zeros_like(scale)


def median_scale(
    pred: Float[Tensor, "B H W"], target: Float[Tensor, "B H W"], valid: Bool[Tensor, "B H W"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """The scale of each image that makes the medians over its valid pixels equal, and a shift of 0.

    It is median(target) / median(pred), the ratio of the medians, as in Zhou et al. 2017 and
    monodepth2. Others take the median of the ratios, which differs. Of an even number of values,
    the median is the mean of the middle two (NumPy's), not the lower of them (PyTorch's).

    Args as for `least_squares`. An image without a valid pixel has scale 0.

    Raises:
        ValueError: as `least_squares`, and a prediction whose median is not above 0, which no
            positive scale brings to a depth.
    """
    check_shapes(pred, target, valid)
    for name, x in (("prediction", pred), ("target", target)):
        check_finite(name, torch.where(valid, x, 0).flatten(1))
    scales = []
    for i in range(len(pred)):
        p, t = (x[i][valid[i]].double() for x in (pred, target))
        if not p.numel():
            scales.append(0.0)
            continue
        middle = median(p)
        if middle <= 0:
            raise ValueError(
                f"the median of the prediction is {middle:.6g} in image {i}: a scale alone needs "
                "depth above 0; for a map up to scale and shift take an alignment that fits both"
            )
        scales.append(float(median(t) / middle))
    scale = torch.tensor(scales, dtype=torch.float64, device=pred.device)
    return scale, torch.zeros_like(scale)


def median(x: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """The median of at least one value: the mean of the middle two where their number is even."""
    ordered = x.sort().values
    return (ordered[(len(x) - 1) // 2] + ordered[len(x) // 2]) / 2


def trimmed_least_squares(
    pred: Float[Tensor, "B H W"],
    target: Float[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
    *,
    keep: float | int = TRIMMED,
    steps: int = 100,
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """The (scale, shift) of each image with the least sum of its smallest squared residuals: least
    trimmed squares (Rousseeuw 1984), over the share `keep` of the valid pixels.

    Found by concentration steps (Rousseeuw and Van Driessen 2006, FAST-LTS): fit, keep the pixels
    with the smallest residuals, fit to those, until they stay the same. Each step lowers the sum, so
    it ends in a minimum, which may be a local one. So there are several starts: the fit to all
    pixels, and the best three of the lines through two of eight groups of pixels, near to far, at
    their medians, after two steps each on 2,000 of the pixels. The best end counts. Nothing is
    drawn, and the order of the pixels does not matter: the same maps have the same fit.

    Args:
        pred, target, valid: as for `least_squares`.
        keep: share of the valid pixels that count, above 0.5 (half of the pixels could be another
            surface below that) to 1.
        steps: at most, from each start.

    Returns:
        As `least_squares`, the same where nothing is trimmed.
    """
    if not 0.5 < keep <= 1:
        raise ConfigError(f"keep: {keep} must lie above 0.5 and not above 1")
    scale, shift = least_squares(pred, target, valid)
    for i in range(len(pred)):
        p, t = (x[i][valid[i]].double() for x in (pred, target))
        count = math.ceil(keep * len(p))
        if count == len(p):
            continue
        starts = [(scale[i], shift[i]), *_lines(p, t, keep=keep)]
        ends = [_concentrate(p, t, start, count=count, steps=steps) for start in starts]
        scale[i], shift[i] = min(ends, key=lambda end: end[0])[1]
    return scale, shift


def _lines(
    p: Float[Tensor, " N"], t: Float[Tensor, " N"], *, keep: float | int, best: int = 3
) -> list[tuple[Tensor, Tensor]]:
    """Promising lines to start from, see `trimmed_least_squares`."""
    # by prediction, and by truth where that is equal
    order = t.argsort(stable=True)
    order = order[p[order].argsort(stable=True)]
    few = torch.linspace(0, len(p) - 1, min(len(p), 2000), dtype=torch.float64).round().long()
    p, t = (x[order][few.to(x.device)] for x in (p, t))
    middles = [
        (median(a), median(b))
        for a, b in zip(p.tensor_split(8), t.tensor_split(8), strict=True)
        if len(a)
    ]
    lines = [
        ((t2 - t1) / (p2 - p1), t1 - (t2 - t1) / (p2 - p1) * p1)
        for (p1, t1), (p2, t2) in combinations(middles, 2)
        if p1 != p2
    ]
    count = math.ceil(keep * len(p))
    ends = [_concentrate(p, t, line, count=count, steps=3) for line in lines]
    return [line for _, line in sorted(ends, key=lambda end: end[0])[:best]]


def _concentrate(
    p: Float[Tensor, " N"],
    t: Float[Tensor, " N"],
    line: tuple[Tensor, Tensor],
    *,
    count: int,
    steps: int,
) -> tuple[float, tuple[Tensor, Tensor]]:
    """Where concentration steps lead from a line: the sum of the `count` smallest squared
    residuals, and the line."""
    kept = torch.zeros_like(p, dtype=torch.bool)
    best = math.inf, line
    for _ in range(steps):
        residual = (line[0] * p + line[1] - t).square()
        edge = residual.kthvalue(count).values
        total = float(residual.clamp(max=edge).sum() - edge * (len(p) - count))
        if total < best[0]:
            best = total, line
        now = residual <= edge  # ties are all kept, so that the order of the pixels cannot matter
        if torch.equal(now, kept):
            break
        kept = now
        scale, shift = least_squares(p[None, None], t[None, None], kept[None, None])
        line = scale[0], shift[0]
    return best


def _nothing(pred: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    for name, x in (("prediction", pred), ("target", target)):
        check_finite(name, torch.where(valid, x, 0).flatten(1))
    one = torch.ones(len(pred), dtype=torch.float64, device=pred.device)
    return one, torch.zeros_like(one)


_FITS = {
    ("none", "least_squares"): _nothing,
    ("scale", "least_squares"): least_squares_scale,
    ("scale", "median"): median_scale,
    ("scale_shift", "least_squares"): least_squares,
    ("scale_shift", "trimmed"): trimmed_least_squares,
}
"""(What is fitted, how) -> the function that fits."""
