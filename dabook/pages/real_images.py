"""Real images in the book: tables and sentences on every row of an experiment per data set, beside the
floors and beside the other rows (`dabook.analysis.real`)."""

from collections.abc import Mapping, Sequence

import numpy as np

from dabook.analysis import budget, means
from dabook.analysis.budget import EQUAL_COMPUTE, EQUAL_STEPS
from dabook.analysis.floors import above_surface, best, blind, inversions, level, real_scores
from dabook.analysis.floors import heading as floor_heading
from dabook.analysis.real import (
    NAMES,
    below_floors,
    change,
    comparisons,
    counted,
    data_sets,
    images,
    independent,
    name_of,
    of_half,
    side,
    whole,
)
from dabook.analysis.statistics import Estimate, Results
from dabook.runs.floors import Scores, read_floors
from dabook.show.html import Html, cell, html, number, row_link
from dabook.show.sentences import (
    UNRECORDED,
    by_verdict,
    effect,
    leaving_one_out,
    part,
    part_by_part,
    subject,
    told_at_compute,
)
from dabook.show.tables import above, heading, marks, scales
from dabook.show.tables import provenance as provenance_line
from dalib import certificates
from dalib.evaluation.floors import SURFACE

TITLES = {"wheel": "in every install", "tune": "guided the scenes", "table": "kept for this table"}
VERDICTS = {-1: "below", 0: "not to be told apart", 1: "above"}
FEW = 6
"""With fewer images or sequences than this a data set's verdict hangs on them."""
HALF = {"tune": "tuning half", "table": "table half"}
# AbsRel; first written down in the commit of the first records
AIMS = {"nyuv2": 0.22, "kitti": 0.20}


def few(results: Results) -> str:
    """Which of the data sets have so few images, or sequences where images belong together, that a
    verdict hangs on them: a sentence, or nothing."""
    counts = {d: independent(results, d) for d in counted(results)}
    small = {d: n for d, n in counts.items() if 0 < n < FEW}
    if not small:
        return ""
    names = ", ".join(f"{name_of(d)} ({n})" for d, n in small.items())
    return (
        f"{len(small)} of {len(counts)} data sets have fewer than {FEW} images or sequences that "
        f"stand by themselves, and what is said of each hangs on them: {names}."
    )


def real_table(results: Results, metric: str = "abs_rel") -> Html:
    """Every row per real data set, with its number of images, beside the floors and the quadratic
    surface, and the mean over the data sets of each half, geometric (`dabook.analysis.means`) and
    plain. Motorcycle is shown twice and counted once.

    Args:
        results: of an experiment; means over images, then over seeds.
        metric: "abs_rel" or "delta1".
    """
    record = read_floors()
    halves = data_sets(results, record)
    counts = {d: images(results, d) for half in halves.values() for d in half}
    lines = {}
    headings = []
    known = real_scores()
    for kind, scores in known.items():
        levels = {d: level(scores, d, (), metric) for d in scores}
        headings.append(f"<i>{floor_heading(kind)}</i>")
        cells = {k: number(v) for k, v in _columns(levels, halves, counts, metric).items()}
        lines[kind] = cells | _turned(scores, halves, counts, cells)
    for row in results.rows:
        link = row_link(results, row)
        line = {}
        for half, sets in halves.items():
            for d in sets:
                value = results.value(row, d, metric, group="real").point
                mark = above(results.of(row), _with(known, d), [d], group="real")
                text = cell(value, link=link) + (mark if metric == "abs_rel" else "")
                line[TITLES[half], _title(d, counts)] = text
            kept = tuple(d for d in sets if d in counted(results))
            if len(kept) > 1:
                value = results.value(row, kept, metric, group="real")
                line[TITLES[half], "mean"] = cell(value, link=link)
                if metric == "abs_rel":
                    plain = results.plain(row, kept, group="real")
                    line[TITLES[half], "plain mean"] = cell(plain, link=link)
        headings.append(heading(results, row))
        lines[row] = line
    if not any(halves.values()):
        return Html(
            '<p class="provenance"><span class="stale">Nothing is recorded on real images '
            "yet.</span></p>"
        )
    arrow = "AbsRel ↓" if metric == "abs_rel" else "δ₁ ↑"
    caption = f"{arrow}; in parentheses the number of images"
    table = html(lines, headings, caption=caption, name=f"real-{metric}-{results.experiment}")
    below = marks(results, known) if metric == "abs_rel" else Html("")
    rest = _line(record) + scales(results, "real") + provenance_line(results)
    return table + below + rest


def _with(known: Scores, data_set: str) -> Scores:
    """The floors that are recorded on a data set."""
    return {name: scores for name, scores in known.items() if data_set in scores}


def _columns(
    levels: Mapping[str, float],
    halves: Mapping[str, list[str]],
    counts: Mapping[str, int],
    metric: str,
) -> dict[tuple[str, str], float]:
    """(half, data set) -> level of a floor, and the means over the data sets of each half where
    there are several."""
    columns = {}
    for half, sets in halves.items():
        found = {d: levels.get(d, Estimate().mean) for d in sets}
        columns |= {(TITLES[half], _title(d, counts)): value for d, value in found.items()}
        if len(sets) > 1:
            each = np.array([*found.values()])
            columns[TITLES[half], "mean"] = float(means.over_domains(each, metric))
            if metric == "abs_rel":
                columns[TITLES[half], "plain mean"] = float(each.mean())
    return columns


def _title(data_set: str, counts: Mapping[str, int]) -> str:
    return f"{name_of(data_set)} ({counts[data_set]})"


def _turned(
    scores: dict, halves: Mapping[str, list[str]], counts: Mapping[str, int], cells: Mapping
) -> dict:
    """The cells of a floor on data sets where it is the wrong way round on some images, with how
    many."""
    found = {}
    for half, sets in halves.items():
        for d in sets:
            wrong, _ = (inversions([scores[d]]) if d in scores else None) or (0, 0)
            if wrong:
                key = TITLES[half], _title(d, counts)
                found[key] = f'{cells[key]}<br><span class="interval">{wrong} turned round</span>'
    return found


def _line(floors: dict | None) -> Html:
    if floors is None:
        return Html(
            '<p class="provenance"><span class="stale">The floors are not recorded: python -m '
            "dabook floors</span></p>"
        )
    state = (
        "fresh"
        if certificates.unchanged("evaluation", floors["evaluation_hash"])
        else '<span class="stale">STALE</span>'
    )
    return Html(
        f'<p class="provenance">Floors: code <code>{floors["evaluation_hash"]}</code> ({state})</p>'
    )


def changes_table(results: Results) -> Html:
    """Paired changes per real data set and over each half, in percent, with both intervals: each row
    beside the one that it is compared with, and each student beside labelled images alone of as much
    compute, with the reading."""
    halves = data_sets(results, read_floors())
    counts = {d: images(results, d) for half in halves.values() for d in half}
    sets = counted(results)
    lines = {}
    headings = []
    for row, other in [*comparisons(results), *results.equal_compute.items()]:
        line = {}
        link = row_link(results, row)
        for half, members in halves.items():
            kept = [d for d in members if d in sets]
            columns = {_title(d, counts): [d] for d in kept}
            if len(kept) > 1:
                columns["mean"] = kept
            for name, chosen in columns.items():
                moved = change(results, row, other, chosen)
                line[TITLES[half], name] = cell(moved, 1, sign=True, link=link)
        lines[f"{row} {other}"] = line
        headings.append(
            f"{heading(results, row)}<br>against {heading(results, other)}"
            f'<br><span class="interval">{budget.reading_of(results, row, other)}</span>'
        )
    if not sets or not results.found:
        return Html(
            '<p class="provenance"><span class="stale">Nothing is recorded on real images '
            "yet.</span></p>"
        )
    caption = "change of AbsRel, %; in parentheses the number of images"
    table = html(lines, headings, caption=caption, name=f"real-changes-{results.experiment}")
    return table + provenance_line(results)


def effects(results: Results, *, half: str = "table") -> str:
    """The paired changes on the mean over the data sets of a half: sentences, the whole recipe first
    with its intervals, then its parts by what they show, and at the end what is left at equal
    compute."""
    sets = of_half(results, half)
    found = {pair: change(results, *pair, sets) for pair in comparisons(results)}
    if not any(c.count for c in found.values()):
        return UNRECORDED
    row, other = whole(results)
    told = effect(found[row, other])
    left = {name_of(d): change(results, row, other, [s for s in sets if s != d]) for d in sets}
    if hangs := leaving_one_out(found[row, other], left):
        told += f"; the change {hangs}"
    sentences = [
        f"On the mean of the {len(sets)} data sets of the {HALF[half]}, {_beside(results, row, other)} "
        f"{told}."
    ]
    longer = set(results.equal_compute.values())
    parts = {
        part(results.rows[row].label): moved
        for (row, other), moved in found.items()
        if (row, other) != whole(results) and row not in longer
    }
    sentences.append(f"{part_by_part(results)}, {by_verdict(parts)}.")
    sentences += [
        f"{subject(results, row)} {effect(moved)}."
        for (row, _), moved in found.items()
        if row in longer
    ]
    return " ".join([*sentences, *_at_compute(results, sets)])


def both_halves(results: Results) -> str:
    """The whole recipe on the mean of each half and of all data sets, at both readings: a sentence,
    for the halves may not agree."""
    row, first = whole(results)
    others = [first, *filter(None, [results.equal_compute.get(row)])]
    groups = {HALF[half]: of_half(results, half) for half in ("table", "tune")}
    every = counted(results)
    groups[f"all {len(every)}"] = every
    parts = []
    for name, sets in groups.items():
        found = [change(results, row, other, sets) for other in others]
        if all(moved.count > 1 for moved in found):
            told = (
                f"{number(moved.mean, 1, sign=True)} %{'' if moved.decided else ' (undecided)'}"
                for moved in found
            )
            parts.append(f"{name} {' and '.join(told)}")
    if not parts:
        return UNRECORDED
    readings = " and ".join([EQUAL_STEPS, EQUAL_COMPUTE][: len(others)])
    return f"The whole recipe on the mean of the data sets, {readings}: {'; '.join(parts)}."


def each(results: Results, sets: Sequence[str]) -> str:
    """What the whole recipe does on each of several data sets by itself, at both readings: a
    sentence for each, and how many images it is of."""
    row, other = whole(results)
    sentences = []
    for d in sets:
        moved = change(results, row, other, [d])
        if moved.count:
            count = images(results, d)
            where = f"On {name_of(d)} ({count} image{'s' * (count != 1)})"
            sentences.append(f"{where}, {_beside(results, row, other)} {effect(moved)}.")
            sentences += _at_compute(results, [d], rows=[row])
    return " ".join(sentences) or UNRECORDED


def _at_compute(
    results: Results, sets: Sequence[str], rows: Sequence[str] | None = None
) -> list[str]:
    """The second reading on some data sets, of all rows that have one or of some: a sentence, where
    anything is recorded, with the last in full and the others by what they show."""
    asked = results.equal_compute if rows is None else rows
    pairs = {row: results.equal_compute[row] for row in asked if row in results.equal_compute}
    found = {row: change(results, row, other, sets) for row, other in pairs.items()}
    told = told_at_compute(results, found)
    return [told] if told else []


def _beside(results: Results, row: str, other: str) -> str:
    """Two rows by their labels."""
    return f"“{results.rows[row].label}” beside “{results.rows[other].label}”"


def standing(results: Results, row: str) -> Html:
    """A row beside the best floor of each data set: how many images, which floor, both errors, the
    change, and a verdict; then its change against the quadratic surface, where that is recorded."""
    floors = real_scores()
    lines = {}
    for d, gap in below_floors(results, row).items():
        name, lowest = best(floors, d)
        lines[d] = {
            "images": str(images(results, d)),
            "best floor": name,
            "its AbsRel": number(lowest),
            results.rows[row].label: cell(
                results.value(row, d, group="real").point, link=row_link(results, row)
            ),
            "change, %": cell(gap, 1, sign=True),
            "the row is": VERDICTS[side(gap)],
        }
        if SURFACE in _with(floors, d):
            line = above_surface(results.of(row), floors, [d], group="real")
            lines[d] |= {
                "fitted surface": number(level(floors[SURFACE], d, ())),
                "change beside it, %": cell(line, 1, sign=True),
            }
    if not lines:
        return Html(
            '<p class="provenance"><span class="stale">Nothing is recorded on real images '
            "yet.</span></p>"
        )
    return html(lines, [name_of(d) for d in lines], name=f"standing-{row}")


def reading(results: Results, row: str) -> str:
    """On how many data sets a row beats every floor, and the others by name."""
    gaps = below_floors(results, row)
    if not gaps:
        return UNRECORDED
    sides = {s: [name_of(d) for d, gap in gaps.items() if side(gap) == s] for s in VERDICTS}
    text = (
        f"“{results.rows[row].label}” lies below the best of {len(blind(real_scores()))} floors on "
        f"{len(sides[-1])} of {len(gaps)} data sets"
    )
    if sides[0]:
        text += f"; it cannot be told from it on {', '.join(sides[0])}"
    if sides[1]:
        text += f"; it lies above it on {', '.join(sides[1])}"
    return text + "."


def unbeaten(results: Results) -> str:
    """On which data sets no row at all is surely below the best floor: a sentence that names
    them."""
    gaps = {row: below_floors(results, row) for row in results.rows}
    known = dict.fromkeys(d for by_set in gaps.values() for d in by_set)
    if not known:
        return UNRECORDED
    lost = [
        d for d in known if not any(d in by_set and side(by_set[d]) < 0 for by_set in gaps.values())
    ]
    if not lost:
        return f"On each of {len(known)} data sets some row is surely below every floor."
    floors = real_scores()
    names = ", ".join(f"{name_of(d)} ({best(floors, d)[0]})" for d in lost)
    return (
        f"No row is surely below the best floor, which looks at no picture, on {len(lost)} of "
        f"{len(known)} data sets: {names}."
    )


def floors_reading(results: Results) -> str:
    """On how many data sets each floor is the best of them: a sentence."""
    floors = blind(real_scores())
    sets = counted(results)
    if not floors:
        return UNRECORDED
    winners = [best(floors, d)[0] for d in sets]
    parts = ", ".join(f"the {name} on {winners.count(name)}" for name in floors)
    return f"Of the floors the lowest is {parts} of {len(sets)} data sets."


def aims(results: Results, row: str) -> str:
    """The errors that were aimed at, beside what came out."""
    values = {name: results.value(row, name, group="real").mean for name in AIMS}
    if not any(value == value for value in values.values()):
        return UNRECORDED
    floors = real_scores()
    parts = []
    for name, aim in AIMS.items():
        text = (
            f"{NAMES[name]} under {aim:.2f} ({'reached' if values[name] < aim else 'missed'}: "
            f"{number(values[name])}"
        )
        floor, lowest = best(floors, name)
        parts.append(text + (f"; the {floor} has {number(lowest)})" if floor else ")"))
    return "Aimed at: " + ", ".join(parts) + "."
