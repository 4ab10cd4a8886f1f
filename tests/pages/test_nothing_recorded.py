"""A study of which nothing is recorded: every table, figure and sentence says so in words, and shows
no dash, no zero and no verdict in the place of a number."""

import ast
import re
import shutil
from collections.abc import Container

import matplotlib.pyplot as plt
import nbformat
import pytest
from helpers import fabricated

from dabook.analysis import corruption, metric, segmentation, verdicts
from dabook.analysis.statistics import recorded
from dabook.pages import bug_prices, claims, real_images, reruns
from dabook.pages import corruption as corruption_page
from dabook.pages import metric as metric_page
from dabook.pages import segmentation as segmentation_page
from dabook.runs import records, robustness, runner
from dabook.runs.experiments import expand, experiments
from dabook.show import sentences, tables
from dabook.site import glue
from dalib import paths

REPO_NOTEBOOKS = paths.root() / "notebooks"
PAGES = (*experiments(), "claims", "robustness", "real_images", "bugs")
MISLEADING = re.compile(
    r"\b0 (?:are )?(?:not )?(?:reproduced|undecided)|nan %|nan to|– %|– to –|[ (]0\.0 %"
)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A checkout whose study has not begun."""
    root = fabricated.root(tmp_path / "root")
    (root / "data" / "claims.yaml").write_text(paths.claims().read_text())
    (root / "data" / "history.yaml").write_text("[]\n")
    shutil.copytree(paths.benchmarks(), root / "data" / "benchmarks")
    shutil.copytree(paths.root() / "data" / "pools", root / "data" / "pools")
    monkeypatch.setenv("DALIB_ROOT", str(root))
    monkeypatch.setenv("DALIB_RUNS", str(tmp_path / "runs"))
    return root


def test_a_table_is_one_line_that_says_how_to_run_it(empty):
    main = recorded("main_table")
    shown = {
        "main_table": tables.main_table(main),
        "beside": tables.side_by_side(main, main),
        "metric": metric_page.table(metric.recorded()),
        "segmentation": segmentation_page.table(segmentation.recorded()),
        "robustness": corruption_page.table(corruption.Robustness(robustness.entries())),
        "changes": corruption_page.changes(corruption.Robustness(robustness.entries())),
    }
    for name, table in shown.items():
        assert "<table" not in table.text, name
        assert re.search(r"(\d+) of \1 runs are not recorded yet. To run them: ", repr(table)), name


def test_your_run_stands_beside_the_paper_alone(empty):
    fabricated.write("main_table", {"labelled_only": [0.3], "naive": [0.29]}, profile="quick")
    yours = recorded("main_table", profile="quick")
    table = tables.side_by_side(yours, recorded("main_table"))
    assert "your run" in table.text
    assert "the recorded run" not in table.text
    assert "not recorded<" not in table.text
    assert "0.300" in table.text


def test_a_study_that_has_begun_shows_what_there_is(empty):
    fabricated.write("main_table", {"labelled_only": [0.3, 0.31]})
    table = tables.main_table(recorded("main_table")).text
    assert "2 of 10 seeds" in table
    assert "0.305" in table
    assert "48 of 50 runs are not recorded yet" in table
    assert sentences.reading(recorded("main_table")).startswith(
        "So far 0 to 2 of 10 seeds per row are recorded. From the first row to the last, the recipe as "
        "a whole is not yet recorded. Part by part, at equal steps, pseudo labels, strong perturbation "
        "and feature alignment are not yet recorded."
    )


def test_prices_of_bugs_have_no_columns(empty):
    table = bug_prices.table(bug_prices.Bugs(), bug_prices.TRAINED).text
    assert "what goes wrong" in table
    assert "verdict" not in table
    assert "price" not in table
    assert bug_prices.holes(bug_prices.Bugs()) == sentences.UNRECORDED


@pytest.mark.slow
def test_claims_have_no_tally(empty):
    known = verdicts.load()
    results = verdicts.results_of(known)
    judged = verdicts.verdicts(known, results)
    assert re.fullmatch(
        r"The runs that would decide \d+ of the claims are not yet recorded; \d+ more cannot be "
        r"decided here\.",
        claims.tally(judged),
    )
    assert claims.surviving(judged) == ""
    assert claims.sensitivity(known, results) == ""
    assert claims.counted(judged) == "No comparison has been measured yet."


def test_the_readme_has_a_sentence_and_no_table(empty):
    text = tables.readme_table(recorded("main_table"))
    assert text.startswith("The runs of this study are not yet recorded.")
    assert "|" not in text


def test_the_readme_waits_for_a_second_seed(empty):
    fabricated.write("main_table", {"labelled_only": [0.3], "naive": [0.29]})
    assert "are being recorded." in tables.readme_table(recorded("main_table"))
    fabricated.write("main_table", {"labelled_only": [0.3, 0.31]})
    text = tables.readme_table(recorded("main_table"))
    assert "| Labelled images only | 0.305" in text
    assert "\nSo far 0 to 2 of 10 seeds per row are recorded. From the first row" in text


def test_the_readme_is_what_its_command_writes():
    text = (paths.root() / "README.md").read_text(encoding="utf-8")
    between = text.partition("<!-- main-table -->\n")[2].partition("\n<!-- /main-table -->")[0]
    assert between == tables.readme_table(recorded("main_table"))


def test_what_is_told_of_a_change_is_a_whole_sentence(empty):
    assert sentences.quotes(recorded("main_table"), "mt")["mt_naive_told"] == sentences.UNRECORDED
    fabricated.write("main_table", {"labelled_only": [0.3, 0.31], "naive": [0.29, 0.3]})
    told = sentences.quotes(recorded("main_table"), "mt")
    assert told["mt_naive_told"].startswith("Adding pseudo labels lowers the error by ")
    assert told["mt_naive_told"].endswith(".")
    assert "mt_labelled_only_told" not in told


def test_reruns_and_floors(empty):
    main = recorded("main_table")
    assert reruns.table([]).text == ""
    assert reruns.reading([], main) == reruns.NONE
    assert sentences.beside_floors(main) == sentences.UNRECORDED
    assert "Nothing is recorded on real images yet" in real_images.real_table(main).text


def said(value) -> str:
    """What a reader sees of an output."""
    if value is None:
        return ""
    if isinstance(value, plt.Figure):
        assert not any(ax.axison and not ax.has_data() for ax in value.axes), "an empty axis"
        return " ".join(t.get_text() for ax in value.axes for t in ax.texts)
    return value.data if hasattr(value, "data") else repr(value)


@pytest.fixture
def untrained(empty, monkeypatch):
    """An empty study in which nothing can be trained either."""

    def nothing(name, profile, seeds=None, **_):
        return records.entries(expand(name, profile=profile, seeds=seeds))

    monkeypatch.setattr(runner, "run", nothing)
    monkeypatch.setattr("dabook.runs.bugs.run", lambda **_: None)
    monkeypatch.setattr("dabook.runs.networks.ensure", lambda *_: None)
    monkeypatch.setattr(bug_prices, "invalid_share", lambda: 0.25)  # renders for a minute
    monkeypatch.setattr(glue, "display", lambda *_, **__: None)
    return empty


def executed(name: str, ids: Container[str] | None = None) -> list[str]:
    """What the cells of a page say one by one, all that need no network or those of some ids."""
    space = {}
    told = []
    for cell in nbformat.read(REPO_NOTEBOOKS / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type != "code" or "networks.predict" in cell.source or "gallery" in cell.id:
            continue
        if ids is not None and cell.id not in ids:
            continue
        tree = ast.parse(cell.source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, cell.id, "exec"), space)
        if last is not None:
            told.append(said(eval(compile(ast.Expression(last.value), cell.id, "eval"), space)))
    return told


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_no_page_shows_anything_but_words(untrained, name):
    text = "\n".join(executed(name))
    assert "not yet recorded" in text or "not recorded yet" in text
    assert not MISLEADING.search(text), MISLEADING.search(text)[0]


@pytest.mark.parametrize("name", [name for name in experiments() if name != "main_table"])
def test_an_answer_says_once_that_it_waits_where_the_floors_are_recorded(untrained, name):
    paths.floors().parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(fabricated.REPO / "data" / "records" / "floors.json", paths.floors())
    *_, answer = executed(name, ids={"parameters", "setup", "run", "answer"})
    assert answer.count("not yet recorded") == 1, answer
