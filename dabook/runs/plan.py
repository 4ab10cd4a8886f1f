"""The plan of the recorded study, `data/plan.yaml`: what is run, in which order, at what cost and
why. It is written, frozen and committed before the first record.

Most of the file is written by hand. `freeze` writes two keys into it: `rows`, a digest of every
question's runs, and `science`, the hashes of the code that trains and scores. What differs from
them later is a change of the plan, and `amendments` has to say so.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Any

from dabook.runs.experiments import (
    MOST_SEEDS,
    Experiment,
    check_keys,
    check_number,
    expand,
    experiments,
    tree,
)
from dalib import certificates, paths, provenance, strict_yaml
from dalib.config import RunConfig, check_names
from dalib.errors import ConfigError
from dalib.strict_yaml import brief
from dalib.writing import write_text

PROFILE = "study"
FILE = "data/plan.yaml"
FROZEN = ("science", "rows")
"""The keys that `freeze` writes."""
DEVICES = ("cpu", "cuda", "mps")


@dataclass(frozen=True, kw_only=True)
class Question:
    """An experiment of the plan."""

    experiment: str
    seeds: int  # counted from 0
    seconds: dict[str, float]  # of one run of each row on one core, scoring included
    why: str

    def expand(self) -> Experiment:
        """Its rows, with the config of each seed."""
        return expand(self.experiment, profile=PROFILE, seeds=self.seeds)


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What a pilot showed, and what followed from it."""

    what: str
    result: str
    decision: str
    numbers: str | None = None  # a CSV of this repository that holds them


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What is not run."""

    what: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Amendment:
    """A change after the first record. `what` names the questions that it is about, and "science"
    where the code changed."""

    date: str  # ISO 8601
    what: str
    why: str

    def names(self, word: str) -> bool:
        """Whether it is about this question, or about "science"."""
        return re.search(rf"(?<![\w.+-]){re.escape(word)}(?![\w+-])", self.what) is not None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The whole file."""

    about: str
    settings: dict[str, Any]  # of the profile, as chosen
    chosen_because: str
    tried: tuple[Tried, ...]
    processor: dict[str, str]  # device_type and instructions, the same in all records
    questions: tuple[Question, ...]  # in the order of running
    cut: tuple[Cut, ...]
    amendments: tuple[Amendment, ...]
    science: dict[str, str] | None  # part of the code -> hash; None before it is frozen
    rows: dict[str, str] | None  # question -> digest; None before it is frozen

    def amended(self, word: str, *, day: str | None = None) -> bool:
        """Whether an amendment names a question (or "science"); with `day`, one of that date."""
        return any(a.names(word) and day in (None, a.date) for a in self.amendments)


# reading


def read() -> Plan:
    """The plan; a missing or damaged file is a `ConfigError` that names it and the place."""
    plan = read_if_there()
    if plan is None:
        raise ConfigError(
            f"{paths.plan()}: there is no plan of the study yet; write one (its fields are explained "
            "in data/README.md)"
        )
    return plan


def read_if_there() -> Plan | None:
    """As `read`, and None where there is no such file."""
    path = paths.plan()
    return _plan(strict_yaml.read(path)) if path.is_file() else None


def _plan(found: object) -> Plan:
    required = ("about", "budget", "tried", "processor", "questions", "cut")
    _keys(found, "top level", required=required, optional=("amendments", *FROZEN))
    settings, reason = _budget(found["budget"])
    questions = tuple(_question(q, where) for q, where in _items(found["questions"], "questions"))
    if not questions:
        raise ConfigError(f"{FILE}, questions: the plan asks none; list one or more")
    names = [question.experiment for question in questions]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{FILE}, questions: {name} stands there twice; leave one out")
    amendments = tuple(
        _lines(Amendment, a, where)
        for a, where in _items(found.get("amendments", []), "amendments")
    )
    for number, amendment in enumerate(amendments, 1):
        _check_date(amendment.date, f"amendments, {number}: date")
    return Plan(
        about=_text(found["about"], "about"),
        settings=settings,
        chosen_because=reason,
        tried=tuple(_tried(t, where) for t, where in _items(found["tried"], "tried")),
        processor=_processor(found["processor"]),
        questions=questions,
        cut=tuple(_lines(Cut, c, where) for c, where in _items(found["cut"], "cut")),
        amendments=amendments,
        science=_digests(found, "science", tuple(provenance.ROOTS)),
        rows=_digests(found, "rows"),
    )


def _keys(
    value: object, where: str, *, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> None:
    if isinstance(value, dict):
        check_names(value, required + optional, what=f"key of {where} in {FILE}")
    check_keys(value, where, file=FILE, required=required, optional=optional)


def _items(value: object, where: str) -> list[tuple[object, str]]:
    """The entries of a list, each with its place for messages."""
    if not isinstance(value, list):
        raise ConfigError(f"{FILE}, {where}: expected a list, got {brief(value)}")
    return [(entry, f"{where}, {number}") for number, entry in enumerate(value, 1)]


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{FILE}, {where}: expected text, got {brief(value)}")
    return value.strip()


def _lines(form: type, value: object, where: str) -> Any:
    """An entry whose keys are all text."""
    required = tuple(f.name for f in fields(form) if f.default is not None)
    optional = tuple(f.name for f in fields(form) if f.default is None)
    _keys(value, where, required=required, optional=optional)
    return form(**{key: _text(text, f"{where}: {key}") for key, text in value.items()})


def _tried(value: object, where: str) -> Tried:
    tried = _lines(Tried, value, where)
    if tried.numbers is not None and not (paths.root() / tried.numbers).is_file():
        raise ConfigError(
            f"{FILE}, {where}: numbers: {tried.numbers} is not in this checkout; add it, or "
            "correct the name"
        )
    return tried


def _budget(value: object) -> tuple[dict[str, Any], str]:
    _keys(value, "budget", required=("settings", "why"))
    settings = value["settings"]
    if not isinstance(settings, dict) or not settings:
        raise ConfigError(f"{FILE}, budget: settings: expected settings, got {brief(settings)}")
    known = [f.name for f in fields(RunConfig)]
    check_names(settings, known, what=f"setting in budget of {FILE}")
    return settings, _text(value["why"], "budget: why")


def _processor(value: object) -> dict[str, str]:
    _keys(value, "processor", required=("device_type", "instructions"))
    found = {key: _text(text, f"processor: {key}") for key, text in value.items()}
    check_names([found["device_type"]], DEVICES, what=f"device_type in processor of {FILE}")
    return found


def _question(value: object, where: str) -> Question:
    _keys(value, where, required=("experiment", "seeds", "seconds", "why"))
    name = _text(value["experiment"], f"{where}: experiment")
    check_names([name], experiments(), what=f"experiment in {where} of {FILE}")
    check_number(value["seeds"], f"{FILE}, {name}: seeds", most=MOST_SEEDS)
    rows = list(tree()["experiments"][name]["rows"])
    given = value["seconds"]
    if not isinstance(given, dict):
        given = dict.fromkeys(rows, given)
    check_names(given, rows, what=f"row in seconds of {name} in {FILE}")
    if missing := [row for row in rows if row not in given]:
        raise ConfigError(f"{FILE}, {name}: seconds: {', '.join(missing)} missing")
    seconds = {row: _seconds(given[row], f"{name}: seconds of {row}") for row in rows}
    why = _text(value["why"], f"{name}: why")
    return Question(experiment=name, seeds=value["seeds"], seconds=seconds, why=why)


def _seconds(value: object, where: str) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise ConfigError(f"{FILE}, {where}: expected a number above 0, got {brief(value)}")
    return float(value)


def _check_date(text: str, where: str) -> None:
    try:
        whole = date.fromisoformat(text).isoformat() == text
    except ValueError:
        whole = False
    if not whole:
        raise ConfigError(f"{FILE}, {where}: expected a date such as 2026-11-29, got {brief(text)}")


def _digests(
    found: Mapping, key: str, required: tuple[str, ...] | None = None
) -> dict[str, str] | None:
    """What `freeze` wrote under a key; None where it did not yet."""
    if key not in found:
        return None
    value = found[key]
    if not isinstance(value, dict) or (required and set(value) != set(required)):
        raise ConfigError(
            f"{FILE}, {key}: expected what python -m dabook plan --freeze writes, got "
            f"{brief(value)}; delete the key, and freeze again"
        )
    for name, digest in value.items():
        if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{12}", digest):
            raise ConfigError(
                f"{FILE}, {key}: {name}: expected twelve hex digits in quotes, got {brief(digest)}"
            )
    return value


# what is frozen


def digest(question: Question) -> str:
    """Twelve hex digits over the names, seeds and config hashes of a question's runs, whatever the
    order of its rows."""
    lines = [
        f"{row.name} {config.seed} {config.hash()}"
        for row in question.expand().rows
        for config in row.configs
    ]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:12]


def rows_now(plan: Plan) -> dict[str, str]:
    """The digest of each question as `experiments.yaml` and the code have it now."""
    return {question.experiment: digest(question) for question in plan.questions}


def science_now() -> dict[str, str]:
    """The hash of each part of today's code."""
    return {part: provenance.code_hash(part) for part in provenance.ROOTS}


def contradictions(plan: Plan) -> list[str]:
    """Where the plan and `experiments.yaml` differ, in words."""
    found = []
    profile = tree()["profiles"][PROFILE]
    runs = RunConfig.from_dict(profile["set"]).to_dict()
    try:
        planned = RunConfig.from_dict(profile["set"] | plan.settings).to_dict()
    except ConfigError as error:
        raise ConfigError(f"{FILE}, budget: settings: {error}") from error
    for name, value in plan.settings.items():
        if planned[name] != runs[name]:
            found.append(
                f"budget: {name} is {value!r}, but {runs[name]!r} in profile {PROFILE} of "
                "experiments.yaml"
            )
    for question in plan.questions:
        entry = tree()["experiments"][question.experiment]
        shown = entry.get("seeds", {}).get(PROFILE, profile["seeds"])
        if shown != question.seeds:
            found.append(
                f"{question.experiment}: {question.seeds} seeds, but {shown} in profile {PROFILE} "
                "of experiments.yaml, which the tables show"
            )
    return found


def changes(plan: Plan) -> dict[str, str]:
    """What is not as it was frozen: the question, or "science" -> in words. Everything where
    nothing was."""
    now, before = rows_now(plan), plan.rows or {}
    found = {}
    for name in dict.fromkeys([*now, *before]):
        if name not in before:
            found[name] = f"{name} is not frozen"
        elif name not in now:
            found[name] = f"{name} was frozen, and is not among the questions"
        elif now[name] != before[name]:
            found[name] = f"rows or seeds of {name} have changed since they were frozen"
    if plan.science is None:
        found["science"] = "the science is not frozen"
        return found
    other = [
        f"{part} is {today}, frozen was {plan.science[part]}"
        for part, today in science_now().items()
        if not certificates.unchanged(part, plan.science[part], today)
    ]
    if other:
        found["science"] = f"the science has changed: {', '.join(other)}"
    return found


def freeze() -> str:
    """Write today's `rows` and `science` into the file, all else as it stands, and return what was
    done.

    Once there are records, each change must be named by an amendment of today's date (UTC); so must
    the question of a record that the plan does not know. Otherwise a `ConfigError`, and nothing is
    written.
    """
    plan = read()
    if found := contradictions(plan):
        raise ConfigError(f"{FILE}: cannot be frozen:\n" + "\n".join(found))
    changed = changes(plan)
    unnamed = _unnamed(plan, changed)
    if unnamed:
        today = _today()
        raise ConfigError(
            f"{FILE}: cannot be frozen without an amendment of today's date ({today}) that names "
            "each of these, since there are records:\n" + "\n".join(unnamed)
        )
    if not changed:
        return f"{FILE}: is frozen as it stands"
    _write(plan, {"science": science_now(), "rows": rows_now(plan)})
    return f"{FILE}: frozen; commit it before the first run"


def _unnamed(plan: Plan, changed: Mapping[str, str]) -> list[str]:
    """What would need an amendment of today's date and has none, in words."""
    files = sorted(paths.records().glob("*/*.json"))
    if not files:
        return []
    known = {
        config.hash()
        for question in plan.questions
        for row in question.expand().rows
        for config in row.configs
    }
    needed = dict(changed)
    for path in files:
        name = path.parent.name
        if path.stem not in known:
            needed.setdefault(name, f"{name} has records that the plan does not know")
    today = _today()
    return [words for word, words in needed.items() if not plan.amended(word, day=today)]


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _write(plan: Plan, frozen: dict[str, dict[str, str]]) -> None:
    """Replace the two keys in the text of the file, so that comments stay."""
    path = paths.plan()
    text = path.read_text(encoding="utf-8")
    for key, digests in frozen.items():
        lines = "".join(f"  {name}: '{value}'\n" for name, value in digests.items())
        block = f"{key}:\n{lines}"
        old = re.compile(rf"^{key}:[^\n]*\n(?:[ \t]+[^\n]*\n)*", re.M)
        text = text if text.endswith("\n") else f"{text}\n"
        text = old.sub(lambda _, block=block: block, text) if old.search(text) else text + block
    after = strict_yaml.parse(text, FILE)
    before = strict_yaml.read(path)
    if after != before | frozen:
        raise ConfigError(
            f"{path}: {' and '.join(frozen)} could not be written into this text; write its "
            "top-level keys at the beginning of their lines"
        )
    write_text(path, text)
