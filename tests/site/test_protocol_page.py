"""The page of the protocols: every card is on it, sources lead somewhere, and what the bench found is
told."""

import importlib
import json
import re

import pytest
from helpers import ROOT

from dalib.evaluation.align import ALIGNMENTS
from dalib.evaluation.cards import CARDS, KINDS


@pytest.fixture(scope="module")
def cards():
    pytest.importorskip("sphinx", reason="the book's tools are not installed")
    return importlib.import_module("dabook.site.cards")


def test_every_card_is_in_both_tables(cards):
    overview, sources = cards.overview(), cards.sources()
    for name, card in CARDS.items():
        assert f'<a href="#card-{name}"><code>{name}</code></a>' in overview
        assert f'<details id="card-{name}" open>' in sources
        assert overview.count(card.hash) == sources.count(card.hash) == 1
    assert sources.count("<tr><th>") == sum(len(KINDS[c.scores]) for c in CARDS.values()) + len(
        CARDS
    )


def test_ranges_say_which_ends_count(cards):
    assert cards.depth_range(CARDS["kitti_eigen_652"]) == "(0.001, 80) m"
    assert cards.depth_range(CARDS["kitti"]) == "[0.001, 80] m"
    assert cards.depth_range(CARDS["relative"]) == "all of it"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (
            "cleinc/bts:pytorch/bts_eval.py",
            "https://github.com/cleinc/bts/blob/HEAD/pytorch/bts_eval.py",
        ),
        ("see isl-org/MiDaS#29.", "https://github.com/isl-org/MiDaS/issues/29"),
        ("V2 (arXiv:2406.09414), section 6", "https://arxiv.org/abs/2406.09414"),
        ("a/b:c.md; d/e:f/g.py", "https://github.com/d/e/blob/HEAD/f/g.py"),
    ],
)
def test_sources_lead_there(cards, text, target):
    found = cards.linked(text)
    assert f'<a href="{target}">' in found
    assert re.sub("<[^>]*>", "", found) == text


def test_plain_words_stay_plain(cards):
    assert cards.linked("ours: a < b, 45:471 and/or 1/2") == "ours: a &lt; b, 45:471 and/or 1/2"


def test_every_alignment_is_told(cards):
    found = cards.alignments()
    assert all(f"<code>{name}</code>" in found for name in ALIGNMENTS)


def test_the_bench_names_what_differs_and_why(cards, tmp_path):
    same = {"number": "abs_rel", "difference": 1e-9, "why": None}
    other = {"number": "silog", "difference": 0.5, "why": "another < convention"}
    peer = {"repository": "a/b", "commit": "c0ffee", "numbers": [same, other]}
    (tmp_path / "bench.json").write_text(json.dumps({"peers": [peer]}))
    found = cards.peers(tmp_path / "bench.json")
    assert '<a href="https://github.com/a/b/tree/c0ffee">a/b</a>' in found
    assert "<td>1</td><td>1.0e-09</td><td>silog (5.0e-01): another &lt; convention</td>" in found


def test_what_is_recorded_agrees_or_says_why():
    record = json.loads((ROOT / "data/benchmarks/evaluators.json").read_text(encoding="utf-8"))
    assert {"microsoft/MoGe", "prs-eth/Marigold", "kmatzen/plumbline"} <= {
        peer["repository"] for peer in record["peers"]
    }
    for peer in record["peers"]:
        assert re.fullmatch("[0-9a-f]{40}", peer["commit"])
        for number in peer["numbers"]:
            assert number["difference"] <= record["aim"] or number["why"], number
