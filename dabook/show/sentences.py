"""Sentences about results, chosen by the data: what an interval cannot tell from zero is never
worded as an effect."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isnan, sqrt

from scipy.special import stdtrit

from dabook.analysis import budget, floors
from dabook.analysis.budget import EQUAL_COMPUTE, EQUAL_STEPS
from dabook.analysis.statistics import LEVEL, MEAN, Estimate, Results, recorded
from dabook.show.html import number

UNRECORDED = "These runs are not yet recorded."
UNANSWERED = "The runs that answer this are not yet recorded."
MAIN = "main_table"
STALE = "Some of these runs come from older code (marked stale)."


def effect(change: Estimate) -> str:
    """A change of the error in percent, as a phrase: "lowers the error by 3.1 % (95 % interval 1.2
    to 5.0 over seeds, 0.9 to 5.2 over seeds and images)"."""
    if change.why:
        return f"changes the error in a way that cannot be told ({change.why})"
    if change.count == 0:
        return "is not yet recorded"
    if isnan(change.half):
        return (
            f"moves the error by {number(change.mean, 1, sign=True)} % in a single seed, which "
            "shows nothing"
        )
    if not change.decided:
        return (
            f"has an undecided effect ({number(change.mean, 1, sign=True)} "
            f"%, 95 % interval {ends(change)})"
        )
    return f"{'lowers' if change.mean < 0 else 'raises'} the error by {_size(change)}"


def ends(change: Estimate) -> str:
    """Every interval of a change with what it is over: "-2.1 to +1.1 over seeds, -2.4 to +1.3 over
    seeds and images"."""
    return ", ".join(
        f"{number(low, 1, sign=True)} to {number(high, 1, sign=True)} {over}"
        for over, (low, high) in change.named.items()
    )


def moved(change: Estimate, *, what: str, unit: str) -> str:
    """A change of a number that is named, in its unit, as a phrase: "lowers AbsRel (-3.1 %; 95 %
    interval ...)"."""
    if change.why:
        return f"changes {what} in a way that cannot be told ({change.why})"
    if change.count == 0:
        return "is not yet recorded"
    value = f"{number(change.mean, 1, sign=True)} {unit}"
    if isnan(change.half):
        return f"moves {what} by {value} in a single seed, which shows nothing,"
    interval = f"{value}; 95 % interval {ends(change)}"
    if not change.decided:
        return f"has an undecided effect on {what} ({interval})"
    return f"{'raises' if change.mean > 0 else 'lowers'} {what} ({interval})"


def student_beside(results: Results, kinds: Iterable[str], told: Callable[[str, str], str]) -> str:
    """Of each kind of row, what the student's encoder brings beside the two others: sentences.

    Args:
        results: rows `KIND_student`, `KIND_imagenet` and `KIND_labelled_only`.
        kinds: of rows.
        told: of the student's row and the other, what comes out, as a phrase.
    """
    if not results.found:
        return UNRECORDED
    said = []
    for kind in kinds:
        student = f"{kind}_student"
        for other in (f"{kind}_imagenet", f"{kind}_labelled_only"):
            if {student, other} <= results.rows.keys():
                names = [f"“{results.rows[row].label}”" for row in (student, other)]
                known = results.change(student, versus=other).count
                outcome = told(student, other) if known else "is not yet recorded"
                said.append(f"{' beside '.join(names)} {outcome}.")
    if any(e.status == "stale" for e in results.found):
        said.append(STALE)
    return " ".join(said)


def _size(change: Estimate) -> str:
    parts = []
    for over, interval in change.named.items():
        low, high = sorted(map(abs, interval))
        parts.append(f"{number(low, 1)} to {number(high, 1)} {over}")
    return f"{number(abs(change.mean), 1)} % (95 % interval {', '.join(parts)})"


def subject(results: Results, row: str) -> str:
    """The beginning of a sentence about a row: what was added to the row above it, or its name
    against another."""
    label = results.rows[row].label
    return (
        f"Adding {label[2:]}"
        if label.startswith("+ ")
        else f"“{label}” beside “{results.rows[results.against[row]].label}”"
    )


def reading(results: Results) -> str:
    """A short paragraph on the changes of a table: what is still missing; the recipe as a whole with its
    intervals, then its parts by what they show; labelled images alone that train for longer, and the
    students beside these. Of a table without a whole, each comparison with its intervals."""
    if not results.found:
        return UNRECORDED
    longer = set(results.equal_compute.values())
    parts = {row: results.change(row) for row in results.against if row not in longer}
    first, last = next(iter(results.rows)), list(results.rows)[-1]
    sentences = [progress(results)]
    if len(parts) > 1 and results.base(last) == first != results.against[last]:
        whole = effect(results.change(last, versus=first))
        named = {part(results.rows[row].label): change for row, change in parts.items()}
        sentences.append(f"From the first row to the last, the recipe as a whole {whole}.")
        sentences.append(f"{part_by_part(results)}, {by_verdict(named)}.")
    else:
        sentences += [f"{subject(results, row)} {effect(c)}." for row, c in parts.items()]
    sentences += [
        f"{subject(results, row)} {effect(results.change(row))}."
        for row in results.against
        if row in longer
    ]
    sentences.append(at_compute(results))
    return " ".join(filter(None, sentences))


def at_compute(results: Results) -> str:
    """The second reading of a table: the last row that names one beside labelled images alone with as
    much compute, with its intervals, then the others by what they show. Nothing where no row does."""
    return told_at_compute(
        results, {row: budget.at_equal_compute(results, row) for row in results.equal_compute}
    )


def told_at_compute(results: Results, changes: Mapping[str, Estimate]) -> str:
    """Changes of rows beside labelled images alone with as much compute, as `at_compute` tells
    them."""
    found = {row: change for row, change in changes.items() if change.count}
    if not found:
        return ""
    last, change = found.popitem()
    base = results.rows[results.equal_compute[last]].label
    text = f"At equal compute, “{results.rows[last].label}” beside “{base}” {effect(change)}"
    others = {f"“{results.rows[row].label}”": each for row, each in found.items()}
    return f"{text}; {by_verdict(others)}." if others else f"{text}."


def part_by_part(results: Results) -> str:
    """The beginning of a sentence on the parts of a recipe: at which reading, where there are two."""
    return f"Part by part{f', {EQUAL_STEPS}' if results.equal_compute else ''}"


def part(label: str) -> str:
    """What a row adds to the one above it."""
    return label.removeprefix("+ ")


def by_verdict(changes: Mapping[str, Estimate]) -> str:
    """Changes by what they show, as clauses: "the error is lower with a (-1.9 %); the effect of b
    (-2.9 %) and c (+0.1 %) is undecided"."""
    groups: dict[str, list[str]] = {
        "the error is lower with {}": [n for n, c in changes.items() if c.count > 1 and _lower(c)],
        "the error is higher with {}": [
            n for n, c in changes.items() if c.count > 1 and _higher(c)
        ],
        "the effect of {} is undecided": [
            n for n, c in changes.items() if c.count > 1 and not c.decided
        ],
        "of {} there is a single seed, which shows nothing": [
            n for n, c in changes.items() if c.count == 1
        ],
        "{} not yet recorded": [n for n, c in changes.items() if not c.count],
    }
    clauses = []
    for words, members in groups.items():
        told = [f"{n} ({_signed(changes[n].mean)})" if changes[n].count else n for n in members]
        if told:
            verb = (" are" if told[1:] else " is") * words.startswith("{}")
            clauses.append(words.format(_and(told) + verb))
    return "; ".join(clauses)


def answer(results: Results, rows: Iterable[str] | None = None) -> str:
    """The first sentences of a page: what the comparisons asked for show; then which others move
    the error, and what is still missing.

    One or two comparisons are told in full. Of more, the first sentence tells the largest gain;
    where there is none, the largest harm; where there is neither, how far the changes and their
    intervals reach.

    Args:
        results: of the experiment.
        rows: the compared rows that answer the question; all by default. The others come after
            them.
    """
    changes = {row: results.change(row) for row in results.against}
    changes = {row: change for row, change in changes.items() if change.count}
    asked = [row for row in rows or results.against if row in changes]
    if not changes:
        return UNRECORDED
    first, told = UNANSWERED, []
    if asked:
        first, told = _first(results, {row: changes[row] for row in asked})
    waiting = len(list(rows or results.against)) - len(asked)
    if asked and first and waiting:
        first = f"{first.removesuffix('.')}; {waiting} of {waiting + len(asked)} comparisons wait for their runs."

    # the rows that are left, those asked for before the others, by what they show
    ordered = sorted(changes, key=lambda row: row not in asked)
    left = [row for row in ordered if row not in told]
    lower = sorted((r for r in left if _lower(changes[r])), key=lambda r: changes[r].mean)
    higher = [r for r in left if _higher(changes[r])]
    single = [r for r in left if changes[r].count == 1]
    unclear = [r for r in left if r not in (*lower, *higher, *single)]

    # a sentence for each group
    lower_told = any(_lower(changes[r]) for r in told)
    higher_told = any(_higher(changes[r]) for r in told)
    groups = {
        "Also lower" if lower_told else "Lower": lower,
        "Also higher" if higher_told else "Higher": higher,
        "Undecided": unclear,
        "In a single seed, which shows nothing": single,
    }
    sentences = [first] if first else []
    for words, members in groups.items():
        if members:
            sentences.append(_listed(results, words, {row: changes[row] for row in members}))
    sentences += [at_compute(results), more_seeds(results), progress(results)]
    return " ".join(filter(None, sentences))


def more_seeds(results: Results) -> str:
    """What the main table says of the comparisons that it shares with this experiment and has more
    seeds of: sentences, or nothing."""
    main = recorded(MAIN)
    if results.experiment == MAIN or results.profile != main.profile:
        return ""
    there = {e.config.hash(): e.row.name for e in main.found}
    shared = {e.row.name: there[e.config.hash()] for e in results.found if e.config.hash() in there}
    told = []
    count = 0
    for row, other in results.against.items():
        if not {row, other} <= shared.keys():
            continue
        change = main.change(shared[row], versus=shared[other])
        if change.count > results.change(row).count:
            told.append(f"{_inside(subject(results, row))} {effect(change)}")
            count = change.count
    if not told:
        return ""
    return f"The main table has these rows too, with {count} seeds: there {'; '.join(told)}."


def _lower(change: Estimate) -> bool:
    """Whether the error surely falls."""
    return change.decided and change.mean < 0


def _higher(change: Estimate) -> bool:
    """Whether the error surely rises."""
    return change.decided and change.mean > 0


def _first(results: Results, asked: Mapping[str, Estimate]) -> tuple[str, list[str]]:
    """The first sentence of an answer, and the rows that it tells."""
    if len(asked) <= 2:
        clauses = "; ".join(
            f"{_inside(subject(results, row))} {effect(change)}" for row, change in asked.items()
        )
        return f"{clauses[0].upper()}{clauses[1:]}.", list(asked)
    known = {row: change for row, change in asked.items() if change.count > 1}
    if not known:
        return "", []

    def mean(row: str) -> float:
        return known[row].mean

    # the largest gain
    if gains := [row for row, change in known.items() if _lower(change)]:
        best = min(gains, key=mean)
        text = f"{subject(results, best)} {effect(known[best])}, the largest gain of "
        return f"{text}{len(known)} comparisons.", [best]

    # or the largest harm
    if harms := [row for row, change in known.items() if _higher(change)]:
        worst = max(harms, key=mean)
        text = (
            f"{len(harms)} of {len(known)} comparisons show a higher error and none a lower one; "
            f"the most is {_inside(subject(results, worst))}, by {_size(known[worst])}."
        )
        return text, [worst]

    # or how far all reach
    reached = [x for change in known.values() for interval in change.intervals for x in interval]
    outermost = (min(known, key=mean), max(known, key=mean))
    span = " to ".join(f"{_signed(mean(r))} ({_inside(subject(results, r))})" for r in outermost)
    text = (
        f"None of {len(known)} comparisons is decided: the changes run from {span}, "
        f"and no 95 % interval reaches below {_signed(min(reached))} or above "
        f"{_signed(max(reached))}."
    )
    return text, list(known)


def _signed(value: float) -> str:
    return f"{number(value, 1, sign=True)} %"


def _words(domain: str) -> str:
    return domain.replace("_", " ")


def _inside(text: str) -> str:
    return text[0].lower() + text[1:]


def _listed(results: Results, words: str, changes: Mapping[str, Estimate]) -> str:
    """Several changes of a kind; what some of them are compared with is said once."""
    labels = {row: results.rows[row].label for row in changes}
    if len(changes) == 1 or any(label.startswith("+ ") for label in labels.values()):
        told = (f"{subject(results, row)}, {_signed(c.mean)}" for row, c in changes.items())
        return f"{words}: {'; '.join(told)}."
    groups: dict[str, list[str]] = {}
    for row, change in changes.items():
        member = f"“{labels[row]}”, {_signed(change.mean)}"
        groups.setdefault(results.against[row], []).append(member)
    parts = (
        f"beside “{results.rows[base].label}”: {'; '.join(members)}"
        for base, members in groups.items()
    )
    return f"{words}, {'; '.join(parts)}."


def progress(results: Results) -> str:
    """What is still missing or out of date: sentences, or nothing where every row has every seed
    that was planned, from this code."""
    planned = len(results.entries) // len(results.rows)
    if not results.found:
        return UNRECORDED
    sentences = []
    counts = [len(results.of(row)) for row in results.rows]
    if min(counts) < planned:
        seeds = " to ".join(str(c) for c in dict.fromkeys((min(counts), max(counts))))
        sentences.append(f"So far {seeds} of {planned} seeds per row are recorded.")
    if any(e.status == "stale" for e in results.found):
        sentences.append(STALE)
    return " ".join(sentences)


def there(yours: Results, study: Results | None = None) -> str:
    """How many of the planned runs have a record, here and in the recorded study: a sentence."""
    own = f"{len(yours.found)} of {len(yours.entries)} runs are there, profile {yours.profile}"
    if study is None:
        return f"{own}."
    return f"{own}; of the recorded study {len(study.found)} of {len(study.entries)}."


def along(results: Results, rows: Mapping[int, str], *, what: str, unit: str) -> str:
    """Where along a sweep something pays: a sentence.

    Args:
        results: of the experiment.
        rows: number -> the row whose change counts there, in rising order.
        what: subject, in the plural.
        unit: what the numbers count.
    """
    lower = "lower the error"
    higher = "raise the error"
    unclear = "have an undecided effect"
    single = "have a single seed, which shows nothing,"
    groups = {verb: [] for verb in (lower, higher, unclear, single)}
    open_ = []
    for x, row in rows.items():
        change = results.change(row)
        if not change.count:
            open_.append(str(x))
            continue
        if change.count == 1:
            verb = single
        elif not change.decided:
            verb = unclear
        else:
            verb = lower if change.mean < 0 else higher
        groups[verb].append(f"{x} ({_signed(change.mean)})")
    parts = [f"{verb} at {', '.join(xs)}" for verb, xs in groups.items() if xs]
    if not parts:
        return UNRECORDED
    rest = f" Not yet recorded: {', '.join(open_)}." if open_ else ""
    return f"{what} {'; they '.join(parts)} {unit}.{rest}"


def domains(results: Results, row: str) -> str:
    """On how many test domains a row beats the one it is compared with, and on how many it loses,
    by the same measure."""
    changes = {d: results.change(row, d) for d in results.domains} if results.found else {}
    if not any(c.count for c in changes.values()):
        return UNRECORDED
    better = [_words(d) for d, change in changes.items() if _lower(change)]
    worse = [_words(d) for d, change in changes.items() if _higher(change)]
    open_ = len(changes) - len(better) - len(worse)
    parts = [
        f"{len(d)} of {len(changes)} test domains are {what} ({', '.join(d)})"
        for d, what in ((better, "better"), (worse, "worse"))
        if d
    ]
    return f"{subject(results, row)}: " + "; ".join([*parts, f"{open_} undecided"]) + "."


def elsewhere(results: Results, rows: Iterable[str], domains: tuple[str, ...]) -> str:
    """The same comparisons on some of the test domains alone: a sentence."""
    found = {row: results.change(row, domains) for row in rows} if results.found else {}
    if not any(change.count for change in found.values()):
        return UNRECORDED
    names = ", ".join(d.replace("_", " ") for d in domains)
    told = (f"{_inside(subject(results, row))} {effect(c)}" for row, c in found.items())
    return f"On {names} alone, {'; '.join(told)}."


def beside_floors(results: Results) -> str:
    """Where the rows stand against the floors on the drawn domains, and against the quadratic
    surface: sentences. What is not surely below is named."""
    if not results.found:
        return UNRECORDED
    known = floors.drawn_scores(results)
    if not known:
        return "The floors are not recorded for these images."
    name, lowest = floors.best(known, MEAN, results.domains)
    recorded_rows = [row for row in results.rows if results.of(row)]
    under = sum(
        _lower(floors.gap(results.of(row), known, results.domains)) for row in recorded_rows
    )
    sentences = [
        f"Of {len(floors.blind(known))} floors, predictions that look at no picture, the best is the "
        f"{name}: {number(lowest)} on the mean of the test"
        f" domains. Beside the best floor of each domain {under} of {len(recorded_rows)} rows are surely "
        "lower on the mean."
    ]
    for domain in results.domains:
        gaps = {row: floors.gap(results.of(row), known, [domain]) for row in recorded_rows}
        above = {row: g for row, g in gaps.items() if not (g.decided and g.mean < 0)}
        if above:
            best = floors.best(known, domain)
            rows = "; ".join(
                f"“{results.rows[row].label}”, {_signed(g.mean)}" for row, g in above.items()
            )
            sentences.append(
                f"On {_words(domain)}, where the {best[0]} has {number(best[1])}, {len(above)} of "
                f"{len(recorded_rows)} rows are not surely below"
                f" it: {rows}."
            )
    return " ".join([*sentences, beside_surface(results)]).strip()


def beside_surface(results: Results) -> str:
    """On which drawn domains no row, and on which every row, is surely below the quadratic surface
    that is fitted to each truth: a sentence, or nothing where it is not recorded."""
    known = floors.surface(floors.drawn_scores(results))
    rows = [row for row in results.rows if results.of(row)]
    if not known or not rows:
        return ""
    below = {
        domain: sum(_lower(floors.above_surface(results.of(row), known, [domain])) for row in rows)
        for domain in results.domains
    }
    none = [_words(d) for d, n in below.items() if n == 0]
    every = [_words(d) for d, n in below.items() if n == len(rows)]
    count = len(below)
    parts = [f"every row on {len(every)} of {count} domains ({', '.join(every)})"] * bool(every)
    parts += [f"no row on {len(none)} of {count} ({', '.join(none)})"] * bool(none)
    some = count - len(none) - len(every)
    parts += [f"some rows on {some}"] * bool(some)
    return (
        "A quadratic surface fitted to each truth is no prediction. Of a network that is not below it, it "
        f"is not shown that it has seen more than a layout. Surely below it is {'; '.join(parts)}."
    )


def without(results: Results, rows: Iterable[str] | None = None) -> str:
    """What the domain with the largest error would do to a plain mean, and the comparisons without
    it: sentences.

    Args:
        results: of the experiment.
        rows: whose comparisons are told; all by default.
    """
    heavy = results.heaviest
    if not heavy:
        return UNRECORDED
    level = results.scores()[results.domains].mean()
    share = float(100 * level[heavy] / level.sum())
    values = sorted(results.value(row, heavy).mean for row in results.rows if results.of(row))
    name, lowest = floors.best(floors.drawn_scores(results), heavy)
    floor = f", where the {name}, which looks at no picture, has {number(lowest)}" if name else ""
    text = (
        f"Of a plain mean over the {len(results.domains)} test domains {_words(heavy)} alone would be "
        f"{number(share, 0)} %; in ours, of logarithms, each weighs the same. The rows reach"
        f" {number(values[0])} to {number(values[-1])} there{floor}."
    )
    found = {row: results.change(row, results.others) for row in rows or results.against}
    found = {row: change for row, change in found.items() if change.count}
    told = "; ".join(
        f"{_inside(subject(results, row))} {effect(change)}" for row, change in found.items()
    )
    text = f"{text} Without it, {told}." if told else text
    return f"{text} {_one_domain_out(results)}".strip()


def _one_domain_out(results: Results) -> str:
    """How far the change by the whole recipe hangs on a single domain, at both readings: sentences;
    nothing where an experiment has no whole or too little is recorded."""
    first, last = next(iter(results.rows)), list(results.rows)[-1]
    if not (results.base(last) == first != results.against.get(last)):
        return ""
    pairs = {"The whole recipe's change": first}
    if longer := results.equal_compute.get(last):
        pairs |= {"At equal compute the change": longer}
    sentences = []
    for words, other in pairs.items():
        left = {
            _words(d): results.change(
                last, tuple(each for each in results.domains if each != d), versus=other
            )
            for d in results.domains
        }
        if told := leaving_one_out(results.change(last, versus=other), left):
            sentences.append(f"{words} {told}.")
    return " ".join(sentences)


def leaving_one_out(whole: Estimate, left: Mapping[str, Estimate]) -> str:
    """How far a mean change hangs on a single domain or data set: a clause such as "runs from -6.0 %
    (without fog) to -4.0 % (without rooms) with one left out, and is undecided without rooms".

    Args:
        whole: the change with all.
        left: what is left out, as a name -> the change without it.
    """
    if whole.count < 2 or len(left) < 3 or not all(change.count for change in left.values()):
        return ""
    ordered = sorted(left, key=lambda name: left[name].mean)
    low, high = (f"{_signed(left[n].mean)} (without {n})" for n in (ordered[0], ordered[-1]))
    text = f"runs from {low} to {high} with one left out"
    other = [n for n in ordered if left[n].decided != whole.decided]
    turned = [n for n in ordered if _lower(left[n]) and _higher(whole)]
    turned += [n for n in ordered if _higher(left[n]) and _lower(whole)]
    if other:
        text += f", and is {'undecided' if whole.decided else 'decided'} without {_and(other)}"
    if turned:
        text += f", and turns round without {_and(turned)}"
    return text


def _and(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def contrast(results: Results, row: str, other: str) -> str:
    """Whether one row's change differs from another's, seed by seed: a sentence with the ratio of
    the two factors, in percent."""
    gap = results.contrast(row, other)
    if not gap.count:
        return UNRECORDED
    names = f"“{results.rows[row].label}” and “{results.rows[other].label}”"
    if gap.why:
        return f"The changes of {names} cannot be held against each other: {gap.why}."
    values = f"a factor of {number(gap.mean, 1, sign=True)} %"
    if isnan(gap.half):
        return f"The changes of {names} differ by {values} in a single seed, which shows nothing."
    interval = f"95 % interval {ends(gap)}"
    if not gap.decided:
        return f"The changes of {names} cannot be told apart ({values}, {interval})."
    better = "first" if gap.mean < 0 else "second"
    return (
        f"The changes of {names} differ by {values} ({interval}): the error falls more, or "
        f"rises less, for the {better}."
    )


def precision(results: Results, *, aim: float | int) -> str:
    """Whether the study can see what it was planned to see: each half-width, over seeds, beside the
    aim, both in percent of the error of the row at which the chain of comparisons begins; and where it
    cannot, how many seeds it would have taken."""
    halves: dict[str, tuple[float, int]] = {}
    for pairs, reading in ((results.against, ""), (results.equal_compute, f" {EQUAL_COMPUTE}")):
        for row, other in pairs.items():
            name = f"{part(results.rows[row].label)}{reading}"
            seeds = results.change(row, versus=other).count
            halves[name] = _half(results, row, other), seeds
    known = {name: half for name, (half, _) in halves.items() if not isnan(half)}
    if not known:
        return UNRECORDED
    wide = {name: half for name, half in known.items() if half > aim}
    values = "; ".join(f"{name}, {number(half, 1)} %" for name, half in known.items())
    told = f"Half-widths of the intervals of the changes over seeds: {values}."
    if not wide:
        return f"{told} All are within the aim of {aim:g} %."
    most = max(_seeds_for(aim, half, halves[name][1]) for name, half in wide.items())
    within = [name for name in known if name not in wide]
    met = f"only {_and(within)} met" if within else "none met"
    return (
        f"{told} Of {len(known)} changes {met} the aim of {aim:g} %: seeds, each with labels, a pool and a "
        f"teacher of its own, differ too much, and at this spread the widest would take {most} of them."
    )


def _seeds_for(aim: float, half: float, seeds: int) -> int:
    """How many seeds it takes until Student's t interval is this narrow, at the spread that these
    seeds have."""
    spread = half * sqrt(seeds) / stdtrit(seeds - 1, (1 + LEVEL) / 2)
    wanted = seeds
    while stdtrit(wanted - 1, (1 + LEVEL) / 2) * spread / sqrt(wanted) > aim:
        wanted += 1
    return wanted


def _half(results: Results, row: str, other: str) -> float:
    """Half the width of a change's interval over seeds, in percent of the first error of its
    chain."""
    share = results.value(other).mean / results.value(results.base(row)).mean
    return share * results.change(row, versus=other).half


def headline(text: str) -> str:
    """The first sentence of an answer, for a list of questions."""
    return text.split(". ")[0].removesuffix(".") + "."


def quotes(
    results: Results, prefix: str, *, rows: Iterable[str] | None = None, **sentences: str
) -> dict[str, float | int | str]:
    """What other pages quote by glue, as plain values; numbers that are not recorded are NaN.

    Args:
        results: of the experiment.
        prefix: of every key: `<prefix>_<row>_mean`, `_diff`, `_lo`, `_hi` (percent), `_told` (the
            change as a sentence), `_seeds`, `_reading`, `_answer`, `_headline`, and `_compute`, the
            second reading, where the experiment has one.
        rows: those that answer the question, see `answer`; all by default.
        sentences: more of them, `<prefix>_<name>`; an `answer` takes the place of this module's
            own.
    """
    values: dict[str, float | int | str] = {
        f"{prefix}_seeds": results.seeds,
        f"{prefix}_reading": reading(results),
    }
    sentences = {"answer": answer(results, rows)} | sentences
    values |= {f"{prefix}_{name}": text for name, text in sentences.items()}
    values[f"{prefix}_headline"] = headline(sentences["answer"])
    if results.equal_compute:
        values[f"{prefix}_compute"] = at_compute(results) or UNRECORDED
    for row in results.rows:
        change = results.change(row)
        values |= {
            f"{prefix}_{row}_mean": results.value(row).mean,
            f"{prefix}_{row}_diff": change.mean,
        }
        values |= {f"{prefix}_{row}_lo": change.low, f"{prefix}_{row}_hi": change.high}
        if row in results.against:
            known = f"{subject(results, row)} {effect(change)}."
            values[f"{prefix}_{row}_told"] = known if change.count else UNRECORDED
    return {key: float(v) if isinstance(v, float) else v for key, v in values.items()}
