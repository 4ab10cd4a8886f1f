"""Means with intervals: against plain loops, and what must not make an interval narrower."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dalib.errors import ConfigError
from dalib.evaluation.intervals import _times, differences, draws, estimates, unit_numbers
from dalib.evaluation.metrics import LOG_BIAS, MEANS, PIXELS, summarise

DRAWS = 40
METRICS = ("abs_rel", "rmse", "silog", "delta1")


def table(seed: int, count: int) -> dict[str, list[float]]:
    """Made-up scores; some images have none."""
    rng = np.random.default_rng(seed)
    found = {name: rng.uniform(0.1, 1, count) for name in METRICS}
    found |= {LOG_BIAS: rng.normal(0, 0.3, count), PIXELS: rng.integers(1, 50, count).astype(float)}
    empty = rng.uniform(size=count) < 0.2
    for name in (*METRICS, LOG_BIAS):
        found[name][empty] = np.nan
    found[PIXELS][empty] = 0
    return {name: column.tolist() for name, column in found.items()}


@pytest.mark.parametrize("mean", MEANS)
@settings(max_examples=8)
@given(seed=st.integers(0, 999), count=st.integers(3, 9), sequences=st.booleans())
def test_a_draw_is_the_number_of_the_images_that_are_drawn(mean, seed, count, sequences):
    """Each draw is written out as a list of images, and summed up as any list is."""
    scores = table(seed, count)
    units = unit_numbers([f"{k % 3}" if sequences else "" for k in range(count)])
    found = draws({m: scores[m] for m in METRICS}, units, mean=mean, beside=scores, count=DRAWS)
    all_times = np.concatenate(list(_times(int(units.max()) + 1, DRAWS)))
    for draw, times in enumerate(all_times.astype(int)):
        taken = [k for k in range(count) for _ in range(times[units[k]])]
        plain = {name: [column[k] for k in taken] for name, column in scores.items()}
        expected = summarise(plain, mean=mean, names=METRICS)
        for name in METRICS:
            assert found[name][draw] == pytest.approx(expected[name], nan_ok=True), (name, draw)


def test_by_hand():
    """Of 0 and 1, a draw has 0, 1 or 2 ones with chances 1/4, 1/2, 1/4: 95 % lie in 0 to 1."""
    found = estimates({"abs_rel": [0.0, 1.0, np.nan]}, ["", "", ""])["abs_rel"]
    assert (found.mean, found.low, found.high) == (0.5, 0, 1)
    assert (found.n, found.units, found.median) == (2, 2, 0.5)
    assert not found.leaves_out(0.5)
    assert found.leaves_out(1.5)


def test_a_mean_of_many_has_the_interval_that_theory_gives():
    rng = np.random.default_rng(0)
    values = rng.normal(3, 1, 400)
    found = estimates({"abs_rel": values.tolist()}, [""] * 400)["abs_rel"]
    half = 1.96 * values.std() / 20
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.08)
    assert found.low < found.mean < found.high


def test_frames_of_one_sequence_are_one_piece_of_evidence():
    """Four films, each frame ten times: the interval is that of the four, and a third of what
    single images would promise."""
    films = [0.1, 0.2, 0.4, 0.7]
    values = {"abs_rel": [x for x in films for _ in range(10)]}
    names = [f"film {k}" for k in range(4) for _ in range(10)]
    together = estimates(values, names)["abs_rel"]
    once = estimates({"abs_rel": films}, [""] * 4)["abs_rel"]
    apart = estimates(values, [""] * 40)["abs_rel"]
    assert (together.low, together.high) == pytest.approx((once.low, once.high))
    assert (together.units, together.n, apart.units) == (4, 40, 40)
    assert apart.high - apart.low < 0.5 * (together.high - together.low)


def test_an_image_without_a_sequence_is_by_itself():
    assert unit_numbers(["a", "", "a", "", "b"]).tolist() == [0, 1, 0, 2, 3]


def test_one_unit_has_no_interval():
    found = estimates({"abs_rel": [0.1, 0.3]}, ["film", "film"])["abs_rel"]
    assert (found.mean, found.units) == (pytest.approx(0.2), 1)
    assert np.isnan([found.low, found.high]).all()
    assert not found.leaves_out(0)
    nothing = estimates({"abs_rel": [np.nan, np.nan]}, ["", ""])["abs_rel"]
    assert np.isnan([nothing.mean, nothing.median, nothing.low]).all()
    assert nothing.n == 0


def test_differences_are_of_the_same_images():
    """Images differ much, the two hardly: what makes an image hard goes out."""
    rng = np.random.default_rng(1)
    hard = rng.uniform(0, 10, 30)
    this = {"abs_rel": (hard + 0.5).tolist(), "rmse": hard.tolist()}
    other = {"abs_rel": hard.tolist()}
    found = differences(this, other, [""] * 30)
    assert set(found) == {"abs_rel"}
    difference = found["abs_rel"]
    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.5, 0.5, 0.5))


def test_an_image_that_only_one_has_scored_is_in_no_difference():
    this, other = {"abs_rel": [1.0, 9.0, 4.0]}, {"abs_rel": [0.0, np.nan, 2.0]}
    found = differences(this, other, [""] * 3)["abs_rel"]
    assert (found.mean, found.n, found.median) == (1.5, 2, 1.5)


@pytest.mark.parametrize("mean", ["pixels", "median"])
def test_differences_of_other_means(mean):
    """A set against itself is 0; twice as large, it is the number itself."""
    scores = table(3, 8)
    values = {"abs_rel": scores["abs_rel"]}
    twice = {"abs_rel": [2 * x for x in scores["abs_rel"]]}
    beside = (scores, scores)
    none = differences(values, values, [""] * 8, mean=mean, beside=beside)["abs_rel"]
    assert (none.mean, none.low, none.high) == (0, 0, 0)
    whole = differences(twice, values, [""] * 8, mean=mean, beside=beside)["abs_rel"]
    expected = estimates(values, [""] * 8, mean=mean, beside=scores)["abs_rel"]
    assert (whole.mean, whole.low, whole.high) == pytest.approx(
        (expected.mean, expected.low, expected.high)
    )


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ConfigError, match="mean"):
        estimates({"abs_rel": [1.0]}, [""], mean="middle")
    with pytest.raises(ConfigError, match="over pixels needs pixels"):
        estimates({"abs_rel": [1.0]}, [""], mean="pixels")
