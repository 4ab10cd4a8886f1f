"""Marked pairs of points: files of both kinds, windows by hand, hard pairs, and the collection's own
floors."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dalib import paths
from dalib.errors import ConfigError, DataError
from dalib.evaluation.cards import CARDS
from dalib.evaluation.pairs import (
    PAIR_RULES,
    PairRule,
    Pairs,
    judge,
    pair_accuracy,
    read_pairs,
)

POINT = PairRule(name="test")
"""One pixel, no hard pairs, a tie is wrong."""


def marked(*points, fractions=True):
    return Pairs(
        image="a.jpg",
        points=torch.tensor(points, dtype=torch.float64).reshape(-1, 4),
        fractions=fractions,
    )


def csv_file(tmp_path, *rows, head="image,near_x,near_y,far_x,far_y"):
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


class TestCsv:
    def test_pairs_by_image_in_order(self, tmp_path):
        path = csv_file(tmp_path, "b.jpg,0.1,0.2,0.3,0.4", "a.jpg,0,0,1,1", "b.jpg,0.5,0.5,0.5,0.6")
        found = read_pairs(path)
        assert [(p.image, len(p)) for p in found] == [("b.jpg", 2), ("a.jpg", 1)]
        assert found[0].points.tolist() == [[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.5, 0.6]]
        assert found[0].fractions

    def test_columns_in_any_order_and_more_of_them(self, tmp_path):
        path = csv_file(tmp_path, "x,0.4,0.3,0.2,0.1,a", head="who,far_y,far_x,near_y,near_x,image")
        assert read_pairs(path)[0].points.tolist() == [[0.1, 0.2, 0.3, 0.4]]

    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            (["a,0.1,0.2,0.3"], "line 2: far_y is None, not a number"),
            (["a,0.1,0.2,0.3,0.4", "a,x,0.2,0.3,0.4"], "line 3: near_x is 'x', not a number"),
            (["a,nan,0.2,0.3,0.4"], "line 2: near_x is nan"),
            (["a,120,44,300,80"], "line 2: .* are no fractions of width and height"),
            (["a,0.1,0.2,0.1,0.2"], "line 2: both points are the same"),
            ([",0.1,0.2,0.3,0.4"], "line 2: names no image"),
            ([], "no pair of points"),
        ],
    )
    def test_a_wrong_line_is_named(self, tmp_path, rows, words):
        with pytest.raises(DataError, match=rf"pairs\.csv.*{words}"):
            read_pairs(csv_file(tmp_path, *rows))

    def test_a_wrong_file_is_named(self, tmp_path):
        with pytest.raises(
            DataError, match=r"pairs\.csv: missing column near_x, near_y.*first line such as"
        ):
            read_pairs(csv_file(tmp_path, head="image,far_x,far_y"))
        with pytest.raises(DataError, match=r"none\.csv: cannot be read"):
            read_pairs(tmp_path / "none.csv")
        (tmp_path / "pairs.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(DataError, match="cannot be read"):
            read_pairs(tmp_path / "pairs.csv")


class TestDa2k:
    def write(self, tmp_path, tree):
        path = tmp_path / "annotations.json"
        path.write_text(tree if isinstance(tree, str) else json.dumps(tree))
        return path

    def test_points_are_row_and_column(self, tmp_path):
        """DepthAnything/Depth-Anything-V2:DA-2K.md: [vertical, horizontal]."""
        pairs = [
            {"point1": [10, 200], "point2": [30, 40], "closer_point": "point1"},
            {"point1": [1, 2], "point2": [3, 4], "closer_point": "point2"},
        ]
        (found,) = read_pairs(self.write(tmp_path, {"images/a.jpg": pairs, "images/b.jpg": []}))
        assert found.image == "images/a.jpg"
        assert found.points.tolist() == [[200, 10, 40, 30], [4, 3, 2, 1]]
        assert not found.fractions
        assert found.on(100, 300)[0].tolist() == [[10, 200], [30, 40]]

    @pytest.mark.parametrize(
        ("tree", "words"),
        [
            ("{", "not valid JSON"),
            ([], "not DA-2K's form"),
            ({}, "no pair of points"),
            ({"a": {"point1": [1, 2]}}, "a: not a list of pairs"),
            ({"a": [{"point1": [1, 2], "closer_point": "point1"}]}, "a: a pair has point1 and"),
            ({"a": [{"point1": [1, "x"], "point2": [1, 2], "closer_point": "point1"}]}, "a pair"),
            (
                {"a": [{"point1": [1, 2], "point2": [3, 4], "closer_point": "left"}]},
                "closer_point is 'left'",
            ),
            (
                {"a": [{"point1": [-1, 2], "point2": [3, 4], "closer_point": "point1"}]},
                "lies outside",
            ),
            (
                {"a": [{"point1": [1, 2], "point2": [1, 2], "closer_point": "point1"}]},
                "both points are the same",
            ),
        ],
    )
    def test_a_wrong_entry_is_named(self, tmp_path, tree, words):
        with pytest.raises(DataError, match=rf"annotations\.json.*{words}"):
            read_pairs(self.write(tmp_path, tree))

    def test_pixels_need_the_images_own_size(self):
        with pytest.raises(DataError, match="outside of 50 x 60 pixels"):
            judge(torch.zeros(50, 60), marked([70, 10, 20, 10], fractions=False), POINT)


class TestPoints:
    def test_fractions_fall_into_pixels(self):
        """0 is the first pixel, 1 the last, 1/2 of four columns the third."""
        at = marked([0, 0, 1, 1], [0.5, 0.49, 0.24, 0.99]).on(2, 4)
        assert at.tolist() == [[[0, 0], [1, 3]], [[0, 2], [1, 0]]]

    def test_hard_pairs(self):
        """Lower by 0.10, by 0.04, and higher by 0.2; the last two are hard."""
        pairs = marked([0.1, 0.6, 0.2, 0.5], [0.1, 0.54, 0.2, 0.5], [0.1, 0.3, 0.2, 0.5])
        assert pairs.hard(480, 0.05).tolist() == [False, True, True]
        assert not pairs.hard(480, None).any()
        pixels = marked([10, 60, 20, 50], [10, 54, 20, 50], fractions=False)
        assert pixels.hard(100, 0.05).tolist() == [False, True]


class TestJudge:
    def test_by_hand(self):
        pred = torch.tensor([[1.0, 2.0], [3.0, 3.0]])
        pairs = marked(
            [
                1,
                0,
                0,
                0,
            ],
            [0, 0, 1, 0],
            [0, 1, 1, 1],
            fractions=False,
        )
        assert judge(pred, pairs, POINT)["right"].tolist() == [1, 0, 0]
        half = PairRule(name="test", tie=0.5)
        assert judge(pred, pairs, half)["right"].tolist() == [1, 0, 0.5]

    def test_a_window_is_a_mean_cut_off_at_the_border(self):
        """Nine pixels around the middle have the mean 5, the four at the corner (0, 0) 3: one high
        pixel, the corner itself, is outvoted."""
        pred = torch.tensor([[9.0, 0, 1], [2, 1, 9], [9, 7, 7]])
        pairs = marked([1, 1, 0, 0], fractions=False)
        assert judge(pred, pairs, POINT)["right"].tolist() == [0]
        assert judge(pred, pairs, PairRule(name="test", window=3))["right"].tolist() == [1]

    @settings(max_examples=25)
    @given(st.integers(0, 10**6), st.floats(0.1, 100), st.floats(-10, 10))
    def test_scale_and_shift_change_nothing_and_a_sign_all(self, seed, scale, shift):
        generator = torch.Generator().manual_seed(seed)
        pred = torch.rand(20, 30, generator=generator).double()
        pairs = marked(*torch.rand(8, 4, generator=generator).tolist())
        here = judge(pred, pairs)["right"]
        assert torch.equal(judge(scale * pred + shift, pairs)["right"], here)
        two = (pairs.on(20, 30)[:, 0] != pairs.on(20, 30)[:, 1]).any(1)  # else a tie: never right
        assert torch.equal(judge(-pred, pairs)["right"], two.double() - here)

    def test_depth_is_turned_round_before_the_mean(self):
        """Depths 1, 9, 1 beside 2, 2, 2: their mean depth is 3.7, farther; their mean disparity is
        (1 + 1/9 + 1) / 3 = 0.70, nearer."""
        depth = torch.tensor([[1.0, 9, 1, 2, 2, 2, 2]]).double()
        pairs = marked([1, 0, 5, 0], fractions=False)
        wide = PairRule(name="test", window=3)
        assert depth[0, :3].mean() > 2
        for kind, pred in (("disparity", 1 / depth), ("depth", depth), ("log_depth", depth.log())):
            assert judge(pred, pairs, wide, kind=kind)["right"].tolist() == [1]

    def test_what_cannot_be_judged_is_named(self):
        pairs = marked([0.1, 0.1, 0.9, 0.9])
        nan = torch.full((8, 8), math.nan)
        with pytest.raises(
            ValueError, match=r"a\.jpg: prediction is NaN or infinite at pairs \[0\]"
        ):
            judge(nan, pairs, POINT)
        with pytest.raises(ValueError, match="depth is not above 0"):
            judge(torch.zeros(8, 8), pairs, POINT, kind="depth")
        with pytest.raises(
            ConfigError, match=r"unknown rule for pairs 'da2'\. Did you mean 'da2k'"
        ):
            judge(torch.zeros(8, 8), pairs, "da2")
        with pytest.raises(ConfigError, match="unknown kind of prediction"):
            judge(torch.zeros(8, 8), pairs, kind="metres")


class TestAccuracy:
    JUDGED = (
        {"right": torch.tensor([1.0, 0, 1, 1]), "hard": torch.tensor([True, True, False, False])},
        {"right": torch.tensor([0.0]), "hard": torch.tensor([False])},
    )

    def test_by_hand(self):
        assert pair_accuracy(self.JUDGED) == {
            "ordinal": pytest.approx(3 / 5),
            "ordinal_hard": 0.5,
            "pairs": 5,
            "hard_pairs": 2,
        }
        by_image = pair_accuracy(self.JUDGED, mean="images")
        assert by_image["ordinal"] == pytest.approx((0.75 + 0) / 2)
        assert by_image["ordinal_hard"] == 0.5

    def test_no_hard_pair_is_nan(self):
        found = pair_accuracy(self.JUDGED[1:])
        assert math.isnan(found["ordinal_hard"])
        assert math.isnan(pair_accuracy([])["ordinal"])
        with pytest.raises(ConfigError, match="unknown mean 'points'"):
            pair_accuracy([], mean="points")


class TestRules:
    def test_they_are_their_cards(self):
        for name, rule in PAIR_RULES.items():
            assert rule.card == CARDS[name]
            assert rule.hash == CARDS[name].hash
            assert str(rule).startswith(f"{name}  {rule.hash}")
        marked_pairs = PAIR_RULES["marked_pairs"]
        assert (marked_pairs.window, marked_pairs.hard, marked_pairs.tie) == (9, 0.05, 0)

    @pytest.mark.parametrize(
        ("how", "words"),
        [
            ({"window": 4}, "odd"),
            ({"window": 0}, "odd"),
            ({"tie": 2}, "tie"),
            ({"mean": "x"}, "mean"),
        ],
    )
    def test_wrong_ones(self, how, words):
        with pytest.raises(ConfigError, match=words):
            PairRule(name="test", **how)


def test_the_collections_own_floor():
    """Its README: "lower in the image is nearer" gets 0.82 of the 110 pairs, and 0.39 of the 33 hard
    ones; 0.818 and 0.394 in full."""
    folder = paths.realdepth()
    if not (folder / "ordinal.csv").is_file():
        pytest.skip("../shared/realdepth is not here; set DALIB_REALDEPTH to its folder")
    judged = []
    for pairs in read_pairs(folder / "ordinal.csv"):
        width, height = Image.open(folder / pairs.image).size
        ramp = torch.linspace(0, 1, height)[:, None].expand(height, width)
        judged.append(judge(ramp, pairs))
    found = pair_accuracy(judged)
    assert found["ordinal"] == pytest.approx(0.818, abs=5e-4)
    assert found["ordinal_hard"] == pytest.approx(0.394, abs=5e-4)
    assert (found["pairs"], found["hard_pairs"]) == (110, 33)
