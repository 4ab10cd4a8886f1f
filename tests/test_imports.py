"""Who imports whom: no circles, no floor that imports from above, no library that knows its book.

Read off the syntax trees, so that an import inside a function counts like one at the top.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from helpers import ROOT

FLOORS = (
    (
        *("errors", "paths", "writing", "locking", "stopping", "progress", "strict_yaml"),
        *("provenance", "blocks", "config", "functions"),
    ),
    (
        *("data", "models", "losses", "alternatives", "certificates", "geometry", "streams"),
        "conformance",
    ),
    ("training", "evaluation", "predict"),
    ("adaptation",),
    ("__main__", "cli", "commands"),
)
"""What imports from its own floor and those before it."""
UPWARDS = {
    # timm's layout of an encoder that nobody listed, asked for while a run's config is checked
    ("config", "models.encoder"),
}
"""The only exceptions, each said by itself."""


def imports(file: Path, package: Path) -> set[str]:
    """The modules of `package`, by their dotted names below it, that a file imports anywhere."""
    root = package.name
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import; write the whole name"
            names = [module_of(f"{node.module}.{alias.name}", package) for alias in node.names]
        found |= {name for name in names if name.split(".")[0] == root}
    return {name.removeprefix(root).removeprefix(".") for name in found}


def module_of(name: str, package: Path) -> str:
    """`a.b.c` if that is a module, else `a.b`, whose name `c` is."""
    path = package.parent.joinpath(*name.split("."))
    return name if path.is_dir() or path.with_suffix(".py").is_file() else name.rpartition(".")[0]


def graph(package: Path) -> dict[str, set[str]]:
    """Module -> the modules that it imports; a package's `__init__` goes by the package's name."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = imports(file, package) - {name}
    return found


def circle(modules: dict[str, set[str]]) -> list[str] | None:
    """The names along a circle of imports, or None."""
    try:
        TopologicalSorter(modules).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def floor(name: str) -> int:
    room = name.split(".")[0]
    (place,) = (k for k, rooms in enumerate(FLOORS) if room in rooms)
    return place


@pytest.fixture(scope="module")
def dalib():
    return graph(ROOT / "dalib")


def test_no_circle_of_imports(dalib):
    """The catalogue at the root stands beside the graph: it passes names on, and who imports it
    wants the version."""
    below = {
        name: {m for m in seen if m and (name, m) not in UPWARDS} for name, seen in dalib.items()
    }
    assert circle(below) is None


def test_no_floor_imports_from_above(dalib):
    upwards = {
        (name, seen)
        for name, every in dalib.items()
        for seen in every
        if name and seen and floor(seen) > floor(name)
    }
    assert upwards == UPWARDS


def test_the_rooms_of_one_floor_that_know_each_other(dalib):
    """Prediction uses the sizes of evaluation, labelling by hand its check of maps and what runs a network; what is
    evaluated is read as prediction wrote it. Nothing else crosses on the upper floor."""
    rooms = FLOORS[2]
    across = {
        (name.split(".")[0], seen.split(".")[0])
        for name, every in dalib.items()
        for seen in every
        if name.split(".")[0] in rooms and seen.split(".")[0] in rooms
    }
    assert {(a, b) for a, b in across if a != b} <= {
        ("predict", "evaluation"),
        ("evaluation", "predict"),
        ("training", "evaluation"),
        ("training", "predict"),
    }


def test_the_library_never_imports_its_book():
    for file in sorted((ROOT / "dalib").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if n.split(".")[0] == "dabook"], file


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a": "from p import b", "b": "def f():\n    from p.a import x"}, {"a", "b"}),
        ({"a": "import p.b", "b": "from p.c import x", "c": "import p.a"}, {"a", "b", "c"}),
        ({"a": "from p import b", "b": "import json", "c": "from p import a, b"}, set()),
    ],
)
def test_a_circle_is_found_wherever_it_is_imported(files, expected, tmp_path):
    package = tmp_path / "p"
    package.mkdir()
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    assert set(circle(graph(package)) or ()) == expected
