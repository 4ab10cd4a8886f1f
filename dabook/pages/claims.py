"""The page of claims: its tables and its tally, from verdicts."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby
from math import isnan

from dabook.analysis import multiplicity
from dabook.analysis.budget import EQUAL_STEPS, budget
from dabook.analysis.evidence import Comparison, Evidence
from dabook.analysis.statistics import MEAN, Estimate
from dabook.analysis.verdicts import (
    CANNOT,
    NOT_REPRODUCED,
    REPRODUCED,
    SOURCES,
    UNDECIDED,
    UNRECORDED,
    Claim,
    Claims,
    Verdict,
)
from dabook.analysis.verdicts import verdicts as verdicts_of
from dabook.show.html import Html, html, number

CLAIMED = {"lower": "a lower error", "higher": "a higher error", "no_gain": "no gain"}


def tables(verdicts: Sequence[Verdict], claims: Claims, results: dict[str, Evidence]) -> Html:
    """Every claim that is tested: a table per topic with who makes it, what was measured, and the
    verdict."""
    values = adjusted(verdicts)

    def measured(verdict: Verdict) -> str:
        parts = [
            _measured(
                found,
                results[found[0][0].experiment],
                several=len(verdict.measured) > 1,
                values={test: values.get((verdict.claim.name, test)) for test, *_ in found},
            )
            for found in alike(verdict.measured)
        ]
        if verdict.claim.plan:
            parts.append(f'<div class="measured plan">Plan: {escape(verdict.claim.plan)}</div>')
        return "".join(parts)

    columns = {
        "who says so": lambda v: source(v.claim),
        "what we measured": measured,
        "verdict": lambda v: chip(v.word) + _condition(v, results),
    }
    tested = {
        topic: [v for v in verdicts if v.claim.topic == topic and v.word != CANNOT]
        for topic in claims.topics
    }
    parts = (
        _table(shown, columns, caption=escape(claims.topics[topic]), name=f"claims-{topic}")
        for topic, shown in tested.items()
        if shown
    )
    return Html(f'<div class="claims">{"".join(parts)}</div>')


def undecidable(verdicts: Sequence[Verdict]) -> Html:
    """The claims that are not tested here, and why."""
    shown = [v for v in verdicts if v.word == CANNOT]
    columns = {
        "who says so": lambda v: source(v.claim),
        "why not here": lambda v: escape(v.claim.cannot),
    }
    return Html(
        '<div class="claims '
        f'why">{_table(shown, columns, name="claims-cannot") if shown else ""}</div>'
    )


def _table(
    verdicts: Sequence[Verdict], columns: dict[str, Callable[[Verdict], str]], **options: str
) -> str:
    """A table of claims with a column for each function."""
    lines = {v.claim.name: {name: cell(v) for name, cell in columns.items()} for v in verdicts}
    text = html(lines, _headings(verdicts), classes=dict.fromkeys(columns, "text"), **options).text
    return text.replace(">&nbsp;</th>", ">claim</th>", 1)


def _headings(verdicts: Sequence[Verdict]) -> list[str]:
    return [
        f'<span id="claim-{v.claim.name.replace("_", "-")}">{escape(v.claim.claim)}</span>'
        for v in verdicts
    ]


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


def _budget(test: Comparison, evidence: Evidence) -> str:
    """How much training stands behind the two rows of a comparison; nothing where it is the same,
    or where the reference is no row."""
    results = evidence.results
    return budget(results, test.row, test.versus) if test.versus in results.rows else ""


def _condition(verdict: Verdict, results: dict[str, Evidence]) -> str:
    """What a verdict holds under: equal steps, where the rows compared differ in image passes."""
    if verdict.word == UNRECORDED:
        return ""
    found = (_budget(test, results[test.experiment]) for test, _, _ in verdict.measured)
    if not any(words.startswith(EQUAL_STEPS) for words in found):
        return ""
    return f'<br><span class="interval">{EQUAL_STEPS}</span>'


@dataclass(frozen=True)
class Adjusted:
    """The p-value of a comparison, alone and among all comparisons of the page."""

    p: float
    holm: float
    benjamini_hochberg: float


def adjusted(verdicts: Sequence[Verdict]) -> dict[tuple[str, Comparison], Adjusted]:
    """(claim, comparison) -> its p-values, of every comparison that has one."""
    found = {
        (v.claim.name, test): change.p
        for v in verdicts
        for test, change, _ in v.measured
        if not isnan(change.p)
    }
    values = list(found.values())
    columns = zip(
        values, multiplicity.holm(values), multiplicity.benjamini_hochberg(values), strict=True
    )
    return {key: Adjusted(*map(float, column)) for key, column in zip(found, columns, strict=True)}


def surviving(verdicts: Sequence[Verdict], *, level: float = 0.05) -> str:
    """How many differences from zero are left when the number of comparisons is counted in:
    sentences that name them; nothing where none is measured."""
    found = adjusted(verdicts)
    if not found:
        return ""
    alone = [key for key, value in found.items() if value.p < level]
    holm = [key for key, value in found.items() if value.holm < level]
    share = [key for key, value in found.items() if value.benjamini_hochberg < level]
    names = ", ".join(f"{test.experiment} {test.row}".replace("_", " ") for _, test in holm)
    return (
        f"Of {len(found)} comparisons, {len(alone)} differ from zero at the level {level:g} over "
        "seeds when each is looked at alone;"
        f" Holm's adjustment for their number keeps {len(holm)}{f' ({names})' if names else ''}, "
        "that of Benjamini and Hochberg"
        f" {len(share)}."
    )


def _p(value: float) -> str:
    return f"below {number(0.001)}" if value < 0.001 else number(value)


Measured = tuple[Comparison, Estimate, str]  # a comparison, its change, and what came of it


def alike(measured: Sequence[Measured]) -> list[list[Measured]]:
    """Comparisons that stand one behind the other and differ in their column alone, together."""
    groups = groupby(measured, key=lambda found: replace(found[0], column=MEAN))
    return [list(found) for _, found in groups]


def compared(test: Comparison, evidence: Evidence, *, column: bool = True) -> str:
    """What stands against what, in the labels of the table, and where, unless `column` is False."""
    labels = {name: f"“{row.label}”" for name, row in evidence.results.rows.items()}
    if test.beside:
        other = evidence.reference(test.beside)
        return escape(
            f"change from {labels[test.versus]} to {labels[test.row]}, less that from "
            f"{labels[other]} to {labels[test.beside]}"
        )
    words = _place(test, evidence) if column else ""
    place = f", {words}" if words else ""
    return escape(f"{labels[test.row]} beside {evidence.references[test.versus]}{place}")


def _place(test: Comparison, evidence: Evidence) -> str:
    """The column of a comparison, or its columns, in words."""
    columns = [test.column] if isinstance(test.column, str) else test.column
    return ", ".join(evidence.columns[column] for column in columns)


def _measured(
    found: Sequence[Measured],
    evidence: Evidence,
    *,
    several: bool,
    values: Mapping[Comparison, "Adjusted | None"],
) -> str:
    """Comparisons of the same rows: what stands against what, linked to its table's page, and what
    was claimed; then for each the change with its intervals, seeds, training and p-values."""
    first = found[0][0]
    each = len(found) > 1
    page = f'<a href="{evidence.link}">{escape(first.experiment.replace("_", " "))}</a>'
    rows = compared(first, evidence, column=not each)
    lines = [f"{rows} ({page}); claimed: {CLAIMED[first.expect]}{', on each' * each}"]
    for test, change, word in found:
        place = f"{escape(_place(test, evidence))}: " if each else ""
        outcome = f": {word}" if several and change.count else ""
        lines.append(place + _figures(test, change, evidence, p=values.get(test)) + outcome)
    return f'<div class="measured">{"<br>".join(lines)}</div>'


def _figures(
    test: Comparison, change: Estimate, evidence: Evidence, *, p: "Adjusted | None" = None
) -> str:
    """A change with its intervals, and what stands behind it."""
    if not change.count:
        return UNRECORDED

    # the change and its intervals
    unit = "points" if test.beside else "%"
    text = f"<b>{number(change.mean, 1, sign=True)} {unit}</b>"
    names = ("over seeds", "over seeds and images")
    for (low, high), name in zip(change.intervals, names, strict=False):
        ends = f"{number(low, 1, sign=True)} to {number(high, 1, sign=True)}"
        text += f', <span class="interval">{ends} {name}</span>'

    # what stands behind it
    results = evidence.results
    planned = len(results.entries) // len(results.rows)
    of_planned = f" of {planned}" if change.count < planned else ""
    text += f"; {change.count}{of_planned} seeds"
    asked = involved(test, evidence)
    if any(e.status == "stale" for e in results.found if e.row.name in asked):
        text += ' <span class="stale">stale</span>'
    if words := _budget(test, evidence):
        text += f"; {words}"
    if p is not None:
        text += (
            f"; p {_p(p.p)}, Holm {_p(p.holm)}, Benjamini and Hochberg {_p(p.benjamini_hochberg)}"
        )
    return text


def involved(test: Comparison, evidence: Evidence) -> set[str]:
    """The rows whose runs a comparison reads."""
    results = evidence.results
    named = {test.row, test.versus, test.beside}
    if test.beside:
        named.add(evidence.reference(test.beside))
    rows = named & results.rows.keys()
    return rows | {results.base(row) for row in rows}


def tally(verdicts: Sequence[Verdict]) -> str:
    """How many claims met which verdict: two sentences."""
    counts = Counter(v.word for v in verdicts)
    tested = len(verdicts) - counts[CANNOT]
    if tested == counts[UNRECORDED]:
        return (
            f"The runs that would decide {tested} of the claims are not yet recorded; {counts[CANNOT]} "
            "more cannot be decided here."
        )
    words = {REPRODUCED: "reproduced", NOT_REPRODUCED: "not reproduced", UNDECIDED: "undecided"}
    parts = [
        f"{counts[word]} {'is' if counts[word] == 1 else 'are'} {said}"
        for word, said in words.items()
    ]
    if waiting := counts[UNRECORDED]:
        parts.append(f"{waiting} {'waits for its' if waiting == 1 else 'wait for their'} runs")
    last = f"{counts[CANNOT]} more cannot be decided here."
    return (
        f"Of {tested} claims that can be tested here, {', '.join(parts[:-1])} and {parts[-1]}. "
        f"{last}"
    )


def sensitivity(
    known: Claims, results: dict[str, Evidence], factors: Sequence[float] = (0.5, 1.5)
) -> str:
    """What the tally would be with other margins: a sentence, or nothing where nothing is recorded.
    The same intervals, the same rule."""
    if all(v.word in (UNRECORDED, CANNOT) for v in verdicts_of(known, results)):
        return ""
    parts = []
    for factor in factors:
        margin = factor * known.margin
        counts = Counter(v.word for v in verdicts_of(replace(known, margin=margin), results))
        numbers = ", ".join(
            f"{counts[word]} {word}" for word in (REPRODUCED, NOT_REPRODUCED, UNDECIDED)
        )
        parts.append(f"with {margin:g} % they would be {numbers}")
    return f"As to the verdicts: {'; '.join(parts)}."


def counted(verdicts: Sequence[Verdict]) -> str:
    """How many comparisons stand behind the table: a sentence."""
    count = intervals(verdicts)
    if not count:
        return "No comparison has been measured yet."
    return f"The table compares {count} {'pair' if count == 1 else 'pairs'} so far."


def intervals(verdicts: Sequence[Verdict]) -> int:
    """How many comparisons have been measured: what the level of an interval has to be held
    against."""
    return sum(change.count > 1 for v in verdicts for _, change, _ in v.measured)
