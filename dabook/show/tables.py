"""What the book shows of the records: tables whose numbers lead to their runs, provenance lines,
and sentences chosen by the data."""

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from html import escape
from math import isnan

import pandas as pd

from dabook.analysis import floors
from dabook.analysis.bootstrap import DRAWS
from dabook.analysis.paper import paper, paper_change
from dabook.analysis.statistics import MEAN, VALIDATION, Estimate, Results
from dabook.runs import records
from dabook.runs.experiments import Experiment
from dabook.runs.records import Entry
from dalib.config import RunConfig
from dalib.data.scenes import TEST_DOMAINS

DASH = "–"
RESAMPLED = (
    "Student's t over seeds; below it, of a change, the bootstrap over seeds and test images"
    f" ({DRAWS} draws of seeds and, in each domain, of images, the same images for all rows and "
    "seeds)"
)


@dataclass(frozen=True, repr=False)
class Html:
    """A piece of a page; Jupyter and glue show it as it is."""

    text: str

    def _repr_html_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        """For a terminal: what is read, without the tags."""
        return " ".join(re.sub(r"<[^>]*>", " ", self.text).split())

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
    """Mean and interval as HTML, the mean linked to where it comes from."""
    text = number(estimate.mean, digits, sign=sign)
    text = f'<a href="{link}">{text}</a>' if link and estimate.count else text
    if isnan(estimate.half):
        return text
    for low, high in estimate.intervals:
        ends = f"{number(low, digits, sign=sign)} to {number(high, digits, sign=sign)}"
        text += f'<br><span class="interval">{ends}</span>'
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
    return Html(f'<div class="table-scroll">{text}</div>')


def record_link(record: dict) -> str:
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


def heading(results: Results, row: str) -> str:
    """A row's label, marked where it is stale, has not every seed that was planned, or none."""
    states = [e.status for e in results.entries if e.row.name == row]
    there = sum(state != "missing" for state in states)
    marks = ["stale"] if "stale" in states else []
    if there < len(states):
        marks.append(f"{there} of {len(states)} seeds" if there else "not recorded")
    return escape(results.rows[row].label) + "".join(
        f' <span class="stale">{mark}</span>' for mark in marks
    )


def main_table(results: Results) -> Html:
    """The table of an experiment: mean over the test domains, change, the paper, in-domain, each
    domain, the records; then the floors."""
    domains, lines = results.domains if results.found else list(TEST_DOMAINS), {}
    theirs = paper(results.experiment)
    for row in results.rows:
        link = row_link(results, row)
        line = {
            "AbsRel ↓": cell(results.value(row), link=link),
            "change, %": cell(results.change(row), 1, sign=True, link=link),
        }
        if theirs:
            line["paper: AbsRel"] = number(theirs.get(row, Estimate().mean))
            line["paper: change, %"] = number(paper_change(results, row), 1, sign=True)
        line["δ₁ ↑"] = cell(results.value(row, metric="delta1"), link=link)
        if results.heaviest:
            line[_without(results)] = cell(results.value(row, results.others).point, link=link)
        line |= {
            title(d): cell(results.value(row, d).point, link=link) for d in (VALIDATION, *domains)
        }
        seeds = (f'<a href="{record_link(e.record)}">{e.config.seed}</a>' for e in results.of(row))
        lines[row] = line | {"records by seed": " ".join(seeds) or DASH}
    headings = [heading(results, row) for row in lines]
    for name, scores in floors.drawn_scores(results).items():
        lines[f"floor {name}"] = _floor_line(results, scores, [*line, "records by seed"], domains)
        headings.append(f"<i>floor: {escape(name)}</i>")
    table = html(
        lines,
        headings,
        classes={"paper: AbsRel": "paper", "paper: change, %": "paper"} if theirs else None,
        name=f"{results.experiment}-{results.profile}",
    )
    return table + provenance(results) + scales(results) + missing(results)


def _without(results: Results) -> str:
    """Heading of the mean that leaves out the domain with the largest error."""
    return f"without {title(results.heaviest)}"


def _floor_line(
    results: Results, scores: dict[str, dict], columns: list[str], domains: list[str]
) -> dict:
    """A floor under the rows of a table: its errors where there are any, a dash in every other
    column."""
    line = dict.fromkeys(columns, DASH)
    line["AbsRel ↓"] = number(floors.level(scores, MEAN, domains))
    line["δ₁ ↑"] = number(floors.level(scores, MEAN, domains, "delta1"))
    if results.heaviest:
        line[_without(results)] = number(floors.level(scores, results.others, domains))
    return line | {
        title(d): number(floors.level(scores, d, domains)) for d in (VALIDATION, *domains)
    }


def scales(results: Results, group: str = "images") -> Html:
    """A line under a table: of how many images the fitted scale is below zero, row by row and floor
    by floor.

    Args:
        results: of the experiment.
        group: "images", the drawn domains, or "real".
    """
    known = floors.drawn_scores(results) if group == "images" else floors.real_scores()
    found = {f"floor: {name}": floors.inversions(scores.values()) for name, scores in known.items()}
    for row, spec in results.rows.items():
        counts = [floors.inversions(e.record.get(group, {}).values()) for e in results.of(row)]
        if counts:
            whole = (
                None if None in counts else (sum(n for n, _ in counts), sum(m for _, m in counts))
            )
            found[f"“{spec.label}”"] = whole
    if not found:
        return Html("")
    groups: dict[str, list[str]] = {}
    for name, count in found.items():
        groups.setdefault(floors.inversion_text(count), []).append(escape(name))
    parts = "; ".join(f"{text}: {', '.join(names)}" for text, names in groups.items())
    why = (
        "images with a fitted scale below zero, whose near and far are the wrong way round "
        "though they are scored as if right"
    )
    return Html(f'<p class="provenance">{why.capitalize()}: {parts}</p>')


def record_list(results: Results) -> Html:
    """Every record behind a table: one line each, every number linked to the record's page."""
    wide, lines, headings = results.scores(), {}, []
    for row in results.rows:
        for i, entry in enumerate(results.of(row)):
            record, link = entry.record, record_link(entry.record)
            line = {"seed": str(entry.config.seed)}
            for domain, value in wide.loc[(row, entry.config.seed)].items():
                line[title(domain)] = f'<a href="{link}">{number(value)}</a>'
            commit = record["commit"] + "+" * record["dirty"]
            for key, fact in (
                ("config", record["hash"]),
                ("code", records.code(record)),
                ("commit", commit),
            ):
                line[key] = f"<code>{escape(fact)}</code>"
            line |= {
                "minutes": number(record["wall_seconds"] / 60, 1),
                "made": record["created"][:10],
            }
            lines[f"{row} {entry.config.seed}"] = line
            headings.append(
                f'<span id="{anchor(results, row)}"></span>' * (i == 0) + heading(results, row)
            )
    name = f"records-{results.experiment}-{results.profile}"
    return html(lines, headings, name=name) if lines else missing(results)


def _seeds(results: Results) -> str:
    """The fewest and the most seeds that are recorded of a row."""
    counts = sorted({len(results.of(row)) for row in results.rows})
    return " to ".join(str(c) for c in dict.fromkeys((counts[0], counts[-1]))) + " seed(s)"


def provenance(results: Results) -> Html:
    """The line under a table: how many seeds, which code, which machine, when, and what the
    intervals are."""
    found = [e.record for e in results.found]
    if not found:
        return Html("")

    def distinct(key) -> str:
        return ", ".join(dict.fromkeys(escape(str(key(r))) for r in found))

    stale = sum(e.status == "stale" for e in results.found)
    state = (
        f'<span class="stale">STALE: {stale} of {len(found)} runs come from older code</span>'
        if stale
        else "fresh"
    )
    days = sorted(r["created"][:10] for r in found)
    threads = (
        f"{distinct(lambda r: r['threads'])} thread(s), "
        f"{distinct(lambda r: r['processes'])} process(es) each"
    )
    parts = [
        f"{escape(results.experiment)}, profile {escape(results.profile)}",
        f"{_seeds(results)} per row",
        f"code <code>{distinct(records.code)}</code> ({state})",
        f"commit <code>{distinct(lambda r: r['commit'] + '+' * r['dirty'])}</code>",
        f"{distinct(_device)}, {threads}",
        " to ".join(dict.fromkeys((days[0], days[-1]))),
        "changes paired by seed, in % of the error of the first row compared",
        f"intervals, 95 %: {RESAMPLED}",
    ]
    return Html(f'<p class="provenance">{" · ".join(parts)}</p>')


def _device(record: dict) -> str:
    """The processor's name; with its vector instructions, where the record says them (earlier ones
    do not)."""
    return (
        f"{record['device']} ({record['instructions']})"
        if "instructions" in record
        else record["device"]
    )


def missing(results: Results) -> Html:
    """What is not recorded, and how to run it; nothing where all is there."""
    lacking = len(results.entries) - len(results.found)
    if not lacking:
        return Html("")
    command = escape(results.command)
    text = (
        f"{lacking} of {len(results.entries)} runs are not recorded yet. To run them: "
        f"<code>{command}</code>."
    )
    return Html(f'<p class="provenance"><span class="stale">{text}</span></p>')


def side_by_side(yours: Results, recorded: Results) -> Html:
    """Your run, the recorded run and the paper: the level of each row, and its change."""
    theirs, lines = paper(recorded.experiment), {}
    for row in recorded.rows:
        line = {}
        for name, r in (("your run", yours), ("the recorded run", recorded)):
            link = row_link(r, row) if row in r.rows else None
            line[name, "AbsRel"] = cell(r.value(row), link=link)
            line[name, "change, %"] = cell(r.change(row), 1, sign=True, link=link)
        line["the paper", "AbsRel"] = number(theirs.get(row, Estimate().mean))
        line["the paper", "change, %"] = number(paper_change(recorded, row), 1, sign=True)
        lines[row] = line
    marks = {c: "paper" for c in line if c[0] == "the paper"}
    note = "; ".join(
        f"{who}: profile {escape(r.profile)}, {_seeds(r)} per row"
        for who, r in (("your run", yours), ("the recorded run", recorded))
    )
    table = html(
        lines,
        [heading(recorded, row) for row in lines],
        classes=marks,
        name=f"beside-{recorded.experiment}",
    )
    return (
        table
        + Html(
            f'<p class="provenance">{note}. Levels differ between the three for many reasons; '
            "compare the directions.</p>"
        )
        + missing(yours)
    )


def plan(experiment: Experiment) -> Html:
    """The rows as they were written down: what each one is compared with nothing but its
    settings."""
    plain, lines = RunConfig().to_dict(), {}
    for row in experiment.rows:
        settings = {k: v for k, v in row.configs[0].to_dict().items() if v != plain[k]}
        text = ", ".join(
            f"{k}: {', '.join(v) if isinstance(v, list) else v}" for k, v in settings.items()
        )
        lines[row.name] = {
            "row": f"<code>{row.name}</code>",
            "differs from the defaults in": escape(text) or DASH,
        }
    c = experiment.rows[0].configs[0]
    scale = (
        f"{len(experiment.rows[0].configs)} seeds per row, {c.steps} steps of {c.batch} labelled "
        "images, "
        f"{c.height} x {c.width} pixels, {c.test_images} images per test domain"
    )
    table = html(
        lines, [escape(row.label) for row in experiment.rows], name=f"plan-{experiment.name}"
    )
    return table + Html(f'<p class="provenance">Profile {escape(experiment.profile)}: {scale}.</p>')


def readme_table(entries: list[Entry]) -> str:
    """The table as Markdown for the README, every mean linked to its records."""
    results = Results(entries)
    theirs = paper(results.experiment)
    lines = [
        "| | AbsRel ↓ | 95 % interval | change | 95 % interval | δ₁ ↑ | paper | records |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row, spec in results.rows.items():
        value, change = results.value(row), results.change(row)
        stale = " (stale)" if any(e.status == "stale" for e in results.of(row)) else ""
        links = " ".join(
            f"[{e.config.seed}](data/records/{e.record['experiment']}/{e.record['hash']}.json)"
            for e in results.of(row)
        )
        cells = [
            spec.label + stale,
            number(value.mean),
            _range(value, 3),
            _percent(change.mean),
            _range(change, 1, sign=True),
        ]
        cells += [
            number(results.value(row, metric="delta1").mean),
            number(theirs.get(row, Estimate().mean)),
            links or DASH,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _range(estimate: Estimate, digits: int, *, sign: bool = False) -> str:
    if isnan(estimate.half):
        return DASH
    return (
        f"{number(estimate.low, digits, sign=sign)} to {number(estimate.high, digits, sign=sign)}"
    )


def _percent(value: float) -> str:
    return DASH if isnan(value) else f"{number(value, 1, sign=True)} %"
