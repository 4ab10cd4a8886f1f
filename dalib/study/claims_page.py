"""The page of claims: its tables and its tally, from verdicts."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape

from dalib.study.claims import (
    CANNOT,
    FLOORS,
    NOT_REPRODUCED,
    REPRODUCED,
    SOURCES,
    UNDECIDED,
    UNRECORDED,
    Claim,
    Claims,
    Comparison,
    Verdict,
)
from dalib.study.claims import verdicts as verdicts_of
from dalib.study.robustness import EXPERIMENT
from dalib.study.robustness_results import GAP, TITLES
from dalib.study.statistics import MEAN, Estimate, Results
from dalib.study.tables import Html, html, number, title

CLAIMED = {"lower": "a lower error", "higher": "a higher error", "no_gain": "no gain"}


def tables(verdicts: Sequence[Verdict], claims: Claims, results: dict[str, Results]) -> Html:
    """Every claim that is tested: a table per topic with who makes it, what was measured, and the verdict."""
    columns = {
        "who says so": lambda v: source(v.claim),
        "what we measured": lambda v: "".join(
            _measured(*m, results[m[0].experiment], several=len(v.measured) > 1) for m in v.measured
        ),
        "verdict": lambda v: chip(v.word),
    }
    tested = {topic: [v for v in verdicts if v.claim.topic == topic and v.word != CANNOT] for topic in claims.topics}
    parts = (
        _table(shown, columns, caption=escape(claims.topics[topic]), name=f"claims-{topic}")
        for topic, shown in tested.items()
        if shown
    )
    return Html(f'<div class="claims">{"".join(parts)}</div>')


def undecidable(verdicts: Sequence[Verdict]) -> Html:
    """The claims that are not tested here, and why."""
    shown = [v for v in verdicts if v.word == CANNOT]
    columns = {"who says so": lambda v: source(v.claim), "why not here": lambda v: escape(v.claim.cannot)}
    return Html(f'<div class="claims why">{_table(shown, columns, name="claims-cannot") if shown else ""}</div>')


def _table(verdicts: Sequence[Verdict], columns: dict[str, Callable[[Verdict], str]], **options: str) -> str:
    """A table of claims with a column for each function."""
    lines = {v.claim.name: {name: cell(v) for name, cell in columns.items()} for v in verdicts}
    text = html(lines, _headings(verdicts), classes=dict.fromkeys(columns, "text"), **options).text
    return text.replace(">&nbsp;</th>", ">claim</th>", 1)


def _headings(verdicts: Sequence[Verdict]) -> list[str]:
    return [f'<span id="claim-{v.claim.name.replace("_", "-")}">{escape(v.claim.claim)}</span>' for v in verdicts]


def source(claim: Claim) -> str:
    """Who makes a claim, linked to where, and the place there."""
    name, url = SOURCES[claim.source]
    link = claim.url or url
    return (
        f'<a href="{escape(link)}">{escape(name)}</a>, {escape(claim.where)}'
        if link
        else f"{name}, {escape(claim.where)}"
    )


def chip(word: str) -> str:
    """A verdict as a word in a frame; colour only repeats what the word says."""
    return f'<span class="verdict {word.replace(" ", "-")}">{word}</span>'


def compared(test: Comparison, results: Results) -> str:
    """What stands against what, in the labels of the table."""
    labels = {name: f"“{escape(row.label)}”" for name, row in results.rows.items()}
    if test.beside:
        other, base = results.against[test.beside], labels[test.versus]
        return f"change from {base} to {labels[test.row]}, less that from {labels[other]} to {labels[test.beside]}"
    columns = [test.column] if isinstance(test.column, str) else test.column
    place = "" if test.column == MEAN else f", {', '.join(title(c) for c in columns)}"
    if test.experiment == EXPERIMENT:
        place = {MEAN: ", under corruption", GAP: ", what corruption adds"}.get(test.column, f", {TITLES[test.column]}")
    return f"{labels[test.row]} beside {'the better floor' if test.versus == FLOORS else labels[test.versus]}{place}"


def _measured(test: Comparison, change: Estimate, word: str, results: Results, *, several: bool) -> str:
    """One comparison: the change with its intervals and seeds, linked to the page of its table, and what was claimed of it."""
    page = f'<a href="../notebooks/{test.experiment}.html">{escape(test.experiment.replace("_", " "))}</a>'
    head = f"{compared(test, results)} ({page}); claimed: {CLAIMED[test.expect]}"
    if not change.count:
        return f'<div class="measured">{head}<br>{UNRECORDED}</div>'
    unit = "points" if test.beside else "%"
    text = f"<b>{number(change.mean, 1, sign=True)} {unit}</b>"
    names = ("over seeds", "over seeds and images")
    for (low, high), name in zip(change.intervals, names, strict=False):
        ends = f"{number(low, 1, sign=True)} to {number(high, 1, sign=True)}"
        text += f', <span class="interval">{ends} {name}</span>'
    planned = len(results.entries) // len(results.rows)
    text += f"; {change.count} of {planned} seeds" if change.count < planned else f"; {change.count} seeds"
    if any(e.status == "stale" for e in results.found if e.row.name in involved(test, results)):
        text += ' <span class="stale">stale</span>'
    return f'<div class="measured">{head}<br>{text}{f": {word}" if several else ""}</div>'


def involved(test: Comparison, results: Results) -> set[str]:
    """The rows whose runs a comparison reads."""
    rows = {test.row, test.versus, test.beside, results.against.get(test.beside)} - {None, FLOORS}
    return rows | {results.base(row) for row in rows}


def tally(verdicts: Sequence[Verdict]) -> str:
    """How many claims met which verdict: two sentences."""
    counts = Counter(v.word for v in verdicts)
    tested = len(verdicts) - counts[CANNOT]
    words = {REPRODUCED: "reproduced", NOT_REPRODUCED: "not reproduced", UNDECIDED: "undecided"}
    parts = [f"{counts[word]} {'is' if counts[word] == 1 else 'are'} {said}" for word, said in words.items()]
    if waiting := counts[UNRECORDED]:
        parts.append(f"{waiting} {'waits for its' if waiting == 1 else 'wait for their'} runs")
    last = f"{counts[CANNOT]} more cannot be decided here."
    return f"Of {tested} claims that can be tested here, {', '.join(parts[:-1])} and {parts[-1]}. {last}"


def sensitivity(known: Claims, results: dict[str, Results], factors: Sequence[float] = (0.5, 1.5)) -> str:
    """What the tally would be with other margins: the end of a sentence. The same intervals, the same rule."""
    parts = []
    for factor in factors:
        margin = factor * known.margin
        counts = Counter(v.word for v in verdicts_of(replace(known, margin=margin), results))
        numbers = ", ".join(f"{counts[word]} {word}" for word in (REPRODUCED, NOT_REPRODUCED, UNDECIDED))
        parts.append(f"with {margin:g} % they would be {numbers}")
    return "; ".join(parts) + "."


def intervals(verdicts: Sequence[Verdict]) -> int:
    """How many comparisons have been measured: what the level of an interval has to be held against."""
    return sum(change.count > 1 for v in verdicts for _, change, _ in v.measured)
