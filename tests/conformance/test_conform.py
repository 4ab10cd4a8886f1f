"""The check: ours conform, every faulty twin is named, others' functions are understood, and what
cannot be called is refused in words."""

import ast
import json
import re
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.commands import main
from hypothesis import given, settings
from hypothesis import strategies as st

from dabook.pages import conformance as page
from dabook.runs import faulty
from dalib import losses, paths
from dalib.conformance import CallError, check, kind_of, kinds, read
from dalib.conformance import reference as ref
from dalib.conformance.catalogue import KINDS, SCORES, merged, reductions
from dalib.conformance.laws import GARG, LAWS, edges
from dalib.errors import ConfigError
from dalib.evaluation.align import least_squares
from dalib.evaluation.metrics import METRICS, depth_metrics

SUBJECTS = [(k, None) for k in KINDS] + [(k, m) for k in SCORES for m in ref.METRICS]
QUICK = (
    ("affine_invariant", None),
    ("feature_alignment", None),
    ("aligner", None),
    ("metric", "abs_rel"),
)
RINGS = [s if s in QUICK else pytest.param(*s, marks=pytest.mark.slow) for s in SUBJECTS]


def twin(kind, options, *, number=False, reduction="", metric="", pick=-1):
    """A function of NumPy that has some options of the reference."""

    def function(**inputs):
        values = np.real(kind.values(inputs, options))
        if kind.values_form == "pair":
            return values[0], values[1]
        if number:
            counts = kind.counts(inputs)
            return np.array(reductions(values, counts, how=reduction, name=metric)[pick])
        return values

    return function


def run(function, kind, metric=None, **options):
    return check(function, kind, metric=metric, numpy=True, dtypes=("float64",), **options)


# ours, and the faults that are known -------------------------------------------------------------


@pytest.mark.parametrize("subject", page.OURS, ids=lambda s: s.kind)
def test_ours_conform(subject):
    report = subject.report()
    assert report, report
    assert not report.left_out


@pytest.mark.parametrize("subject", page.TWINS, ids=lambda s: f"{s.kind}-{s.fault}")
def test_every_bug_of_the_bugs_page_is_found_in_its_twin(subject):
    report = subject.report()
    assert set(report.faults) == {subject.fault}, report
    assert not any(f.alike for f in report.findings)


def test_no_bug_of_the_bugs_page_is_forgotten():
    priced = {name for name, v in faulty.VARIANTS.items() if v.bug}
    priced = {name.removesuffix("_regions") for name in priced} | {"int_zero"}
    assert priced == {subject.fault for subject in page.TWINS}


@pytest.mark.slow
@pytest.mark.parametrize("number", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "metric"), RINGS)
def test_every_known_fault_is_named_and_no_two_are_alike(name, metric, number):
    """As one number for each image, and as one for all."""
    kind = kind_of(name, metric)
    number = number and kind.values_form != "pair"
    for fault, detail in kind.faults.items():
        for change in detail.changes or (({},) if detail.reduction else ()):
            if set(change) == {"detach"}:
                continue
            if detail.reduction and not number:
                continue
            found = twin(
                kind,
                change,
                number=number,
                reduction=detail.reduction,
                metric=metric or "",
                pick=0 if fault == "perfect_when_empty" else -1,
            )
            report = run(found, name, metric)
            assert report.faults == [fault], (fault, change, str(report))
            assert report.findings[0].alike == [], (fault, change)
            assert not report.conforms


@pytest.mark.parametrize(("name", "metric"), RINGS)
def test_whatever_the_paper_leaves_open_conforms(name, metric):
    kind = kind_of(name, metric)
    for words, options in kind.conventions().items():
        for number in (False, True):
            report = run(twin(kind, options, number=number, pick=0), name, metric)
            assert report, report
            if words and not number:
                assert any(words in note for note in report.notes)


def test_a_convention_must_be_the_same_everywhere():
    """The lower median on one vector, and the upper on all others."""
    kind = kind_of("affine_invariant")

    def loss(pred, target, valid):
        which = "upper" if pred.shape == (2, 6, 8) else "lower"
        return kind.values({"pred": pred, "target": target, "valid": valid}, {"median": which})

    assert not run(loss, "affine_invariant")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "metric", "faults", "options"),
    [
        (
            "affine_invariant",
            None,
            "zeros_in_median and all_pixels",
            {"shift": "zeros", "divide": "all"},
        ),
        (
            "affine_invariant",
            None,
            "mean_for_median and squared",
            {"shift": "mean", "error": "squared"},
        ),
        (
            "cutmix",
            None,
            "regions_equal and mean_for_median",
            {"weights": "equal", "shift": "mean"},
        ),
        (
            "feature_alignment",
            None,
            "batch_margin and not_divided",
            {"margin_on": "batch", "divide": "none"},
        ),
        ("aligner", None, "mask_ignored and positive", {"mask": "ignored", "sign": "positive"}),
        ("metric", "rmse", "all_pixels and no_root", {"divide": "all", "root": "none"}),
    ],
)
def test_two_faults_at_once(name, metric, faults, options):
    report = run(twin(kind_of(name, metric), options), name, metric)
    found = report.findings[0]
    assert faults in (found.name, *found.alike), report


def test_a_pooled_mean_with_zeros_in_the_median():
    kind = kind_of("affine_invariant")
    found = twin(kind, {"shift": "zeros"}, number=True, reduction="pixels")
    assert run(found, "affine_invariant").faults == ["zeros_in_median and pooled"]


def test_what_nobody_knows_is_said_with_what_it_has_in_common():
    """A function that is right, but for a factor where the sky is."""
    kind = kind_of("affine_invariant")

    def loss(pred, target, valid):
        value = kind.values({"pred": pred, "target": target, "valid": valid}, {})
        return value * (1.3 if (target[valid] == 0).sum() > 3 else 1)

    report = run(loss, "affine_invariant")
    assert report.faults == ["unexplained"]
    assert "those fail that have: sky (sky)" in report.findings[0].words
    assert report.failed == ["sky"]
    assert "no number of 1.3" not in str(report)


@pytest.mark.parametrize("factor", [1.234, -1.0, 3.0])
def test_a_factor_is_named(factor):
    def loss(pred, target, valid):
        return factor * ref.affine_invariant(pred, target, valid)

    report = run(loss, "affine_invariant")
    assert report.faults == ["factor"]
    assert f"is {factor:g} times what is expected" in str(report)


def test_two_factors_are_none():
    def loss(pred, target, valid):
        return (1.5 if len(pred) == 3 else 2.5) * ref.affine_invariant(pred, target, valid)

    assert run(loss, "affine_invariant").faults == ["unexplained"]


@settings(max_examples=6)
@given(
    subject=st.sampled_from([s for s in QUICK if s[0] != "aligner"]),
    place=st.integers(0, 100),
    share=st.sampled_from([-0.5, -1e-3, 2e-8, 1e-4, 3.0]),
)
def test_no_wrong_number_passes(subject, place, share):
    """One number of one vector, off by a share: noticed down to 2e-8 in float64."""
    kind = kind_of(*subject)
    vectors = [v for v in read(*subject) if v.tolerance == 1]
    chosen = vectors[place % len(vectors)]

    def function(**inputs):
        values = np.real(kind.values(inputs, {})) + 0.0
        same = all(
            np.array_equal(inputs[k], x, equal_nan=True)
            for k, x in chosen.inputs.items()
            if k in inputs
        )
        return values + (share * np.maximum(1, abs(values)) if same else 0)

    report = run(function, *subject)
    if np.isfinite(np.real(kind.values(chosen.inputs, {}))).any():
        assert not report
        assert chosen.name in report.failed


# behaviour ---------------------------------------------------------------------------------------


def masked(d, v):
    count = v.sum((1, 2), keepdim=True).clamp_min(1)
    t = d.masked_fill(~v, torch.nan).flatten(1).nanmedian(1).values.nan_to_num()[:, None, None]
    s = ((d - t).masked_fill(~v, 0).abs().sum((1, 2), keepdim=True) / count).clamp_min(1e-9)
    return t, s


def plain(pred, target, valid, *, detach=(), count_of=None):
    """A right loss, in the precision of its input."""
    target = target.masked_fill(~valid, 0)
    t, s = masked(pred, valid)
    t = t.detach() if "shift" in detach else t
    s = s.detach() if "scale" in detach else s
    u, r = masked(target, valid)
    error = ((pred - t) / s - (target - u) / r).abs().masked_fill(~valid, 0)
    return error.flatten(1).sum(1) / valid.flatten(1).sum(1).clamp_min(1)


def test_a_right_loss_in_float64_conforms_to_1e9():
    assert check(plain, "affine_invariant", tolerance=1e-9)


@pytest.mark.parametrize("detach", [("shift", "scale"), ("shift",), ("scale",)])
def test_a_right_value_with_a_detached_median_or_scale(detach):
    report = check(
        lambda pred, target, valid: plain(pred, target, valid, detach=detach), "affine_invariant"
    )
    assert report.faults == ["detached_statistics"]


@pytest.mark.parametrize(
    "spoil",
    [lambda x: x.detach(), lambda x: x.mean().item(), lambda x: x.detach().numpy()],
    ids=["detach", "item", "numpy"],
)
def test_a_right_value_without_a_gradient(spoil):
    report = check(
        lambda pred, target, valid: spoil(plain(pred, target, valid)), "affine_invariant"
    )
    assert report.faults == ["no_gradient"]


def test_a_gradient_that_is_wrong_in_its_own_way():
    class Half(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g / 2

    report = check(
        lambda pred, target, valid: Half.apply(plain(pred, target, valid)), "affine_invariant"
    )
    assert report.faults == ["gradient"]


def test_a_gradient_of_nan_behind_a_right_value():
    def loss(pred, target, valid):
        good = torch.where(valid, target, 0)
        value = plain(pred, good, valid)
        return value + 0 * torch.where(valid, pred * target, 0).sum((1, 2))

    report = check(loss, "affine_invariant")
    assert report.faults == ["nan_gradient"]
    assert report.findings[0].vector == "holes_with_nan"


def test_a_constant_for_an_empty_batch():
    def loss(pred, target, valid):
        return plain(pred, target, valid).mean() if valid.any() else torch.tensor(0.0)

    assert check(loss, "affine_invariant").faults == ["int_zero"]


def test_an_exception_for_an_empty_batch():
    def loss(pred, target, valid):
        if not valid.any():
            raise IndexError("no pixel")
        return plain(pred, target, valid)

    report = check(loss, "affine_invariant")
    assert report.faults == ["raises"]
    assert "IndexError: no pixel" in str(report)


def test_one_that_writes_into_what_it_is_given():
    def loss(pred, target, valid):
        value = plain(pred, target, valid)
        target[~valid] = 0
        return value

    assert check(loss, "affine_invariant").faults == ["writes_input"]


def test_one_that_draws():
    rng = np.random.default_rng(0)

    def loss(pred, target, valid):
        return ref.affine_invariant(pred, target, valid) + 1e-11 * rng.random()

    report = run(loss, "affine_invariant")
    assert report.faults == ["not_deterministic"]


def test_a_median_between_the_two_is_named():
    def loss(pred, target, valid):
        found = []
        for p, t, v in zip(pred, target, valid, strict=True):
            if not v.any():
                found.append(0.0)
                continue
            both = []
            for d in (p[v], t[v]):
                away = d - np.median(d)
                both.append(away / max(abs(away).mean(), 1e-12))
            found.append(abs(both[0] - both[1]).mean())
        return np.mean(found)

    report = run(loss, "affine_invariant")
    assert report
    assert any("median between the two" in note for note in report.notes)


def test_the_lower_precision_is_tried_too():
    """Sums of squares at 10000 cancel in float32, and barely in float64."""

    def textbook(pred, target, valid):
        w = valid.to(pred.dtype).flatten(1)
        p = pred.masked_fill(~valid, 0).flatten(1)
        t = target.masked_fill(~valid, 0).flatten(1)
        n = w.sum(1)
        a, b = (p * p).sum(1), p.sum(1)
        flat = (p * w).var(1) == 0
        det = a * n - b * b
        det = torch.where((det.abs() < 1e-9 * a * n) | flat, torch.inf, det)
        scale = (n * (p * t).sum(1) - b * t.sum(1)) / det
        return scale, (t.sum(1) - scale * b) / n.clamp_min(1)

    report = check(textbook, "aligner")
    assert report.faults == ["unguarded"]
    assert report.findings[0].dtype == "float32"
    assert check(textbook, "aligner", dtypes=("float64",))


def test_a_small_number_in_the_denominator_is_named():
    def loss(pred, target, valid):
        return ref.affine_invariant(pred, target, valid, epsilon=1e-6)

    assert run(loss, "affine_invariant").faults == ["epsilon"]
    assert run(loss, "affine_invariant", tolerance=1e-2)


def test_digits_that_are_missing_in_float64():
    def loss(pred, target, valid):
        value = ref.affine_invariant(pred, target, valid)
        return value + 1e-7 * np.sin(1e3 * value)

    report = run(loss, "affine_invariant")
    assert report.faults == ["precision"]
    assert run(loss, "affine_invariant", tolerance=1e-5)


# how others are called ---------------------------------------------------------------------------


def test_one_number_for_the_batch_is_an_answer():
    assert check(
        lambda pred, target, valid: losses.affine_invariant(pred, target, valid).mean(),
        "affine_invariant",
    )


def test_empty_images_may_be_left_out_of_the_mean():
    def loss(pred, target, valid):
        some = valid.flatten(1).any(1)
        if not some.any():
            return 0 * pred.sum()
        return losses.affine_invariant(pred[some], target[some], valid[some]).mean()

    assert check(loss, "affine_invariant")


def test_a_module_of_torch_and_other_names():
    class Loss(torch.nn.Module):
        def forward(self, prediction, gt, mask):
            return losses.affine_invariant(prediction, gt, mask).mean()

    assert check(Loss, "affine_invariant")
    assert check(Loss(), "affine_invariant")

    def odd(x, y, where):
        return losses.affine_invariant(x, y, where)

    assert check(odd, "affine_invariant", names={"pred": "x", "target": "y", "valid": "where"})


def test_what_a_function_cannot_take_is_left_out_and_said():
    report = check(
        lambda student, frozen: losses.feature_alignment(student, frozen), "feature_alignment"
    )
    assert report
    assert set(report.left_out) == {"at_margin", "other_margin"}
    assert "takes no margin" in str(report)

    def no_holes(pred, target, target_inside, inside):
        return losses.cutmix_unlabelled(pred, target, target_inside=target_inside, inside=inside)

    report = check(no_holes, "cutmix")
    assert report
    assert "holes" in report.left_out


def test_a_function_that_takes_float32_alone():
    def loss(pred, target, valid):
        if pred.dtype != torch.float32:
            raise TypeError("expected float")
        return losses.affine_invariant(pred, target, valid)

    report = check(loss, "affine_invariant")
    assert report
    assert any("float64 is refused" in note for note in report.notes)


def test_maps_and_pairs_are_answers_of_an_aligner():
    def map_(pred, target, valid):
        scale, shift = least_squares(pred, target, valid)
        return scale[:, None, None] * pred + shift[:, None, None]

    assert check(map_, "aligner")
    assert check(
        lambda pred, target, valid: torch.stack(least_squares(pred, target, valid), 1), "aligner"
    )

    def depth(pred, target, valid):
        scale, shift = least_squares(pred, torch.where(valid, 1 / target, 0), valid)
        return scale[:, None, None] * pred + shift[:, None, None]

    assert check(depth, "aligner").faults == ["wrong_space"]


def test_an_evaluation_may_refuse_an_image_without_pixels():
    def score(pred, target, valid):
        if not valid.flatten(1).any(1).all():
            raise ValueError("no valid pixel")
        return depth_metrics(pred, target, valid)["abs_rel"]

    report = check(score, "metric", metric="abs_rel")
    assert report
    assert any("refuses" in note for note in report.notes)


def test_a_dict_is_checked_name_by_name():
    report = check(depth_metrics, "metric")
    assert report
    assert {name.partition("/")[0] for name in report.passed} == set(METRICS)
    report = check(
        lambda pred, target, valid: (
            depth_metrics(pred, target, valid)
            | {"rmse": (pred - target).abs().masked_fill(~valid, 0).sum((1, 2)) / valid.sum((1, 2))}
        ),
        "metric",
    )
    assert report.faults == ["root_of_each"]
    assert report.findings[0].metric == "rmse"
    assert check(depth_metrics, "metric", metric="rmse").passed[0] == "plain"


def test_public_code_of_one_image_at_a_time():
    """As evaluation scripts have it: lists of valid pixels, NumPy, wrapped in two lines."""

    def compute_errors(gt, pred):
        thresh = np.maximum(gt / pred, pred / gt)
        return np.mean(np.abs(gt - pred) / gt), (thresh < 1.25).mean()

    def abs_rel(pred, target, valid):
        return np.array(
            [compute_errors(t[v], p[v])[0] for p, t, v in zip(pred, target, valid, strict=True)]
        )

    def exchanged(pred, target, valid):
        return abs_rel(target, pred, valid)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of means of nothing
        assert run(abs_rel, "metric", "abs_rel")
        report = run(exchanged, "metric", "abs_rel")
    assert report.faults == ["relative_to_prediction"]


def test_a_margin_of_the_whole_batch_in_torch():
    def loss(student, frozen, margin=0.85):
        cosine = F.cosine_similarity(student, frozen, dim=1)
        return (1 - cosine).mean() if cosine.mean() < margin else 0 * cosine.sum()

    assert check(loss, "feature_alignment").faults == ["batch_margin"]


def test_a_margin_that_makes_near_tokens_cost_most():
    def loss(student, frozen, margin=0.85):
        cosine = F.cosine_similarity(student, frozen, dim=1)
        return 1 - (cosine * (cosine < margin)).mean()

    assert check(loss, "feature_alignment").faults == ["dropped_cost_one"]


# what cannot be called ---------------------------------------------------------------------------


def raising(pred, target, valid):
    raise KeyError("depth")


def leaving(pred, target, valid):
    sys.exit(0)


@pytest.mark.parametrize(
    ("function", "kind", "said"),
    [
        ("nothing", "affine_invariant", "write module:function"),
        ("no_such_module:f", "affine_invariant", "there is no module no_such_module"),
        ("no/such/file.py:f", "affine_invariant", "no such file"),
        ("dalib.losses:afine", "affine_invariant", "has no afine; .*affine_invariant"),
        ("dalib.losses:EPS", "affine_invariant", "is no function, but float"),
        (lambda a, b: a, "affine_invariant", "has no argument 'pred': its own are a, b"),
        (lambda pred, target, valid, k: pred, "affine_invariant", "also needs k"),
        (raising, "affine_invariant", "raises KeyError: 'depth', on the vector plain"),
        (lambda pred, target, valid: pred, "affine_invariant", r"shape \(2, 5, 7\) came back"),
        (lambda pred, target, valid: None, "affine_invariant", "lack a return"),
        (lambda pred, target, valid: "x", "affine_invariant", "came back"),
        (lambda pred, target, valid: valid, "affine_invariant", "an array of bool came back"),
        (lambda pred, target, valid: (pred, 1), "affine_invariant", "came back"),
        (lambda pred, target, valid: {"loss": pred}, "affine_invariant", "a dict came back"),
        (lambda pred, target, valid: (1, 2, 3), "aligner", "3 things came back"),
        (lambda pred, target, valid: pred[0], "aligner", r"shape \(5, 7\) came back"),
        (lambda pred, target, valid: pred.mean((1, 2)), "metric", "say which metric"),
        (lambda pred, target, valid: {"mae": 1}, "metric", "the dict that came back has mae"),
        (lambda count, height, width: np.zeros(3), "cutmix_box", r"shape \(3,\) came back"),
        (lambda count: 1, "cutmix_box", "raises TypeError"),
        (lambda height, width: np.zeros((2, 2)), "garg_crop", r"shape \(2, 2\) came back"),
        (lambda encoder, decoder, encoder_lr: 3, "learning_rates", "int came back"),
        (torch.nn.Linear, "affine_invariant", "is a class that cannot be made without arguments"),
        (leaving, "affine_invariant", r"raises SystemExit: 0, on the vector plain"),
        (lambda pred, target, valid: pred.to_sparse(), "affine_invariant", "without plain values"),
        (lambda pred, target, valid: (x for x in pred), "affine_invariant", "generator came back"),
        (lambda count, height, width: sys.exit(0), "cutmix_box", "raises SystemExit: 0"),
        (lambda height, width: [[1], [1, 2]], "garg_crop", "list came back, which is no array"),
        (lambda height, width: None, "garg_crop", "NoneType came back"),
    ],
)
def test_what_cannot_be_called_is_said(function, kind, said):
    with pytest.raises(CallError, match=said):
        check(function, kind)
    assert CallError.exit_code == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "los"}, "unknown kind 'los'; there are affine_invariant"),
        ({"kind": "affine_invariant", "metric": "rmse"}, "says nothing"),
        ({"kind": "metric", "metric": "rms"}, "'rms' is none of abs_rel"),
        ({"kind": "affine_invariant", "skip": ["hole"]}, "no vector hole; this kind has plain"),
        ({"kind": "affine_invariant", "tolerance": 0.0}, "tolerance: 0.0 must lie"),
        ({"kind": "affine_invariant", "tolerance": float("nan")}, "tolerance: nan must lie"),
        ({"kind": "affine_invariant", "dtypes": ("float16",)}, "must be of float64 and float32"),
        ({"kind": "affine_invariant", "device": "abacus"}, "device: 'abacus' cannot be used"),
        ({"kind": "affine_invariant", "names": {"prd": "x"}}, "has no argument prd"),
        ({"kind": "garg_crop", "metric": "rmse"}, "takes no metric"),
    ],
)
def test_wrong_options_are_said(options, said):
    with pytest.raises(ConfigError, match=said):
        check(losses.affine_invariant, **options)


def test_nothing_left_to_check():
    with pytest.raises(ConfigError, match="nothing is left"):
        check(plain, "affine_invariant", skip=[v.name for v in read("affine_invariant")])


def test_nan_everywhere_is_a_fault_and_not_an_error():
    report = check(lambda pred, target, valid: pred.mean() * torch.nan, "affine_invariant")
    assert report.faults == ["unexplained"]
    assert "every vector fails" in report.findings[0].words


# laws --------------------------------------------------------------------------------------------


def test_the_crops_of_the_literature():
    assert edges("garg_crop", 375, 1242) == (153, 371, 44, 1197)
    assert edges("eigen_crop", 480, 640) == (45, 471, 41, 601)
    assert GARG[0] == 0.40810811


def _mask(height, width, top, bottom, left, right):
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda m, e: ~m, "crop_inverted"),
        (lambda m, e: np.ones_like(m), "crop_unused"),
        (lambda m, e: _mask(*m.shape, e[0], e[1] + 1, *e[2:]), "rounding"),
        (lambda m, e: m[::-1], "another_crop"),
    ],
)
def test_the_faults_of_a_crop(change, fault):
    def crop(height, width):
        own = edges("eigen_crop", height, width)
        return change(_mask(height, width, *own), own)

    report = check(crop, "eigen_crop")
    assert report.faults[0] == fault
    assert len(report.failed) >= 1


def _boxes(count, height, width, *, area=(0.02, 0.4), aspect=(0.3, 1 / 0.3), share=0.5, place=1.0):
    """The law once more, by rejection."""
    rng, found = np.random.RandomState(0), []
    for _ in range(count):
        if rng.rand() > share:
            found.append([0, 0, 0, 0])
            continue
        while True:
            size, ratio = rng.uniform(*area) * height * width, rng.uniform(*aspect)
            h, w = round((size * ratio) ** 0.5), round((size / ratio) ** 0.5)
            if 0 < h <= height and 0 < w <= width:
                break
        top = int(place * rng.randint(0, height - h + 1))
        left = int(place * rng.randint(0, width - w + 1))
        found.append([top, left, top + h, left + w])
    return np.array(found)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"share": 1.0}, "share"),
        ({"share": 0.0}, "share"),
        ({"area": (0.02, 0.9)}, "area"),
        ({"area": (0.15, 0.25)}, "area"),
        ({"aspect": (0.1, 9)}, "aspect"),
        ({"aspect": (0.9, 1.1)}, "aspect"),
        ({"place": 0.0}, "place"),
    ],
)
def test_the_law_of_boxes(change, fault):
    report = check(
        lambda count, height, width: _boxes(count, height, width, **change), "cutmix_box"
    )
    assert fault in report.faults if fault else report, report


def test_boxes_outside_of_the_image():
    def boxes(count, height, width):
        return _boxes(count, height, width) + np.array([0, 0, 0, 30])

    assert check(boxes, "cutmix_box").faults == ["outside"]


@pytest.mark.parametrize(
    ("rates", "fault"),
    [
        ((1, 10), None),
        ((1, 1), "one_rate_encoder"),
        ((10, 10), "one_rate_decoder"),
        ((10, 1), "rates_swapped"),
        ((1, 5), "other_rates"),
        ((1, None), "missing"),
    ],
)
def test_the_rates(rates, fault):
    def optimiser(encoder, decoder, encoder_lr):
        groups = [
            {"params": m.parameters(), "lr": encoder_lr * r}
            for m, r in zip((encoder, decoder), rates, strict=True)
            if r is not None
        ]
        return torch.optim.SGD(groups)

    assert check(optimiser, "learning_rates").faults == ([fault] if fault else [])


# the command -------------------------------------------------------------------------------------


def test_the_command_says_yes(capsys):
    assert main(["conform", "dalib.losses:affine_invariant", "--as", "affine_invariant"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("dalib.losses:affine_invariant as affine_invariant: conforms\n16 of 16")


def test_the_command_names_a_fault_in_a_file(tmp_path, capsys):
    """With the neighbour that it imports, arrays of NumPy, other names, and a report beside."""
    (tmp_path / "neighbour.py").write_text("WEIGHT = 1\n")
    (tmp_path / "mine.py").write_text(
        textwrap.dedent("""
            import numpy as np
            from neighbour import WEIGHT

            def error(p, t, m):
                return WEIGHT * np.array([(abs(a - b)[v] / a[v]).mean() for a, b, v in zip(p, t, m)])
        """)
    )
    words = ["conform", f"{tmp_path / 'mine.py'}:error", "--as", "metric", "--metric", "abs_rel"]
    words += [
        "--numpy",
        "--names",
        "pred=p",
        "target=t",
        "valid=m",
        "--json",
        str(tmp_path / "r.json"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(words) == 1
    captured = capsys.readouterr()
    assert "relative_to_prediction: errors are shares of the prediction" in captured.out
    assert "does not conform: relative_to_prediction" in captured.err
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["conforms"] is False
    assert report["findings"][0]["name"] == "relative_to_prediction"
    assert main(words) == 2
    assert "r.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nosuch:f", "--as", "metric"], "there is no module nosuch"),
        (
            ["dalib.losses:affine_invariant", "--as", "cutmix", "--names", "pred=a", "pred=b"],
            "one argument has two names",
        ),
        (
            ["dalib.losses:affine_invariant", "--as", "affine_invariant", "--json", "."],
            "--json: . is there already; remove it, or name another file",
        ),
        (
            ["dalib.losses:affine_invariant", "--as", "affine_invariant", "--json", "x" * 300],
            "cannot be written (File name too long)",
        ),
        (["--as", "metric"], "FUNCTION is missing"),
        (["dalib.losses:affine_invariant", "--as", "loss"], "unknown kind 'loss'"),
        (["dalib.losses:affine_invariant", "--as", "metric", "--metric", "x"], "'x' is none of"),
        (["dalib.losses:affine_invariant", "--as", "cutmix", "--json", ""], "--json is empty"),
        (
            ["dalib.losses:affine_invariant", "--as", "metric", "--names", "pred"],
            "write OURS=YOURS",
        ),
        (["dalib.losses:normalise", "--as", "affine_invariant"], "has no argument 'pred'"),
    ],
)
def test_the_command_cannot_call(words, said, capsys):
    assert main(["conform", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("at", ["--json", "in a file"])
def test_a_report_that_cannot_be_written_is_no_verdict(at, tmp_path, capsys, monkeypatch):
    """1 would say that the function is wrong. What can be known is known before it is called."""
    (tmp_path / "file").touch()
    words = ["conform", "dalib.losses:affine_invariant", "--as", "affine_invariant", "--json"]
    if at == "--json":
        assert main([*words, str(tmp_path / "file" / "r.json")]) == 2
        assert "cannot be written (Not a directory)" in capsys.readouterr().err
        return

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    assert main([*words, str(tmp_path / "r.json")]) == 2
    captured = capsys.readouterr()
    assert "No space left" in captured.err
    assert "conforms" in captured.out


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [("affine_invariant", "pred, target, valid"), ("garg_crop", "height, width")],
)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_who_stops_the_command_blames_no_function(name, kind, arguments, tmp_path, capsys):
    """The signal comes while the function runs: nothing is said of it."""
    (tmp_path / "slow.py").write_text(
        f"import os, signal\ndef function({arguments}):\n    os.kill(os.getpid(), signal.{name})\n"
    )
    code = main(["conform", f"{tmp_path / 'slow.py'}:function", "--as", kind])
    assert code == {"SIGTERM": 75, "SIGINT": 130}[name]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "nothing was written yet; run it again from the start" in captured.err
    assert "raises" not in captured.err


@pytest.mark.parametrize("kind", kinds())
def test_the_command_lists(kind, capsys):
    assert main(["conform", "--as", kind, "--list"]) == 0
    out = capsys.readouterr().out
    law = LAWS.get(kind)
    found = law or kind_of(kind, ref.METRICS[0] if kind in SCORES else None)
    for name in (*found.arguments, *found.faults):
        assert f"  {name} " in out


def test_the_kit_needs_no_other_part_of_the_library():
    """Nobody's reference comes from what it checks; and reading vectors needs no torch."""
    code = (
        "import sys; from dalib.conformance import read; read('cutmix');"
        "print(sorted(m for m in sys.modules if m.startswith('dalib') or m == 'torch'))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    kit = ("dalib.conformance", "dalib.errors", "dalib.functions")
    assert not [m for m in eval(out) if m not in ("dalib", *kit) and not m.startswith(kit[0])]


# the page ----------------------------------------------------------------------------------------


def test_the_page_shows_what_the_kit_says():
    text = (paths.root() / page.PAGE).read_text(encoding="utf-8")
    made = page.update(text)
    # words to the letter; digits of float32 may differ from machine to machine
    number = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")
    hint = "python -m dabook.pages.conformance writes it anew"
    assert number.sub("#", made) == number.sub("#", text), hint
    for one, other in zip(number.findall(made), number.findall(text), strict=True):
        assert float(one) == pytest.approx(float(other), rel=1e-3), hint


def test_the_pages_adapter_is_the_example_and_conforms(capsys):
    example = paths.root() / "examples" / "conform" / "adapter.py"
    text = (paths.root() / page.PAGE).read_text(encoding="utf-8")
    (shown,) = re.findall(r"```python\n(import numpy.*?)```", text, re.S)
    code = ast.parse(example.read_text(encoding="utf-8"))
    code.body = [x for x in code.body if not isinstance(x, ast.Expr)]
    code.body[-1].body = code.body[-1].body[1:]  # without its docstring
    assert ast.unparse(ast.parse(shown)) == ast.unparse(code)
    words = [f"{example}:rmse", "--as", "metric", "--metric", "rmse", "--numpy"]
    assert main(["conform", *words]) == 0
    assert "conforms" in capsys.readouterr().out


def test_the_page_lists_every_kind():
    text = (paths.root() / page.PAGE).read_text(encoding="utf-8")
    table = text.partition("## What can be checked")[2].partition("\n## ")[0]
    for name in kinds():
        (line,) = (
            x for x in table.splitlines() if f"`{name}`" in x.partition("|")[2].partition("|")[0]
        )
        found = LAWS.get(name) or kind_of(name, ref.METRICS[0] if name in SCORES else None)
        assert f"`{', '.join(found.arguments)}`" in line


def test_merged_options():
    assert merged({"a": 1}, {"a": 2, "b": 3}) == {"a": 2, "b": 3}
    assert merged({"score": {"a": 1}}, {"score": {"b": 2}}) == {"score": {"a": 1, "b": 2}}
