"""The page about `evaluate` says what is so: its example gives its table, its options exist."""

import re

from helpers import ROOT
from helpers.commands import main

from dalib.__main__ import commands

PAGE = (ROOT / "book" / "evaluate.md").read_text("utf8")


def block(language: str) -> str:
    """The page's first block of a language."""
    return re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[1]


def test_the_example_gives_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, words = block("python"), block("bash").split()
    assert code.startswith("# guess.py\n")
    (tmp_path / "guess.py").write_text(code)
    assert main(words[3:]) == 0
    assert block("text") in capsys.readouterr().out
    assert (tmp_path / "scores" / "result.json").is_file()


def test_every_option_of_the_page_exists():
    (parsers,) = (a for a in commands().parser._actions if a.dest != "help")
    known = set(parsers.choices["evaluate"]._option_string_actions)
    said = set(re.findall(r"--[a-z][a-z-]+", PAGE))
    assert said - {"--format"} <= known
    for option in known - {"--help", "-h"}:
        if option not in ("--batch", "--device", "--short-side", "--overwrite"):
            reading = {"--layers", "--max-depth", "--relative", "--entry", "--position"}
            assert option in said | reading, f"{option} is not on the page"
