"""The pages on metres and on confidence: their numbers on networks that are made to be right, wrong
or sure of themselves."""

import numpy as np
import pytest
import torch

from dabook.pages import confidence, metres
from dabook.pages.metres import Worth
from dalib.data.scenes import Scenes
from dalib.errors import DataError
from dalib.predict import Calibration, fit_scale_shift
from dalib.predict.confidence import Observations


@pytest.fixture(scope="module")
def samples():
    source = Scenes(split="validation", count=4, height=32, width=48)
    return [source[i] | {"name": f"validation {i}"} for i in range(4)]


def test_distances_of_a_perfect_map_are_worth_everything(samples):
    """Up to scale and shift, which nobody told it."""
    perfect = [7 * s["disparity"] - 3 for s in samples]
    found = metres.worth(samples, perfect)
    assert [one.count for one in found] == list(metres.COUNTS)
    assert all(one.refused == 0 for one in found[2:])
    assert found[-1].error < 0.01
    assert found[-1].error < found[0].error
    assert found[-1].inside > 0.5, "only the tape errs, and its error is stated"
    turned = metres.worth(samples, [-p for p in perfect])
    assert all(one.refused == 1 for one in turned)
    assert np.isnan(turned[0].error)


def test_all_pixels_of_a_perfect_map(samples):
    assert metres.all_pixels(samples, [3 * s["disparity"] + 1 for s in samples]) < 1e-3


def test_enough_by_hand():
    found = [Worth(n, e, 0, 0, 0, 0) for n, e in ((2, 0.5), (3, 0.33), (5, 0.3))]
    assert metres.enough(found, 0.3) == 3
    assert metres.enough(found, 0.1) == 5, "none: the most"


def test_a_wrong_shift_bends_no_plane_of_the_room():
    room = metres.room(height=48, width=64)
    assert list(room.parts) == ["floor", "wall"]
    seen = metres.mistakes(room.depth, room.camera)
    bent = metres.planes(seen, room.parts)
    assert bent["true"][1] == pytest.approx(90, abs=0.01)
    flat = [name for name in bent if name.startswith(("shift of disparity", "focal"))]
    assert len(flat) == 3
    for name in flat:
        assert max(bent[name][0].values()) < 1e-3
        assert abs(bent[name][1] - 90) > 1
    shift, other, angle, _ = metres.bend_facts(bent | {"student": bent["true"]})
    assert shift < 1e-3 < 1 < other
    assert angle == min((bent[n][1] for n in flat[:2]), key=lambda a: -abs(a - 90))


def test_places_without_depth_are_not_measured(samples):
    sample = samples[0] | {"valid": torch.zeros_like(samples[0]["valid"])}
    with pytest.raises(DataError, match="3,4: no depth is known there"):
        metres.measured(sample, [(3, 4)])
    x, y, found = metres.measured(samples[0], [(20, 30)])[0]
    assert found == pytest.approx(1 / float(samples[0]["disparity"][y, x]), abs=0.005)


def test_errors_against_the_truth_by_hand():
    truth = torch.tensor([[1.0, 0.5], [0.25, 0.0]])
    sample = {"disparity": truth, "valid": torch.tensor([[True, True], [True, True]])}
    fit = fit_scale_shift([2.0, 1.0, 0.5], [1.0, 2.0, 4.4])
    found = metres.against_truth(sample, 2 * truth, fit)
    assert found["count"] == 3, "sky has no error"
    depth = fit.depth(torch.tensor([2.0, 1.0, 0.5]))
    by_hand = (depth - torch.tensor([1.0, 2.0, 4.0])).abs() / torch.tensor([1.0, 2.0, 4.0])
    assert found["error"] == pytest.approx(float(by_hand.mean()))


# ---- confidence


def observations(within, count=3, pixels=600, seed=0):
    rng = np.random.default_rng(seed)
    total = count * pixels
    return Observations(
        disagreement=rng.uniform(0, 0.1, total),
        nearness=rng.uniform(0, 1, total),
        error=np.where(within, 0.1, 0.9) * np.ones(total),
        within=np.full(total, within),
        image=np.repeat(np.arange(count), pixels),
        place=np.tile(np.arange(pixels), count),
        names=tuple(f"scene {k}" for k in range(count)),
    )


SURE = Calibration(
    common=0.1,
    scores=(0.0, 10.0),
    confidence=(0.9, 0.9),
    error=(0.1, 0.1),
    network="0" * 16,
    short_side=32,
    about={},
)


def test_a_promise_that_is_not_kept():
    right = confidence.verdict(observations(True), SURE)
    wrong = confidence.verdict(observations(False), SURE)
    assert (right.promised, right.kept, right.off) == pytest.approx((0.9, 1, 0.1))
    assert (wrong.promised, wrong.kept, wrong.off) == pytest.approx((0.9, 0, 0.9))
    words = confidence.verdict_reading(
        {confidence.IN_DOMAIN: right, "good_one": right, "bad_one": wrong}
    )
    assert "In 1 of 2 test domains it promises more than five points too much, in 1" in words
    assert "The worst is bad one: 90 % promised, 0 % kept" in words


def test_images_of_several_kinds_stay_apart_when_they_are_joined():
    one, two = observations(True, count=2), observations(False, count=3, seed=1)
    seen = [confidence.Seen(samples=[], observed=o) for o in (one, two)]
    joined = confidence.together(dict(zip("ab", seen, strict=True)))
    assert joined.image.max() == 4
    assert len(joined.names) == 5
    assert np.bincount(joined.image).tolist() == [600] * 5
    assert np.average(joined.within, weights=joined.weight) == pytest.approx(0.4)


def test_classes_are_those_of_the_pixels():
    """Floor on the left half, wall on the right; only the wall is wrong."""
    from dalib.data.scenes import CLASSES

    seen = observations(True)
    semantics = torch.full((20, 30), CLASSES.index("floor"), dtype=torch.uint8)
    semantics[:, 15:] = CLASSES.index("wall")
    right_half = (seen.place % 30) >= 15
    object.__setattr__(seen, "within", ~right_half)
    samples = [{"name": name, "semantics": semantics} for name in seen.names]
    group = {"a": confidence.Seen(samples=samples, observed=seen)}
    found = confidence.by_class(group, SURE)
    assert list(found) == ["wall", "floor"]
    assert found["wall"] == (900, pytest.approx(0.9), 0)
    assert found["floor"] == (900, pytest.approx(0.9), 1)


def test_the_reading_says_whether_the_score_beats_distance():
    def one(score, distance):
        ause = dict(zip(confidence.SORTERS, (score, 0.5, distance, 0.6), strict=True))
        return confidence.Verdict(images=1, promised=0.9, kept=0.5, off=0.4, ause=ause)

    assert "is 50 % better than distance" in confidence.sorting_reading(one(0.2, 0.4))
    assert "is 50 % worse than distance" in confidence.sorting_reading(one(0.6, 0.4))
    words = confidence.real_reading({"motorcycle": one(0.2, 0.4)})
    assert "too much is promised on 1, too little on 0; the score sorts better" in words
    assert "The collection of real images is not here." in words
