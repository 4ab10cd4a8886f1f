"""What can be checked, and every known fault of each kind: what it is, how to mend it, where it was
seen. A fault is a change of the options of `dalib.conformance.reference`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy import ndarray as Array

from dalib.conformance import reference as ref

MIDAS33 = "isl-org/MiDaS#33"
PEERS = "several public copies of the loss"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    Args:
        words: what it is.
        mend: what to do.
        changes: of the options, one for each form in which it occurs; none where no value but
            behaviour gives it away.
        seen: where, if it was.
        reduction: "pixels", "squares" or "sum": how the images become one number; then it shows in functions
            that return one number only.
    """

    words: str
    mend: str
    changes: tuple[Mapping[str, object], ...] = ()
    seen: str = ""
    reduction: str = ""


def _counts(inputs: Mapping) -> Array:
    if "valid" in inputs:
        return inputs["valid"].sum((1, 2))
    return np.full(len(inputs["student"]), inputs["student"][0, 0].size)


def _scored(inputs: Mapping) -> Array:
    """Of an evaluation: valid, not sky, and within the cap."""
    near = inputs["valid"] & (inputs["target"] > 0)
    return (near & (inputs["target"] >= 1 / inputs["max_depth"])).sum((1, 2))


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of function.

    Args:
        about: one line.
        arguments: name -> shape and meaning; those of `optional` may be missing in a function.
        returns: what must come back.
        optional: name -> what a function without it must do.
        values: (inputs, options) -> what is expected, (B,), or of an aligner (2, B).
        options: the reference's defaults.
        open: options that the paper leaves open: what each choice is called -> its value.
        faults: by name, the first of two that explain the same is named first.
        gradient: of which argument, for losses.
        values_form: "image", or "pair" of an aligner.
        counts: inputs -> pixels (or tokens) of each image that count, by which pooled means weigh.
    """

    about: str
    arguments: Mapping[str, str]
    returns: str
    values: Callable[[Mapping, Mapping], Array]
    options: Mapping[str, object]
    open: Mapping[str, Mapping[str, object]]
    faults: Mapping[str, Fault]
    optional: Mapping[str, str] = field(default_factory=dict)
    gradient: str = ""
    values_form: str = "image"
    counts: Callable[[Mapping], Array] = _counts

    def conventions(self) -> dict[str, dict[str, object]]:
        """Every combination of what is left open: words -> options; the first is the reference's."""
        found: dict[str, dict[str, object]] = {"": {}}
        for option, choices in self.open.items():
            found = {
                ", ".join(filter(None, (words, called))): chosen | {option: value}
                for words, chosen in found.items()
                for called, value in choices.items()
            }
        return found


def _f(words: str, mend: str, *changes: Mapping[str, object], **more: str) -> Fault:
    return Fault(words=words, mend=mend, changes=changes, **more)


# faults that several kinds have ------------------------------------------------------------------

MEDIANS = {
    "lower median": "lower",
    "median between the two": "middle",
    "upper median": "upper",
}
POOLED = Fault(
    words="the mean is taken over the pixels of all images, so that an image counts by its number "
    "of valid pixels",
    mend="average over the pixels of each image first, then over the images",
    seen="MiDaS's batch-based reduction; evaluation scripts",
    reduction="pixels",
)
SUMMED = Fault(
    words="the images are summed up, so that the result grows with the batch",
    mend="take the mean over the images",
    reduction="sum",
)
SQUARES = Fault(
    words="the images' mean squares are averaged before the root is taken, so that the worst images "
    "weigh more",
    mend="take the root of each image, then their mean; or say that it is the other",
    reduction="squares",
)
BEHAVIOUR = {
    "int_zero": _f(
        "an empty batch returns a constant, such as the integer 0, which has no gradient: the first "
        "batch without a valid pixel ends the run",
        "return a tensor that hangs on the prediction, such as (0 * pred).sum()",
        seen=PEERS,
    ),
    "no_gradient": _f(
        "the value is right, and no gradient reaches the prediction",
        "look for .item(), .detach(), .numpy() or no_grad on the way",
    ),
    "nan_gradient": _f(
        "the value is right, and its gradient is not finite: torch.where hides a 0 / 0 or a NaN "
        "going forward, not going back",
        "put a harmless value in before the division or root, not after it",
        seen=PEERS,
    ),
    "raises": _f(
        "an exception where the paper leaves the value open or defines it",
        "give each image its own value, 0 without valid pixels",
    ),
    "writes_input": _f(
        "it writes into the arrays that it is given", "work on a copy: clone() or copy()"
    ),
    "not_deterministic": _f(
        "the same input gives another result the second time", "take what is random out of it"
    ),
    "precision": _f(
        "right to 1e-5 and not to 1e-9 in float64: a small number is added in a denominator, or a "
        "part of it is computed in float32",
        "clamp the denominator instead of adding to it; or, where float32 is meant, return float32 "
        "or say --tolerance 1e-5",
    ),
    "cancels": _f(
        "right in float64, and wrong in float32 where values are large: digits cancel",
        "subtract the median or mean before squaring and summing; sum in float64",
    ),
}
"""Faults that no value gives away, but what a function does."""

STATISTICS = {
    "zeros_in_median": _f(
        "invalid pixels enter the median as zeros",
        "take the median over the valid pixels alone, such as nanmedian with NaN in the others",
        {"shift": "zeros"},
        seen=MIDAS33,
    ),
    "mean_for_median": _f(
        "the shift is a mean where equation 3 has a median",
        "subtract the median",
        {"shift": "mean"},
        seen=PEERS,
    ),
    "all_pixels": _f(
        "the sum over the valid pixels is divided by the number of all pixels",
        "divide by the number of valid pixels",
        {"divide": "all"},
        seen=PEERS,
    ),
    "spread_all_pixels": _f(
        "in the scale, the sum over the valid pixels is divided by the number of all pixels",
        "divide by the number of valid pixels in equation 3, too",
        {"spread": "all_pixels"},
    ),
    "invalid_in_median": _f(
        "the median is taken over all pixels, whatever invalid ones hold",
        "take the median over the valid pixels alone",
        {"shift": "unmasked"},
    ),
    "invalid_in_spread": _f(
        "the scale is taken over all pixels, whatever invalid ones hold",
        "take the mean absolute deviation over the valid pixels alone",
        {"spread": "unmasked"},
    ),
    "mask_ignored": _f(
        "invalid pixels count like valid ones", "use the mask everywhere", {"mask": "ignored"}
    ),
    "mask_inverted": _f(
        "the mask is taken the wrong way round: invalid pixels count, valid ones do not",
        "True is a valid pixel: invert the mask once, or not at all",
        {"mask": "inverted"},
    ),
    "sky_dropped": _f(
        "a disparity of 0 in the label is taken for a hole: the sky is infinitely far and valid",
        "ask the mask what is valid, not target > 0",
        {"mask": "positive"},
    ),
    "standard_deviation": _f(
        "the scale is a standard deviation where equation 3 has the mean absolute deviation from "
        "the median",
        "divide by mean |d - median(d)|",
        {"spread": "std"},
        {"spread": "std_unbiased"},
        {"spread": "std", "shift": "mean"},
        {"spread": "std_unbiased", "shift": "mean"},
    ),
    "median_absolute_deviation": _f(
        "the scale is a median of |d - median(d)| where equation 3 has its mean",
        "divide by the mean absolute deviation",
        {"spread": "median_abs"},
    ),
    "min_max": _f(
        "the scale is the range of the map where equation 3 has the mean absolute deviation",
        "divide by mean |d - median(d)|",
        {"spread": "range"},
    ),
    "no_shift": _f("nothing is subtracted", "subtract the median", {"shift": "none"}),
    "no_scale": _f(
        "nothing is divided", "divide by the mean absolute deviation", {"spread": "none"}
    ),
    "no_alignment": _f(
        "the maps are compared as they are, with their scale and shift",
        "normalise prediction and label, each by its own median and scale",
        {"normalised": "neither"},
    ),
    "only_target_normalised": _f(
        "the label alone is normalised", "normalise the prediction, too", {"normalised": "target"}
    ),
    "only_prediction_normalised": _f(
        "the prediction alone is normalised", "normalise the label, too", {"normalised": "pred"}
    ),
    "targets_statistics": _f(
        "the prediction is normalised by the label's median and scale",
        "normalise each map by its own",
        {"normalised": "by_target"},
    ),
    "wrong_space": _f(
        "the maps are compared in depth, 1 / d, where the paper compares disparity",
        "give and compare disparity",
        {"space": "depth"},
    ),
    "log_space": _f(
        "the maps are compared as logarithms", "compare disparity itself", {"space": "log"}
    ),
    "pooled_statistics": _f(
        "one median and one scale are taken over all images of the batch",
        "take them image by image: flatten(1), not flatten()",
        {"pool": "batch"},
    ),
    "squared": _f("errors are squared", "take absolute values", {"error": "squared"}),
    "root_mean_square": _f(
        "the root of the mean square is taken", "take the mean absolute value", {"error": "root"}
    ),
    "trimmed": _f(
        "the worst fifth of the pixels is dropped: MiDaS's trimmed loss, which this paper does not "
        "have",
        "keep all valid pixels",
        {"trim": 0.2},
        {"trim": 0.2, "factor": 0.5},
        {"trim": 0.1},
    ),
    "halved": _f(
        "the loss is half of equation 1, as MiDaS writes it (1 / 2M)",
        "divide by the number of pixels, not by twice that",
        {"factor": 0.5},
    ),
    "not_divided": _f(
        "errors are summed and not averaged",
        "divide by the number of valid pixels",
        {"divide": "none"},
    ),
    "epsilon": _f(
        "a number is added to the scale that is not small beside the scale of some maps",
        "clamp the scale from below instead: max(s, eps)",
        *({"epsilon": 10.0**-k} for k in (2, 3, 4, 5, 6, 7, 8)),
    ),
    "nan_when_constant": _f(
        "a constant map gives 0 / 0: its NaN reaches every weight",
        "clamp the scale from below: max(s, eps)",
        {"guard": "no"},
        {"guard": "no", "empty": "nan"},
    ),
    "nan_when_empty": _f(
        "an image without a valid pixel gives 0 / 0: its NaN reaches every weight",
        "divide by max(count, 1), so that such an image costs 0",
        {"empty": "nan"},
        seen=PEERS,
    ),
    "reads_invalid": _f(
        "NaN in an invalid pixel reaches the loss: 0 * NaN is NaN",
        "select with masked_fill or where, instead of multiplying by the mask",
        {"masking": "product"},
    ),
}
"""Of losses on maps."""
DETACHED = {
    "detached_statistics": _f(
        "in the gradient, the prediction's median and scale are taken for constants",
        "do not detach them: equation 2 normalises the prediction, and its gradient has three parts",
        {"detach": "statistics"},
        {"detach": "shift"},
        {"detach": "spread"},
    ),
}
REGIONS = {
    "regions_together": _f(
        "inside and outside of the box are normalised together, by one median and scale of the "
        "mixed map",
        "normalise each region by its own (equations 6 and 7)",
        {"regions": "together"},
    ),
    "labels_normalised_whole": _f(
        "the labels are normalised as whole maps before they are cut",
        "cut first: each region has its own median and scale (equations 6 and 7)",
        {"regions": "labels_whole"},
    ),
    "regions_swapped": _f(
        "the box is taken the wrong way round: the partner's label is used outside of it",
        "inside the box shows the partner",
        {"box": "inverted"},
    ),
    "partner_unused": _f(
        "the image's own label is used inside the box, too",
        "inside the box, compare with the partner's label",
        {"partner": "own"},
    ),
    "partner_everywhere": _f(
        "the partner's label is used outside of the box, too",
        "outside, compare with the image's own label",
        {"partner": "everywhere"},
    ),
    "regions_equal": _f(
        "both regions have the weight 1/2",
        "weight each by its share of the pixels (equation 8)",
        {"weights": "equal"},
    ),
    "regions_summed": _f(
        "the losses of the two regions are added without weights",
        "weight each by its share of the pixels (equation 8)",
        {"weights": "none"},
    ),
    "weights_swapped": _f(
        "each region has the other's weight",
        "the inside has the box's share of the pixels (equation 8)",
        {"weights": "swapped"},
    ),
    "inside_only": _f(
        "the outside of the box is left out", "add it by its share", {"weights": "inside"}
    ),
    "outside_only": _f(
        "the inside of the box is left out", "add it by its share", {"weights": "outside"}
    ),
}
FEATURES = {
    "batch_margin": _f(
        "the margin is held against the mean over tokens: all count, or none does",
        "compare each token's cosine with the margin",
        {"margin_on": "batch"},
        {"margin_on": "image"},
        seen=PEERS,
    ),
    "margin_inverted": _f(
        "the margin is the wrong way round: tokens below it are left out",
        "leave out those whose cosine is above the margin",
        {"keep": "above"},
        seen="the sentence of arXiv:2401.10891v1",
    ),
    "margin_complement": _f(
        "1 - margin takes the place of the margin",
        "the margin 0.85 is a cosine, not 1 - cosine",
        {"alpha": "complement"},
        {"alpha": "complement", "keep": "above"},
        seen="arXiv:2401.10891v1 printed 0.15",
    ),
    "no_margin": _f(
        "every token counts, however near", "leave out those above the margin", {"keep": "all"}
    ),
    "not_normalised": _f(
        "a dot product takes the place of the cosine",
        "divide by the lengths of both vectors",
        {"normalised": "neither"},
    ),
    "only_student_normalised": _f(
        "the frozen features are not brought to length 1",
        "divide by the lengths of both vectors",
        {"normalised": "student"},
    ),
    "only_frozen_normalised": _f(
        "the student's features are not brought to length 1",
        "divide by the lengths of both vectors",
        {"normalised": "frozen"},
    ),
    "over_space": _f(
        "the cosine is taken over positions, for each channel",
        "take it over channels, for each token",
        {"axis": "space"},
    ),
    "whole_image": _f(
        "one cosine is taken of the whole image",
        "take one for each token",
        {"axis": "whole"},
        {"tokens": "mean"},
    ),
    "dropped_cost_one": _f(
        "tokens above the margin have their cosine set to 0 and so cost 1 each, the most of all",
        "set their loss to 0, not their cosine",
        {"dropped": "one"},
    ),
    "hinge": _f(
        "a token costs margin - cosine",
        "it costs 1 - cosine as long as it is below the margin",
        {"error": "hinge"},
    ),
    "negative_cosine": _f("a token costs -cosine", "it costs 1 - cosine", {"error": "negative"}),
    "squared": _f("1 - cosine is squared", "do not square it", {"error": "squared"}),
    "euclidean": _f(
        "a squared distance takes the place of 1 - cosine",
        "compare directions",
        {"error": "euclidean"},
        {"error": "euclidean", "keep": "all"},
    ),
    "not_divided": _f("tokens are summed up", "take their mean", {"divide": "none"}),
    "nan_when_zero": _f(
        "a token of zeros gives 0 / 0",
        "clamp the lengths from below",
        {"guard": "no"},
    ),
}
FITTED = {
    "wrong_space": _f(
        "the fit is made to depth where both maps are disparity",
        "fit disparity to disparity, invert afterwards",
        {"space": "depth"},
        {"space": "both_depth"},
        seen="evaluation scripts; a public package of 2026",
    ),
    "log_space": _f("the fit is made to logarithms", "fit disparity itself", {"space": "log"}),
    "no_alignment": _f("nothing is fitted", "fit scale and shift", {"method": "none"}),
    "scale_only": _f(
        "a scale alone is fitted, by least squares",
        "fit the shift, too",
        {"method": "scale"},
    ),
    "median_scale": _f(
        "a scale alone is taken, of the medians",
        "fit scale and shift by least squares",
        {"method": "median_scale"},
    ),
    "shift_only": _f("a shift alone is fitted", "fit the scale, too", {"method": "shift"}),
    "median_and_deviation": _f(
        "medians and mean absolute deviations are matched where a least-squares fit is meant",
        "solve for scale and shift by least squares",
        {"method": "median_spread"},
    ),
    "min_max": _f(
        "the ends of the ranges are matched", "solve by least squares", {"method": "min_max"}
    ),
    "mask_ignored": _f(
        "invalid pixels enter the fit",
        "fit over the valid pixels alone",
        {"mask": "ignored"},
        {"mask": "zeros"},
    ),
    "mask_inverted": _f(
        "the mask is taken the wrong way round",
        "True is a valid pixel: invert the mask once, or not at all",
        {"mask": "inverted"},
    ),
    "pooled": _f(
        "one scale and shift are fitted to all images of the batch",
        "fit image by image",
        {"pool": "batch"},
        seen="evaluation scripts",
    ),
    "backward": _f(
        "the target is fitted to the prediction",
        "minimise over scale * prediction + shift - target",
        {"direction": "backward"},
    ),
    "order": _f(
        "shift and scale come back in the wrong order",
        "return (scale, shift)",
        {"order": "shift_scale"},
    ),
    "positive": _f(
        "a scale below 0 is set to 0: a prediction with near and far exchanged looks like a constant",
        "keep the sign, and count such images",
        {"sign": "positive"},
    ),
}
SOLVED = {
    "unguarded": _f(
        "the solve has nothing to catch a determinant that is a rounding error: constant "
        "predictions, or values that are large beside their spread, give huge numbers or NaN",
        "subtract the means first and sum in float64; a constant prediction has scale 0",
        seen="the textbook solve of public evaluation scripts",
    ),
}
SCORED = {
    "mask_ignored": _f(
        "invalid pixels are scored", "score the valid pixels alone", {"mask": "ignored"}
    ),
    "mask_inverted": _f(
        "the mask is taken the wrong way round",
        "True is a valid pixel: invert the mask once, or not at all",
        {"mask": "inverted"},
    ),
    "all_pixels": _f(
        "the sum over the valid pixels is divided by the number of all pixels",
        "divide by the number of valid pixels",
        {"divide": "all"},
        {"divide": "all", "empty": "zero"},
    ),
    "perfect_when_empty": _f(
        "an image without a valid pixel gets the score 0",
        "give NaN, and leave the image out of the mean",
        {"empty": "zero"},
    ),
}
ALIGNED = {
    "median_aligned": _f(
        "the prediction is brought to the target's median first",
        "leave alignment to the aligner, or say that it is part of the metric",
        {"aligned": "median"},
    ),
    "fitted": _f(
        "scale and shift are fitted first",
        "leave alignment to the aligner, or say that it is part of the metric",
        {"aligned": "scale_shift"},
    ),
}
PERCENT = {"percent": _f("the result is in percent", "give a share", {"unit": 100.0})}
DISPARITY = {
    "disparity_error": _f(
        "the error is that of disparity, 1 / depth",
        "compare depth",
        {"space": "disparity"},
        seen="LiheYoung/Depth-Anything#174",
    ),
}
ROOT = {
    "no_root": _f("no root is taken", "take the root of the mean", {"root": "none"}),
    "root_of_each": _f(
        "the root is taken of each square, which is the mean absolute error",
        "take the root of the mean",
        {"root": "of_each"},
    ),
}
BASE = {
    "log_base": _f(
        "the logarithm has the wrong base",
        "natural logarithms in RMSE log and SILog, to base 10 in log10",
        {"logarithm": "natural"},
        {"logarithm": "ten"},
        {"logarithm": "two"},
    ),
}
MEDIAN_ERROR = {
    "median_error": _f(
        "the median over pixels is taken", "take the mean over pixels", {"average": "median"}
    ),
}
DELTA = {
    "at_most": _f(
        "a ratio of exactly the threshold counts (<=)",
        "the definition has < 1.25^k",
        {"bound": "at_most"},
    ),
    "one_sided": _f(
        "one ratio is taken, not the larger of p / t and t / p",
        "take max(p / t, t / p)",
        {"ratio": "pred_target"},
        {"ratio": "target_pred"},
    ),
    "multiples": _f("the thresholds are 1 + 0.25 k", "they are 1.25^k", {"threshold": "multiple"}),
}
OTHER = {
    "abs_rel": _f("errors are squared", "take absolute values", {"error": "other"}),
    "sq_rel": _f("errors are not squared", "square them", {"error": "other"}),
    "rmse": _f(
        "the mean absolute error is taken", "square, average, take the root", {"error": "other"}
    ),
    "log10": _f(
        "the root of the mean square is taken", "take the mean absolute value", {"error": "other"}
    ),
}
RELATIVE = {
    "relative_to_mean": _f(
        "errors are shares of the mean of both", "divide by the target", {"relative": "mean"}
    ),
}
EXCHANGED = {
    "relative_to_prediction": _f(
        "errors are shares of the prediction: it is exchanged with the target, or the error is one "
        "of disparity, which is the same number",
        "divide by the target; compare depth; look at the order of the arguments",
        {"relative": "pred"},
        seen="LiheYoung/Depth-Anything#174",
    ),
}
EXCHANGED_SQUARE = {
    "relative_to_prediction": _f(
        "errors are shares of the prediction, or it is exchanged with the target",
        "divide by the target; look at the order of the arguments",
        {"relative": "pred"},
    ),
}
SILOG = {
    "no_root": ROOT["no_root"],
    "silog_weight": _f(
        "the squared mean has a weight below 1: that is the training loss, not the metric",
        "subtract the whole squared mean",
        {"weight": 0.5},
        {"weight": 0.85},
        {"weight": 0.0},
        {"weight": 0.5, "unit": 100.0},
        {"weight": 0.85, "unit": 100.0},
        seen="metric_depth/util/metric.py of DepthAnything/Depth-Anything-V2 has 0.5",
    ),
}


def _base(right: str) -> dict[str, Fault]:
    """The wrong bases of a metric."""
    fault = BASE["log_base"]
    wrong = tuple(change for change in fault.changes if change["logarithm"] != right)
    return {"log_base": replace(fault, changes=wrong)}


EVERY = SCORED | MEDIAN_ERROR | ALIGNED | PERCENT
DELTAS = EVERY | DELTA
OF_METRIC = {
    "abs_rel": EVERY | {"squared": OTHER["abs_rel"]} | RELATIVE | EXCHANGED,
    "sq_rel": EVERY | {"not_squared": OTHER["sq_rel"]} | RELATIVE | EXCHANGED_SQUARE | DISPARITY,
    "rmse": EVERY | ROOT | DISPARITY | {"root_over_images": SQUARES},
    "rmse_log": EVERY | ROOT | _base("natural") | {"root_over_images": SQUARES},
    "silog": SCORED | MEDIAN_ERROR | {"fitted": ALIGNED["fitted"]} | SILOG | _base("natural"),
    "log10": EVERY | {"root_mean_square": OTHER["log10"]} | _base("ten"),
    # no pixel can lie at the root of 1.25, and 1 + 0.25 is 1.25
    "delta05": {name: fault for name, fault in DELTAS.items() if name != "at_most"},
    "delta1": {name: fault for name, fault in DELTAS.items() if name != "multiples"},
    "delta2": DELTAS,
    "delta3": DELTAS,
}
"""Of each metric: what changes it. An exchange of prediction and target, or disparity in place of
depth, is left out where it does not."""
OPEN = {
    "sq_rel": {
        "power": {
            "a share of the target (Eigen et al. 2014)": "target",
            "a share of its square (KITTI's development kit)": "squared",
        }
    },
    "silog": {"unit": {"as it is": 1.0, "times 100 (KITTI's development kit)": 100.0}},
}
"""What publications define in two ways."""


# the kinds ---------------------------------------------------------------------------------------

MAPS = {
    "pred": "(B, H, W), predicted disparity",
    "target": "(B, H, W), disparity of the label",
    "valid": "(B, H, W), bool: True where the label holds",
}
PER_IMAGE = "(B,), one number for each image, or one number: their mean"


def _affine(inputs: Mapping, options: Mapping) -> Array:
    return ref.affine_invariant(**inputs, **options)


def _fitted(inputs: Mapping, options: Mapping) -> Array:
    return np.array(ref.aligner(**inputs, **options))


def metric_kind(name: str) -> Kind:
    """The kind of one metric."""
    return Kind(
        about=f"the depth metric {name}",
        arguments={
            "pred": "(B, H, W), predicted depth",
            "target": "(B, H, W), depth of the ground truth, in the same unit",
            "valid": "(B, H, W), bool",
        },
        returns=f"{PER_IMAGE}; or a dict of such, by the names of metrics",
        values=lambda inputs, options: ref.metric(**inputs, name=name, **options),
        options=ref.METRIC,
        open=OPEN.get(name, {}),
        faults=OF_METRIC[name] | {"pooled": POOLED, "summed": SUMMED},
    )


def _scores(name: str) -> dict:
    """What is open about a metric, as what is open about an evaluation by it."""
    ((option, choices),) = OPEN[name].items()
    return {words: {option: value} for words, value in choices.items()}


def evaluator_kind(name: str) -> Kind:
    """The kind of a whole evaluation by one metric."""
    other = ("backward", "order", "log_space", "positive", "pooled")
    fitted = {k: f for k, f in FITTED.items() if k not in other}
    scored = {
        "perfect_when_empty": (SCORED["perfect_when_empty"], {"empty": "zero"}),
        "median_error": (MEDIAN_ERROR["median_error"], {"average": "median"}),
        "percent": (PERCENT["percent"], {"unit": 100.0}),
    }
    if name == "silog":  # knows no scale
        del scored["percent"], fitted["median_scale"]
    own = {
        "not_clamped": _f(
            "the aligned disparity is inverted as it is: below 0 it becomes a negative depth, near 0 "
            "a huge one",
            "clamp it from below at 1 / max_depth first",
            {"clamp": "none"},
        ),
        "cap_ignored": _f(
            "ground truth beyond the cap is scored",
            "leave it out: the cap holds for both",
            {"range": "pred"},
        ),
    }
    return Kind(
        about=f"from disparity to {name}: fit scale and shift in disparity, clamp below at "
        "1 / max_depth, invert, compare",
        arguments={
            "pred": "(B, H, W), predicted disparity, up to scale and shift",
            "target": "(B, H, W), disparity of the ground truth; 0 is infinitely far, not scored",
            "valid": "(B, H, W), bool",
            "max_depth": "the cap: ground truth beyond it is not scored",
        },
        optional={"max_depth": "it must be 80; vectors with another are left out"},
        returns=f"{PER_IMAGE}; or a dict of such, by the names of metrics",
        values=lambda inputs, options: ref.evaluator(**inputs, name=name, **options),
        counts=_scored,
        options=ref.EVALUATION,
        open={"score": _scores(name)} if name in OPEN else {},
        faults=fitted
        | own
        | {k: replace(f, changes=({"score": change},)) for k, (f, change) in scored.items()}
        | {"pooled_fit": FITTED["pooled"], "pooled": POOLED, "summed": SUMMED},
    )


KINDS = {
    "affine_invariant": Kind(
        about="the affine-invariant loss, equations 1 to 3",
        arguments=MAPS,
        returns=PER_IMAGE,
        values=_affine,
        options=ref.STATISTICS,
        open={"median": MEDIANS},
        faults=STATISTICS | {"pooled": POOLED, "summed": SUMMED} | DETACHED,
        gradient="pred",
    ),
    "cutmix": Kind(
        about="the unlabelled loss under CutMix, equations 6 to 8",
        arguments={
            "pred": "(B, H, W), the student's disparity of the mixed image",
            "target": "(B, H, W), the image's own pseudo label, which holds outside the box",
            "target_inside": "(B, H, W), its partner's, which holds inside",
            "inside": "(B, H, W), bool: the box",
            "valid": "(B, H, W), bool",
        },
        optional={"valid": "vectors with holes are left out"},
        returns=PER_IMAGE,
        values=lambda inputs, options: ref.cutmix(**inputs, **options),
        options=ref.CUTMIX,
        open={
            "median": MEDIANS,
            "weights": {"weights by valid pixels": "valid", "weights by area": "area"},
        },
        faults=REGIONS | STATISTICS | {"pooled": POOLED, "summed": SUMMED} | DETACHED,
        gradient="pred",
    ),
    "feature_alignment": Kind(
        about="the feature alignment loss, equation 9, with its tolerance margin",
        arguments={
            "student": "(B, C, H, W), the student's features",
            "frozen": "(B, C, H, W), those of the frozen encoder",
            "margin": "the tolerance margin, a cosine",
        },
        optional={"margin": "it must be 0.85; vectors with another are left out"},
        returns=PER_IMAGE,
        values=lambda inputs, options: ref.feature_alignment(**inputs, **options),
        options=ref.ALIGNMENT,
        open={
            "divide": {"mean over all tokens": "all", "mean over the tokens that count": "kept"},
            "at_margin": {
                "a cosine at the margin left out": "dropped",
                "a cosine at the margin counts": "kept",
            },
        },
        faults=FEATURES | {"summed": SUMMED},  # images of one size have as many tokens
        gradient="student",
    ),
    "trimmed": Kind(
        about="MiDaS's trimmed loss: as affine_invariant, without the worst fifth of each image",
        arguments=MAPS,
        returns=PER_IMAGE,
        values=lambda inputs, options: ref.affine_invariant(**inputs, **{"trim": 0.2} | options),
        options=ref.STATISTICS | {"trim": 0.2},
        open={
            "median": MEDIANS,
            "dropped": {"the fifth rounded down": "floor", "the fifth rounded up": "ceil"},
            "trimmed_mean": {
                "mean over what is kept": "kept",
                "sum over the count of all": "valid",
            },
            "factor": {"1 / M": 1.0, "1 / 2M": 0.5},
        },
        faults={
            "untrimmed": _f(
                "nothing is dropped",
                "sort() returns values and indices: slice the values, not the pair",
                {"trim": 0.0},
                seen="at least four public copies of MiDaS's trimmed loss",
            ),
            **{k: f for k, f in STATISTICS.items() if k not in ("trimmed", "halved")},
            "pooled": POOLED,
            "summed": SUMMED,
        },
        gradient="pred",
    ),
    "aligner": Kind(
        about="scale and shift by least squares, in disparity",
        arguments=MAPS,
        returns="a pair (scale, shift) of (B,) each, or (B, 2), or the aligned map (B, H, W)",
        values=_fitted,
        options=ref.FIT,
        open={},
        values_form="pair",
        faults=FITTED | SOLVED,
    ),
}
"""By name."""
SCORES = {"metric": metric_kind, "evaluator": evaluator_kind}
"""Kinds that are one for each of `dalib.conformance.reference.METRICS`."""


def merged(one: Mapping, two: Mapping) -> dict:
    """Options of both; those of a score within them, too."""
    found = {**one, **two}
    if "score" in one and "score" in two:
        found["score"] = one["score"] | two["score"]
    return found


def reductions(values: Array, counts: Array, *, how: str = "", name: str = "") -> list[float]:
    """What one number may be that stands for several images: their mean, over all or over those
    that have pixels; or what a fault of reduction gives."""
    some = values[counts > 0]
    if how == "pixels":
        return [ref.pooled(values, counts, name)]
    if how == "squares":
        return [float(np.sqrt(np.nanmean(values**2)))] if len(some) else [np.nan]
    if how == "sum":
        return [float(np.nansum(values))]
    means = [float(values.mean())]
    if len(some):
        means.append(float(some.mean()))
    return means
