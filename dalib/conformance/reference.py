"""The paper's losses, the fit of scale and shift, and the metrics once more: in NumPy, in float64,
image by image, with every known fault as an option.

Nothing here comes from the rest of `dalib`. Every function also takes complex arrays, so that a
gradient is the imaginary part of a step of 1e-30 along it (the complex step: exact, nothing
cancels); comparisons look at the real part, and |x| has derivative 0 at 0.
"""

from collections.abc import Callable

import numpy as np
from numpy import ndarray as Array

STEP = 1e-30
"""Of the complex step."""

STATISTICS = {
    "median": "lower",  # lower | middle | upper: for an even count; the paper leaves it open
    "shift": "median",  # mean | zeros | unmasked | none
    "spread": "mean_abs",  # std | std_unbiased | median_abs | range | all_pixels | unmasked | none
    "normalised": "both",  # target | pred | neither | by_target
    "space": "disparity",  # depth | log
    "mask": "valid",  # ignored | inverted | positive
    "masking": "select",  # product: what is not valid is multiplied by 0, and NaN stays NaN
    "pool": "image",  # batch: one shift and spread for all images
    "guard": "yes",  # no: 0 / 0 where a map is constant
    "empty": "zero",  # nan: 0 / 0 where no pixel is valid
    "epsilon": 0.0,  # added to the spread
    "error": "absolute",  # squared | root
    "divide": "valid",  # all | none
    "trim": 0.0,  # share of the worst pixels that are dropped
    "dropped": "floor",  # ceil: how many these are
    "trimmed_mean": "kept",  # valid: what the sum over those that are kept is divided by
    "factor": 1.0,
    "detach": "nothing",  # statistics | shift | spread: taken for constants in the gradient
}
"""Options of the losses on maps, and what the paper means."""
CUTMIX = STATISTICS | {
    "regions": "apart",  # together | labels_whole
    "weights": "valid",  # area | equal | none | swapped | inside | outside
    "box": "inside",  # inverted
    "partner": "inside",  # own | everywhere
}
ALIGNMENT = {
    "divide": "all",  # kept | none
    "at_margin": "dropped",  # kept
    "normalised": "both",  # student | frozen | neither
    "margin_on": "token",  # image | batch
    "keep": "below",  # above | all
    "alpha": "given",  # complement
    "dropped": "zero",  # one: adds 1 - 0
    "error": "cosine",  # hinge | negative | squared | euclidean
    "axis": "channels",  # space | whole
    "tokens": "each",  # mean: of the features, before the cosine
    "guard": "yes",
}
FIT = {
    "method": "least_squares",  # median_spread | scale | median_scale | shift | none | min_max
    "space": "disparity",  # depth | both_depth | log
    "mask": "valid",  # ignored | zeros | inverted
    "pool": "image",  # batch
    "direction": "forward",  # backward: target to prediction, not inverted again
    "order": "scale_shift",  # shift_scale
    "sign": "any",  # positive: a scale below 0 becomes 0
}
METRIC = {
    "mask": "valid",  # ignored | inverted
    "divide": "valid",  # all
    "empty": "nan",  # zero
    "space": "depth",  # disparity
    "relative": "target",  # pred | mean: what an error is a share of
    "power": "target",  # squared: of what sq_rel divides by
    "logarithm": "right",  # natural | ten | two; right are natural ones, in log10 those to base 10
    "root": "of_mean",  # none | of_each
    "error": "plain",  # other: squared for absolute, or absolute for squared
    "bound": "below",  # at_most
    "ratio": "larger",  # pred_target | target_pred
    "threshold": "power",  # multiple
    "unit": 1.0,  # 100: percent
    "weight": 1.0,  # of the squared mean in SILog
    "aligned": "no",  # median | scale_shift
    "average": "mean",  # median: over pixels
}
EVALUATION = FIT | {
    "clamp": "cap",  # none: the aligned disparity is inverted as it is
    "range": "both",  # pred: ground truth beyond the cap is scored, too
    "score": {},  # options of the metric
}
BASES = {"natural": 1.0, "ten": np.log(10), "two": np.log(2)}
METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "silog", "log10")
METRICS = (*METRICS, "delta05", "delta1", "delta2", "delta3")
DELTAS = {"delta05": 0.5, "delta1": 1, "delta2": 2, "delta3": 3}


# numbers that may be complex ---------------------------------------------------------------------


def magnitude(x: Array) -> Array:
    """|x|, with derivative 0 at 0."""
    return np.sign(np.real(x)) * x


def ordered(x: Array) -> Array:
    """By the real part."""
    return x[np.argsort(np.real(x), kind="stable")]


def median(x: Array, which: str = "lower") -> complex | float:
    """Of a list; of an even count the lower or the upper of the two in the middle, or their mean."""
    x = ordered(x)
    low, high = x[(len(x) - 1) // 2], x[len(x) // 2]
    return {"lower": low, "upper": high, "middle": (low + high) / 2}[which]


def constant(x: complex | float) -> float:
    """Without its derivative."""
    return float(np.real(x))


def gradient(function: Callable[[Array], Array], at: Array) -> Array:
    """Derivative of each image's value (B,) by that image's own numbers `at` (B, ...), by complex
    steps; what an image does to another's value is left out."""
    found = np.zeros(at.shape)
    for place in np.ndindex(at.shape[1:]):
        step = at.astype(complex)
        step[(slice(None), *place)] += 1j * STEP
        found[(slice(None), *place)] = np.imag(function(step)) / STEP
    return found


# losses on maps ----------------------------------------------------------------------------------


def affine_invariant(pred: Array, target: Array, valid: Array, **options) -> Array:
    """The affine-invariant loss of each image (B,), eq. 1 to 3.

    Args:
        pred, target: (B, H, W), disparity.
        valid: (B, H, W), bool.
        options: of `STATISTICS`.
    """
    o = STATISTICS | options
    spoiled = _spoiled(pred, target, o)
    pred, target = (_transformed(x, o["space"]) for x in (pred, target))
    valid = _mask(target, valid, o["mask"])
    flat = [(p.ravel(), t.ravel(), v.ravel()) for p, t, v in zip(pred, target, valid, strict=True)]
    pooled = None
    if o["pool"] == "batch":
        joined = [np.concatenate(parts) for parts in zip(*flat, strict=True)]
        pooled = (_statistics(joined[0], joined[2], o), _statistics(joined[1], joined[2], o))
    values = [_map_loss(p, t, v, o, pooled) for p, t, v in flat]
    return np.where(spoiled, np.nan, np.array(values))


def cutmix(
    pred: Array, target: Array, target_inside: Array, inside: Array, valid: Array, **options
) -> Array:
    """The unlabelled loss of each image (B,) under CutMix, eq. 6 to 8.

    Args:
        pred: (B, H, W), the student's disparity of the mixed image.
        target: the label of what shows outside the box.
        target_inside: the label of what shows inside.
        inside: (B, H, W), bool: the box.
        valid: (B, H, W), bool.
        options: of `CUTMIX`.
    """
    o = CUTMIX | options
    if o["box"] == "inverted":
        inside = ~inside
    if o["partner"] == "own":
        target_inside = target
    if o["partner"] == "everywhere":
        target = target_inside
    maps = {k: o[k] for k in STATISTICS}
    label = np.where(inside, target_inside, target)
    if o["regions"] == "together":
        return affine_invariant(pred, label, valid, **maps)
    if o["regions"] == "labels_whole":
        whole = [_normalised(x, valid, maps) for x in (target_inside, target)]
        return affine_invariant(
            _normalised(pred, valid, maps),
            np.where(inside, *whole),
            valid,
            **maps | {"normalised": "neither"},
        )
    parts = (inside, target_inside), (~inside, target)
    one, two = (affine_invariant(pred, label, valid & here, **maps) for here, label in parts)
    if o["divide"] == "none":
        return one + two
    share = _share(inside, valid if o["weights"] in ("valid", "swapped") else valid | True)
    first = {"equal": 0.5, "none": 1, "swapped": 1 - share, "inside": 1, "outside": 0}
    second = {"equal": 0.5, "none": 1, "swapped": share, "inside": 0, "outside": 1}
    return first.get(o["weights"], share) * one + second.get(o["weights"], 1 - share) * two


def _share(inside: Array, valid: Array) -> Array:
    count = valid.sum((1, 2))
    return (inside & valid).sum((1, 2)) / np.maximum(count, 1)


def _transformed(d: Array, space: str) -> Array:
    with np.errstate(all="ignore"):
        if space == "depth":
            return 1 / d
        return np.log(d) if space == "log" else d


def _mask(target: Array, valid: Array, how: str) -> Array:
    if how == "ignored":
        return np.ones_like(valid)
    if how == "inverted":
        return ~valid
    return valid & (target != 0) if how == "positive" else valid


def _spoiled(pred: Array, target: Array, o: dict) -> Array:
    """Images that a product with 0 does not clean: those that hold a NaN anywhere."""
    holds = np.isnan(np.real(pred)) | np.isnan(np.real(target))
    return holds.any((1, 2)) & (o["masking"] == "product")


def _statistics(d: Array, v: Array, o: dict) -> tuple:
    """Shift and spread of a map (n,) over its valid pixels; 0 and 0 where there is none."""
    use = d[v]
    if not len(use):
        return 0.0, 0.0
    shift = {
        "median": lambda: median(use, o["median"]),
        "mean": lambda: use.mean(),
        "zeros": lambda: median(np.where(v, d, 0), o["median"]),
        "unmasked": lambda: median(d, o["median"]),
        "none": lambda: 0.0,
    }[o["shift"]]()
    if o["detach"] in ("shift", "statistics"):
        shift = constant(shift)
    away = magnitude(use - shift)
    spread = {
        "mean_abs": lambda: away.mean(),
        "std": lambda: np.sqrt(((use - use.mean()) ** 2).mean()),
        "std_unbiased": lambda: np.sqrt(((use - use.mean()) ** 2).sum() / max(len(use) - 1, 1)),
        "median_abs": lambda: median(away, o["median"]),
        "range": lambda: ordered(use)[-1] - ordered(use)[0],
        "all_pixels": lambda: away.sum() / len(d),
        "unmasked": lambda: magnitude(d - shift).mean(),
        "none": lambda: 1.0,
    }[o["spread"]]()
    if o["detach"] in ("spread", "statistics"):
        spread = constant(spread)
    return shift, spread + o["epsilon"]


def _divided(d: Array, shift: complex | float, spread: complex | float, o: dict) -> Array:
    with np.errstate(all="ignore"):
        if np.real(spread) == 0 and o["guard"] == "yes":
            return np.zeros_like(d) if o["shift"] in ("median", "mean") else (d - shift) / 1e-5
        return (d - shift) / spread


def _normalised(maps: Array, valid: Array, o: dict) -> Array:
    """Whole maps, each to shift 0 and spread 1."""
    found = []
    for d, v in zip(maps, valid, strict=True):
        shift, spread = _statistics(d.ravel(), v.ravel(), o)
        found.append(_divided(np.where(v, d, 0), shift, spread, o))
    return np.array(found)


def _map_loss(p: Array, t: Array, v: Array, o: dict, pooled: tuple | None) -> complex | float:
    """Of one image, flattened."""
    if not v.any():
        return 0.0 if o["empty"] == "zero" else np.nan
    with np.errstate(all="ignore"):
        of_pred, of_target = pooled or (_statistics(p, v, o), _statistics(t, v, o))
        if o["normalised"] == "by_target":
            of_pred = of_target
        p, t = p[v], t[v]
        if o["normalised"] in ("both", "pred", "by_target"):
            p = _divided(p, *of_pred, o)
        if o["normalised"] in ("both", "target", "by_target"):
            t = _divided(t, *of_target, o)
        error = magnitude(p - t)
        all_of_them = len(error)
        if o["trim"]:
            share = o["trim"] * len(error)
            out = np.floor(share + 1e-9) if o["dropped"] == "floor" else np.ceil(share - 1e-9)
            error = ordered(error)[: len(error) - int(out)]
        if o["error"] != "absolute":
            error = error**2
        kept = all_of_them if o["trimmed_mean"] == "valid" else max(len(error), 1)
        count = {"valid": kept, "all": len(v), "none": 1}[o["divide"]]
        loss = error.sum() / count
        if o["error"] == "root":
            loss = np.sqrt(loss)
    return o["factor"] * loss


# features ----------------------------------------------------------------------------------------


def feature_alignment(
    student: Array, frozen: Array, margin: float, *, boundary: float = 1e-12, **options
) -> Array:
    """The feature alignment loss of each image (B,), eq. 9 with its tolerance margin.

    Args:
        student, frozen: (B, C, H, W).
        margin: alpha.
        boundary: a cosine this near the margin lies on it.
        options: of `ALIGNMENT`.
    """
    o = ALIGNMENT | options
    b, c = student.shape[:2]
    x, y = (f.reshape(b, c, -1) for f in (student, frozen))
    if o["axis"] == "space":
        x, y = x.transpose(0, 2, 1), y.transpose(0, 2, 1)
    if o["axis"] == "whole":
        x, y = x.reshape(b, -1, 1), y.reshape(b, -1, 1)
    if o["tokens"] == "mean":
        x, y = x.mean(2, keepdims=True), y.mean(2, keepdims=True)
    with np.errstate(all="ignore"):
        cosine = (x * y).sum(1)
        for f, name in ((x, "student"), (y, "frozen")):
            if o["normalised"] in ("both", name):
                length = np.sqrt((f * f).sum(1))
                zero = np.real(length) == 0
                if o["guard"] == "yes":
                    length = np.where(zero, 1, length)
                cosine = cosine / length
        alpha = 1 - margin if o["alpha"] == "complement" else margin
        held = np.real(cosine)
        if o["margin_on"] != "token":
            axis = 1 if o["margin_on"] == "image" else None
            held = np.broadcast_to(held.mean(axis, keepdims=True), held.shape)
        on = abs(held - alpha) <= boundary
        kept = {"below": held < alpha, "above": held > alpha, "all": np.ones_like(on)}[o["keep"]]
        if o["keep"] != "all":
            kept = np.where(on, o["at_margin"] == "kept", kept)
        error = {
            "cosine": lambda: 1 - cosine,
            "hinge": lambda: alpha - cosine,
            "negative": lambda: -cosine,
            "squared": lambda: (1 - cosine) ** 2,
            "euclidean": lambda: ((x - y) ** 2).mean(1),
        }[o["error"]]()
        total = np.where(kept, error, 1.0 if o["dropped"] == "one" else 0.0).sum(1)
        count = kept.sum(1) if o["divide"] == "kept" else np.full(b, kept.shape[1])
    return total if o["divide"] == "none" else total / np.maximum(count, 1)


# scale and shift ---------------------------------------------------------------------------------


def aligner(pred: Array, target: Array, valid: Array, **options) -> tuple[Array, Array]:
    """Scale (B,) and shift (B,) of least squares from `pred` to `target`, both disparity.

    Args:
        pred, target, valid: (B, H, W).
        options: of `FIT`.
    """
    o = FIT | options
    with np.errstate(all="ignore"):
        if o["space"] in ("depth", "both_depth"):
            target = 1 / target
        if o["space"] == "both_depth":
            pred = 1 / pred
        if o["space"] == "log":
            pred, target = np.log(pred), np.log(target)
    if o["mask"] == "zeros":
        pred, target = np.where(valid, pred, 0), np.where(valid, target, 0)
    used = ~valid if o["mask"] == "inverted" else valid | (o["mask"] in ("ignored", "zeros"))
    if o["pool"] == "batch":
        pairs = [(pred[used], target[used])] * len(pred)
    else:
        pairs = [(p[v], t[v]) for p, t, v in zip(pred, target, used, strict=True)]
    with np.errstate(all="ignore"):
        found = [_fit(p, t, o) for p, t in pairs]
    scale, shift = (np.array(x) for x in zip(*found, strict=True))
    if o["sign"] == "positive":
        scale = np.maximum(scale, 0)
    return (shift, scale) if o["order"] == "shift_scale" else (scale, shift)


def _fit(p: Array, t: Array, o: dict) -> tuple[float, float]:
    """Of one image, flattened. A constant prediction has scale 0, an image without pixels 0 and 0."""
    if not len(p):
        return 0.0, 0.0
    if o["direction"] == "backward":
        p, t = t, p
    centred, mean = p - p.mean(), t.mean()
    away = [abs(x - np.median(x)).mean() for x in (p, t)]

    def share(a: float, b: float) -> float:
        return a / b if b else 0.0

    if o["method"] == "least_squares":
        scale = share((centred * (t - mean)).sum(), (centred**2).sum())
        return scale, mean - scale * p.mean()
    if o["method"] == "median_spread":
        scale = share(away[1], away[0])
        return scale, np.median(t) - scale * np.median(p)
    if o["method"] == "min_max":
        scale = share(np.ptp(t), np.ptp(p))
        return scale, t.min() - scale * p.min()
    return {
        "scale": (share((p * t).sum(), (p * p).sum()), 0.0),
        "median_scale": (share(np.median(t), np.median(p)), 0.0),
        "shift": (1.0, mean - p.mean()),
        "none": (1.0, 0.0),
    }[o["method"]]


def aligned(pred: Array, scale: Array, shift: Array) -> Array:
    """scale * pred + shift."""
    return scale[:, None, None] * pred + shift[:, None, None]


# metrics -----------------------------------------------------------------------------------------


def metric(pred: Array, target: Array, valid: Array, *, name: str, **options) -> Array:
    """A depth metric of each image (B,), NaN where nothing is valid.

    Args:
        pred, target: (B, H, W), depth in one unit.
        valid: (B, H, W).
        name: of `METRICS`.
        options: of `METRIC`.
    """
    o = METRIC | options
    used = ~valid if o["mask"] == "inverted" else valid | (o["mask"] == "ignored")
    with np.errstate(all="ignore"):
        found = [_score(p, t, v, name, o) for p, t, v in zip(pred, target, used, strict=True)]
    return np.array(found, dtype=float)


def _score(p: Array, t: Array, v: Array, name: str, o: dict) -> float:
    """Of one image."""
    everything = p.size
    p, t = p[v], t[v]
    if not len(p):
        return np.nan if o["empty"] == "nan" else 0.0
    if o["aligned"] == "median":
        p = p * (np.median(t) / np.median(p))
    if o["aligned"] == "scale_shift":
        scale, shift = _fit(p, t, FIT)
        p = scale * p + shift
    if o["space"] == "disparity":
        p, t = 1 / p, 1 / t

    def mean(x: Array) -> float:
        if o["average"] == "median":
            return float(np.median(x))
        return x.sum() / (everything if o["divide"] == "all" else len(x))

    other = o["error"] == "other"
    divisor = {"target": t, "pred": p, "mean": (p + t) / 2}[o["relative"]]
    if name == "abs_rel":
        found = mean((abs(p - t) ** (2 if other else 1)) / divisor)
    elif name == "sq_rel":
        power = 2 if o["power"] == "squared" else 1
        found = mean(abs(p - t) ** (1 if other else 2) / divisor**power)
    elif name == "rmse":
        found = _rooted(p - t, mean, o)
    elif name in ("rmse_log", "silog", "log10"):
        right = "ten" if name == "log10" else "natural"
        base = BASES[right if o["logarithm"] == "right" else o["logarithm"]]
        e = (np.log(p) - np.log(t)) / base
        if name == "rmse_log":
            found = _rooted(e, mean, o)
        elif name == "log10":
            found = np.sqrt(mean(e**2)) if other else mean(abs(e))
        else:
            centre = mean(e)
            # about the mean, where nothing cancels; then the rest of its square
            variance = mean((e - centre) ** 2) + _rest(e, centre, mean, o)
            found = variance if o["root"] == "none" else np.sqrt(max(variance, 0.0))
    else:
        k = DELTAS[name]
        limit = 1.25**k if o["threshold"] == "power" else 1 + 0.25 * k
        ratio = {"larger": np.maximum(p / t, t / p), "pred_target": p / t, "target_pred": t / p}
        ratio = ratio[o["ratio"]]
        found = mean((ratio <= limit if o["bound"] == "at_most" else ratio < limit).astype(float))
    return o["unit"] * found


def _rest(e: Array, centre: float, mean: Callable[[Array], float], o: dict) -> float:
    """mean(e^2) - weight * mean(e)^2, less what was counted about the centre."""
    if o["weight"] == 1 and o["divide"] == "valid" and o["average"] == "mean":
        return 0.0
    return mean(e**2) - o["weight"] * centre**2 - mean((e - centre) ** 2)


def _rooted(e: Array, mean: Callable[[Array], float], o: dict) -> float:
    if o["root"] == "of_each" or o["error"] == "other":
        return mean(abs(e))
    return mean(e**2) if o["root"] == "none" else np.sqrt(mean(e**2))


def pooled(values: Array, counts: Array, name: str = "") -> float:
    """What a mean over the pixels of all images gives, of values that are means over each image's
    own; of RMSE and RMSE log the root is taken at the end."""
    some = counts > 0
    values, counts = values[some], counts[some]
    if not len(values):
        return np.nan
    if name.startswith("rmse"):
        return float(np.sqrt((values**2 * counts).sum() / counts.sum()))
    return float((values * counts).sum() / counts.sum())


# the whole way from disparity to a number --------------------------------------------------------


def evaluator(
    pred: Array, target: Array, valid: Array, max_depth: float, *, name: str, **options
) -> Array:
    """A metric of each image (B,) of predicted disparity: fit scale and shift in disparity, clamp
    below at 1 / max_depth, invert, compare.

    Args:
        pred, target: (B, H, W), disparity; 0 in the target is infinitely far and never counts.
        valid: (B, H, W).
        max_depth: the cap, in the unit of 1 / target.
        name: of `METRICS`.
        options: of `EVALUATION`.
    """
    o = EVALUATION | options
    fit = {k: o[k] for k in FIT}
    with np.errstate(all="ignore"):
        counted = valid & (target > 0)
        if o["range"] == "both":
            counted &= target >= 1 / max_depth
        known = np.where(counted, target, 1)
        # what is not scored may be anything but 0, of which nothing can be the inverse
        seen = np.where(target > 0, target, 1) if o["mask"] == "ignored" else known
        map_ = aligned(pred, *aligner(pred, seen, counted, **fit))
        if o["space"] == "disparity":
            least = 1 / max_depth if o["clamp"] == "cap" else -np.inf
            depth = 1 / np.maximum(map_, least)
        else:
            if o["space"] == "both_depth":
                map_ = aligned(1 / pred, *aligner(pred, known, counted, **fit))
            depth = np.clip(map_, 1e-3, max_depth)
    return metric(np.where(counted, depth, 1), 1 / known, counted, name=name, **o["score"])
