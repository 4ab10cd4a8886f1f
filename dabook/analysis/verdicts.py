"""The claims of the paper and of its review as data, and a verdict on each from the intervals of
the recorded study.

A verdict that decides anything carries its reading (`dabook.analysis.budget`): at equal steps, at equal
compute, or both. Its words are to be had with the reading alone, `Verdict.said` and `Measured.said`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from typing import NamedTuple

from dabook.analysis import budget
from dabook.analysis.evidence import Comparison, Evidence, source, sources
from dabook.analysis.statistics import MEAN, Estimate
from dabook.runs.experiments import check_keys
from dalib import paths, strict_yaml
from dalib.config import check_names
from dalib.errors import ConfigError

EXPECT = ("lower", "higher", "no_gain")
SOURCES = {
    "paper": ("the paper", "https://arxiv.org/abs/2401.10891"),
    "author": ("the author", None),
    "v2": ("Depth Anything V2", "https://arxiv.org/abs/2406.09414"),
    "stpp": ("ST++", "https://arxiv.org/abs/2106.05095"),
    "review": ("our review", "../book/whole_pipeline.html"),
}
REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
UNDECIDED = "undecided"
UNRECORDED = "not yet recorded"
CANNOT = "cannot be decided here"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, UNDECIDED, UNRECORDED, CANNOT)
JUDGED = (REPRODUCED, NOT_REPRODUCED, UNDECIDED)
"""The verdicts that something was measured for, and that need a reading."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim: who makes it and where, and either how it is tested or why it cannot be. `plan`
    says what would count as which answer, where the general rules need a word more."""

    name: str
    topic: str
    claim: str
    source: str
    where: str
    url: str | None = None
    tests: tuple[Comparison, ...] = ()
    cannot: str = ""
    plan: str = ""


@dataclass(frozen=True, kw_only=True)
class Claims:
    """All of them, by name, with the titles of their topics and the margin below which a gain is
    not worth the name, in percent."""

    margin: float
    topics: dict[str, str]
    claims: dict[str, Claim]


def said(word: str, reading: str) -> str:
    """A word of `VERDICTS` with its reading: "reproduced at equal steps".

    Raises `ValueError` for one of `JUDGED` without a reading.
    """
    if word not in JUDGED:
        return word
    if not reading:
        raise ValueError(f"{word!r} without its reading; say at equal steps or at equal compute")
    return f"{word} {reading}"


class Measured(NamedTuple):
    """A comparison of a claim, its change, the word for what came of it, and at which reading."""

    test: Comparison
    change: Estimate
    word: str
    reading: str

    @property
    def said(self) -> str:
        """The word with its reading."""
        return said(self.word, self.reading)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came out for a claim.

    Attributes:
        claim: the claim.
        word: one of `VERDICTS`.
        reading: at which the rows compared stand side by side; several where the comparisons differ.
            A verdict that decides has one, else a `ValueError`.
        measured: each of its comparisons.
        at_compute: the same claim against labelled images alone with as much compute, where the
            experiments name such rows for all of its comparisons and it is not that already.
    """

    claim: Claim
    word: str
    reading: str = ""
    measured: tuple[Measured, ...] = ()
    at_compute: "Verdict | None" = None

    def __post_init__(self) -> None:
        said(self.word, self.reading)

    @property
    def said(self) -> str:
        """The word with its reading."""
        return said(self.word, self.reading)

    @property
    def comparisons(self) -> tuple[Measured, ...]:
        """All that were measured, those at equal compute too."""
        return self.measured + (self.at_compute.measured if self.at_compute else ())


def load(path: Path | None = None) -> Claims:
    """Read `data/claims.yaml`; whatever is unknown or missing is a `ConfigError` that names the
    claim."""
    path = path or paths.claims()
    tree = strict_yaml.read(path)
    check_keys(tree, "the file", file=path.name, required=("margin", "topics", "claims"))
    margin = tree["margin"]
    topics = tree["topics"]
    if isinstance(margin, bool) or not isinstance(margin, (int, float)) or not margin > 0:
        raise ConfigError(f"{path.name}, margin: {margin!r} is not a number of percent above zero")
    for key in ("topics", "claims"):
        if not isinstance(tree[key], dict) or not tree[key]:
            raise ConfigError(f"{path.name}, {key}: expected a mapping, got {tree[key]!r}")
    found = {name: _claim(name, value, topics, path.name) for name, value in tree["claims"].items()}
    return Claims(margin=float(margin), topics=topics, claims=found)


def _claim(name: str, value: object, topics: Iterable[str], file: str) -> Claim:
    where = f"claim {name}"
    required = ("topic", "claim", "source", "where")
    optional = ("url", "tests", "cannot", "plan")
    check_keys(value, where, file=file, required=required, optional=optional)
    for key in {*required, "url", "cannot", "plan"} & set(value):
        if not isinstance(value[key], str) or not value[key].strip():
            raise ConfigError(f"{file}, {where}: {key} is {value[key]!r}, not a text")
    check_names([value["topic"]], topics, what=f"topic of {where}")
    check_names([value["source"]], SOURCES, what=f"source of {where}")
    if ("tests" in value) == ("cannot" in value):
        raise ConfigError(f"{file}, {where}: either tests or cannot, one of the two")
    if "plan" in value and "cannot" in value:
        raise ConfigError(f"{file}, {where}: plan says how tests are read, and there are none")
    tests = value.get("tests", [])
    if not isinstance(tests, list) or ("tests" in value and not tests):
        raise ConfigError(f"{file}, {where}: tests is {tests!r}, not a list of comparisons")
    made = tuple(_comparison(test, f"test {k} of {where}", file) for k, test in enumerate(tests, 1))
    return Claim(name=name, **{**value, "tests": made})


def _comparison(value: object, where: str, file: str) -> Comparison:
    required = ("experiment", "row", "expect")
    optional = ("versus", "beside", "column")
    check_keys(value, where, file=file, required=required, optional=optional)
    name = value["experiment"]
    check_names([name], sources(), what=f"experiment in {where}")
    check_names([value["expect"]], EXPECT, what=f"expectation in {where}")
    asked = source(name, blank=True)

    # the column, or several
    column = value.get("column", MEAN)
    if isinstance(column, list):
        if not asked.averaged or not column:
            raise ConfigError(
                f"{file}, {where}: column is {column!r}; a list names test domains, at least one"
            )
        check_names(column, asked.averaged, what=f"column in {where}")
        value = value | {"column": tuple(column)}
    else:
        check_names([column], asked.columns, what=f"column in {where}")

    # the rows, and what they are compared with
    what = f"row of {name} in {where}"
    rows = [value[key] for key in ("row", "beside") if key in value]
    check_names(rows, asked.results.rows, what=what)
    given = value.get("versus")
    if given is not None:
        check_names([given], asked.references, what=what)
    if "beside" in value:
        compared = asked.contrasts and asked.reference(value["beside"]) is not None
        if given is not None or not compared:
            raise ConfigError(
                f"{file}, {where}: beside takes a row that {name} compares with another, and no "
                "versus"
            )
    versus = given or asked.reference(value["row"])
    if versus in (None, value["row"]):
        raise ConfigError(
            f"{file}, {where}: row {value['row']} of {name} is compared with no other row; name "
            "one as versus"
        )
    return Comparison(**{**value, "versus": versus})


def results_of(claims: Claims) -> dict[str, Evidence]:
    """What is recorded of every source that a claim asks, by its name."""
    tests = [test for claim in claims.claims.values() for test in claim.tests]
    return {name: source(name) for name in dict.fromkeys(test.experiment for test in tests)}


def outcome(change: Estimate, expect: str, *, margin: float) -> str:
    """What an interval says of an expectation; every statement must hold for the interval over
    seeds and for the resampled one.

    Args:
        change: in percent; negative is a smaller error. One seed decides nothing.
        expect: "lower" is reproduced by an interval below zero, and refuted by one that leaves no
            room for a gain above the margin (it lies above minus the margin); "higher" is the same
            with the sign turned; "no_gain" is reproduced by an interval above minus the margin, and
            refuted by one below it.
        margin: in percent.
    """
    if change.count == 0:
        return UNRECORDED
    if isnan(change.half):
        return UNDECIDED
    sign = -1 if expect == "higher" else 1
    intervals = [sorted((sign * low, sign * high)) for low, high in change.intervals]
    no_room = all(low > -margin for low, _ in intervals)
    if expect == "no_gain":
        held = no_room
        refuted = all(high < -margin for _, high in intervals)
    else:
        held = change.decided and sign * change.mean < 0
        refuted = no_room
    if held:
        return REPRODUCED
    return NOT_REPRODUCED if refuted else UNDECIDED


def verdict(claim: Claim, results: Mapping[str, Evidence], *, margin: float) -> Verdict:
    """A claim's verdict: it holds where each of its comparisons holds, and falls with any."""
    if claim.cannot:
        return Verdict(claim=claim, word=CANNOT)
    found = _judged(claim, claim.tests, results, margin)
    other = [_at_equal_compute(test, results[test.experiment]) for test in claim.tests]
    if any(test is None for test in other) or tuple(other) == claim.tests:
        return found
    return replace(found, at_compute=_judged(claim, other, results, margin))


def _judged(
    claim: Claim, tests: Iterable[Comparison], results: Mapping[str, Evidence], margin: float
) -> Verdict:
    """The verdict of some comparisons."""
    measured = []
    for test in tests:
        evidence = results[test.experiment]
        change = evidence.estimate(test)
        word = outcome(change, test.expect, margin=margin)
        measured.append(Measured(test, change, word, reading(test, evidence)))
    words = [found.word for found in measured]
    weakest = next((w for w in (NOT_REPRODUCED, UNRECORDED, UNDECIDED) if w in words), REPRODUCED)
    readings = dict.fromkeys(found.reading for found in measured)
    return Verdict(claim=claim, word=weakest, reading="; ".join(readings), measured=tuple(measured))


def reading(test: Comparison, evidence: Evidence) -> str:
    """At which reading the rows of a comparison stand side by side; of two changes that are held
    against each other, that of both."""
    results = evidence.results
    found = [budget.reading_of(results, test.row, test.versus)]
    if test.beside:
        found.append(budget.reading_of(results, test.beside, evidence.reference(test.beside)))
    return "; ".join(dict.fromkeys(found))


def _at_equal_compute(test: Comparison, evidence: Evidence) -> Comparison | None:
    """The comparison with labelled images alone of as much compute in the place of labelled images
    alone; itself where both rows cost the same; None where nothing can take that place."""
    results = evidence.results
    found = reading(test, evidence)
    if found in (budget.EQUAL_COMPUTE, budget.EQUAL_BOTH, budget.UNTRAINED):
        return test
    other = results.equal_compute.get(test.row)
    taught = test.versus in results.rows and results.rows[test.versus].configs[0].pseudo_labels
    if other is None or taught or test.beside:
        return None
    budget.check_equal(results, test.row, other)
    return replace(test, versus=other)


def verdicts(claims: Claims, results: Mapping[str, Evidence]) -> list[Verdict]:
    """Every claim's verdict, in the order of the topics."""
    ordered = [c for topic in claims.topics for c in claims.claims.values() if c.topic == topic]
    return [verdict(claim, results, margin=claims.margin) for claim in ordered]
