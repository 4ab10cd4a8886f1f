"""Notebooks of the course, run cell by cell in this process: quicker than a kernel for each."""

import os
from collections.abc import Mapping
from unittest import mock

import IPython.display
import matplotlib.pyplot as plt
from nbformat import NotebookNode

from dabook.course import bench


def run(
    notebook: NotebookNode, given: Mapping[str, object] | None = None
) -> dict[str, BaseException | None]:
    """Every code cell, whatever errors there are: id -> its error.

    Args:
        notebook: an edition.
        given: parameters, set after the cell that is tagged so.
    """
    space: dict[str, object] = {"__name__": "notebook", "display": IPython.display.display}
    found: dict[str, BaseException | None] = {}
    with mock.patch.dict(os.environ), mock.patch.object(bench, "_BOOK", []):
        for cell in notebook.cells:
            if cell.cell_type != "code":
                continue
            try:
                exec(compile(cell.source, cell.id, "exec"), space)
                found[cell.id] = None
            except Exception as error:
                found[cell.id] = error
            if "parameters" in cell.metadata.get("tags", ()):
                space |= given or {}
            plt.close("all")
    return found
