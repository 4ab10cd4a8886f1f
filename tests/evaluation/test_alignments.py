"""Every alignment: by hand, against NumPy, against all subsets, and what must hold of any."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from dalib.errors import ConfigError
from dalib.evaluation.align import (
    ALIGNMENTS,
    fit,
    least_squares,
    least_squares_scale,
    median,
    median_scale,
    trimmed_least_squares,
)

FITTED = [a for a in ALIGNMENTS.values() if a.parameters != "none"]
FITS = (least_squares, least_squares_scale, median_scale, trimmed_least_squares)


def row(*values):
    return torch.tensor([[values]], dtype=torch.float64)


def everywhere(x):
    return torch.ones(x.shape, dtype=torch.bool)


def maps(seed, images=3, height=6, width=7):
    generator = torch.Generator().manual_seed(seed)
    pred, target = 0.5 + 3 * torch.rand(2, images, height, width, generator=generator).double()
    return pred, target, torch.rand(images, height, width, generator=generator) > 0.3


def test_the_seven_and_what_they_are():
    """Names that records and commands carry."""
    assert {n: (a.space, a.parameters, a.fit) for n, a in ALIGNMENTS.items()} == {
        "none": (None, "none", "least_squares"),
        "median": ("depth", "scale", "median"),
        "scale": ("depth", "scale", "least_squares"),
        "disparity": ("disparity", "scale_shift", "least_squares"),
        "depth": ("depth", "scale_shift", "least_squares"),
        "log_depth": ("log_depth", "scale_shift", "least_squares"),
        "robust": ("disparity", "scale_shift", "trimmed"),
    }
    assert all(a.name == name and a.source != "unstated" for name, a in ALIGNMENTS.items())
    assert (
        ALIGNMENTS["robust"].words
        == "scale and shift in disparity, least squares over the best 80%"
    )
    assert ALIGNMENTS["median"].words == "scale in depth, ratio of medians"
    assert ALIGNMENTS["none"].words == "no alignment"


class TestByHand:
    def test_scale_through_zero(self):
        """(1 * 3 + 2 * 4) / (1 + 4) = 11 / 5."""
        scale, shift = least_squares_scale(row(1, 2), row(3, 4), everywhere(row(1, 2)))
        assert scale.item() == pytest.approx(2.2, abs=1e-15)
        assert shift.item() == 0

    def test_medians_of_an_odd_and_of_an_even_number(self):
        """Medians 2 and 4; then 2 (of 1 and 3) and 6 (of 4 and 8), where the lower ones are 1 and 4."""
        assert median_scale(row(9, 1, 2), row(2, 6, 4), everywhere(row(1, 2, 3)))[0].item() == 2
        assert median_scale(row(1, 3), row(4, 8), everywhere(row(1, 3)))[0].item() == 3

    def test_ratio_of_medians_is_not_median_of_ratios(self):
        """Ratios 1, 8, 1/3: their median is 1; the medians are 2 and 3 (of 2, 16, 3: 3)."""
        got = median_scale(row(2, 2, 9), row(2, 16, 3), everywhere(row(1, 2, 3)))[0].item()
        assert got == pytest.approx(3 / 2)

    def test_one_of_five_is_left_out(self):
        """Four points lie on 2 p + 1, the fifth is anywhere: kept are ceil(0.8 * 5) = 4."""
        for wrong in (-100.0, 0.0, 1e6):
            pred, target = row(0, 1, 2, 3, 4), row(1, 3, 5, 7, wrong)
            scale, shift = trimmed_least_squares(pred, target, everywhere(pred))
            assert (scale.item(), shift.item()) == pytest.approx((2, 1), abs=1e-9)

    def test_nothing_is_fitted_without_an_alignment(self):
        pred, target, valid = maps(0)
        scale, shift = fit(pred, target, valid, ALIGNMENTS["none"])
        assert (scale.tolist(), shift.tolist()) == ([1, 1, 1], [0, 0, 0])


def test_against_numpy():
    pred, target, valid = maps(1)
    for i in range(len(pred)):
        p, t = pred[i][valid[i]].numpy(), target[i][valid[i]].numpy()
        ones = np.ones_like(p)
        both = np.linalg.lstsq(np.stack([p, ones], 1), t, rcond=None)[0]
        one = np.linalg.lstsq(p[:, None], t, rcond=None)[0]
        middle = np.median(t) / np.median(p)
        wanted = {"least_squares": both, "scale": [*one, 0], "median": [middle, 0]}
        for name, function in zip(wanted, FITS, strict=False):
            got = [x[i].item() for x in function(pred, target, valid)]
            assert_allclose(got, wanted[name], rtol=1e-10, atol=1e-12)


def best_of_all_subsets(p, t, count):
    """The least sum of squares over every choice of `count` points."""
    least = math.inf
    for chosen in itertools.combinations(range(len(p)), count):
        part = list(chosen)
        matrix = np.stack([p[part], np.ones(count)], 1)
        line = np.linalg.lstsq(matrix, t[part], rcond=None)[0]
        least = min(least, float(((matrix @ line - t[part]) ** 2).sum()))
    return least


def trimmed_sum(p, t, scale, shift, count):
    return np.sort((scale * p + shift - t) ** 2)[:count].sum()


@pytest.mark.parametrize("seed", range(20))
def test_trimmed_is_the_best_of_all_subsets(seed):
    """Least trimmed squares by its definition, on ten points of which up to two are far off."""
    rng = np.random.default_rng(seed)
    p = rng.normal(size=10)
    t = 2 * p + 1 + 0.3 * rng.normal(size=10)
    t[: seed % 3] += 10 * rng.normal(size=seed % 3)
    scale, shift = trimmed_least_squares(row(*p), row(*t), everywhere(row(*p)))
    found = trimmed_sum(p, t, scale.item(), shift.item(), 8)
    assert found == pytest.approx(best_of_all_subsets(p, t, 8), rel=1e-9)


def test_a_surface_of_another_scale_is_forgiven_by_robust_alone():
    """15 % of the pixels, all near ones, follow another line, as a mirror or a poster would."""
    generator = torch.Generator().manual_seed(0)
    pred = torch.rand(1, 30, 40, generator=generator).double()
    target = 0.7 * pred + 0.1
    odd = pred > pred.flatten().quantile(0.85)
    target[odd] = 3 - pred[odd]
    scale, shift = trimmed_least_squares(pred, target, everywhere(pred))
    assert (scale.item(), shift.item()) == pytest.approx((0.7, 0.1), abs=1e-9)
    assert abs(least_squares(pred, target, everywhere(pred))[0].item() - 0.7) > 0.3


def test_trimmed_with_nothing_to_trim_is_least_squares():
    pred, target, valid = maps(2)
    for got, wanted in zip(
        trimmed_least_squares(pred, target, valid, keep=1),
        least_squares(pred, target, valid),
        strict=True,
    ):
        assert torch.equal(got, wanted)
    with pytest.raises(ConfigError, match=r"keep: 0\.5 must lie above 0\.5"):
        trimmed_least_squares(pred, target, valid, keep=0.5)


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.sampled_from(FITTED))
def test_a_prediction_in_another_unit_changes_the_scale_alone(seed, unit, alignment):
    pred, target, valid = maps(seed)
    scale, shift = fit(pred, target, valid, alignment)
    other = fit(unit * pred, target, valid, alignment)
    assert_allclose(unit * other[0], scale, rtol=1e-6, atol=1e-9)
    assert_allclose(other[1], shift, rtol=1e-6, atol=1e-6)


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from(FITTED))
def test_the_order_of_pixels_never_matters(seed, alignment):
    pred, target, valid = maps(seed, height=1, width=40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    got = fit(pred[..., order], target[..., order], valid[..., order], alignment)
    for a, b in zip(got, fit(pred, target, valid, alignment), strict=True):
        assert_allclose(a, b, rtol=1e-8, atol=1e-10)


@settings(max_examples=12)
@given(
    st.integers(0, 10**6),
    st.sampled_from([math.nan, math.inf, -1e38, 0.0]),
    st.sampled_from(FITTED),
)
def test_invalid_pixels_never_matter(seed, junk, alignment):
    pred, target, valid = maps(seed)
    got = fit(torch.where(valid, pred, junk), torch.where(valid, target, junk), valid, alignment)
    for a, b in zip(got, fit(pred, target, valid, alignment), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("alignment", FITTED, ids=lambda a: a.name)
class TestEdges:
    def test_no_valid_pixel(self, alignment):
        pred, target, valid = maps(3)
        valid[1] = False
        scale, shift = fit(pred, target, valid, alignment)
        assert (scale[1].item(), shift[1].item()) == (0, 0)
        assert (scale[[0, 2]] != 0).all()

    def test_one_valid_pixel_is_met(self, alignment):
        pred, target = row(3.0, 5.0), row(2.0, 7.0)
        scale, shift = fit(pred, target, torch.tensor([[[False, True]]]), alignment)
        assert scale.item() * 5 + shift.item() == pytest.approx(7)

    def test_a_constant_prediction(self, alignment):
        """With a shift: scale 0 and the mean of the truth. Without: the scale that fits best."""
        pred, target = row(2, 2, 2, 2), row(1, 1, 2, 8)
        scale, shift = fit(pred, target, everywhere(pred), alignment)
        if alignment.parameters == "scale_shift":
            assert (scale.item(), shift.item()) == pytest.approx((0, 3))
        elif alignment.fit == "median":
            assert scale.item() == pytest.approx(1.5 / 2)
        else:
            assert scale.item() == pytest.approx(12 / 8)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_nan_where_it_counts_is_an_error(self, alignment, bad):
        for pair in ((row(1, bad), row(1, 2)), (row(1, 2), row(1, bad))):
            with pytest.raises(ValueError, match=r"NaN or infinite .*images \[0\]"):
                fit(*pair, everywhere(row(1, 2)), alignment)

    def test_shapes_that_would_pool_images_are_an_error(self, alignment):
        """Checked by the types in these tests, and by the function itself outside of them."""
        flat = row(1, 2)[0]
        with pytest.raises((ValueError, TypeError), match=r"pooled|Float"):
            fit(flat, flat, everywhere(flat), alignment)

    def test_a_sequence_has_one_fit_as_if_it_were_one_image(self, alignment):
        pred, target, valid = maps(4, images=4)
        scale, shift = fit(pred, target, valid, alignment, groups=["a", "b", "a", "b"])
        for members in ([0, 2], [1, 3]):
            tall = [x[members].reshape(1, -1, x.shape[2]) for x in (pred, target, valid)]
            wanted = fit(*tall, alignment)
            for i in members:
                assert (scale[i], shift[i]) == (wanted[0][0], wanted[1][0])

    @pytest.mark.parametrize("kind", [torch.tensor, np.array, tuple])
    def test_groups_of_any_kind(self, alignment, kind):
        """Two elements of a tensor are never the same object, whatever their value."""
        got = fit(*maps(4, images=4), alignment, groups=kind([7, 8, 7, 8]))
        wanted = fit(*maps(4, images=4), alignment, groups=["a", "b", "a", "b"])
        assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))

    def test_groups_of_one_are_images(self, alignment):
        pred, target, valid = maps(5)
        own = fit(pred, target, valid, alignment, groups=[0, 1, 2])
        for a, b in zip(own, fit(pred, target, valid, alignment), strict=True):
            assert torch.equal(a, b)

    def test_a_name_for_each_image(self, alignment):
        with pytest.raises(ValueError, match="groups: 2 names for 3 images"):
            fit(*maps(6), alignment, groups=["a", "b"])


def test_a_frame_without_a_valid_pixel_has_the_fit_of_its_sequence():
    pred, target, valid = maps(7, images=2)
    valid[1] = False
    scale, _ = fit(pred, target, valid, ALIGNMENTS["disparity"], groups=["a", "a"])
    assert scale[1] == scale[0] != 0


def test_zeros_have_scale_0_and_no_median():
    pred = row(0, 0, 0)
    assert least_squares_scale(pred, row(1, 2, 3), everywhere(pred))[0].item() == 0
    with pytest.raises(ValueError, match="median of the prediction is 0 in image 0"):
        median_scale(pred, row(1, 2, 3), everywhere(pred))
    with pytest.raises(ValueError, match="fits both"):
        median_scale(row(-1, -2, 5), row(1, 2, 3), everywhere(pred))


def test_tiny_and_huge_units():
    """Squares of 1e-200 would be 0, of 1e200 infinite."""
    pred, target, valid = maps(8)
    wanted = least_squares_scale(pred, target, valid)[0]
    for unit in (1e-200, 1e200):
        assert_allclose(least_squares_scale(unit * pred, target, valid)[0] * unit, wanted)


def test_half_precision_does_not_overflow():
    pred = torch.full((1, 480, 640), 200.0).half()
    assert least_squares_scale(pred, pred, everywhere(pred))[0].item() == pytest.approx(1)
    assert median_scale(pred, pred, everywhere(pred))[0].item() == 1


@settings(max_examples=30)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12))
def test_median_is_numpys(values):
    assert median(torch.tensor(values, dtype=torch.float64)).item() == np.median(values)
