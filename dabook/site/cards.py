"""The protocol cards on their page: tables made from `dalib.evaluation.cards`, of the alignments, and
of the bench that runs other people's evaluators beside ours.

`protocol-cards overview` has one row for each protocol, `protocol-cards sources` every entry with
its source, `protocol-cards alignments` the alignments, `protocol-cards peers` the bench.
"""

import json
import re
from html import escape
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from dabook.site.sphinx_ext import table
from dalib import paths
from dalib.evaluation.align import ALIGNMENTS
from dalib.evaluation.cards import CARDS, FILE, WORDS, Card, shown

GITHUB = "https://github.com"
FILE_OR_ISSUE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<file>[\w./-]+[\w/])|#(?P<issue>\d+))")
PAPER = re.compile(r"arXiv:(?P<number>\d{4}\.\d{5})")
METRES = ("min_depth", "max_depth")


def linked(text: str) -> str:
    """A source as HTML: files and issues of public repositories, and papers, lead there."""

    def github(match: re.Match) -> str:
        if match["file"]:
            target = f"{GITHUB}/{match['repo']}/blob/HEAD/{match['file']}"
        else:
            target = f"{GITHUB}/{match['repo']}/issues/{match['issue']}"
        return f'<a href="{target}">{match[0]}</a>'

    text = FILE_OR_ISSUE.sub(github, escape(text, quote=False))
    return PAPER.sub(r'<a href="https://arxiv.org/abs/\g<number>">\g<0></a>', text)


def depth_range(card: Card) -> str:
    """Nearest and farthest truth that counts, with the brackets of an interval."""
    near, far = (card.values[key] for key in METRES)
    if near == 0 and far is None:
        return "all of it"
    left, right = "[]" if card.values["bounds"] == "closed" else "()"
    return f"{left}{shown(near)}, {'∞)' if far is None else shown(far) + right} m"


def overview() -> str:
    """A row for each protocol of depth, and one for each of pairs."""
    depth, pairs = [], []
    for card in CARDS.values():
        name = f'<a href="#card-{card.name}"><code>{card.name}</code></a>'
        values = {key: escape(shown(value)) for key, value in card.values.items()}
        code = f"<code>{card.hash}</code>"
        if card.scores == "depth":
            crop = values["crop"]
            if card.values["frame"] is not None:
                crop += f" (whole frames of {values['frame'].replace('x', '×')})"
            depth.append((name, escape(card.about), depth_range(card), crop, values["clamp"], code))
        else:
            cells = (values["window"], values["hard"], values["tie"], code)
            pairs.append((name, escape(card.about), *cells))
    return table(depth, ("protocol", "data", "truth that counts", "crop", "clamp", "hash")) + table(
        pairs, ("pairs", "data", "window", "hard below", "a tie gives", "hash")
    )


def sources() -> str:
    """Every entry of every card, each card to be opened."""
    parts = []
    for card in CARDS.values():
        rows = [
            (escape(WORDS[key]), escape(shown(entry.value)), linked(entry.source))
            for key, entry in card.entries.items()
        ]
        parts.append(
            f'<details id="card-{card.name}" open><summary><code>{card.name}</code>, '
            f"{escape(card.about)} (<code>{card.hash}</code>)</summary>"
            f"{table(rows, ('entry', 'value', 'source'))}</details>"
        )
    return "".join(parts)


def alignments() -> str:
    """What each alignment fits."""
    rows = [
        (f"<code>{escape(a.name)}</code>", escape(a.words), linked(a.source))
        for a in ALIGNMENTS.values()
    ]
    return table(rows, ("name", "what is fitted", "source"))


def peers(path: Path) -> str:
    """The bench: how far each public evaluator lies from ours, and why where it does."""
    record = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for peer in record["peers"]:
        same = [n for n in peer["numbers"] if n["why"] is None]
        largest = max((n["difference"] for n in same), default=0.0)
        tree = f"{GITHUB}/{peer['repository']}/tree/{peer['commit']}"
        where = f'<a href="{tree}">{escape(peer["repository"])}</a>'
        apart: dict[str, list[str]] = {}
        for number in peer["numbers"]:
            if number["why"] is not None:
                apart.setdefault(number["why"], []).append(
                    f"{number['number']} ({number['difference']:.1e})"
                )
        why = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in apart.items())
        rows.append((where, str(len(same)), f"{largest:.1e}", escape(why or "nothing")))
    return table(rows, ("repository", "numbers that agree", "largest difference", "what differs"))


class ProtocolCards(SphinxDirective):
    """`protocol-cards overview|sources|alignments|peers`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        made = {"overview": overview, "sources": sources, "alignments": alignments}
        what = directives.choice(self.arguments[0], (*made, "peers"))
        self.env.note_dependency(str(FILE))
        if what == "peers":
            bench = paths.benchmarks() / "evaluators.json"
            self.env.note_dependency(str(bench))
            return [nodes.raw(text=peers(bench), format="html")]
        return [nodes.raw(text=made[what](), format="html")]


def setup(app: Sphinx) -> dict:
    app.add_directive("protocol-cards", ProtocolCards)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
