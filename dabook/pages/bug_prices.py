"""What the page of the bugs shows: prices from the records, and what has none because it ends in a
crash."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isnan

import torch

from dabook.analysis.statistics import MEAN, Estimate, Results
from dabook.runs import bugs
from dabook.runs.faulty import VARIANTS, switched_on, unguarded
from dabook.show.html import Html, cell, html, number, row_link
from dabook.show.sentences import UNRECORDED, effect, progress
from dabook.show.tables import missing, provenance
from dalib import losses
from dalib.data import scenes
from dalib.evaluation import protocols
from dalib.evaluation.metrics import METRICS

COPIES = "public copies"
NOTHING = 0.05  # percent: a change that stays below it is none, whatever its interval
REAL = {"nyuv2": "NYUv2", "kitti": "KITTI"}  # real images that are scored inside a crop


@dataclass(frozen=True, kw_only=True)
class Words:
    """A bug in words: its name, what goes wrong, where it was seen."""

    label: str
    wrong: str = ""
    seen: str = COPIES


MEDIAN = "the median of mask × map: every invalid pixel enters as a 0"
PIXELS = "a sum over valid pixels, divided by all"
WORDS = {
    "mean_for_median": Words(label="a mean for the median", wrong="the shift of eq. 3 is a mean"),
    "one_rate_encoder": Words(
        label="one learning rate, the encoder’s", wrong="the new decoder learns as slowly"
    ),
    "one_rate_decoder": Words(
        label="one learning rate, the decoder’s", wrong="the trained encoder learns as fast"
    ),
    "zeros_in_median_regions": Words(
        label="zeros in the median, CutMix regions", wrong=MEDIAN, seen="isl-org/MiDaS#33"
    ),
    "zeros_in_median": Words(
        label="zeros in the median, labels with holes", wrong=MEDIAN, seen="isl-org/MiDaS#33"
    ),
    "all_pixels": Words(label="divided by all pixels, labels with holes", wrong=PIXELS),
    "all_pixels_regions": Words(label="divided by all pixels, CutMix regions", wrong=PIXELS),
    "untrimmed": Words(
        label="a trimmed loss that trims nothing",
        wrong="the slice meets the pair (values, indices) of a sort",
        seen="at least four public copies",
    ),
    "fixed_box": Words(
        label="CutMix with a fixed box", wrong="the same rectangle for every image and step"
    ),
    "batch_margin": Words(
        label="margin on the batch mean", wrong="all tokens are aligned, or none is"
    ),
    "wrong_space": Words(label="aligned in the wrong space", wrong="disparity is fitted to depth"),
    "pooled": Words(
        label="pixels pooled over images", wrong="an image counts by its number of scored pixels"
    ),
    "unguarded": Words(
        label="a solve without a guard", wrong="textbook determinant in single precision"
    ),
    "crop_unused": Words(label="a crop that is never used", wrong="computed, and not passed on"),
    "holes": Words(label="labels with holes", seen=""),
    "trimmed": Words(label="a loss that trims", seen=""),
    "cropped": Words(label="scored inside Garg’s crop", seen=""),
}
TRAINED = [name for name, v in VARIANTS.items() if v.bug and v.trained]
SCORED = [name for name, v in VARIANTS.items() if v.bug and not v.trained]
GROUPS = {
    "a network of labelled images": [
        n for n in TRAINED if VARIANTS[n].against != "holes" and VARIANTS[n].row == "labelled_only"
    ],
    "the same, its labels with holes": [n for n in TRAINED if VARIANTS[n].against == "holes"],
    "a student’s own steps": [n for n in TRAINED if VARIANTS[n].row != "labelled_only"],
}


class Bugs(Results):
    """Every variant beside the true run, or the correct variant, of the same seed; a price is in
    percent of the latter's error."""

    def __init__(self, *, profile: str = "study", seeds: int | None = None):
        found = [
            replace(e, row=replace(e.row, label=WORDS[e.row.name].label))
            for e in bugs.entries(profile=profile, seeds=seeds)
        ]
        against = {name: v.against or v.row for name, v in VARIANTS.items() if v.bug}
        super().__init__(
            [*bugs.true_entries(profile=profile, seeds=seeds), *found], against=against
        )

    def base(self, row: str) -> str:
        """What a price is given in percent of: that with which the row is compared, and no
        chain."""
        return self.against.get(row) or (VARIANTS[row].row if row in VARIANTS else row)

    @property
    def command(self) -> str:
        return f"python -m dabook.runs.bugs --profile {self.profile}"


def price(change: Estimate) -> str:
    """A change as a verdict: an effect only where both intervals leave out zero."""
    if change.count > 1 and max(abs(x) for ends in change.intervals for x in ends) < NOTHING:
        return "changes nothing"
    if change.count == 0:
        return "not yet recorded"
    if isnan(change.half):
        return "one seed shows nothing"
    return ("lowers", "raises")[change.mean > 0] + " the error" if change.decided else "undecided"


def table(results: Bugs, names: Iterable[str]) -> Html:
    """One line per bug: what it is, where it is switched on, the error without and with it, the
    price; these three columns not where nothing is recorded."""
    lines = {}
    names = list(names)
    for name in names:
        words = WORDS[name]
        other = results.against[name]
        link = row_link(results, name)
        measured = {
            "price, %": cell(results.change(name), 1, sign=True, link=link),
            "verdict": price(results.change(name)),
            "AbsRel without": cell(results.value(other).point, link=row_link(results, other)),
            "with": cell(results.value(name).point, link=link),
        }
        lines[name] = (measured if results.found else {}) | {
            "what goes wrong": words.wrong,
            "switched on in": _place(results, name),
            "compared with": results.rows[other].label if other in VARIANTS else "the library",
            "seen in": words.seen,
        }
    marks = dict.fromkeys(
        ("what goes wrong", "seen in", "switched on in", "compared with", "verdict"), "text"
    )
    shown = html(
        lines,
        [WORDS[n].label for n in names],
        classes=marks,
        name=f"bugs-{names[0]}-{results.profile}",
    )
    return shown + provenance(results) + missing(results)


def _place(results: Bugs, name: str) -> str:
    row = results.rows[VARIANTS[name].row].label.removeprefix("+ ")
    return row if VARIANTS[name].trained else "the score"


def answer(results: Bugs) -> str:
    """How many bugs in training have a price that can be told, which is the dearest, and what
    faulty scores report."""
    changes = {name: results.change(name) for name in (*TRAINED, *SCORED)}
    trained = {name: changes[name] for name in TRAINED if changes[name].count}
    scored = {name: changes[name] for name in SCORED if changes[name].count}
    if not trained and not scored:
        return UNRECORDED
    sentences = []
    if trained:
        dearer = [name for name, change in trained.items() if price(change).startswith("raises")]
        dearest = sorted(dearer, key=lambda name: -trained[name].mean)[:1]
        told = "".join(f": the dearest, “{WORDS[n].label}”, {effect(trained[n])}" for n in dearest)
        sentences.append(
            f"Of {len(trained)} bugs in training, {len(dearer) or 'none'} can be seen to raise the "
            f"error{told}."
        )
        sentences += _rest(trained, dearest)
    if scored:
        briefly = "; ".join(_brief(name, change) for name, change in scored.items())
        sentences.append(f"Of the same network, a faulty score reports another error: {briefly}.")
    sentences.append(progress(results))
    return " ".join(sentences).strip()


def _rest(found: dict[str, Estimate], told: list[str]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for name, change in found.items():
        if name not in told:
            groups.setdefault(price(change), []).append(_brief(name, change))
    return [
        f"{verdict[0].upper()}{verdict[1:]}: {'; '.join(members)}."
        for verdict, members in groups.items()
    ]


def _brief(name: str, change: Estimate) -> str:
    text = f"“{WORDS[name].label}”, {number(change.mean, 1, sign=True)} %"
    if name not in SCORED:  # these are listed by their verdicts
        return text
    verdicts = {
        "undecided": ", undecided",
        "changes nothing": ", which changes nothing",
        "one seed shows nothing": ", one seed",
    }
    return text + verdicts.get(price(change), "")


def holes(results: Bugs) -> str:
    """What the holes cost by themselves, with correct code: a sentence."""
    change = results.change("holes", versus="labelled_only")
    if not change.count:
        return UNRECORDED
    return f"Holes by themselves, under the true loss: hiding these labels {effect(change)}."


def invalid_share(count: int = 200) -> float:
    """Share of pixels without a label in the first scenes of the labelled split."""
    return float(
        (~scenes.render("labelled", range(count), height=48, width=64)["valid"]).float().mean()
    )


def real(results: Bugs) -> Html:
    """What the faulty scores report on the real data sets that have a crop, in percent of the true
    score there."""
    kept = []
    for entry in results.found:
        scores = entry.record.get("real", {})
        if entry.row.name in ("full", *SCORED) and scores.keys() >= REAL.keys():
            images = {d: {m: scores[d][m] for m in METRICS} for d in REAL}
            kept.append(replace(entry, record=entry.record | {"images": images}))
    rows = [n for n in SCORED if n in {e.row.name for e in kept}]
    if not rows or "full" not in {e.row.name for e in kept}:
        return Html(f'<p class="provenance">{UNRECORDED}</p>')
    found = Results(kept, against=dict.fromkeys(rows, "full"))
    lines = {
        n: {
            title: cell(found.change(n, d), 1, sign=True, link=row_link(results, n))
            for d, title in ({MEAN: "mean"} | REAL).items()
        }
        for n in rows
    }
    caption = "change of the reported AbsRel, %"
    return html(
        lines, [WORDS[n].label for n in rows], caption=caption, name=f"bugs-real-{results.profile}"
    )


def demonstrations() -> Html:
    """What has no price in AbsRel, on a batch each: what the faulty code does, and what the library
    does."""
    blank = torch.zeros(2, 4, 4, requires_grad=True)
    none = torch.zeros(2, 4, 4, dtype=torch.bool)
    with switched_on("int_zero"):
        try:
            losses.affine_invariant(blank, blank, none).mean().backward()
            crash = "no error"
        except AttributeError as error:
            crash = f"{type(error).__name__}: {error}"
    whole = torch.ones(1, 518, 518, dtype=torch.bool)
    ramp = torch.rand(1, 518, 518, generator=torch.Generator().manual_seed(0))
    flat = torch.full_like(ramp, 0.1)
    solved = {
        "a constant prediction": (flat, unguarded(flat, ramp, whole)),
        "sums in half precision": (ramp, unguarded(ramp, ramp, whole, dtype=torch.half)),
    }
    lines = {
        "the integer 0 for empty masks": {"the bug": crash, "the library": _true_loss(blank, none)}
    }
    for name, (pred, faulty) in solved.items():
        true = protocols.least_squares(pred, ramp, whole)
        lines[name] = {
            "the bug": _scale_and_shift(faulty),
            "the library": _scale_and_shift(true),
        }
    return html(lines, list(lines), name="bugs-crashes")


def _true_loss(pred, valid) -> str:
    loss = losses.affine_invariant(pred, pred.detach(), valid).mean()
    loss.backward()
    return f"loss {number(loss.item(), 0)}, gradient {number(pred.grad.abs().max().item(), 0)}"


def _scale_and_shift(solution) -> str:
    scale, shift = solution
    # + 0.0: no minus before a zero
    return f"scale {float(scale) + 0.0:.3g}, shift {float(shift) + 0.0:.3g}"
