"""The plan as a page: every line of the file is there, and words where there is no file."""

import re

import pytest
from helpers import planned

from dabook.pages import plan as page
from dabook.runs import plan
from dalib import paths

TABLES = (page.budget, page.tried, page.questions, page.cut, page.amendments)


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = planned.write(tmp_path / "root")
    monkeypatch.setenv("DALIB_ROOT", str(folder))
    return folder


def cells(table) -> list[list[str]]:
    """The lines of a table, without its head."""
    rows = re.findall(r"<tr>(.*?)</tr>", table.text, re.S)[1:]
    return [[re.sub("<[^>]*>", "", c) for c in re.findall(r"<t[hd].*?</t[hd]>", r)] for r in rows]


def test_without_a_plan_the_page_says_so(root):
    paths.plan().unlink()
    found = plan.read_if_there()
    assert page.state(found).startswith("There is no plan yet.")
    assert all("Not written yet" in repr(table(found)) for table in TABLES)


def test_the_state_is_told_before_and_after_the_freezing(root):
    assert "not frozen yet" in page.state(plan.read_if_there())
    plan.freeze()
    assert page.state(plan.read_if_there()) == (
        "A study of two questions. Rows and code are as they were frozen. Recorded: 0 of 7 runs."
    )
    path = root / "experiments.yaml"
    path.write_text(path.read_text().replace("steps: 80", "steps: 9"))
    assert "rows or seeds of longer have changed" in page.state(plan.read_if_there())


def test_every_line_of_the_plan_is_on_the_page(root):
    amendment = "amendments: [{date: 2026-11-30, what: longer <b>, why: It failed.}]"
    text = paths.plan().read_text()
    paths.plan().write_text(text.replace("cut:", f"{amendment}\ncut:"))
    planned.keep("ideas", "naive", 0)
    found = plan.read_if_there()
    assert cells(page.budget(found)) == [["steps", "40"], ["batch", "4"]]
    assert "More steps change nothing." in repr(page.budget(found))
    assert cells(page.tried(found)) == [["80 steps", "the same error", "40 steps", "–"]]
    # by hand: 2 seeds of 300 + 400 + 100 s; one run of 200 s; two teachers, taken for 300 s each
    assert cells(page.questions(found)) == [
        ["ideas", "Which?", "3", "2", "6", "0.4", "1", "The main table."],
        ["longer", "How long?", "2", "1", "1", "0.1", "0", "Whether it is enough."],
    ]
    assert "2 runs are trained that others build on" in repr(page.questions(found))
    assert "In all 0.7 core-hours." in repr(page.questions(found))
    assert cells(page.cut(found)) == [["Larger images.", "They take too long."]]
    assert cells(page.amendments(found)) == [["2026-11-30", "longer &lt;b&gt;", "It failed."]]


def test_an_empty_list_is_said_in_a_word(root):
    assert repr(page.amendments(plan.read_if_there())) == "Nothing."
