"""What is compared: values worked out by hand, what scale and shift cannot change, and intervals that
hold the truth."""

import math

import numpy as np
import pytest
import torch
from helpers.training import Smooth
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dalib.adaptation import MEASURES, Subset, compare
from dalib.adaptation.compare import (
    CORRUPTIONS,
    aligned,
    change,
    choose,
    correlation,
    distance,
    estimate,
    gain,
    is_flat,
    measures,
    order,
)
from dalib.errors import ConfigError, DataError
from dalib.evaluation.ordinal import draw_pairs
from dalib.losses import affine_invariant

TEACHER = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
STUDENT = torch.tensor([[0.0, 2.0], [4.0, 8.0]])


class Sees(nn.Module):
    """A network that returns a function of the picture's grey value, 0..1."""

    mean, std, multiple = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 8

    def __init__(self, function, kind="disparity"):
        super().__init__()
        self.function, self.kind = function, kind

    def forward(self, images):
        return self.function(images.mean(1))


def smooth(seed, height=24, width=32):
    draw = torch.rand(1, 1, 5, 6, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(draw, (height, width), mode="bicubic")[0, 0]


class TestByHand:
    def test_distance(self):
        """Teacher: median 1 (the lower of the two middle values), mean deviation 1, so -1, 0, 1, 2.
        Student: median 2, mean deviation 2.5, so -0.8, 0, 0.8, 2.4. Apart: 0.2, 0, 0.2, 0.4."""
        assert distance(STUDENT, TEACHER) == pytest.approx(0.2)

    def test_alignment(self):
        """cov = (-3.5 x -1.5 + -1.5 x -0.5 + 0.5 x 0.5 + 4.5 x 1.5) / 4 = 3.25 and
        var = (12.25 + 2.25 + 0.25 + 20.25) / 4 = 8.75: scale 13/35."""
        expected = 1.5 + 13 / 35 * (STUDENT.double() - 3.5)
        assert torch.allclose(aligned(STUDENT, TEACHER), expected)

    def test_a_map_that_is_upside_down_is_not_turned_round(self):
        assert aligned(-TEACHER, TEACHER).tolist() == [[1.5, 1.5], [1.5, 1.5]]
        assert correlation(-TEACHER, TEACHER) == pytest.approx(-1)
        assert distance(-TEACHER, TEACHER) > 1

    def test_correlation(self):
        assert correlation(STUDENT, TEACHER) == pytest.approx(13 / math.sqrt(35 * 5))

    def test_gain(self):
        """Means 2 and 0.5: three quarters of the way."""
        found = gain(np.array([1.0, 3.0]), np.array([0.5, 0.5]))
        assert found.value == pytest.approx(0.75)
        assert found.n == 2
        assert math.isnan(gain(np.zeros(4), np.ones(4)).value)

    def test_means_leave_out_what_could_not_be_measured(self):
        found = change(np.array([1.0, math.nan, 3.0]), np.array([2.0, 5.0, 2.0]))
        assert (found.before.value, found.after.value, found.difference.value) == (2, 3, 0)
        assert (found.before.n, found.after.n, found.difference.n) == (2, 3, 2)
        assert math.isnan(estimate(np.array([math.nan])).value)


def test_a_flat_student():
    """What the report calls a map without any depth."""
    teacher = smooth(0)
    found = measures(torch.full_like(teacher, 3.0), teacher)
    assert found["distance"] == pytest.approx(1)
    assert (found["correlation"], found["order"], found["edges"]) == (0, 0.5, 0)
    assert is_flat(torch.full((9, 9), 1e6) + torch.rand(9, 9) * 0.1)
    assert not is_flat(teacher * 1e-9)


def test_a_student_that_is_its_teacher():
    found = measures(smooth(1), smooth(1))
    for name, measure in MEASURES.items():
        assert found[name] == pytest.approx(measure.perfect, abs=1e-12), name


@settings(max_examples=25)
@given(
    seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)),
    scale=st.floats(0.01, 100),
    shift=st.floats(-50, 50),
    of=st.sampled_from(["student", "teacher"]),
)
def test_no_scale_and_no_shift_changes_anything(seeds, scale, shift, of):
    """Of neither map; which rules out AbsRel and delta."""
    teacher = smooth(seeds[0]).double()
    student = teacher + 0.5 * smooth(100 + seeds[1]).double()
    plain = measures(student, teacher)
    moved = {"student": student, "teacher": teacher}
    moved[of] = scale * moved[of] + shift
    found = measures(moved["student"], moved["teacher"])
    for name in ("distance", "error", "correlation"):
        assert found[name] == pytest.approx(plain[name], abs=1e-6), name
    for name in ("close", "order", "edges"):  # of pixels and pairs: one may cross a threshold
        assert found[name] == pytest.approx(plain[name], abs=5e-3), name


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(2, 9))
def test_distance_is_the_loss_of_the_paper(seed, height, width):
    draw = torch.Generator().manual_seed(seed)
    a, b = torch.rand(2, height, width, generator=draw)
    whole = torch.ones(1, height, width, dtype=torch.bool)
    expected = affine_invariant(a[None], b[None], whole).item()
    assert distance(a, b) == pytest.approx(expected, rel=1e-4)


def test_order_against_a_count_of_pairs():
    teacher, student = smooth(3), smooth(4)
    teacher[:4] = student[:4] = 0.5  # ties of both
    pairs = draw_pairs(24, 32, index=5, seed=1).numpy()
    a, b = teacher.flatten().numpy(), student.flatten().numpy()
    right = []
    for i, j in pairs:
        if abs(float(a[i]) - float(a[j])) > 0.05 * 0.8:
            same = np.sign(a[i] - a[j]) == np.sign(b[i] - b[j])
            right.append(0.5 if b[i] == b[j] else float(same))
    assert 50 < len(right) < 500
    assert order(student, teacher, 0.8, index=5, seed=1) == pytest.approx(np.mean(right))


def test_intervals_hold_the_truth():
    """Of 150 samples of 40 from a skewed law, about 95 % have its mean (1) in their interval. With
    5, fewer: the report says so."""
    rng = np.random.default_rng(0)
    hits = dict.fromkeys((40, 5), 0)
    for n in hits:
        for _ in range(150):
            found = estimate(rng.gamma(2, 0.5, n))
            hits[n] += found.low <= 1 <= found.high
    assert 0.89 <= hits[40] / 150 <= 0.99
    assert 0.68 <= hits[5] / 150 <= 0.92


def test_an_interval_of_a_ratio_of_pairs_is_narrower_than_of_strangers():
    """A photograph that is hard before is hard after."""
    rng = np.random.default_rng(1)
    before = rng.uniform(0.5, 2, 60)
    after = 0.6 * before * rng.uniform(0.95, 1.05, 60)
    paired, strangers = gain(before, after), gain(before, rng.permutation(after))
    assert paired.low <= 0.4 <= paired.high
    assert paired.high - paired.low < 0.3 * (strangers.high - strangers.low)


def bright(x):
    return x


def noisy(share):
    """Brightness, and so much of an unrelated map."""

    def function(x):
        other = smooth(7, *x.shape[1:]).to(x)
        return (1 - share) * x + share * other

    return function


@pytest.fixture(scope="module")
def photographs():
    return Smooth(count=12, labelled=False)


def look(photographs, before, after, teacher=bright, **how):
    networks = [x if isinstance(x, nn.Module) else Sees(x) for x in (teacher, before, after)]
    return compare(
        *networks,
        photographs,
        **({"teacher_side": 48, "student_side": 32, "corruptions": ()} | how),
    )


def test_a_better_student_is_nearer_and_a_worse_one_farther(photographs):
    better = look(photographs, noisy(0.5), noisy(0.1))
    worse = look(photographs, noisy(0.1), noisy(0.5))
    assert better.nearer.low > 0.3
    assert worse.nearer.high < 0
    for name, measure in MEASURES.items():
        sign = 1 if measure.better == "higher" else -1
        assert sign * better.agreement[name].difference.low >= 0, name
        assert sign * worse.agreement[name].difference.high <= 0, name
    assert better.agreement["distance"].before == worse.agreement["distance"].after
    assert better.sizes == {"teacher": 48, "student": 32, "picture": 48}


def test_the_teacher_itself(photographs):
    """At the teacher's size: perfect. Nothing was to be gained."""
    found = look(photographs, bright, bright, student_side=48)
    for name, measure in MEASURES.items():
        both = found.agreement[name]
        assert both.after.value == pytest.approx(measure.perfect, abs=1e-6)
        assert both.difference.value == both.difference.low == both.difference.high == 0
    assert math.isnan(found.nearer.value)


def test_a_metric_teacher_is_turned_over(photographs):
    """Metres of 1 / brightness are brightness."""
    metres = Sees(lambda x: 1 / x.clamp_min(0.01), kind="depth_m")
    found = look(photographs, noisy(0.3), bright, teacher=metres, student_side=48)
    assert found.agreement["correlation"].after.value > 0.999
    assert found.agreement["distance"].after.value < 0.02


def test_corruption_is_of_the_picture_and_the_target_is_clean(photographs):
    """In the dark a network of brightness sees the same up to scale, nearly; one of the blue sky
    would not. With noise both are off, and the teacher's own distance is that of its student."""
    found = look(
        photographs, noisy(0.4), bright, student_side=48, corrupted=6, corruptions=CORRUPTIONS
    )
    clean, blur, dark, noise = found.conditions
    assert [c.name for c in found.conditions] == ["clean", "blur", "dark", "noise"]
    assert (clean.teacher.value, clean.after.value, clean.after.n) == (0, 0, 6)
    assert (blur.amount, dark.amount, noise.amount) == (1.5, 4.0, 0.07)
    for condition in (blur, dark, noise):
        assert condition.teacher.value > 0
        assert condition.behind.value == 0  # the student is the teacher
        assert condition.teacher == condition.after
        assert condition.difference.high < 0


def test_a_photograph_on_which_the_teacher_sees_nothing_is_left_out(photographs):
    calls = []

    def sometimes(x):
        calls.append(0)
        return x if len(calls) > 2 else torch.zeros_like(x)

    found = look(photographs, noisy(0.5), bright, teacher=sometimes, corruptions=())
    assert (found.flat, found.nearer.n, found.conditions) == (2, 10, ())
    assert found.per_photograph["order"]["after"][:2] == (None, None)
    with pytest.raises(DataError, match="without any depth on each photograph"):
        look(photographs, bright, bright, teacher=torch.zeros_like)


def test_a_network_that_gives_no_numbers_is_named_with_the_photograph(photographs):
    with pytest.raises(DataError, match="finite"):
        look(photographs, bright, lambda x: x * math.nan)


def test_a_photograph_that_cannot_be_read_costs_itself_alone():
    class Damaged(Smooth):
        def _sample(self, index):
            if index == 3:
                raise DataError("c.jpg: damaged")
            return super()._sample(index) | {"name": f"{index}.jpg"}

    source = Damaged(count=6, labelled=False)
    source.names = [f"{k}.jpg" for k in range(6)]
    said = []
    found = look(source, noisy(0.5), bright, report=said.append)
    assert found.unread == ("3.jpg",)
    assert found.indices == (0, 1, 2, 4, 5)
    assert found.names == ("0.jpg", "1.jpg", "2.jpg", "4.jpg", "5.jpg")
    assert found.nearer.n == 5
    assert "left out: c.jpg: damaged" in said
    source.names = ["3.jpg"] * 6
    with pytest.raises(DataError, match="no photograph that was kept back can be used: 3"):
        look(Subset(source, np.array([3])), bright, bright)


def test_more_photographs_than_are_compared(photographs):
    few = {"most": 5, "corrupted": 2, "seed": 4, "corruptions": [("blur", 2)]}
    found = look(photographs, noisy(0.5), bright, **few)
    again = look(photographs, noisy(0.5), bright, **few)
    assert found == again
    assert len(found.indices) == 5
    assert found.indices == tuple(choose(12, 5, seed=4)) != tuple(choose(12, 5, seed=5))
    assert found.conditions[0].after.n == 2


def test_what_cannot_be_compared_is_refused(photographs):
    for wrong in (("fog", 3), ("blur", 6), ("rain", 1)):
        with pytest.raises(ConfigError, match=f"corruptions: {wrong[0]}"):
            look(photographs, bright, bright, corruptions=(wrong,))
    with pytest.raises(ConfigError, match="none were kept back"):
        look(Smooth(count=0), bright, bright)
