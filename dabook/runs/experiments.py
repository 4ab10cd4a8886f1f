"""experiments.yaml to rows to configs."""

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from dalib import paths, strict_yaml
from dalib.config import LARGEST_SEED, RunConfig, check_names
from dalib.errors import ConfigError
from dalib.strict_yaml import brief

FILE = "experiments.yaml"
RECORDS = ("local", "committed")
AGAINST = ("above", "first")
MOST_SEEDS = 1000  # of one row in one command
SCALES = ("divide", "multiply")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table: a name, a label, and the config of each seed."""

    experiment: str
    name: str
    label: str
    profile: str
    configs: tuple[RunConfig, ...]  # one per seed
    # the row on labelled images alone that was given as much compute, see dabook.analysis.budget
    equal_compute: str | None = None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A question and the rows that answer it, under one profile."""

    name: str
    question: str
    profile: str
    committed: bool  # whether its records belong into git
    trained_in_book: bool = True  # or whether the book shows only what is recorded
    # what each row is compared with, see `dabook.analysis.statistics.Results`
    against: str | dict[str, str] = "above"
    # label -> the rows of a learning curve, from the fewest steps to the most
    curves: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rows: tuple[Row, ...]

    def __getitem__(self, row: str) -> Row:
        check_names([row], [r.name for r in self.rows], what=f"row of {self.name}")
        return next(r for r in self.rows if r.name == row)


@lru_cache
def _read(path: Path, _changed: float) -> dict:
    tree = strict_yaml.read(path)
    _check(tree, "top level", required=("profiles", "experiments"))
    for name, profile in _named(tree["profiles"], "profiles", "profile"):
        _check_profile(name, profile)
    for name, experiment in _named(tree["experiments"], "experiments", "experiment"):
        _check_experiment(name, experiment, tree["profiles"])
    return tree


def _check_profile(name: str, profile) -> None:
    where = f"profile {name}"
    _check(profile, where, required=("seeds", "record", "set"), optional=SCALES)
    check_names([profile["record"]], RECORDS, what=f"kind of record in {where}")
    check_number(profile["seeds"], f"{FILE}, {where}: seeds", most=MOST_SEEDS)
    _expect(profile["set"], dict, f"{where}: set", "settings")
    for key in SCALES:
        _expect(profile.get(key, {}), dict, f"{where}: {key}", "numbers by setting")
    for setting, divisor in profile.get("divide", {}).items():
        check_number(divisor, f"{FILE}, {where}, divide: {setting}")
    for setting, factor in profile.get("multiply", {}).items():
        is_number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
        if not is_number or not 1 <= factor < math.inf:
            raise ConfigError(
                f"{FILE}, {where}, multiply: {setting}: expected a number from 1, got {brief(factor)}"
            )


def _check_experiment(name: str, experiment, profiles: dict) -> None:
    where = f"experiment {name}"
    _check(
        experiment,
        where,
        required=("question", "rows"),
        optional=("against", "equal_compute", "curves", "seeds", "trained_in_book"),
    )
    _expect(experiment["question"], str, f"{where}: question", "text in quotes")
    trained = experiment.get("trained_in_book", True)
    if not isinstance(trained, bool):
        raise ConfigError(
            f"{FILE}, {where}: trained_in_book is {brief(trained)}, not true or false"
        )
    seeds = experiment.get("seeds", {})
    _expect(seeds, dict, f"{where}: seeds", "numbers by profile, such as {study: 3}")
    check_names(seeds, profiles, what=f"profile in seeds of {where}")
    for profile, count in seeds.items():
        check_number(count, f"{FILE}, {where}, seeds: {profile}", most=MOST_SEEDS)
    for row, value in _named(experiment["rows"], f"{where}: rows", "row"):
        place = f"row {name}.{row}"
        _check(value, place, required=("label",), optional=("set", "paper"))
        _expect(value["label"], str, f"{place}: label", "text in quotes")
        _expect(value.get("set", {}), dict, f"{place}: set", "settings")
        paper = value.get("paper", [0, ""])
        if not (isinstance(paper, list) and len(paper) == 2 and isinstance(paper[1], str)):
            raise ConfigError(f"{FILE}, {place}: paper: expected [table, row], got {brief(paper)}")
    rows = list(experiment["rows"])
    _check_against(experiment.get("against", "above"), where, rows=rows)
    _check_equal_compute(experiment.get("equal_compute", {}), where, rows=rows)
    _check_curves(experiment.get("curves", {}), where, rows=rows)


def _check_against(against, where: str, *, rows: list[str]) -> None:
    if isinstance(against, str):
        check_names([against], AGAINST, what=f"word for against in {where}")
        return
    _expect(against, dict, f"{where}: against", f"{', '.join(AGAINST)} or a row for each row")
    check_names([*against, *against.values()], rows, what=f"row in against of {where}")


def _check_equal_compute(pairs, where: str, *, rows: list[str]) -> None:
    what = "for each row that a teacher labels for, the labelled-only row of as much compute"
    _expect(pairs, dict, f"{where}: equal_compute", what)
    check_names([*pairs, *pairs.values()], rows, what=f"row in equal_compute of {where}")


def _check_curves(curves, where: str, *, rows: list[str]) -> None:
    _expect(curves, dict, f"{where}: curves", "a list of rows for each label")
    for label, members in curves.items():
        place = f"{where}, curves: {brief(label)}"
        _expect(label, str, place, "text in quotes")
        _expect(members, list, place, "a list of rows, from the fewest steps to the most")
        if len(members) < 2:
            raise ConfigError(f"{FILE}, {place}: a curve needs two rows at least")
        check_names(members, rows, what=f"row in {place}")


def _named(section, where: str, what: str) -> list[tuple[str, object]]:
    """The names and values of a section, which must have some; the names become names of files."""
    if not isinstance(section, dict) or not section:
        raise ConfigError(
            f"{FILE}, {where}: expected one {what} or more by name, got {brief(section)}"
        )
    for name in section:
        if not isinstance(name, str):
            raise ConfigError(
                f"{FILE}, {where}: the name {brief(name)} is not text; write it in quotes"
            )
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise ConfigError(
                f"{FILE}, {where}: {name!r} cannot name a file; use letters, digits, _ and -"
            )
    return list(section.items())


def _expect(value, kind: type, where: str, what: str) -> None:
    if not isinstance(value, kind):
        raise ConfigError(f"{FILE}, {where}: expected {what}, got {brief(value)}")


def check_number(value, where: str, *, least: int = 1, most: int | None = None) -> None:
    """Raise `ConfigError` for what is no whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{where}: expected a whole number, got {brief(value)}")
    if value < least:
        raise ConfigError(f"{where}: {brief(value)} is not at least {least}")
    if most is not None and value > most:
        raise ConfigError(f"{where}: {brief(value)} is more than {most}")


def _check(value, where: str, *, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    check_keys(value, where, file=FILE, required=required, optional=optional)


def check_keys(
    value, where: str, *, file: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> None:
    """Raise `ConfigError`, naming file and place, where a value is no mapping, a key is unknown, or
    one is missing."""
    if not isinstance(value, dict):
        raise ConfigError(f"{file}, {where}: expected {', '.join(required)}, got {brief(value)}")
    check_names(value, required + optional, what=f"key of {where}")
    if missing := [k for k in required if k not in value]:
        raise ConfigError(f"{file}, {where}: {', '.join(missing)} missing")


def tree() -> dict:
    """The whole file as plain data, checked."""
    path = paths.root() / FILE
    if not path.is_file():
        raise ConfigError(f"{path}: not found; run from the checkout, or set DALIB_ROOT to it")
    return _read(path, path.stat().st_mtime)


def experiments() -> list[str]:
    """Names of all experiments."""
    return list(tree()["experiments"])


def profiles() -> list[str]:
    """Names of all profiles."""
    return list(tree()["profiles"])


def usual(profile: str) -> RunConfig:
    """What a row without settings of its own is under a profile."""
    return RunConfig.from_dict(tree()["profiles"][profile]["set"])


def divides(profile: str) -> bool:
    """Whether a profile divides what a row sets itself, and so rounds it."""
    return bool(tree()["profiles"][profile].get("divide"))


def expand(
    name: str, *, profile: str, seeds: int | None = None, seed: int | None = None
) -> Experiment:
    """An experiment with the config of every row and seed.

    Args:
        name: of the experiment.
        profile: smoke, quick, study, gpu or one of your own.
        seeds: how many, counted from 0; the experiment's or else the profile's own number by
            default.
        seed: this one alone, whatever `seeds` says.

    Raises `ConfigError` for an unknown name or setting, with the known ones, and for seeds out of
    range. A row's settings win over the profile's; the whole numbers among them, which are those of
    the profile `study`, are divided by the profile's `divide` or multiplied by its `multiply`, so
    that a row keeps its size beside the others.
    """
    data = tree()
    check_names([name], data["experiments"], what="experiment")
    check_names([profile], data["profiles"], what="profile")
    entry = data["experiments"][name]
    base = data["profiles"][profile]

    # which seeds
    if seed is None:
        count = seeds if seeds is not None else entry.get("seeds", {}).get(profile, base["seeds"])
        check_number(count, "seeds", most=MOST_SEEDS)
        wanted = range(count)
    else:
        check_number(seed, "seed", least=0, most=LARGEST_SEED)
        wanted = (seed,)

    # each row's settings over the profile's
    rows = []
    equal_compute = entry.get("equal_compute", {})
    for row, value in entry["rows"].items():
        merged = _merged(value.get("set", {}), base)
        if "seed" in merged:
            raise ConfigError(
                f"{FILE}, {name}.{row} under profile {profile}: seeds are counted, "
                "not set; drop seed"
            )
        try:
            config = _pinned(RunConfig.from_dict(merged))
        except ConfigError as error:
            raise ConfigError(f"{FILE}, {name}.{row} under profile {profile}: {error}") from error
        configs = tuple(config.replace(seed=s) for s in wanted)
        rows.append(
            Row(
                experiment=name,
                name=row,
                label=value["label"],
                profile=profile,
                configs=configs,
                equal_compute=equal_compute.get(row),
            )
        )
    _check_readings(name, rows)
    curves = {label: tuple(members) for label, members in entry.get("curves", {}).items()}
    _check_steps(name, rows, curves, profile)
    return Experiment(
        name=name,
        against=entry.get("against", "above"),
        curves=curves,
        question=entry["question"],
        profile=profile,
        committed=base["record"] == "committed",
        trained_in_book=entry.get("trained_in_book", True),
        rows=tuple(rows),
    )


def _check_readings(name: str, rows: list[Row]) -> None:
    """Raise `ConfigError` where `equal_compute` does not hold a student against labelled images
    alone."""
    taught = {row.name: row.configs[0].pseudo_labels for row in rows}
    for row in rows:
        other = row.equal_compute
        if other is None:
            continue
        where = f"{FILE}, {name}, equal_compute: {row.name}: {other}"
        if not taught[row.name]:
            raise ConfigError(
                f"{where}: {row.name} learns from labelled images alone; leave it out"
            )
        if taught[other]:
            raise ConfigError(
                f"{where}: {other} learns from pseudo labels; name a row of labelled images alone"
            )


def _check_steps(
    name: str, rows: list[Row], curves: dict[str, tuple[str, ...]], profile: str
) -> None:
    """Raise `ConfigError` where the rows of a learning curve differ in more than their steps, or
    these do not rise."""
    configs = {row.name: row.configs[0] for row in rows}
    for label, members in curves.items():
        where = f"{FILE}, {name}, curves: {label!r}"
        steps = [configs[row].steps for row in members]
        if sorted(set(steps)) != steps and not divides(profile):
            raise ConfigError(f"{where}: the steps {steps} of its rows do not rise")
        alike = {configs[row].replace(steps=1) for row in members}
        if len(alike) > 1:
            raise ConfigError(f"{where}: its rows differ in more than their steps")


def _pinned(config: RunConfig) -> RunConfig:
    """The same with weights that are given known by their content."""
    blocks = config.given()
    if config.teacher is None and config.start_run() is None and not blocks:
        return config
    from dalib.training.given import pin  # seconds to import, which other rows need not wait for

    return pin(config)


def _merged(settings: dict, profile: dict) -> dict:
    """A row's settings over the profile's, and so those of a run that is trained first
    (`start: {trained: ...}`), which is a row of its own elsewhere."""
    merged = {**profile["set"], **_scaled(settings, profile)}
    start = merged.get("start")
    if isinstance(start, dict) and isinstance(start.get("trained"), dict):
        merged["start"] = start | {"trained": _merged(start["trained"], profile)}
    return merged


def _scaled(settings: dict, profile: dict) -> dict:
    """A row's whole numbers, brought to the size of the profile's other rows."""
    divide, multiply = (profile.get(key, {}) for key in SCALES)

    def scaled(name: str, value):
        if isinstance(value, bool) or not isinstance(value, int):
            return value
        return max(1, round(value * multiply.get(name, 1)) // divide.get(name, 1))

    return {name: scaled(name, value) for name, value in settings.items()}
