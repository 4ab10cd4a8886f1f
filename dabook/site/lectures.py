"""A lecture on one page: its slides with the minute and the beginning of each note, for whoever has a
few minutes to prepare it. Taken from the lecture's source, so that it cannot drift.

    :::{lecture-plan} 1_depth.md
    :::
"""

import re
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

SLIDE = re.compile(r"^## (?P<title>.+)$", re.MULTILINE)
NOTE = re.compile(r"^:::\{revealjs-notes\}\n(?P<note>.*?)\n:::$", re.MULTILINE | re.DOTALL)
MINUTE = re.compile(r"Minute (?P<minute>\d+)\. ")
SKIP = re.compile(r"May be skipped[.:] ")
SENTENCE = re.compile(r"(?<=[.?!]) ")
WORDS = 12
"""Sentences of a note are taken until there are so many."""


@dataclass(frozen=True, kw_only=True)
class Slide:
    """A slide of a lecture.

    Attributes:
        title: of the slide.
        minute: at which the speaker should be there; None where the note does not say.
        may_be_skipped: whether the note says so.
        note: its first sentences, in Markdown; empty without a note.
    """

    title: str
    minute: int | None
    may_be_skipped: bool
    note: str


def plan(text: str) -> list[Slide]:
    """The slides of a lecture's source, in their order."""
    _, *pieces = SLIDE.split(text)
    return [_slide(title, body) for title, body in zip(pieces[::2], pieces[1::2], strict=True)]


def _slide(title: str, body: str) -> Slide:
    found = NOTE.search(body)
    note = found["note"].strip() if found else ""
    minute, skip = MINUTE.match(note), SKIP.match(note)
    told = MINUTE.sub("", SKIP.sub("", note, count=1), count=1)
    first = ""
    for sentence in SENTENCE.split(told):
        if len(first.split()) >= WORDS:
            break
        first = f"{first} {sentence}".strip()
    return Slide(
        title=title,
        minute=int(minute["minute"]) if minute else None,
        may_be_skipped=skip is not None,
        note=first[:1].upper() + first[1:],
    )


def table(slides: list[Slide]) -> str:
    """A plan as a table in Markdown."""
    lines = ["| minute | slide | its note begins |", "|---|---|---|"]
    for slide in slides:
        minute = "may be skipped" if slide.may_be_skipped else slide.minute or ""
        cells = (str(minute), slide.title, slide.note)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


class LecturePlan(SphinxDirective):
    """The plan of a lecture, folded."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.doc2path(self.env.docname)).with_name(self.arguments[0])
        self.env.note_dependency(str(path))
        slides = plan(path.read_text(encoding="utf-8"))
        begins = nodes.raw(
            "", "<details><summary>The plan, slide by slide</summary>", format="html"
        )
        ends = nodes.raw("", "</details>", format="html")
        return [begins, *self.parse_text_to_nodes(table(slides)), ends]


def setup(app: Sphinx) -> dict:
    """For Sphinx."""
    app.add_directive("lecture-plan", LecturePlan)
    return {"parallel_read_safe": True}
