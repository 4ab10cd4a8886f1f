"""Least squares: hand-worked values, numpy.linalg.lstsq, properties, and the peer bugs that concern
alignment."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from dalib.evaluation.align import check_shapes, least_squares


def reference(pred, target, valid):
    """(scale, shift) of one image by an independent solver, float64."""
    p, t = pred[valid].double().numpy(), target[valid].double().numpy()
    return np.linalg.lstsq(np.stack([p, np.ones_like(p)], 1), t, rcond=None)[0]


def maps(*, seed, images=3, height=7, width=9):
    generator = torch.Generator().manual_seed(seed)
    pred, target = torch.rand(2, images, height, width, generator=generator)
    return pred, target, torch.rand(images, height, width, generator=generator) > 0.3


def test_by_hand():
    """Points (0, 1), (1, 2), (2, 6), (9, not valid): means 1 and 3, cov 5/3, var 2/3, so scale 2.5
    and shift 0.5."""
    pred, target = torch.tensor([[[0.0, 1, 2, 9]]]), torch.tensor([[[1.0, 2, 6, -50]]])
    scale, shift = least_squares(pred, target, torch.tensor([[[True, True, True, False]]]))
    assert (scale.item(), shift.item()) == pytest.approx((2.5, 0.5))
    assert scale.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_reference(dtype):
    pred, target, valid = maps(seed=0)
    pred, target = pred.to(dtype), target.to(dtype)
    scale, shift = least_squares(pred, target, valid)
    expected = [reference(*image) for image in zip(pred, target, valid, strict=True)]
    assert_allclose(torch.stack([scale, shift], 1), expected, rtol=1e-10)


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-100, 100))
def test_recovers_scale_and_shift(seed, scale, shift):
    pred, _, valid = maps(seed=seed, images=2)
    pred = pred.double()
    got = least_squares(pred, scale * pred + shift, valid)
    assert_allclose(got[0], scale, rtol=1e-6)
    assert_allclose(got[1], shift, rtol=1e-6, atol=1e-6)


@settings(max_examples=30)
@given(
    st.integers(0, 10**6), st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e38, 0.0])
)
def test_invalid_pixels_never_matter(seed, junk):
    pred, target, valid = maps(seed=seed)
    spoiled = [torch.where(valid, x, junk) for x in (pred, target)]
    for got, expected in zip(
        least_squares(*spoiled, valid), least_squares(pred, target, valid), strict=True
    ):
        assert torch.equal(got, expected)


def test_images_are_independent():
    pred, target, valid = maps(seed=1, images=5)
    order = torch.tensor([3, 0, 4, 1, 2])
    whole = least_squares(pred, target, valid)
    permuted = least_squares(pred[order], target[order], valid[order])
    for got, expected in zip(permuted, whole, strict=True):
        assert_allclose(got, expected[order], rtol=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.1, -3.7, 1e-30, 1e30, 6e4])
def test_constant_prediction(constant):
    """Peer bug: a near-singular determinant gave a huge scale or NaN. 0.1 is not exact in binary,
    so its sums round."""
    _, target, valid = maps(seed=2)
    scale, shift = least_squares(torch.full_like(target, constant), target, valid)
    assert scale.tolist() == [0, 0, 0]
    assert_allclose(shift, [t[v].double().mean() for t, v in zip(target, valid, strict=True)])


def test_near_singular():
    """A float32 map that varies in its last bit is constant; a spread of 1e-4 of its size is a
    signal and fits."""
    ramp = torch.linspace(0, 1, 48).view(1, 6, 8)
    everywhere = torch.ones(1, 6, 8, dtype=torch.bool)
    noise = torch.nextafter(torch.ones(1, 6, 8), torch.where(ramp > 0.5, 2.0, 1.0))
    assert noise.unique().numel() == 2
    assert least_squares(noise, ramp, everywhere)[0].item() == 0
    faint = 1000 + 1e-1 * ramp.double()
    scale, shift = least_squares(faint, ramp.double(), everywhere)
    assert (scale.item(), shift.item()) == pytest.approx((10, -10000), rel=1e-6)


def test_half_precision_sums():
    """Peer bug: sums in half precision overflow at 65504. Here they reach 480 * 640 * 300."""
    target = torch.linspace(100, 300, 480 * 640).view(1, 480, 640).half()
    scale, shift = least_squares(target, target, torch.ones(1, 480, 640, dtype=torch.bool))
    assert (scale.item(), shift.item()) == pytest.approx((1, 0), abs=1e-8)


def test_few_pixels():
    """No valid pixel: 0 and 0. One: its target. Two: through both."""
    pred, target = (
        torch.tensor([[[1.0, 3.0]]]).repeat(3, 1, 1),
        torch.tensor([[[5.0, 9.0]]]).repeat(3, 1, 1),
    )
    valid = torch.tensor([[[False, False]], [[True, False]], [[True, True]]])
    scale, shift = least_squares(pred, target, valid)
    assert scale.tolist() == [0, 0, 2]
    assert shift.tolist() == [0, 5, 3]


@pytest.mark.parametrize("shape", [(6, 8), (2, 1, 6, 8), (48,)])
def test_refuses_to_pool_images(shape):
    with pytest.raises(ValueError, match="no pixels are pooled"):
        check_shapes(torch.zeros(shape), torch.zeros(shape), torch.ones(shape, dtype=torch.bool))


def test_refuses_to_broadcast():
    with pytest.raises(ValueError, match=r"prediction \(2, 6, 8\), target \(1, 6, 8\)"):
        check_shapes(
            torch.zeros(2, 6, 8), torch.zeros(1, 6, 8), torch.ones(2, 6, 8, dtype=torch.bool)
        )


def test_nan_where_valid_is_an_error():
    pred, target, valid = maps(seed=3)
    row, column = valid[1].nonzero()[0].tolist()
    pred[1, row, column] = torch.nan
    with pytest.raises(
        ValueError, match=r"prediction is NaN or infinite at valid pixels of images \[1\]"
    ):
        least_squares(pred, target, valid)
