"""The plan of the recorded study as tables: what was chosen, tried, asked, cut and amended."""

from html import escape

from dabook.runs.experiments import tree
from dabook.runs.jobs import HOUR, Overview, overview
from dabook.runs.plan import Plan, changes
from dabook.show.html import DASH, Html, html, number
from dalib import paths

NONE = Html("<p>Not written yet.</p>")


def state(plan: Plan | None) -> str:
    """Whether there is a plan, what it is about, how much of it is recorded, and whether it is as it
    was frozen."""
    if plan is None:
        return (
            "There is no plan yet. It will be written after the pilots, and no run of the study "
            "starts before it is frozen and committed."
        )
    if plan.rows is None or plan.science is None:
        return f"{plan.about} The plan is not frozen yet, and no run starts before it is."
    lines = overview(plan).lines
    runs = sum(line.runs for line in lines)
    recorded = f"Recorded: {sum(line.recorded for line in lines)} of {runs} runs."
    changed = changes(plan)
    kept = (
        f"Not as it was frozen: {'; '.join(changed.values())}."
        if changed
        else "Rows and code are as they were frozen."
    )
    return f"{plan.about} {kept} {recorded}"


def budget(plan: Plan | None) -> Html:
    """The settings of a run that were chosen, and why."""
    if plan is None:
        return NONE
    lines = {
        name: {"chosen": escape(", ".join(map(str, value)) if _several(value) else str(value))}
        for name, value in plan.settings.items()
    }
    headings = [f"<code>{escape(name)}</code>" for name in lines]
    table = html(lines, headings, name="plan-budget")
    kind = f"{plan.processor['device_type']}, {plan.processor['instructions']}"
    return table + Html(
        f"<p>{escape(plan.chosen_because)} All records are of one kind of processor "
        f"({escape(kind)}).</p>"
    )


def _several(value: object) -> bool:
    return isinstance(value, (list, tuple))


def tried(plan: Plan | None) -> Html:
    """What the pilots showed, one line each."""
    if plan is None:
        return NONE
    lines = [
        {"result": t.result, "decision": t.decision, "numbers": t.numbers or DASH}
        for t in plan.tried
    ]
    return _table([t.what for t in plan.tried], lines, name="plan-tried")


def questions(plan: Plan | None) -> Html:
    """What is run, in order, and what it takes on one core; below it what their teachers take, and
    the sum."""
    if plan is None:
        return NONE
    whole = overview(plan)
    why = {question.experiment: question.why for question in plan.questions}
    lines = {}
    for line in whole.lines:
        lines[line.experiment] = {
            "question": escape(tree()["experiments"][line.experiment]["question"]),
            "rows": str(line.rows),
            "seeds": str(line.seeds),
            "new runs": str(line.runs),
            "core-hours": number(line.seconds / HOUR, 1),
            "recorded": str(line.recorded),
            "why": escape(why[line.experiment]),
        }
    headings = [_link(name) for name in lines]
    text = {"question": "text", "why": "text"}
    return html(lines, headings, classes=text, name="plan-questions") + Html(_sum(whole))


def _sum(whole: Overview) -> str:
    """The line under the table of questions."""
    others = ""
    if whole.others:
        others = (
            f"Beside them {whole.others} runs are trained that others build on, such as teachers: "
            f"{number(whole.others_seconds / HOUR, 1)} core-hours. "
        )
    shared = "A run that several questions share counts for the first. "
    total = f"In all {number(whole.seconds / HOUR, 1)} core-hours."
    return f"<p>{shared}{others}{total}</p>"


def _link(experiment: str) -> str:
    """An experiment's name, linked to its page where it has one."""
    name = escape(experiment)
    page = paths.root() / "notebooks" / f"{experiment}.ipynb"
    return f'<a href="../notebooks/{name}.html">{name}</a>' if page.is_file() else name


def cut(plan: Plan | None) -> Html:
    """What is not run, and why."""
    if plan is None:
        return NONE
    return _table([c.what for c in plan.cut], [{"why": c.why} for c in plan.cut], name="plan-cut")


def amendments(plan: Plan | None) -> Html:
    """What was changed after the first record."""
    if plan is None:
        return NONE
    lines = [{"what was changed": a.what, "why": a.why} for a in plan.amendments]
    return _table([a.date for a in plan.amendments], lines, name="plan-amendments")


def _table(headings: list[str], lines: list[dict[str, str]], *, name: str) -> Html:
    """A table of text, one line for each heading; a word where there is none."""
    if not lines:
        return Html("<p>Nothing.</p>")
    cells = {str(k): {c: escape(v) for c, v in line.items()} for k, line in enumerate(lines)}
    columns = dict.fromkeys(lines[0], "text")
    return html(cells, [escape(h) for h in headings], classes=columns, name=name)
