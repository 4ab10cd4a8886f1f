"""The catalogue: every name is there, is what it says, is listed in the book, and costs nothing
until it is asked for."""

import ast
import importlib
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys

import pytest
from helpers import ROOT

import dalib

SUBMODULES = {module.name for module in pkgutil.iter_modules(dalib.__path__)} - {"__main__"}
ROOMS = [name for name in dalib.__all__ if name in SUBMODULES]
NAMES = [name for name in dalib.__all__ if name not in SUBMODULES]


def fresh(code: str) -> object:
    """What a new process prints as JSON."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_catalogue_costs_nothing_until_it_is_asked():
    """Time is not measured: what takes it is torch and its kin, and none of them is there."""
    found = fresh(
        "import json, sys\nbefore = set(sys.modules)\nimport dalib\n"
        "listed = dir(dalib)\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    assert "dalib" in found
    assert [m for m in found if m.startswith("dalib.")] == []
    assert {m.partition(".")[0] for m in found} - sys.stdlib_module_names == {"dalib"}


def test_a_configuration_needs_no_torch():
    found = fresh(
        "import json, sys\nfrom dalib import RunConfig, UserError\n"
        "print(json.dumps([RunConfig(steps=7).steps, 'torch' in sys.modules]))"
    )
    assert found == [7, False]


@pytest.mark.slow
def test_every_name_can_be_imported_as_a_script_would():
    """In one new process, one statement each, sub-packages first: importing them binds their names
    and must hide none of the others."""
    statements = "\n".join(f"from dalib import {name}" for name in [*ROOMS, *NAMES])
    kinds = fresh(
        f"import json\n{statements}\n"
        f"print(json.dumps({{name: type(globals()[name]).__name__ for name in {dalib.__all__}}}))"
    )
    assert list(kinds) == dalib.__all__
    assert {name for name, kind in kinds.items() if kind == "module"} == set(ROOMS)
    assert not [name for name, kind in kinds.items() if kind == "NoneType"]


def test_no_function_has_the_name_of_a_module():
    """`import dalib.x` binds `dalib.x`, whatever stood there before."""
    assert set(ROOMS) == set(dalib._ROOMS)
    assert set(NAMES) == set(dalib._HOMES)
    assert not set(NAMES) & SUBMODULES


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_is_its_module(name):
    assert getattr(dalib, name) is importlib.import_module(f"dalib.{name}")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_that_of_its_home_and_explains_itself(name):
    home = importlib.import_module(dalib._HOMES[name])
    assert getattr(dalib, name) is getattr(home, name)
    if callable(getattr(dalib, name)):
        assert inspect.getdoc(getattr(dalib, name))


def test_editors_see_the_same_names():
    """What stands under TYPE_CHECKING, in `__all__` and in the table, and from where."""
    tree = ast.parse((ROOT / "dalib" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: statement.module for statement in block.body for alias in statement.names}
    assert seen == dict.fromkeys(dalib._ROOMS, "dalib") | dalib._HOMES
    assert sorted(seen) == sorted(dalib.__all__)
    assert set(dalib.__all__) <= set(dir(dalib))


@pytest.mark.parametrize("package", ["dalib", "dabook"])
def test_neither_package_takes_a_function_from_the_front_door(package):
    """The hash of the code follows imports to the file that is imported; the catalogue would hide
    it."""
    taken = {}
    for path in (ROOT / package).rglob("*.py"):
        if path == ROOT / "dalib" / "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "dalib":
                names = {alias.name for alias in node.names} - SUBMODULES
                taken |= {str(path.relative_to(ROOT)): names} if names else {}
    assert taken == {}


def test_a_name_that_is_not_there_is_said():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        dalib.trian  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'trian'"):
        from dalib import trian  # noqa: F401


def test_the_book_lists_the_catalogue():
    """Each name once in the table, linked to where it is explained; each room to its page."""
    reference = ROOT / "book" / "api"
    text = (reference / "index.md").read_text(encoding="utf-8")
    table = text.partition("## The catalogue")[2].partition("\n## ")[0]
    names = re.findall(r"\{\w+\}`~([\w.]+)\.(\w+)`", table)
    rooms = re.findall(r"\[`(\w+)`\]\(([\w.]+)\)", table)
    assert sorted(name for _, name in names) == sorted(NAMES)
    assert sorted(room for room, _ in rooms) == sorted(ROOMS)
    pages = "".join(page.read_text(encoding="utf-8") for page in reference.glob("*.md"))
    for module, name in names:
        home = importlib.import_module(module)
        assert getattr(home, name) is getattr(dalib, name)
        assert f"automodule:: {module}\n" in pages, module
        # autodoc passes over what a module only imports, unless its `__all__` has it
        own = getattr(getattr(home, name), "__module__", module) == module
        assert own or name in home.__all__, (module, name)
    for room, page in rooms:
        shown = re.findall(r"automodule:: (dalib\.\S+)", (reference / page).read_text())
        assert any(f"{module}.".startswith(f"dalib.{room}.") for module in shown), room
