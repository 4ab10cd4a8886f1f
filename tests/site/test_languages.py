"""Editions in other languages: what is translated is shown, what is not is said, numbers and code stay."""

import importlib.util
from io import StringIO
from types import SimpleNamespace

import pytest
import yaml

if importlib.util.find_spec("sphinx_exercise") is None:
    pytest.skip("the book's packages are not installed", allow_module_level=True)

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from bs4 import BeautifulSoup
from sphinx.application import Sphinx

from dabook.site import languages
from dabook.site.words import WORDS
from dalib.errors import ConfigError

PAGE = """# A page

A paragraph with {math}`x` and `code`.

Another one.

:::{quiz} film
What is it?

- [x] 0
  Because.
- [ ] 3
  Not so.
:::
"""
KOREAN = {
    "A page": "쪽",
    "A paragraph with {math}`x` and `code`.": "{math}`x`와 `code`가 있는 문단.",
    "What is it?": "무엇인가?",
    "[x] 0": "[x] 영",
    "Because.": "왜냐하면.",
    "[ ] 3": "[ ] 삼",
    "Not so.": "아니다.",
}
CONTENTS = {
    "root": "book/intro",
    "parts": [
        {"caption": "Before you start", "chapters": [{"file": "notebooks/data"}]},
        {"caption": "From pixels to the paper", "chapters": [{"file": "book/a"}]},
        {"caption": "Learn and teach", "chapters": [{"file": "book/course"}]},
        {"caption": "Use it", "chapters": [{"file": "book/use_it"}]},
    ],
}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with a Korean catalogue of one page."""
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(CONTENTS))
    folder = tmp_path / "book" / "locale" / "ko"
    (folder / "LC_MESSAGES" / "book").mkdir(parents=True)
    said = {"check": "확인", "progress": "{total} 중 {missing}"}
    (folder / "words.yaml").write_text(yaml.safe_dump(said, allow_unicode=True))
    (tmp_path / "book" / "locale" / "fr").mkdir()
    catalogue = Catalog(locale="ko")
    for text, translated in KOREAN.items():
        catalogue.add(text, translated)
    with (folder / "LC_MESSAGES" / "book" / "a.mo").open("wb") as stream:
        write_mo(stream, catalogue)
    (tmp_path / "book" / "a.md").write_text(PAGE, encoding="utf-8")
    (tmp_path / "index.md").write_text("# Index\n\n```{toctree}\nbook/a\n```\n")
    return tmp_path


def built(root, language):
    """The page of an edition."""
    settings = {
        "extensions": [
            "myst_parser",
            "dabook.site.quiz",
            "dabook.site.words",
            "dabook.site.languages",
        ],
        "myst_enable_extensions": ["colon_fence"],
        "html_theme": "basic",
        "locale_dirs": ["book/locale"],
        "gettext_compact": False,
        "language": language,
        "mathjax_path": "none.js",
        "exclude_patterns": ["out*", "trees*"],
    }
    if language != languages.FIRST:
        settings["site_words"] = languages.words(language)
    out = root / f"out-{language}"
    app = Sphinx(
        root,
        None,
        out,
        root / f"trees-{language}",
        "html",
        settings,
        status=None,
        warning=StringIO(),
    )
    app.build()
    html = (out / "book" / "a.html").read_text(encoding="utf-8")
    return BeautifulSoup(html, "html.parser")


def words_of(tag):
    return " ".join(tag.get_text().split())


def test_what_is_translated_is_shown_and_what_is_not_is_counted(checkout):
    page = built(checkout, "ko")
    text = words_of(page)
    assert "가 있는 문단" in text
    assert page.select_one("code").get_text() == "code"
    assert "Another one." in text
    assert "A paragraph" not in text
    (note,) = page.select("p.translation-progress")
    assert words_of(note) == "8 중 1"


def test_a_question_is_translated_and_still_knows_what_is_right(checkout):
    page = built(checkout, "ko")
    assert page.select_one(".quiz-controls button").get_text() == "확인"
    choices = page.select(".quiz-choice")
    assert [words_of(c.label) for c in choices] == ["영", "삼"]
    assert [c.has_attr("data-right") for c in choices] == [True, False]
    assert words_of(choices[0].select_one(".quiz-why")) == "왜냐하면."


def test_the_first_edition_is_as_it_was_written(checkout):
    page = built(checkout, "en")
    assert page.select_one(".quiz-controls button").get_text() == WORDS["check"]
    assert not page.select("p.translation-progress")
    assert "Another one." in words_of(page)


def test_an_edition_is_a_folder_with_words(checkout):
    assert languages.editions() == ["ko"]
    assert languages.chapters() == ["book/intro", "book/a", "book/course"]


def test_settings_of_an_edition(checkout):
    text = yaml.safe_dump({"title": "T", "sphinx": {"config": {"language": "en", "numfig": True}}})
    found = yaml.safe_load(languages.settings(text, "ko"))["sphinx"]["config"]
    assert found["language"] == "ko"
    assert found["site_words"]["check"] == "확인"
    assert found["numfig"]


@pytest.mark.parametrize(
    ("language", "page", "leads"),
    [
        ("en", "book/a", "../ko/book/a.html"),
        ("ko", "notebooks/b", "../../notebooks/b.html"),
        ("en", "search", None),
    ],
)
def test_a_page_leads_to_its_twin(checkout, language, page, leads):
    context = {}
    app = SimpleNamespace(config=SimpleNamespace(language=language))
    languages.switch(app, page, "", context, None)
    assert [e["href"] for e in context["editions"]] == ([leads] if leads else [])


def test_records_lie_beside_the_first_edition(tmp_path):
    (tmp_path / "notebooks").mkdir()
    page = tmp_path / "notebooks" / "a.html"
    page.write_text('<a href="../records/x/y.html">1</a> <a href="../book/z.html">2</a>')
    app = SimpleNamespace(config=SimpleNamespace(language="ko"), outdir=tmp_path)
    languages.lead_to_records(app, None)
    assert page.read_text() == (
        '<a href="../../records/x/y.html">1</a> <a href="../book/z.html">2</a>'
    )


def test_an_unknown_language_is_refused(checkout):
    with pytest.raises(ConfigError, match="language"):
        list(languages.update("xx", checkout))
