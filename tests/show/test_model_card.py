"""The model card: every number out of the record, the licences of all that was seen, and limits."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import students as made

from dabook.analysis import students as analysis
from dabook.show import model_card
from dabook.show.html import number


def row(text: str, title: str) -> list[str]:
    """The cells of the line that begins with a title."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {title}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_its_numbers_are_those_of_the_record():
    record = made.record()
    text = model_card.card(record)
    for name, title in (("nyuv2", "NYUv2"), ("kitti", "KITTI"), ("tum", "TUM")):
        scores = record["real"][name]["abs_rel"]
        ramp = record["floors"]["vertical ramp"]["real"][name]["abs_rel"]
        surface = record["floors"]["quadratic surface"]["real"][name]["abs_rel"]
        _, images, mean, ends, *beside = row(text, title)
        assert images == str(len(scores))
        assert mean == number(sum(scores) / len(scores))
        assert beside == [number(sum(s) / len(s)) for s in (ramp, surface)]
        low, high = map(float, ends.split(" to "))
        assert min(scores) <= low < float(mean) < high <= max(scores)

    # means of logarithms over data sets
    both = [sum(s) / len(s) for s in (record["real"][n]["abs_rel"] for n in ("nyuv2", "kitti"))]
    assert row(text, "mean of the data sets of this half (table)")[2] == number(
        (both[0] * both[1]) ** 0.5
    )
    for words in ("0.800 (", "of 5 all, the ramp 0.600", "0.500 (", "of 2 hard, the ramp 0.000"):
        assert words in text


def test_it_says_how_it_was_made_and_of_what():
    record = made.record()
    text = model_card.card(record)
    for words in (
        record["weights"]["sha256"],
        "6.5 MB",
        "3,200,123 parameters",
        "float16",
        "192 x 256",
        "4321 steps of 8 labelled and 16 unlabelled",
        "3.0 hours on a processor",
        "commit feedface, 2027-01-02",
        record["hash"],
        record["training_hash"],
        "| 677 | unlabelled | student | Open photographs | somebody/photographs at 0123456789ab | CC BY 2.0",
        "EfficientNet-Lite0, ImageNet: Apache-2.0 (https://example.org/lite0)",
        "short side of 192",
    ):
        assert words in text, words
    assert "uncommitted" not in text
    assert "uncommitted changes" in model_card.card(record | {"dirty": True})


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_another_record_is_another_card(factor):
    one, other = (model_card.card(made.record(level=level)) for level in (0.2, 0.2 * factor))
    for title in ("NYUv2", "mean of the drawn test domains", "drawn: validation"):
        assert float(row(other, title)[2]) == pytest.approx(
            factor * float(row(one, title)[2]), 0.02
        )


def test_without_marked_pairs_it_says_so():
    record = made.record()
    del record["marked"]
    assert "Marked pairs were not on the machine" in model_card.card(record)


def test_the_copy_of_a_data_set_is_counted_once():
    real = made.record()["real"]
    real["motorcycle"] = real["middlebury"] = real["kitti"]
    assert set(analysis.counted(real, "table")) == {"nyuv2", "kitti", "middlebury"}
    del real["middlebury"]
    assert "motorcycle" in analysis.counted(real, "table")


def test_frames_of_a_sequence_are_drawn_together():
    scores = {"abs_rel": [0.1, 0.1, 0.1, 0.4, 0.4, 0.4], "half": "table"}
    apart = analysis.middle({"a": scores})
    together = analysis.middle({"a": scores | {"sequences": list("xxxyyy")}})
    assert together.mean == apart.mean == pytest.approx(0.25)
    assert (together.low, together.high) == pytest.approx((0.1, 0.4))
    assert together.low < apart.low < apart.high < together.high


def test_what_licences_cost():
    research, shipped = made.record("research", level=0.2), made.record(level=0.22)
    cost = analysis.change(research["real"], shipped["real"])
    assert cost.mean == pytest.approx(10, abs=0.01)
    assert cost.low == pytest.approx(cost.high, abs=0.01)  # every image alike
    assert cost.n == 3
    same = analysis.change(research["real"], research["real"])
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    assert analysis.change({}, shipped["real"]).n == 0


def test_shares_of_marked_pairs_are_drawn_by_photograph():
    found = analysis.marked(
        {"images": list("aabb"), "right": [1.0, 1.0, 0.0, 0.0], "hard": [False] * 4}
    )
    assert set(found) == {"all"}
    assert (found["all"].mean, found["all"].low, found["all"].high) == (0.5, 0, 1)
    assert found["all"].units == 2


def test_a_card_has_no_path_of_a_machine():
    assert not re.search(r"/(work|home|root|tmp)/", model_card.card(made.record()))


def test_how_far_seeds_alone_set_two_networks_apart():
    levels = {"a": [0.2, 0.21, 0.19], "b": [0.3, 0.3, 0.33], "alone": [0.5]}
    sets = {"nyuv2": "table", "tum": "tune"}
    of = {
        row: [
            SimpleNamespace(
                record={
                    "real": {
                        d: {"half": h, "abs_rel": [x * (1 + 9 * (h == "tune"))]}
                        for d, h in sets.items()
                    }
                }
            )
            for x in values
        ]
        for row, values in levels.items()
    }
    results = SimpleNamespace(rows=levels, of=of.get)
    pooled = np.mean([np.var(np.log(levels[row]), ddof=1) for row in "ab"])
    expected = 100 * np.expm1(1.96 * np.sqrt(2 * pooled))
    assert analysis.between_seeds(results, "table") == pytest.approx(expected)
    assert np.isnan(analysis.between_seeds(SimpleNamespace(rows=["alone"], of=of.get), "table"))
