"""Notebooks as people have them: damaged, old, in other languages, with any parameters; and kernels
that are gone, or die."""

import json
import sys

import nbformat
import pytest
from helpers.commands import main
from helpers.notebooks import write

from dabook.site import notebooks
from dalib import paths
from dalib.errors import ConfigError, DataError, UserError

DEFAULTS = """
profile = 'quick'  # text
scale: float = 1.0
name = "a=b"; count = 3
flag = False
many = [1,
        2]  # over two lines
pair = (1, 2)
table = {'a': 1}
nothing = None
long = (1 +
        2)
%matplotlib inline
"""


@pytest.fixture
def defaults(tmp_path):
    return write(tmp_path / "n.ipynb", DEFAULTS)


# parameters


def test_parameters_have_the_types_of_their_defaults(defaults):
    assert notebooks.parameters(defaults) == {
        "profile": str,
        "scale": float,
        "name": str,
        "count": int,
        "flag": bool,
        "many": list,
        "pair": tuple,
        "table": dict,
        "nothing": object,
        "long": object,
    }


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("many", "[3]", [3]),
        ("many", "[a, 1.5, null]", ["a", 1.5, None]),
        ("many", "[]", []),
        ("pair", "[3, 4]", [3, 4]),
        ("table", "{a: [1, 2]}", {"a": [1, 2]}),
        ("name", "", ""),
        ("name", "c=d", "c=d"),
        ("name", "2024", "2024"),
        ("name", "no", "no"),
        ("name", "'quoted'", "quoted"),
        ("name", "*.jpg", "*.jpg"),
        ("name", "a b", "a b"),
        ("name", "a #b", "a #b"),
        ("name", "#1", "#1"),
        ("name", " x ", " x "),
        ("name", '"a #b"', "a #b"),
        ("count", "010", 10),
        ("count", "-4", -4),
        ("scale", "1e-3", 0.001),
        ("scale", "2", 2.0),
        ("scale", 2, 2.0),
        ("flag", "yes", True),
        ("flag", "False", False),
        ("flag", "1", True),
        ("nothing", "null", None),
        ("nothing", "5", 5),
        ("nothing", "[x]", ["x"]),
        ("long", "7", 7),
    ],
)
def test_values_are_read_as_yaml(name, text, value, defaults):
    found = notebooks.check(defaults, {name: text})
    assert found == {name: value}
    assert type(found[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("many", "3", r"parameter many takes list, such as \[1, 2\], not '3'"),
        ("many", "[", "parameter value '\\['"),
        ("many", "null", "parameter many takes list"),
        ("table", "[1]", "parameter table takes mapping"),
        ("table", "{1: a}", "parameter table: .* is not made of text"),
        ("name", "[1]", "parameter name takes str"),
        ("name", "null", "parameter name takes str"),
        ("count", "two", "parameter count takes int, not 'two'"),
        ("count", "3.0", "parameter count takes int"),
        ("count", "1:30", "parameter count takes int"),
        ("count", "", "parameter count takes int, not ''"),
        ("count", True, "parameter count takes int"),
        ("scale", "wide", "parameter scale takes float"),
        ("scale", True, "parameter scale takes float"),
        ("flag", "maybe", "parameter flag takes bool"),
        ("flag", "2", "parameter flag takes bool"),
        ("nothing", "&a [*a]", "parameter nothing: "),
        ("mane", "3", r"unknown parameter of n\.ipynb 'mane'"),
    ],
)
def test_values_that_do_not_fit_are_refused_in_one_line(name, given, message, defaults):
    with pytest.raises(ConfigError, match=message) as caught:
        notebooks.check(defaults, {name: given})
    assert "\n" not in str(caught.value)
    assert "n.ipynb" in str(caught.value)


@pytest.mark.parametrize(
    ("sources", "tags", "message"),
    [
        (
            ("x = 1", "x = 2"),
            ("parameters", "parameters"),
            r"several cells are tagged parameters \(1, 2\)",
        ),
        (("x = 1", "x = 2"), ("parameters", "injected-parameters"), "the result of a run"),
        (("x = (1",), ("parameters",), r"cell parameters \(cell 1\) is not valid Python"),
    ],
)
def test_parameters_cells_that_would_mislead_are_refused(sources, tags, message, tmp_path):
    path = write(tmp_path / "n.ipynb", *sources, tags=tags)
    with pytest.raises(ConfigError, match=rf"n\.ipynb: .*{message}"):
        notebooks.check(path, {})


def test_a_parameters_cell_that_is_no_code_is_refused(tmp_path):
    cell = nbformat.v4.new_markdown_cell("# Title", metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "n.ipynb")
    with pytest.raises(ConfigError, match=r"n\.ipynb: cell 1 is tagged parameters, but is no code"):
        notebooks.parameters(tmp_path / "n.ipynb")


# files

OLD = {
    "metadata": {},
    "nbformat": 3,
    "nbformat_minor": 0,
    "worksheets": [{"cells": [], "metadata": {}}],
}
PLAIN = {"metadata": {}, "nbformat": 4, "nbformat_minor": 2, "cells": []}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b'{"cells": [', "damaged or no notebook"),
        (b"# a title", "damaged or no notebook"),
        (b"\xff\xfe{\x00}\x00", "damaged or no notebook"),
        (b"[" * 100_000, "damaged or no notebook"),
        ([1, 2], "not a notebook"),
        ("text", "not a notebook"),
        ({"cells": []}, "not a notebook"),
        (PLAIN | {"nbformat": "4"}, "not a notebook"),
        (PLAIN | {"cells": "none"}, "not a valid notebook"),
        (PLAIN | {"cells": [1]}, "not a valid notebook"),
        (PLAIN | {"cells": [{"cell_type": "code"}]}, "not a valid notebook"),
        (PLAIN | {"metadata": []}, "not a valid notebook"),
        (PLAIN | {"nbformat": 9}, "newer than the installed nbformat"),
        (OLD, "old notebook format 3; .*nbformat.read"),
        (OLD | {"nbformat": 2}, "old notebook format 2"),
    ],
)
def test_what_is_no_notebook_is_named_in_one_line(content, message, tmp_path):
    path = tmp_path / "n.ipynb"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(DataError, match=rf"n\.ipynb: .*{message}") as caught:
        notebooks.check(path, {})
    assert "\n" not in str(caught.value)


def test_the_advice_for_an_old_notebook_works(tmp_path):
    path = tmp_path / "n.ipynb"
    cell = {
        "cell_type": "code",
        "language": "python",
        "input": "x = 1",
        "outputs": [],
        "metadata": {},
        "collapsed": False,
    }
    path.write_text(json.dumps(OLD | {"worksheets": [{"cells": [cell], "metadata": {}}]}))
    with pytest.raises(DataError) as caught:
        notebooks.read(path)
    exec(str(caught.value).split('python -c "')[1].rstrip('"'))
    assert notebooks.read(path).cells[0].source == "x = 1"


def test_an_older_minor_format_is_read(tmp_path):
    cell = {
        "cell_type": "code",
        "metadata": {},
        "source": ["x = 1\n", "y = 2"],
        "outputs": [],
        "execution_count": None,
    }
    (tmp_path / "n.ipynb").write_text(json.dumps(PLAIN | {"cells": [cell]}))
    assert notebooks.read(tmp_path / "n.ipynb").cells[0].source == "x = 1\ny = 2"


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({"kernelspec": {"name": "ir", "display_name": "R", "language": "R"}}, "R"),
        ({"language_info": {"name": "julia"}}, "julia"),
        (
            {
                "language_info": {"name": "Python"},
                "kernelspec": {"name": "mine", "display_name": "mine"},
            },
            None,
        ),
        ({}, None),
    ],
)
def test_only_another_language_is_refused(metadata, language, tmp_path):
    path = write(tmp_path / "n.ipynb", "x <- 1" if language else "x = 1", metadata=metadata)
    if language is None:
        assert notebooks.check(path, {"x": 2}) == {"x": 2}
        return
    with pytest.raises(ConfigError, match=rf"n\.ipynb: a notebook in {language}"):
        notebooks.check(path, {})


# the command


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one notebook, `n`, that is no experiment's."""
    tree = '{"profiles": {"tiny": {"seeds": 1, "record": "local", "set": {}}},'
    tree += ' "experiments": {"mine": {"question": "?", "rows": {"a": {"label": "a"}}}}}'
    (tmp_path / "experiments.yaml").write_text(tree)
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    write(tmp_path / "notebooks" / "n.ipynb", "count = 3\nseeds = 0\nprofile = 'quick'")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-p", "count=1", "-p", "count=2"], "-p count: given twice"),
        (["-p", "seeds=1", "--seeds", "2"], "--seeds: given twice"),
        (["-p", "count"], "-p count: expected NAME=VALUE"),
        (["-p", "=1"], "-p =1: expected NAME=VALUE"),
        (["--processes", "2"], "unknown parameter of n.ipynb 'processes'"),
    ],
)
def test_each_parameter_is_given_once_and_whole(words, message, checkout, capsys):
    assert main(["run", "n", *words]) == 1
    assert capsys.readouterr().err.startswith(f"error: {message}")


@pytest.mark.parametrize("profile", ["tiny", "../../elsewhere"])
def test_a_profile_that_is_none_names_no_folder(profile, checkout, monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "execute", lambda path, out, given: out)
    assert main(["run", "n", "-p", f"profile={profile}"]) == 0
    folder = "tiny" if profile == "tiny" else "default"
    assert str(paths.runs() / "notebooks" / folder / "n.ipynb") in capsys.readouterr().out


# kernels

SHOWS = (
    "import os, sys\nfrom dalib import paths\nprint(repr((sys.executable, str(paths.runs()), "
    "os.getcwd(), count)))"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "argv", [["/no/such/python", "-m", "x"], ["false", "{connection_file}"]], ids=["gone", "ends"]
)
def test_a_notebook_runs_in_the_python_that_was_called_and_finds_the_same_runs(
    argv, checkout, tmp_path, monkeypatch
):
    """Whatever `python3` is among the installed kernels, and where a notebook names none."""
    spec = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    here = tmp_path / "else{where}$HOME"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("DALIB_RUNS", "my runs")
    monkeypatch.setenv("DALIB_ROOT", "..")
    write(checkout / "notebooks" / "n.ipynb", "count = 3", SHOWS)
    assert main(["run", "n", "-p", "count=4"]) == 0
    done = nbformat.read(here / "my runs" / "notebooks" / "default" / "n.ipynb", as_version=4)
    root = str((here / "..").resolve())
    assert done.cells[-1].outputs[0].text.strip() == repr(
        (sys.executable, str(here / "my runs"), root, 4)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import os\nos._exit(1)", r"the kernel .*\(cell 2 of 3, which begins 'import os'\)"),
        (
            "import sys\nsys.exit(0)",
            r"ended itself \(SystemExit\).*\(cell 2 of 3, which begins 'import sys'\)",
        ),
        ("raise ValueError('a\\nb')", r"ValueError: a b \(cell 2 of 3, which begins "),
    ],
)
def test_a_run_that_does_not_reach_its_end_is_no_result(source, message, tmp_path):
    """One line names notebook and cell; what there was stays, and what there is now is kept as
    failed."""
    path = write(tmp_path / "n.ipynb", "x = 1", source, "print('the end')")
    out = tmp_path / "out" / "n.ipynb"
    out.parent.mkdir()
    out.write_text("an earlier result")
    with pytest.raises(UserError, match=rf"^n\.ipynb failed after \d+ s: .*{message}") as caught:
        notebooks.execute(path, out, {"x": 2}, show=False)
    assert "\n" not in str(caught.value)
    assert out.read_text() == "an earlier result"
    failed = nbformat.read(tmp_path / "out" / "n.failed.ipynb", as_version=4)
    assert failed.metadata.papermill.exception is True
    assert sorted(p.name for p in out.parent.iterdir()) == ["n.failed.ipynb", "n.ipynb"]
