"""Depth metrics: hand-worked values, a NumPy reference, properties, and the pooling that peers
did."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from dalib.errors import ConfigError
from dalib.evaluation.metrics import (
    ALL_METRICS,
    LOG_BIAS,
    MEANS,
    METRICS,
    PIXELS,
    by_depth,
    depth_metrics,
    silog,
    summarise,
)


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


@settings(max_examples=30)
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


def all_by_definition(pred, target, valid):
    """Every metric of one image from its definition, float64 NumPy."""
    p, t = pred.double().numpy()[valid.numpy()], target.double().numpy()[valid.numpy()]
    ratio = np.maximum(p / t, t / p)
    logs = np.log(p / t)
    return {
        "abs_rel": np.mean(np.abs(p - t) / t),
        "sq_rel": np.mean((p - t) ** 2 / t),
        "rmse": np.sqrt(np.mean((p - t) ** 2)),
        "rmse_log": np.sqrt(np.mean(logs**2)),
        "silog": 100 * np.sqrt(np.mean(logs**2) - np.mean(logs) ** 2),
        "log10": np.mean(np.abs(np.log10(p / t))),
        **{f"delta{k}": np.mean(ratio < 1.25**k) for k in (1, 2, 3)},
        "delta05": np.mean(ratio < np.sqrt(1.25)),
        LOG_BIAS: np.mean(logs),
    }


def test_every_metric_by_hand():
    """p / t = 2, 1/2: errors 1 and 1/2, squares over t 1 and 1, logs ln 2 and -ln 2, whose variance is
    that of their squares."""
    pred, target = torch.tensor([[[2.0, 2.0]]]), torch.tensor([[[1.0, 4.0]]])
    got = depth_metrics(pred, target, torch.ones(1, 1, 2) > 0, names=ALL_METRICS)
    assert tuple(got) == ALL_METRICS
    ln2 = math.log(2)
    wanted = {
        "abs_rel": 0.75,
        "sq_rel": 1,
        "rmse": math.sqrt((1 + 4) / 2),
        "rmse_log": ln2,
        "silog": 100 * ln2,
        "log10": math.log10(2),
        "delta05": 0,
        "delta1": 0,
        "delta2": 0,
        "delta3": 0,
    }
    assert {k: v.item() for k, v in got.items()} == pytest.approx(wanted)


def test_delta05_lies_between():
    """A ratio of 1.1 is below sqrt(1.25) = 1.118, 1.12 is not, and both are below 1.25."""
    pred = torch.tensor([[[1.1, 1.12]]])
    got = depth_metrics(
        pred, torch.ones(1, 1, 2), torch.ones(1, 1, 2) > 0, names=("delta05", "delta1")
    )
    assert (got["delta05"].item(), got["delta1"].item()) == (0.5, 1)


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_every_metric_against_numpy(seed):
    pred, target, valid = maps(seed=seed)
    got = depth_metrics(pred, target, valid, names=(*ALL_METRICS, LOG_BIAS))
    for i in range(len(pred)):
        for name, wanted in all_by_definition(pred[i], target[i], valid[i]).items():
            assert got[name][i].item() == pytest.approx(wanted, rel=1e-9, abs=1e-12), name


def test_silog_in_all_its_conventions():
    """Logs 1 and 3: mean square 5, mean 2. BTS: 100 sqrt(5 - 4). Eigen: 5 - 4 / 2 = 3, its root."""
    pred = torch.tensor([[[math.e, math.e**3]]], dtype=torch.float64)
    maps = pred, torch.ones_like(pred), torch.ones(1, 1, 2) > 0
    assert silog(*maps).item() == pytest.approx(100)
    assert silog(*maps, lam=0.5, root=False, factor=1).item() == pytest.approx(3)
    assert silog(*maps, lam=0.5, factor=1).item() == pytest.approx(math.sqrt(3))
    assert silog(*maps, lam=0, factor=1).item() == pytest.approx(math.sqrt(5))
    with pytest.raises(ConfigError, match="lam: 2"):
        silog(*maps, lam=2)


def test_silog_forgives_a_factor_and_never_falls_below_zero():
    """The textbook difference of two means cancels here, to about -1e-16 before the root."""
    target = 0.1 + torch.rand(1, 60, 80, generator=torch.Generator().manual_seed(0)).double()
    got = silog(1e4 * target, target, torch.ones(1, 60, 80) > 0).item()
    assert got == pytest.approx(0, abs=1e-10)
    assert got >= 0


def test_an_unknown_metric_is_named():
    with pytest.raises(ConfigError, match=r"unknown metric 'absrel'. Did you mean 'abs_rel'"):
        depth_metrics(*maps(seed=0), names=("absrel",))


class TestByDepth:
    def test_by_hand(self):
        """Truth 1, 2, 4, 8; errors 0, 1/2, 1/4, 1/8. 2 belongs to the second bin, 8 to the last."""
        pred, target = torch.tensor([[[1.0, 3, 5, 9]]]), torch.tensor([[[1.0, 2, 4, 8]]])
        got = by_depth(
            pred, target, torch.ones(1, 1, 4) > 0, edges=(1, 2, 4, 8), names=("abs_rel",)
        )
        assert got["abs_rel"].tolist() == [[0, 0.5, pytest.approx(3 / 16)]]
        assert got[PIXELS].tolist() == [[1, 1, 2]]

    def test_bins_add_up_to_the_whole(self):
        pred, target, valid = maps(seed=5)
        names = ("abs_rel", "delta1", "log10", "sq_rel")
        got = by_depth(pred, target, valid, edges=(0, 1, 2, math.inf), names=names)
        whole = depth_metrics(pred, target, valid, names=names)
        for name in names:
            mean = (got[name].nan_to_num() * got[PIXELS]).sum(1) / got[PIXELS].sum(1)
            assert_allclose(mean, whole[name], rtol=1e-12)

    def test_an_empty_bin_is_nan(self):
        got = by_depth(*maps(seed=6), edges=(100, 200))
        assert got["abs_rel"].isnan().all()
        assert (got[PIXELS] == 0).all()

    @pytest.mark.parametrize("edges", [(1,), (), (2, 1), (1, 1)])
    def test_edges_that_do_not_grow(self, edges):
        with pytest.raises(ConfigError, match="edges"):
            by_depth(*maps(seed=0), edges=edges)


class TestSummary:
    def test_three_means_by_hand(self):
        found = {"abs_rel": [0.1, 0.2, 0.6, math.nan], PIXELS: [1, 1, 2, 0]}
        assert summarise(found) == {"abs_rel": pytest.approx(0.3)}
        assert summarise(found, mean="median") == {"abs_rel": 0.2}
        assert summarise(found, mean="pixels") == {"abs_rel": pytest.approx(1.5 / 4)}

    def test_the_median_of_an_even_number(self):
        assert summarise({"rmse": [1.0, 2.0, 10.0, 3.0]}, mean="median") == {"rmse": 2.5}

    @settings(max_examples=20)
    @given(st.integers(0, 10**6))
    def test_over_pixels_is_one_large_image(self, seed):
        """Every metric, roots and variances too."""
        pred, target, valid = maps(seed=seed, images=4)
        valid[3] = False
        names = (*ALL_METRICS, LOG_BIAS)
        found = depth_metrics(pred, target, valid, names=names)
        found[PIXELS] = valid.flatten(1).sum(1).double()
        tall = [x.reshape(1, -1, x.shape[2]) for x in (pred, target, valid)]
        whole = depth_metrics(*tall, names=ALL_METRICS)
        for name, value in summarise(found, mean="pixels").items():
            assert value == pytest.approx(whole[name].item(), rel=1e-9, abs=1e-9), name

    def test_what_is_missing_is_named(self):
        with pytest.raises(ConfigError, match="needs pixels and log_bias of each image"):
            summarise({"silog": [1.0]}, mean="pixels")
        with pytest.raises(ConfigError, match="unknown mean 'mean'"):
            summarise({"silog": [1.0]}, mean="mean")
        with pytest.raises(ConfigError, match="unknown metric 'rmse'"):
            summarise({"silog": [1.0]}, names=["rmse"])

    def test_nothing_scored_is_nan(self):
        found = {"abs_rel": [math.nan], PIXELS: [0.0]}
        assert all(math.isnan(summarise(found, mean=mean)["abs_rel"]) for mean in MEANS)
