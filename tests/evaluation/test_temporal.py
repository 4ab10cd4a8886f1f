"""Flicker: films of one pixel by hand, and what each measure does and does not see."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dalib.errors import ConfigError
from dalib.evaluation.measure import aligned_depth
from dalib.evaluation.temporal import (
    flicker,
    over_sequences,
    static_flicker,
    temporal_alignment_error,
)


def film(*values):
    """One pixel over time."""
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)


def some(x):
    return torch.ones(x.shape, dtype=torch.bool)


def room(seed, frames=4):
    generator = torch.Generator().manual_seed(seed)
    depth = 1 + 3 * torch.rand(1, 6, 8, generator=generator).double()
    return depth.expand(frames, -1, -1).clone()


class TestFlicker:
    def test_by_hand(self):
        """The truth stays at 2; the prediction goes 2, 2.2, 2: ln 1.1 up and down."""
        got = flicker(film(2, 2.2, 2), film(2, 2, 2), some(film(1, 1, 1)))
        assert got.tolist() == pytest.approx([100 * math.log(1.1)] * 2)

    def test_a_change_of_the_truth_is_taken_off(self):
        """The truth goes away by 4 %; a prediction that follows has none, one that stays 4 %."""
        true, everywhere = film(2, 2.08), some(film(1, 1))
        assert flicker(3 * true, true, everywhere).item() == pytest.approx(0, abs=1e-12)
        stays = flicker(film(5, 5), true, everywhere).item()
        assert stays == pytest.approx(100 * math.log(1.04))

    def test_signs_matter(self):
        """Up by 4 % where the truth goes down by 4 %: twice as far off as staying. Magnitudes alone
        would call it perfect."""
        everywhere = some(film(1, 1))
        got = flicker(film(2, 2.08), film(2.08, 2), everywhere).item()
        assert got == pytest.approx(200 * math.log(1.04))

    def test_pixels_that_change_do_not_count(self):
        pred, true = film(2, 9).expand(2, 1, 2).clone(), film(2, 2).expand(2, 1, 2).clone()
        true[1, 0, 1] = 3
        pred[1, 0, 0] = 2
        assert flicker(pred, true, some(true)).item() == 0
        assert flicker(pred, true, some(true), still=1).item() > 10
        assert flicker(film(2, 9), film(2, 3), some(film(1, 1))).isnan().item()

    def test_a_pixel_counts_in_both_frames_or_not(self):
        pred = room(0)
        pred[2, 0, 0] = 99
        scored = some(pred)
        scored[2, 0, 0] = False
        assert flicker(pred, room(0), scored).tolist() == [0, 0, 0]

    def test_it_does_not_see_what_is_wrong_and_stays(self):
        """As its words say."""
        assert flicker(room(1).flip(2), room(1), some(room(1))).tolist() == [0, 0, 0]

    def test_a_fit_to_each_frame_hides_it_and_one_to_the_film_does_not(self):
        truth = room(2)
        pred = 1 / truth * torch.tensor([1, 1.3, 1, 1.3]).double()[:, None, None]
        maps = pred, 1 / truth, some(truth)
        each = aligned_depth(*maps, "relative")
        whole = aligned_depth(*maps, "relative", groups=["film"] * 4)
        assert flicker(each.pred, each.target, each.scored).max() < 1e-9
        assert flicker(whole.pred, whole.target, whole.scored).min() > 5

    def test_bad_input(self):
        with pytest.raises(ConfigError, match="still: -1"):
            flicker(film(1, 1), film(1, 1), some(film(1, 1)), still=-1)
        with pytest.raises(ValueError, match=r"prediction is not above 0 .* frames \[1\]"):
            flicker(film(1, 0), film(1, 1), some(film(1, 1)))
        with pytest.raises(ValueError, match=r"target is NaN or infinite .*\[0\]"):
            flicker(film(1, 1), film(math.nan, 1), some(film(1, 1)))


class TestTae:
    def test_by_hand(self):
        """2 then 4: |4 - 2| / 4 and |2 - 4| / 2, their mean is 3/4."""
        assert temporal_alignment_error(film(2, 4)).tolist() == [pytest.approx(75)]

    def test_a_still_film_has_none(self):
        assert temporal_alignment_error(room(3)).abs().max() < 1e-12

    @settings(max_examples=20)
    @given(st.integers(0, 10**6), st.floats(0.01, 100))
    def test_the_same_backwards_and_in_any_unit(self, seed, unit):
        pred = 1 + torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(seed)).double()
        here = temporal_alignment_error(pred)
        assert temporal_alignment_error(unit * pred).tolist() == pytest.approx(here.tolist())
        assert temporal_alignment_error(pred.flip(0)).flip(0).tolist() == pytest.approx(
            here.tolist()
        )


class TestStatic:
    def test_by_hand(self):
        """Values 0, 1, 0, 3: median 1/2, deviations 1/2, 1/2, 1/2, 5/2, mean 1. Steps 1, 1, 3."""
        assert static_flicker(film(0, 1, 0, 3)).tolist() == pytest.approx([100, 100, 300])

    @settings(max_examples=20)
    @given(
        st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-100, 100), st.sampled_from([1, -1])
    )
    def test_scale_and_shift_of_the_film_change_nothing(self, seed, scale, shift, sign):
        pred = torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(seed)).double()
        got = static_flicker(sign * scale * pred + shift)
        assert got.tolist() == pytest.approx(static_flicker(pred).tolist(), rel=1e-6)

    def test_a_film_that_is_the_same_everywhere(self):
        assert static_flicker(torch.ones(3, 2, 2)).tolist() == [0, 0]

    def test_what_does_not_count(self):
        pred = room(4)
        scored = some(pred)
        scored[1] = False
        pred[1] = math.nan
        got = static_flicker(pred, scored)
        assert got[:2].isnan().all()
        assert got[2] == 0
        assert static_flicker(pred, torch.zeros_like(scored)).isnan().all()


def test_one_number_for_each_film():
    values = [1.0, 3.0, math.nan, 5.0]
    assert over_sequences(values, ["a", "a", "b", "a"]) == {
        "a": 3,
        "b": pytest.approx(math.nan, nan_ok=True),
    }
    with pytest.raises(ValueError, match="groups: 1 names for 4 values"):
        over_sequences(values, ["a"])


def test_a_single_frame_has_no_pair():
    assert flicker(film(1), film(1), some(film(1))).shape == (0,)
    assert temporal_alignment_error(film(1)).shape == (0,)
    assert static_flicker(film(1)).shape == (0,)
