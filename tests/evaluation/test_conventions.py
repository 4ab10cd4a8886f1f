"""Conventions: recipes against `measure` and against scripts in NumPy, values by hand, and a finder
that finds what was planted."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch.nn import functional as F

from dalib.data.scenes import Scenes
from dalib.errors import ConfigError, DataError
from dalib.evaluation.align import ALIGNMENTS
from dalib.evaluation.conventions import (
    CONVENTIONS,
    changed,
    explain,
    prices,
    printed,
    rescore,
    usable,
)
from dalib.evaluation.measure import measure
from dalib.evaluation.metrics import summarise
from dalib.evaluation.protocols import PROTOCOLS, Protocol
from dalib.evaluation.recipes import Recipe, least_absolute, of_protocol, score_recipes

NAMES = ("abs_rel", "delta1", "rmse")


def world(*, images=5, height=48, width=64, seed=0, small=False):
    """Predictions and truth with a sky, holes, near and far, in groups of two images; truth in 1/m
    between 1/150 and 2."""
    generator = torch.Generator().manual_seed(seed)
    predictions, samples = [], []
    for i in range(images):
        smooth = torch.rand(1, 1, 4, 5, generator=generator)
        depth = 0.5 * 300 ** F.interpolate(smooth, (height, width), mode="bilinear")[0, 0]
        truth = 1 / depth
        truth[:4] = 0
        valid = torch.rand(height, width, generator=generator) > 0.1 + 0.02 * i
        noisy = 2 * (truth + 0.04 * torch.rand(height, width, generator=generator)) + 0.05
        if small:
            noisy = F.interpolate(noisy[None, None], (17, 23), mode="bilinear")[0, 0]
        predictions.append(noisy)
        samples.append({"disparity": truth, "valid": valid, "name": f"image {i}"})
    return predictions, samples


PREDICTIONS, SAMPLES = world(height=24, width=32, small=True)
MIRRORED = [p.roll(1, 1) for p in PREDICTIONS]
GROUPS = ("a", "a", "b", "b", "b")


# ---- the reference


UNDER = [(p, None) for p in sorted(PROTOCOLS)] + [
    (p, a) for p in ("relative", "kitti_eigen_652") for a in ("none", "median", "scale", "robust")
]


@pytest.mark.parametrize(("protocol", "alignment"), UNDER)
def test_a_protocol_as_a_recipe_gives_what_measure_gives(protocol, alignment):
    predictions, samples = world()
    got = rescore(predictions, samples, protocol=protocol, alignment=alignment, names=NAMES)
    found = measure(
        torch.stack(predictions),
        torch.stack([s["disparity"] for s in samples]),
        torch.stack([s["valid"] for s in samples]),
        protocol,
        alignment=alignment,
        names=NAMES,
    )
    expected = summarise(found, mean=PROTOCOLS[protocol].mean, names=NAMES)
    assert_allclose([got[n] for n in NAMES], [expected[n] for n in NAMES], rtol=1e-11)


@pytest.mark.parametrize("kind", ["depth", "log_depth"])
@pytest.mark.parametrize("alignment", sorted(ALIGNMENTS))
def test_predictions_of_depth_as_measure_has_them(kind, alignment):
    predictions, samples = world()
    depth = [1 / p for p in predictions]
    given_ = depth if kind == "depth" else [d.log() for d in depth]
    got = rescore(given_, samples, protocol="scenes", alignment=alignment, kind=kind, names=NAMES)
    found = measure(
        torch.stack(given_),
        torch.stack([s["disparity"] for s in samples]),
        torch.stack([s["valid"] for s in samples]),
        "scenes",
        kind=kind,
        alignment=alignment,
        names=NAMES,
    )
    assert_allclose([got[n] for n in NAMES], [summarise(found)[n] for n in NAMES], rtol=1e-6)


# ---- scripts of others, in NumPy


def script(*, fit="disparity", over=None, cap=80.0, mask=None, end=None, score="depth", mean=None):
    """AbsRel as a script in NumPy has it, over the images of `world` at the size of the truth."""
    predictions, samples = world()
    errors = []
    for pred, sample in zip(predictions, samples, strict=True):
        p, t = pred.double().numpy(), sample["disparity"].double().numpy()
        known = sample["valid"].numpy() & (t > 0)
        use = known & (t >= 1 / cap) & (t <= 1e3) if cap else known
        if mask is not None:
            inside = np.zeros_like(use)
            inside[mask(*use.shape)] = True
            use = use & inside
        fitted = use if over is None else over(known, use, p)
        with np.errstate(divide="ignore"):
            z = 1 / t
        if fit == "disparity":
            scale, shift = np.polyfit(p[fitted], t[fitted], 1)
            q = scale * p + shift
            if end is not None:
                q = np.maximum(q, end(t, use))
            d = 1 / q
        elif fit == "depth":
            scale, shift = np.polyfit(1 / p[fitted], z[fitted], 1)
            d = np.clip(scale / p + shift, 1e-3, cap)
        elif fit == "mixed":
            scale, shift = np.polyfit(p[fitted], z[fitted], 1)
            d = np.clip(scale * p + shift, 1e-3, cap)
        elif fit == "median":
            d = 1 / p
            d = np.clip(d * np.median(z[fitted]) / np.median(d[fitted]), 1e-3, cap)
        errors.append(
            np.abs(d - z)[use] / z[use] if score == "depth" else np.abs(q - t)[use] / t[use]
        )
    if mean == "pixels":
        return np.concatenate(errors).mean()
    per_image = [e.mean() for e in errors]
    return np.median(per_image) if mean == "median" else np.mean(per_image)


def at_cap(t, use):
    return 1 / 80


SCRIPTS = {
    (): {"end": at_cap},
    ("fit_depth",): {"fit": "depth"},
    ("fit_mixed",): {"fit": "mixed"},
    ("median",): {"fit": "median"},
    ("no_clamp",): {},
    ("clamp_farthest",): {"end": lambda t, use: t[use].min()},
    ("disparity_error",): {"score": "disparity"},
    ("mean_pixels",): {"end": at_cap, "mean": "pixels"},
    ("median_images",): {"end": at_cap, "mean": "median"},
    ("cap_10",): {"cap": 10.0, "end": lambda t, use: 0.1},
    ("no_cap", "near_0.001"): {"cap": None, "end": lambda t, use: t[use].min()},
    ("fit_valid",): {"end": at_cap, "over": lambda known, use, p: known},
    ("crop_eigen",): {
        "end": at_cap,
        "mask": lambda h, w: (
            slice(round(45 / 480 * h), round(471 / 480 * h)),
            slice(round(41 / 640 * w), round(601 / 640 * w)),
        ),
    },
    ("crop_garg", "mean_pixels"): {
        "end": at_cap,
        "mean": "pixels",
        "mask": lambda h, w: (
            slice(int(0.40810811 * h), int(0.99189189 * h)),
            slice(int(0.03594771 * w), int(0.96405229 * w)),
        ),
    },
    ("no_clamp", "median_images"): {"mean": "median"},
    ("fit_depth", "mean_pixels"): {"fit": "depth", "mean": "pixels"},
}


@pytest.mark.parametrize("conventions", SCRIPTS, ids="+".join)
def test_the_number_of_a_script_is_reproduced(conventions):
    predictions, samples = world()
    wanted = [c for c in conventions if c != "near_0.001"]
    got = rescore(predictions, samples, protocol="scenes", conventions=wanted)
    assert_allclose(got["abs_rel"], script(**SCRIPTS[conventions]), rtol=1e-9)


@pytest.mark.parametrize(
    "conventions", [c for c in SCRIPTS if c and "near_0.001" not in c], ids="+".join
)
def test_the_number_of_a_script_is_explained(conventions):
    predictions, samples = world()
    found = explain(
        predictions,
        samples,
        mine=f"{script(**SCRIPTS[()]):.6f}",
        theirs=f"{script(**SCRIPTS[conventions]):.6f}",
        protocol="scenes",
        conventions=EXPLAINED,
    )
    assert found.is_reference
    assert not found.none
    assert conventions in [f.names for f in found.there]


EXPLAINED = sorted(
    {name for key in SCRIPTS for name in key} - {"near_0.001"}, key=list(CONVENTIONS).index
)


# ---- by hand


def two_pixels(recipe, *, pred=(3.0, 1.0), truth=(1.0, 0.5), kind="disparity", names=("abs_rel",)):
    sample = {
        "disparity": torch.tensor([truth]),
        "valid": torch.ones(1, len(truth), dtype=torch.bool),
    }
    scores = score_recipes([torch.tensor([pred])], [sample], [recipe], kind=kind, names=names)
    return [scores.number(0, n) for n in names]


def test_by_hand():
    """Depth 1 and 2; the prediction 3 and 1 is 1/3 and 1 when inverted."""
    # a scale alone, by medians: median depth 1.5 by median 2/3, so 9/4: depth 0.75 and 2.25
    assert_allclose(two_pixels(Recipe(fit="median", clamp="none")), [(0.25 + 0.125) / 2])
    # least squares in depth: (1/3 + 2) / (1/9 + 1) = 2.1, so 0.7 and 2.1
    assert_allclose(two_pixels(Recipe(fit="scale", clamp="none")), [(0.3 + 0.05) / 2])
    # least squares in disparity: (3 + 0.5) / 10 = 0.35, so 1.05 and 0.35
    assert_allclose(
        two_pixels(Recipe(fit="disparity_scale", clamp="none", quantity="disparity")),
        [(0.05 + 0.3) / 2],
    )
    # nothing fitted, disparity compared: 3 for 1 and 1 for 0.5
    assert_allclose(two_pixels(Recipe(fit="none", clamp="none", quantity="disparity")), [1.5])
    # two points always lie on a line, whichever is fitted to which
    assert_allclose(two_pixels(Recipe(fit="mixed", clamp="none")), [0], atol=1e-12)
    assert_allclose(two_pixels(Recipe(fit="ends", clamp="none")), [0], atol=1e-12)


def test_a_ratio_of_exactly_the_threshold():
    recipe = Recipe(fit="none", clamp="none")
    one = {"pred": (1.25, 1.0), "truth": (1.0, 1.0), "names": ("delta1",)}
    assert two_pixels(recipe, **one) == [0.5]
    assert two_pixels(recipe.with_({"inclusive": True}), **one) == [1.0]


def test_depth_below_zero_counts_as_scripts_count_it():
    """Fitted disparity -1 for 1: depth -1, an error of 2, and a ratio of -1, which is below 1.25."""
    recipe = Recipe(fit="none", clamp="none")
    got = two_pixels(recipe, pred=(-1.0, 1.0), truth=(1.0, 1.0), names=("abs_rel", "delta1"))
    assert got == [1.0, 1.0]


def test_eight_bits_keep_256_levels_between_the_ends():
    pred = torch.linspace(-3, 5, 1000)[None]
    sample = {"disparity": torch.ones_like(pred), "valid": torch.ones_like(pred, dtype=torch.bool)}
    recipes = [
        Recipe(stored=s, fit="none", clamp="none", quantity="disparity") for s in ("float", "8 bit")
    ]
    scores = score_recipes([pred], [sample], recipes)
    levels = np.floor((np.linspace(-3, 5, 1000) + 3) / 8 * 255) / 255 * 8 - 3
    assert_allclose(scores.number(1, "abs_rel"), np.abs(levels - 1).mean(), rtol=1e-4)
    assert scores.number(1, "abs_rel") != scores.number(0, "abs_rel")


def test_truth_beyond_the_cap_and_holes():
    """Depth 1, 100, sky and a hole under a cap of 80, nothing fitted: what counts, and as what."""
    sample = {
        "disparity": torch.tensor([[1.0, 0.01, 0.0, 0.5]]),
        "valid": torch.tensor([[True, True, True, False]]),
    }
    pred = torch.tensor([[1.0, 1 / 40, 1 / 40, 1.0]])
    base = Recipe(fit="none", min_depth=0.5, max_depth=80.0)
    recipes = [
        base,
        base.with_({"beyond": "at cap"}),
        base.with_({"unknown": "nearest"}),
    ]
    scores = score_recipes([pred], [sample], recipes)
    assert [scores.number(k, "abs_rel") for k in range(3)] == pytest.approx([0, 1 / 3, 0.5])
    assert scores.pixels[:, 0].tolist() == [1, 3, 2]


# ---- fits


def test_least_absolute_errors_against_all_lines_through_two_points():
    """Such a line goes through two of the points (a linear programme), so all of them are tried."""
    generator = np.random.default_rng(3)
    p = generator.random(25)
    t = 2 * p + 0.3 + generator.standard_cauchy(25) * 0.02
    best = math.inf
    for i, j in itertools.combinations(range(25), 2):
        scale = (t[j] - t[i]) / (p[j] - p[i])
        best = min(best, np.abs(scale * (p - p[i]) + t[i] - t).sum())
    scale, shift = least_absolute(torch.tensor(p), torch.tensor(t))
    assert best <= np.abs(scale * p + shift - t).sum() <= best * 1.001


@pytest.mark.parametrize("scope", ["sequence", "set"])
def test_a_shared_fit_is_that_of_all_pixels_together(scope):
    predictions, samples = world()
    recipe = of_protocol("scenes").with_({"fit_scope": scope})
    scores = score_recipes(predictions, samples, [recipe], groups=GROUPS)
    found = measure(
        torch.stack(predictions),
        torch.stack([s["disparity"] for s in samples]),
        torch.stack([s["valid"] for s in samples]),
        "scenes",
        groups=GROUPS if scope == "sequence" else ["all"] * 5,
    )
    assert_allclose(scores.values[0, :, 0], found["abs_rel"], rtol=1e-10)


def test_mean_over_sequences():
    predictions, samples = world()
    scores = score_recipes(
        predictions,
        samples,
        [of_protocol("scenes"), of_protocol("scenes").with_({"mean": "sequences"})],
        groups=GROUPS,
    )
    each = scores.values[0, :, 0]
    expected = (each[:2].mean() + each[2:].mean()) / 2
    assert_allclose(scores.number(1, "abs_rel"), expected)


# ---- properties


SPOIL = {
    "fit_depth",
    "fit_log_depth",
    "fit_mixed",
    "median",
    "scale",
    "scale_disparity",
    "no_alignment",
    "beyond_at_cap",
    "holes_near",
    "half",
    "stored_8_bit",
    "stored_16_bit",
}
"""By these a perfect prediction of disparity up to scale and shift has an error."""


@pytest.mark.slow
@settings(max_examples=4)
@given(scale=st.floats(0.01, 100.0), shift=st.floats(0.001, 10.0))
def test_a_perfect_network_has_no_error_by_any_choice(scale, shift):
    samples = SAMPLES[:2]
    perfect = [scale * s["disparity"].double() + shift for s in samples]
    harmless = [name for name in CONVENTIONS if name not in SPOIL]
    found = prices(
        perfect,
        samples,
        protocol="scenes",
        mirrored=perfect,
        groups=("a", "b"),
        conventions=harmless,
        draws=0,
    )
    assert len(found) > 25
    for price in found:
        assert price.value < 1e-6, price.convention.name


@pytest.mark.slow
def test_what_spoils_a_perfect_network_does():
    perfect = [3 * s["disparity"].double() + 0.1 for s in SAMPLES]
    found = {
        p.convention.name: p.value for p in prices(perfect, SAMPLES, protocol="scenes", draws=0)
    }
    assert {name for name, value in found.items() if value > 1e-6} == SPOIL


@pytest.mark.parametrize("kind", ["disparity", "depth"])
def test_an_error_of_disparity_is_one_of_depth_divided_by_the_prediction(kind):
    predictions, samples = world()
    given_ = predictions if kind == "disparity" else [1 / p for p in predictions]
    got = rescore(
        given_,
        samples,
        protocol="scenes",
        kind=kind,
        conventions=["disparity_error_clamped"],
    )["abs_rel"]
    errors = []
    for pred, sample in zip(predictions, samples, strict=True):
        p, t = pred.double().numpy(), sample["disparity"].double().numpy()
        use = sample["valid"].numpy() & (t >= 1 / 80) & (t <= 1e3)
        scale, shift = np.polyfit(p[use], t[use], 1)
        d = 1 / np.maximum(scale * p + shift, 1 / 80)[use]
        errors.append(np.mean(np.abs(d - 1 / t[use]) / d))
    assert_allclose(got, np.mean(errors), rtol=1e-9 if kind == "disparity" else 1e-6)


# ---- the list


def test_every_convention_answers_a_question_and_has_a_source():
    words = [c.words for c in CONVENTIONS.values()]
    assert len(set(words)) == len(words)
    for name, c in CONVENTIONS.items():
        assert c.name == name
        assert c.source.strip()
        assert c.question
        Recipe().with_(c.changes)
        assert len(c.words) <= 42, "too long for a chart on a phone"


def test_what_can_be_tried():
    reference = of_protocol("scenes")
    names = {c.name for c in usable(reference)}
    assert "fit_disparity" not in names  # what the reference does is no change
    assert "cap_80" not in names
    assert {"flip", "fit_sequence", "mean_sequences", "inclusive"}.isdisjoint(names)
    assert "inclusive" in {c.name for c in usable(reference, metric="delta1")}
    assert "flip" in {c.name for c in usable(reference, flip=True)}
    assert {"fit_sequence", "mean_sequences"} <= {c.name for c in usable(reference, sequences=True)}
    unknown = {c.name for c in usable(of_protocol("relative"), metres=False)}
    assert {"cap_10", "no_cap", "near_0.6"}.isdisjoint(unknown)
    assert "fit_mixed" not in {c.name for c in usable(reference, kind="log_depth")}


def test_conventions_that_contradict_each_other():
    reference = of_protocol("scenes")
    both = [CONVENTIONS[n] for n in ("no_clamp", "clamp_both")]
    assert changed(reference, both) is None
    # an error of disparity says that nothing is clamped, too
    assert changed(reference, [CONVENTIONS[n] for n in ("no_clamp", "disparity_error")]) is None
    # a robust fit of many images at once does not exist here
    assert changed(reference, [CONVENTIONS[n] for n in ("trimmed", "fit_set")]) is None
    with pytest.raises(ConfigError, match="cannot hold at once"):
        rescore(PREDICTIONS, SAMPLES, protocol="scenes", conventions=["no_clamp", "clamp_both"])


# ---- prices


def test_prices_and_their_intervals():
    predictions, samples = world(images=24, height=12, width=16)
    found = {
        p.convention.name: p
        for p in prices(
            predictions,
            samples,
            protocol="scenes",
            conventions=["closed_range", "open_range", "no_clamp", "cap_10"],
            draws=200,
        )
    }
    assert "closed_range" not in found
    reference = rescore(predictions, samples, protocol="scenes")["abs_rel"]
    for p in found.values():
        assert p.reference == reference
        assert p.low <= p.change <= p.high
        assert p.factor == p.value / p.reference
        assert p.images == 24
    assert found["open_range"].low == found["open_range"].high == 0  # nothing lies on an end
    assert found["cap_10"].high < 0


def test_few_images_have_no_interval():
    [price] = prices(PREDICTIONS, SAMPLES, protocol="scenes", conventions=["no_clamp"])
    assert math.isnan(price.low)
    assert math.isnan(price.high)


# ---- the finder


PLANTED = usable(of_protocol("scenes"), metric="delta1", flip=True, sequences=True)


@pytest.fixture(scope="module")
def searched():
    """All conventions and their pairs, on the small world."""
    return explain(
        PREDICTIONS[:3],
        SAMPLES[:3],
        mine={"abs_rel": 0, "delta1": 0},
        theirs={"abs_rel": 0, "delta1": 0},
        protocol="scenes",
        mirrored=MIRRORED[:3],
        groups=GROUPS[:3],
    )


@pytest.mark.slow
def test_every_convention_that_has_an_effect_is_found(searched):
    """Each of them alone: its numbers, rounded to seven digits, lead back to it."""
    single = [f for f in searched.everything if len(f.conventions) == 1]
    assert len(single) >= 40
    mine = {n: f"{v:.7f}" for n, v in searched.values.items()}
    for planted in single:
        found = searched.with_numbers(mine, {n: f"{v:.7f}" for n, v in planted.values.items()})
        assert found.is_reference or planted.names == ("inclusive",)
        assert planted.names in [f.names for f in found.there] or found.none


@pytest.mark.slow
def test_every_pair_is_found_or_a_part_of_it_suffices(searched):
    mine = {n: f"{v:.7f}" for n, v in searched.values.items()}
    pairs = [f for f in searched.everything if len(f.conventions) == 2]
    assert len(pairs) > 500
    for planted in pairs[::13]:
        if not all(math.isfinite(v) for v in planted.values.values()):
            continue
        found = searched.with_numbers(mine, {n: f"{v:.7f}" for n, v in planted.values.items()})
        assert any(set(f.names) <= set(planted.names) for f in found.there), planted.names
        for f in found.there:
            assert not any(set(g.names) < set(f.names) for g in found.there)


@pytest.mark.slow
def test_the_estimate_of_chance_is_what_happens(searched):
    """Numbers of planted pairs, to three digits: as many other combinations agree as estimated."""
    values = [f.values["abs_rel"] for f in searched.everything if len(f.conventions) == 2]
    middle = sorted(v for v in values if math.isfinite(v))
    middle = middle[len(middle) // 4 : -len(middle) // 4]
    happened, estimated = [], []
    for value in middle[::9]:
        found = searched.with_numbers(f"{searched.values['abs_rel']:.3f}", f"{value:.3f}")
        happened.append(found.agree[2] - 1)
        estimated.append(found.chance[2])
    assert np.mean(estimated) == pytest.approx(np.mean(happened), rel=0.35)
    more = searched.with_numbers("0.1000", f"{middle[0]:.6f}")
    assert more.chance[2] < np.mean(estimated)


@pytest.mark.slow
def test_a_second_metric_leaves_fewer(searched):
    planted = next(f for f in searched.everything if f.names == ("no_clamp", "mean_pixels"))
    mine = {n: f"{v:.3f}" for n, v in searched.values.items()}
    theirs = {n: f"{v:.3f}" for n, v in planted.values.items()}
    one = searched.with_numbers(mine["abs_rel"], theirs["abs_rel"])
    both = searched.with_numbers(mine, theirs)
    assert both.agree[2] < one.agree[2]
    assert both.chance[2] < one.chance[2]


@pytest.mark.slow
def test_both_numbers_may_differ_from_the_protocol(searched):
    """Yours by one convention, theirs by another: both are found, and the gap is both."""
    here = next(f for f in searched.everything if f.names == ("mean_pixels",))
    there = next(f for f in searched.everything if f.names == ("cap_10",))
    found = searched.with_numbers(
        *({n: f"{v:.7f}" for n, v in f.values.items()} for f in (here, there))
    )
    assert not found.is_reference
    assert [f.names for f in found.here] == [("mean_pixels",)]
    assert ("cap_10",) in [f.names for f in found.there]
    gap = found.gap(found.here[0], next(f for f in found.there if f.names == ("cap_10",)))
    assert {c.name for c in gap} == {"mean_pixels", "cap_10"}
    assert "not that of the protocol. It is given by:\n  mean over all pixels" in str(found)


@pytest.mark.slow
def test_what_nothing_explains_is_said(searched):
    found = searched.with_numbers({"abs_rel": "77.1"}, {"abs_rel": "88.1"})
    assert not found.here
    assert not found.there
    assert "nor of any combination" in str(found)
    assert "Nothing that was tried gives their number" in str(found)


@pytest.mark.slow
def test_no_gap_is_said(searched):
    value = f"{searched.values['abs_rel']:.2f}"
    assert "no gap" in str(searched.with_numbers(value, value))


def test_triples():
    few = ["cap_10", "mean_pixels", "no_clamp", "crop_garg", "disparity_error"]
    planted = ("crop_garg", "cap_10", "mean_pixels")
    theirs = rescore(PREDICTIONS, SAMPLES, protocol="scenes", conventions=planted)["abs_rel"]
    found = explain(
        PREDICTIONS,
        SAMPLES,
        mine=rescore(PREDICTIONS, SAMPLES, protocol="scenes")["abs_rel"],
        theirs=theirs,
        protocol="scenes",
        conventions=few,
        most=3,
    )
    assert [set(f.names) for f in found.there] == [set(planted)]
    assert "Of 7 triples" in str(found) or found.tried[3] > 0


# ---- numbers as printed


@pytest.mark.parametrize(
    ("text", "value", "half"),
    [
        ("0.0510", 0.051, 5e-5),
        (0.051, 0.051, 5e-4),
        ("5.1 %", 0.051, 5e-4),
        ("5.10%", 0.051, 5e-5),
        (1, 1.0, 0.5),
        ("1e-3", 1e-3, 5e-4),
    ],
)
def test_digits_say_how_well_a_number_is_known(text, value, half):
    p = printed(text)
    assert p.value == pytest.approx(value, rel=1e-12)
    assert p.tolerance == pytest.approx(half, rel=1e-12)
    assert p.fits(value + half)
    assert p.fits(value - 0.99 * half)
    assert not p.fits(value + 1.01 * half)


@pytest.mark.parametrize(
    "text",
    ["", "five", "nan", "inf", "0,05", "1_0", "1e400", "1e999999999", "0.1e-99999", "1e-400"],
)
def test_what_is_no_number(text):
    with pytest.raises(ConfigError, match="write it as printed"):
        printed(text)


def test_a_tolerance_in_place_of_the_digits():
    assert printed("0.05", tolerance=1e-4).tolerance == 1e-4
    with pytest.raises(ConfigError, match="tolerance"):
        printed("0.05", tolerance=0)


# ---- what is refused


def ask(**changes):
    given_ = {
        "predictions": PREDICTIONS,
        "source": SAMPLES,
        "mine": 0.1,
        "theirs": 0.2,
        "protocol": "scenes",
        "conventions": ["no_clamp"],
    } | changes
    return explain(given_.pop("predictions"), given_.pop("source"), **given_)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"predictions": None}, ConfigError, "two numbers alone say nothing"),
        ({"source": None}, ConfigError, "two numbers alone say nothing"),
        ({"source": [], "predictions": []}, ConfigError, "no image"),
        ({"predictions": PREDICTIONS[:2]}, ConfigError, "2 for 5 images"),
        ({"mirrored": MIRRORED[:1]}, ConfigError, "mirrored: 1 for 5"),
        ({"groups": "ab"}, ConfigError, "groups: 2 for 5"),
        ({"kind": "metres"}, ConfigError, "kind of prediction"),
        ({"protocol": "kiti"}, ConfigError, "protocol"),
        ({"metric": "silog"}, ConfigError, "metric"),
        ({"conventions": ["nothing"]}, ConfigError, "convention"),
        ({"most": 4}, ConfigError, "most"),
        ({"mine": {"rmse": 1.0}}, ConfigError, "give the same metrics"),
        ({"mine": {}}, ConfigError, "no number given"),
        ({"predictions": [p * math.nan for p in PREDICTIONS]}, DataError, "'image 0': NaN"),
        ({"predictions": [p[0] for p in PREDICTIONS]}, DataError, "rows and columns"),
        ({"mirrored": [p[:-1] for p in PREDICTIONS]}, DataError, "must have one size"),
        (
            {"source": [s | {"scale_known": False} for s in SAMPLES]},
            DataError,
            "scale is not known",
        ),
        ({"source": [s | {"valid": s["valid"][1:]} for s in SAMPLES]}, DataError, "one size"),
        (
            {"source": [s | {"disparity": -s["disparity"]} for s in SAMPLES]},
            DataError,
            "not below 0",
        ),
    ],
)
def test_what_is_refused(changes, error, says):
    with pytest.raises(error, match=says):
        ask(**changes)


def test_images_of_which_nothing_counts_are_left_out():
    empty = SAMPLES[0] | {"valid": torch.zeros_like(SAMPLES[0]["valid"])}
    got = rescore(PREDICTIONS, [empty, *SAMPLES[1:]], protocol="scenes")
    expected = rescore(PREDICTIONS[1:], SAMPLES[1:], protocol="scenes")
    assert got == expected
    nothing = rescore(PREDICTIONS[:1], [empty], protocol="scenes")
    assert math.isnan(nothing["abs_rel"])


def test_constant_predictions_are_scored():
    flat = [torch.ones(8, 8)] * 5
    for price in prices(flat, SAMPLES, protocol="scenes", draws=0):
        assert not math.isnan(price.reference)


def test_it_says_how_far_it_is():
    lines = []
    ask(report=lines.append)
    assert lines == [f"{i} of 5 images by 2 ways to score" for i in range(1, 6)]


def test_truth_may_be_any_source():
    scenes = Scenes(split="validation", count=2, height=12, width=16)
    predictions = [scenes[i]["disparity"] for i in range(2)]
    assert ask(predictions=predictions, source=scenes).values["abs_rel"] < 1e-6


def test_a_protocol_of_ones_own():
    own = Protocol(name="mine", max_depth=20.0, mean="pixels")
    found = ask(protocol=own)
    assert found.reference == "mine"
    assert of_protocol(own).mean == "pixels"
