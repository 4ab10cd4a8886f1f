"""What the page of a question glues: its answer for the text, and its numbers for other pages."""

from collections.abc import Iterable

from myst_nb import glue

from dabook.analysis.statistics import Results
from dabook.show import sentences


def quote(results: Results, prefix: str, *, rows: Iterable[str] | None = None, **said: str) -> str:
    """Glue everything that this page and others quote (see `dabook.show.sentences.quotes`), and
    return the answer as a reader gets it.

    Args:
        results: of the experiment.
        prefix: of the keys.
        rows: the compared rows that answer the question, with which the answer begins; all by
            default.
        said: what the page says beside, or with `answer` instead of, the sentences that every
            page has.
    """
    values = sentences.quotes(results, prefix, rows=rows, **said)
    for key, value in values.items():
        glue(key, value, display=False)
    return " ".join(str(values[f"{prefix}_{name}"]) for name in dict.fromkeys(("answer", *said)))
