"""The page of the transfer to semantic segmentation: its tables, its figure, its sentences."""

from functools import partial
from html import escape

import pandas as pd
from matplotlib.figure import Figure

from dabook.analysis.segmentation import MIOU, Transfer
from dabook.analysis.statistics import MEAN, VALIDATION, Estimate, shown
from dabook.show import charts
from dabook.show.html import DASH, Html, cell, html, number, record_link, row_link, title
from dabook.show.sentences import UNRECORDED, moved, student_beside
from dabook.show.style import empty, figure
from dabook.show.tables import heading, missing, provenance, recorded_runs, row_heading
from dalib import paths
from dalib.data.scenes import CLASSES

ENCODERS = ("imagenet", "labelled_only", "student")
LABELS = ("few", "many")
FOREIGN = "test domains"
PUBLISHED = ("7", "8", "10", "11")
"""The paper's tables with an mIoU."""


def percent(value: Estimate) -> Estimate:
    """A share as a percentage."""
    return shown(value, lambda share: 100 * share)


def table(results: Transfer) -> Html:
    """One line per row: mIoU on the test domains and in-domain, each with its change in points and
    that of the error in percent; mIoU of each test domain; the records. Below it provenance and
    what is missing: where nothing is recorded, that alone."""
    if not results.found:
        return missing(results)
    domains = results.domains
    lines = {}
    for row in results.rows:
        link = row_link(results, row)
        line = {}
        for name, domain in ((FOREIGN, MEAN), ("in-domain", VALIDATION)):
            line[name, "mIoU ↑, %"] = cell(_level(results, row, domain), 1, link=link)
            points = results.points(row, domain)
            line[name, "change, points"] = cell(points, 1, sign=True, link=link)
            change = results.change(row, domain)
            line[name, "change of 1 − mIoU, %"] = cell(change, 1, sign=True, link=link)
        for domain in domains:
            value = _level(results, row, domain).point
            line["mIoU ↑, %", title(domain)] = cell(value, 1, link=link)
        seeds = (f'<a href="{record_link(e.record)}">{e.config.seed}</a>' for e in results.of(row))
        lines[row] = line | {("", "records by seed"): " ".join(seeds) or DASH}
    headings = [heading(results, row) for row in lines]
    name = f"{results.experiment}-{results.profile}"
    return html(lines, headings, name=name) + provenance(results) + missing(results)


def _level(results: Transfer, row: str, domain: str) -> Estimate:
    return percent(results.value(row, domain, MIOU))


def classes(results: Transfer, labels: str = "few") -> Html:
    """IoU of each class in-domain, and its mean over the test domains that have the class, for the
    three encoders.

    Args:
        results: of the question.
        labels: "few" or "many".
    """
    rows = [f"{labels}_{encoder}" for encoder in ENCODERS]
    if not all(results.of(row) for row in rows):
        return missing(results)
    foreign = {row: [results.iou(row, d) for d in results.domains] for row in rows}
    home = {row: results.iou(row, VALIDATION) for row in rows}
    lines = {}
    for name in CLASSES:
        line = {}
        for row in rows:
            label = escape(results.rows[row].label)
            means = [found[name].mean for found in foreign[row] if name in found]
            inside = home[row][name].mean if name in home[row] else Estimate().mean
            line["in-domain", label] = number(100 * inside, 1)
            mean = sum(means) / len(means) if means else Estimate().mean
            line[FOREIGN, label] = number(100 * mean, 1)
        there = sum(name in found for found in foreign[rows[0]])
        columns = sorted(line, key=lambda column: column[0] == FOREIGN)
        lines[name] = {column: line[column] for column in columns}
        lines[name][FOREIGN, "domains with it"] = str(there)
    return html(lines, list(lines), name=f"{results.experiment}-classes-{labels}")


def published() -> Html:
    """The paper's own numbers: mIoU of its tables 7 and 8, where its encoder stands in a whole
    system beside others, and of 10 and 11, where it stands beside other encoders."""
    rows = pd.read_csv(paths.published_tables(), dtype={"table": str})
    rows = rows[rows.metric.str.startswith("miou") & rows.table.isin(PUBLISHED)]
    lines = {}
    headings = []
    for (number_, row), values in rows.groupby(["table", "row"], sort=False):
        line = {}
        for data_set in ("Cityscapes", "ADE20K"):
            found = values[values.dataset == data_set]
            told = ", ".join(
                number(v, 1) + _scales(m) for m, v in zip(found.metric, found.value, strict=True)
            )
            line[f"{data_set}, mIoU ↑, %"] = told or DASH
        lines[f"{number_} {row}"] = {"table": number_} | line
        headings.append(escape(row))
    return html(lines, headings, name="segmentation-published")


def _scales(metric: str) -> str:
    """How many sizes of an image a published number averages over, as a word behind it."""
    return {"miou_multi_scale": " (multi-scale)"}.get(metric, "")


def beside(yours: Transfer, recorded: Transfer) -> Html:
    """Your run and the recorded run, each where anything of it is there: mIoU of each row on the test
    domains, and its change in points."""
    runs = recorded_runs(yours, recorded)
    if not runs:
        return missing(yours)
    lines = {}
    for row in recorded.rows:
        line = {}
        for name, results in runs.items():
            link = row_link(results, row) if row in results.rows else None
            line[name, "mIoU, %"] = cell(_level(results, row, MEAN), 1, link=link)
            line[name, "change, points"] = cell(results.points(row), 1, sign=True, link=link)
        lines[row] = line
    headings = [row_heading(runs, recorded, row) for row in lines]
    return html(lines, headings, name=f"beside-{recorded.experiment}") + missing(yours)


@figure
def seeds(results: Transfer) -> Figure:
    """mIoU of every row, the test domains on the left and in-domain on the right: a point per seed,
    and means with 95 % intervals."""
    if not results.found:
        return empty()
    wide = 100 * results.scores(MIOU)
    return charts.by_start(
        results,
        {FOREIGN: MEAN, "in-domain": VALIDATION},
        values=lambda row, domain: wide.loc[row, domain],
        level=partial(_level, results),
        starts=len(ENCODERS),
        label="mIoU, % (larger is better)",
    )


def reading(results: Transfer) -> str:
    """What the student's encoder brings beside each of the others, with few and with many labels,
    on the test domains and in-domain: sentences."""

    def told(student: str, other: str) -> str:
        foreign, inside = (
            moved(results.points(student, domain, versus=other), what="mIoU", unit="points")
            for domain in (MEAN, VALIDATION)
        )
        return f"{foreign} on the {FOREIGN}, and {inside} in-domain"

    return student_beside(results, LABELS, told)


def absent(results: Transfer) -> str:
    """Which classes each domain lacks, and which no label shows: sentences."""
    if not results.found:
        return UNRECORDED
    names = [VALIDATION, *results.domains]
    known = {d: results.areas(results.found[0], d) for d in names}
    counts = "; ".join(f"{title(d)} {len(areas.classes)}" for d, areas in known.items())
    unseen = set(known[VALIDATION].absent)
    told = [f"Of {len(CLASSES)} classes each domain counts those that it has: {counts}."]
    for domain, areas in known.items():
        if only := sorted(unseen & set(areas.classes)):
            told.append(
                f"{title(domain).capitalize()} has {', '.join(only)}, which no in-domain scene "
                "shows: labels that never show a class cannot teach it. It counts there all the "
                "same, for every row alike."
            )
    return " ".join(told)
