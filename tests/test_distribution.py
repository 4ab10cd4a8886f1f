"""The package's own name: on PyPI `dalib` belongs to somebody else, so nothing may tell people to
install that."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEXT = (".py", ".md", ".toml", ".ipynb", ".yml", ".yaml", ".txt", ".sh", ".cff", ".cfg", "")
FOREIGN = re.compile(
    r"\b(?:pip3?|pipx|uv|conda|mamba|poetry|pdm)\b[^\n`]*?\b(?:install|add)\b[^\n`]*?(?<![\w./-])dalib(?![\w/.-])"
)
EXTRA = re.compile(r"(?<![\w-])dalib\[[a-z,]+\]")


def files() -> list[Path]:
    """Everything that is committed and holds text, this file left out."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("no git here")
    found = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [
        p
        for p in found
        if p.suffix in TEXT and p.is_file() and p != Path(__file__) and "_static" not in p.parts
    ]


def test_no_text_advises_to_install_a_package_that_is_not_ours():
    advice = {}
    for path in files():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if FOREIGN.search(line) or EXTRA.search(line):
                advice[str(path.relative_to(ROOT))] = line.strip()
    assert advice == {}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("python -m pip install 'dalib[video]'", True),
        ("pip install dalib", True),
        ("`pip install --upgrade dalib`", True),
        ("uv add dalib", True),
        ("python -m pip install -e '.[video]'", False),
        ("pip install depth-anything-book", False),
        ("pip install av   # for dalib.predict", False),
        ("python -m dabook run main_table", False),
    ],
)
def test_the_search_finds_such_advice(line, found):
    assert bool(FOREIGN.search(line) or EXTRA.search(line)) == found


def test_extras_that_hold_others_name_this_distribution():
    """Under another name, pip would fetch that package from the index."""
    assert PROJECT["name"] != "dalib"
    names = [
        re.split(r"[\[<>=; ]", need)[0]
        for needs in PROJECT["optional-dependencies"].values()
        for need in needs
    ]
    selves = [
        need for needs in PROJECT["optional-dependencies"].values() for need in needs if "[" in need
    ]
    assert "dalib" not in [*names, *PROJECT["dependencies"]]
    assert {need.split("[")[0] for need in selves} == {PROJECT["name"]}
    extras = {extra for need in selves for extra in need.split("[")[1].rstrip("]").split(",")}
    assert extras <= set(PROJECT["optional-dependencies"])


def test_the_import_is_still_dalib():
    import dalib

    assert Path(dalib.__file__).parent == ROOT / "dalib"
