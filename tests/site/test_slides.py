"""The lectures: what they take from executed notebooks, what they say, and a tiny one that is built."""

import base64
import io
import json
import re
import shutil

import nbformat
import pytest
from helpers.browser import opened
from PIL import Image

from dabook.site import excerpts, lectures, slides
from dabook.site.glue import KEPT
from dalib import paths
from dalib.errors import ConfigError, UserError

ROOT = paths.root()
LECTURES = sorted((ROOT / "course" / "slides").glob("[1-4]*.md"))
NUMBER = re.compile(r"(?<![\w.])\d*\.\d+(?![\w.]*\d)|\b\d+(?:\.\d+)?\s?%")
MOST_WORDS = 75  # of a slide, its title and source among them
"""A slide has few words; this is where it begins to be a page."""


def picture() -> str:
    """A picture of a notebook: 4 by 2 pixels."""
    stream = io.BytesIO()
    Image.new("RGB", (4, 2), "red").save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


@pytest.fixture
def executed(tmp_path):
    """A folder with one executed notebook that keeps values and has a figure."""
    kept = {
        "error": {"text/plain": "np.float64(0.1804)"},
        "less": {"text/plain": "-3.21"},
        "none": {"text/plain": "nan"},
        "said": {"text/plain": "'It is so.'"},
        "piece": {"text/plain": "Html", "text/html": "<b>moves</b>"},
    }
    figure = {"mystnb": {"figure": {"name": "fig-a"}}}
    cells = [
        nbformat.v4.new_code_cell(
            outputs=[nbformat.v4.new_output("display_data", {KEPT: json.dumps(kept)})]
        ),
        nbformat.v4.new_code_cell(
            metadata=figure,
            outputs=[nbformat.v4.new_output("display_data", {"image/png": picture()})],
        ),
        nbformat.v4.new_markdown_cell("**Figure.** A *red* box.", metadata={"tags": ["caption"]}),
    ]
    folder = tmp_path / "executed"
    folder.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "a.ipynb")
    return folder


def test_values_are_printed_as_the_book_prints_them(executed):
    def shown(key, spec):
        return excerpts.value(excerpts.kept(executed / "a.ipynb", key), spec)

    assert shown("error", ".3f") == "0.180"
    assert shown("less", ".1f") == "−3.2"
    assert shown("none", ".3f") == "–"
    assert shown("said", "s") == "It is so."


def test_figures_come_with_their_caption(executed):
    data, caption = excerpts.figure(executed / "a.ipynb", "fig-a")
    assert data["image/png"] == picture()
    assert caption == "A *red* box."


def test_a_plan_has_each_slide_with_its_minute_and_the_beginning_of_its_note():
    text = (
        "# A lecture\n\n:::{revealjs-notes}\nOf the whole.\n:::\n\n## One | two\n\nWords.\n\n"
        ":::{revealjs-notes}\nMinute 7. Let them argue. Then ask who is sure, and of what, and why at "
        "all. Never this.\n:::\n\n## Three\n\n:::{revealjs-notes}\nMay be skipped: exercise 1 has "
        "it.\n:::\n\n## Four\n"
    )
    found = lectures.plan(text)
    assert [(s.title, s.minute, s.may_be_skipped) for s in found] == [
        ("One | two", 7, False),
        ("Three", None, True),
        ("Four", None, False),
    ]
    assert found[0].note == "Let them argue. Then ask who is sure, and of what, and why at all."
    assert found[1].note == "Exercise 1 has it."
    assert lectures.table(found).splitlines()[2:] == [
        f"| 7 | One \\| two | {found[0].note} |",
        "| may be skipped | Three | Exercise 1 has it. |",
        "|  | Four |  |",
    ]


@pytest.mark.parametrize("path", LECTURES, ids=lambda path: path.stem)
def test_a_lecture_can_be_planned(path):
    found = lectures.plan(path.read_text())
    minutes = [slide.minute for slide in found if slide.minute is not None]
    assert minutes == sorted(set(minutes))
    assert minutes[0] == 1
    assert 40 < minutes[-1] <= 45
    assert all(slide.note for slide in found)
    assert sum(slide.may_be_skipped for slide in found) == 3
    index = (path.parent / "index.md").read_text()
    assert f":::{{lecture-plan}} {path.name}\n:::" in index


def test_a_table_on_a_slide_has_few_columns_and_no_links_into_the_site():
    html = (
        '<table><tr><th class="row_heading level0 row0">a</th><td class="data row0 col0">'
        '<a href="../records/x.html">1</a></td><td class="data row0 col1">2</td></tr></table>'
        '<p class="provenance">long</p><a href="https://arxiv.org">out</a>'
    )
    short = excerpts.piece(html, 1)
    assert short.count("<td") == 1
    assert ">1<" in short
    assert "../records" not in short
    assert "long" not in short
    assert "https://arxiv.org" in short
    assert "long" in excerpts.piece(html)
    assert excerpts.piece("<b>as</b> it is") == "<b>as</b> it is"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda e: excerpts.kept(e / "a.ipynb", "x"), "a keeps nothing under x"),
        (lambda e: excerpts.figure(e / "a.ipynb", "fig-x"), "a has no figure fig-x"),
        (lambda e: excerpts.kept(e / "b.ipynb", "x"), "b has not been executed: run `make book`"),
    ],
)
def test_what_is_missing_is_named(executed, call, says):
    with pytest.raises(excerpts.MissingError, match=says):
        call(executed)


def test_slides_without_an_executed_book_say_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    with pytest.raises(ConfigError, match="no lectures here"):
        slides.slides()
    (tmp_path / "course" / "slides").mkdir(parents=True)
    (tmp_path / "course" / "slides" / "conf.py").write_text("")
    with pytest.raises(ConfigError, match="run `make book` first"):
        slides.slides()


# what the lectures say


def parts(lecture) -> list[str]:
    """The slides of a lecture, the title's first."""
    text = re.sub(r"^---\n.*?\n---\n", "", lecture.read_text(encoding="utf-8"), flags=re.S)
    return re.split(r"^(?=#{1,2} )", text, flags=re.M)[1:]


def notes(slide: str) -> str:
    """What the speaker sees."""
    found = re.findall(r":::\{revealjs-notes\}\n(.*?)\n:::", slide, flags=re.S)
    assert len(found) == 1, slide[:40]
    return found[0]


def test_there_are_four_lectures():
    assert [path.stem[:2] for path in LECTURES] == ["1_", "2_", "3_", "4_"]
    listed = (ROOT / "course" / "slides" / "index.md").read_text(encoding="utf-8")
    assert re.findall(r"\((\d_\w+)\.md\)", listed) == [path.stem for path in LECTURES]


@pytest.mark.parametrize("lecture", LECTURES, ids=lambda p: p.stem)
def test_a_lecture_has_few_slides_with_few_words_and_notes(lecture):
    found = parts(lecture)
    assert 25 <= len(found) <= 35
    for slide in found:
        said = notes(slide).split()
        assert 10 <= len(said) <= 110, slide[:40]
        shown = re.sub(r":::\{revealjs-notes\}.*?\n:::", "", slide, flags=re.S)
        shown = re.sub(
            r"\$\$.*?\$\$|```.*?```|\$[^$]*\$|^:.*$|\]\([^)]*\)", "", shown, flags=re.S | re.M
        )
        shown = re.sub(r"\{glue:text\}`[^`]*`", "", shown)
        assert len(re.findall(r"[^\W\d_]{2,}", shown)) <= MOST_WORDS, slide[:40]


@pytest.mark.parametrize("lecture", LECTURES, ids=lambda p: p.stem)
def test_no_number_of_a_lecture_is_typed(lecture):
    for slide in parts(lecture):
        for paragraph in re.split(r"\n\s*\n", slide):
            bare = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)", "", paragraph, flags=re.S)
            cited = "](https://" in paragraph
            assert cited or not NUMBER.findall(bare), paragraph


@pytest.mark.parametrize("lecture", LECTURES, ids=lambda p: p.stem)
def test_what_a_lecture_shows_is_in_the_book(lecture):
    text = lecture.read_text(encoding="utf-8")
    for name in re.findall(r"\{svg-figure\} (\S+)", text):
        assert (lecture.parent / name).is_file(), name
    for name, notebook in re.findall(r"\{notebook-figure\} (\S+)\n:doc: (\S+)", text):
        cells = nbformat.read(lecture.parent / notebook, as_version=4).cells
        names = [c.metadata.get("mystnb", {}).get("figure", {}).get("name") for c in cells]
        assert name in names, f"{notebook} has no figure {name}"
    for notebook in re.findall(r"`(\S+\.ipynb)::", text) + re.findall(r":doc: (\S+)", text):
        assert (lecture.parent / notebook).is_file(), notebook
    assert text.count("{glue:text}`") == len(
        re.findall(r"\{glue:text\}`\S+\.ipynb::\w+:[^`]+`", text)
    )


# a tiny lecture


TINY = """---
orphan: true
---

# A lecture

## How large?

{glue:text}`../a.ipynb::error:.3f` and $x^2$

:::{notebook-figure} fig-a
:doc: ../a.ipynb
:::

:::{glue} piece
:doc: ../a.ipynb
:::

:::{revealjs-notes}
Ask first.
:::
"""


@pytest.fixture
def tiny_lecture(tmp_path):
    """A folder like `course/slides`, with one lecture."""
    pytest.importorskip("sphinx_revealjs")
    source = tmp_path / "checkout" / "course" / "slides"
    shutil.copytree(ROOT / "course" / "slides", source, ignore=shutil.ignore_patterns("*.md"))
    static = tmp_path / "checkout" / "book" / "_static"
    (static / "mathjax").mkdir(parents=True)
    for name in ("dalib.css", "favicon.svg"):
        shutil.copy2(ROOT / "book" / "_static" / name, static / name)
    (static / "mathjax" / "tex-svg.js").write_text("// none")
    (source / "index.md").write_text("# Lectures\n\n[one](1_one.md)\n")
    (source / "1_one.md").write_text(TINY)
    return source


@pytest.mark.slow
def test_a_tiny_lecture_is_built_and_loads_nothing_from_elsewhere(tmp_path, tiny_lecture, executed):
    out = tmp_path / "out"
    slides.build(tiny_lecture, out, executed, log=tmp_path / "log")
    text = (out / "1_one.html").read_text(encoding="utf-8")
    assert "0.180" in text
    assert "<b>moves</b>" in text
    assert '<aside class="notes">Ask first.</aside>' in text
    assert 'alt="A red box."' in text
    assert "--ratio: 2.0000" in text
    loaded = re.findall(r'(?:src|rel="stylesheet" href)="([^"]+)"', text)
    assert loaded
    assert all((out / name.partition("?")[0]).is_file() for name in loaded), loaded
    kept = {p.relative_to(out).as_posix() for p in (out / "_static" / "revealjs").rglob("*.*")}
    assert kept == {f"_static/revealjs/{name}" for name in slides.KEPT}
    index = (out / "index.html").read_text(encoding="utf-8")
    assert 'href="1_one.html"' in index
    assert "reveal.js" not in index


THREE = """---
orphan: true
---

# A lecture

## A figure

```{raw} html
<div class="kept"><input type="range" min="0" max="100" value="50"></div>
```

## The end

Last.
"""


@pytest.fixture
def lecture(tmp_path, tiny_lecture, executed):
    """A lecture of three slides in a tab, with a slider on the second, on which it stands."""
    (tiny_lecture / "1_one.md").write_text(THREE)
    out = tmp_path / "out"
    slides.build(tiny_lecture, out, executed, log=tmp_path / "log")
    with opened(out / "1_one.html") as (tab, trouble):
        tab.wait_for_function("window.Reveal && Reveal.isReady()")
        tab.evaluate("Reveal.slide(1)")
        yield tab
        assert trouble == []


def stands(tab) -> list:
    """The number of the slide, and the value of the slider."""
    return tab.evaluate("[Reveal.getIndices().h, document.querySelector('input').value]")


@pytest.mark.slow
def test_a_key_that_the_speakers_window_passes_on_turns_the_page(lecture):
    """reveal.js calls its listener with an object that has a key code and no target."""
    lecture.evaluate("Reveal.triggerKey(39)")
    assert stands(lecture) == [2, "50"]
    lecture.evaluate("Reveal.triggerKey(33)")  # PageUp
    assert stands(lecture) == [1, "50"]
    lecture.locator("input").focus()  # a slider that the lecturer has just used
    lecture.evaluate("Reveal.triggerKey(34)")
    assert stands(lecture) == [2, "50"]


@pytest.mark.slow
def test_a_slider_keeps_the_arrows_and_a_presenter_turns_the_page(lecture):
    slider = lecture.locator("input")
    slider.focus()
    lecture.keyboard.press("ArrowRight")
    assert stands(lecture) == [1, "51"]
    lecture.keyboard.press("PageDown")
    assert stands(lecture) == [2, "51"]
    lecture.keyboard.press("PageUp")
    assert stands(lecture) == [1, "51"]
    slider.focus()
    lecture.keyboard.press("PageUp")
    assert stands(lecture) == [0, "51"]
    lecture.keyboard.press("ArrowRight")  # the figure was left
    assert stands(lecture) == [1, "51"]


@pytest.mark.slow
def test_a_lecture_is_printed_a_slide_a_page_with_figures_that_fit(lecture):
    lecture.goto(f"{lecture.url.partition('#')[0]}?print-pdf")
    lecture.wait_for_function("document.querySelector('.kept[data-fits]')")
    assert lecture.locator(".pdf-page").count() == 3


@pytest.mark.slow
def test_a_lecture_that_takes_what_is_not_there_leaves_the_last_one(
    tmp_path, tiny_lecture, executed
):
    out = tmp_path / "out"
    out.mkdir()
    (out / "index.html").write_text("before")
    (tiny_lecture / "1_one.md").write_text(TINY.replace("::error:", "::eror:"))
    with pytest.raises(UserError, match="a keeps nothing under eror"):
        slides.build(tiny_lecture, out, executed, log=tmp_path / "log")
    assert (out / "index.html").read_text() == "before"
