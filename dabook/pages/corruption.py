"""What the book shows of robustness: means, paired changes and gaps, as a table, a figure and
sentences chosen by the data."""

from math import isnan

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from dabook.analysis.corruption import CLEAN, GAP, TITLES, Robustness
from dabook.analysis.statistics import MEAN, Estimate, estimate
from dabook.show.html import Html, cell, html, number, row_link
from dabook.show.sentences import UNRECORDED, effect, ends, subject
from dabook.show.style import COLOURS, MARKERS, empty, figure
from dabook.show.tables import heading, missing, provenance
from dalib.evaluation.corruptions import STRENGTHS


def table(results: Robustness, metric: str = "abs_rel") -> Html:
    """Every row, clean and under each corruption, with the factor by which all five raise its clean
    error (of ordinal accuracy, by how much they lower it); below it the provenance. Where nothing is
    recorded, only that."""
    if not results.found:
        return missing(results)
    arrow = {"abs_rel": "AbsRel ↓", "ordinal": "ordinal accuracy ↑"}[metric]
    lines = {}
    for row in results.rows:
        link = row_link(results, row)
        cells = {name: results.value(row, name, metric) for name in TITLES}
        lines[row] = {
            (arrow, title): cell(cells[name], link=link, sign=name == GAP and metric == "ordinal")
            for name, title in TITLES.items()
        }
    shown = html(
        lines,
        [heading(results, row) for row in lines],
        name=f"robustness-{metric}-{results.profile}",
    )
    return shown + provenance(results) + missing(results)


def changes(results: Robustness) -> Html:
    """The paired changes of AbsRel in percent, one line per comparison."""
    if not results.found:
        return missing(results)
    lines = {}
    headings = []
    for row, other in results.against.items():
        link = row_link(results, row)
        lines[row] = {
            ("change of AbsRel, %", title): cell(results.change(row, name), 1, sign=True, link=link)
            for name, title in TITLES.items()
        }
        headings.append(f"{heading(results, row)}<br>against {heading(results, other)}")
    return html(lines, headings, name=f"robustness-changes-{results.profile}")


@figure
def curves(results: Robustness, metric: str = "abs_rel") -> Figure:
    """The score against strength, 0 being clean: a panel per corruption and one for their mean, a
    line per row, 95 % bands over seeds."""
    if not results.found:
        return empty()

    # the lines of each panel
    levels = results.levels
    clean = levels[levels.kind == CLEAN]
    hurt = levels[levels.kind != CLEAN]
    panels = {kind: hurt[hurt.kind == kind] for kind in STRENGTHS}
    panels[MEAN] = hurt.groupby(["row", "seed", "strength"], as_index=False)[metric].mean()

    # its looks, the same in every panel
    rows = [row for row in results.rows if results.of(row)]
    style = {
        "palette": dict(zip(rows, (COLOURS * 3)[: len(rows)], strict=True)),
        "markers": dict(zip(rows, (MARKERS * 3)[: len(rows)], strict=True)),
    }

    # the panels
    fig, axes = plt.subplots(2, 3, figsize=(8.4, 5.0), sharex=True, sharey=True)
    for ax, (kind, lines) in zip(axes.flat, panels.items(), strict=True):
        sns.lineplot(
            pd.concat([clean, lines]),
            x="strength",
            y=metric,
            hue="row",
            style="row",
            hue_order=rows,
            style_order=rows,
            dashes=False,
            errorbar=_interval,
            err_kws={"lw": 0},
            legend=False,
            ax=ax,
            **style,
        )
        ax.set(title=TITLES[kind], xlabel="strength (0 is clean)", ylabel="", xticks=range(6))
    for ax in axes[:, 0]:
        ax.set_ylabel({"abs_rel": "AbsRel", "ordinal": "ordinal accuracy"}[metric])

    # one legend for all
    handles = [
        plt.Line2D(
            [],
            [],
            color=style["palette"][r],
            marker=style["markers"][r],
            label=results.rows[r].label,
        )
        for r in rows
    ]
    fig.legend(handles=handles, loc="outside upper left", ncols=4)
    return fig


def _interval(values: pd.Series) -> tuple[float, float]:
    over_seeds = estimate(values)
    return over_seeds.low, over_seeds.high


def reading(results: Robustness) -> str:
    """What perturbation and alignment buy under corruption: the error there, the gap to clean
    images, which corruptions, and the order."""
    if not results.found:
        return UNRECORDED
    sentences = []
    for row in results.against:
        who = subject(results, row)
        sentences += [
            f"{who} {effect(results.change(row))} under corruption, and "
            f"{effect(results.change(row, CLEAN))} on the same images clean.",
            gap(results.change(row, GAP)),
            kinds(results, row),
            order(results.points(row, MEAN)),
        ]
    if any(e.status == "stale" for e in results.found):
        sentences.append("Some of these scores come from older code (marked stale).")
    return " ".join(s for s in sentences if s)


def _verdict(what: str, change: Estimate, verbs: tuple[str, str], unit: str) -> str:
    """A sentence on a paired change, worded as an effect only if its interval lies on one side of
    zero; empty without records."""
    if change.count == 0:
        return ""
    if change.why:
        return f"{what} changes in a way that cannot be told ({change.why})."
    value = f"{number(change.mean, 1, sign=True)} {unit}"
    if isnan(change.half):
        return f"{what} moves by {value} in a single seed, which shows nothing."
    interval = f"95 % interval {ends(change)}"
    if not change.decided:
        return f"{what}: undecided ({value}, {interval})."
    return f"{what} {verbs[change.mean > 0]} ({value}, {interval})."


def gap(change: Estimate) -> str:
    """Whether corruption costs less than before, beyond what is gained on clean images."""
    return _verdict(
        "The factor by which corruption raises the error", change, ("shrinks", "grows"), "%"
    )


def order(change: Estimate) -> str:
    """Whether more pairs of pixels are in the true order."""
    return _verdict(
        "Ordinal accuracy under corruption", change, ("falls", "rises"), "percentage points"
    )


def kinds(results: Robustness, row: str) -> str:
    """Under which corruptions the error falls, rises, or may do either; empty without records."""
    found = {TITLES[k]: results.change(row, k) for k in STRENGTHS}
    if not any(c.count > 1 for c in found.values()):
        return ""
    groups = {
        "falls": [k for k, c in found.items() if c.decided and c.mean < 0],
        "rises": [k for k, c in found.items() if c.decided and c.mean > 0],
        "is undecided": [k for k, c in found.items() if not c.decided],
    }
    return (
        "By corruption: "
        + "; ".join(f"it {verb} under {', '.join(n)}" for verb, n in groups.items() if n)
        + "."
    )
