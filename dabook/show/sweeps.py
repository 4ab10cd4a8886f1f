"""Charts of comparisons: a quantity swept over numbers, and changes in groups. The style is that of
`dabook.show.style`."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator, ScalarFormatter

from dabook.analysis import real
from dabook.analysis.curves import Point
from dabook.analysis.statistics import MEAN, Estimate, Results, over_seeds
from dabook.show.charts import bar
from dabook.show.style import COLOURS, INK, MARKERS, MUTED, empty, figure


@figure
def sweep(
    results: Results, series: Mapping[str, Sequence[str]], *, field: str, x_label: str
) -> Figure:
    """AbsRel over a setting, and the change of each row that is compared with another, each with a
    band: the interval over seeds.

    A line of levels holds the seeds that all its points have: two points of different seeds would
    show the seeds' difference.

    Args:
        results: of the experiment.
        series: label -> its rows.
        field: the setting of `RunConfig` that goes along the axis, on a logarithmic scale where it
            spans a factor of ten.
        x_label: its name in words.
    """
    if not results.found:
        return empty()
    fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.2))

    # levels left, changes right
    seen = {
        row: getattr(results.rows[row].configs[0], field)
        for rows in series.values()
        for row in rows
    }
    for k, (label, rows) in enumerate(series.items()):
        levels = {seen[row]: level for row, level in _levels(results, rows).items()}
        changes = {seen[row]: results.change(row) for row in rows}
        _band(axes[0], levels, k, label)
        _band(axes[1], changes, k)

    # the axes
    ticks = sorted(set(seen.values()))
    for ax in axes:
        _steps_along(ax, ticks, x_label)
    axes[0].set_ylabel("AbsRel (smaller is better)")
    axes[1].axhline(0, color=INK, lw=0.9, zorder=1)
    axes[1].set_ylabel("change, paired by seed, %")
    fig.legend(loc="outside upper left", ncols=len(series))
    return fig


def _levels(results: Results, rows: Sequence[str]) -> dict[str, Estimate]:
    wide = results.scores()
    scores = {
        row: wide.loc[row, MEAN].dropna()
        for row in rows
        if row in wide.index.get_level_values("row")
    }
    scores = {row: found for row, found in scores.items() if len(found)}
    shared = set.intersection(*(set(found.index) for found in scores.values())) if scores else set()
    return {
        row: over_seeds(found[found.index.isin(shared)], results.metric)
        for row, found in scores.items()
    }


def _band(
    ax: Axes, along: Mapping[float | int, Estimate], k: int, label: str | None = None
) -> None:
    known = {x: e for x, e in sorted(along.items()) if e.count}
    colour = COLOURS[k]
    ax.plot(
        list(known),
        [e.mean for e in known.values()],
        color=colour,
        marker=MARKERS[k],
        ms=5,
        lw=1.6,
        label=label,
    )
    wide = {x: e for x, e in known.items() if e.half == e.half}
    ax.fill_between(
        list(wide),
        [e.low for e in wide.values()],
        [e.high for e in wide.values()],
        color=colour,
        alpha=0.15,
        lw=0,
    )


@figure
def grouped(results: Results, groups: Mapping[str, Sequence[str]]) -> Figure:
    """Changes in groups, one colour each: a thick line is the interval over seeds, ticks are the
    ends of that over seeds and images.

    Args:
        results: of the experiment.
        groups: heading -> rows; a row's change is against what `results.against` names. Where no
            row has one the figure is empty: its axis would mean nothing.
    """
    drawn = [row for rows in groups.values() for row in rows]
    if not any(results.change(row).count for row in drawn):
        return empty()
    fig, ax = plt.subplots(
        figsize=(7.4, 0.9 + 0.36 * sum(len(rows) + 1 for rows in groups.values()))
    )
    places = {}
    y = 0.0
    for k, (heading, rows) in enumerate(groups.items()):
        # the heading
        ax.text(
            0.01,
            y,
            heading,
            transform=ax.get_yaxis_transform(),
            color=MUTED,
            va="center",
            weight="bold",
        )

        # a line for each row
        colour = COLOURS[k % len(COLOURS)]
        marker = MARKERS[k % len(MARKERS)]
        for row in rows:
            y += 1
            places[y] = results.rows[row].label
            change = results.change(row)
            if change.resampled:
                _ends(ax, change.resampled, y, colour)
            if change.count:
                bar(ax, change, y, colour, marker=marker)
            else:
                ax.text(
                    0.03,
                    y,
                    "not yet recorded",
                    transform=ax.get_yaxis_transform(),
                    color=MUTED,
                    va="center",
                )
        y += 1

    # the axes
    ax.set(yticks=list(places), yticklabels=list(places.values()), ylim=(y - 0.4, -0.6))
    ax.set_xlabel("change of AbsRel against the row it is compared with, paired by seed, %")
    ax.axvline(0, color=INK, lw=0.9, zorder=1)
    ax.grid(False, axis="y")
    return fig


@figure
def real_sets(results: Results, pairs: Mapping[str, tuple[str, str]]) -> Figure:
    """Changes of AbsRel on real images: on the mean over the table half, then on each data set with
    its number of images; a colour for each pair of rows. A thick line is the interval over seeds,
    ticks are the ends of that over seeds and images (or sequences).

    Args:
        results: of an experiment.
        pairs: label -> a row, and what it is held against.
    """
    half = real.of_half(results, "table")
    places = {"mean, table half": half} | {
        f"{real.name_of(d)} ({real.images(results, d)})": [d] for d in real.counted(results)
    }
    if not any(real.change(results, *pair, half).count for pair in pairs.values()):
        return empty()
    fig, ax = plt.subplots(figsize=(7.4, 1.0 + 0.22 * len(places) * len(pairs)))
    for k, (label, pair) in enumerate(pairs.items()):
        colour = COLOURS[k % len(COLOURS)]
        marker = MARKERS[k % len(MARKERS)]
        for i, sets in enumerate(places.values()):
            y = i + (k - (len(pairs) - 1) / 2) * 0.6 / len(pairs)
            change = real.change(results, *pair, sets)
            if change.resampled:
                _ends(ax, change.resampled, y, colour)
            if change.count:
                bar(ax, change, y, colour, marker=marker, label=None if i else label)
    ax.set(yticks=range(len(places)), yticklabels=list(places), ylim=(len(places) - 0.5, -0.5))
    ax.set_xlabel("change of AbsRel, paired by seed, %")
    ax.axvline(0, color=INK, lw=0.9, zorder=1)
    ax.grid(False, axis="y")
    fig.legend(loc="outside upper left", ncols=len(pairs))
    return fig


def _ends(ax: Axes, ends: tuple[float, float], y: float, colour: str) -> None:
    """The interval over seeds and images as a thin line with ticks at its ends."""
    ax.plot(ends, [y, y], color=colour, lw=0.8, marker="|", ms=7, zorder=3)


@figure
def learning(curves: Mapping[str, Sequence[Point]]) -> Figure:
    """Learning curves (`dabook.analysis.curves`): left the error over the steps, right the change
    from the first curve at the same steps, each with a band, the interval over seeds.

    Args:
        curves: label -> its points.
    """
    if not any(point.level.count for points in curves.values() for point in points):
        return empty()
    fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.2))
    for k, (label, points) in enumerate(curves.items()):
        _band(axes[0], {point.steps: point.level for point in points}, k, label)
        _band(axes[1], {point.steps: point.beside for point in points}, k)
    ticks = sorted({point.steps for points in curves.values() for point in points})
    for ax in axes:
        _steps_along(ax, ticks, "steps")
    axes[0].set_ylabel("AbsRel (smaller is better)")
    axes[1].axhline(0, color=INK, lw=0.9, zorder=1)
    axes[1].set_ylabel(f"change from “{next(iter(curves))}”, %")
    fig.legend(loc="outside upper left", ncols=len(curves))
    return fig


def _steps_along(ax: Axes, ticks: Sequence[float], label: str) -> None:
    """The axis of what is swept: a tick where something was measured, logarithmic where it spans a
    factor of nine."""
    if ticks[-1] >= 9 * ticks[0]:
        ax.set_xscale("log")
    ax.set_xlabel(label)
    ax.set_xticks(ticks)
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
