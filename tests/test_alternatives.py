"""Losses of the ablations against values by hand and float64 NumPy, and their kinship with the
paper's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from dalib import alternatives, losses
from dalib.errors import ConfigError

torch.set_num_threads(1)


def maps(seed, *, count=3, height=20, width=28):
    g = torch.Generator().manual_seed(seed)
    return (
        torch.rand(count, height, width, generator=g),
        torch.rand(count, height, width, generator=g),
        g,
    )


def holes(g, shape):
    return torch.rand(shape, generator=g) > 0.2


def rectangle(shape):
    inside = torch.zeros(shape, dtype=torch.bool)
    inside[0, 3:11, 4:20] = True
    inside[1, :, 14:] = True
    return inside


@given(st.integers(0, 1000))
def test_the_residual_averages_to_the_affine_invariant_loss(seed):
    pred, target, g = maps(seed)
    valid = holes(g, pred.shape)
    error = alternatives.residual(pred, target, valid)
    assert (error[~valid] == 0).all()
    assert_allclose(
        alternatives.map_loss(error, valid), losses.affine_invariant(pred, target, valid), rtol=1e-5
    )


@given(st.integers(0, 1000))
def test_apart_is_the_papers_cutmix_loss(seed):
    """Eq. 8's weights by area are what a mean over all pixels does."""
    pred, a, g = maps(seed)
    b, inside, valid = (
        torch.rand(pred.shape, generator=g),
        rectangle(pred.shape),
        holes(g, pred.shape),
    )
    error = alternatives.cutmix_residual(
        pred, b, target_inside=a, inside=inside, valid=valid, together=False
    )
    assert_allclose(
        alternatives.map_loss(error, valid),
        losses.cutmix_unlabelled(pred, b, target_inside=a, inside=inside, valid=valid),
        rtol=1e-4,
        atol=1e-6,
    )


def test_together_is_one_map():
    """A label that is affine in each region by itself costs nothing apart, and something
    together."""
    pred, _, _ = maps(4)
    inside, valid = rectangle(pred.shape), torch.ones(pred.shape, dtype=torch.bool)
    a, b = 3 * pred + 1, 0.2 * pred
    apart, together = (
        alternatives.map_loss(
            alternatives.cutmix_residual(
                pred, b, target_inside=a, inside=inside, valid=valid, together=t
            ),
            valid,
        )
        for t in (False, True)
    )
    assert_allclose(apart, 0, atol=1e-5)
    assert (together[:2] > 0.1).all()
    assert together[2] < 1e-5  # which was not mixed
    mixed = torch.where(inside, a, b)
    assert_allclose(together, losses.affine_invariant(pred, mixed, valid), rtol=1e-5)


def test_dropping_pixels_by_hand():
    error = torch.tensor([[[4.0, 1.0, 3.0, 9.0, 2.0]]])
    valid = torch.tensor([[[True, True, True, False, True]]])
    assert alternatives.spared(error, valid, share=0.25).tolist() == [
        [[False, True, True, False, True]]
    ]
    assert alternatives.spared(error, valid, share=0.5).tolist() == [
        [[False, True, False, False, True]]
    ]
    # of four pixels, less than one
    assert alternatives.spared(error, valid, share=0.24).equal(valid)
    assert alternatives.map_loss(error, valid, drop=0.5).tolist() == [1.5]


def test_dropping_is_per_image_and_equals_are_dropped_in_order():
    error = torch.tensor([[[1.0, 1.0, 1.0, 1.0]], [[100.0, 200.0, 300.0, 400.0]]])
    kept = alternatives.spared(error, torch.ones_like(error, dtype=torch.bool), share=0.25)
    assert kept.tolist() == [[[False, True, True, True]], [[True, True, True, False]]]


@given(st.integers(0, 1000), st.sampled_from([0.1, 0.3, 0.5]))
def test_dropped_pixels_are_the_largest(seed, share):
    error, _, g = maps(seed)
    valid = holes(g, error.shape)
    kept = alternatives.spared(error, valid, share=share)
    assert (valid | ~kept).all()
    for e, v, k in zip(error, valid, kept, strict=True):
        assert int((v & ~k).sum()) == int(np.floor(np.float32(share) * int(v.sum())))
        assert e[v & ~k].min() >= e[k].max()


def test_peer_bug_a_trimmed_loss_that_trims_nothing():
    """What the dropped pixels hold does not matter, and they get no gradient."""
    pred, target, _ = maps(2)
    valid = torch.ones(pred.shape, dtype=torch.bool)
    error = (pred - target).requires_grad_()
    alternatives.map_loss(error, valid, drop=0.3).sum().backward()
    dropped = ~alternatives.spared(error.abs(), valid, share=0.3)
    assert (error.grad[dropped] == 0).all()
    assert (error.grad[~dropped] != 0).all()
    worse = torch.where(dropped, 100 * error, error)
    assert torch.equal(
        alternatives.map_loss(worse, valid, drop=0.3), alternatives.map_loss(error, valid, drop=0.3)
    )


def test_dropping_regions_by_hand():
    """17 x 9 pixels are 3 x 2 cells; the worst by mean error go whole, however few valid pixels
    they have."""
    error, valid = torch.ones(1, 17, 9), torch.ones(1, 17, 9, dtype=torch.bool)
    error[0, 16, 8] = 5.0  # the last cell is this pixel
    error[0, 0, 0] = 50.0  # (50 + 63) / 64: less on average
    valid[0, 8:16, :8] = False  # a cell without pixels is none
    error[0, 8:16, :8] = 1e6
    kept = alternatives.spared(error, valid, share=0.2, unit="region")
    expected = valid.clone()
    expected[0, 16, 8] = False
    assert torch.equal(kept, expected)
    kept = alternatives.spared(error, valid, share=0.4, unit="region")
    expected[0, :8, :8] = False
    assert torch.equal(kept, expected)
    with pytest.raises(ConfigError, match="neither pixel nor region"):
        alternatives.spared(error, valid, share=0.2, unit="patch")


def matching_reference(error, valid, inside):
    """Loops in float64."""
    total = 0.0
    for k in range(4):
        r, v, g = (np.asarray(x)[:: 2**k, :: 2**k] for x in (error, valid, inside))
        value = 0.0
        for y in range(r.shape[0]):
            for x in range(r.shape[1]):
                for y2, x2 in ((y + 1, x), (y, x + 1)):
                    if (
                        y2 < r.shape[0]
                        and x2 < r.shape[1]
                        and v[y, x]
                        and v[y2, x2]
                        and g[y, x] == g[y2, x2]
                    ):
                        value += abs(float(r[y2, x2]) - float(r[y, x]))
        total += value / max(1, v.sum())
    return total


@pytest.mark.parametrize("seed", range(3))
def test_gradient_matching_against_loops(seed):
    error, _, g = maps(seed)
    valid, inside = holes(g, error.shape), rectangle(error.shape)
    found = alternatives.gradient_matching(error, valid, inside)
    assert_allclose(
        found, [matching_reference(*x) for x in zip(error, valid, inside, strict=True)], rtol=1e-5
    )


def test_gradient_matching_by_hand():
    """A ramp r = 2 x over 4 x 8 pixels: 2 per step, 4 x 7 steps of 32 pixels; then 4, 8 and 16 per
    step of the coarser grids."""
    error = 2.0 * torch.arange(8.0).expand(1, 4, 8)
    valid = torch.ones(1, 4, 8, dtype=torch.bool)
    expected = 2 * 28 / 32 + 4 * 6 / 8 + 8 * 1 / 2 + 0
    assert alternatives.gradient_matching(error, valid).tolist() == pytest.approx([expected])
    assert alternatives.map_loss(error, valid, gradient_weight=2.0).tolist() == pytest.approx(
        [7 + 2 * expected]
    )


def test_the_border_of_regions_apart_is_no_edge():
    """Regions that differ by a constant have no gradient to match inside, and one along the border
    if they are one map."""
    inside, valid = rectangle((2, 20, 28))[:1], torch.ones(1, 20, 28, dtype=torch.bool)
    error = inside.float()
    assert alternatives.gradient_matching(error, valid, inside).tolist() == [0.0]
    assert alternatives.gradient_matching(error, valid).item() > 0.05


@pytest.mark.parametrize("unit", ["pixel", "region"])
def test_finite_values_and_gradients_in_the_worst_cases(unit):
    """No valid pixel, one valid pixel, constant maps, NaN in invalid pixels."""
    pred = torch.zeros(4, 16, 16, requires_grad=True)
    target = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(4, 16, 16, dtype=torch.bool)
    valid[0] = False
    valid[1] = False
    valid[1, 3, 3] = True
    target[2, :8] = torch.nan
    valid[2, :8] = False
    target[3] = 1.0
    error = alternatives.residual(pred, target, valid)
    loss = alternatives.map_loss(error, valid, drop=0.1, drop_unit=unit, gradient_weight=2.0)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(pred.grad).all()
    assert loss[0] == loss[1] == loss[3] == 0
    assert loss[2] > 0
