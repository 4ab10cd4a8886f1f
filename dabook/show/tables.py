"""Tables of an experiment: its plan, its rows, its records, each number beside the paper's; and the
lines of provenance under them."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isnan

from dabook.analysis import budget, floors
from dabook.analysis.bootstrap import DRAWS
from dabook.analysis.budget import EQUAL_BOTH, EQUAL_COMPUTE, EQUAL_STEPS
from dabook.analysis.curves import Point
from dabook.analysis.paper import paper, paper_change
from dabook.analysis.statistics import MEAN, VALIDATION, Estimate, Results
from dabook.runs import records
from dabook.runs.experiments import Experiment, usual
from dabook.runs.records import Entry, Record
from dabook.show.html import DASH, Html, anchor, cell, html, number, record_link, row_link, title
from dabook.show.sentences import reading

RESAMPLED = (
    "“seeds”, Student's t over seeds; “+ images”, the bootstrap over seeds and test images"
    f" ({DRAWS} draws of seeds and, in each domain, of images, the same images for all rows and "
    "seeds); “+ sequences”, the same where images that belong together are drawn together"
)


def heading(results: Results, row: str) -> str:
    """A row's label, marked where it is stale, has not every seed that was planned, or none."""
    states = [e.status for e in results.entries if e.row.name == row]
    there = sum(state != "missing" for state in states)
    marks = ["stale"] if "stale" in states else []
    if there < len(states):
        marks.append(f"{there} of {len(states)} seeds" if there else "not recorded")
    return escape(results.rows[row].label) + "".join(
        f' <span class="stale">{mark}</span>' for mark in marks
    )


def main_table(results: Results) -> Html:
    """The table of an experiment, one line per row and then per floor; below it provenance, images
    with a scale below zero, and what is missing.

    Columns: AbsRel as a geometric mean over the test domains, the plain mean, the change with its
    reading, that at equal compute, the paper's, δ₁, the mean without the domain of the largest error,
    validation (in-domain), each test domain, the records. Means and changes stand with both
    intervals, the single domains without; `ABOVE_FLOOR` and `ABOVE_SURFACE` mark those of them that
    are not surely below. Where nothing is recorded, only that and how to run it.
    """
    if not results.found:
        return missing(results)
    domains = results.domains
    known = floors.drawn_scores(results)
    lines = {}
    theirs = paper(results.experiment)
    for row in results.rows:
        link = row_link(results, row)
        line = {
            "AbsRel ↓": cell(results.value(row), link=link),
            "plain mean": cell(results.plain(row)),
            "change, %": change_cell(results, row),
            "at equal compute, %": compute_cell(results, row),
        }
        if theirs:
            line["paper: AbsRel"] = number(theirs.get(row, Estimate().mean))
            line["paper: change, %"] = number(paper_change(results, row), 1, sign=True)
        line["δ₁ ↑"] = cell(results.value(row, metric="delta1"), link=link)
        if results.heaviest:
            line[_without(results)] = cell(results.value(row, results.others).point, link=link)
        for domain in (VALIDATION, *domains):
            value = cell(results.value(row, domain).point, link=link)
            line[title(domain)] = value + above(results.of(row), known, [domain])
        seeds = (f'<a href="{record_link(e.record)}">{e.config.seed}</a>' for e in results.of(row))
        lines[row] = line | {"records by seed": " ".join(seeds) or DASH}
    headings = [heading(results, row) for row in lines]
    for name, scores in known.items():
        lines[f"floor {name}"] = _floor_line(results, scores, [*line, "records by seed"], domains)
        headings.append(f"<i>{escape(floors.heading(name))}</i>")
    table = html(
        lines,
        headings,
        classes={"paper: AbsRel": "paper", "paper: change, %": "paper"} if theirs else None,
        name=f"{results.experiment}-{results.profile}",
    )
    return table + marks(results, known) + provenance(results) + scales(results) + missing(results)


def change_cell(results: Results, row: str) -> str:
    """The change of a row from the one that it is compared with, with both intervals and its
    reading."""
    change = results.change(row)
    text = cell(change, 1, sign=True, link=row_link(results, row))
    other = results.against.get(row)
    if other is None or not change.count:
        return text
    return f'{text}<br><span class="interval">{budget.reading_of(results, row, other)}</span>'


def compute_cell(results: Results, row: str) -> str:
    """The change of a row from labelled images alone with as much compute, with both intervals; a
    dash where no such row is declared."""
    change = budget.at_equal_compute(results, row)
    if change is None:
        return DASH
    return cell(change, 1, sign=True, link=row_link(results, row))


ABOVE_FLOOR = "ᶠ"
ABOVE_SURFACE = "ᵠ"


def above(
    found: list[Entry], known: floors.Scores, domains: list[str], *, group: str = "images"
) -> str:
    """The marks of a cell that is not surely below the best floor, and not surely below the
    quadratic surface; nothing where they are not recorded."""
    gaps = {
        ABOVE_FLOOR: floors.gap(found, known, domains, group=group),
        ABOVE_SURFACE: floors.above_surface(found, known, domains, group=group),
    }
    return "".join(
        mark
        for mark, gap in gaps.items()
        if gap.count and not (gap.mean < 0 and (gap.decided or gap.count == 1))
    )


def marks(results: Results, known: floors.Scores) -> Html:
    """A line under a table that explains the marks of `above`; nothing without floors."""
    if not known:
        return Html("")
    text = f"{ABOVE_FLOOR}: not surely below the best floor, a prediction that looks at no picture"
    if floors.surface(known):
        text += (
            f"; {ABOVE_SURFACE}: not surely below the quadratic surface, which is fitted to each "
            "truth and is no prediction: of a row that is not below it, it is not shown that it has seen "
            "more than a layout"
        )
    text += ". Surely: by both intervals"
    if any(len(results.of(row)) == 1 for row in results.rows):
        text += "; a row of a single seed has none, and is marked where its error is not below"
    return Html(f'<p class="provenance">{text}</p>')


def _without(results: Results) -> str:
    """Heading of the mean that leaves out the domain with the largest error."""
    return f"AbsRel without {title(results.heaviest)}"


def _floor_line(
    results: Results, scores: dict[str, dict], columns: list[str], domains: list[str]
) -> dict:
    """A floor under the rows of a table: its errors where there are any, a dash in every other
    column."""
    line = dict.fromkeys(columns, DASH)
    line["AbsRel ↓"] = number(floors.level(scores, MEAN, domains))
    line["plain mean"] = number(floors.plain_level(scores, domains))
    line["δ₁ ↑"] = number(floors.level(scores, MEAN, domains, "delta1"))
    if results.heaviest:
        line[_without(results)] = number(floors.level(scores, results.others, domains))
    return line | {
        title(d): number(floors.level(scores, d, domains)) for d in (VALIDATION, *domains)
    }


def scales(results: Results, group: str = "images") -> Html:
    """A line under a table: of how many images the fitted scale is below zero, row by row and floor
    by floor.

    Args:
        results: of the experiment.
        group: "images", the drawn domains, or "real".
    """
    known = floors.drawn_scores(results) if group == "images" else floors.real_scores()
    known = floors.blind(known)
    found = {f"floor: {name}": floors.inversions(scores.values()) for name, scores in known.items()}
    for row, spec in results.rows.items():
        counts = [floors.inversions(e.record.get(group, {}).values()) for e in results.of(row)]
        if None in counts:
            found[f"“{spec.label}”"] = None
        elif counts:
            wrong = sum(n for n, _ in counts)
            images = sum(n for _, n in counts)
            found[f"“{spec.label}”"] = (wrong, images)
    if not found:
        return Html("")
    groups: dict[str, list[str]] = {}
    for name, count in found.items():
        groups.setdefault(floors.inversion_text(count), []).append(escape(name))
    parts = "; ".join(f"{text}: {', '.join(names)}" for text, names in groups.items())
    why = (
        "images with a fitted scale below zero, whose near and far are the wrong way round "
        "though they are scored as if right"
    )
    return Html(f'<p class="provenance">{why.capitalize()}: {parts}</p>')


def record_list(results: Results) -> Html:
    """Every record behind a table: one line each, its errors (`Results.metric`) linked to the
    record's page, and where it comes from."""
    wide = results.scores()
    lines = {}
    headings = []
    for row in results.rows:
        for i, entry in enumerate(results.of(row)):
            record = entry.record
            link = record_link(entry.record)
            line = {"seed": str(entry.config.seed)}
            for domain, value in wide.loc[(row, entry.config.seed)].items():
                line[title(domain)] = f'<a href="{link}">{number(value)}</a>'
            commit = record["commit"] + "+" * record["dirty"]
            for key, fact in (
                ("config", record["hash"]),
                ("code", records.code(record)),
                ("commit", commit),
            ):
                line[key] = f"<code>{escape(fact)}</code>"
            line |= {
                "minutes": number(record["wall_seconds"] / 60, 1),
                "made": record["created"][:10],
            }
            lines[f"{row} {entry.config.seed}"] = line
            headings.append(
                f'<span id="{anchor(results, row)}"></span>' * (i == 0) + heading(results, row)
            )
    name = f"records-{results.experiment}-{results.profile}"
    return html(lines, headings, name=name) if lines else missing(results)


def _seeds(results: Results) -> str:
    """The fewest and the most seeds that are recorded of a row."""
    counts = sorted({len(results.of(row)) for row in results.rows})
    return " to ".join(str(c) for c in dict.fromkeys((counts[0], counts[-1]))) + " seed(s)"


def provenance(results: Results) -> Html:
    """The line under a table: experiment and profile, how many seeds, which code, which machine,
    when, and what changes and intervals are. Nothing without records."""
    found = [e.record for e in results.found]
    if not found:
        return Html("")

    def distinct(key) -> str:
        return ", ".join(dict.fromkeys(escape(str(key(r))) for r in found))

    stale = sum(e.status == "stale" for e in results.found)
    state = (
        f'<span class="stale">STALE: {stale} of {len(found)} runs come from older code</span>'
        if stale
        else "fresh"
    )
    days = sorted(r["created"][:10] for r in found)
    threads = (
        f"{distinct(lambda r: r['threads'])} thread(s), "
        f"{distinct(lambda r: r['processes'])} process(es) each"
    )
    parts = [
        f"{escape(results.experiment)}, profile {escape(results.profile)}",
        f"{_seeds(results)} per row",
        f"code <code>{distinct(records.code)}</code> ({state})",
        f"commit <code>{distinct(lambda r: r['commit'] + '+' * r['dirty'])}</code>",
        f"{distinct(_device)}, {threads}",
        " to ".join(dict.fromkeys((days[0], days[-1]))),
        "means over domains and seeds of ln AbsRel (geometric), beside them the plain mean of AbsRel",
        "changes paired by seed, in % of the row compared with",
        escape(budget.beside(results)),
        f"intervals, 95 %: {RESAMPLED}",
    ]
    return Html(f'<p class="provenance">{" · ".join(parts)}</p>')


def _device(record: Record) -> str:
    """The processor's name; with its vector instructions, where the record says them (earlier ones
    do not)."""
    return (
        f"{record['device']} ({record['instructions']})"
        if "instructions" in record
        else record["device"]
    )


def missing(results: Results) -> Html:
    """What is not recorded, and how to run it; nothing where all is there."""
    lacking = len(results.entries) - len(results.found)
    if not lacking:
        return Html("")
    command = escape(results.command)
    text = (
        f"{lacking} of {len(results.entries)} runs are not recorded yet. To run them: "
        f"<code>{command}</code>."
    )
    return Html(f'<p class="provenance"><span class="stale">{text}</span></p>')


def learning_table(results: Results, curves: Mapping[str, Sequence[Point]]) -> Html:
    """Learning curves (`dabook.analysis.curves`), one line per row and a group of columns per budget:
    the error, its change from the budget before, and that from the first curve at the same steps."""
    lines = {}
    budgets = sorted({point.steps for points in curves.values() for point in points})
    for label, points in curves.items():
        known = {point.steps: point for point in points}
        line = {}
        for steps in budgets:
            point = known.get(steps)
            link = row_link(results, point.row) if point else None
            estimates = (point.level, point.gained, point.beside) if point else (Estimate(),) * 3
            level, gained, beside = estimates
            line[f"{steps} steps", "AbsRel ↓"] = cell(level, link=link)
            line[f"{steps} steps", "from the budget before, %"] = cell(gained, 1, sign=True)
            line[f"{steps} steps", "from the first row, %"] = cell(beside, 1, sign=True)
        lines[label] = line
    if not results.found:
        return missing(results)
    headings = [escape(label) for label in lines]
    name = f"curves-{results.experiment}-{results.profile}"
    return html(lines, headings, name=name) + provenance(results) + missing(results)


YOURS, RECORDED = "your run", "the recorded run"


def recorded_runs(yours: Results, recorded: Results) -> dict[str, Results]:
    """What can stand side by side: your run and the recorded run, each where anything of it is
    there."""
    return {name: r for name, r in ((YOURS, yours), (RECORDED, recorded)) if r.found}


def row_heading(runs: dict[str, Results], recorded: Results, row: str) -> str:
    """A row of `recorded_runs` by its label, marked by what the recorded run lacks, where it stands
    there at all."""
    return heading(recorded, row) if RECORDED in runs else escape(recorded.rows[row].label)


def side_by_side(yours: Results, recorded: Results) -> Html:
    """Your run, the recorded run and the paper: the level of each row, and its change; below it how
    to read them, and what of your run is missing. A run of which nothing is there has no column."""
    runs = recorded_runs(yours, recorded)
    if not runs:
        return missing(yours)
    theirs = paper(recorded.experiment)
    lines = {}
    for row in recorded.rows:
        line = {}
        for name, r in runs.items():
            link = row_link(r, row) if row in r.rows else None
            line[name, "AbsRel"] = cell(r.value(row), link=link)
            line[name, "change, %"] = cell(r.change(row), 1, sign=True, link=link)
        line["the paper", "AbsRel"] = number(theirs.get(row, Estimate().mean))
        line["the paper", "change, %"] = number(paper_change(recorded, row), 1, sign=True)
        lines[row] = line
    marks = {c: "paper" for c in line if c[0] == "the paper"}
    note = "; ".join(
        f"{who}: profile {escape(r.profile)}, {_seeds(r)} per row" for who, r in runs.items()
    )
    table = html(
        lines,
        [row_heading(runs, recorded, row) for row in lines],
        classes=marks,
        name=f"beside-{recorded.experiment}",
    )
    return (
        table
        + Html(
            f'<p class="provenance">{note}. Levels differ between the columns for many reasons; '
            "compare the directions.</p>"
        )
        + missing(yours)
    )


def plan(experiment: Experiment) -> Html:
    """The rows as they were written down, each by the settings in which it differs from what all rows
    of the profile share; below it the size of the study."""
    c = usual(experiment.profile)
    plain = c.to_dict()
    lines = {}
    for row in experiment.rows:
        settings = {k: v for k, v in row.configs[0].to_dict().items() if v != plain[k]}
        text = ", ".join(f"{name}: {_said(value, plain)}" for name, value in settings.items())
        lines[row.name] = {
            "row": f"<code>{row.name}</code>",
            "differs from the profile in": escape(text) or DASH,
        }
    student = any(row.configs[0].pseudo_labels for row in experiment.rows)
    beside = f" (and {c.pool_batch} of the pool, in a student's step)" if student else ""
    pool = f", {c.unlabelled_images} of a drawn pool" if student else ""
    scale = (
        f"{len(experiment.rows[0].configs)} seeds per row, {c.steps} steps of {c.batch} labelled "
        f"images{beside}, {c.height} x {c.width} pixels, {c.labelled_images} images of a drawn "
        f"labelled set{pool}, {c.test_images} per test domain; where a row says nothing else"
    )
    table = html(
        lines, [escape(row.label) for row in experiment.rows], name=f"plan-{experiment.name}"
    )
    return table + Html(f'<p class="provenance">Profile {escape(experiment.profile)}: {scale}.</p>')


def _said(value: object, plain: Mapping[str, object]) -> str:
    """A setting in words; of a block of settings, in brackets, those that differ from `plain`."""
    if isinstance(value, dict):
        said = {k: v for k, v in value.items() if v is not None and v != plain.get(k)}
        inner = "; ".join(f"{name}: {_said(each, plain)}" for name, each in said.items())
        return f"({inner or 'as the profile has it'})"
    return ", ".join(_said(v, plain) for v in value) if isinstance(value, list) else str(value)


def readme_table(results: Results) -> str:
    """The table as Markdown for the README, each row with links to its records, and what is still
    missing. Intervals are over seeds; a sentence alone where no row has two of them yet."""
    if max(len(results.of(row)) for row in results.rows) < 2:
        state = "being recorded" if results.found else "not yet recorded"
        return (
            f"The runs of this study are {state}. What the one before it measured, and why it "
            "could not say more, is kept in [`data/first_study`](data/first_study) and on a page of the "
            "book, *What the first study could not say*.\n"
        )
    theirs = paper(results.experiment)
    heads = ["AbsRel ↓", "95 % interval"]
    heads += [f"change {EQUAL_STEPS}", "95 % interval"]
    if results.equal_compute:
        heads += [f"change {EQUAL_COMPUTE}", "95 % interval"]
    heads += ["δ₁ ↑", "paper", "records"]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for row, spec in results.rows.items():
        value = results.value(row)
        changes = [_at_equal_steps(results, row)]
        if results.equal_compute:
            changes.append(budget.at_equal_compute(results, row) or Estimate())
        stale = " (stale)" if any(e.status == "stale" for e in results.of(row)) else ""
        links = " ".join(
            f"[{e.config.seed}](data/records/{e.record['experiment']}/{e.record['hash']}.json)"
            for e in results.of(row)
        )
        cells = [
            spec.label + stale,
            number(value.mean),
            _range(value, 3),
            *(text for c in changes for text in (_percent(c.mean), _range(c, 1, sign=True))),
            number(results.value(row, metric="delta1").mean),
            number(theirs.get(row, Estimate().mean)),
            links or DASH,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"{reading(results)} Intervals in the table are over seeds."]
    return "\n".join(lines) + "\n"


def _at_equal_steps(results: Results, row: str) -> Estimate:
    """The change of a row where it is one at equal steps."""
    other = results.against.get(row)
    if other is None or budget.reading_of(results, row, other) not in (EQUAL_STEPS, EQUAL_BOTH):
        return Estimate()
    return results.change(row)


def _range(estimate: Estimate, digits: int, *, sign: bool = False) -> str:
    if isnan(estimate.half):
        return DASH
    return (
        f"{number(estimate.low, digits, sign=sign)} to {number(estimate.high, digits, sign=sign)}"
    )


def _percent(value: float) -> str:
    return DASH if isnan(value) else f"{number(value, 1, sign=True)} %"
