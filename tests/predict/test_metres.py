"""Known distances to scale and shift: by hand, against references, and what one sigma means by
simulation."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from dalib.errors import ConfigError, DataError
from dalib.evaluation.align import least_squares
from dalib.models.sizes import resize_disparity
from dalib.predict.metres import (
    ScaleShift,
    fit_scale_shift,
    known_distances,
    sample,
    sparse_depth,
)

SIMULATIONS = 400


def test_two_points_by_hand():
    # 1 / 2 = a * 4 + b and 1 / 10 = a * 1 + b
    fit = fit_scale_shift([4.0, 1.0], [2.0, 10.0])
    a = 0.4 / 3
    assert fit.scale == pytest.approx(a)
    assert fit.shift == pytest.approx(0.1 - a)
    assert fit.depth(torch.tensor([4.0, 1.0, 2.5])).tolist() == pytest.approx([2, 10, 1 / 0.3])
    assert all(map(math.isnan, fit.errors))
    with pytest.raises(ConfigError, match="two distances leave no residual"):
        fit.error(torch.tensor([4.0]))


def test_error_bars_of_two_points_by_hand():
    """A measurement off by 0.1 m is off by 0.1 / Z^2 in disparity, and the line hangs on both."""
    fit = fit_scale_shift([4.0, 1.0], [2.0, 10.0], sigma_m=0.1)
    near, far = 0.1 / 4, 0.1 / 100
    assert fit.errors[0] == pytest.approx(math.hypot(near, far) / 3)
    assert fit.errors[1] == pytest.approx(math.hypot(near * 1 / 3, far * 4 / 3))
    # at the points themselves the error is the measurement's own
    assert fit.error(torch.tensor([4.0, 1.0])).tolist() == pytest.approx([0.1, 0.1], rel=1e-5)
    share = fit_scale_shift([4.0, 1.0], [2.0, 10.0], sigma_relative=0.05)
    assert share.error(torch.tensor([4.0, 1.0])).tolist() == pytest.approx([0.1, 0.5], rel=1e-5)


def test_without_a_stated_error_it_is_ordinary_least_squares():
    rng = np.random.default_rng(0)
    p = rng.uniform(1, 5, 40)
    z = 1 / (0.1 * p + 0.05 + rng.normal(0, 0.01, 40))
    fit = fit_scale_shift(p, z)
    scale, shift = least_squares(
        torch.tensor(p)[None, None],
        torch.tensor(1 / z)[None, None],
        torch.ones(1, 1, 40, dtype=torch.bool),
    )
    assert_allclose((fit.scale, fit.shift), (scale.item(), shift.item()), rtol=1e-10)
    # NumPy's own covariance of a line
    _, covariance = np.polyfit(p, 1 / z, 1, cov=True)
    assert_allclose(fit.covariance, covariance, rtol=1e-9)
    assert fit.freedom == 38
    assert fit.scatter == pytest.approx(0.01, rel=0.3)


def test_a_stated_shift_needs_one_point():
    fit = fit_scale_shift([2.0], [4.0], shift=0.0, sigma_relative=0.1)
    assert (fit.scale, fit.shift) == (pytest.approx(1 / 8), 0)
    assert fit.error(torch.tensor([2.0, 1.0])).tolist() == pytest.approx([0.4, 0.8], rel=1e-5)
    assert math.isnan(fit_scale_shift([2.0], [4.0], shift=0.0).errors[0])
    more = fit_scale_shift([2.0, 4.0], [4.0, 2.0], shift=0.05)
    assert more.scale == pytest.approx((2 * 0.2 + 4 * 0.45) / 20)


@settings(max_examples=50)
@given(
    st.floats(0.01, 10),
    st.floats(-0.05, 1),
    st.floats(1e-3, 1e3),
    st.floats(-100, 100),
)
def test_whatever_unit_the_network_speaks_the_metres_are_the_same(a, b, times, plus):
    p = np.array([0.5, 1.0, 2.0, 7.0])
    off = np.array([0.002, -0.001, 0.001, 0.003])
    z = 1 / (a * (p + 5) + b + off)
    grid = torch.linspace(0.5, 7, 9, dtype=torch.float64)
    plain = fit_scale_shift(p, z, sigma_relative=0.01)
    other = fit_scale_shift(times * p + plus, z, sigma_relative=0.01)
    assert_allclose(other.depth(times * grid + plus), plain.depth(grid), rtol=1e-3)
    assert_allclose(other.error(times * grid + plus), plain.error(grid), rtol=1e-2)


def simulate(count, *, scatter, sigma, options, seed=1):
    """(truth inside one sigma, inside the 95 % interval) at new pixels, over many fits."""
    rng = np.random.default_rng(seed)
    a, b = 0.12, 0.04
    one = wide = 0
    for _ in range(SIMULATIONS):
        p = rng.uniform(1, 8, count)
        z = 1 / (a * p + b + rng.normal(0, scatter, count))
        z = z * (1 + rng.normal(0, sigma, count))
        fit = fit_scale_shift(p, z, **options)
        new = rng.uniform(1, 8, 20)
        truth = 1 / (a * new + b + rng.normal(0, scatter, 20))
        pixels = torch.tensor(new)
        off = np.abs(fit.depth(pixels).double().numpy() - truth)
        one += (off <= fit.error(pixels).double().numpy()).mean() / SIMULATIONS
        low, high = (end.double().numpy() for end in fit.interval(pixels))
        wide += ((low <= truth) & (truth <= high)).mean() / SIMULATIONS
    return one, wide


@pytest.mark.slow
def test_one_sigma_holds_68_percent_of_new_pixels():
    """Three sources of error at once: the network's, the measurements', the line's."""
    one, wide = simulate(30, scatter=0.01, sigma=0.01, options={"sigma_relative": 0.01})
    assert one == pytest.approx(0.68, abs=0.03)
    assert wide == pytest.approx(0.95, abs=0.02)


@pytest.mark.slow
def test_noisy_measurements_hide_the_scatter_of_the_network():
    """As the module says: ten points whose measurements are noisier than the network promise a
    little too much."""
    one, wide = simulate(10, scatter=0.01, sigma=0.03, options={"sigma_relative": 0.03})
    assert 0.60 < one < 0.66
    assert 0.85 < wide < 0.92


def test_with_few_points_the_interval_knows_that_the_scatter_is_estimated():
    one, wide = simulate(4, scatter=0.01, sigma=0.0, options={})
    assert one < 0.65, "one sigma of four points holds less, as its docstring says"
    assert wide == pytest.approx(0.95, abs=0.02)


def test_the_errors_of_two_points_are_those_of_many_draws():
    """Two points with a stated error: the spread of the fitted scale and shift over draws."""
    rng = np.random.default_rng(2)
    p, z = np.array([6.0, 2.0]), np.array([2.0, 5.0])
    found = []
    for _ in range(2000):
        fit = fit_scale_shift(p, z + rng.normal(0, 0.02, 2))
        found.append((fit.scale, fit.shift))
    stated = fit_scale_shift(p, z, sigma_m=0.02)
    assert_allclose(np.cov(np.array(found).T), stated.covariance, rtol=0.12)


def test_stated_errors_that_explain_everything_leave_no_scatter():
    rng = np.random.default_rng(3)
    p = rng.uniform(1, 8, 200)
    z = 1 / (0.1 * p + 0.02)
    quiet = fit_scale_shift(p, z, sigma_relative=0.05)
    assert quiet.scatter == 0
    noisy = fit_scale_shift(p, z * (1 + rng.normal(0, 0.05, 200)), sigma_relative=0.001)
    assert noisy.scatter > 0.005
    # what Paule and Mandel ask for
    weight = 1 / ((0.001 / z) ** 2 + noisy.scatter**2)
    assert weight.min() > 0


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4])
def test_a_robust_fit_leaves_wrong_points_out(share):
    rng = np.random.default_rng(4)
    p = rng.uniform(1, 8, 3000)
    z = 1 / (0.1 * p + 0.02 + rng.normal(0, 0.003, 3000))
    wrong = int(share * 3000)
    z[:wrong] = rng.uniform(0.3, 1.0, wrong)  # rain before the LiDAR
    fit = fit_scale_shift(p, z, robust=True)
    assert fit.scale == pytest.approx(0.1, rel=0.03)
    assert fit.shift == pytest.approx(0.02, abs=0.003)
    assert fit.left_out >= 0.9 * wrong
    assert fit.points + fit.left_out == 3000
    if share:
        assert abs(fit_scale_shift(p, z).shift - 0.02) > 0.1


@pytest.mark.parametrize(
    ("predicted", "metres", "options", "words"),
    [
        ([], [], {}, "no known distance"),
        ([1.0], [2.0], {}, "fixes scale or shift, not both"),
        ([1.0, 2.0], [2.0], {}, "2 predictions for 1 distances"),
        ([1.0, 1.0], [2.0, 3.0], {}, "undetermined; take points that differ"),
        ([1e6, 1e6 + 1e-4], [2.0, 3.0], {}, "undetermined"),
        ([1.0, 2.0], [2.0, -3.0], {}, "a distance of -3 m: must be positive"),
        ([1.0, 2.0], [2.0, 0.0], {}, "must be positive"),
        ([1.0, 2.0], [2.0, math.nan], {}, "1 distances are NaN or infinite"),
        ([1.0, 2.0], [2.0, math.inf], {}, "1 distances are NaN or infinite"),
        ([1.0, math.nan], [2.0, 3.0], {}, "1 predicted disparities are NaN"),
        ([1.0, 2.0], [2.0, 3.0], {}, "near and far are the wrong way round"),
        ([0.0], [2.0], {"shift": 0.0}, "says 0 at every known distance"),
        ([1.0], [2.0], {"shift": 1.0}, "the wrong way round"),
        ([1.0], [2.0], {"shift": math.nan}, "shift nan: must be a finite number"),
        ([2.0, 1.0], [2.0, 3.0], {"sigma_m": 0.0}, "error of a distance must be positive"),
        ([2.0, 1.0], [2.0, 3.0], {"sigma_m": -1.0}, "error of a distance must be positive"),
        ([2.0, 1.0], [2.0, 3.0], {"sigma_relative": math.nan}, "must be positive"),
        ([2.0, 1.0], [2.0, 3.0], {"sigma_m": 1.0}, "50 % of a distance: no distance is known"),
        ([2.0, 1.0], [2.0, 3.0], {"sigma_m": 0.1, "sigma_relative": 0.1}, "not both"),
        ([2.0, 1.0], [2.0, 3.0], {"robust": True}, "2 points are too few"),
        ([2.0, 1.0], [2.0, 3.0], {"robust": True, "shift": 0.0}, "leave out --shift"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_words(predicted, metres, options, words):
    with pytest.raises((ConfigError, DataError), match=re.escape(words)):
        fit_scale_shift(predicted, metres, **options)


def test_what_lies_at_infinity():
    fit = fit_scale_shift([4.0, 2.0, 3.0], [1.0, 2.0, 4 / 3 + 0.01])
    relative = torch.tensor([[4.0, 0.0], [-1.0, 2.0]])
    assert fit.depth(relative)[1, 0] == math.inf
    assert fit.error(relative)[1, 0] == math.inf
    assert fit.infinite(relative) == 0.5
    assert torch.isfinite(fit.depth(relative)).tolist() == [[True, False], [False, True]]
    low, high = fit.interval(torch.tensor([4.0, 0.2, -1.0]))
    assert bool((low <= fit.depth(torch.tensor([4.0, 0.2, -1.0]))).all())
    assert high[0] < 2
    assert high[2] == math.inf


def test_places_are_those_of_the_map_at_full_size():
    small = torch.rand(5, 7, generator=torch.Generator().manual_seed(0))
    full = resize_disparity(small[None], (23, 40))[0].numpy()
    rows, columns = np.meshgrid(np.arange(23), np.arange(40), indexing="ij")
    found = sample(small, columns.ravel(), rows.ravel(), size=(23, 40))
    assert_allclose(found.reshape(23, 40), full, atol=1e-6)


def test_known_distances_in_an_image():
    disparity = torch.tensor([[1.0, 2.0], [3.0, 4.0]])  # of an image of 20 x 20
    fit = known_distances(disparity, [(0, 0, 5.0), (19, 19, 1.0)], size=(20, 20))
    assert fit.depth(disparity).tolist() == [
        [5.0, pytest.approx(15 / 7)],
        [pytest.approx(15 / 11), 1.0],
    ]
    for x, y in ((-1, 0), (0, 20), (20, 0), (0, math.nan)):
        with pytest.raises(DataError, match="lies outside the image, which is 20 pixels wide"):
            known_distances(disparity, [(0, 0, 5.0), (x, y, 1.0)], size=(20, 20))


def test_a_sparse_map_gives_what_its_points_give():
    generator = torch.Generator().manual_seed(5)
    disparity = torch.rand(8, 10, generator=generator) + 0.5
    truth = resize_disparity(0.2 * disparity[None] + 0.05, (32, 40))[0]
    valid = torch.rand(32, 40, generator=generator) < 0.1
    truth[~valid] = torch.nan
    fit = sparse_depth(disparity, truth, valid)
    assert fit.points == int(valid.sum())
    assert_allclose((fit.scale, fit.shift), (0.2, 0.05), rtol=1e-4)
    with pytest.raises(DataError, match="no known depth"):
        sparse_depth(disparity, truth, torch.zeros_like(valid))


def test_a_guess_spans_the_ratio():
    disparity = torch.linspace(2, 4, 101)[None]
    guess = ScaleShift.guessed(disparity, 5.0)
    assert guess.depth(disparity)[0, [2, 98]].tolist() == pytest.approx([5, 1])
    with pytest.raises(ConfigError, match="guess 1"):
        ScaleShift.guessed(disparity, 1.0)
    with pytest.raises(DataError, match="constant map"):
        ScaleShift.guessed(torch.ones(3, 3), 4.0)


def test_it_says_itself():
    assert "error bars unknown" in str(fit_scale_shift([4.0, 1.0], [2.0, 10.0]))
    words = str(fit_scale_shift([4.0, 1.0], [2.0, 10.0], sigma_m=0.1))
    assert words.startswith("scale 0.1333 ± 0.0083 1/m, shift -0.03333 ± 0.0084 1/m (2 points)")
