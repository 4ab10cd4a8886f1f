"""What tests of notebooks share."""

import json
import re

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
