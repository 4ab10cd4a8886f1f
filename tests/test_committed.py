"""What is committed as measured was measured: whole studies' worth of images, by a commit of this
history, with nothing uncommitted."""

import json
import subprocess

import pytest
from helpers import fabricated

from dalib import paths

REPO = fabricated.REPO
FILES = [
    p
    for kind in ("records", "reruns", "robustness", "bugs")
    for p in sorted((REPO / "data" / kind).rglob("*.json"))
]
RUNS = [json.loads(p.read_text()) for p in FILES if p.name != "floors.json"]


def test_every_record_holds_all_the_images_of_its_configuration():
    short = {
        r["hash"]
        for r in RUNS
        if "images" in r
        for scores in r["images"].values()
        if len(scores["abs_rel"]) != r["config"]["test_images"]
    }
    assert RUNS
    assert short == set()


def test_every_record_of_robustness_holds_as_many_images():
    seen = {
        len(scores["abs_rel"])
        for r in RUNS
        if "scores" in r
        for by in r["scores"].values()
        for scores in by.values()
    }
    assert len(seen) <= 1


def test_every_record_was_made_by_a_commit_of_this_history():
    git = ["git", "-C", str(REPO)]
    shallow = subprocess.run(
        [*git, "rev-parse", "--is-shallow-repository"], capture_output=True, text=True
    )
    if shallow.stdout.strip() != "false":
        pytest.skip("the history is not here")
    history = subprocess.run(
        [*git, "rev-list", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.split()
    known = {r["commit"] for r in RUNS if any(commit.startswith(r["commit"]) for commit in history)}
    assert {r["commit"] for r in RUNS} - known == set()
    assert not [r["hash"] for r in RUNS if r["dirty"]]


def test_made_up_records_do_not_go_into_the_checkout(monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", str(REPO))
    with pytest.raises(RuntimeError, match="DALIB_ROOT"):
        fabricated.write("main_table", {"naive": [0.2]})
    with pytest.raises(RuntimeError, match="DALIB_ROOT"):
        fabricated.write_floors()
    assert paths.records() == REPO / "data" / "records"
