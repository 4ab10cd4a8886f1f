"""Questions with checked answers, exercises with their facts, and the source of an equation, on a site
of one page."""

import importlib.util
import inspect

import pytest
import torch

if importlib.util.find_spec("sphinx_exercise") is None:
    pytest.skip("the book's packages are not installed", allow_module_level=True)

from bs4 import BeautifulSoup
from helpers.browser import opened
from sphinx.application import Sphinx

from dabook.site import source
from dabook.site.words import WORDS
from dalib import losses, paths

PAGE = """# A page

::::{exercise} A film
:label: ex-film
:class: grade-1 minutes-3

:::{quiz} film
What is the loss of $2 d + 3$?

- [x] 0, for `d`
  The median takes the *shift*.
- [ ] 3
  A loss that compares values.
:::
::::

::::{solution} ex-film
:class: dropdown
Zero.
::::

:::{quiz} several
Which are known?

- [x] shape
  Yes.
- [x] order
  Yes.
- [ ] size
  No.
:::

:::{quiz} half
How much is it?

- [=] 0.5 ± 0.01 m
  Half of it.
:::

:::{source} dalib.losses.total
:::

:::{source} dalib.losses.normalise
:lines: 2-3
:::

:::{exercise-index}
:::
"""


def build(folder, text):
    """The page as a tree, and what the build warned about."""
    (folder / "index.md").write_text(text, encoding="utf-8")
    warnings = []

    class Log:
        def write(self, line):
            warnings.append(line)

        def flush(self):
            pass

    settings = {
        "extensions": [
            "myst_parser",
            "dabook.site.quiz",
            "dabook.site.source",
            "dabook.site.words",
            "dabook.site.exercises",
        ],
        "myst_enable_extensions": ["colon_fence", "dollarmath"],
        "numfig": True,
        "html_theme": "basic",
        "html_static_path": [str(paths.root() / "book" / "_static")],
        "mathjax_path": "quiz.js",
    }
    app = Sphinx(
        folder, None, folder / "out", folder / "trees", "html", settings, status=None, warning=Log()
    )
    app.build()
    html = (folder / "out" / "index.html").read_text(encoding="utf-8")
    return BeautifulSoup(html, "html.parser"), "".join(warnings)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    found, warnings = build(folder, PAGE)
    told = [line for line in warnings.splitlines() if "WARNING" in line]
    # what another site of this process has registered
    assert [line for line in told if "already registered" not in line] == []
    return found, folder / "out" / "index.html"


@pytest.fixture(scope="module")
def page(site):
    return site[0]


def quiz(page, name):
    return page.find(id=f"quiz-{name}")


def words_of(tag):
    return " ".join(tag.get_text().split())


def test_a_question_has_its_choices_and_reasons(page):
    found = quiz(page, "film")
    assert found["data-kind"] == "one"
    assert found["data-wrong"] == WORDS["wrong"]
    choices = found.select(".quiz-choice")
    assert [choice.has_attr("data-right") for choice in choices] == [True, False]
    assert [words_of(choice.label) for choice in choices] == ["0, for d", "3"]
    reasons = [words_of(choice.select_one(".quiz-why")) for choice in choices]
    assert reasons == ["The median takes the shift.", "A loss that compares values."]
    assert choices[0].label.code
    assert choices[0].select_one(".quiz-why em")
    assert {i["type"] for i in found.find_all("input")} == {"radio"}
    assert found["aria-labelledby"] == found.select_one(".quiz-question")["id"]


def test_without_a_script_the_answer_is_behind_a_line(page):
    found = quiz(page, "film")
    live = found.select(".quiz-live")
    assert len(live) == 3
    assert all(part.has_attr("hidden") for part in live)
    answer = found.details
    assert not answer.has_attr("open")
    assert "0, for d" in words_of(answer)
    assert "compares values" not in words_of(answer)


def test_several_right_choices_are_ticked(page):
    found = quiz(page, "several")
    assert found["data-kind"] == "some"
    assert {i["type"] for i in found.find_all("input")} == {"checkbox"}


def test_a_number_has_a_tolerance_and_a_unit(page):
    (choice,) = quiz(page, "half").select(".quiz-choice")
    assert (choice["data-value"], choice["data-within"]) == ("0.5", "0.01")
    assert words_of(choice.label) == f"{WORDS['yours']} m"


def test_an_exercise_says_its_grade_and_time(page):
    (facts,) = page.select("p.exercise-facts")
    assert words_of(facts) == WORDS["facts"].format(grade=1, minutes=3)
    (row,) = page.select("table.exercises tbody tr")
    assert [words_of(cell) for cell in row.find_all("td")] == ["A film", "A page", "1", "3"]
    assert row.a["href"] == "#ex-film"


def test_ids_are_unique(page):
    ids = [tag["id"] for tag in page.find_all(id=True)]
    assert len(ids) == len(set(ids))


def test_the_source_of_a_function_is_shown_without_its_docstring(page):
    shown = [block.get_text().strip() for block in page.select("div.library-source div.highlight")]
    assert "return sum(weights[name] * value for name, value in parts.items())" in shown[0]
    assert '"""' not in shown[0]
    assert shown[1].splitlines()[0] == "d = d.float().masked_fill(~valid, 0)"


def test_the_source_that_is_shown_computes_the_same():
    code = source.undocumented(inspect.getsource(losses.total))
    scope = {}
    exec(code, {"Float": losses.Float, "Tensor": losses.Tensor}, scope)
    parts = {"a": torch.tensor(1.0), "b": torch.tensor(3.0)}
    assert scope["total"](parts, {"b": 3.0}) == losses.total(parts, {"b": 3.0}) == 2.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (":::{quiz} a\nWhat?\n:::", "ends without a list of choices"),
        (":::{quiz} a\nWhat?\n\n- [x] yes\n  Why.\n:::", "needs two choices or more"),
        (":::{quiz} a\nWhat?\n\n- [ ] a\n  Why.\n- [ ] b\n  Why.\n:::", "one of them marked"),
        (":::{quiz} a\nWhat?\n\n- [x] a\n  Why.\n- b\n:::", "does not begin with"),
        (":::{quiz} a\nWhat?\n\n- [x] a\n- [ ] b\n  Why.\n:::", "a choice without a reason"),
        (":::{quiz} a\nWhat?\n\n- [=] many\n  Why.\n:::", "no number with its tolerance"),
        (":::{quiz} a\nWhat?\n\n- [=] 1 ± 0\n  W.\n- [x] b\n  W.\n:::", "asks for a number and"),
        (":::{exercise} A\n:label: ex-a\nText.\n:::", "give it the classes grade-1"),
        (":::{source} dalib.losses.nothing\n:::", "nothing that can be imported"),
        (":::{source} dalib.losses.total\n:lines: 90-99\n:::", "lines 90-99 of"),
    ],
)
def test_what_is_wrong_is_said(text, said, tmp_path):
    _, warnings = build(tmp_path, f"# A page\n\n{text}\n")
    assert said in warnings


# in a browser


@pytest.fixture
def tab(site):
    with opened(site[1]) as (tab, trouble):
        yield tab
    assert not trouble


def verdict(tab, name):
    return tab.locator(f"#quiz-{name} [role=status]").inner_text()


@pytest.mark.slow
def test_choices_are_checked_by_mouse(tab):
    box = tab.locator("#quiz-film")
    box.get_by_role("button").click()
    assert verdict(tab, "film") == WORDS["none"]
    box.get_by_label("3").check()
    box.get_by_role("button").click()
    assert verdict(tab, "film") == WORDS["wrong"]
    assert box.locator(".quiz-why:visible").all_inner_texts() == ["A loss that compares values."]
    box.get_by_label("0, for").check()
    assert verdict(tab, "film") == ""
    assert box.locator(".quiz-why:visible").count() == 0
    box.get_by_role("button").click()
    assert verdict(tab, "film") == WORDS["right"]
    assert box.locator(".quiz-why:visible").all_inner_texts() == ["The median takes the shift."]


@pytest.mark.slow
def test_choices_are_checked_by_keyboard(tab):
    tab.locator("#quiz-film input").first.focus()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    assert verdict(tab, "film") == WORDS["wrong"]
    tab.keyboard.press("ArrowUp")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.tagName") == "BUTTON"
    tab.keyboard.press("Enter")
    assert verdict(tab, "film") == WORDS["right"]


@pytest.mark.slow
def test_several_answers_are_all_needed_and_no_other(tab):
    box = tab.locator("#quiz-several")
    box.get_by_label("shape").check()
    box.get_by_role("button").click()
    assert verdict(tab, "several") == WORDS["partly"]
    box.get_by_label("order").check()
    box.get_by_role("button").click()
    assert verdict(tab, "several") == WORDS["right"]
    box.get_by_label("size").check()
    box.get_by_role("button").click()
    assert verdict(tab, "several") == WORDS["wrong"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "word"),
    [
        *(("0.5", "right"), ("0,505", "right"), (".51", "right"), (" 0.49 ", "right")),
        *(("0.52", "wrong"), ("-0.5", "wrong"), ("half", "nan"), ("", "nan"), ("0.5.1", "nan")),
    ],
)
def test_a_number_is_read_as_people_write_it(tab, typed, word):
    tab.locator("#quiz-half input").fill(typed)
    tab.locator("#quiz-half input").press("Enter")
    assert verdict(tab, "half") == WORDS[word]


@pytest.mark.slow
def test_without_a_script_the_answer_can_be_opened(site):
    with opened(site[1], java_script_enabled=False) as (tab, _):
        box = tab.locator("#quiz-film")
        assert box.get_by_role("button").count() == 0
        assert not box.get_by_text("The median takes").last.is_visible()
        box.locator("summary").click()
        assert box.get_by_text("The median takes").last.is_visible()
