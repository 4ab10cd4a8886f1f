"""From relative disparity to metres without training: scale and shift from known distances, with
error bars.

The model of the fit, for points i of known z-depth Z_i where the network says p_i::

    1 / Z_i = scale * p_i + shift + network's error + error of the measurement

The network's error has the same standard deviation everywhere in disparity (`ScaleShift.scatter`)
and is independent from point to point. That of a measurement is stated: `sigma_m` in metres, or
`sigma_relative` as a share of the distance; to first order it is sigma / Z^2 in disparity. Each
point weighs as its total variance says. The scatter is estimated from what the fit leaves over
(Paule and Mandel 1982: the value for which the weighted sum of squared residuals is its own
expectation, n - 2); without a stated error this is ordinary least squares. Two points leave nothing
over: then the scatter is unknown and taken as zero, and only a stated error gives error bars.

What one sigma holds, by simulation (`tests/predict/test_metres.py`): 68 % of new pixels with 30
points of 1 % error, and 95 % are inside the 95 % interval. With ten points whose measurements are
noisier than the network it is 63 % and 88 %, since such a scatter is often estimated as zero.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

from dalib.errors import ConfigError, DataError
from dalib.evaluation.align import CONSTANT

MOST_PAIRS = 1000
"""Points of which the robust line is made: it compares each with each."""
OUTLIER = 3.0
"""Robust standard deviations beyond which a point is left out."""
NO_BARS = (
    "the error bars are unknown: two distances leave no residual to judge by; state the error of a "
    "distance (--sigma or --relative-sigma), or give a third"
)
LEAST_ROBUST = 5
"""Points that a robust fit needs."""

Numbers = Sequence[float | int] | Real[np.ndarray, " n"] | Real[Tensor, " n"]


@dataclass(frozen=True, kw_only=True)
class ScaleShift:
    """What turns a map of relative disparity into metres: depth = 1 / (scale * map + shift).

    Args:
        scale: 1/m per unit of the map; positive.
        shift: 1/m.
        covariance: of (scale, shift), (2, 2). NaN where it is unknown: two points without a stated
            error of measurement.
        scatter: standard deviation of the network's disparity about the line, 1/m.
        points: of the fit.
        left_out: points that the robust fit took for wrong.
        freedom: points less fitted numbers. With few (below ten or so) the error bars are
            themselves uncertain: take `interval`, which knows it.
    """

    scale: float | int
    shift: float | int
    covariance: tuple[tuple[float, float], tuple[float, float]]
    scatter: float | int = 0.0
    points: int = 0
    left_out: int = 0
    freedom: int = 0

    @classmethod
    def guessed(cls, disparity: Float[Tensor, "h w"], ratio: float | int) -> "ScaleShift":
        """Where nothing is known: the nearest thing (98th percentile) at distance 1, and the
        farthest (2nd percentile) `ratio` times farther. A guess, for looking at."""
        if not (math.isfinite(ratio) and ratio > 1):
            raise ConfigError(f"guess {ratio}: the farthest is more than 1 times as far (--guess)")
        low, high = np.quantile(disparity.double().numpy(), (0.02, 0.98))
        if not high > low:
            raise DataError("a constant map has no depth; nothing can be guessed of it")
        scale = (1 - 1 / ratio) / (high - low)
        unknown = ((math.nan, math.nan), (math.nan, math.nan))
        return cls(scale=float(scale), shift=float(1 / ratio - scale * low), covariance=unknown)

    @property
    def errors(self) -> tuple[float, float]:
        """Standard errors of scale and shift; NaN where they are unknown."""
        return math.sqrt(self.covariance[0][0]), math.sqrt(self.covariance[1][1])

    def disparity(self, relative: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """In 1/m, float64. Zero or below is infinitely far."""
        return self.scale * relative.double() + self.shift

    def depth(self, relative: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """In metres, float32; infinite where the disparity is zero or below."""
        disparity = self.disparity(relative)
        return torch.where(disparity > 0, 1 / disparity, torch.inf).float()

    def error(self, relative: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """One standard deviation of `depth` at each pixel, in metres, float32; infinite where the
        depth is.

        To first order: depth^2 times the standard deviation of the disparity, which is that of the
        line at this pixel and the network's scatter about it, independent of each other. So of the
        pixels some 68 % lie within one, where the model of the fit holds. The scatter of a network
        is the same everywhere only on average: it is wrong by objects, not by pixels.

        Raises:
            ConfigError: the error bars are unknown.
        """
        depth = self.depth(relative).double()
        return torch.where(
            depth.isfinite(), depth.square() * self._deviation(relative), torch.inf
        ).float()

    def interval(
        self, relative: Float[Tensor, "*s"], *, level: float | int = 0.95
    ) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
        """The nearest and the farthest depth at each pixel, in metres, that hold the true one with
        this probability: of Student's t over the disparity, and then inverted.

        It is not symmetric: far away the farther end reaches to infinity.
        """
        from scipy.stats import norm, t

        if not 0 < level < 1:
            raise ConfigError(f"level {level}: must lie between 0 and 1")
        # a stated error is taken as known, an estimated scatter as estimated
        estimated = self.freedom > 0 and self.scatter > 0
        upper = (1 + level) / 2
        times = float(t.ppf(upper, self.freedom) if estimated else norm.ppf(upper))
        middle = self.disparity(relative)
        reach = times * self._deviation(relative)
        ends = (middle + reach, middle - reach)
        return tuple(torch.where(end > 0, 1 / end, torch.inf).float() for end in ends)

    def infinite(self, relative: Float[Tensor, "*s"]) -> float:
        """The share of pixels that are infinitely far."""
        return float((self.disparity(relative) <= 0).double().mean())

    def __str__(self) -> str:
        a, b = self.errors
        known = f" ± {a:.2g}", f" ± {b:.2g}"
        bars = known if math.isfinite(a) else ("", "")
        tail = "" if math.isfinite(a) else "; error bars unknown: state the error of a distance"
        out = f", {self.left_out} left out" if self.left_out else ""
        return (
            f"scale {self.scale:.4g}{bars[0]} 1/m, shift {self.shift:.4g}{bars[1]} 1/m "
            f"({self.points} points{out}{tail})"
        )

    def _deviation(self, relative: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Standard deviation of the disparity at each pixel."""
        (aa, ab), (_, bb) = self.covariance
        if not math.isfinite(aa):
            raise ConfigError(NO_BARS)
        p = relative.double()
        line = (aa * p + 2 * ab) * p + bb
        return (line.clamp(min=0) + self.scatter**2).sqrt()


# ---- fitting


def fit_scale_shift(
    predicted: Numbers,
    metres: Numbers,
    *,
    sigma_m: float | int | Numbers | None = None,
    sigma_relative: float | int | None = None,
    shift: float | int | None = None,
    robust: bool = False,
) -> ScaleShift:
    """Scale and shift of a network's disparity out of points of known depth; see the module for
    what is assumed.

    Args:
        predicted: (n,) relative disparity at the points.
        metres: (n,) their z-depth.
        sigma_m: one standard deviation of `metres`, for all or for each.
        sigma_relative: the same as a share of the distance; 0.02 is 2 %.
        shift: of the disparity in 1/m, where it is known (0 for a network whose disparity has none);
            then one point is enough.
        robust: first leave out points that lie more than `OUTLIER` robust standard deviations off
            the line of repeated medians (Siegel 1982), which half the points may spoil; for sparse
            maps with wrong points.

    Raises:
        ConfigError: both sigmas, one that is not positive, or too few points for a robust fit.
        DataError: no points, one point without `shift`, values that are not finite or not positive,
            points of one predicted disparity, near and far the wrong way round.
    """
    p, z = (np.atleast_1d(np.asarray(x, np.float64)) for x in (predicted, metres))
    if p.shape != z.shape or p.ndim != 1:
        raise DataError(f"{p.size} predictions for {z.size} distances; one for each is needed")
    given = {"sigma_m": sigma_m, "sigma_relative": sigma_relative}
    check_distances(z, shift=shift, robust=robust, **given)
    _check_predicted(p, shift=shift)
    variance = _variance(z, **given)
    count = len(p)
    use = np.ones(count, bool)
    if robust:
        use = _inliers(p, 1 / z)
        p, z = p[use], z[use]
        variance = None if variance is None else variance[use]
        check_distances(z, shift=shift)
        _check_predicted(p, shift=shift)
    found = _fit(p, 1 / z, variance, shift=shift)
    if found.scale <= 0:
        near, far = z.argmin(), z.argmax()
        raise DataError(
            f"the fitted scale is {found.scale:.3g}, so near and far are the wrong way round: "
            f"the network says {p[near]:.4g} at {z[near]:g} m and {p[far]:.4g} at {z[far]:g} m, "
            "and larger must be nearer; check the points, and that x is the column and y the row"
        )
    vars_ = vars(found) | {"points": len(p), "left_out": int(count - use.sum())}
    return ScaleShift(**vars_)


def known_distances(
    disparity: Float[Tensor, "h w"],
    points: Sequence[Sequence[float | int]],
    *,
    size: tuple[int, int] | None = None,
    **options,
) -> ScaleShift:
    """Scale and shift of a map out of distances that somebody measured.

    Args:
        disparity: a network's map, as it gives it or resized.
        points: (x, y, metres) each: column and row in the upright image, whose pixels have their
            centres at whole numbers, origin top left; and z-depth, the distance along the camera's
            axis.
        size: (H, W) of the image that x and y are of; by default the map's own.
        options: see `fit_scale_shift`.

    Raises:
        DataError: a point outside the image; and as `fit_scale_shift`.
    """
    table = np.asarray(points, np.float64).reshape(-1, 3)
    size = size or tuple(disparity.shape)
    check_places(table, size)
    predicted = sample(disparity, table[:, 0], table[:, 1], size=size)
    return fit_scale_shift(predicted, table[:, 2], **options)


def sparse_depth(
    disparity: Float[Tensor, "h w"],
    known: Float[Tensor, "H W"],
    valid: Bool[Tensor, "H W"],
    **options,
) -> ScaleShift:
    """Scale and shift of a map out of a sparse map of depth, as a LiDAR gives it.

    Args:
        disparity: a network's map, at any size of the same image.
        known: the true *disparity* in 1/m, as `dalib.data.files.to_disparity` makes it of stored
            depth.
        valid: where it is known; a disparity of 0 (sky) is passed over.
        options: see `fit_scale_shift`.
    """
    use = (valid & (known > 0)).numpy()
    rows, columns = use.nonzero()
    if not len(rows):
        raise DataError("the sparse map has no known depth; nothing can be fitted")
    predicted = sample(disparity, columns, rows, size=tuple(known.shape))
    return fit_scale_shift(predicted, 1 / known.double().numpy()[use], **options)


def sample(
    disparity: Float[Tensor, "h w"], x: Numbers, y: Numbers, *, size: tuple[int, int]
) -> Float[np.ndarray, " n"]:
    """The map at places of an image of `size` (H, W), float64: what `resize_disparity` would give
    there."""
    values = disparity.double().numpy()
    places = []
    for at, small, large in zip((y, x), values.shape, size, strict=True):
        at = (np.asarray(at, np.float64) + 0.5) * small / large - 0.5
        places.append(at.clip(0, small - 1))
    low = [np.floor(at).astype(int) for at in places]
    high = [np.minimum(at + 1, side - 1) for at, side in zip(low, values.shape, strict=True)]
    down, right = (at - base for at, base in zip(places, low, strict=True))
    above = values[low[0], low[1]] * (1 - right) + values[low[0], high[1]] * right
    below = values[high[0], low[1]] * (1 - right) + values[high[0], high[1]] * right
    return above * (1 - down) + below * down


def check_places(points: Float[np.ndarray, "n 3"], size: tuple[int, int]) -> None:
    """A `DataError` for the first of some points (x, y, metres) that lies outside an image of
    `size` (H, W)."""
    height, width = size
    for x, y, metres in points:
        if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
            raise DataError(
                f"point {x:g},{y:g},{metres:g}: lies outside the image, which is {width} pixels "
                f"wide and {height} high; correct it"
            )


def check_distances(
    metres: Numbers,
    *,
    sigma_m: float | int | Numbers | None = None,
    sigma_relative: float | int | None = None,
    shift: float | int | None = None,
    robust: bool = False,
) -> None:
    """Refuse known distances that no map could be fitted to: what can be known before a network
    has seen the image. Arguments and errors are those of `fit_scale_shift`."""
    z = np.atleast_1d(np.asarray(metres, np.float64))
    if not len(z):
        raise DataError("no known distance is given; two are needed")
    _check_finite(z, "distances")
    if (z <= 0).any():
        raise DataError(f"a distance of {z.min():g} m: must be positive; correct or remove it")
    if shift is not None and not math.isfinite(shift):
        raise ConfigError(f"shift {shift}: must be a finite number of 1/m (--shift)")
    if shift is None and len(z) < 2:
        raise DataError(
            "one known distance fixes scale or shift, not both; give a second one at another "
            "distance, or state the shift (--shift 0, where the disparity has none)"
        )
    if robust and shift is not None:
        raise ConfigError("robust: needs the shift to be fitted; leave out --shift")
    if robust and len(z) < LEAST_ROBUST:
        raise ConfigError(
            f"robust: {len(z)} points are too few to tell the wrong ones; give at least "
            f"{LEAST_ROBUST}, or leave it out"
        )
    _variance(z, sigma_m=sigma_m, sigma_relative=sigma_relative)


def _check_predicted(p: np.ndarray, *, shift: float | int | None) -> None:
    _check_finite(p, "predicted disparities")
    if shift is not None:
        return
    spread = p.var()
    if spread <= CONSTANT * (spread + p.mean() ** 2):
        raise DataError(
            f"the network says {p.mean():.4g} at all {len(p)} known distances, so scale and shift "
            "are undetermined; take points that differ in depth"
        )


def _check_finite(values: np.ndarray, what: str) -> None:
    if wrong := int((~np.isfinite(values)).sum()):
        raise DataError(f"{wrong} {what} are NaN or infinite; remove them")


def _variance(
    z: np.ndarray, *, sigma_m: float | int | Numbers | None, sigma_relative: float | int | None
) -> np.ndarray | None:
    """Of the measured disparities, to first order; None where nothing is stated."""
    if sigma_m is not None and sigma_relative is not None:
        raise ConfigError("give the error of a distance in metres or as a share, not both")
    if sigma_m is None and sigma_relative is None:
        return None
    share = sigma_relative if sigma_m is None else np.asarray(sigma_m, np.float64) / z
    share = np.broadcast_to(np.asarray(share, np.float64), z.shape)
    if not (np.isfinite(share).all() and (share > 0).all()):
        raise ConfigError("the error of a distance must be positive (--sigma, --relative-sigma)")
    if (share >= 0.5).any():
        raise ConfigError(
            f"the stated error is {100 * share.max():.0f} % of a distance: no distance is known "
            "then; give better ones (--sigma, --relative-sigma)"
        )
    return (share / z) ** 2


def _inliers(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """True for the points near the line of repeated medians."""
    from scipy.stats import siegelslopes

    # from the nearest to the farthest, evenly
    chosen = np.argsort(p, kind="stable")
    if len(p) > MOST_PAIRS:
        chosen = chosen[np.linspace(0, len(p) - 1, MOST_PAIRS).round().astype(int)]
    line = siegelslopes(y[chosen], p[chosen])
    off = y - line.slope * p - line.intercept
    off = np.abs(off - np.median(off))
    return off <= OUTLIER * 1.4826 * np.median(off) + 1e-9 * np.abs(y).max()


def _fit(
    p: np.ndarray, y: np.ndarray, variance: np.ndarray | None, *, shift: float | int | None
) -> ScaleShift:
    """The weighted line, with the scatter that its residuals show."""
    freedom = len(p) - (2 if shift is None else 1)
    if variance is None:
        # equal weights; their size follows from the residuals
        a, b, shape = _line(p, y, np.ones_like(p), shift=shift)
        scatter2 = float(((y - a * p - b) ** 2).sum() / freedom) if freedom else math.nan
        covariance = shape * scatter2
        scatter2 = 0.0 if math.isnan(scatter2) else scatter2
    else:
        scatter2 = _scatter(p, y, variance, freedom, shift=shift)
        a, b, covariance = _line(p, y, 1 / (variance + scatter2), shift=shift)
    rows = tuple(tuple(float(value) for value in row) for row in covariance)
    return ScaleShift(
        scale=float(a),
        shift=float(b),
        covariance=rows,
        scatter=math.sqrt(scatter2),
        freedom=freedom,
    )


def _line(
    p: np.ndarray, y: np.ndarray, weight: np.ndarray, *, shift: float | int | None
) -> tuple[float, float, np.ndarray]:
    """Scale, shift, and their covariance where each weight is one over a variance."""
    if shift is not None:
        square = (weight * p * p).sum()
        if square <= 0:
            raise DataError(
                "the network says 0 at every known distance, so its scale is undetermined"
            )
        a = (weight * p * (y - shift)).sum() / square
        return a, shift, np.array([[1 / square, 0], [0, 0]])
    total = weight.sum()
    mean_p, mean_y = (weight * p).sum() / total, (weight * y).sum() / total
    centred = p - mean_p
    square = (weight * centred**2).sum()
    a = (weight * centred * (y - mean_y)).sum() / square
    both = -mean_p / square
    covariance = np.array([[1 / square, both], [both, 1 / total + mean_p**2 / square]])
    return a, mean_y - a * mean_p, covariance


def _scatter(
    p: np.ndarray, y: np.ndarray, variance: np.ndarray, freedom: int, *, shift: float | int | None
) -> float:
    """The network's variance by Paule and Mandel: that at which the weighted residuals are as large
    as they are expected to be; 0 where the stated errors explain them."""
    from scipy.optimize import brentq

    if not freedom:
        return 0.0

    def surplus(scatter2: float | int) -> float:
        weight = 1 / (variance + scatter2)
        a, b, _ = _line(p, y, weight, shift=shift)
        return float((weight * (y - a * p - b) ** 2).sum()) - freedom

    if surplus(0.0) <= 0:
        return 0.0
    high = float(variance.max())
    while surplus(high) > 0:
        high *= 4
    return float(brentq(surplus, 0.0, high, xtol=1e-12 * high, rtol=1e-10))
