"""Depth metrics: hand-worked values, a NumPy reference, properties, and the pooling that peers
did."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from dalib.evaluation.metrics import METRICS, depth_metrics


def reference(pred, target, valid):
    p, t = pred[valid].double().numpy(), target[valid].double().numpy()
    ratio = np.maximum(p / t, t / p)
    deltas = [np.mean(ratio < 1.25**k) for k in (1, 2, 3)]
    return [np.mean(np.abs(p - t) / t), *deltas, np.sqrt(np.mean((p - t) ** 2))]


def maps(*, seed, images=3):
    generator = torch.Generator().manual_seed(seed)
    pred, target = 0.5 + 3 * torch.rand(2, images, 5, 6, generator=generator)
    return pred, target, torch.rand(images, 5, 6, generator=generator) > 0.3


def test_by_hand():
    """Depth 2, 4, 1 for 2, 2, 2 (one more is not valid): errors 0, 1, 1/2; ratios 1, 2, 2 > 1.25^3;
    squares 0, 4, 1."""
    pred, target = torch.tensor([[[2.0, 4, 1, 77]]]), torch.full((1, 1, 4), 2.0)
    got = depth_metrics(pred, target, torch.tensor([[[True, True, True, False]]]))
    assert tuple(got) == METRICS
    expected = {
        "abs_rel": 0.5,
        "delta1": 1 / 3,
        "delta2": 1 / 3,
        "delta3": 1 / 3,
        "rmse": (5 / 3) ** 0.5,
    }
    assert {k: v.item() for k, v in got.items()} == pytest.approx(expected)


def test_delta_is_strict():
    """A ratio of exactly 1.25 is outside, as in Eigen's definition; 1.25 and 1.5625 are exact in
    binary."""
    got = depth_metrics(
        torch.tensor([[[1.25, 1.5625]]]), torch.ones(1, 1, 2), torch.ones(1, 1, 2, dtype=torch.bool)
    )
    assert [got[f"delta{k}"].item() for k in (1, 2, 3)] == [0, 0.5, 1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_reference(dtype):
    pred, target, valid = maps(seed=0)
    pred, target = pred.to(dtype), target.to(dtype)
    got = torch.stack(list(depth_metrics(pred, target, valid).values()), 1)
    assert_allclose(
        got, [reference(*image) for image in zip(pred, target, valid, strict=True)], rtol=1e-12
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([float("nan"), float("inf"), 0.0, -1.0, 1e38]))
def test_invalid_pixels_never_matter(seed, junk):
    pred, target, valid = maps(seed=seed)
    spoiled = depth_metrics(torch.where(valid, pred, junk), torch.where(valid, target, junk), valid)
    for key, expected in depth_metrics(pred, target, valid).items():
        assert torch.equal(spoiled[key], expected)


def test_permuting_images_permutes_results():
    pred, target, valid = maps(seed=1, images=4)
    order = torch.tensor([2, 0, 3, 1])
    permuted = depth_metrics(pred[order], target[order], valid[order])
    for key, expected in depth_metrics(pred, target, valid).items():
        assert torch.equal(permuted[key], expected[order])


def test_pixels_are_not_pooled_over_images():
    """Peer bug. 9 valid pixels with error 0 in one image, 1 with error 1 in the other: the mean is
    0.5, pooled 0.1."""
    target, pred = torch.ones(2, 3, 3), torch.ones(2, 3, 3)
    pred[1] = 2
    valid = torch.ones(2, 3, 3, dtype=torch.bool)
    valid[1] = False
    valid[1, 0, 0] = True
    abs_rel = depth_metrics(pred, target, valid)["abs_rel"]
    assert abs_rel.tolist() == [0, 1]
    assert abs_rel.mean().item() == 0.5


def test_half_precision_sums():
    """Peer bug: 307,200 squares of 100 are far beyond 65504."""
    target = torch.full((1, 480, 640), 100.0).half()
    got = depth_metrics(2 * target, target, torch.ones(1, 480, 640, dtype=torch.bool))
    assert (got["abs_rel"].item(), got["rmse"].item()) == (1, 100)


def test_empty_mask_is_nan():
    got = depth_metrics(*maps(seed=2)[:2], torch.zeros(3, 5, 6, dtype=torch.bool))
    assert all(value.isnan().all() for value in got.values())


@pytest.mark.parametrize("depth", [0.0, -2.0])
def test_depth_that_is_not_positive_is_an_error(depth):
    """-2 against -2 has a ratio of 1: without a check a sign error would score perfectly."""
    bad, valid = torch.full((1, 2, 2), depth), torch.ones(1, 2, 2, dtype=torch.bool)
    for pair in ((bad, torch.ones(1, 2, 2)), (bad, bad)):
        with pytest.raises(ValueError, match="must be positive"):
            depth_metrics(*pair, valid)
