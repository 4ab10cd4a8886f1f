"""All of a protocol at once: perfect predictions of every kind, each step by hand, and a NumPy
reference for each space."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from dalib.errors import ConfigError
from dalib.evaluation.align import ALIGNMENTS, least_squares
from dalib.evaluation.measure import (
    KINDS,
    SHIFT,
    aligned_depth,
    measure,
    measure_by_depth,
    one_size,
)
from dalib.evaluation.metrics import ALL_METRICS, LOG_BIAS, PIXELS, depth_metrics, summarise
from dalib.evaluation.protocols import PROTOCOLS, SCALE, Protocol, score

TEN = Protocol(name="ten metres", max_depth=10.0)
PERFECT = {name: 1.0 if name.startswith("delta") else 0.0 for name in ALL_METRICS}
BENT = ("depth", "log_depth")
"""Alignments that disparity up to a shift cannot have."""


def allowed(kind, name):
    return kind != "disparity" or name not in BENT


QUICK = ("relative", "scenes", "nyuv2_eigen", "kitti_eigen_652")
EVERY = [p if p in QUICK else pytest.param(p, marks=pytest.mark.slow) for p in PROTOCOLS]
COMBINATIONS = [(k, n) for k in KINDS for n in ALIGNMENTS if allowed(k, n)]


def scene(seed, images=2, height=12, width=16):
    """True disparity of depths from 0.7 to 9 m, and where it is valid."""
    generator = torch.Generator().manual_seed(seed)
    depth = 0.7 + 8.3 * torch.rand(images, height, width, generator=generator).double()
    return 1 / depth, torch.rand(images, height, width, generator=generator) > 0.3


def as_kind(disparity, kind):
    return {"disparity": disparity, "depth": 1 / disparity, "log_depth": -disparity.log()}[kind]


def noisy(seed, kind):
    """A prediction that is wrong, positive where its kind has to be."""
    target, valid = scene(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    pred = target * (0.5 + torch.rand(target.shape, generator=generator).double()) + 0.1
    return as_kind(pred, kind), target, valid


class TestPerfect:
    @pytest.mark.parametrize("protocol", EVERY)
    def test_scores_0_and_1_under_every_protocol_and_alignment(self, protocol):
        target, valid = scene(0)
        for kind, name in COMBINATIONS:
            pred = as_kind(target, kind)
            found = measure(pred, target, valid, protocol, kind=kind, alignment=name)
            assert summarise(found) == pytest.approx(PERFECT, abs=1e-6), (kind, name)
            assert found["abs_rel"].max() < 1e-12

    @settings(max_examples=16)
    @given(
        st.integers(0, 10**6),
        st.floats(0.01, 100),
        st.floats(-10, 10),
        st.sampled_from(sorted(PROTOCOLS)),
        st.sampled_from(
            [
                ("disparity", "disparity"),
                ("disparity", "robust"),
                ("depth", "depth"),
                ("log_depth", "log_depth"),
            ]
        ),
    )
    def test_so_does_a_shifted_and_scaled_one_where_both_are_fitted(
        self, seed, scale, shift, protocol, how
    ):
        kind, name = how
        target, valid = scene(seed)
        pred = scale * as_kind(target, kind) + shift
        got = summarise(measure(pred, target, valid, protocol, kind=kind, alignment=name))
        assert got == pytest.approx(PERFECT, abs=1e-6)

    @settings(max_examples=12)
    @given(
        st.integers(0, 10**6),
        st.floats(0.01, 100),
        st.sampled_from(KINDS),
        st.sampled_from([n for n, a in ALIGNMENTS.items() if a.parameters != "none"]),
    )
    def test_so_does_a_scaled_one_wherever_a_scale_is_fitted(self, seed, scale, kind, name):
        if not allowed(kind, name):
            return
        target, valid = scene(seed)
        pred = as_kind(scale * target, kind)
        got = summarise(measure(pred, target, valid, "relative", kind=kind, alignment=name))
        assert got == pytest.approx(PERFECT, abs=1e-6)

    @pytest.mark.parametrize(("kind", "name"), COMBINATIONS)
    def test_a_film_has_one_fit(self, kind, name):
        """Two frames, one of them in another unit: perfect one by one, not as a sequence."""
        target, valid = scene(1)
        pred = as_kind(target * torch.tensor([1.0, 1.5]).double()[:, None, None], kind)
        if name == "none":
            return
        how = {"kind": kind, "alignment": name}
        apart = measure(pred, target, valid, "relative", **how)
        film = measure(pred, target, valid, "relative", groups=["a", "a"], **how)
        assert apart["abs_rel"].max() < 1e-9
        assert film["abs_rel"].max() > 0.05
        assert film[SCALE][0] == film[SCALE][1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_disparity_aligned_in_disparity_is_score_bit_by_bit(protocol):
    pred, target, valid = noisy(2, "disparity")
    maps = (5 * pred - 3).float(), target.float(), valid
    wanted = score(*maps, PROTOCOLS[protocol])
    got = measure(*maps, protocol)
    for key, value in wanted.items():
        assert torch.equal(got[key], value), key


def test_score_refuses_what_it_would_align_otherwise():
    target, valid = scene(0)
    with pytest.raises(ConfigError, match=r"aligns by 'median'.*dalib\.evaluation\.measure"):
        score(target, target, valid, TEN.with_alignment("median"))


class TestKinds:
    @pytest.mark.parametrize("name", BENT)
    def test_relative_disparity_is_not_fitted_in_depth(self, name):
        target, valid = scene(3)
        with pytest.raises(ConfigError, match="its reciprocal is no depth up to scale and shift"):
            measure(2 * target + 1, target, valid, TEN, alignment=name)

    def test_why_it_is_not(self):
        """The fault of a public package: a perfect disparity network, fitted as if its values were
        depth. Its error is no rounding."""
        target, valid = scene(3)
        wrong = measure(2 * target + 1, target, valid, TEN, kind="depth", alignment="depth")
        right = measure(2 * target + 1, target, valid, TEN)
        assert wrong["abs_rel"].min() > 0.2
        assert (wrong[SCALE] < 0).all()  # near and far the wrong way round, which gives it away
        assert right["abs_rel"].max() < 1e-12

    @pytest.mark.parametrize("name", ["none", "median", "scale", "disparity", "robust"])
    def test_the_same_depth_in_any_kind_has_the_same_score(self, name):
        wanted = measure(*noisy(4, "depth"), TEN, kind="depth", alignment=name)
        for kind in KINDS:
            got = measure(*noisy(4, kind), TEN, kind=kind, alignment=name)
            for key in (*ALL_METRICS, SCALE, SHIFT, PIXELS, LOG_BIAS):
                assert_allclose(got[key], wanted[key], rtol=1e-9, atol=1e-11, err_msg=key)

    @pytest.mark.parametrize(
        ("kind", "name"), [("depth", "disparity"), ("depth", "log_depth"), ("disparity", "median")]
    )
    @pytest.mark.parametrize("bad", [0.0, -1.0])
    def test_what_has_no_reciprocal_is_refused(self, kind, name, bad):
        pred, target, valid = noisy(5, kind)
        valid[1, 2, 3] = True
        pred[1, 2, 3] = bad
        with pytest.raises(ValueError, match=rf"prediction of {kind} is not above 0 .* \[1\]"):
            measure(pred, target, valid, TEN, kind=kind, alignment=name)

    def test_unknown_names(self):
        target, valid = scene(0)
        for key, value in (("kind", "inverse"), ("alignment", "lsq"), ("names", ["rms"])):
            with pytest.raises(
                ConfigError, match=f"unknown .* '{value[0] if key == 'names' else value}'"
            ):
                measure(target, target, valid, TEN, **{key: value})
        with pytest.raises(ConfigError, match="unknown protocol 'kity'"):
            measure(target, target, valid, "kity")


class TestClamp:
    def test_depth_below_zero_is_held_to_the_near_end(self):
        """Prediction 1, 2, 3 of depth for 1, 1, 7: scale 3, shift -3, so 0, 3, 6: the first is held
        to 0.5 m. Errors 1/2, 2 and 1/7."""
        pred, target = torch.tensor([[[1.0, 2, 3]]]), torch.tensor([[[1.0, 1, 1 / 7]]])
        near = replace(TEN, min_depth=0.5)
        got = measure(pred, target, pred > 0, near, kind="depth", alignment="depth")
        assert got[SCALE].item() == pytest.approx(3)
        assert got[SHIFT].item() == pytest.approx(-3)
        assert got["abs_rel"].item() == pytest.approx((0.5 + 2 + 1 / 7) / 3)

    def test_where_the_range_has_no_ends_to_the_nearest_and_farthest_truth(self):
        """Truth 2 and 4, predictions 1 and 9 of metres: held to 2 and 4, so perfect."""
        pred, target = torch.tensor([[[1.0, 9]]]), torch.tensor([[[0.5, 0.25]]])
        got = measure(pred, target, pred > 0, "relative", kind="depth", alignment="none")
        assert got["abs_rel"].item() == 0
        got = measure(pred, target, pred > 0, TEN, kind="depth", alignment="none")
        assert got["abs_rel"].item() == pytest.approx((0.5 + 1.25) / 2)

    def test_far_and_range_differ_at_the_near_end_alone(self):
        """The line through 3.9, 3.9, 0.2, 0.2 at 2, 1, 0, 0 is above 4 at 2: nearer than the near end
        of 0.25 m, to which "range" holds it and "far" does not."""
        pred, target = torch.tensor([[[2.0, 1, 0, 0]]]), torch.tensor([[[3.9, 3.9, 0.2, 0.2]]])
        truth = np.array([3.9, 3.9, 0.2, 0.2])
        disparity = np.polyval(np.polyfit([2, 1, 0, 0], truth, 1), [2, 1, 0, 0])
        assert disparity[0] > 4
        near = replace(TEN, min_depth=0.25)
        for clamp, top in (("far", np.inf), ("range", 4)):
            got = measure(pred, target, pred >= 0, replace(near, clamp=clamp))
            wanted = np.mean(np.abs(truth / np.clip(disparity, 0.1, top) - 1))
            assert got["abs_rel"].item() == pytest.approx(wanted, rel=1e-6)

    def test_metric_disparity_of_zero_is_as_far_as_the_cap(self):
        pred, target = torch.tensor([[[0.0, 0.5]]]), torch.tensor([[[0.1, 0.5]]])
        got = measure(pred, target, pred >= 0, TEN, alignment="none")
        assert got["abs_rel"].item() == pytest.approx(0, abs=1e-6)

    def test_a_logarithm_too_large_for_a_number_is_as_far_as_the_cap(self):
        pred, target = torch.tensor([[[1e4, 0.0]]]), torch.tensor([[[0.1, 1.0]]])
        got = measure(pred, target, target > 0, TEN, kind="log_depth", alignment="none")
        assert got["abs_rel"].item() == pytest.approx(0, abs=1e-6)


def reference(pred, target, valid, *, space, cap, near):
    """One image, float64 NumPy: fit scale and shift in a space, back to depth, clip, AbsRel."""
    t = 1 / target.numpy()
    keep = valid.numpy() & (t <= cap)
    spaces = {"disparity": lambda z: 1 / z, "depth": lambda z: z, "log_depth": np.log}
    back = {
        "disparity": lambda x: 1 / np.maximum(x, 1e-12),
        "depth": lambda x: x,
        "log_depth": np.exp,
    }
    p, goal = pred.numpy()[keep], spaces[space](t[keep])
    line = np.linalg.lstsq(np.stack([p, np.ones_like(p)], 1), goal, rcond=None)[0]
    depth = np.clip(back[space](line[0] * p + line[1]), near, cap)
    return np.mean(np.abs(depth - t[keep]) / t[keep])


@pytest.mark.parametrize("space", KINDS)
def test_against_numpy(space):
    protocol = Protocol(name="test", min_depth=1.0, max_depth=6.0, clamp="range")
    pred, target, valid = noisy(6, space)
    valid &= target < 1
    got = measure(pred, target, valid, protocol, kind=space, alignment=space)["abs_rel"]
    for i in range(len(pred)):
        wanted = reference(pred[i], target[i], valid[i], space=space, cap=6, near=1)
        assert got[i].item() == pytest.approx(wanted, rel=1e-9)


@settings(max_examples=15)
@given(
    st.integers(0, 10**6),
    st.sampled_from([math.nan, math.inf, -1e38, 0.0]),
    st.sampled_from(COMBINATIONS),
)
def test_what_does_not_count_never_matters(seed, junk, how):
    kind, name = how
    pred, target, valid = noisy(seed, kind)
    wanted = measure(pred, target, valid, "nyuv2", kind=kind, alignment=name)
    spoiled = torch.where(valid, pred, junk), torch.where(valid, target, junk), valid
    got = measure(*spoiled, "nyuv2", kind=kind, alignment=name)
    assert all(torch.equal(got[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize(("kind", "name"), COMBINATIONS)
class TestEmptyAndBad:
    def test_an_image_of_which_nothing_counts_is_nan(self, kind, name):
        pred, target, valid = noisy(7, kind)
        valid[0] = False
        got = measure(pred, target, valid, TEN, kind=kind, alignment=name)
        for key in (*ALL_METRICS, SCALE, SHIFT, LOG_BIAS):
            assert got[key].isnan().tolist() == [True, False], key
        assert got[PIXELS].tolist() == [0, valid[1].sum()]

    def test_nan_where_it_counts_is_an_error(self, kind, name):
        pred, target, valid = noisy(8, kind)
        pred[1] = math.nan
        with pytest.raises(ValueError, match=r"prediction is NaN or infinite .*\[1\]"):
            measure(pred, target, valid, TEN, kind=kind, alignment=name)

    def test_no_image(self, kind, name):
        none = torch.empty(0, 4, 5)
        got = measure(none, none, none > 0, TEN, kind=kind, alignment=name)
        assert all(value.shape == (0,) for value in got.values())

    def test_a_constant_scores_like_the_mean_or_like_itself(self, kind, name):
        """Finite and no error: a dead network is to be scored, not to stop an evaluation."""
        target, valid = scene(9)
        got = measure(
            as_kind(torch.full_like(target, 0.3), kind),
            target,
            valid,
            TEN,
            kind=kind,
            alignment=name,
        )
        assert got["abs_rel"].isfinite().all()
        assert (got["abs_rel"] > 0.1).all()


def test_a_prediction_the_wrong_way_round_has_a_scale_below_zero():
    target, valid = scene(10)
    for kind in ("disparity", "depth"):
        name = "disparity" if kind == "disparity" else "depth"
        pred = -as_kind(target, kind)
        assert (measure(pred, target, valid, TEN, kind=kind, alignment=name)[SCALE] < 0).all()


def test_by_depth_has_one_fit_to_all_bins():
    pred, target, valid = noisy(11, "disparity")
    got = measure_by_depth(pred, target, valid, TEN, edges=(0, 3, 10), names=("abs_rel",))
    whole = measure(pred, target, valid, TEN)
    mean = (got["abs_rel"] * got[PIXELS]).sum(1) / got[PIXELS].sum(1)
    assert_allclose(mean, whole["abs_rel"], rtol=1e-12)
    assert (got["abs_rel"] > 0).all()


def test_aligned_maps_are_for_any_metric():
    pred, target, valid = noisy(12, "disparity")
    found = aligned_depth(pred, target, valid, TEN)
    scale, shift = least_squares(pred, target, valid)
    assert torch.equal(found.scored, valid)
    wanted = 1 / (scale[:, None, None] * pred + shift[:, None, None]).clamp(min=0.1)
    assert_allclose(found.pred[valid], wanted[valid], rtol=1e-12)
    got = depth_metrics(found.pred, found.target, found.scored)
    assert torch.equal(got["rmse"], measure(pred, target, valid, TEN)["rmse"])


class TestOneSize:
    def test_prediction_to_truth(self):
        pred = torch.tensor([[[0.0, 1.0]]])
        target = torch.ones(1, 1, 4)
        got, same, valid = one_size(pred, target, target > 0, TEN)
        assert got.tolist() == [[[0, 0.25, 0.75, 1]]]
        assert same is target
        assert valid.all()

    def test_truth_to_prediction_takes_pixels_and_mixes_none(self):
        """Of four columns the second and the fourth are nearest to the centres of two."""
        target = torch.tensor([[[1.0, 2, 3, 4]]]).expand(1, 2, 4)
        rule = replace(TEN, resize="truth, nearest")
        pred = torch.zeros(1, 1, 2)
        got, disparity, valid = one_size(pred, target, target != 4, rule)
        assert got is pred
        assert disparity.tolist() == [[[2, 4]]]
        assert valid.tolist() == [[[True, False]]]

    @pytest.mark.parametrize("resize", ["prediction, bilinear", "truth, nearest"])
    def test_of_one_size_nothing_changes(self, resize):
        pred, target, valid = noisy(13, "disparity")
        got = one_size(pred, target, valid, replace(TEN, resize=resize))
        assert all(a is b for a, b in zip(got, (pred, target, valid), strict=True))
