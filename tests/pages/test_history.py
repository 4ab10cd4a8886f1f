"""What was changed after the fact: each line names a commit of this history, by its day, in
order."""

import subprocess

import pytest
from helpers.fabricated import REPO

from dabook.pages import history
from dalib import paths
from dalib.errors import ConfigError


def git(*words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(REPO), *words], capture_output=True, text=True
    ).stdout.strip()


FIRST = paths.first_study() / "history.yaml"


@pytest.mark.parametrize(
    "touch", [*history.touches(FIRST), *history.touches()], ids=lambda t: t["commit"][:7]
)
def test_a_change_is_dated_as_its_commit_is(touch):
    if git("rev-parse", "--is-shallow-repository") != "false":
        pytest.skip("the history is not here")
    assert git("log", "-1", "--format=%ad", "--date=short", touch["commit"]) == touch["date"]
    known = subprocess.run(
        ["git", "-C", str(REPO), "merge-base", "--is-ancestor", touch["commit"], "HEAD"]
    )
    assert known.returncode == 0


def test_the_table_has_a_line_per_change_in_the_order_of_their_days():
    dates = [touch["date"] for touch in history.touches(FIRST)]
    assert dates == sorted(dates)
    text = history.table(FIRST).text
    assert text.count("<code>") == len(dates)
    assert all(date in text for date in dates)


def test_a_study_without_such_changes_says_so(tmp_path):
    (tmp_path / "history.yaml").write_text("[]\n")
    assert history.table(tmp_path / "history.yaml").text == "<p>No such change is noted.</p>"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1", r"history\.yaml, line 1: not valid YAML"),
        ("commit: 1", "expected a list of changes, got dict"),
        ("- {commit: abc, date: 2026-01-01}", "change 1: what missing"),
        ("- {commit: abc, date: 2026-01-01, what: x, why: y}", "unknown key of change 1 'why'"),
    ],
)
def test_a_damaged_list_is_named(tmp_path, monkeypatch, content, message):
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "history.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        history.touches()
