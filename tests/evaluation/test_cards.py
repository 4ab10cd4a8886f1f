"""Protocol cards: what they say, their hash, what a wrong file is told, and that a changed card
changes the hash of the evaluation's code."""

import re
import tomllib
from dataclasses import fields, replace

import pytest
import torch
from helpers import ROOT

from dalib import provenance
from dalib.errors import ConfigError
from dalib.evaluation.cards import CARDS, CUSTOM, FILE, KINDS, Entry, read, values_hash
from dalib.evaluation.protocols import PROTOCOLS, Protocol, scored

STUDY = {
    "relative": {"min_depth": 0.0, "max_depth": None, "crop": None},
    "scenes": {"min_depth": 1e-3, "max_depth": 80.0, "crop": None},
    "indoor": {"min_depth": 1e-3, "max_depth": 10.0, "crop": None},
    "driving": {"min_depth": 1e-3, "max_depth": 80.0, "crop": None},
    "nyuv2": {"min_depth": 1e-3, "max_depth": 10.0, "crop": "eigen"},
    "kitti": {"min_depth": 1e-3, "max_depth": 80.0, "crop": "garg"},
}
"""What the recorded study was scored by; its records stand and fall with these."""
SAID = re.compile(
    r"[\w.-]+/[\w.-]+(:[\w./-]+|#\d+)|et al\. \d{4}|arXiv:\d{4}\.\d{5}|\bours\b|unstated"
    r"|LiDAR has no returns|indoors"
)
"""A file of a public repository, an issue, a paper, or that nobody says it."""

CARD = """
mine:
  scores: pairs
  about: my pairs
  window: {value: 9, source: ours}
  hard: {value: null, source: unstated}
  tie: {value: 0.5, source: ours}
  mean: {value: pairs, source: ours}
  resize: {value: "prediction, bilinear", source: ours}
  truth: {value: by hand, source: ours}
"""


def card(tmp_path, text=CARD):
    (tmp_path / "cards.yaml").write_text(text)
    return read(tmp_path / "cards.yaml")


@pytest.mark.parametrize("name", STUDY)
def test_the_recorded_study_is_scored_as_it_was(name):
    protocol = PROTOCOLS[name]
    rest = {"bounds": "closed", "frame": None, "clamp": "far", "align": "disparity"}
    for key, value in (STUDY[name] | rest | {"mean": "images"}).items():
        assert getattr(protocol, key) == value, key


def test_every_data_set_of_the_issue_has_a_card():
    named = {
        "kitti_eigen_652",
        "kitti_eigen_697",
        "nyuv2_eigen",
        "sintel",
        "ddad",
        "eth3d",
        "diode",
    }
    assert named <= PROTOCOLS.keys()
    assert {"da2k", "marked_pairs"} == {n for n, c in CARDS.items() if c.scores == "pairs"}
    assert PROTOCOLS.keys() | {"da2k", "marked_pairs"} == CARDS.keys()


@pytest.mark.parametrize("name", CARDS)
def test_every_entry_says_who_says_so(name):
    for key, entry in CARDS[name].entries.items():
        assert SAID.search(entry.source), f"{name}, {key}: {entry.source}"


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_is_its_card(name):
    protocol = PROTOCOLS[name]
    assert protocol.card == CARDS[name]
    assert protocol.hash == CARDS[name].hash
    assert {f.name for f in fields(Protocol)} - {"name"} == set(KINDS["depth"])


def test_hashes_tell_protocols_apart():
    hashes = [c.hash for c in CARDS.values()]
    assert len(set(hashes)) == len(hashes)
    assert all(re.fullmatch("[0-9a-f]{12}", h) for h in hashes)


OTHER = {
    "min_depth": 0.5,
    "max_depth": 50.0,
    "crop": "eigen",
    "bounds": "open",
    "frame": (480, 640),
    "clamp": "range",
    "align": "median",
    "mean": "pixels",
    "resize": "truth, nearest",
    "truth": "something else",
    "sky": "counts as far",
}


@pytest.mark.parametrize("key", KINDS["depth"])
def test_another_value_is_another_protocol(key):
    kitti = PROTOCOLS["kitti"]
    changed = replace(kitti, **{key: OTHER[key]})
    assert changed.hash != kitti.hash
    assert changed.card.entries[key] == Entry(OTHER[key], CUSTOM)
    others = {k: e for k, e in changed.card.entries.items() if k != key}
    assert others == {k: e for k, e in CARDS["kitti"].entries.items() if k != key}


def test_name_and_form_of_a_number_are_no_values():
    kitti = PROTOCOLS["kitti"]
    assert replace(kitti, name="else").hash == kitti.hash
    assert replace(kitti, max_depth=80).hash == kitti.hash
    assert values_hash("depth", {"a": 1, "b": None}) == values_hash("depth", {"b": None, "a": 1.0})
    assert kitti.with_alignment(None) is kitti
    assert kitti.with_alignment("disparity").hash == kitti.hash
    assert kitti.with_alignment("median").hash != kitti.hash


def test_a_source_is_no_value(tmp_path):
    first = card(tmp_path)["mine"]
    other = card(tmp_path, CARD.replace("source: ours", "source: a paper"))["mine"]
    assert first.hash == other.hash
    assert card(tmp_path, CARD.replace("about: my", "about: our"))["mine"].hash == first.hash
    assert card(tmp_path, CARD.replace("value: 9", "value: 7"))["mine"].hash != first.hash


def test_in_print():
    text = str(PROTOCOLS["nyuv2_eigen"])
    lines = text.splitlines()
    assert lines[0].startswith(f"nyuv2_eigen  {PROTOCOLS['nyuv2_eigen'].hash}  NYUv2")
    assert len(lines) == 1 + len(KINDS["depth"])
    assert "  cap          10  [cleinc/bts:pytorch/bts_eval.py" in text
    assert "  crop for     480 x 640  [" in text
    line = PROTOCOLS["relative"].card.line
    assert line.startswith(f"relative ({PROTOCOLS['relative'].hash}): nearest 0, cap none")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("scores: pairs", "scores: pears", "unknown kind of card .*'pears'. Did you mean 'pairs'"),
        ("  window:", "  windows:", "unknown entry in .*mine: 'windows'. Did you mean 'window'"),
        ("  tie: {value: 0.5, source: ours}\n", "", "mine: no tie; each entry is said"),
        ("value: 9, source: ours", "value: 9", r"mine, window: write \{value"),
        ("value: 9, source: ours", "value: 9, source: ' '", "mine, window: the source is empty"),
        ("value: 9", "value: true", "mine, window: True is no number"),
        ("value: 9", "value: [1, [2]]", r"mine, window: \[2\] is no number"),
        ("  about: my pairs\n", "", "mine: a card has scores, about"),
        (CARD, "- mine", "no cards"),
        ("  hard:", "  window:", "line 6: 'window' stands twice"),
    ],
)
def test_a_wrong_file_is_told_so(tmp_path, old, new, words):
    with pytest.raises(ConfigError, match=words):
        card(tmp_path, CARD.replace(old, new))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bounds", "half"),
        ("clamp", "near"),
        ("align", "lsq"),
        ("mean", "mode"),
        ("resize", "both"),
        ("frame", (480,)),
        ("frame", (0, 640)),
    ],
)
def test_a_wrong_protocol_is_told_so(key, value):
    with pytest.raises(ConfigError, match=rf"protocol 'test'.*{key}|{key} of protocol 'test'"):
        Protocol(name="test", **{key: value})


class TestProvenance:
    def test_the_evaluation_is_made_of_its_cards_and_training_is_not(self):
        assert FILE in provenance.science("evaluation")
        assert FILE not in provenance.science("training")

    def test_a_changed_card_changes_the_hash_and_a_source_does_not(self, tmp_path):
        text = FILE.read_text(encoding="utf-8")

        def hashed(text):
            (tmp_path / "cards.yaml").write_text(text, encoding="utf-8")
            return provenance.files_hash([tmp_path / "cards.yaml"])

        plain = hashed(text)
        assert hashed(text.replace("value: 72.0", "value: 70.0")) != plain
        assert hashed(text.replace("scores: pairs", "scores: depth")) != plain
        assert hashed(text + "# a comment\n") == plain
        assert hashed(text.replace("isl-org/DPT:EVALUATION.md and ", "")) == plain
        assert hashed(text.replace("about: roads", "about: streets")) == plain

    def test_a_plain_installation_has_them(self):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        data = project["tool"]["setuptools"]["package-data"]
        assert FILE.name in data["dalib.evaluation"]


class TestFrame:
    """NYUv2's crop is of its white border; an image without one is no whole frame."""

    @pytest.mark.parametrize("size", [(480, 640), (240, 320), (375, 500), (427, 570)])
    def test_a_whole_frame_of_any_size_is_cropped(self, size):
        mask = PROTOCOLS["nyuv2_eigen"].crop_mask(*size)
        assert 0.7 < mask.double().mean() < 0.8
        assert torch.equal(mask, PROTOCOLS["nyuv2"].crop_mask(*size))

    @pytest.mark.parametrize("size", [(224, 224), (426, 560), (228, 304 + 9), (427, 561)])
    def test_what_is_a_crop_already_is_not(self, size):
        """224 x 224 is FastDepth's. 426 x 560 is Eigen's crop itself, of 1.3146 where a frame has
        4/3: 1.4 % off."""
        assert PROTOCOLS["nyuv2_eigen"].crop_mask(*size).all()
        assert not PROTOCOLS["nyuv2"].crop_mask(*size).all()


def test_an_open_range_leaves_out_its_ends_in_float32_too():
    """10 m as float32 disparity is a little more than 1/10; closed ranges have always counted it."""
    depth = torch.tensor([[[1e-3, 1.0, 9.999, 10.0, 10.001]]], dtype=torch.float64)
    for dtype in (torch.float64, torch.float32):
        disparity = (1 / depth).to(dtype)
        everywhere = torch.ones_like(disparity, dtype=torch.bool)
        test = Protocol(name="test", max_depth=10.0)
        opened = scored(disparity, everywhere, replace(test, bounds="open"))[0, 0].tolist()
        assert opened == [False, True, True, False, False]
        if dtype == torch.float64:
            closed = scored(disparity, everywhere, test)[0, 0].tolist()
            assert closed == [True, True, True, True, False]
