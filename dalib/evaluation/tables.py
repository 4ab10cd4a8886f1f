"""Results as text: what `python -m dalib evaluate` prints."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from dalib.evaluation.align import ALIGNMENTS
from dalib.evaluation.intervals import FEW, Estimate
from dalib.evaluation.set_results import SetResult

LABELS = {
    "abs_rel": "AbsRel",
    "sq_rel": "SqRel",
    "rmse": "RMSE",
    "rmse_log": "RMSE log",
    "silog": "SILog",
    "log10": "log10",
    "delta05": "d<1.25^0.5",
    "delta1": "d<1.25",
    "delta2": "d<1.25^2",
    "delta3": "d<1.25^3",
}
"""Metric -> what tables call it."""
SHOWN = ("abs_rel", "delta1", "rmse", "silog")
"""The metrics that are printed; all are in the files. What was asked for besides is printed, too."""
WIDTH = 25


def label(metric: str) -> str:
    """What a table calls a metric."""
    return LABELS.get(metric, metric)


def set_lines(each: SetResult, *, called: str, kind: str) -> list[str]:
    """One data set as a table: what was evaluated, and the floors."""
    over = "sequences" if each.in_sequences else "images"
    own = each.estimates
    rows = {called: own}
    rows |= {f"floor: {name}": found for name, found in each.floor_estimates.items()}
    units = next(iter(own.values())).units
    count = many(each.scored, "image")
    if each.in_sequences:
        count += f" in {many(units, 'sequence')}"
    if each.card.scores == "pairs":
        count = f"{many(int(sum(each.counts)), 'pair')} on {count}"
    fitted = ALIGNMENTS[each.alignment].words
    if each.alignment != "none":
        fitted += f", per {each.per}"
    lines = [f"{each.name}: {count}, protocol {each.protocol} ({each.card.hash}), {kind}, {fitted}"]
    first = max(map(len, rows)) + 2
    for metrics in blocks(own):
        heads = "".join(label(metric).ljust(WIDTH) for metric in metrics)
        lines.append("  " + " " * first + heads.rstrip())
        for name, found in rows.items():
            cells = [_cell(found[m]) if m in found else "-" for m in metrics]
            if any(cell != "-" for cell in cells):
                row = "".join(cell.ljust(WIDTH) for cell in cells)
                lines.append(f"  {name.ljust(first)}{row}".rstrip())
    notes = list(each.notes)
    if each.card.scores != "pairs" and each.floors and each.floors_by != each.alignment:
        notes.append(f"the floors are aligned by {each.floors_by}, whatever the rest is")
    if units < FEW:
        what = "there is no interval" if units < 2 else "intervals are too narrow"
        notes.append(f"with {many(units, over.removesuffix('s'))} {what}")
    return [*lines, *(f"  note: {note}" for note in notes)]


def blocks(metrics: Iterable[str]) -> list[list[str]]:
    """The metrics that are printed, as many as fit beside each other at a time."""
    metrics = list(metrics)
    usual = [m for m in SHOWN if m in metrics]
    others = [m for m in metrics if m not in LABELS]
    size = len(SHOWN)
    rest = [others[start : start + size] for start in range(0, len(others), size)]
    return [block for block in (usual, *rest) if block]


def many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _cell(found: Estimate) -> str:
    if math.isnan(found.mean):
        return "-"
    if math.isnan(found.low):
        return _number(found.mean)
    return f"{_number(found.mean)} [{_number(found.low)}, {_number(found.high)}]"


def _number(value: float) -> str:
    """Four decimals below 10, else four digits: 0.0712, 12.34, 1234."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"


def signed(found: Estimate) -> str:
    if math.isnan(found.low):
        return f"{found.mean:+.4f}"
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def short_name(subject: Mapping[str, Any]) -> str:
    """What was evaluated, in a word or two: the end of its name."""
    name = str(subject.get("name", "?"))
    return name if len(name) <= 40 else f"...{name[-37:]}"
