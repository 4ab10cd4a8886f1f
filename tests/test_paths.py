"""Where things lie: absolute places whatever the current folder, and a variable that names no
usable one is named itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.commands import main

from dalib import paths
from dalib.errors import ConfigError


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a file and a folder in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("not a folder\n")
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize("value", ["folder", ".", "folder/../folder"])
def test_a_relative_place_is_that_of_the_current_folder_for_other_processes_too(
    value, here, monkeypatch
):
    for variable in ("DALIB_ROOT", "DALIB_RUNS", "DALIB_REALDEPTH"):
        monkeypatch.setenv(variable, value)
    assert paths.root() == paths.runs() == here / value
    assert paths.places() == dict.fromkeys(
        ("DALIB_ROOT", "DALIB_RUNS", "DALIB_REALDEPTH"), str(here / value)
    )


def test_the_home_folder_is_filled_in(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here / "folder"))
    monkeypatch.setenv("DALIB_RUNS", "~/mine")
    assert paths.runs() == here / "folder" / "mine"


def test_places_name_only_what_is_set(here, monkeypatch):
    monkeypatch.delenv("DALIB_ROOT", raising=False)
    monkeypatch.setenv("DALIB_REALDEPTH", "no such folder")
    assert list(paths.places()) == ["DALIB_RUNS"]


# without DALIB_RUNS


@pytest.fixture
def unset(monkeypatch):
    """No variable says where things lie."""
    for variable in ("DALIB_ROOT", "DALIB_RUNS"):
        monkeypatch.delenv(variable, raising=False)


def test_outside_a_checkout_runs_are_those_of_the_current_folder(here, unset):
    assert paths.runs() == here / "runs"
    assert paths.writable_runs().is_dir()
    # what is committed is still found, for this library is installed from its checkout
    assert paths.root() == ROOT
    # a kernel that starts elsewhere is told
    assert paths.places() == {"DALIB_RUNS": str(here / "runs")}


@pytest.mark.parametrize("below", [".", "notebooks", "notebooks/deep"])
def test_within_a_checkout_runs_are_that_checkouts(below, here, unset, monkeypatch):
    (here / "notebooks" / "deep").mkdir(parents=True)
    (here / "dalib").mkdir()
    (here / "experiments.yaml").write_text("experiments: {}\n")
    monkeypatch.chdir(here / below)
    assert paths.root() == here
    assert paths.runs() == here / "runs"
    assert paths.places() == {}


def test_experiments_of_somebody_else_make_no_checkout(here, unset):
    (here / "experiments.yaml").write_text("mine: {}\n")
    assert paths.runs() == here / "runs"
    assert paths.root() == ROOT


def test_a_named_checkout_has_its_runs(here, unset, monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", "folder")
    assert paths.runs() == here / "folder" / "runs"


def test_a_package_in_an_environment_leaves_nothing_beside_it(here, unset):
    """As after `pip install .`: the package lies in site-packages, the work somewhere else."""
    library, work = here / "env" / "site-packages", here / "work"
    work.mkdir()
    shutil.copytree(ROOT / "dalib", library / "dalib", ignore=shutil.ignore_patterns("__pycache__"))
    code = "import dalib, dalib.paths as p; print(dalib.__file__, p.writable_runs(), sep='\\n')"
    environment = os.environ | {"PYTHONPATH": str(library), "PYTHONDONTWRITEBYTECODE": "1"}
    before = sorted(library.rglob("*"))
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=work, env=environment, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    where, found = told.stdout.split()
    assert Path(where) == library / "dalib" / "__init__.py"
    assert Path(found) == work / "runs"
    assert sorted(library.rglob("*")) == before


@pytest.mark.parametrize(
    "value", ["", " ", "a_file", "a_file/below", "gone/../a_file", "~nobody_at_all/runs", "x" * 300]
)
def test_a_place_for_runs_that_cannot_be_one_is_named(value, here, monkeypatch):
    monkeypatch.setenv("DALIB_RUNS", value)
    with pytest.raises(ConfigError, match="DALIB_RUNS") as caught:
        paths.writable_runs()
    assert "\n" not in str(caught.value)
    assert (here / "a_file").read_text() == "not a folder\n"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc here")
@pytest.mark.parametrize("value", ["/proc/runs", "/proc"])
def test_a_place_that_cannot_be_made_or_written_is_named(value, monkeypatch):
    monkeypatch.setenv("DALIB_RUNS", value)
    with pytest.raises(ConfigError, match=rf"DALIB_RUNS: {value} cannot be written"):
        paths.writable_runs()


@pytest.mark.parametrize("value", ["", "a_file", "gone"])
def test_a_root_that_is_no_folder_is_named(value, here, monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", value)
    with pytest.raises(ConfigError, match="DALIB_ROOT"):
        paths.root()


def test_a_current_folder_that_is_gone_is_said(here, monkeypatch):
    monkeypatch.setenv("DALIB_RUNS", "runs")
    monkeypatch.chdir(here / "folder")
    os.rmdir(here / "folder")
    with pytest.raises(ConfigError, match="current folder was deleted"):
        paths.runs()


def test_the_folder_for_runs_is_made_and_left_empty(here, monkeypatch):
    monkeypatch.setenv("DALIB_RUNS", "deep/runs")
    assert paths.writable_runs() == here / "deep" / "runs"
    assert list((here / "deep" / "runs").iterdir()) == []


@pytest.mark.parametrize(
    "words", [["row", "main_table", "naive"], ["run", "main_table"], ["rows", "main_table"]]
)
@pytest.mark.parametrize(
    ("variable", "value"),
    [("DALIB_RUNS", "a_file"), ("DALIB_ROOT", "a_file"), ("DALIB_ROOT", "folder")],
)
def test_each_command_names_the_variable(words, variable, value, here, monkeypatch, capsys):
    monkeypatch.setenv(variable, str(here / value))
    if variable == "DALIB_RUNS":
        words = [*words, "--profile", "smoke"]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert variable in error
    assert error.count("\n") == 1
