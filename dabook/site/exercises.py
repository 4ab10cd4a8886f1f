"""What the book adds to the exercises of `sphinx-exercise`: a line that says how hard one is and how
long it takes, from its classes `grade-2 minutes-10`, and `exercise-index`, a table of all of them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx_exercise.nodes import exercise_subtitle, is_exercise_node, is_solution_node

from dabook.site.words import words

GRADES = (1, 2, 3)
FACT = re.compile(r"^(grade|minutes)-(\d+)$")
log = logging.getLogger(__name__)


class exercise_index(nodes.General, nodes.Element):  # noqa: N801 (docutils names nodes so)
    """Where the table of all exercises goes."""


class ExerciseIndex(SphinxDirective):
    """`exercise-index`."""

    def run(self) -> list[nodes.Node]:
        return [exercise_index()]


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One line of the table."""

    label: str
    page: str
    title: str
    grade: int
    minutes: int


def facts(classes: list[str]) -> dict[str, int]:
    """Grade and minutes among the classes of an exercise."""
    return {m[1]: int(m[2]) for name in classes if (m := FACT.match(name))}


def describe(app: Sphinx, doctree: nodes.document) -> None:
    """Sphinx event: each exercise says its grade and its time; one that has none is a warning."""
    said = words(app)["facts"]
    for node in doctree.findall(lambda n: is_exercise_node(n) or is_solution_node(n)):
        for section in node.findall(nodes.section):
            section["ids"] = [f"{node['label']}-content"]  # sphinx-exercise gives all one id
        if is_solution_node(node):
            continue
        found = facts(node["classes"])
        if found.get("grade") not in GRADES or not found.get("minutes"):
            log.warning(
                "exercise %s: give it the classes grade-1 (to 3) and minutes-N",
                node["label"],
                location=node,
            )
            continue
        line = nodes.paragraph("", said.format(**found), classes=["exercise-facts"])
        node.insert(1, line)


def exercises(env: BuildEnvironment) -> Iterator[Exercise]:
    """Every exercise, in the order of the book."""
    registry = getattr(env, "sphinx_exercise_registry", {})
    order = _order(env)
    found = []
    for label, entry in registry.items():
        if entry["type"] != "exercise":
            continue
        node = entry["node"]
        known = facts(node["classes"])
        title = next((t.astext() for t in node.findall(exercise_subtitle)), label)
        if len(known) == 2:
            found.append(Exercise(label=label, page=entry["docname"], title=title, **known))
    return iter(sorted(found, key=lambda e: order.get(e.page, len(order))))


def _order(env: BuildEnvironment) -> dict[str, int]:
    """Pages by their place in the table of contents."""
    order: dict[str, int] = {}

    def walk(page: str) -> None:
        if page in order:
            return
        order[page] = len(order)
        for child in env.toctree_includes.get(page, ()):
            walk(child)

    walk(env.config.root_doc)
    return order


def fill(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Sphinx event: the table takes its place, once all pages are known."""
    for place in list(doctree.findall(exercise_index)):
        place.replace_self(_table(app, list(exercises(app.env)), page))


def _table(app: Sphinx, found: list[Exercise], page: str) -> list[nodes.Node]:
    said = words(app)
    counts = [sum(e.grade == grade for e in found) for grade in GRADES]
    hours = round(sum(e.minutes for e in found) / 60)
    total = said["sum"].format(
        count=len(found), first=counts[0], second=counts[1], third=counts[2], hours=hours
    )
    table = nodes.table(classes=["exercises"])
    group = nodes.tgroup(cols=4)
    table += group
    for width in (40, 35, 10, 15):
        group += nodes.colspec(colwidth=width)
    head, body = nodes.thead(), nodes.tbody()
    group += [head, body]
    head += _row([nodes.Text(said[key]) for key in ("exercise", "chapter", "grade", "minutes")])
    for exercise in found:
        title = app.env.titles[exercise.page].astext()
        body += _row(
            [
                _link(app, page, exercise.page, exercise.label, exercise.title),
                _link(app, page, exercise.page, "", title),
                nodes.Text(str(exercise.grade)),
                nodes.Text(str(exercise.minutes)),
            ]
        )
    return [nodes.paragraph("", total), table]


def _row(cells: list[nodes.Node]) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        row += nodes.entry("", nodes.paragraph("", "", cell))
    return row


def _link(app: Sphinx, page: str, target: str, label: str, text: str) -> nodes.reference:
    address = app.builder.get_relative_uri(page, target) + (f"#{label}" if label else "")
    return nodes.reference("", text, internal=True, refuri=address)


def setup(app: Sphinx) -> dict:
    app.setup_extension("sphinx_exercise")
    app.add_node(exercise_index)
    app.add_directive("exercise-index", ExerciseIndex)
    app.connect("doctree-read", describe)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
