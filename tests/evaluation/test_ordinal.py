"""Ordinal accuracy: by hand on a few pixels, against a plain loop, and as a property."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dalib.evaluation.ordinal import draw_pairs, ordinal_accuracy

TRUE = torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1
ALL = torch.ones(3, 12, 16, dtype=torch.bool)


def test_two_pixels_by_hand():
    """Of the pairs (0, 0), (0, 1), (1, 0), (1, 1) only the unequal ones count, whichever are
    drawn."""
    true, valid = torch.tensor([[[1.0, 2.0]]]), torch.ones(1, 1, 2, dtype=torch.bool)
    assert ordinal_accuracy(torch.tensor([[[0.0, 0.1]]]), true, valid).item() == 1
    assert ordinal_accuracy(torch.tensor([[[0.1, 0.0]]]), true, valid).item() == 0
    # a tie is a guess
    assert ordinal_accuracy(torch.tensor([[[7.0, 7.0]]]), true, valid).item() == 0.5
    # 2 is not more than twice 1
    assert ordinal_accuracy(true, true, valid, ratio=2.0).isnan().item()
    assert ordinal_accuracy(true, true, valid, ratio=1.99).item() == 1


def test_against_a_loop():
    pred = torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    valid = torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(3)) > 0.3
    found = ordinal_accuracy(pred, TRUE, valid, indices=[4, 5, 6], count=80, ratio=1.3, seed=9)
    for b in range(3):
        p, t, v = (x[b].flatten().tolist() for x in (pred, TRUE, valid))
        right = []
        for i, j in draw_pairs(12, 16, index=4 + b, count=80, seed=9).tolist():
            near, far = (i, j) if t[i] > t[j] else (j, i)
            if v[i] and v[j] and t[near] > 1.3 * t[far]:
                right.append(p[near] > p[far])
        assert 10 < len(right) < 80
        assert found[b].item() == pytest.approx(sum(right) / len(right), abs=1e-12)


def test_the_truth_is_right_its_negative_wrong_and_a_constant_a_guess():
    assert ordinal_accuracy(TRUE, TRUE, ALL).tolist() == [1, 1, 1]
    assert ordinal_accuracy(-TRUE, TRUE, ALL).tolist() == [0, 0, 0]
    assert ordinal_accuracy(torch.ones_like(TRUE), TRUE, ALL).tolist() == [0.5, 0.5, 0.5]


@settings(max_examples=25)
@given(
    scale=st.floats(0.1, 100),
    shift=st.floats(-10, 10),
    power=st.sampled_from([1, 3]),
    seed=st.integers(0, 10**6),
)
def test_growing_maps_change_nothing_and_falling_ones_turn_it_round(scale, shift, power, seed):
    pred = torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    here = ordinal_accuracy(pred, TRUE, ALL)
    assert torch.equal(ordinal_accuracy(scale * pred**power + shift, TRUE, ALL), here)
    assert torch.allclose(ordinal_accuracy(-pred.exp(), TRUE, ALL), 1 - here)


def test_the_sky_is_behind_everything_and_not_before_itself():
    true = torch.tensor([[[1.0, 0.0, 0.0]]])
    valid = torch.ones(1, 1, 3, dtype=torch.bool)
    assert ordinal_accuracy(torch.tensor([[[2.0, 1.0, 0.0]]]), true, valid).item() == 1
    assert ordinal_accuracy(true, true, torch.tensor([[[False, True, True]]])).isnan().item()


def test_pairs_follow_from_seed_and_index_alone():
    assert torch.equal(draw_pairs(4, 5, index=3), draw_pairs(4, 5, index=3))
    assert not torch.equal(draw_pairs(4, 5, index=3), draw_pairs(4, 5, index=4))
    assert not torch.equal(draw_pairs(4, 5, index=3), draw_pairs(4, 5, index=3, seed=1))
    pairs = draw_pairs(4, 5, index=0, count=2000)
    assert set(pairs.flatten().tolist()) == set(range(20))
    pred = torch.rand(2, 12, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    both = ordinal_accuracy(pred, TRUE[:2], ALL[:2])
    assert torch.equal(ordinal_accuracy(pred[1:], TRUE[1:2], ALL[1:2], indices=[1])[0], both[1])


def test_what_does_not_count_does_not_matter_and_the_rest_must_be_finite():
    pred, valid = TRUE.clone(), ALL.clone()
    valid[:, 0], pred[:, 0] = False, torch.nan
    assert ordinal_accuracy(pred, TRUE, valid).tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match=r"prediction is NaN or infinite .*images \[0, 1, 2\]"):
        ordinal_accuracy(pred, TRUE, ALL)
