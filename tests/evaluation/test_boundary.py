"""Boundary F1: maps whose boundaries are counted by hand, and what must hold of any."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dalib.errors import ConfigError
from dalib.evaluation.boundary import DEFINITIONS, THRESHOLDS, boundary_f1


def steps(columns, *, width=9, height=7, ratio=2.0):
    """A wall at depth 1 that is `ratio` times as far from each of these columns on, one after the
    other."""
    depth = torch.ones(1, height, width, dtype=torch.float64)
    for column in columns:
        depth[..., column:] *= ratio
    return depth


def f1(pred, target, valid=None, **how):
    valid = torch.ones(target.shape, dtype=torch.bool) if valid is None else valid
    return boundary_f1(pred, target, valid, **how).item()


def test_what_is_perfect_is_1_and_as_published_less():
    """All boundaries face one way, so that three of Depth Pro's four directions have none: precision
    and recall are 1/4 as published. With steps of 1.14, five of ten thresholds have none: their
    weights are lost as published."""
    far, little = steps([4]), steps([4], ratio=1.14)
    for definition in DEFINITIONS:
        for target in (far, little):
            assert f1(7 * target, target, definition=definition) == 1
    assert f1(far, far, definition="depth_pro", published=True) == pytest.approx(1 / 4)
    weights = np.array(THRESHOLDS) - 1
    share = weights[:5].sum() / weights.sum()
    assert f1(little, little, published=True) == pytest.approx(share)
    assert f1(far, steps([]), published=True) == 0


@pytest.mark.parametrize("definition", DEFINITIONS)
class TestByHand:
    def test_a_boundary_elsewhere_is_none(self, definition):
        assert f1(steps([2]), steps([6]), definition=definition) == 0

    def test_a_flat_prediction_has_none(self, definition):
        assert f1(steps([]), steps([4]), definition=definition) == 0

    def test_where_there_is_none_to_find(self, definition):
        assert math.isnan(f1(steps([4]), steps([]), definition=definition))

    def test_one_of_two_is_a_recall_of_one_half(self, definition):
        """Precision 1, recall 1/2: F1 = 2/3."""
        found = f1(steps([3]), steps([3, 6]), definition=definition)
        assert found == pytest.approx(2 / 3)

    def test_a_turned_step_is_no_boundary_of_the_target(self, definition):
        """In one map the right side is in front, in the other the left: no pair has the same one
        behind."""
        assert f1(1 / steps([4]), steps([4]), definition=definition) == 0

    def test_a_small_step_counts_up_to_its_threshold(self, definition):
        """A step of 1.14 is above the thresholds 1.05, 1.072, ..., 1.139: five of ten."""
        target = steps([4], ratio=2)
        pred = steps([4], ratio=1.14)
        weights = [t - (definition == "moge") for t in THRESHOLDS]
        share = sum(weights[:5]) / sum(weights)
        assert f1(pred, target, definition=definition) == pytest.approx(share)

    def test_invalid_pixels_never_matter(self, definition):
        target = steps([3, 6])
        pred = steps([3])
        valid = torch.ones(target.shape, dtype=torch.bool)
        valid[..., 5:] = False  # the step that the prediction lacks
        pred[..., 5:] = math.nan
        target[..., 5:] = -1
        assert f1(pred, target, valid, definition=definition) == 1


def test_the_radius_forgives_a_boundary_that_is_a_little_off():
    """Off by one column. Within a radius of 3 there are 5 moves by one column, 5 by two and 1 by
    three. Of the 5 + 2 x 5 + 3 x 1 = 18 pairs a row that cross a boundary, 0 + 5 + 2 = 7 cross
    both."""
    near, far = (f1(steps([8], width=16), steps([7], width=16), radius=r) for r in (1, 3))
    assert near == 0
    assert far == pytest.approx(7 / 18)


def test_the_radius_finds_a_boundary_that_a_resize_has_spread():
    """Four steps of 2^(1/4) = 1.19 between neighbours: below the greatest thresholds one by one,
    above all of them over two pixels."""
    spread = steps([3, 4, 5, 6], width=10, ratio=2**0.25)
    assert f1(spread, steps([5], width=10), radius=1) < f1(spread, steps([5], width=10), radius=2)


def test_differences_by_the_exponential():
    """What the report does with disparity: shift and scale of the prediction are gone once it is
    aligned, and a step counts by its share of the range."""
    target = torch.zeros(1, 7, 9, dtype=torch.float64)
    target[..., 4:] = 0.2
    pred = target / 2  # a step of 0.1: above ln 1.094 = 0.090, below ln 1.117 = 0.110
    weights = np.array(THRESHOLDS) - 1
    counted = weights[:8].sum()  # 0.2 is above ln 1.206 = 0.187, below ln 1.228 = 0.205
    assert f1(pred.exp(), target.exp()) == pytest.approx(weights[:3].sum() / counted)


def reference(pred, target, valid, *, definition, radius):
    """Both definitions in NumPy, pixel by pixel."""
    height, width = target.shape
    if definition == "depth_pro":
        groups = [[(0, 1)], [(0, -1)], [(1, 0)], [(-1, 0)]]
        margin, weights = 0, np.array(THRESHOLDS)
    else:
        span = range(-radius, radius + 1)
        groups = [[(i, j) for i in span for j in span if 0 < i * i + j * j <= radius**2]]
        margin, weights = radius, np.array(THRESHOLDS) - 1
    scores = []
    for t in THRESHOLDS:
        precision, recall = [], []
        for moves in groups:
            counts = np.zeros(3)
            for i in range(margin, height - margin):
                for j in range(margin, width - margin):
                    for di, dj in moves:
                        y, x = i + di, j + dj
                        if 0 <= y < height and 0 <= x < width and valid[i, j] and valid[y, x]:
                            a = pred[y, x] > t * pred[i, j]
                            b = target[y, x] > t * target[i, j]
                            counts += a and b, a, b
            precision.append(counts[0] / max(counts[1], 1))
            recall.append(counts[0] / max(counts[2], 1))
        p, r = np.mean(precision), np.mean(recall)
        scores.append(2 * p * r / (p + r) if p + r else 0)
    return float(np.array(scores) @ weights / weights.sum())


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(DEFINITIONS), st.integers(1, 3))
def test_as_published_against_a_reference_pixel_by_pixel(seed, definition, radius):
    rng = np.random.default_rng(seed)
    target = np.exp(0.15 * rng.standard_normal((7, 8)))
    pred = target * np.exp(0.05 * rng.standard_normal((7, 8)))
    valid = rng.random((7, 8)) > 0.1
    expected = reference(pred, target, valid, definition=definition, radius=radius)
    tensors = [torch.from_numpy(x)[None] for x in (pred, target, valid)]
    found = boundary_f1(*tensors, definition=definition, radius=radius, published=True).item()
    assert found == pytest.approx(expected, abs=1e-12)


def test_images_of_a_batch_know_nothing_of_each_other():
    pred = torch.cat([steps([3]), steps([4]), steps([])])
    target = torch.cat([steps([3]), steps([2]), steps([2])])
    valid = torch.ones(target.shape, dtype=torch.bool)
    assert boundary_f1(pred, target, valid).tolist() == pytest.approx([1, 0, 0])


def test_bad_input_is_refused():
    good = steps([4])
    with pytest.raises(ConfigError, match="definition: 'sobel'"):
        f1(good, good, definition="sobel")
    with pytest.raises(ConfigError, match="radius: 0"):
        f1(good, good, radius=0)
    with pytest.raises(ValueError, match=r"target is not above 0 .* \[0\]"):
        f1(good, good - 1)
    with pytest.raises(ValueError, match="prediction is NaN"):
        f1(good * math.nan, good)
