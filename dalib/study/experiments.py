"""experiments.yaml to rows to configs."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from dalib import paths
from dalib.config import RunConfig, check_names
from dalib.errors import ConfigError

RECORDS = ("local", "committed")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table: a name, a label, and the config of each seed."""

    experiment: str
    name: str
    label: str
    profile: str
    configs: tuple[RunConfig, ...]  # one per seed


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A question and the rows that answer it, under one profile."""

    name: str
    question: str
    profile: str
    committed: bool  # whether its records belong into git
    trained_in_book: bool = True  # or whether the book shows only what is recorded
    against: str | dict[str, str] = "above"  # what each row is compared with, see `dalib.study.statistics.Results`
    rows: tuple[Row, ...]

    def __getitem__(self, row: str) -> Row:
        check_names([row], [r.name for r in self.rows], what=f"row of {self.name}")
        return next(r for r in self.rows if r.name == row)


@lru_cache
def _read(path: Path, _changed: float) -> dict:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML ({error})") from error
    _check(tree, path.name, required=("profiles", "experiments"))
    for name, profile in tree["profiles"].items():
        _check(profile, f"profile {name}", required=("seeds", "record", "set"), optional=("divide",))
        check_names([profile["record"]], RECORDS, what=f"kind of record in profile {name}")
    for name, experiment in tree["experiments"].items():
        optional = ("against", "seeds", "trained_in_book")
        _check(experiment, f"experiment {name}", required=("question", "rows"), optional=optional)
        if not isinstance(experiment.get("trained_in_book", True), bool):
            raise ConfigError(
                f"experiments.yaml, experiment {name}: trained_in_book is {experiment['trained_in_book']!r}, not true or false"
            )
        check_names(experiment.get("seeds", ()), tree["profiles"], what=f"profile in seeds of experiment {name}")
        for row, value in experiment["rows"].items():
            _check(value, f"row {name}.{row}", required=("label",), optional=("set", "paper"))
    return tree


def _check(value, where: str, *, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    check_keys(value, where, file="experiments.yaml", required=required, optional=optional)


def check_keys(value, where: str, *, file: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    """Raise `ConfigError`, naming file and place, where a value is no mapping, a key is unknown, or one is missing."""
    if not isinstance(value, dict):
        raise ConfigError(f"{file}, {where}: expected {', '.join(required)}, got {value!r}")
    check_names(value, required + optional, what=f"key of {where}")
    if missing := [k for k in required if k not in value]:
        raise ConfigError(f"{file}, {where}: {', '.join(missing)} missing")


def tree() -> dict:
    """The whole file as plain data, checked."""
    path = paths.root() / "experiments.yaml"
    if not path.is_file():
        raise ConfigError(f"{path}: not found; run from the checkout, or set DALIB_ROOT to it")
    return _read(path, path.stat().st_mtime)


def experiments() -> list[str]:
    """Names of all experiments."""
    return list(tree()["experiments"])


def profiles() -> list[str]:
    """Names of all profiles."""
    return list(tree()["profiles"])


def expand(name: str, *, profile: str, seeds: int | None = None) -> Experiment:
    """An experiment with the config of every row and seed.

    Args:
        name: of the experiment.
        profile: smoke, quick, study, gpu or one of your own.
        seeds: how many, counted from 0; the experiment's or else the profile's own number by default.

    Raises `ConfigError` for an unknown name or setting, with the known ones. A row's settings win over the profile's; the
    numbers among them are divided by the profile's `divide`, so that a row keeps its size beside the others.
    """
    data = tree()
    check_names([name], data["experiments"], what="experiment")
    check_names([profile], data["profiles"], what="profile")
    entry, base = data["experiments"][name], data["profiles"][profile]
    count = seeds if seeds is not None else entry.get("seeds", {}).get(profile, base["seeds"])
    if count < 1:
        raise ConfigError(f"seeds: {count} is not at least 1")
    rows = []
    for row, value in entry["rows"].items():
        merged = {**base["set"], **_scaled(value.get("set", {}), base.get("divide", {}))}
        if "seed" in merged:
            raise ConfigError(
                f"experiments.yaml, {name}.{row} under profile {profile}: seeds are counted, not set; drop seed"
            )
        try:
            configs = tuple(RunConfig.from_dict({**merged, "seed": s}) for s in range(count))
        except ConfigError as error:
            raise ConfigError(f"experiments.yaml, {name}.{row} under profile {profile}: {error}") from error
        rows.append(Row(experiment=name, name=row, label=value.get("label", row), profile=profile, configs=configs))
    against = entry.get("against", "above")
    if not isinstance(against, str):
        check_names([*against, *against.values()], entry["rows"], what=f"row in against of {name}")
    return Experiment(
        name=name,
        against=against,
        question=entry["question"],
        profile=profile,
        committed=base["record"] == "committed",
        trained_in_book=entry.get("trained_in_book", True),
        rows=tuple(rows),
    )


def _scaled(settings: dict, divide: dict) -> dict:
    return {k: max(1, v // divide[k]) if k in divide and isinstance(v, int) else v for k, v in settings.items()}
