"""What tests of notebooks share."""

import json
import re

import nbformat

from dabook.site.glue import KEPT

RAW = re.compile(r"\{[a-z][\w:+-]*\}`|^ *(`{3,}|:{3,})\{|^ *:::|^\([\w-]+\)=$", re.M)
"""A role, directive or label of MyST in Markdown: JupyterLab shows it letter by letter."""


def concluded(notebook) -> dict[str, str]:
    """Id of a cell -> the Markdown that it made when it was executed."""
    return {
        cell.id: "".join(output.data["text/markdown"])
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "text/markdown" in output.get("data", {})
    }


def glued(notebook) -> dict[str, str]:
    """Key -> text of everything that an executed notebook kept for other pages."""
    kept = [
        json.loads(output.data[KEPT])
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if KEPT in output.get("data", {})
    ]
    return {name: v["text/plain"].strip("'") for values in kept for name, v in values.items()}


def write(path, *sources, tags=("parameters",), metadata=None):
    """A notebook of code cells, of which the first have these tags."""
    cells = [nbformat.v4.new_code_cell(source, id=f"c{k}") for k, source in enumerate(sources)]
    for cell, tag in zip(cells, tags, strict=False):
        cell.metadata["tags"] = [tag]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata or {}), path)
    return path
