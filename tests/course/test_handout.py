"""The archive for a class: it has the library and every notebook of the student's edition, no solution,
and knows its commit where it is unpacked."""

import shutil
import subprocess
import zipfile

import pytest
from helpers import ROOT
from helpers.commands import main

from dabook.course.editions import HANDED, sources
from dabook.course.handout import NAME, handout
from dabook.site.pin import ARCHIVED, pin
from dalib import paths, provenance
from dalib.errors import ConfigError

KEPT = ("course", "dalib/weights", "_config.yml", "COMMIT", ".gitattributes")
"""Of the project, in the small checkout that is archived."""


def git(folder, *words):
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    return subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    folder = tmp_path / "checkout"
    for name in KEPT:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target)
        else:
            shutil.copy(ROOT / name, target)
    git(tmp_path, "init", "-q", str(folder))
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "one")
    at(folder, monkeypatch)
    return folder


def at(folder, monkeypatch):
    """Work in another checkout."""
    monkeypatch.setenv("DALIB_ROOT", str(folder))
    provenance.commit.cache_clear()


@pytest.fixture(autouse=True)
def afterwards():
    yield
    provenance.commit.cache_clear()


def test_a_class_gets_the_library_and_its_notebooks_and_no_solution(
    checkout, tmp_path, monkeypatch, capsys
):
    main(["handout"])
    path = checkout / "_build" / "handout.zip"
    assert str(path) in capsys.readouterr().out
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "unpacked")
    assert len(names) == len(set(names))
    folder = tmp_path / "unpacked" / NAME
    assert {p.name for p in (folder / HANDED).glob("*.ipynb")} == {p.name for p in sources()}
    handed = [path.read_text() for path in folder.rglob("*.ipynb")]
    assert not [text for text in handed if "BEGIN SOLUTION" in text]
    assert not (folder / "course" / "labs").exists()
    assert not (folder / "course" / "exercises").exists()
    assert (folder / "dalib" / "weights" / "student.safetensors").is_file()
    assert "make lab" in (folder / "course" / "README.md").read_text()
    assert "BEGIN SOLUTION" not in (folder / "course" / "README.md").read_text()

    # unpacked, outside of git, it knows its commit
    commit = git(checkout, "rev-parse", "HEAD")
    assert (folder / ARCHIVED).read_text().strip() == commit
    at(folder, monkeypatch)
    assert provenance.commit() == ("unknown", False)
    assert pin().commit == commit[:12]
    with pytest.raises(
        ConfigError, match=r"not in a handout; the student's notebooks are in .*student"
    ):
        sources()
    lab = (folder / HANDED / "lab_1_pixels_to_depth.ipynb").read_text()
    assert commit[:12] in lab

    # once more: what is made is replaced, what somebody names is not
    at(checkout, monkeypatch)
    assert handout() == path
    mine = tmp_path / "mine.zip"
    mine.write_bytes(b"thesis")
    with pytest.raises(ConfigError, match="is there already"):
        handout(mine)
    assert mine.read_bytes() == b"thesis"


def test_what_is_not_committed_is_not_left_out_in_silence(checkout):
    (checkout / "course" / "README.md").write_text("changed")
    with pytest.raises(ConfigError, match="tracked files are changed"):
        handout()
    assert not (checkout / "_build").exists()


def test_outside_of_git_it_says_so(tmp_path, monkeypatch):
    at(tmp_path, monkeypatch)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert paths.root() == tmp_path
    with pytest.raises(ConfigError, match="no git checkout here"):
        handout()


def test_in_a_checkout_the_commit_is_git_s(checkout):
    assert "Format" in (checkout / ARCHIVED).read_text()  # nobody has archived it
    assert pin().commit == git(checkout, "rev-parse", "HEAD")[:12]
