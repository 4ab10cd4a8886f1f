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
