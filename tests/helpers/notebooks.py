"""What tests of notebooks share."""


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
