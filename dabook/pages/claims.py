"""The page of claims: its tables and its tally, from verdicts."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby
from math import isnan

from dabook.analysis import multiplicity
from dabook.analysis.budget import (
    EQUAL_BOTH,
    EQUAL_COMPUTE,
    NONE_DECLARED,
    UNTRAINED,
    budget,
    reading_of,
)
from dabook.analysis.evidence import Comparison, Evidence
from dabook.analysis.statistics import MEAN, Estimate
from dabook.analysis.verdicts import (
    CANNOT,
    JUDGED,
    SOURCES,
    UNRECORDED,
    Claim,
    Claims,
    Measured,
    Verdict,
)
from dabook.analysis.verdicts import verdicts as verdicts_of
from dabook.show.html import MARKS, Html, html, number

CLAIMED = {"lower": "a lower error", "higher": "a higher error", "no_gain": "no gain"}


def tables(verdicts: Sequence[Verdict], claims: Claims, results: dict[str, Evidence]) -> Html:
    """Every claim that is tested: a table per topic with who makes it, what was measured, and the
    verdict with its reading, and the one at equal compute."""

    def measured(verdict: Verdict) -> str:
        parts = [
            _measured(found, results[found[0].test.experiment], several=len(verdict.measured) > 1)
            for found in alike(verdict.comparisons)
        ]
        if verdict.claim.plan:
            parts.append(f'<div class="measured plan">Plan: {escape(verdict.claim.plan)}</div>')
        return "".join(parts)

    columns = {
        "who says so": lambda v: source(v.claim),
        "what we measured": measured,
        "verdict": chip,
        "at equal compute": at_compute,
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


def chip(verdict: Verdict) -> str:
    """A verdict with its reading in a frame; colour only repeats what the words say."""
    return f'<span class="verdict {verdict.word.replace(" ", "-")}">{verdict.said}</span>'


def at_compute(verdict: Verdict) -> str:
    """The verdict at equal compute, or why there is none of its own."""
    if verdict.at_compute is not None:
        return chip(verdict.at_compute)
    same = {EQUAL_COMPUTE, EQUAL_BOTH, UNTRAINED}
    return "the same" if {f.reading for f in verdict.measured} <= same else NONE_DECLARED


def _budget(test: Comparison, evidence: Evidence) -> str:
    """How much training stands behind the two rows of a comparison; nothing where their reading,
    which stands with the verdict, says it all, or where the reference is no row."""
    results = evidence.results
    if test.versus not in results.rows:
        return ""
    words = budget(results, test.row, test.versus)
    return "" if words == reading_of(results, test.row, test.versus) else words


@dataclass(frozen=True)
class Adjusted:
    """The p-value of a comparison, alone and among all comparisons of the page."""

    p: float
    holm: float
    benjamini_hochberg: float


def adjusted(verdicts: Sequence[Verdict]) -> dict[Comparison, Adjusted]:
    """Comparison -> its p-values, of every comparison that has one, those at equal compute too; each
    once (`once`), however many claims hang on it."""
    found = {
        once(each.test): each.change.p
        for v in verdicts
        for each in v.comparisons
        if not isnan(each.change.p)
    }
    values = list(found.values())
    columns = zip(
        values, multiplicity.holm(values), multiplicity.benjamini_hochberg(values), strict=True
    )
    return {
        test: Adjusted(*map(float, column)) for test, column in zip(found, columns, strict=True)
    }


def once(test: Comparison) -> Comparison:
    """The same for all comparisons of the same rows in the same column, whatever is expected."""
    return replace(test, expect="")


def surviving(verdicts: Sequence[Verdict], *, level: float = 0.05) -> str:
    """How many differences from zero are left when the number of comparisons is counted in:
    sentences that name them; nothing where none is measured."""
    found = adjusted(verdicts)
    if not found:
        return ""
    alone = [test for test, value in found.items() if value.p < level]
    holm = [test for test, value in found.items() if value.holm < level]
    share = [test for test, value in found.items() if value.benjamini_hochberg < level]
    names = "; ".join(map(_brief, holm))
    return (
        f"Of {len(found)} comparisons, {len(alone)} differ from zero at the level {level:g} over "
        "seeds when each is looked at alone;"
        f" Holm's adjustment for their number keeps {len(holm)}{f' ({names})' if names else ''}, "
        "that of Benjamini and Hochberg"
        f" {len(share)}."
    )


def _brief(test: Comparison) -> str:
    """Source and rows of a comparison by their names."""
    column = "" if test.column == MEAN else f", {test.column}"
    words = f"{test.experiment}: {test.row} beside {test.versus}{column}"
    return words.replace("_", " ")


def multiplicity_table(verdicts: Sequence[Verdict], results: Mapping[str, Evidence]) -> Html:
    """Every comparison that carries a claim and has a p-value: its claims, rows, reading, change, and
    the p-value alone, by Holm and by Benjamini and Hochberg; the smallest first."""
    values = adjusted(verdicts)
    found: dict[Comparison, Measured] = {}
    links: dict[Comparison, list[str]] = {}
    for v in verdicts:
        link = f'<a href="#claim-{v.claim.name.replace("_", "-")}">{escape(v.claim.claim)}</a>'
        for each in v.comparisons:
            found.setdefault(once(each.test), each)
            links.setdefault(once(each.test), []).append(link)
    lines = {}
    headings = []
    for place, test in enumerate(sorted(values, key=lambda t: (values[t].p, str(t)))):
        one = found[test]
        value = values[test]
        unit = number(one.change.mean, 1, sign=True)
        lines[str(place)] = {
            "compared": compared(one.test, results[test.experiment]),
            "reading": one.reading,
            "change, %": f"{unit}<br>"
            + "<br>".join(
                f'<span class="interval">{number(low, 1, sign=True)} to '
                f"{number(high, 1, sign=True)} {MARKS[over]}</span>"
                for over, (low, high) in one.change.named.items()
            ),
            "p": _p(value.p),
            "Holm": _p(value.holm),
            "Benjamini and Hochberg": _p(value.benjamini_hochberg),
        }
        headings.append("<br>".join(dict.fromkeys(links[test])))
    if not lines:
        return Html(f'<p class="provenance">{UNRECORDED.capitalize()}.</p>')
    marks = dict.fromkeys(("compared", "reading"), "text")
    return html(lines, headings, classes=marks, name="claims-multiplicity")


def _p(value: float) -> str:
    return f"below {number(0.001)}" if value < 0.001 else number(value)


def alike(measured: Sequence[Measured]) -> list[list[Measured]]:
    """Comparisons that stand one behind the other and differ in their column alone, together."""
    groups = groupby(measured, key=lambda found: replace(found.test, column=MEAN))
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
) -> str:
    """Comparisons of the same rows: what stands against what, linked to its table's page, and what
    was claimed; then for each the change with its intervals, seeds and training."""
    first = found[0].test
    each = len(found) > 1
    page = f'<a href="{evidence.link}">{escape(first.experiment.replace("_", " "))}</a>'
    rows = compared(first, evidence, column=not each)
    lines = [f"{rows} ({page}); claimed: {CLAIMED[first.expect]}{', on each' * each}"]
    for one in found:
        place = f"{escape(_place(one.test, evidence))}: " if each else ""
        outcome = f": {one.said}" if several and one.change.count else ""
        lines.append(place + _figures(one.test, one.change, evidence) + outcome)
    return f'<div class="measured">{"<br>".join(lines)}</div>'


def _figures(test: Comparison, change: Estimate, evidence: Evidence) -> str:
    """A change with its intervals, and what stands behind it."""
    if not change.count:
        return UNRECORDED

    # the change and its intervals
    if change.why:
        return change.why
    text = f"<b>{number(change.mean, 1, sign=True)} %</b>"
    for name, (low, high) in change.named.items():
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
    """How many claims met which verdict, and at which reading: sentences."""
    counts = Counter(v.word for v in verdicts)
    tested = len(verdicts) - counts[CANNOT]
    if tested == counts[UNRECORDED]:
        return (
            f"The runs that would decide {tested} of the claims are not yet recorded; {counts[CANNOT]} "
            "more cannot be decided here."
        )
    parts = [
        f"{counts[word]} {'is' if counts[word] == 1 else 'are'} {_by_reading(verdicts, word)}"
        for word in JUDGED
    ]
    if waiting := counts[UNRECORDED]:
        parts.append(f"{waiting} {'waits for its' if waiting == 1 else 'wait for their'} runs")
    last = f"{counts[CANNOT]} more cannot be decided here."
    return (
        f"Of {tested} claims that can be tested here, {', '.join(parts[:-1])} and {parts[-1]}. "
        f"{_tally_at_compute(verdicts)}{last}"
    )


def _by_reading(verdicts: Sequence[Verdict], word: str) -> str:
    """A word of `JUDGED` with how many verdicts have it at which reading."""
    counts = Counter(v.reading for v in verdicts if v.word == word)
    told = ", ".join(f"{count} {reading}" for reading, count in counts.most_common())
    return f"{word} ({told})" if told else word


def _tally_at_compute(verdicts: Sequence[Verdict]) -> str:
    """How the claims that are tested at equal compute as well came out there; nothing without."""
    others = [v.at_compute for v in verdicts if v.at_compute is not None]
    if not others:
        return ""
    counts = Counter(v.said for v in others)
    told = ", ".join(f"{count} {words}" for words, count in counts.most_common())
    return f"Of {len(others)} that are tested at equal compute as well: {told}. "


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
        found = verdicts_of(replace(known, margin=margin), results)
        counts = Counter(v.word for v in found)
        numbers = ", ".join(f"{counts[word]} {_by_reading(found, word)}" for word in JUDGED)
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
    return len({once(f.test) for v in verdicts for f in v.comparisons if f.change.count > 1})
