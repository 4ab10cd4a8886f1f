"""The page of fine-tuning to metres: its tables, its figure, its sentences."""

from html import escape
from typing import TypedDict

import pandas as pd
from matplotlib.figure import Figure

from dabook.analysis.metric import REAL, ZERO_SHOT, Metres
from dabook.analysis.statistics import MEAN, VALIDATION
from dabook.runs import records
from dabook.show import charts
from dabook.show.html import DASH, Html, cell, html, number, record_link, row_link, title
from dabook.show.sentences import moved, student_beside
from dabook.show.style import empty, figure
from dabook.show.tables import heading, missing, provenance, recorded_runs, row_heading
from dalib import paths

STARTS = ("imagenet", "labelled_only", "student")
COLUMNS = {"zero-shot": MEAN, "in-domain": VALIDATION}
METRICS = {
    "abs_rel": ("AbsRel ↓", 3),
    "delta1": ("δ₁ ↑", 3),
    "rmse": ("RMSE ↓, m", 3),
    "silog": ("SILog ↓, %", 1),
    "log10": ("log₁₀ ↓", 3),
}
"""Metric -> its heading, and decimals. None of them is after an alignment."""
PUBLISHED = {
    "room": [("3", "NYUv2", "ZoeDepth (re-trained)"), ("3", "NYUv2", "Depth Anything")],
    "street": [("4", "KITTI", "ZoeDepth (re-trained)"), ("4", "KITTI", "Depth Anything")],
}
"""Kind -> the rows of the paper that differ by the encoder alone: table, data set, row."""


def table(results: Metres) -> Html:
    """One line per row: zero-shot and in-domain each metric, and the change of AbsRel in percent; AbsRel of
    each zero-shot domain; the records. Below it provenance and what is missing: where nothing is recorded,
    that alone."""
    if not results.found:
        return missing(results)
    lines = {}
    domains = [d for own in ZERO_SHOT.values() for d in own]
    for row in results.rows:
        link = row_link(results, row)
        line = {}
        for name, domain in COLUMNS.items():
            for metric, (head, digits) in METRICS.items():
                value = results.value(row, domain, metric)
                shown = value if metric == "abs_rel" else value.point
                line[name, head] = cell(shown, digits, link=link)
                if metric == "abs_rel":
                    change = results.change(row, domain)
                    line[name, "change, %"] = cell(change, 1, sign=True, link=link)
        for domain in domains:
            value = results.value(row, domain).point
            line["AbsRel ↓", title(domain)] = cell(value, link=link)
        seeds = (f'<a href="{record_link(e.record)}">{e.config.seed}</a>' for e in results.of(row))
        lines[row] = line | {("", "records by seed"): " ".join(seeds) or DASH}
    headings = [heading(results, row) for row in lines]
    name = f"{results.experiment}-{results.profile}"
    return html(lines, headings, name=name) + provenance(results) + missing(results)


def real(results: Metres) -> Html:
    """Each row on the real data set of its sort, in metres and without alignment; and the paper's own rows on
    all of that data set, which differ by the encoder alone."""
    lines = {}
    headings = []
    for row in results.rows if results.found else ():
        name = REAL[results.kinds[row]]
        line = {"data set": title(name), "images": _images(results, row, name)}
        for metric, (head, digits) in METRICS.items():
            value = results.value(row, name, metric, group="real")
            line[head] = cell(value, digits, link=row_link(results, row))
        lines[row] = line
        headings.append(heading(results, row))
    printed = pd.read_csv(paths.published_tables(), dtype={"table": str})
    for rows in PUBLISHED.values():
        for number_, data_set, name in rows:
            found = printed[
                (printed.table == number_) & (printed.dataset == data_set) & (printed.row == name)
            ]
            values = dict(zip(found.metric, found.value, strict=True))
            line = {"data set": f"{data_set}, whole", "images": DASH}
            for metric, (head, digits) in METRICS.items():
                line[head] = number(values.get(metric, float("nan")), digits)
            lines[f"paper {number_} {name}"] = line
            headings.append(f"<i>paper, table {number_}: {escape(name)}</i>")
    return html(lines, headings, name=f"{results.experiment}-{results.profile}-real")


def _images(results: Metres, row: str, name: str) -> str:
    found = [len(e.record.get("real", {}).get(name, {}).get("names", ())) for e in results.of(row)]
    return str(found[0]) if found and found[0] else DASH


def published() -> Html:
    """The paper's table 5: zero-shot in metres, the two rows that differ by the encoder alone."""
    rows = pd.read_csv(paths.published_tables(), dtype={"table": str})
    rows = rows[rows.table == "5"]
    lines = {}
    for row, values in rows.groupby("row", sort=False):
        lines[row] = {
            (data_set, METRICS[metric][0]): number(value)
            for data_set, metric, value in zip(
                values.dataset, values.metric, values.value, strict=True
            )
        }
    return html(lines, [escape(row) for row in lines], name="metric-published")


class Stalls(TypedDict):
    """What `benchmarks/sparse_labels.py` leaves."""

    commit: str
    dirty: bool
    created: str  # UTC, ISO 8601
    device: str
    versions: dict[str, str]
    threads: int
    steps: int
    batch: int
    constant: float  # AbsRel of one depth everywhere
    lines: list[dict]  # each: name, first and last loss, abs_rel


def stalls() -> Html:
    """What the bench of sparse labels found: a line per way to train, and where it comes from."""
    kind = records.Kind(
        form=Stalls,
        name="a benchmark's record",
        remedy="run python benchmarks/sparse_labels.py",
    )
    found = records.read(paths.benchmarks() / "sparse_labels.json", kind)
    lines = {}
    for each in found["lines"]:
        lines[each["name"]] = {
            "loss, first steps": number(each["first"], 2),
            "loss, last steps": number(each["last"], 2),
            "AbsRel ↓, unseen rooms": number(each["abs_rel"], 3),
        }
    lines["constant"] = dict.fromkeys(next(iter(lines.values())), DASH)
    lines["constant"]["AbsRel ↓, unseen rooms"] = number(found["constant"], 3)
    headings = [escape(each["name"]) for each in found["lines"]]
    headings.append("<i>one depth everywhere</i>")
    where = (
        f"{found['steps']} steps of {found['batch']} images, one seed · {escape(found['device'])}, "
        f"{found['threads']} thread(s) · commit {found['commit']} · {found['created'][:10]}"
    )
    told = Html(f'<p class="provenance">{where}</p>')
    return html(lines, headings, name="metric-stalls") + told


def beside(yours: Metres, recorded: Metres) -> Html:
    """Your run and the recorded run, each where anything of it is there: AbsRel of each row zero-shot
    and in-domain, and its change."""
    runs = recorded_runs(yours, recorded)
    if not runs:
        return missing(yours)
    lines = {}
    for row in recorded.rows:
        line = {}
        for name, results in runs.items():
            link = row_link(results, row) if row in results.rows else None
            for column, domain in COLUMNS.items():
                value = cell(results.value(row, domain), link=link)
                line[name, f"{column}, AbsRel"] = value
                change = results.change(row, domain)
                line[name, f"{column}, change, %"] = cell(change, 1, sign=True, link=link)
        lines[row] = line
    headings = [row_heading(runs, recorded, row) for row in lines]
    return html(lines, headings, name=f"beside-{recorded.experiment}") + missing(yours)


@figure
def seeds(results: Metres) -> Figure:
    """AbsRel in metres of every row, zero-shot on the left and in-domain on the right: a point per seed, and
    means with 95 % intervals."""
    if not results.found:
        return empty()
    scores = results.scores()
    return charts.by_start(
        results,
        COLUMNS,
        values=lambda row, domain: scores.loc[row, domain],
        level=results.value,
        starts=len(STARTS),
        label="AbsRel in metres (smaller is better)",
    )


def reading(results: Metres) -> str:
    """What the student's encoder brings beside the two others, zero-shot and in-domain: sentences."""

    def told(student: str, other: str) -> str:
        parts = []
        for name, domain in COLUMNS.items():
            change = results.change(student, domain, versus=other)
            parts.append(f"{moved(change, what='AbsRel', unit='%')} {name}")
        return ", and ".join(parts)

    return student_beside(results, ZERO_SHOT, told)
