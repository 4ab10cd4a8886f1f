"""p-values adjusted for their number: by hand, and what holds of any list."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dabook.analysis.multiplicity import benjamini_hochberg, holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ([0.01], [0.01]),
        # 3 x .01; 2 x .03; 1 x .04 may not fall below .06
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.4, 0.6], [1.0, 1.0, 1.0]),  # 3 x .4 is more than 1
        ([0.005, 0.005, 0.5], [0.015, 0.015, 0.5]),  # 3 x .005, and for its equal not 2 x .005
        ([], []),
    ],
)
def test_holm_by_hand(p, expected):
    assert holm(p).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        # 3 / 1 x .01; 3 / 2 x .03 = .045 may not exceed 3 / 3 x .04
        ([0.01, 0.04, 0.03], [0.03, 0.04, 0.04]),
        ([0.01, 0.02, 0.9], [0.03, 0.03, 0.9]),
        ([], []),
    ],
)
def test_benjamini_and_hochberg_by_hand(p, expected):
    assert benjamini_hochberg(p).tolist() == pytest.approx(expected)


@given(P_VALUES)
def test_adjusted_values_keep_the_order_and_holm_is_the_stricter(p):
    strict, mild = holm(p), benjamini_hochberg(p)
    assert (strict <= 1).all()
    assert (strict >= mild - 1e-12).all()
    assert (mild >= np.array(p) - 1e-12).all()
    order = np.argsort(p)
    assert (np.diff(strict[order]) >= 0).all()
    assert (np.diff(mild[order]) >= -1e-12).all()


@given(P_VALUES, st.randoms())
def test_the_order_of_the_comparisons_does_not_matter(p, random):
    place = list(range(len(p)))
    random.shuffle(place)
    shuffled = [p[i] for i in place]
    for adjust in (holm, benjamini_hochberg):
        assert adjust(shuffled) == pytest.approx(adjust(p)[place])
