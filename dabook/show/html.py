"""Pieces of a page: numbers as the book prints them, cells, links, and tables of them."""

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from math import isnan

import pandas as pd

from dabook.analysis.statistics import MEAN, OVER_SEEDS, VALIDATION, Estimate, Results
from dabook.runs.records import Record

DASH = "–"
MARKS = {
    OVER_SEEDS: "seeds",
    f"{OVER_SEEDS} and images": "+ images",
    f"{OVER_SEEDS} and sequences": "+ sequences",
}
"""What an interval is over -> its name in a crowded cell."""


@dataclass(frozen=True, repr=False)
class Html:
    """A piece of a page; Jupyter and glue show it as it is."""

    text: str

    def _repr_html_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        """For a terminal: what is read, without the tags, styles and scripts."""
        read = re.sub(r"<(style|script)\b.*?</\1>", " ", self.text, flags=re.DOTALL)
        return " ".join(re.sub(r"<[^>]*>", " ", read).split())

    def __add__(self, other: "Html") -> "Html":
        return Html(self.text + other.text)


def number(value: float, digits: int = 3, *, sign: bool = False) -> str:
    """A number as the book prints it: halves rounded up, as the paper does, with a true minus; a
    dash where there is none."""
    if isnan(value):
        return DASH
    rounded = Decimal(repr(round(value, 9))).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{rounded:{'+' if sign else ''}f}".replace("-", "−")


def title(domain: str) -> str:
    """A domain's name in a heading."""
    return {MEAN: "mean", VALIDATION: "in-domain"}.get(domain, domain.replace("_", " "))


def cell(
    estimate: Estimate, digits: int = 3, *, sign: bool = False, link: str | None = None
) -> str:
    """Mean and intervals as HTML, each named by what it is over; the mean linked to where it comes
    from. In the place of a mean that there cannot be stands why."""
    if estimate.why and isnan(estimate.mean):
        return f'<span class="interval">{estimate.why}</span>'
    text = number(estimate.mean, digits, sign=sign)
    text = f'<a href="{link}">{text}</a>' if link and estimate.count else text
    if isnan(estimate.half):
        return text
    for over, (low, high) in estimate.named.items():
        ends = f"{number(low, digits, sign=sign)} to {number(high, digits, sign=sign)}"
        text += f'<br><span class="interval">{ends} {MARKS[over]}</span>'
    return text


def html(
    lines: dict[str, dict],
    headings: list[str],
    *,
    classes: dict | None = None,
    caption: str = "",
    name: str = "table",
) -> Html:
    """A table of ready HTML cells in the book's style.

    Args:
        lines: key -> column -> cell, one line each; a column that is a tuple gets a two-storey
            heading.
        headings: of the lines, as HTML.
        classes: column -> CSS class of its cells.
        caption: a line above the table.
        name: for the ids of the table's elements.
    """
    cells = pd.DataFrame.from_dict(lines, orient="index")
    if isinstance(cells.columns[0], tuple):
        cells.columns = pd.MultiIndex.from_tuples(cells.columns)
    marks = pd.DataFrame({c: (classes or {}).get(c, "") for c in cells}, index=cells.index)
    styler = (
        cells.style.set_table_attributes('class="dataframe"').set_td_classes(marks).set_uuid(name)
    )
    styler = styler.relabel_index(headings, axis=0)
    text = (styler.set_caption(caption) if caption else styler).to_html(
        escape=None, sparse_columns=True
    )
    text = text[text.index("<table") :]  # without the empty style sheet
    return Html(f'<div class="table-scroll" tabindex="0">{text}</div>')


def record_link(record: Record) -> str:
    """The page of a record, from any page of the book (each lies one folder deep)."""
    return f"../records/{record['experiment']}/{record['hash']}.html"


def row_link(results: Results, row: str) -> str | None:
    """Where a number of this row leads: to its record, or with several seeds to the list of them
    (see `record_list`)."""
    found = results.of(row)
    if len(found) == 1:
        return record_link(found[0].record)
    return f"../notebooks/{results.experiment}.html#{anchor(results, row)}" if found else None


def anchor(results: Results, row: str) -> str:
    """The id of a row in the list of records."""
    return f"records-{results.profile}-{row}".replace("_", "-")
