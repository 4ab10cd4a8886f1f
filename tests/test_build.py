"""What `make book` does with the notebooks: which parameters each one gets."""

import nbformat
import pytest
import yaml

from dalib.errors import ConfigError
from dalib.study import book, notebooks

TREE = {
    "profiles": {"quick": {"seeds": 1, "record": "local", "set": {"steps": 5}}},
    "experiments": {
        "main_table": {"question": "?", "rows": {"alone": {"label": "Alone"}}},
        "long": {"question": "?", "trained_in_book": False, "rows": {"alone": {"label": "Alone"}}},
    },
}
PROFILE, TRAIN = 'profile = "smoke"  # which', "train = True  # False: show what is recorded, run nothing"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Writes notebooks, name -> (parameters, cell), as those of a checkout with `TREE`."""
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(TREE, sort_keys=False))
    (tmp_path / "notebooks").mkdir()

    def write(**cells):
        (tmp_path / "_toc.yml").write_text(yaml.safe_dump({"chapters": [{"file": f"notebooks/{n}"} for n in cells]}))
        for name, sources in cells.items():
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
            notebook.cells[0].metadata["tags"] = ["parameters"]
            notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
            nbformat.write(notebook, notebooks.folder() / f"{name}.ipynb")
        return tmp_path

    return write


def test_the_book_trains_unless_the_experiment_says_otherwise(checkout):
    checkout(
        main_table=(PROFILE,), long=(f"{PROFILE}\n{TRAIN}",), other=(f"{PROFILE}\n{TRAIN}",), plain=("x = 1  # x",)
    )
    assert book.given("main_table", "quick") == {"profile": "quick"}
    assert book.given("long", "quick") == {"profile": "quick", "train": False}
    assert book.given("other", "quick") == {"profile": "quick"}  # no experiment of that name
    assert book.given("plain", "quick") == {}


def test_a_notebook_that_cannot_but_train_is_refused(checkout):
    checkout(long=(PROFILE,))
    path = notebooks.notebook("long")
    with pytest.raises(ConfigError, match=r"unknown parameter of long\.ipynb 'train'"):
        notebooks.check(path, book.given("long", "quick"))
