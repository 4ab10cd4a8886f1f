"""mIoU: by hand, against a plain float64 count, with ignored pixels, absent classes, and draws of
images."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dalib.data.schema import IGNORE
from dalib.errors import DataError
from dalib.evaluation.segmentation import Areas, areas, evaluate_classes, resampled

A, B, C, _ = 0, 1, 2, IGNORE
NAMES = ("sky", "road", "wall")


def maps(*rows):
    return torch.tensor(rows, dtype=torch.uint8)


# the truth and a prediction of two images of 2 x 3 pixels
TRUTH = maps([[A, A, B], [A, B, _]], [[A, A, A], [A, A, B]])
PRED = maps([[A, B, B], [A, A, A]], [[A, A, A], [A, A, A]])


class Maps:
    """Images that show nothing and have these classes."""

    domain = "maps"

    def __init__(self, truth, named=True):
        self.truth, self.named = truth, named

    def __len__(self):
        return len(self.truth)

    def __getitem__(self, k):
        sample = {"image": torch.full((3, *self.truth.shape[1:]), k, dtype=torch.uint8)}
        return (
            sample | {"domain": self.domain} | ({"semantics": self.truth[k]} if self.named else {})
        )


def shown(pred):
    """A model that knows the images by their colour."""
    return lambda images: [pred[int(image[0, 0, 0])] for image in images]


def score(pred=PRED, truth=TRUTH, **options):
    return evaluate_classes(shown(pred), Maps(truth), NAMES, **options)


def test_areas_by_hand():
    """First image: of three A two are found, of two B one; one A is called B, one B is called A.
    Its unknown pixel, called A, counts nowhere."""
    found = areas(PRED, TRUTH, classes=3)
    assert found["intersection"].tolist() == [[2, 1, 0], [5, 0, 0]]
    assert found["union"].tolist() == [[4, 3, 0], [6, 1, 0]]
    assert found["truth"].tolist() == [[3, 2, 0], [5, 1, 0]]


def test_miou_divides_sums_and_is_no_mean_over_images():
    found = score()
    assert found.classes == ("sky", "road")
    assert found.absent == ("wall",)
    assert found.iou == {"sky": 7 / 10, "road": 1 / 4}
    assert found.miou == pytest.approx((7 / 10 + 1 / 4) / 2, abs=1e-15)
    of_images = np.mean([(2 / 4 + 1 / 3) / 2, (5 / 6 + 0) / 2])
    assert abs(found.miou - of_images) > 0.05
    assert found.accuracy == 8 / 11


def test_an_absent_class_is_left_out_also_where_it_is_predicted():
    """The pixel that is called by it is missed by its own class, and by that alone."""
    pred = PRED.clone()
    pred[1, 0, 0] = C  # of the A of the second image
    found = score(pred)
    assert found.absent == ("wall",)
    assert found.iou == {"sky": 6 / 10, "road": 1 / 4}


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_batches_change_nothing(batch_size):
    assert score(batch_size=batch_size).to_dict() == score().to_dict()


def test_a_record_keeps_all_of_it():
    found = score()
    kept = json.loads(json.dumps(found.to_dict()))
    assert kept == {
        "accuracy": [3 / 5, 5 / 6],
        "absent": ["wall"],
        "intersection": {"sky": [2, 5], "road": [1, 0]},
        "union": {"sky": [4, 6], "road": [3, 1]},
        "truth": {"sky": [3, 5], "road": [2, 1]},
    }
    again = Areas.from_dict(kept)
    assert (again.classes, again.absent, again.miou) == (found.classes, found.absent, found.miou)
    assert len(again) == 2
    unknown = TRUTH.clone()
    unknown[0] = IGNORE
    nothing, known = score(truth=unknown).accuracies
    assert np.isnan(nothing)
    assert known == 5 / 6


def plain(pred, truth, classes):
    """mIoU pixel by pixel, in Python and float64."""
    kept = [(p, t) for p, t in zip(pred.flatten(), truth.flatten(), strict=True) if t != IGNORE]
    there = sorted({t for _, t in kept})
    values = []
    for k in there:
        both = sum(p == k and t == k for p, t in kept)
        values.append(both / sum(p == k or t == k for p, t in kept))
    return float(np.mean(np.array(values, np.float64)))


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_against_a_plain_count(seed, classes):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 4)), 3, 4)
    truth = rng.integers(0, classes, shape).astype(np.uint8)
    truth[rng.random(shape) < 0.2] = IGNORE
    truth[0, 0, 0] = 0  # one pixel at least is known
    pred = rng.integers(0, classes, shape).astype(np.uint8)
    names = [f"c{k}" for k in range(classes)]
    found = evaluate_classes(
        shown(torch.from_numpy(pred)), Maps(torch.from_numpy(truth)), names, batch_size=2
    )
    assert found.miou == pytest.approx(plain(pred, truth, classes), abs=1e-12)
    assert set(found.classes) | set(found.absent) == set(names)
    # a perfect prediction, whatever it says of unknown pixels
    perfect = np.where(truth == IGNORE, 0, truth)
    right = evaluate_classes(shown(torch.from_numpy(perfect)), Maps(torch.from_numpy(truth)), names)
    assert right.miou == 1
    assert right.accuracy == 1
    assert right.interval(draws=20) == (1, 1)


def test_a_draw_divides_the_sums_of_the_images_that_it_takes():
    found = score()
    times = np.array([[2, 0], [0, 2], [1, 1], [3, 1]], float)
    by_hand = [
        (2 / 4 + 1 / 3) / 2,
        (5 / 6 + 0) / 2,
        (7 / 10 + 1 / 4) / 2,
        (11 / 18 + 3 / 10) / 2,
    ]
    assert resampled(times, found.parts).tolist() == pytest.approx(by_hand, abs=1e-15)


def test_a_class_that_a_draw_lacks_is_left_out_of_it():
    truth = maps([[A, A]], [[A, B]])
    pred = maps([[A, B]], [[A, B]])
    found = evaluate_classes(shown(pred), Maps(truth), NAMES)
    draws = resampled(np.array([[2, 0], [0, 2], [0, 0]], float), found.parts)
    assert draws[:2].tolist() == [1 / 2, 1]  # in the first, the B that is called so is no truth's
    assert np.isnan(draws[2])


def test_the_interval_is_of_the_draws_and_repeats():
    rng = np.random.default_rng(3)
    truth = torch.from_numpy(rng.integers(0, 3, (40, 4, 5)).astype(np.uint8))
    wrong = torch.from_numpy(rng.random((40, 4, 5)) < np.linspace(0, 0.8, 40)[:, None, None])
    found = score(torch.where(wrong, (truth + 1) % 3, truth).to(torch.uint8), truth)
    low, high = found.interval()
    assert low < found.miou < high
    assert found.interval() == (low, high)
    assert found.interval(seed=1) != (low, high)
    narrow = found.interval(level=0.5)
    assert low < narrow[0] < narrow[1] < high
    # half of it is about 1.96 standard errors, which other draws give
    draws = np.random.default_rng(0).integers(0, 40, (400, 40))
    by_hand = [
        resampled(np.bincount(d, minlength=40)[None].astype(float), found.parts) for d in draws
    ]
    assert (high - low) / 2 == pytest.approx(1.96 * np.std(by_hand), rel=0.15)


@pytest.mark.parametrize(
    ("pred", "truth", "error", "message"),
    [
        (PRED, TRUTH[:1], ValueError, r"prediction \(2, 2, 3\) and truth \(1, 2, 3\)"),
        (PRED + 2, TRUTH, ValueError, "class 3 is predicted, of 3"),
        (PRED, maps([[7, A, B], [A, B, A]], [[A] * 3] * 2), DataError, "class 7 in the truth"),
    ],
)
def test_what_is_no_class_is_refused(pred, truth, error, message):
    with pytest.raises(error, match=message):
        areas(pred, truth, classes=3)


def test_a_wrong_sample_is_named():
    with pytest.raises(DataError, match="maps, image '0': has no classes"):
        evaluate_classes(shown(PRED), Maps(TRUTH, named=False), NAMES)
    bad = TRUTH.clone()
    bad[1, 0, 0] = 9
    with pytest.raises(DataError, match="maps, image '1': class 9 in the truth, where 3 are known"):
        score(truth=bad)
    with pytest.raises(DataError, match="no pixel of this data set has a class"):
        score(truth=torch.full_like(TRUTH, IGNORE))
