"""The page of the first study: each of its faults, with its numbers from the records that are kept
(`dabook.analysis.first_study`), and what is left of its results."""

from collections import Counter
from collections.abc import Iterable
from html import escape
from math import sqrt
from statistics import fmean

import numpy as np

from dabook.analysis.first_study import FLOORS, REAL, FirstStudy
from dabook.analysis.multiplicity import benjamini_hochberg
from dabook.analysis.real import name_of
from dabook.analysis.statistics import Estimate
from dabook.analysis.verdicts import NOT_REPRODUCED, REPRODUCED, UNDECIDED
from dabook.pages.costs import EPOCHS
from dabook.show.html import Html, cell, html, number, title

ROWS = tuple(f"main_table.{row}" for row in ("labelled_only", "naive", "perturbed", "full"))
ALONE, NAIVE, PERTURBED, FULL = ROWS
LONGER = "pool.long_labelled_only"
LONGER_STUDENT = "pool.long_4000"
HEAVY = "floating"
MEAN_MAP = "mean map"
RAMP = "vertical ramp"
VIT = tuple(f"vit.{row}" for row in ("labelled_only", "naive", "perturbed"))
STRIDE = 32  # of the small encoder's last features


def label(study: FirstStudy, row: str) -> str:
    """A row by the label of its records, in quotation marks."""
    return f"“{next(iter(study.runs[row].values()))['label']}”"


def told(change: Estimate) -> str:
    """A change with its intervals: "+4.7 % (95 % interval +0.9 to +8.5 over seeds, ...)"."""
    ends = [f"{number(a, 1, sign=True)} to {number(b, 1, sign=True)}" for a, b in change.intervals]
    over = ("over seeds", "over seeds and images")
    parts = ", ".join(f"{e} {o}" for e, o in zip(ends, over, strict=False))
    return f"{number(change.mean, 1, sign=True)} % (95 % interval {parts})"


def _range(values: Iterable[float], digits: int = 3) -> str:
    values = sorted(values)
    return f"{number(values[0], digits)} to {number(values[-1], digits)}"


def what_it_was(study: FirstStudy) -> str:
    """Its size and its days: sentences."""
    runs = study.all_runs
    config = study.runs[ALONE][0]["config"]
    days = sorted(r["created"][:10] for r in runs)
    hours = sum(r["wall_seconds"] for r in runs) / 3600
    seeds = Counter(len(by_seed) for by_seed in study.runs.values())
    rows = " and ".join(f"{count} rows of {n} seeds" for n, count in sorted(seeds.items()))
    return (
        f"It has {len(runs)} runs, {rows}, recorded from {days[0]} to {days[-1]} in {hours:.0f} hours: "
        f"{config['steps']} steps of {config['batch']} labelled images, {config['height']} x "
        f"{config['width']} pixels, {config['test_images']} images in each of {len(study.domains)} "
        "drawn test domains."
    )


def main_table(study: FirstStudy) -> Html:
    """Its main table: the error, the change against the row above as it was shown, and against
    labelled images alone at equal image passes; the real images beside them."""
    lines = {}
    for k, row in enumerate(ROWS):
        above = study.change(row, ROWS[k - 1], base=ALONE) if k else Estimate()
        passes = study.change(row, LONGER, base=ALONE) if k else Estimate()
        lines[row] = {
            ("drawn test domains", "AbsRel ↓"): cell(study.level(row)),
            ("drawn test domains", "against the row above, %"): cell(above, 1, sign=True),
            ("drawn test domains", "at equal image passes, %"): cell(passes, 1, sign=True),
            ("real images, table half", "AbsRel ↓"): cell(study.level(row, group=REAL)),
        }
    lines[LONGER] = dict.fromkeys(lines[ALONE], cell(Estimate()))
    lines[LONGER]["drawn test domains", "AbsRel ↓"] = cell(study.level(LONGER))
    lines[LONGER]["real images, table half", "AbsRel ↓"] = cell(study.level(LONGER, group=REAL))
    headings = [escape(label(study, row).strip("“”")) for row in lines]
    counts = sorted({len(study.runs[row]) for row in ROWS})
    note = (
        f"{counts[0]} seeds per row, {len(study.runs[LONGER])} of the last and of what is compared "
        "with it; changes paired by seed, in % of the error of labelled images alone; below a change "
        "its intervals at 95 %, over seeds (Student's t) and over seeds and images (bootstrap). "
        "Records: data/first_study/records."
    )
    table = html(lines, headings, name="first-study-main")
    return table + Html(f'<p class="provenance">{note}</p>')


def equal_passes(study: FirstStudy) -> str:
    """Students beside labelled images alone that were given as many image passes: sentences."""
    config = study.runs[FULL][0]["config"]
    passes = config["steps"] * config["batch"] * (1 + config["unlabelled_ratio"])
    changes = {row: study.change(row, LONGER, base=ALONE) for row in ROWS[1:]}
    listed = "; ".join(f"{label(study, row)} {told(c)}" for row, c in changes.items())
    both = study.change(LONGER_STUDENT, LONGER, base=ALONE)
    seeds = changes[FULL].count
    return (
        f"Rows took equal steps, but a student's step reads {1 + config['unlabelled_ratio']} images "
        f"where one of labelled images alone reads one. Given the same {passes} image passes, "
        f"{study.runs[LONGER][0]['config']['steps']} steps, labelled images alone have "
        f"{number(study.level(LONGER).mean)}, a lower mean error than every student, and the passes of "
        f"the teacher are not even counted. Beside them, over {seeds} seeds: {listed}. Where both take "
        f"three times the steps, the pool still brings {told(both)}."
    )


def gains(study: FirstStudy) -> str:
    """On which domains the pool helps where both take three times the steps: a sentence."""
    found = {
        d: study.change(LONGER_STUDENT, LONGER, base=ALONE, domains=[d]) for d in study.domains
    }
    lower = [title(d) for d, c in found.items() if c.decided and c.mean < 0]
    rest = len(found) - len(lower)
    return (
        f"By both intervals it does so on {', '.join(lower) or 'no domain'}; on {rest} of {len(found)} "
        "domains no gain can be told."
    )


def too_short(study: FirstStudy) -> str:
    """How little the networks were trained: sentences."""
    config = study.runs[ALONE][0]["config"]
    epochs = config["steps"] * config["batch"] / config["labelled_images"]
    change = study.change(LONGER, ALONE)
    return (
        f"Labels were read {epochs:.2f} times (the paper's teacher reads them {EPOCHS} times). Three "
        f"times the steps change the error of labelled images alone by {told(change)}; the whole recipe, "
        f"in the main table, by {told(study.change(FULL, ALONE))}."
    )


def nothing_on_real(study: FirstStudy) -> str:
    """The recipe on real images: sentences."""
    sets = study.data_sets("table")
    levels = ", ".join(
        f"{label(study, row)} {number(study.level(row, group=REAL).mean, 4)}" for row in ROWS
    )
    kitti = study.change(FULL, PERTURBED, domains=["kitti"], group=REAL)
    images = [len(study.all_runs[0]["real"][d]["abs_rel"]) for d in sets]
    whole = study.change(FULL, ALONE, group=REAL)
    return (
        f"On the {len(sets)} data sets of the table half: {levels}. From the first row to the last the "
        f"error changes by {told(whole)}. The largest change on one set that was seen afterwards is "
        f"that of alignment on KITTI, {told(kitti)}. The sets have {min(images)} to {max(images)} "
        f"images each, {sum(images)} in all."
    )


def weak_floors(study: FirstStudy) -> str:
    """Where the network does not beat a prediction without an image: sentences."""
    floors = study.floors[FLOORS]
    sets = study.data_sets()
    best = {d: study.best_floor(d) for d in sets}
    gaps = {d: study.against_floors(FULL, [d]) for d in sets}
    open_ = [d for d in sets if not (gaps[d].decided and gaps[d].mean < 0)]
    listed = ", ".join(
        f"{name_of(d)} ({number(study.level(FULL, [d], group=REAL).mean)}, {best[d]} "
        f"{number(study.floor(best[d], [d], group=REAL))})"
        for d in open_
    )
    drawn = _range(study.level(row).mean for row in ROWS)
    return (
        f"The first records were held against a constant and a ramp. The mean map, the average of the "
        f"labelled scenes, is the best of {len(floors)} floors on "
        f"{sum(f == MEAN_MAP for f in best.values())} of {len(sets)} real data sets, and on the drawn "
        f"domains it has {number(study.floor(MEAN_MAP))}, where the four rows have {drawn}. The whole "
        f"recipe is not surely below the best floor on {listed}."
    )


def smears(study: FirstStudy) -> str:
    """The network beside a surface without an edge: sentences."""
    sets = study.data_sets()
    surface = {d: float(np.nanmean(study.surface[d]["abs_rel"])) for d in sets}
    level = {d: study.level(FULL, [d], group=REAL).mean for d in sets}
    above = [d for d in sets if level[d] > surface[d]]
    pairs = ", ".join(
        f"{name_of(d)} {number(surface[d])} against {number(level[d])}" for d in ("nyuv2", "kitti")
    )
    return (
        "A quadratic surface, fitted to the truth of each image, has neither edges nor objects. It has "
        f"the lower error on {len(above)} of {len(sets)} real data sets ({pairs}): there the network misses "
        "the layout, and not only things."
    )


def one_domain(study: FirstStudy) -> str:
    """The domain that ruled the mean: sentences."""
    levels = {row: study.level(row, [HEAVY]).mean for row in ROWS}
    shares = [levels[row] / study.level(row).mean / len(study.domains) for row in ROWS]
    return (
        f"{number(100 * fmean(shares), 0)} % of the mean over {len(study.domains)} domains "
        f"is “{HEAVY}” alone. There the rows have {_range(levels.values())}, the ramp "
        f"{number(study.floor(RAMP, [HEAVY]))}, the mean map "
        f"{number(study.floor(MEAN_MAP, [HEAVY]))}, and a student of the renderer's own depth "
        f"{number(study.level('oracle.oracle_naive', [HEAVY]).mean)}; trained on such scenes alone, "
        f"{number(study.level('labelled_sets.floating', [HEAVY]).mean)}. A third of the mean could not "
        "answer."
    )


def not_independent(study: FirstStudy) -> str:
    """What the runs shared that should have differed: sentences."""
    by_hash = {r["hash"]: r for r in study.all_runs}
    taught = [r for r in study.all_runs if r["teacher"]]
    alike = sum(by_hash[r["teacher"]]["seed"] == r["seed"] for r in taught)
    return (
        f"{alike} of {len(taught)} students have the seed of their teacher, and so its initial decoder, "
        "order of images and flips. All seeds learned from one draw of labels and of the pool. "
        "An interval over such seeds does not say what other labels would have given."
    )


def processors(study: FirstStudy) -> str:
    """Rows made on processors of several kinds, and what that does: sentences."""
    said = [r.get("instructions") for r in study.all_runs]
    known = Counter(kind for kind in said if kind)
    kinds = ", ".join(f"{kind} in {count} runs" for kind, count in known.items())
    mixed = [
        row
        for row, seeds in study.runs.items()
        if len({r.get("instructions") for r in seeds.values()}) > 1
    ]
    moved = [
        100 * (_mean(again, study.domains) / _mean(first, study.domains) - 1)
        for first, again in study.again
    ]
    rms = sqrt(fmean(x * x for x in moved))
    real = max(
        float(np.nanmax(np.abs(_real(first, d) - _real(again, d))))
        for first, again in study.again
        for d in study.data_sets()
        if d in again.get("real", {})
    )
    named = [r["created"] for r in study.all_runs if "instructions" in r]
    return (
        f"Records name the processor's instructions only from {min(named)[:10]} on: {kinds}; "
        f"{said.count(None)} do not say. In {len(mixed)} rows some seeds have a name there and others "
        f"do not. {len(moved)} runs made again on another processor came out {number(rms, 1)} % away "
        f"(root of the mean square), and single real images by up to {number(real, 2)}."
    )


def _mean(record: dict, domains: Iterable[str]) -> float:
    return float(np.mean([np.nanmean(record["images"][d]["abs_rel"]) for d in domains]))


def _real(record: dict, data_set: str) -> np.ndarray:
    return np.array(record["real"][data_set]["abs_rel"], float)


def transformers(study: FirstStudy) -> str:
    """How far the transformer came, and on what alignment worked: sentences."""
    config = study.runs[VIT[0]][0]["config"]
    ramp = study.floor(RAMP, size=f"{config['height']} x {config['width']}")
    shares = [100 * study.level(row).mean / ramp for row in VIT]
    small = study.runs[FULL][0]["config"]
    tokens = f"{small['height'] // STRIDE} x {small['width'] // STRIDE}"
    return (
        f"The transformer, trained from scratch, has {_range(study.level(r).mean for r in VIT)}, which "
        f"is {_range(shares, 0)} % of the error of the vertical ramp ({number(ramp)}); the order of rows "
        "so near a floor says little. In the main table, alignment compared features of "
        f"{tokens} tokens an image."
    )


def many_comparisons(study: FirstStudy, level: float = 0.05) -> str:
    """How many of its comparisons survive their number: sentences."""
    values = [change.p for change in study.measured.values()]
    shares = int(np.sum(benjamini_hochberg(values) < level))
    words = Counter(study.verdicts.values())
    return (
        f"Of {len(values)} comparisons, {sum(p < level for p in values)} differ from zero at the level "
        f"{level:g} when each is looked at alone; Holm's adjustment keeps {len(study.kept_by_holm())}, "
        f"that of Benjamini and Hochberg {shares}. By the rules of the time {words[REPRODUCED]} claims "
        f"were called reproduced, {words[NOT_REPRODUCED]} not reproduced and {words[UNDECIDED]} "
        "undecided, each at equal steps unless it said otherwise."
    )


def what_stands(study: FirstStudy) -> Html:
    """The comparisons that Holm's adjustment keeps, with both intervals."""
    lines = {}
    for k, test in enumerate(study.kept_by_holm()):
        floors = test.versus == FLOORS
        versus = "the best floor of each data set" if floors else label(study, test.versus)
        lines[str(k)] = {
            "beside": escape("on real images: " * floors + versus),
            "change, %": cell(study.measured[test], 1, sign=True),
        }
    headings = [escape(label(study, t.row)) for t in study.kept_by_holm()]
    return html(lines, headings, classes={"beside": "text"}, name="first-study-stands")
