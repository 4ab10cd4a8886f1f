"""The contributor's page is right: its YAML and a copied notebook are a new question, and it
runs."""

import re
import shutil

import nbformat
import pytest
from helpers import fabricated
from helpers.commands import main
from helpers.notebooks import concluded, glued

from dabook.runs import experiments, records
from dabook.show import sentences
from dalib import paths


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout in which steps 1 and 2 of the page have been done."""
    root, here = tmp_path / "checkout", paths.root()
    (root / "notebooks").mkdir(parents=True)
    (root / "data").mkdir()
    shutil.copy(here / "data" / "published_tables.csv", root / "data")
    page = (here / "book" / "contributing.md").read_text(encoding="utf-8")
    lines = re.search(r"```yaml\n(.*?)```", page, re.S)[1]
    rows = "".join(line.removeprefix("   ") for line in lines.splitlines(keepends=True))
    (root / "experiments.yaml").write_text(
        (here / "experiments.yaml").read_text(encoding="utf-8") + "\n" + rows
    )
    text = (here / "notebooks" / "cutmix_regions.ipynb").read_text(encoding="utf-8")
    for old, new in (
        ("cutmix_regions", "learning_rates"),
        ("fig-cutmix-regions", "fig-learning-rates"),
        ('\\"cr\\"', '\\"lr\\"'),
    ):
        assert old in text
        text = text.replace(old, new)
    (root / "notebooks" / "learning_rates.ipynb").write_text(text)
    monkeypatch.setenv("DALIB_ROOT", str(root))
    fabricated.write("main_table", {"labelled_only": [0.3, 0.31, 0.29, 0.3, 0.3]})
    return root


@pytest.mark.slow
def test_a_new_question_is_yaml_and_a_copied_notebook(checkout, runs):
    plan = experiments.expand("learning_rates", profile="study")
    assert [row.configs[0].decoder_lr_factor for row in plan.rows] == [10, 1]
    assert main(["run", "learning_rates", "--profile", "smoke"]) == 0
    found = records.entries(experiments.expand("learning_rates", profile="smoke"))
    assert [(e.row.name, e.status) for e in found] == [("faster", "fresh"), ("alike", "fresh")]
    done = nbformat.read(runs / "notebooks" / "smoke" / "learning_rates.ipynb", as_version=4)
    code = [
        c
        for c in done.cells
        if c.cell_type == "code" and "injected-parameters" not in c.metadata.get("tags", [])
    ]
    assert sum(bool(line.strip()) for c in code for line in c.source.splitlines()) < 60
    shown = {c.id: "".join(str(o) for o in c.outputs) for c in code}
    assert "2 of 2 runs are there" in shown["run"]
    assert "decoder_lr_factor: 1.0" in shown["setup"]
    # the row that the main table has, too, is there
    assert "5 of 10 runs are not recorded yet" in shown["table"]
    assert "image/png" in shown["figure"]
    assert "profile smoke, 1 seed(s)" in shown["beside"]
    assert found[1].config.hash() in shown["records-yours"]
    texts = concluded(done)
    assert texts["answer"] == sentences.UNRECORDED
    assert texts["run"].startswith("2 of 2 runs are there, profile smoke")
    values = glued(done)
    assert values["lr_answer"] == sentences.UNRECORDED
    assert values["lr_alike_diff"] == "nan"
    assert float(values["lr_faster_mean"]) > 0
