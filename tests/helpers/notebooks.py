"""What tests of notebooks share."""

import re

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
    """Key -> text of everything that an executed notebook glued."""
    outputs = [
        o
        for c in notebook.cells
        if c.cell_type == "code"
        for o in c.outputs
        if "scrapbook" in o.get("metadata", {})
    ]
    return {
        o.metadata.scrapbook.name: o.data["application/papermill.record/text/plain"].strip("'")
        for o in outputs
    }
