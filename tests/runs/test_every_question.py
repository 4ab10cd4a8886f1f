"""Every question of experiments.yaml from its rows to its page, in the profile `smoke`: what CI
runs of the whole study."""

import json
import re

import nbformat
import pytest
from helpers.commands import main
from helpers.notebooks import concluded, glued

from dabook.analysis.statistics import recorded
from dabook.runs import records
from dabook.runs.experiments import expand, experiments
from dabook.site.kernels import forked
from dalib import paths

# that one is run by test_smoke
QUESTIONS = [name for name in experiments() if name != "main_table"]
# one to four steps take no token below a margin
ALIKE = {"margin_015", "margin_070", "margin_085", "labelled", "both", "full_third"}


@pytest.fixture(scope="module")
def local(smoke_runs):
    """The place of this module's runs; no real images but the one in the wheel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DALIB_RUNS", str(smoke_runs))
        patch.setenv("DALIB_REALDEPTH", "none")
        yield smoke_runs


@pytest.fixture(autouse=True, scope="module")
def many():
    """Each notebook in a kernel that need not import anything."""
    with forked():
        yield


@pytest.fixture(autouse=True)
def runs(local):
    """Here all tests share one folder."""
    return local


def absent(name: str) -> list[str]:
    """The public pools that a question reads and that are not on this machine."""
    asked = {
        source
        for row in expand(name, profile="smoke").rows
        for sources in row.configs[0].sources.values()
        for source in sources
    }
    pools = {s.removeprefix("pool:").partition("?")[0] for s in asked if s.startswith("pool:")}
    return sorted(pool for pool in pools if not (paths.pool(pool) / "manifest.csv").is_file())


@pytest.mark.slow
@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_runs_and_its_page_is_whole(name, local):
    if missing := absent(name):
        pytest.skip(f"the pool is not here: python -m dalib fetch {' '.join(missing)}")
    assert main(["run", name, "--profile", "smoke"]) == 0
    found = records.entries(expand(name, profile="smoke"))
    assert {e.status for e in found} == {"fresh"}
    scores = [json.dumps(e.record["images"]) for e in found if e.row.name not in ALIKE]
    assert len(set(scores)) == len(scores), (
        "a setting that changes nothing: two rows are one network"
    )
    page = nbformat.read(local / "notebooks" / "smoke" / f"{name}.ipynb", as_version=4)
    outputs = {c.id: json.dumps(c.outputs) for c in page.cells if c.cell_type == "code"}
    assert f"{len(found)} of {len(found)} runs are there" in outputs["run"]
    assert "image/png" in outputs["figure"]
    for entry in found:
        assert f"{entry.config.hash()}.html" in outputs["records-yours"]
    texts = concluded(page)
    assert texts["run"].startswith(f"{len(found)} of {len(found)} runs are there")
    headline = next(text for key, text in glued(page).items() if key.endswith("_headline"))
    assert texts["answer"].startswith(headline.removesuffix("."))
    study = recorded(name)
    if any(study.change(row).count for row in study.against):
        assert re.search(r"\d", texts["answer"])
    else:
        assert texts["answer"].count("not yet recorded") == 1
    for text in texts.values():
        assert text.endswith(".")
        assert not re.search(r"\bnan\b|[{}]", text)
