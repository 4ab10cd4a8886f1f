"""The contributor's page is right: its YAML and a copied notebook are a new question, and it runs."""

import re
import shutil

import nbformat
import pytest

from dalib import paths
from dalib.__main__ import main
from dalib.study import experiments, records


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout in which steps 1 and 2 of the page have been done."""
    root, here = tmp_path / "checkout", paths.root()
    (root / "notebooks").mkdir(parents=True)
    shutil.copytree(here / "data" / "records", root / "data" / "records")
    shutil.copy(here / "data" / "published_tables.csv", root / "data")
    page = (here / "book" / "contributing.md").read_text(encoding="utf-8")
    lines = re.search(r"```yaml\n(.*?)```", page, re.S)[1]
    rows = "".join(line.removeprefix("   ") for line in lines.splitlines(keepends=True))
    (root / "experiments.yaml").write_text((here / "experiments.yaml").read_text(encoding="utf-8") + "\n" + rows)
    text = (here / "notebooks" / "perturbation.ipynb").read_text(encoding="utf-8")
    for old, new in (
        ('\\"perturbation\\"', '\\"pool_size\\"'),
        ("fig-perturbation", "fig-pool-size"),
        ("pt_", "ps_"),
        ('\\"pt\\"', '\\"ps\\"'),
    ):
        assert old in text
        text = text.replace(old, new)
    (root / "notebooks" / "pool_size.ipynb").write_text(text)
    monkeypatch.setenv("DALIB_ROOT", str(root))
    return root


@pytest.mark.slow
def test_a_new_question_is_yaml_and_a_copied_notebook(checkout, runs):
    plan = experiments.expand("pool_size", profile="study")
    assert [row.configs[0].unlabelled_images for row in plan.rows] == [2000, 4000]
    assert main(["run", "pool_size", "--profile", "smoke"]) == 0
    found = records.entries(experiments.expand("pool_size", profile="smoke"))
    assert [(e.row.name, e.status) for e in found] == [("half", "fresh"), ("whole", "fresh")]
    done = nbformat.read(runs / "notebooks" / "smoke" / "pool_size.ipynb", as_version=4)
    shown = "".join(str(o) for c in done.cells if c.cell_type == "code" for o in c.outputs)
    assert "2 of 2 runs are there" in shown
    assert "half the pool" in shown
    assert "10 runs are not recorded yet" in shown  # 2 rows x 5 seeds of the study
