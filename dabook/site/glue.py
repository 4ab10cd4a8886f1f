"""What a page concludes, as the output of a cell: the same words in JupyterLab, in papermill's
output and in the book; and what other pages quote of it.

A quoted value is part of an output that nobody sees; the book finds it under its key (MyST's
`glue:text`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from math import isnan
from string import Formatter

from IPython.core.formatters import format_display_data
from IPython.display import Markdown, display

from dabook.analysis.statistics import Results
from dabook.show import sentences
from dabook.show.tables import DASH

KEPT = "application/vnd.dabook.kept"
"""MIME type of what is kept, which nothing shows: JSON, name -> MIME type -> value. It is one output,
however many values: JupyterLab hides what a cell shows behind its fiftieth."""
UNSEEN = "application/papermill.record/"
"""Before the MIME type of an output that MyST keeps and does not show."""
MARKS = re.compile(r"([\\`*<\[])")


def keep(**values: object) -> dict[str, object]:
    """Keep values under their names for other pages, unseen, and return them.

    What is kept is what Jupyter would show of a value: of a number its digits, of a table its HTML.
    """
    shown = {name: format_display_data(value)[0] for name, value in values.items()}
    display({KEPT: json.dumps(shown)}, raw=True)
    return values


def unfold(outputs: Iterable[dict]) -> list[dict]:
    """Outputs of a cell as MyST takes them: one for each value that is kept."""
    found = []
    for output in outputs:
        kept = output.get("data", {}).get(KEPT)
        if kept is None:
            found.append(output)
            continue
        for name, shown in json.loads(kept).items():
            found.append(
                {
                    "output_type": "display_data",
                    "data": {UNSEEN + kind: value for kind, value in shown.items()},
                    "metadata": {"scrapbook": {"name": name, "mime_prefix": UNSEEN}},
                }
            )
    return found


def say(text: str, **values: object) -> Markdown:
    """A paragraph made from values, for the end of a cell.

    Args:
        text: Markdown with the values' names in braces, as `str.format` has it: "{share:.1f} %".
            Without values it is shown letter by letter, as a value would be.
        values: numbers get a true minus, and a dash where they are NaN; text is shown letter by
            letter, whatever it means in Markdown. That runs are not yet recorded is said once: a
            value that would only repeat it is left out, with the words that lead to it where the
            first value said it of the whole page; one that goes on with more keeps what is more.
    """
    prose = _Prose(values)
    return Markdown(prose.format(text, **values) if values else prose.format_field(text, ""))


class _Prose(Formatter):
    """Fields as the book prints them.

    Args:
        values: those that the text names.
    """

    def __init__(self, values: Mapping[str, object]):
        self.values = values
        self.said = False  # that runs are not yet recorded

    def parse(self, format_string: str) -> Iterator[tuple]:
        """The pieces of a text, each a field with the words before it, without those that would
        only say again that runs are not yet recorded."""
        fields = 0
        of_all = False  # that the whole page's are not
        for words, field, spec, conversion in super().parse(format_string):
            if field is not None and _unrecorded(self.values.get(field)):
                if of_all or (self.said and not words.strip()):
                    continue
                of_all = fields == 0 and not words.strip()
            fields += field is not None
            yield words, field, spec, conversion

    def format_field(self, value: object, spec: str) -> str:
        if isinstance(value, str):
            value = self._said_once(value)
            return MARKS.sub(r"\\\1", format(value, spec))
        if isinstance(value, float) and isnan(value):
            return DASH
        return format(value, spec).replace("-", "−")

    def _said_once(self, text: str) -> str:
        """A value without saying again that runs are not yet recorded."""
        pieces = [piece.strip() for piece in text.split(sentences.UNRECORDED)]
        if len(pieces) == 1:
            return text
        if not self.said or not any(pieces):
            pieces.insert(1, sentences.UNRECORDED)
        self.said = True
        return " ".join(filter(None, pieces))


def _unrecorded(value: object) -> bool:
    """Whether a value says that runs are not yet recorded, once or more often, and nothing else."""
    if not isinstance(value, str) or sentences.UNRECORDED not in value:
        return False
    return not value.replace(sentences.UNRECORDED, "").strip()


def quote(
    results: Results,
    prefix: str,
    *,
    rows: Iterable[str] | None = None,
    says: str = "{answer}",
    **said: str,
) -> Markdown:
    """The answer of a page, for the end of a cell. What this page and others quote is kept, see
    `dabook.show.sentences.quotes`.

    Args:
        results: of the experiment.
        prefix: of the keys.
        rows: the compared rows that answer the question, with which the answer begins; all by
            default.
        says: the paragraphs, with the names of sentences in braces.
        said: sentences that the page has beside, or with `answer` instead of, those of every page.
    """
    values = sentences.quotes(results, prefix, rows=rows, **said)
    keep(**values)
    names = ("answer", "reading", *said)
    return say(says, **{name: values[f"{prefix}_{name}"] for name in names})
