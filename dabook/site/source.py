"""The lines of the library that are an equation, on the page that has the equation.

`source dalib.losses.affine_invariant` shows a function or class as it stands in the installed
library, without its docstring, under a line that leads to its documentation. With `:lines: 3-9` only
these lines of it, counted as shown.
"""

import ast
import importlib
import inspect
import textwrap

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def undocumented(source: str) -> str:
    """The source of one function or class without its docstring."""
    text = textwrap.dedent(source)
    lines = text.splitlines()
    (definition,) = ast.parse(text).body
    for node in reversed(list(ast.walk(definition))):
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or ast.get_docstring(node) is None:
            continue
        docstring = node.body[0]
        del lines[docstring.lineno - 1 : docstring.end_lineno]
    return "\n".join(lines).strip("\n")


def named(name: str) -> object:
    """What a dotted name means; a `ValueError` where there is no such thing."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{name} is nothing that can be imported ({error})") from error


class Source(SphinxDirective):
    """`source NAME`."""

    required_arguments = 1
    option_spec = {"lines": directives.unchanged}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        try:
            found = named(name)
            code = undocumented(inspect.getsource(found)).splitlines()
            code = code[_lines(self.options.get("lines"), len(code))]
        except (ValueError, TypeError, OSError) as error:
            raise self.error(f"source: {error}") from error
        self.env.note_dependency(inspect.getsourcefile(found))
        shown = textwrap.dedent("\n".join(code))
        block = nodes.literal_block(shown, shown)  # highlighted because both are the same
        block["language"] = "python"
        role = "class" if inspect.isclass(found) else "func"
        holder = nodes.container(classes=["library-source"])
        text, messages = self.parse_inline(f"{{{role}}}`{name}`")
        holder += nodes.paragraph("", "", *text, classes=["library-name"])
        holder += block
        return [holder, *messages]


def _lines(text: str | None, count: int) -> slice:
    if not text:
        return slice(0, count)
    first, _, last = text.partition("-")
    chosen = slice(int(first) - 1, int(last or first))
    if not 0 <= chosen.start < chosen.stop <= count:
        raise ValueError(f"lines {text} of {count}")
    return chosen


def setup(app: Sphinx) -> dict:
    app.add_directive("source", Source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
