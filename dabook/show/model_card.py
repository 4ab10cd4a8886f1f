"""The model card of the shipped student: Markdown made from its record, and from nothing else."""

from collections import Counter

from dabook.analysis import students as analysis
from dabook.analysis.real import name_of
from dabook.runs.students import Record
from dabook.show.html import DASH, number
from dalib.evaluation.floors import SURFACE
from dalib.evaluation.intervals import Estimate
from dalib.evaluation.protocols import HALVES

LIMITS = """
- **Relative disparity**: larger is nearer, each image with a scale and a shift of its own. No metres, and
  no comparison between images.
- It is small, and sees images at a short side of {side} pixels: thin and far things are missed, and edges
  are soft.
- Its true depth is that of drawn scenes. Of what these do not show, or only as simple bodies (people,
  animals, water, mirrors, glass, the view from above), it has never seen a true depth.
- Sky is infinitely far in its labels, disparity 0; clouds and bright walls may be taken for each other.
- One network of one seed: intervals are over images, and say nothing of another training.
- Data sets of a few images stand for themselves, not for all rooms or roads. Measure on your own images
  before anything depends on it; it is not for use where errors can hurt somebody.
"""


def card(record: Record) -> str:
    """The model card of a record, as a Markdown file of the form that model hubs read."""
    config = record["config"]
    side = min(config["height"], config["width"])
    weights = record["weights"]
    encoder = config["encoder"]
    versions = ", ".join(f"{name} {v}" for name, v in record["versions"].items())
    hours = sum(record["wall_seconds"].values()) / 3600
    parts = [
        "---",
        "license: apache-2.0",
        "pipeline_tag: depth-estimation",
        "library_name: dalib",
        "tags: [monocular-depth, relative-depth]",
        "---",
        "",
        f"# {record['label']}",
        "",
        f"A network that predicts relative disparity from one photograph: encoder {encoder}, a DPT decoder, "
        f"{weights['parameters']:,} parameters, stored as {weights['precision']} in "
        f"{weights['bytes'] / 1e6:.1f} MB. It is a student of the recipe of *Depth Anything* "
        f"(arXiv:2401.10891) in small, and none of the released networks.",
        "",
        "```bash",
        "python -m dalib predict photo.jpg out/",
        "```",
        "",
        "This file is made from the record by `python -m dabook ship`; edits are lost.",
        "",
        "## How it was made",
        "",
        f"`python -m dabook ship {record['student']}`: seed {record['seed']}, {config['steps']} steps of "
        f"{config['batch']} labelled and {config['batch'] * config['unlabelled_ratio']} unlabelled images at "
        f"{config['height']} x {config['width']}, {number(hours, 1)} hours on {record['device']} "
        f"({record['threads']} threads), the teacher's included. Configuration {record['hash']}, code "
        f"{record['training_hash']} (training) and {record['evaluation_hash']} (evaluation), commit "
        f"{record['commit']}{' with uncommitted changes' if record['dirty'] else ''}, {record['created']}. "
        f"{versions}. SHA-256 of the file: `{weights['sha256']}`.",
        "",
        "## What it has seen, and under which licences",
        "",
        *_seen(record),
        "",
        "Each photograph's repository, path and content are listed in `data/pools/photos.csv`. None of the "
        "photographs is part of the file. Whether a network may be passed on is this project's reading of "
        "the terms, and no legal advice. Weights that it, or whoever taught it, began with:",
        "",
        *(
            f"- {each['name']}: {each['licence']}"
            + (f" ({each['source']})" if each["source"] else "")
            for each in record["began_with"]
        ),
        "",
        "## Numbers",
        "",
        *numbers(record),
        "",
        "## Limits",
        "",
        LIMITS.format(side=side).strip(),
        "",
    ]
    return "\n".join(parts)


def _seen(record: Record) -> list[str]:
    """A table of the origins of all images, each with its licence."""
    images: Counter[tuple[str, ...]] = Counter()
    by: dict[tuple[str, ...], list[str]] = {}
    for each in record["seen"]:
        for part in each["parts"]:
            at = f" at {part['commit'][:12]}" if part["commit"] else ""
            where = f"{part['repository']}{at}" if part["repository"] else DASH
            key = (part["dataset"], where, part["licence"], part["ship"], each["role"])
            images[key] = max(images[key], part["images"])
            by.setdefault(key, []).append(each["run"])
    lines = [
        "| images | role | read by | data set | repository | licence | may be shipped |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, count in images.items():
        dataset, where, licence, ship, role = key
        read = " and ".join(dict.fromkeys(by[key]))
        lines.append(f"| {count} | {role} | {read} | {dataset} | {where} | {licence} | {ship} |")
    return lines


def numbers(record: Record) -> list[str]:
    """What a record says in numbers: AbsRel on real and drawn images beside a ramp and the quadratic
    surface that is fitted to each truth, and marked pairs."""
    ramp = record["floors"]["vertical ramp"]
    surface = record["floors"][SURFACE]
    lines = [
        "AbsRel after alignment of scale and shift in disparity, smaller is better; intervals at 95 % over "
        "images. The ramp looks at no picture (below is near); the quadratic surface is fitted to each "
        "truth, so that it is no prediction, but whoever is above it has seen less than the layout.",
        "",
        "| | images | AbsRel | interval | ramp | quadratic surface |",
        "|---|---|---|---|---|---|",
    ]
    real = record["real"]
    for half in ("table", "tune"):
        chosen = {n: s for n, s in real.items() if s["half"] == half}
        used = "" if half == "table" else " (looked at while scenes and settings were chosen)"
        for name in chosen:
            lines.append(_line(name_of(name) + used, name, real, ramp["real"], surface["real"]))
        if chosen:
            lines.append(
                _mean(
                    f"mean of the data sets of this half ({half})",
                    *(analysis.counted(s["real"], half) for s in (record, ramp, surface)),
                )
            )
    for name in record["images"]:
        title = f"drawn: {name.replace('_', ' ')}"
        lines.append(_line(title, name, record["images"], ramp["images"], surface["images"]))
    lines.append(
        _mean(
            "mean of the drawn test domains",
            *(analysis.drawn(s["images"]) for s in (record, ramp, surface)),
        )
    )
    lines += [
        "",
        "Means are over data sets, of log AbsRel; "
        f"{' and '.join(HALVES)} are the two halves of the real data sets.",
    ]
    if "marked" in record:
        lines += ["", *_marked(record)]
    else:
        lines += ["", "Marked pairs were not on the machine that made it, and are not scored."]
    return lines


def _line(title: str, name: str, *scores: dict) -> str:
    own, *beside = (analysis.by_set({name: s[name]})[name] for s in scores)
    return _row(title, len(scores[0][name]["abs_rel"]), own, beside)


def _mean(title: str, *scores: dict) -> str:
    own, *beside = map(analysis.middle, scores)
    return _row(title, own.units, own, beside)


def _row(title: str, images: int, own: Estimate, beside: list[Estimate]) -> str:
    cells = [title, str(images), number(own.mean), ends(own), *(number(e.mean) for e in beside)]
    return f"| {' | '.join(cells)} |"


def _marked(record: Record) -> list[str]:
    """The marked pairs in a sentence."""
    own = analysis.marked(record["marked"])
    ramp = analysis.marked(record["floors"]["vertical ramp"]["marked"])
    said = [
        f"{number(share.mean)} ({ends(share)}) of {share.n} {name}, the ramp {number(ramp[name].mean)}"
        for name, share in own.items()
    ]
    return [
        "Of pairs of points that people marked in photographs, where one is surely nearer, in the right "
        f"order: {'; '.join(said)}. Hard pairs are those whose nearer point is not clearly lower in the image; "
        "intervals are over photographs."
    ]


def ends(estimate: Estimate, digits: int = 3) -> str:
    """An interval in words; a dash where there is none."""
    if estimate.low != estimate.low:
        return DASH
    return f"{number(estimate.low, digits)} to {number(estimate.high, digits)}"
