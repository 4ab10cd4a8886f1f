"""Questions with checked answers, in the page: no kernel, no network, by keyboard as by mouse.

A quiz is a directive whose body is the question, and at its end a list of the choices. `[x]` marks
what is right, `[ ]` what is not; several `[x]` make a question with several answers; a single `[=]`
asks for a number. What stands under a choice is said when it is chosen:

    :::{quiz} shift
    What does the loss give for the map 2 d* + 3?

    - [x] 0
      The median takes the shift with it, the mean absolute deviation the scale.
    - [ ] 3
      That would be a loss that compares values.
    :::

    :::{quiz} half
    What is AbsRel if every depth is predicted half as large as it is?

    - [=] 0.5 ± 0.01
      |t / 2 - t| / t = 1/2.
    :::

Without a script the choices are a list, and the answer is behind a line that opens. Choices become
what they are after translation, so that the marks stand in the catalogues of an edition, too.
"""

import re
from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_id
from sphinx.writers.html5 import HTML5Translator

from dabook.site.words import words

MARK = re.compile(r"^\[(?P<mark>[xX =])\]\s*")
NUMBER = re.compile(
    r"^(?P<value>[-−]?\d+(?:\.\d+)?)\s*±\s*(?P<within>\d+(?:\.\d+)?)\s*(?P<unit>.*)$"
)
ONE, SOME, VALUE = "one", "some", "number"
TYPES = {ONE: "radio", SOME: "checkbox"}
SAID = ("right", "wrong", "partly", "none", "nan")  # verdicts, and what is missing

log = logging.getLogger(__name__)


class quiz(nodes.General, nodes.Element):  # noqa: N801 (docutils names nodes so)
    """A question (`quiz_question`) and its choices (`quiz_choice`)."""


class quiz_question(nodes.General, nodes.Element):  # noqa: N801
    """What is asked."""


class quiz_choice(nodes.General, nodes.Element):  # noqa: N801
    """A choice (`quiz_label`) and what is said of it (`quiz_why`)."""


class quiz_label(nodes.General, nodes.Element):  # noqa: N801
    """What a choice says."""


class quiz_why(nodes.General, nodes.Element):  # noqa: N801
    """Why it is right or wrong."""


class quiz_answer(nodes.General, nodes.Element):  # noqa: N801
    """The right choices once more, for those who give up, and for pages without a script."""


class Quiz(SphinxDirective):
    """`quiz NAME`: the name is unique in its page."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        self.assert_has_content()
        found = quiz(name=self.arguments[0])
        self.set_source_info(found)
        self.state.nested_parse(self.content, self.content_offset, found)
        if found.children and isinstance(found[-1], nodes.bullet_list):
            for item in found[-1]:
                _part(item)
        return [found]


def _part(item: nodes.list_item) -> None:
    """Make the first line of a choice a paragraph, and what stands below it another: each is
    translated by itself."""
    if not item.children or not isinstance(item[0], nodes.paragraph):
        return
    first = item[0]
    source, _, below = first.rawsource.partition("\n")
    lines = [[]]
    for node in first:
        pieces = node.astext().split("\n") if isinstance(node, nodes.Text) else [node]
        for k, piece in enumerate(pieces):
            if k:
                lines.append([])
            lines[-1].append(nodes.Text(piece) if isinstance(piece, str) else piece)
    reason = [node for line in lines[1:] for node in [*line, nodes.Text("\n")]][:-1]
    for text, parts in ((below, reason), (source, lines[0])):
        if parts:
            made = nodes.paragraph(text, "", *parts)
            made.source, made.line = first.source, first.line
            item.insert(0, made)
    item.remove(first)


def shape(app: Sphinx, doctree: nodes.document) -> None:
    """Sphinx event: what was parsed, and perhaps translated, becomes question and choices. Catalogues
    are made of what was parsed."""
    if app.builder.name == "gettext":
        return
    for found in list(doctree.findall(quiz)):
        try:
            _shape(found, doctree)
        except ValueError as error:
            log.warning("quiz %s: %s", found["name"], error, location=found)
            found.parent.remove(found)


def _shape(found: quiz, doctree: nodes.document) -> None:
    if not found.children or not isinstance(found[-1], nodes.bullet_list):
        raise ValueError("ends without a list of choices")
    choices = [_choice(item) for item in found[-1]]
    right = [choice for choice in choices if choice["right"]]
    kind = SOME if len(right) > 1 else ONE
    if any("value" in choice for choice in choices):
        kind = VALUE
    if kind == VALUE and len(choices) > 1:
        raise ValueError("asks for a number and gives choices too")
    if kind != VALUE and (len(choices) < 2 or not right):
        raise ValueError("needs two choices or more, one of them marked [x]")
    answer = quiz_answer()
    for choice in right:
        answer += nodes.paragraph("", "", *(node.deepcopy() for node in choice[0]))
        answer += [node.deepcopy() for node in choice[1]]
    question = quiz_question("", *found[:-1])
    found["ids"] = [make_id(doctree.settings.env, doctree, "quiz", found["name"])]
    found["kind"] = kind
    found.children = []
    found += [question, *choices, answer]


def _choice(item: nodes.list_item) -> quiz_choice:
    """A choice from an item of the list: its first paragraph, and what stands below."""
    first, *rest = item.children
    if not isinstance(first, nodes.paragraph) or not isinstance(first[0], nodes.Text):
        raise ValueError("a choice does not begin with [x], [ ] or [=]")
    label = first.children
    mark = MARK.match(label[0].astext())
    if mark is None:
        raise ValueError(f"a choice does not begin with [x], [ ] or [=]: {first.astext()[:40]!r}")
    label[0] = nodes.Text(label[0].astext()[mark.end() :])
    if not rest:
        raise ValueError(f"a choice without a reason: {first.astext()[:40]!r}")
    made = quiz_choice("", quiz_label("", *label), quiz_why("", *rest))
    made["right"] = mark["mark"] != " "
    if mark["mark"] == "=":
        number = NUMBER.match("".join(node.astext() for node in label).strip())
        if number is None:
            raise ValueError(
                f"no number with its tolerance, such as 0.5 ± 0.01: {first.astext()!r}"
            )
        made["value"] = number["value"].replace("−", "-")
        made["within"], made["unit"] = number["within"], number["unit"].strip()
    return made


# as HTML


def visit_quiz(self: HTML5Translator, node: quiz) -> None:
    name = node["ids"][0]
    said = words(self.builder.app)
    data = "".join(f' data-{key}="{escape(said[key])}"' for key in SAID)
    self.body.append(
        f'<div class="dalib-quiz" id="{name}" role="group" aria-labelledby="{name}-question" '
        f'data-kind="{node["kind"]}"{data}>'
    )


def depart_quiz(self: HTML5Translator, node: quiz) -> None:
    self.body.append("</div>")


def visit_question(self: HTML5Translator, node: quiz_question) -> None:
    self.body.append(f'<div class="quiz-question" id="{node.parent["ids"][0]}-question">')


def visit_choice(self: HTML5Translator, node: quiz_choice) -> None:
    holder = node.parent
    right = " data-right" if node["right"] else ""
    if holder["kind"] == VALUE:
        self.body.append(
            f'<div class="quiz-choice" data-value="{node["value"]}" data-within="{node["within"]}">'
        )
        return
    self.body.append(f'<div class="quiz-choice"{right}>')


def visit_label(self: HTML5Translator, node: quiz_label) -> None:
    choice, holder = node.parent, node.parent.parent
    name = holder["ids"][0]
    if holder["kind"] == VALUE:
        yours = words(self.builder.app)["yours"]
        self.body.append(
            f'<label class="quiz-live" hidden>{escape(yours)} '
            f'<input type="text" inputmode="decimal" autocomplete="off" size="8" name="{name}"> '
            f"{escape(choice['unit'])}</label>"
        )
        raise nodes.SkipNode
    formulas = any(True for _ in node.findall(nodes.math))  # drawings that nobody can hear
    heard = f' aria-label="{escape(node.astext())}"' if formulas else ""
    self.body.append(
        f'<label><input class="quiz-live" hidden type="{TYPES[holder["kind"]]}" name="{name}"{heard}>'
        "<span>"
    )


def depart_label(self: HTML5Translator, node: quiz_label) -> None:
    self.body.append("</span></label>")


def visit_why(self: HTML5Translator, node: quiz_why) -> None:
    self.body.append('<div class="quiz-why" hidden>')


def visit_answer(self: HTML5Translator, node: quiz_answer) -> None:
    said = words(self.builder.app)
    self.body.append(
        f'<div class="quiz-live quiz-controls" hidden><button type="button">{escape(said["check"])}'
        '</button><span role="status"></span></div>'
        f'<details class="quiz-answer"><summary>{escape(said["answer"])}</summary>'
    )


def depart_answer(self: HTML5Translator, node: quiz_answer) -> None:
    self.body.append("</details>")


def depart_box(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append("</div>")


NODES = {
    quiz: (visit_quiz, depart_quiz),
    quiz_question: (visit_question, depart_box),
    quiz_choice: (visit_choice, depart_box),
    quiz_label: (visit_label, depart_label),
    quiz_why: (visit_why, depart_box),
    quiz_answer: (visit_answer, depart_answer),
}


def setup(app: Sphinx) -> dict:
    for node, visitors in NODES.items():
        app.add_node(node, html=visitors)
    app.add_directive("quiz", Quiz)
    app.connect("doctree-read", shape)
    app.add_js_file("quiz.js", defer="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
