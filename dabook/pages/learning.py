"""Learning curves in words (`dabook.analysis.curves`): whether the order of the rows changes with the
number of steps, what more steps bring, and where labelled images alone stand at equal compute."""

from collections.abc import Mapping, Sequence

from dabook.analysis.curves import Point
from dabook.analysis.statistics import Results, recorded
from dabook.runs.experiments import Experiment
from dabook.show.html import number
from dabook.show.sentences import MAIN, UNRECORDED, along, at_compute, effect


def steps_of(plan: Experiment, label: str) -> dict[int, str]:
    """The rows of a curve by their steps."""
    return {plan[row].configs[0].steps: row for row in plan.curves[label]}


def order(results: Results, plan: Experiment) -> str:
    """Whether a row and the one before it change places with the number of steps, by both intervals:
    sentences."""
    later = list(plan.curves)[1:]  # the first curve is compared with none
    known = {label: _sides(results, steps_of(plan, label)) for label in later}
    if not any(known.values()):
        return UNRECORDED
    numbers = sorted({steps for sides in known.values() for steps in sides})
    if len(numbers) < 2:
        return (
            f"Only runs of {numbers[0]} steps are recorded so far, so that nothing can be said of the "
            "order at other numbers."
        )
    later = [label for label in later if known[label]]
    turned = [label for label, sides in known.items() if {-1, 1} <= set(sides.values())]
    whole = {
        label: sides for label, sides in known.items() if len(sides) == len(plan.curves[label])
    }
    alike = [
        label for label, s in whole.items() if len(set(s.values())) == 1 and 0 not in s.values()
    ]
    span = f"between {numbers[0]} and {numbers[-1]} steps"
    first = (
        f"Of {len(later)} rows {len(turned)} {'changes' if len(turned) == 1 else 'change'} places with "
        f"the row before {'it' if len(turned) == 1 else 'them'} {span} ({_named(turned)})."
        if turned
        else f"None of {len(later)} rows changes places with the row before it {span} by both intervals."
    )
    kept = f" ({_named(alike)})" if alike else ""
    return (
        f"{first} The sign of {len(alike)} of the {len(later)} changes is decided, and the same, at "
        f"every number of steps{kept}."
    )


def _named(labels: Sequence[str]) -> str:
    return ", ".join(f"“{label}”" for label in labels)


def _sides(results: Results, rows: Mapping[int, str]) -> dict[int, int]:
    """Steps -> the sign of a row's change, 0 where it is not decided; nothing where it is not
    recorded."""
    changes = {steps: results.change(row) for steps, row in rows.items()}
    return {
        steps: (1 if change.mean > 0 else -1) * change.decided
        for steps, change in changes.items()
        if change.count
    }


def ladder(results: Results, plan: Experiment) -> str:
    """What each row changes beside the one before it, at each number of steps: a sentence for each."""
    told = (
        along(
            results,
            steps_of(plan, label),
            what=f"The students with {label.removeprefix('+ ')}",
            unit="steps",
        )
        for label in list(plan.curves)[1:]
    )
    return " ".join(told)


def gained(curves: Mapping[str, Sequence[Point]]) -> str:
    """What the last budget brings beside the one before it: a sentence."""
    found = {label: points[-2:] for label, points in curves.items()}
    known = {label: pair for label, pair in found.items() if pair[-1].gained.count}
    if not known:
        return UNRECORDED
    before, last = next(iter(known.values()))
    told = "; ".join(f"“{label}” {effect(pair[-1].gained)}" for label, pair in known.items())
    return f"From {before.steps} to {last.steps} steps: {told}."


def labelled_long() -> str:
    """Where labelled images alone stand that have the compute of the main table's whole recipe:
    sentences; of what is not recorded only how many steps they take."""
    results = recorded(MAIN)
    said = []
    for long in dict.fromkeys(results.equal_compute.values()):
        first = results.base(long)
        steps = {row: results.rows[row].configs[0].steps for row in (long, first)}
        change = results.change(long, versus=first)
        moved = f"; beside it, it {effect(change)}" if change.count else ""
        said.append(
            f"“{results.rows[long].label}”, a row of the main table, takes {steps[long]} steps, "
            f"{number(steps[long] / steps[first], 1)} times those of “{results.rows[first].label}”{moved}."
        )
    return " ".join([*said, at_compute(results)]).strip()
