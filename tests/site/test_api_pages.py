"""What the pages made from docstrings would link wrongly, found without building them."""

import ast
import importlib
import itertools
import re
from pathlib import Path

import pytest

PAGES = sorted(Path("book/api").glob("*.md"))
MODULES = [
    name for page in PAGES for name in re.findall(r"automodule:: (\S+)", page.read_text("utf8"))
]


def test_a_module_stands_before_the_package_that_offers_its_names():
    # Sphinx links "view source" back to the place where a module was first met
    for place, name in enumerate(MODULES):
        module = importlib.import_module(name)
        homes = {
            getattr(getattr(module, offered), "__module__", name)
            for offered in getattr(module, "__all__", ())
        }
        late = homes.intersection(MODULES[place + 1 :])
        assert not late, f"{name} offers names of {sorted(late)}: put these first on the page"


@pytest.mark.parametrize("name", MODULES)
def test_no_alias_of_a_type_has_a_docstring(name):
    # `Pair = tuple[int, int]` says that it is of "builtins", whose source has no page
    module = importlib.import_module(name)
    body = ast.parse(Path(module.__file__).read_text("utf8")).body
    for one, after in itertools.pairwise(body):
        told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if not isinstance(one, ast.Assign) or not told:
            continue
        for target in one.targets:
            held = getattr(module, ast.unparse(target), None)
            assert getattr(held, "__module__", None) != "builtins", (
                f"{name}.{ast.unparse(target)}: say it in a comment, not in a docstring"
            )


@pytest.mark.parametrize("package", ["dalib", "dabook"])
def test_no_value_s_docstring_has_its_first_colon_inside_a_literal(package):
    """What stands before the first colon of such a docstring is taken for its type."""
    found = []
    for path in sorted(Path(package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        bodies = [tree.body, *(n.body for n in ast.walk(tree) if isinstance(n, ast.ClassDef))]
        for body in bodies:
            for value, said in itertools.pairwise(body):
                is_value = isinstance(value, ast.Assign | ast.AnnAssign)
                text = said.value if isinstance(said, ast.Expr) else None
                if not (is_value and isinstance(text, ast.Constant) and type(text.value) is str):
                    continue
                head, colon, _ = text.value.splitlines()[0].partition(":")
                if colon and head.count("`") % 2:
                    found.append(f"{path}:{said.lineno}")
    assert not found
