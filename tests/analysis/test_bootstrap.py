"""The bootstrap over seeds and images, against loops that do what its sentence says, and against
what theory expects."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dabook.analysis import bootstrap


def slow_means(scores, weights, draws):
    """Draw by draw, seed by seed, domain by domain, with each image repeated as often as it was
    drawn."""
    seeds, found = scores[0].shape[1], []
    for draw in range(draws):
        taken = np.repeat(np.arange(seeds), bootstrap.counts(seeds, 0, draws)[draw].astype(int))
        total = 0.0
        for seed in taken:
            for stream, domain in enumerate(scores, 1):
                images = np.repeat(
                    np.arange(domain.shape[2]),
                    bootstrap.counts(domain.shape[2], stream, draws)[draw].astype(int),
                )
                for row, weight in enumerate(weights):
                    total += weight * np.nanmean(domain[row, seed, images]) / len(scores)
        found.append(total / len(taken))
    return found


def test_draws_by_hand(monkeypatch):
    """Two seeds, two images: the counts of three draws written down, and the differences they give
    worked out."""
    times = {0: [[2, 0], [1, 1], [0, 2]], 1: [[1, 1], [2, 0], [0, 2]]}
    monkeypatch.setattr(bootstrap, "counts", lambda size, stream, draws: np.array(times[stream]))
    scores = [np.array([[[0.2, 0.4], [0.6, 0.8]], [[0.1, 0.2], [0.6, 0.4]]])]  # (row, seed, image)
    # differences by seed and image: [[0.1, 0.2], [0.0, 0.4]]; draw 1 takes seed 0 twice and both
    # images, draw 2 both seeds and image 0 twice, draw 3 seed 1 twice and image 1 twice
    means = bootstrap.draw_means(scores, np.array([1.0, -1.0]), draws=3)
    assert means == pytest.approx([0.15, 0.05, 0.4])


@pytest.mark.filterwarnings("ignore:Mean of empty slice")  # a draw of the missing image alone
@pytest.mark.parametrize("missing", [False, True])
def test_draws_agree_with_loops(missing):
    rng = np.random.default_rng(3)
    scores = [rng.random((2, 3, n)) for n in (4, 7)]
    if missing:
        scores[0][:, :, 1] = np.nan
    weights = np.array([1.0, -0.5])
    fast = bootstrap.draw_means(scores, weights, draws=20)
    assert fast == pytest.approx(slow_means(scores, weights, 20), nan_ok=True)


def test_the_interval_holds_the_middle_of_the_draws():
    rng = np.random.default_rng(5)
    scores, weights = [rng.random((2, 5, 30))], np.array([1.0, -1.0])
    low, high = bootstrap.interval(scores, weights)
    draws = np.sort(bootstrap.draw_means(scores, weights))
    assert len(draws) == bootstrap.DRAWS
    assert np.mean((draws >= low) & (draws <= high)) == pytest.approx(0.95, abs=0.001)
    assert low < (scores[0][0] - scores[0][1]).mean() < high


def test_its_width_is_that_of_two_crossed_samples():
    """For y = seed effect + image effect, Var = var_seeds / seeds + var_images / images, with the
    sample's own variances."""
    rng = np.random.default_rng(7)
    seeds, images = rng.normal(0, 0.3, 12), rng.normal(0, 1.0, 80)
    scores = [(seeds[:, None] + images)[None]]
    spread = bootstrap.draw_means(scores, np.array([1.0])).std()
    assert spread == pytest.approx(np.sqrt(seeds.var() / 12 + images.var() / 80), rel=0.05)


@given(st.floats(-2, 2), st.integers(1, 5))
def test_what_all_seeds_and_images_share_has_no_interval(gap, seeds):
    base = np.random.default_rng(seeds).random((seeds, 6))
    low, high = bootstrap.interval([np.stack([base + gap, base])], np.array([1.0, -1.0]))
    assert (low, high) == pytest.approx((gap, gap), abs=1e-9)


def test_streams_are_always_the_same_and_differ_from_each_other():
    assert (bootstrap.counts(8, 1) == bootstrap.counts.__wrapped__(8, 1)).all()
    assert (bootstrap.counts(8, 1) != bootstrap.counts(8, 2)).any()
    assert (bootstrap.counts(8, 1).sum(1) == 8).all()
