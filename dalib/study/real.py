"""Real images in the book: the floors as a committed record, and every row of a table scored per data set beside them."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd

from dalib import certificates, paths
from dalib.errors import DataError
from dalib.evaluation.protocols import HALVES
from dalib.study import bootstrap
from dalib.study.records import split_hash
from dalib.study.statistics import LEVEL, Estimate, Results, estimate
from dalib.study.tables import Html, cell, heading, html, number, row_link
from dalib.study.tables import provenance as provenance_line

NAMES = {
    "flyingthings3d": "FlyingThings3D",
    "icl_nuim": "ICL-NUIM",
    "kitti": "KITTI",
    "mvs_outdoor": "MVS outdoor",
    "nuscenes": "nuScenes",
    "nyuv2": "NYUv2",
    "sunrgbd": "SUN RGB-D",
    "tum": "TUM",
}


AIMS = {"nyuv2": 0.22, "kitti": 0.20}  # AbsRel, set before the runs


def read_floors() -> dict | None:
    """The record of the floors, or None where there is none."""
    path = paths.floors()
    if not path.is_file():
        return None
    try:
        return split_hash(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: not a readable record ({error}); delete it and run python -m dalib floors") from error


def data_sets(results: Results, floors: dict | None) -> dict[str, list[str]]:
    """Half -> data sets that anything was scored on; Motorcycle stands by itself, it needs no download."""
    seen = dict.fromkeys(d for e in results.found for d in e.record.get("real", {}))
    seen |= dict.fromkeys(d for scores in (floors or {"floors": {}})["floors"].values() for d in scores)
    known = {half: [d for d in sets if d in seen] for half, sets in HALVES.items()}
    return {"wheel": ["motorcycle"] if "motorcycle" in seen else [], **known}


def real_table(results: Results, metric: str = "abs_rel") -> Html:
    """Every row per real data set, beside the floors, with the mean over the data sets of each half.

    Args:
        results: of the main table; means over images, then over seeds.
        metric: "abs_rel" or "delta1".
    """
    floors = read_floors()
    halves = data_sets(results, floors)
    titles = {"wheel": "in every install", "tune": "guided the scenes", "table": "kept for this table"}
    lines, headings = {}, []
    for kind, scores in (floors or {"floors": {}})["floors"].items():
        means = {name: float(pd.Series(s[metric], dtype=float).mean()) for name, s in scores.items()}
        headings.append(f"<i>{kind}</i>")
        lines[kind] = {k: number(v) for k, v in _columns(means, halves, titles).items()}
    for row in results.rows:
        wide = results.scores(metric, group="real")
        known = row in wide.index.get_level_values("row")
        by_seed = [_columns(dict(v), halves, titles) for _, v in wide.loc[row].iterrows()] if known else []
        link, columns = row_link(results, row), _columns({}, halves, titles)
        headings.append(heading(results, row))
        lines[row] = {k: cell(estimate([s[k] for s in by_seed]).point, link=link) for k in columns}
    if not any(halves.values()):
        return Html('<p class="provenance"><span class="stale">Nothing is recorded on real images yet.</span></p>')
    arrow = "AbsRel ↓" if metric == "abs_rel" else "δ₁ ↑"
    return html(lines, headings, caption=arrow, name=f"real-{metric}") + _line(floors) + provenance_line(results)


def _columns(
    means: dict[str, float], halves: dict[str, list[str]], titles: dict[str, str]
) -> dict[tuple[str, str], float]:
    """(half, data set) -> mean, and the mean over the data sets of each half where there are several."""
    columns = {}
    for half, sets in halves.items():
        columns |= {(titles[half], NAMES.get(d, d.capitalize())): means.get(d, Estimate().mean) for d in sets}
        if len(sets) > 1:
            columns[titles[half], "mean"] = float(
                pd.Series([means.get(d) for d in sets], dtype=float).mean(skipna=False)
            )
    return columns


def _line(floors: dict | None) -> Html:
    if floors is None:
        return Html(
            '<p class="provenance"><span class="stale">The floors are not recorded: python -m dalib floors</span></p>'
        )
    state = (
        "fresh"
        if certificates.unchanged("evaluation", floors["evaluation_hash"])
        else '<span class="stale">STALE</span>'
    )
    return Html(f'<p class="provenance">Floors: code <code>{floors["evaluation_hash"]}</code> ({state})</p>')


def below_floors(results: Results, row: str) -> dict[str, bool]:
    """For each data set: whether the row's mean AbsRel lies under both floors."""
    floors = read_floors()
    if floors is None or not results.of(row):
        return {}
    best = {}
    for scores in floors["floors"].values():
        for name, s in scores.items():
            best[name] = min(best.get(name, float("inf")), float(pd.Series(s["abs_rel"], dtype=float).mean()))
    values = {name: results.value(row, name, group="real").mean for name in best}
    return {name: bool(values[name] < floor) for name, floor in best.items() if values[name] == values[name]}


def against_floors(results: Results, row: str, *, half: str = "table") -> Estimate:
    """AbsRel of a row minus that of the better floor of each data set, in percent of the floors': over the data sets of a half, each
    with the same weight, then over seeds.

    Resampled are seeds and the images of each data set; the data sets are not.
    """
    floors, found = read_floors(), results.of(row)
    sets = [] if floors is None else [d for d in HALVES[half] if all(d in e.record.get("real", {}) for e in found)]
    sets = [d for d in sets if all(d in scores for scores in floors["floors"].values())]
    if not found or not sets:
        return Estimate()
    best = {d: min((np.array(s[d]["abs_rel"], float) for s in floors["floors"].values()), key=np.nanmean) for d in sets}
    ours = {d: np.array([e.record["real"][d]["abs_rel"] for e in found], float) for d in sets}
    unit = 100 / np.mean([np.nanmean(best[d]) for d in sets])
    by_seed = np.mean([np.nanmean(ours[d], axis=1) - np.nanmean(best[d]) for d in sets], axis=0)
    change = estimate(unit * by_seed)
    if change.count < 2:
        return change
    blocks = [np.stack([ours[d], np.broadcast_to(best[d], ours[d].shape)]) for d in sets]
    return replace(change, resampled=bootstrap.interval(blocks, np.array([unit, -unit]), level=LEVEL))


def reading(results: Results, row: str) -> str:
    """How many data sets a row beats both floors on, and the ones it does not, by name."""
    under = below_floors(results, row)
    if not under:
        return "Not yet recorded."
    over = [NAMES.get(d, d.capitalize()) for d, ok in under.items() if not ok]
    verdict = f"under both floors on {len(under) - len(over)} of {len(under)} data sets"
    return f"“{results.rows[row].label}” lies {verdict}" + (f"; not on {', '.join(over)}." if over else ".")


def aims(results: Results, row: str) -> str:
    """The errors that were aimed at before the runs, beside what came out."""
    values = {name: results.value(row, name, group="real").mean for name in AIMS}
    if not any(value == value for value in values.values()):
        return "Not yet recorded."
    parts = (
        f"{NAMES[name]} under {aim:.2f} ({'reached' if values[name] < aim else 'missed'}: {number(values[name])})"
        for name, aim in AIMS.items()
    )
    return "Aimed at before the runs: " + ", ".join(parts) + "."
