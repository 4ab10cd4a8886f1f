"""The page of the students that are made to be used: how near they are, what licences cost, and what
they see in photographs."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from math import inf, isnan

import torch
from IPython.display import Markdown
from matplotlib.figure import Figure

from dabook.analysis import students as analysis
from dabook.analysis.floors import blind, real_scores
from dabook.analysis.real import name_of
from dabook.analysis.statistics import VALIDATION, recorded
from dabook.pages.by_hand import FIRST
from dabook.pages.films_roads_rooms import see
from dabook.runs import networks, students
from dabook.runs.networks import Network
from dabook.runs.students import Record
from dabook.show import divider, model_card, pictures
from dabook.show.html import DASH, Html, html, number
from dalib import paths
from dalib.data.photos import PhotoFolder
from dalib.data.pools.sources import PoolPhotos
from dalib.data.scenes import TEST_DOMAINS, Scenes
from dalib.data.schema import Source
from dalib.data.sources import SkimagePhotos
from dalib.errors import DataError
from dalib.evaluation.floors import SURFACE
from dalib.evaluation.intervals import Estimate
from dalib.models import load

COUNT = 30
"""Photographs on the sheet."""
LONGEST = 240
"""Pixels of their longer side there."""
FEWEST = 5
"""Images or sequences, of a data set, or photographs with marked pairs, for an interval over them."""
NONE = (
    "No student is there yet: this page fills itself from data/students and from the package as soon as "
    "python -m dabook ship shipped and python -m dabook ship research have run."
)
NO_MAP = "There is no student here yet, and so no map of one."
RAMP = "vertical ramp"
MARKED = {"all": "marked pairs", "hard": "hard marked pairs"}
SETS = {"nyuv2": "NYUv2", "kitti": "KITTI"}
"""Real data sets with a column of their own."""
AIMS = {
    "research": {"table half": 0.18, "nyuv2": 0.18, "kitti": 0.14, "all": 0.96, "hard": 0.93},
    "shipped": {"all": 0.94, "hard": 0.88},
}
"""Set before the recipe was: AbsRel below, shares of marked pairs at least."""

LONGER = {
    "shipped": "+ four times the steps (shipped)",
    "research": "+ measured depth, all photographs (research)",
}
"""What a student has more than the line above it in the table of levers."""

Scores = Mapping[str, Mapping]


def found() -> dict[str, Record]:
    """The records of the students that there are, in the order of `students.yaml`."""
    known = {name: students.read(name) for name in students.recipes()}
    return {name: record for name, record in known.items() if record is not None}


def table(records: Mapping[str, Record]) -> Html:
    """AbsRel of the students, of the first study's network where it is at hand, and of what looks at no
    picture; and the marked pairs. In words where there is no record."""
    if not records:
        return Html(f"<p>{escape(NONE)}</p>")
    lines: dict[str, dict] = {}
    headings = []
    for name, record in records.items():
        lines[name] = _cells(record)
        headings.append(escape(record["label"]))
    if first := analysis.first_study():
        lines["first"] = _cells({"real": first})
        headings.append("First study, the whole recipe")
    *_, last = records.values()
    for name, heading in (
        (RAMP, "floor: ramp"),
        (SURFACE, "fitted to the truth: quadratic surface"),
    ):
        lines[name] = _cells(last["floors"][name])
        headings.append(heading)
    made = "; ".join(
        f"{escape(r['label'])}: {r['created'][:10]}, code {r['training_hash']} and "
        f"{r['evaluation_hash']}, configuration {r['hash']}"
        for r in records.values()
    )
    note = (
        '<p class="provenance">AbsRel, smaller is better; means of log AbsRel over data sets; one network '
        "each, 95 % intervals over images or sequences of images, of marked pairs over photographs; none "
        f"of fewer than {FEWEST}. In a mean a data set of one image or sequence is held fixed, so that the "
        f"interval is narrower than it should be. {made}.</p>"
    )
    return html(lines, headings, name="students") + Html(note)


def _cells(scores: Mapping) -> dict[tuple[str, str], str]:
    """A line of the table, with a dash for what was not scored."""
    real = scores.get("real", {})
    cells = {
        ("real images", f"{half} half"): _cell(analysis.middle(analysis.counted(real, half)))
        for half in ("table", "tune")
    }
    by_set = analysis.by_set({name: real[name] for name in SETS if name in real})
    for name, title in SETS.items():
        cells["real images", title] = _cell(by_set[name]) if name in by_set else DASH
    drawn = analysis.drawn(scores.get("images", {}))
    cells["drawn images", "test domains"] = _cell(analysis.middle(drawn))
    marked = analysis.marked(scores["marked"]) if "marked" in scores else {}
    for name in ("all", "hard"):
        cells["marked pairs ↑", name] = _cell(marked[name]) if name in marked else DASH
    return cells


def _cell(estimate: Estimate) -> str:
    text = number(estimate.mean)
    if estimate.low == estimate.low and estimate.units >= FEWEST:
        text += f'<br><span class="interval">{model_card.ends(estimate)}</span>'
    return text


def cost(records: Mapping[str, Record]) -> str:
    """What licences cost, in a sentence."""
    if not {"research", "shipped"} <= records.keys():
        return f"What licences cost is known when both students are there; {len(records)} of 2 are recorded."
    change = analysis.change(*(records[n]["real"] for n in ("research", "shipped")))
    noise = _noise()
    outside = abs(change.mean) > noise
    if not (change.low > 0 or change.high < 0):
        verdict = "The interval does not say whether the licences cost anything."
    elif isnan(noise):
        verdict = (
            "The interval excludes zero; what another seed does is not recorded, so that whether the "
            "licences cost anything is undecided."
        )
    elif not outside:
        verdict = (
            "The interval excludes zero, but the gap is no larger than that between two networks of one "
            f"recipe with other seeds, up to {number(noise, 1)} % in nineteen of twenty pairs of the main "
            "table: whether the licences cost anything is undecided."
        )
    else:
        verdict = (
            "The licences cost accuracy: the gap is larger than what another seed explains, "
            if change.mean > 0
            else "The shipped student is the better one, by more than another seed explains, "
        ) + f"{number(noise, 1)} %."
    low, high = (number(end, 1, sign=True) for end in (change.low, change.high))
    return (
        f"On the {change.n} real data sets of both halves AbsRel of the shipped student is "
        f"{number(change.mean, 1, sign=True)} % from that of the research student (95 % interval over "
        f"images {low} to {high}). {verdict} These are two networks, one of each kind, whose recipes "
        "differ in their data alone."
    )


def _noise(half: str | None = None) -> float:
    """How far two networks of one recipe lie apart on the real images of a half, or of both, in
    percent, by the rows of the main table; NaN, beyond which nothing lies, where none has two
    seeds."""
    return analysis.between_seeds(recorded("main_table"), half)


def aims(records: Mapping[str, Record]) -> Html:
    """What was aimed at, and what was reached."""
    lines, headings = [], []
    for name, record in records.items():
        real = record["real"]
        reached = {"table half": analysis.middle(analysis.counted(real, "table"))}
        reached |= analysis.by_set({each: real[each] for each in SETS if each in real})
        reached |= analysis.marked(record["marked"]) if "marked" in record else {}
        for what, aim in AIMS[name].items():
            if what not in reached:
                continue
            up = what in MARKED
            lines.append(
                {
                    "of": MARKED.get(what) or SETS.get(what, what),
                    "aim": ("≥ " if up else "&lt; ") + number(aim, 2),
                    "reached": _cell(reached[what]),
                    "verdict": _met(reached[what], aim, up=up),
                }
            )
            headings.append(escape(record["label"]))
    if not lines:
        return Html(f"<p>{escape(NONE)}</p>")
    return html(dict(enumerate(lines)), headings, name="aims")


def _met(found: Estimate, aim: float, *, up: bool) -> str:
    """Whether an aim is reached, and whether its interval is wholly on that side of it."""
    better = found.mean >= aim if up else found.mean < aim
    surely = found.units >= FEWEST and not found.low <= aim <= found.high
    return ("reached" if better else "missed") + ("" if surely else ", not surely")


def ladder(records: Mapping[str, Record]) -> dict[str, Record | None]:
    """The records of the rungs, and after them of the students: the shipped one is the last rung at
    four times the steps, the research one has more data. None where there is no record."""
    rungs = {name: students.read(name) for name in students.ladder()}
    return rungs | {name: records.get(name) for name in LONGER}


def levers(rungs: Mapping[str, Record | None]) -> Html:
    """What each lever brought: a line per rung, with its change from the line above; none where one of
    the two is not recorded."""
    lines, headings = {}, []
    moved = _moved(rungs)
    for name, record in rungs.items():
        if record is None:
            lines[name] = {"table half": '<span class="stale">not recorded</span>'}
            label = LONGER.get(name) or students.recipe(name).label
            headings.append(escape(label))
            continue
        own = analysis.counted(record["real"], "table")
        cells = {
            "table half": number(analysis.middle(own).mean),
            "change, %": _percent(moved[name]) if name in moved else DASH,
        }
        by_set = analysis.means_by_set({n: record["real"][n] for n in SETS if n in record["real"]})
        cells |= {title: number(by_set.get(n, float("nan"))) for n, title in SETS.items()}
        drawn = analysis.drawn(record["images"])
        cells["drawn"] = number(analysis.middle(drawn).mean)
        marked = analysis.marked(record["marked"]) if "marked" in record else {}
        for kind, title in (("all", "marked"), ("hard", "hard")):
            cells[f"{title} ↑"] = number(marked[kind].mean) if kind in marked else DASH
        lines[name] = cells
        headings.append(escape(LONGER.get(name, record["label"])))
    if not any(rungs.values()):
        return Html(f"<p>{escape(NONE)}</p>")
    columns = next(cells for name, cells in lines.items() if rungs[name] is not None)
    lines = {name: dict.fromkeys(columns, DASH) | cells for name, cells in lines.items()}
    return html(lines, headings, name="levers")


def _moved(rungs: Mapping[str, Record | None]) -> dict[str, Estimate]:
    """The change of the table half by each lever, in percent; none where its line or the one above
    is not recorded."""
    return {
        name: analysis.change(*(analysis.counted(r["real"], "table") for r in (before, after)))
        for (_, before), (name, after) in pairwise(rungs.items())
        if before is not None and after is not None
    }


def _percent(change: Estimate) -> str:
    low, high = (number(end, 1, sign=True) for end in (change.low, change.high))
    mean = number(change.mean, 1, sign=True)
    return f'{mean}<br><span class="interval">{low} to {high}</span>'


def brought(rungs: Mapping[str, Record | None]) -> str:
    """Which levers moved the table half by more than its images and a seed explain: sentences."""
    steps = _moved(rungs)
    if not steps:
        count = sum(record is not None for record in rungs.values())
        return (
            "What each lever brought is known when the ladder is trained; "
            f"{count} of its {len(rungs)} networks are recorded."
        )
    noise = _noise("table")
    moved: dict[str, list[str]] = {"lower": [], "raise": [], "cannot be told": []}
    for name, change in steps.items():
        label = LONGER.get(name, rungs[name]["label"]).removeprefix("+ ")
        told = f"{label} ({number(change.mean, 1, sign=True)} %)"
        outside = abs(change.mean) > noise and (change.low > 0 or change.high < 0)
        verdict = ("lower" if change.mean < 0 else "raise") if outside else "cannot be told"
        moved[verdict].append(told)
    said = {
        "lower": "These lower the error on the table half by more than another seed would, and their "
        "interval over images excludes zero",
        "raise": "These raise it so",
        "cannot be told": "Not to be told from chance",
    }
    sentences = [f"{said[verdict]}: {'; '.join(each)}." for verdict, each in moved.items() if each]
    if isnan(noise):
        return (
            f"Each line is one network, and what another seed does is not recorded. {sentences[0]}"
        )
    yardstick = (
        "Each line is one network. Two networks of one recipe with different seeds, and so with other "
        f"drawn scenes and another teacher, lie up to {number(noise, 1)} % apart there in nineteen of "
        "twenty pairs, measured on the short networks of the main table."
    )
    return " ".join([yardstick, *sentences])


def beaten(records: Mapping[str, Record]) -> str:
    """On which real data sets the students are below what looks at no picture, in a sentence each."""
    said = []
    for record in records.values():
        own = _means(record["real"])
        floors = {name: _means(floor["real"]) for name, floor in record["floors"].items()}
        fitted = floors.pop(SURFACE)
        floors |= {name: _means(known) for name, known in blind(real_scores()).items()}
        over = [d for d in own if any(own[d] >= floor.get(d, inf) for floor in floors.values())]
        above = [d for d in own if own[d] >= fitted[d]]
        said.append(
            f"{record['label']}: below each of {len(floors)} floors ({', '.join(floors)}) on "
            f"{len(own) - len(over)} of {len(own)} real data sets{_not_on(over)}, and below the quadratic "
            f"surface, which is fitted to the truth, on {len(own) - len(above)}{_not_on(above)}."
        )
    return " ".join(said) or NONE


def _not_on(data_sets: Sequence[str]) -> str:
    return f" (not on {', '.join(map(name_of, data_sets))})" if data_sets else ""


def _means(scores: Scores) -> dict[str, float]:
    """AbsRel of each real data set, each image once."""
    return analysis.means_by_set(analysis.counted(scores))


def card(records: Mapping[str, Record]) -> Markdown:
    """The shipped student's model card, with headings that fit into a page; in words without one."""
    if "shipped" not in records:
        return Markdown("There is no shipped student yet, and so no model card.")
    text = model_card.card(records["shipped"]).split("---\n", 2)[2]
    lines = [
        f"#{line}" if line.startswith("## ") else line
        for line in text.splitlines()
        if not line.startswith("# ")
    ]
    return Markdown("\n".join(lines))


# the contact sheet


def photographs(count: int = COUNT) -> tuple[list[dict], list[str]]:
    """Photographs of scikit-image, of those without depth beside the real images, and of the public
    pool, as far as they are on this machine, as evenly taken as possible.

    Returns:
        The samples, each with a title, and a line for each place where there are none.
    """
    places: list[Source] = [SkimagePhotos()]
    missing = []
    try:
        places.append(PhotoFolder(paths.realdepth() / "unlabelled"))
    except DataError:
        missing.append(
            "the photographs without depth beside the real images are not on this machine"
        )
    try:
        places.append(PoolPhotos(paths.pool("photos")))
    except DataError:
        missing.append(
            "the pool of photographs is not on this machine (`python -m dalib fetch photos`)"
        )
    samples = []
    for left, source in zip(range(len(places), 0, -1), places, strict=True):
        share = min(len(source), (count - len(samples)) // left)
        for k in range(share):
            place = k * len(source) // share
            samples.append({**source[place], "title": source.domain})
    return samples, missing


def scenes(*splits: str, each: int = 1) -> list[dict]:
    """The first drawn scenes of these splits that no table scores, each with its kind as a name."""
    found = []
    for split in splits:
        source = Scenes(split=split, count=FIRST + each, height=240, width=320)
        name = split.removeprefix("labelled_").replace("_", " ")
        found += [{**source[FIRST + k], "name": name} for k in range(each)]
    return found


def beside_truth(shown: Sequence[Network], samples: Sequence[dict]) -> Figure | Html:
    """Drawn scenes in columns, with their truth and what the first network sees; words without one."""
    if not shown:
        return Html(f"<p>{NO_MAP}</p>")
    truth = [torch.where(s["valid"], s["disparity"], torch.nan) for s in samples]
    return pictures.strip(samples, {"truth": truth, "network": see(shown[0], samples)})


def off(records: Mapping[str, Record]) -> dict[str, float]:
    """By how many percent of the distance the shipped student is wrong on average, by kind of scene:
    on those that had labels, on the six that had none, and on the worst and the best of these."""
    nan = float("nan")
    if "shipped" not in records:
        return dict.fromkeys(("known", "unknown", "worst", "best"), nan)
    scores = analysis.means_by_set(records["shipped"]["images"])
    unknown = [scores[name] for name in TEST_DOMAINS]
    found = {
        "known": scores[VALIDATION],
        "unknown": sum(unknown) / len(unknown),
        "worst": max(unknown),
        "best": min(unknown),
    }
    return {name: 100 * value for name, value in found.items()}


def kept(records: Mapping[str, Record]) -> Html:
    """What the research student saw when it was made, for whoever has not its weights; in words while
    there is no picture."""
    path = students.picture_of("research")
    if "research" not in records or not path.is_file():
        return Html("<p>There is no picture of the research student's maps yet.</p>")
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    label = (
        "Five photographs of scikit-image, and under each its depth as the research student sees it"
    )
    return Html(f'<img src="data:image/jpeg;base64,{data}" alt="{label}">')


def watching(profile: str) -> list[Network]:
    """The students that are on this machine, the shipped one first; and your own run where it is
    trained. Empty without a student, whatever else there is."""
    shown = []
    for name in ("shipped", "research"):
        path = students.weights_of(name) if name in students.recipes() else None
        if path is not None:
            short = students.short_side(students.read(name))
            shown.append(Network(label=name, model=load(path), short_side=short))
    if not shown:
        return []
    return shown + [n for n in networks.of_the_book(profile) if n.label == networks.OWN]


def sheet(shown: Sequence[Network], samples: Sequence[dict]) -> Figure | Html:
    """The photographs with what each network sees in them; words where there is no network."""
    if not shown:
        return Html(f"<p>{NO_MAP}</p>")
    maps = [see(network, samples) for network in shown]
    tiles = []
    titles = []
    for k, sample in enumerate(samples):
        tiles.append(divider.smaller(sample["image"], LONGEST))
        tiles += [divider.smaller_map(found[k], LONGEST) for found in maps]
        titles += [str(sample["title"]), *(network.label for network in shown)]
    across = 1 + len(shown)
    return pictures.contact_sheet(
        tiles, titles, columns=across * max(1, 6 // across), kind="disparity"
    )
