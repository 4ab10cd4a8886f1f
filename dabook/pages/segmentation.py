"""The page of the transfer to semantic segmentation: its tables, its figure, its sentences."""

from html import escape
from math import isnan

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from dabook.analysis.segmentation import MIOU, Transfer
from dabook.analysis.statistics import MEAN, VALIDATION, Estimate
from dabook.show.html import DASH, Html, cell, html, number, record_link, row_link, title
from dabook.show.sentences import STALE, UNRECORDED
from dabook.show.style import COLOURS, INK, RULE, empty, figure
from dabook.show.tables import heading, missing, provenance
from dalib import paths
from dalib.data.scenes import CLASSES, TEST_DOMAINS

ENCODERS = ("imagenet", "labelled_only", "student")
LABELS = ("few", "many")
FOREIGN = "test domains"
PUBLISHED = ("7", "8", "10", "11")
"""The paper's tables with an mIoU."""


def percent(value: Estimate) -> Estimate:
    """A share as a percentage."""
    return Estimate(100 * value.mean, 100 * value.half, value.count)


def table(results: Transfer) -> Html:
    """One line per row: mIoU on the test domains and in-domain, each with its change in points and
    that of the error in percent; mIoU of each test domain; the records. Below it provenance and
    what is missing."""
    domains = results.domains if results.found else list(TEST_DOMAINS)
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
    """Your run and the recorded run: mIoU of each row on the test domains, and its change in
    points."""
    lines = {}
    for row in recorded.rows:
        line = {}
        for name, results in (("your run", yours), ("the recorded run", recorded)):
            link = row_link(results, row) if row in results.rows else None
            line[name, "mIoU, %"] = cell(_level(results, row, MEAN), 1, link=link)
            line[name, "change, points"] = cell(results.points(row), 1, sign=True, link=link)
        lines[row] = line
    headings = [heading(recorded, row) for row in lines]
    return html(lines, headings, name=f"beside-{recorded.experiment}") + missing(yours)


@figure
def seeds(results: Transfer) -> Figure:
    """mIoU of every row, the test domains on the left and in-domain on the right: a point per seed,
    and means with 95 % intervals."""
    if not results.found:
        return empty()
    rows = list(results.rows)
    wide = 100 * results.scores(MIOU)
    fig, axes = plt.subplots(1, 2, figsize=(8.4, 1.1 + 0.5 * len(rows)), sharey=True)
    for ax, domain, name in zip(axes, (MEAN, VALIDATION), (FOREIGN, "in-domain"), strict=True):
        for i, row in enumerate(rows):
            if not results.of(row):
                continue
            colour = COLOURS[1 + i % len(ENCODERS)]
            values = wide.loc[row, domain]
            ax.scatter(values, [i] * len(values), s=18, color=colour, alpha=0.45, lw=0, zorder=2)
            mean = _level(results, row, domain)
            half = 0 if isnan(mean.half) else mean.half
            look = {"color": colour, "marker": "D", "ms": 6, "mec": "white", "mew": 0.8, "lw": 1.8}
            ax.errorbar(mean.mean, i - 0.22, xerr=half, zorder=4, **look)
        for i in range(len(ENCODERS), len(rows), len(ENCODERS)):
            ax.axhline(i - 0.5, color=RULE, lw=1, zorder=0)
        ax.set(xlabel="mIoU, % (larger is better)", title=name)
        ax.grid(False, axis="y")
        ax.title.set_color(INK)
    axes[0].set(
        yticks=range(len(rows)),
        yticklabels=[results.rows[row].label for row in rows],
        ylim=(len(rows) - 0.5, -0.6),
    )
    return fig


def reading(results: Transfer) -> str:
    """What the student's encoder brings beside each of the others, with few and with many labels,
    on the test domains and in-domain: sentences."""
    if not results.found:
        return UNRECORDED
    told = []
    for labels in LABELS:
        student = f"{labels}_student"
        for other in (f"{labels}_imagenet", f"{labels}_labelled_only"):
            if not {student, other} <= results.rows.keys():
                continue
            foreign = effect(results.points(student, versus=other))
            inside = effect(results.points(student, VALIDATION, versus=other))
            told.append(
                f"“{results.rows[student].label}” beside “{results.rows[other].label}” {foreign} "
                f"on the test domains, and {inside} in-domain."
            )
    if any(e.status == "stale" for e in results.found):
        told.append(STALE)
    return " ".join(told)


def effect(change: Estimate) -> str:
    """A change of mIoU in points, as a phrase."""
    if change.count == 0:
        return "is not yet recorded"
    value = f"{number(change.mean, 1, sign=True)} points"
    if isnan(change.half):
        return f"moves mIoU by {value} in a single seed, which shows nothing,"
    ends = [
        f"{number(a, 1, sign=True)} to {number(b, 1, sign=True)} over {what}"
        for (a, b), what in zip(change.intervals, ("seeds", "seeds and images"), strict=False)
    ]
    interval = f"{value}; 95 % interval {', '.join(ends)}"
    if not change.decided:
        return f"cannot be told from unchanged ({interval})"
    return f"{'raises' if change.mean > 0 else 'lowers'} mIoU ({interval})"


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
