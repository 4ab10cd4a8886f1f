"""Which commit a notebook belongs to that has left the checkout: what its first cell says and does,
and what the site offers to download."""

import ast
import re

import nbformat
import pytest
import yaml
from helpers import ROOT
from IPython.core.inputtransformer2 import TransformerManager

from dabook.site import build, downloads, notebooks
from dabook.site.pin import PIN, REQUIREMENTS, Pin, belongs_to, cell, pin, requirements
from dalib import provenance, strict_yaml
from dalib.errors import ConfigError

ADDRESS = "https://example.org/somebody/book"


def test_without_an_address_the_first_cell_says_where_the_library_is():
    state = Pin(commit="0123456789ab", dirty=False, url="")
    assert cell(state) == (
        "# This notebook belongs to commit 0123456789ab of the book.\n"
        "# It needs the book's own environment: `make lab` in a checkout opens it.\n"
        "from dabook.site.pin import belongs_to\n\n"
        'belongs_to("0123456789ab")'
    )
    assert all(line.startswith("#") for line in requirements(state).splitlines())


def test_with_an_address_it_gets_the_library_of_the_commit():
    state = Pin(commit="0123456789ab", dirty=False, url=ADDRESS)
    text = cell(state)
    assert f"!git clone --quiet {ADDRESS} book" in text
    assert "!git -C book checkout --quiet 0123456789ab" in text
    assert '%pip install --quiet --editable "./book[runs]"' in text
    ast.parse(TransformerManager().transform_cell(text))
    last = requirements(state).splitlines()[-1]
    assert last == f"--editable git+{ADDRESS}@0123456789ab#egg=depth-anything-book[lab]"


def test_a_tree_with_changes_is_said():
    state = Pin(commit="0123456789ab", dirty=True, url="")
    assert "made with uncommitted changes" in cell(state)
    assert "made with uncommitted changes" in requirements(state)


def test_outside_of_git_no_commit_is_named():
    state = Pin(commit="unknown", dirty=False, url=ADDRESS)
    assert "checkout" not in cell(state)
    assert (
        requirements(state).splitlines()[-1].endswith(f"git+{ADDRESS}#egg=depth-anything-book[lab]")
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("repository: {}", "has no repository.url"),
        ("repository: {url: example}", "repository.url is 'example'"),
        ("repository: {url: 'https://example.org/a b'}", "repository.url is"),
        ("a: [", "has no repository.url"),
        (None, "not found"),
    ],
)
def test_an_address_that_is_none_is_named(text, words, tmp_path, monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    if text is not None:
        (tmp_path / "_config.yml").write_text(text)
    with pytest.raises(ConfigError, match=f"_config.yml: {words}"):
        pin()


@pytest.mark.parametrize(
    ("here", "asked", "words"),
    [
        (("0123456789ab", False), "0123456789ab", "is of commit 0123456789ab, like this"),
        (("0123456789ab", True), "0123456789ab", "note: .*0123456789ab with uncommitted changes"),
        (("0123456789ab", False), "ba9876543210", "note: .*, this notebook of ba9876543210"),
        (("unknown", False), "0123456789ab", "not known"),
        (("0123456789ab", False), "unknown", "not known"),
    ],
)
def test_a_library_of_another_commit_is_said(here, asked, words, monkeypatch, capsys):
    monkeypatch.setattr(provenance, "commit", lambda: here)
    belongs_to(asked)
    assert re.search(words, capsys.readouterr().out)


# ---- what the site offers


def executed(folder, name="question"):
    cells = [
        nbformat.v4.new_markdown_cell("# Which?\n\nA question.", id="title"),
        nbformat.v4.new_code_cell("profile = 'quick'", id="p", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("answer = 1", id="work"),
        nbformat.v4.new_code_cell("print(answer)", id="shown", metadata={"tags": ["first"]}),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    made = nbformat.v4.new_notebook(cells=cells)
    made.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    nbformat.write(made, folder / f"{name}.ipynb")


@pytest.mark.parametrize("url", ["", ADDRESS])
def test_a_downloaded_notebook_runs_from_top_to_bottom_and_names_its_commit(url, tmp_path):
    executed(tmp_path / "executed")
    site = tmp_path / "site"
    offered = site / downloads.FOLDER
    offered.mkdir(parents=True)
    notebooks.stage(tmp_path / "executed" / "question.ipynb", offered)
    assert [c.id for c in notebooks.read(offered / "question.ipynb").cells][1] == "shown"
    downloads.put(tmp_path / "executed", site, Pin(commit="0123456789ab", dirty=False, url=url))
    found = notebooks.read(offered / "question.ipynb")
    nbformat.validate(found)
    assert [c.id for c in found.cells] == ["title", PIN, "p", "work", "shown"]
    assert "0123456789ab" in found.cells[1].source
    scope = {}
    for one in found.cells[2:]:
        exec(one.source, scope)
    assert scope["answer"] == 1
    assert (site / REQUIREMENTS).exists() == bool(url)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["", "https://github.com/somebody/book"])
def test_one_setting_brings_the_buttons_and_without_it_there_are_none(url, tmp_path):
    pytest.importorskip("jupyter_book")
    config = strict_yaml.read(ROOT / "_config.yml")
    kept = {name: config[name] for name in ("title", "execute", "launch_buttons", "repository")}
    kept["repository"]["url"] = url
    kept["sphinx"] = {"extra_extensions": ["dabook.site.downloads"]}
    (tmp_path / "_config.yml").write_text(yaml.safe_dump({**kept, "only_build_toc_files": True}))
    contents = {"format": "jb-book", "root": "intro", "chapters": [{"file": "notebooks/question"}]}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(contents))
    (tmp_path / "intro.md").write_text("# Intro")
    executed(tmp_path / "notebooks")
    build.sphinx(tmp_path, "html", log=tmp_path / "log")
    site = tmp_path / "_build" / "html"
    place = "_sources/notebooks/question.ipynb"
    assert (site / place).is_file()
    page = (site / "notebooks" / "question.html").read_text(encoding="utf-8")
    found = set(re.findall(r'href="(https://(?:colab|mybinder)[^"]*)"', page))
    assert found == (
        {
            f"https://colab.research.google.com/github/somebody/book/blob/gh-pages/{place}",
            f"https://mybinder.org/v2/gh/somebody/book/gh-pages?urlpath=lab/tree/{place}",
        }
        if url
        else set()
    )
