"""What a page says, letter by letter, and what it keeps for other pages."""

import ast
import json
import re
from math import nan
from string import Formatter

import nbformat
import pytest
from helpers import fabricated
from IPython.display import Markdown

from dabook.analysis.statistics import recorded
from dabook.show import sentences
from dabook.show.tables import Html
from dabook.site import glue, notebooks
from dalib.errors import ConfigError


@pytest.fixture
def shown(monkeypatch):
    """What is given to `display`: the bundles of the outputs that a cell would have."""
    found = []
    monkeypatch.setattr(glue, "display", lambda data, *, raw: found.append(data))
    return found


def test_numbers_are_printed_as_in_the_book_and_text_letter_by_letter():
    said = glue.say(
        "**{low:+.1f} %** to {high:+.1f} of {n:d}, {none:.2f}: {label}",
        low=-1.25,
        high=0.04,
        n=12,
        none=nan,
        label="a*b <c> [d](e) `f`",
    )
    assert isinstance(said, Markdown)
    assert said.data == r"**−1.2 %** to +0.0 of 12, –: a\*b \<c> \[d](e) \`f\`"


def test_text_without_values_may_hold_anything():
    assert glue.say("{x} of *y*").data == r"{x} of \*y\*"


NOTHING = sentences.UNRECORDED


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{none}", NOTHING),
        ("{twice}", NOTHING),  # as of several rows
        ("{none}\n\n{none}\n\n{twice}", NOTHING),
        ("{none} Few against many: {none}\n\nThe margin: {none}", NOTHING),
        ("{none} {known}\n\nFor longer: {none} {none}", f"{NOTHING} Known."),
        # what leads to it says of which runs, unless all are missing
        ("{known} Few: {none} Many: {none}", f"Known. Few: {NOTHING} Many: {NOTHING}"),
        ("{known} Few: {none} {none}", f"Known. Few: {NOTHING}"),
        ("{known}\n\n{none}\n\n{none} {{}}", f"Known.\n\n{NOTHING} {{}}"),
        ("{n:d}: {none}", f"3: {NOTHING}"),
        # a value that goes on with what is known
        ("{none}\n\n{mixed}", f"{NOTHING}\n\nOne of six."),
        ("{mixed}\n\n{none}\n\n{mixed}", f"{NOTHING} One of six.\n\nOne of six."),
        ("{later} {later}", f"Known. {NOTHING} Two. Known. Two."),
    ],
)
def test_that_runs_are_not_recorded_is_said_once(text, said):
    values = {"none": NOTHING, "twice": f"{NOTHING} {NOTHING}", "known": "Known.", "n": 3}
    values |= {"mixed": f"{NOTHING} One of six.", "later": f"Known. {NOTHING} Two."}
    assert glue.say(text, **values).data == said


SENTENCES = re.compile(r"\{\w+\}(\s([^{}]*\s)?\{\w+\})*")


def texts(path):
    """The texts with names in braces that a notebook says or quotes, where the names stand for
    whole sentences: from the first character to the last, and nothing clings to one."""
    for cell in nbformat.read(path, as_version=4).cells:
        calls = ast.walk(ast.parse(cell.source)) if cell.cell_type == "code" else ()
        for call in calls:
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in ("say", "quote"):
                given = [k.value for k in call.keywords if k.arg == "says"]
                given += call.args[:1] if call.func.id == "say" else []
                found = (g.value for g in given if isinstance(g, ast.Constant))
                yield from (text for text in found if SENTENCES.fullmatch(text))


PAGES = sorted(notebooks.folder().glob("*.ipynb"))
SAID = [(path.stem, text) for path in PAGES for text in texts(path)]


def test_the_pages_of_questions_are_among_those_that_say_something():
    named = {page for page, _ in SAID}
    assert {"metric", "segmentation", "main_table", "pool", "small_large_long"} <= named


@pytest.mark.parametrize(("page", "text"), SAID)
def test_no_page_says_twice_that_its_runs_are_not_recorded(page, text):
    values = {name: NOTHING for _, name, _, _ in Formatter().parse(text) if name}
    assert glue.say(text, **values).data.strip() == NOTHING


def test_what_is_kept_is_one_output_that_jupyter_cannot_show(shown):
    table = Html("<table></table>")
    assert glue.keep(a=-0.5, words="Yes.", table=table) == {
        "a": -0.5,
        "words": "Yes.",
        "table": table,
    }
    (output,) = shown
    assert list(output) == [glue.KEPT]
    kept = json.loads(output[glue.KEPT])
    assert kept["a"] == {"text/plain": "-0.5"}
    assert kept["words"] == {"text/plain": "'Yes.'"}
    assert kept["table"]["text/html"] == "<table></table>"


def test_an_answer_is_said_and_kept_in_the_same_words(shown, tmp_path, monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", str(fabricated.root(tmp_path / "root")))
    fabricated.write("cutmix_regions", {"apart": [0.4, 0.41, 0.39], "together": [0.5, 0.51, 0.49]})
    study = recorded("cutmix_regions")
    said = glue.quote(study, "cr", says="{answer}\n\nBesides: {gap}", gap="By *much*.")
    kept = {k: v["text/plain"].strip("'") for k, v in json.loads(shown[0][glue.KEPT]).items()}
    assert "raises the error by 25.0 %" in kept["cr_answer"]
    assert said.data == kept["cr_answer"] + "\n\nBesides: By \\*much\\*."
    assert kept["cr_gap"] == "By *much*."
    assert float(kept["cr_together_diff"]) == pytest.approx(25, abs=0.1)


def executed(path, *cells):
    """A notebook as papermill leaves it, with the output of one cell kept for others."""
    keeps = {"a": {"text/plain": "1"}, "b": {"text/plain": "'x'", "text/html": "<b>x</b>"}}
    plain = nbformat.v4.new_output("execute_result", {"text/plain": "2"}, execution_count=1)
    first = nbformat.v4.new_code_cell("keep()", id="k")
    first.outputs = [
        nbformat.v4.new_output("display_data", {glue.KEPT: json.dumps(keeps)}),
        plain,
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=[first, *cells]), path)
    return path


def figure(**metadata):
    """A cell that draws, and its caption."""
    drawn = nbformat.v4.new_code_cell("draw()", id="f", metadata=metadata)
    text = notebooks.FIGURE + "What it shows."
    caption = nbformat.v4.new_markdown_cell(text, id="f-caption", metadata={"tags": ["caption"]})
    return drawn, caption


def test_the_book_gets_captions_and_kept_values_where_myst_looks_for_them(tmp_path):
    source = executed(tmp_path / "n.ipynb", *figure(mystnb={"figure": {"name": "fig-x"}}))
    (tmp_path / "stage").mkdir()
    notebooks.stage(source, tmp_path / "stage")
    done = nbformat.read(tmp_path / "stage" / "n.ipynb", as_version=4)
    nbformat.validate(done)
    assert [c.id for c in done.cells] == ["k", "f"]
    assert done.cells[1].metadata.mystnb.figure == {"name": "fig-x", "caption": "What it shows."}
    first, second, plain = done.cells[0].outputs
    assert first.metadata.scrapbook == {"name": "a", "mime_prefix": glue.UNSEEN}
    assert first.data == {glue.UNSEEN + "text/plain": "1"}
    assert second.data[glue.UNSEEN + "text/html"] == "<b>x</b>"
    assert plain.data == {"text/plain": "2"}


def test_a_caption_under_no_figure_is_named(tmp_path):
    source = executed(tmp_path / "n.ipynb", *figure())
    with pytest.raises(ConfigError, match=r"n\.ipynb, cell f-caption: .*the cell above it is no"):
        notebooks.stage(source, tmp_path)


def test_a_page_has_the_answer_first_and_folds_what_does_not_teach(tmp_path):
    def markdown(name, source, *tags):
        return nbformat.v4.new_markdown_cell(source, id=name, metadata={"tags": list(tags)})

    def code(name, *tags):
        return nbformat.v4.new_code_cell("1", id=name, metadata={"tags": list(tags)})

    cells = [
        markdown("title", "# Why?\n\nBecause it matters."),
        code("parameters", "parameters"),
        code("injected", "injected-parameters"),
        markdown("plan", "## The plan"),
        code("teaching", "teaches"),
        markdown("answer-text", "## The answer", "first"),
        code("answer", "first", "hide-input"),
        code("rest"),
    ]
    source = tmp_path / "n.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), source)
    (tmp_path / "stage").mkdir()
    notebooks.stage(source, tmp_path / "stage")
    cells = nbformat.read(tmp_path / "stage" / "n.ipynb", as_version=4).cells
    assert [c.id for c in cells] == [
        *("title", "answer-text", "answer", "title-question"),
        *("parameters", "injected", "plan", "teaching", "rest"),
    ]
    assert cells[0].source == "# Why?"
    assert cells[3].source == "## The question\n\nBecause it matters."
    tags = {c.id: c.metadata.get("tags", []) for c in cells}
    assert {name for name, found in tags.items() if "remove-cell" in found} == {
        "parameters",
        "injected",
    }
    assert {name for name, found in tags.items() if "hide-input" in found} == {"answer", "rest"}
    assert tags["answer"].count("hide-input") == 1
