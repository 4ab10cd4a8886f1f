"""The rooms of `dabook`: nothing imports from a floor above its own, and no module imports itself by
way of others."""

import ast
from pathlib import Path

import pytest

import dabook

HOME = Path(dabook.__file__).parent
FLOORS = ("runs", "analysis", "show", "pages", "site", "course")
"""From the lowest to the highest; above them is the command line."""


def modules() -> dict[str, Path]:
    """Name -> file of every module."""
    files = sorted(HOME.rglob("*.py"))
    return {".".join(("dabook", *f.relative_to(HOME).with_suffix("").parts)): f for f in files}


MODULES = modules()


def imported(text: str) -> set[str]:
    """The modules of the book that a text imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found & MODULES.keys()


def floor(module: str) -> int:
    """The floor of a module, counted from the ground."""
    room = module.split(".")[1]
    return FLOORS.index(room) if room in FLOORS else len(FLOORS)


def circle(edges: dict[str, set[str]]) -> list[str]:
    """One circle of a graph, from a node back to itself; empty where there is none."""
    done: set[str] = set()

    def walk(node: str, path: tuple[str, ...]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for other in sorted(edges[node]):
            if found := walk(other, (*path, node)):
                return found
        done.add(node)
        return []

    return next((found for node in edges if (found := walk(node, ()))), [])


def test_every_room_has_its_floor():
    rooms = {path.parent.relative_to(HOME).parts[:1] for path in MODULES.values()} - {()}
    assert rooms == {(room,) for room in FLOORS}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_imports_from_above(module):
    """Not inside a function either: a late import hides a dependence and does not remove it."""
    text = MODULES[module].read_text(encoding="utf-8")
    above = {name for name in imported(text) if floor(name) > floor(module)}
    assert not above, f"{module} imports {sorted(above)} from a floor above its own"


def test_there_are_no_circles():
    texts = {name: file.read_text(encoding="utf-8") for name, file in MODULES.items()}
    assert circle({name: imported(text) - {name} for name, text in texts.items()}) == []


def test_the_library_knows_nothing_of_the_book():
    for file in (HOME.parent / "dalib").rglob("*.py"):
        found = imported(file.read_text(encoding="utf-8"))
        assert not found, f"{file.name} imports {sorted(found)}"


def test_the_walk_sees_what_it_is_there_to_see():
    late = "def f():\n    from dabook.pages import claims\n"
    assert imported(late) == {"dabook.pages.claims"}
    assert imported("import dabook.show.tables") == {"dabook.show.tables"}
    assert imported("from dabook.runs.records import read") == {"dabook.runs.records"}
    assert imported("import dalib.losses") == set()
    assert floor("dabook.runs.records") < floor("dabook.pages.claims") < floor("dabook.__main__")
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b"}, "b": set()}) == []
