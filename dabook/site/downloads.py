"""The notebooks that a page offers to download, and that Colab and Binder open from the published
site: as they were run, in their own order, and pinned to the commit of the book."""

from pathlib import Path

import nbformat
from sphinx.application import Sphinx
from sphinx.config import Config

from dabook.site import notebooks
from dabook.site.pin import REQUIREMENTS, Pin, pinned, requirements

FOLDER = "_sources/notebooks"
"""Within the site: where Sphinx puts what the download button leads to."""


def put(executed: Path, site: Path, state: Pin) -> None:
    """Put executed notebooks into a built site, in the place of the pages' own sources.

    A page has the answer before the question, so that its source does not run from top to bottom;
    the notebook does.

    Args:
        executed: the folder of executed notebooks.
        site: the folder with `index.html`. With an address of the repository, a requirements.txt is
            put there: Binder makes its environment from it.
        state: of the book that the notebooks belong to.
    """
    for page in sorted((site / FOLDER).glob("*.ipynb")):
        nbformat.write(pinned(notebooks.read(executed / page.name), state), page)
    if state.url:
        (site / REQUIREMENTS).write_text(requirements(state), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, object]:
    """Buttons for Colab and Binder only where there is something that they can open."""
    app.connect("config-inited", _no_buttons_without_address)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _no_buttons_without_address(app: Sphinx, config: Config) -> None:
    """The theme fails on launch buttons while it has no address of the repository."""
    if not config.html_theme_options.get("repository_url"):
        config.html_theme_options.pop("launch_buttons", None)
