"""The notebooks as they are committed: titled, stripped, short, and with parameters that explain
themselves."""

import ast
import itertools
import re

import nbformat
import pytest
from helpers.notebooks import RAW

from dabook.runs.experiments import expand, experiments
from dabook.site import notebooks

ALL = sorted(notebooks.folder().glob("*.ipynb"))
ABLATIONS = [p for p in ALL if p.stem in experiments()]
NAMES = {"profile": str, "seeds": int, "processes": int}
TRAIN = {"train": bool}  # of an ablation that the book shows without training it
YOURS = {
    "utilisation": float,
    "read": float,
    "steps": int,
    "photos": str,
    "weights": str,
    "short_side": int,
    "scale": str,
    "score": bool,
}  # of the pages that take a file of the reader's, and of those that train nothing


def read(path):
    return nbformat.read(path, as_version=4)


def code(notebook) -> list:
    return [c for c in notebook.cells if c.cell_type == "code"]


def test_every_experiment_has_its_notebook():
    assert {p.stem for p in ABLATIONS} == set(experiments())


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
class TestEvery:
    def test_valid_and_in_the_current_format(self, path):
        notebook = read(path)
        nbformat.validate(notebook)
        assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
        assert notebook.metadata.kernelspec.name == "python3"

    def test_begins_with_its_only_title(self, path):
        cells = read(path).cells
        assert cells[0].cell_type == "markdown"
        assert re.match(r"# \S", cells[0].source)
        levels = [
            len(m)
            for c in cells
            if c.cell_type == "markdown"
            for m in re.findall(r"^(#+) ", c.source, re.M)
        ]
        assert levels.count(1) == 1
        assert all(b - a <= 1 for a, b in itertools.pairwise(levels))

    def test_is_stripped(self, path):
        for cell in code(read(path)):
            assert cell.outputs == []
            assert cell.execution_count is None

    def test_cell_ids_are_words_and_unique(self, path):
        ids = [c.id for c in read(path).cells]
        assert len(set(ids)) == len(ids)
        assert all(re.fullmatch(r"[a-z][a-z0-9-]*", i) for i in ids)

    def test_cells_are_short_and_hold_no_training_loop(self, path):
        for cell in code(read(path)):
            assert len(cell.source.splitlines()) <= 15, cell.id
            assert max(len(line) for line in cell.source.splitlines()) <= 100, cell.id
            assert "optimizer" not in cell.source
            ast.parse(cell.source)

    def test_figures_have_captions_that_jupyterlab_shows(self, path):
        cells = read(path).cells
        figures = [c for c in cells if "figure" in c.metadata.get("mystnb", {})]
        names = [c.metadata["mystnb"]["figure"]["name"] for c in figures]
        assert len(set(names)) == len(names)
        assert [c for c in cells if notebooks.CAPTION in c.metadata.get("tags", ())] == [
            below for above, below in itertools.pairwise(cells) if above in figures
        ]
        for caption in (c for c in cells if notebooks.CAPTION in c.metadata.get("tags", ())):
            assert caption.cell_type == "markdown"
            assert caption.source.startswith(notebooks.FIGURE)
            assert caption.source.endswith(".")

    def test_nothing_in_it_is_shown_raw(self, path):
        for cell in read(path).cells:
            if cell.cell_type == "markdown":
                assert not RAW.search(cell.source), cell.id

    def test_its_links_lead_to_files(self, path):
        text = "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
        for target in re.findall(r"\]\(([^)]+)\)", text):
            if not target.startswith("https://"):
                assert (path.parent / target.partition("#")[0]).is_file(), target

    def test_it_says_something(self, path):
        whole = "\n".join(c.source for c in code(read(path)))
        assert re.search(r"\b(say|quote)\(", whole)


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_parameters_are_known_and_commented(path):
    cells = [c for c in code(read(path)) if "parameters" in c.metadata.get("tags", [])]
    assert len(cells) == (1 if path in ABLATIONS or notebooks.parameters(path) else 0)
    for cell in cells:
        for line in cell.source.splitlines():
            assert re.fullmatch(r"\w+ = \S+  # \S.*", line), line
    assert notebooks.parameters(path).items() <= (NAMES | TRAIN | YOURS).items()


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda p: p.stem)
def test_an_ablation_is_parameterised_and_short(path):
    trained = expand(path.stem, profile="quick").trained_in_book
    assert notebooks.parameters(path) in ([NAMES, NAMES | TRAIN] if trained else [NAMES | TRAIN])
    assert sum(bool(line.strip()) for c in code(read(path)) for line in c.source.splitlines()) < 60
    assert sum("run(" in c.source for c in code(read(path))) == 1


@pytest.mark.parametrize(
    "path", [p for p in ABLATIONS if p.stem != "main_table"], ids=lambda p: p.stem
)
def test_the_page_of_a_question_asks_for_itself_and_answers_first(path):
    cells = read(path).cells
    whole = "\n".join(c.source for c in code(read(path)))
    assert re.findall(r'(?:expand|run|recorded)\(\s*"(\w+)"', whole) == [path.stem] * 3
    ids = [c.id for c in cells]
    order = [
        "title",
        "parameters",
        "plan",
        "setup",
        "run",
        "answer-text",
        "answer",
        "figure",
        "figure-caption",
        "table",
        "limits",
    ]
    assert [i for i in ids if i in order] == order
    assert [c.id for c in cells if "first" in c.metadata.get("tags", ())] == order[5:10]
    assert ids[-4:] == ["beside", "records-text", "records", "records-yours"]
    assert cells[ids.index("answer-text")].source == "## The answer"
    answer = cells[ids.index("answer")].source
    assert re.search(r'^quote\(\s*study,\s*"\w+"', answer, re.M)
    says = re.search(r'says=((?:\s*"[^"]*")+)', answer)
    assert says is None or says[1].startswith('"{answer}')
    rows = [row.name for row in expand(path.stem, profile="study").rows]
    drawn = set(re.findall(r'"(\w+)"', cells[ids.index("figure")].source)) & set(rows)
    against = expand(path.stem, profile="study").against
    if "sweeps.grouped" in whole:
        assert drawn == set(rows[1:] if isinstance(against, str) else against), (
            "a comparison is not drawn"
        )


def test_prefixes_are_unique_over_the_book():
    found = [
        m
        for p in ABLATIONS
        for m in re.findall(
            r'(?:quote|quotes)\(\s*\w+,\s*"(\w+)"', "\n".join(c.source for c in code(read(p)))
        )
    ]
    assert len(found) == len(ABLATIONS) == len(set(found))


def test_figure_names_are_unique_over_the_book():
    names = [
        c.metadata["mystnb"]["figure"]["name"]
        for p in ALL
        for c in code(read(p))
        if "mystnb" in c.metadata
    ]
    assert len(set(names)) == len(names)
