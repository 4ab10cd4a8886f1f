"""Charts of the study, in the style of `dabook.show.style`."""

import json
from collections.abc import Callable, Mapping, Sequence
from math import isnan
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from dabook.analysis.floors import drawn_scores, level
from dabook.analysis.floors import heading as floor_heading
from dabook.analysis.real import data_sets, images, name_of
from dabook.analysis.statistics import MEAN, VALIDATION, Estimate, Results
from dabook.show.html import title
from dabook.show.style import COLOURS, INK, MARKERS, MUTED, RULE, empty, figure


def bar(
    ax, estimate: Estimate, y: float, colour: str, *, marker: str = "D", label: str | None = None
) -> None:
    """A mean with its interval, lying."""
    ax.errorbar(
        estimate.mean,
        y,
        xerr=reach(estimate),
        color=colour,
        marker=marker,
        ms=6,
        mec="white",
        mew=0.8,
        lw=1.8,
        zorder=4,
        label=label,
    )


def reach(estimate: Estimate) -> list[list[float]]:
    """How far the interval over seeds reaches below and above the mean, as `errorbar` takes it; 0
    for a single seed."""
    if isnan(estimate.half):
        return [[0.0], [0.0]]
    return [[estimate.mean - estimate.low], [estimate.high - estimate.mean]]


def strokes(ax, kind: str, k: int, places: Sequence[tuple[float, int]]) -> None:
    """The k-th floor as upright strokes, each at (error, row); a floor with a heavier or lighter
    stroke than its neighbours."""
    ax.scatter(
        *zip(*places, strict=True),
        marker="|",
        s=150,
        color=(INK, MUTED, COLOURS[5], COLOURS[4])[k % 4],
        lw=(2.2, 1.2, 2.2, 1.2)[k % 4],
        label=floor_heading(kind),
        zorder=3,
    )


@figure
def seeds(results: Results) -> Figure:
    """Rows by seed: left each seed's mean AbsRel, joined from row to row, with means and intervals;
    right the paired changes."""
    if not results.found:
        return empty()
    rows = list(results.rows)
    wide = results.scores()[MEAN].rename("error").reset_index()
    # where each row stands
    place = {row: i for i, row in enumerate(rows)}
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(8.4, 1.1 + 0.5 * len(rows)), sharey=True, width_ratios=(1.15, 1)
    )

    # a line for each seed
    for _, seed in wide.groupby("seed"):
        inside = seed.sort_values("row", key=lambda r: r.map(place))
        left.plot(inside.error, inside.row.map(place), color=RULE, lw=1, zorder=1)

    # a point for each seed of each row
    palette = dict(zip(rows, (COLOURS * 3)[: len(rows)], strict=True))
    for data, ax, column in ((wide, left, "error"), (results.changes(), right, "change")):
        if len(data):
            data = data.assign(place=data.row.map(place))
            options = {
                "hue": "row",
                "palette": palette,
                "native_scale": True,
                "orient": "h",
                "jitter": False,
                "legend": False,
            }
            sns.stripplot(
                data, x=column, y="place", ax=ax, size=4.5, alpha=0.45, zorder=2, **options
            )

    # a mean with its interval for each row
    for row, i in place.items():
        bar(left, results.value(row), i - 0.22, palette[row])
        if (change := results.change(row)).count:
            bar(right, change, i - 0.22, palette[row])

    # the axes
    left.set(
        yticks=range(len(rows)),
        yticklabels=[results.rows[r].label for r in rows],
        ylim=(len(rows) - 0.5, -0.6),
    )
    left.set(
        xlabel="AbsRel, geometric mean over the\ntest domains (smaller is better)",
        ylabel="",
        title="Each seed, and the mean of the seeds",
    )
    right.set(
        xlabel="change, %, of the row compared with", ylabel="", title="Change, paired by seed"
    )
    right.axvline(0, color=INK, lw=0.9, zorder=1)
    for ax in (left, right):
        ax.grid(False, axis="y")
    return fig


@figure
def domains(results: Results) -> Figure:
    """Every row on the mean, each test domain and the in-domain images: left AbsRel, right its
    paired change, with intervals over seeds.

    A change is in percent of the error of the row that is compared with, on the same domain.
    Upright strokes are the floors and the quadratic surface, where they are recorded.
    """
    if not results.found:
        return empty()
    names = [MEAN, *results.domains, VALIDATION]
    rows = [row for row in results.rows if results.of(row)]
    fig, axes = plt.subplots(
        1, 2, figsize=(8.4, 0.9 + 0.13 * len(names) * (len(rows) + 1)), sharey=True
    )

    # the rows beside each other at each domain
    for k, row in enumerate(rows):
        look = {"colour": (COLOURS * 3)[k], "marker": (MARKERS * 3)[k]}
        for i, name in enumerate(names):
            y = i + (k - (len(rows) - 1) / 2) * 0.8 / len(rows)
            bar(
                axes[0],
                results.value(row, name),
                y,
                label=None if i else results.rows[row].label,
                **look,
            )
            if (change := results.change(row, name)).count:
                bar(axes[1], change, y, **look)

    # the floors
    known = drawn_scores(results)
    for k, (kind, scores) in enumerate(known.items()):
        places = [(level(scores, name, results.domains), i) for i, name in enumerate(names)]
        strokes(axes[0], kind, k, places)

    # the axes
    for ax in axes:
        for i in range(0, len(names), 2):
            ax.axhspan(i - 0.5, i + 0.5, color=RULE, alpha=0.3, lw=0, zorder=0)
        ax.grid(False, axis="y")
    axes[0].set(
        yticks=range(len(names)),
        yticklabels=[title(n) for n in names],
        ylim=(len(names) - 0.5, -0.5),
        xlabel="AbsRel (smaller is better)",
    )
    axes[1].axvline(0, color=INK, lw=0.9, zorder=1)
    axes[1].set_xlabel("change, paired by seed, in % of the row compared with")
    fig.legend(loc="outside upper left", ncols=4 if len(rows) < 5 and not known else 3)
    return fig


@figure
def losses(paths: dict[str, Path]) -> Figure:
    """Loss curves out of metrics.jsonl files.

    Args:
        paths: label -> file. Every loss of a run is drawn; the total is left out where it is the
            only one.
    """
    fig, axes = plt.subplots(
        1, len(paths), figsize=(4.2 * len(paths), 2.7), squeeze=False, sharey=True
    )
    names = {
        "labelled": "$L_l$",
        "unlabelled": "$L_u$",
        "feat": "$L_{feat}$",
        "loss": "their average",
    }
    colours = dict(zip(names, (*COLOURS[1:4], COLOURS[0]), strict=True))
    for ax, (label, path) in zip(axes[0], paths.items(), strict=True):
        lines = pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
        for name in names:
            if name in lines and (name != "loss" or "unlabelled" in lines):
                ax.plot(
                    lines.step,
                    lines[name],
                    color=colours[name],
                    ls=":" if name == "loss" else "-",
                    lw=1.6,
                    label=names[name],
                )
        ax.set(title=label, xlabel="step", ylim=(0, None))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend()
    axes[0, 0].set_ylabel("loss")
    return fig


@figure
def real(results: Results, floors: dict | None) -> Figure:
    """AbsRel per real data set, with its number of images: every row's mean, and the floors as
    upright strokes."""
    sets = [d for half in data_sets(results, floors).values() for d in half]
    if not sets or not results.found:
        return empty()
    fig, ax = plt.subplots(figsize=(8.4, 1.2 + 0.3 * len(sets)))
    for k, (kind, scores) in enumerate((floors or {"floors": {}})["floors"].items()):
        strokes(ax, kind, k, [(level(scores, d, ()), i) for i, d in enumerate(sets) if d in scores])
    for k, row in enumerate(results.rows):
        found = [results.value(row, d, group="real").mean for d in sets]
        ax.scatter(
            found,
            range(len(sets)),
            color=(COLOURS * 3)[k],
            marker=(MARKERS * 3)[k],
            s=34,
            alpha=0.9,
            label=results.rows[row].label,
            zorder=3,
        )
    ax.set(
        yticks=range(len(sets)),
        yticklabels=[f"{name_of(d)} ({images(results, d)})" for d in sets],
        ylim=(len(sets) - 0.4, -0.6),
        xlim=(0, None),
    )
    ax.set_xlabel("AbsRel after alignment (smaller is better)")
    fig.legend(loc="outside upper left", ncols=3)
    return fig


@figure
def curves(
    x: Sequence[float | int],
    ys: dict[str, Sequence[float | int]],
    *,
    x_label: str,
    y_label: str = "",
) -> Figure:
    """Several curves over one axis."""
    fig, ax = plt.subplots(figsize=(5.6, 2.8))
    for (name, y), colour in zip(ys.items(), COLOURS[1:], strict=False):
        ax.plot(x, y, color=colour, lw=1.8, label=name)
    ax.set(xlabel=x_label, ylabel=y_label)
    ax.legend()
    return fig


@figure
def histograms(
    values: dict[str, Sequence[float] | Float[Tensor, " _"]],
    *,
    bins: int = 60,
    what: str = "pixels",
    bands: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """One histogram per quantity, side by side, each over its own range.

    Args:
        values: the quantity's name -> its values.
        bins: of each histogram.
        what: the values belong to.
        bands: a quantity's name -> a part of its range, which is shaded.
    """
    fig, axes = plt.subplots(
        1, len(values), figsize=(4.2 * len(values), 2.4), squeeze=False, sharey=True
    )
    for ax, (name, v), colour in zip(axes[0], values.items(), COLOURS[1:], strict=False):
        ax.hist(v, bins, weights=[100 / len(v)] * len(v), color=colour)
        ax.set(xlabel=name)
        if bands and name in bands:
            ax.axvspan(*bands[name], color=MUTED, alpha=0.18, lw=0, zorder=0)
    axes[0, 0].set_ylabel(f"{what}, %")
    return fig


@figure
def groups(
    frame: pd.DataFrame,
    group: str,
    value: str,
    *,
    hue: str | None = None,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Every value as a point and each group's mean as a bar.

    Args:
        frame: one line per value.
        group, value: columns; groups are sorted by their mean.
        hue: a column that splits each group.
        limits: of the axis of values.
    """
    order = frame.groupby(group)[value].mean().sort_values().index
    kinds = list(frame[hue].unique()) if hue else [None]
    fig, ax = plt.subplots(figsize=(7.2, 0.8 + len(order) * (0.28 if len(kinds) == 1 else 0.4)))
    for k, kind in enumerate(kinds):
        part = frame if kind is None else frame[frame[hue] == kind]
        shift = (k - (len(kinds) - 1) / 2) * 0.4
        colour = COLOURS[2 - k]
        for i, name in enumerate(order):
            points = part.loc[part[group] == name, value]
            ax.scatter(points, [i + shift] * len(points), s=14, color=colour, alpha=0.4, lw=0)
            ax.plot(
                [points.mean()] * 2,
                [i + shift - 0.16, i + shift + 0.16],
                color=colour,
                lw=3,
                label=kind if i == 0 else None,
            )
    ax.set(yticks=range(len(order)), yticklabels=order, ylim=(len(order) - 0.5, -0.5), xlabel=value)
    ax.grid(False, axis="y")
    if limits:
        ax.set_xlim(*limits)
    if hue:
        fig.legend(loc="outside upper left", ncols=len(kinds))
    return fig


def by_start(
    results: Results,
    panels: Mapping[str, str],
    *,
    values: Callable[[str, str], pd.Series],
    level: Callable[[str, str], Estimate],
    starts: int,
    label: str,
) -> Figure:
    """Rows that differ in what they begin with, in groups of `starts`: a panel for each domain, a
    point per seed, and means with 95 % intervals.

    Args:
        results: the rows.
        panels: title -> domain.
        values: of a row and a domain, a number per seed.
        level: of the same, their mean.
        starts: rows in a group, alike in their order.
        label: of the horizontal axis.
    """
    rows = list(results.rows)
    size = (8.4, 1.1 + 0.5 * len(rows))
    fig, axes = plt.subplots(1, len(panels), figsize=size, sharey=True)
    for ax, (name, domain) in zip(axes, panels.items(), strict=True):
        for i, row in enumerate(rows):
            if not results.of(row):
                continue
            colour = COLOURS[1 + i % starts]
            seen = values(row, domain)
            ax.scatter(seen, [i] * len(seen), s=18, color=colour, alpha=0.45, lw=0, zorder=2)
            mean = level(row, domain)
            look = {"color": colour, "marker": "D", "ms": 6, "mec": "white", "mew": 0.8, "lw": 1.8}
            ax.errorbar(mean.mean, i - 0.22, xerr=reach(mean), zorder=4, **look)
        for i in range(starts, len(rows), starts):
            ax.axhline(i - 0.5, color=RULE, lw=1, zorder=0)
        ax.set(xlabel=label, title=name)
        ax.grid(False, axis="y")
        ax.title.set_color(INK)
    axes[0].set(
        yticks=range(len(rows)),
        yticklabels=[results.rows[row].label for row in rows],
        ylim=(len(rows) - 0.5, -0.6),
    )
    return fig
