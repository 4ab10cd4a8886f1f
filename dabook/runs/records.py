"""Records: what a run came to, with everything needed to trust or repeat it. One JSON file each,
atomic, diffable.

Each kind of record is a `TypedDict` whose keys stand in the order of the file: here that of a run
(`Record`), beside the code that makes them those of `robustness`, `bugs`, `floors` and `certify`.
`compose` is the one writer of what they all begin with, `read` the one reader.
"""

import json
import types
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, NotRequired, TypedDict, TypeVar

import pandas as pd
import torch

from dabook.runs.experiments import (
    LARGEST_SEED,
    Experiment,
    Row,
    check_number,
    expand,
    experiments,
    profiles,
    tree,
)
from dalib import certificates, paths, provenance
from dalib.config import RunConfig
from dalib.errors import ConfigError, DataError
from dalib.evaluation.suite import scoring
from dalib.writing import write_text

SCHEMA = 1
Scores = dict[str, Any]  # metric -> a value per image; of real images "half" and "names" too


class Record(TypedDict):
    """One seed of one row, trained and scored. The keys stand in the order of the file."""

    schema: int
    experiment: str
    row: str
    label: str
    profile: str
    seed: int
    hash: str  # of the config
    teacher: str | None  # the hash of its config
    training_hash: str
    evaluation_hash: str
    commit: str
    dirty: bool
    created: str  # UTC, ISO 8601
    device: str
    device_type: str
    instructions: NotRequired[str]  # earlier records do not say
    versions: dict[str, str]
    processes: int
    threads: int
    wall_seconds: float
    peak_memory_mb: int | None
    data: NotRequired[dict[str, Any]]  # by role, where it is more than drawn scenes
    config: dict[str, Any]
    images: dict[str, Scores]  # the drawn domains
    real: NotRequired[dict[str, Scores]]


R = TypeVar("R", bound=Mapping)


@dataclass(frozen=True, kw_only=True)
class Kind(Generic[R]):
    """A kind of record: its keys with their types, how a message calls it, and what to do about a
    damaged one."""

    form: type[R]
    name: str
    remedy: str


RUN = Kind(form=Record, name="a record", remedy="delete it and run its row again")


CIRCUMSTANCES: dict[str, Callable[[], Any]] = {
    "commit": lambda: provenance.commit()[0],
    "dirty": lambda: provenance.commit()[1],
    "created": lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    "device": provenance.device,
    "device_type": provenance.device_type,
    "instructions": provenance.instructions,
    "versions": provenance.versions,
    "threads": torch.get_num_threads,
}
"""What a record says of where and when it was made: key -> how it is found out."""


def circumstances(*keys: str) -> dict[str, Any]:
    """Some of `CIRCUMSTANCES`, in the order asked for."""
    return {key: CIRCUMSTANCES[key]() for key in keys}


def compose(kind: Kind[R], facts: Mapping[str, Any]) -> R:
    """A record of a kind: the facts, and whatever of the schema and of `CIRCUMSTANCES` the kind has
    and they leave open; in the order of the file.

    Raises `TypeError` for a key that the kind does not know, and for one that is missing.
    """
    order = kind.form.__annotations__
    required = kind.form.__required_keys__
    whole = {"schema": SCHEMA} | dict(facts)
    whole |= circumstances(*(k for k in CIRCUMSTANCES if k in order and k not in whole))
    unknown = sorted(whole.keys() - order.keys())
    missing = sorted(required - whole.keys())
    if unknown or missing:
        raise TypeError(f"{kind.name}: unknown {unknown}, missing {missing}")
    return {key: whole[key] for key in order if key in whole}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One seed of one row, with its record if there is one."""

    row: Row
    config: RunConfig
    record: Record | None

    @property
    def status(self) -> str:
        """ "missing", "fresh", or "stale": made by another version of the code."""
        if self.record is None:
            return "missing"
        return "fresh" if is_fresh(self.record) else "stale"


def is_fresh(record: Mapping) -> bool:
    """Whether today's code would train and score to the same bits: it is the same, or certified to
    be as good."""
    return all(certificates.unchanged(part, record[f"{part}_hash"]) for part in provenance.ROOTS)


def code(record: Mapping) -> str:
    """The code that made a record, in short: one hash, or that of training and that of
    evaluation."""
    return " + ".join(dict.fromkeys(record[f"{part}_hash"] for part in provenance.ROOTS))


def folder(*, committed: bool) -> Path:
    """Where the records of a profile lie."""
    return paths.records() if committed else paths.local_records()


def make(row: Row, config: RunConfig, *, training: dict, scores: dict) -> Record:
    """Compose the record of a run.

    Args:
        row, config: what was run.
        training: the run's train.json, whose stamp is the hash of the code that trained it.
        scores: what `dalib.evaluation.suite.evaluate` returned.
    """
    return compose(RUN, about(row, config) | trained(config, training) | scores)


def about(row: Row, config: RunConfig) -> dict[str, Any]:
    """What the record of any run says first: which row and seed it is of, and its settings."""
    return {
        "experiment": row.experiment,
        "row": row.name,
        "label": row.label,
        "profile": row.profile,
        "seed": config.seed,
        "hash": config.hash(),
        "evaluation_hash": provenance.code_hash("evaluation"),
        "config": config.to_dict(),
    }


def teacher(config: RunConfig) -> str | None:
    """Who made a student's pseudo labels: the hash of a run, or "given-" and the digest of weights,
    whose name the record's `config` has. None for a run on labelled images only."""
    if not config.pseudo_labels:
        return None
    run = config.teacher_run()
    return f"given-{config.teacher.digest}" if run is None else run.hash()


def trained(config: RunConfig, training: dict) -> dict[str, Any]:
    """What a record says of the training: by whom it was taught, by which code, at what cost; and
    of which data, where these are more than drawn scenes."""
    costs = ("processes", "threads", "wall_seconds", "peak_memory_mb")
    said = {
        "teacher": teacher(config),
        "training_hash": training["stamp"],
        **{key: training[key] for key in costs},
    }
    if "data" in training:
        said["data"] = training["data"]
    return said


def write(record: Record, *, committed: bool, again: bool = False) -> Path:
    """Write a record so that an old one survives whatever goes wrong; `DataError` if the disk
    refuses.

    A run made `again` has a file of its own for each kind of processor,
    `data/reruns/<hash>-<instructions>.json`.
    """
    if again:
        path = paths.reruns() / f"{record['hash']}-{record['instructions'].lower()}.json"
    else:
        path = folder(committed=committed) / record["experiment"] / f"{record['hash']}.json"
    write_text(path, dump(record))
    return path


def dump(record: Mapping) -> str:
    """Indented JSON with each list of numbers on one line, so that a diff shows which domain
    changed."""

    def block(value: Any, depth: int) -> str:
        if not isinstance(value, Mapping) or not value:
            return json.dumps(value, ensure_ascii=False)
        pad = " " * depth
        lines = [f"{pad} {json.dumps(k)}: {block(v, depth + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{pad}}}"

    return block(record, 0) + "\n"


def load(path: Path, *, remedy: str) -> Any:
    """The content of a JSON file; one that cannot be read is a `DataError` that names it and says
    what to do."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable record ({error}); {remedy}") from error


def read(path: Path, kind: Kind[R] = RUN) -> R:
    """Read one record.

    Args:
        path: the file.
        kind: what has to be in it; more keys do no harm.

    Raises:
        DataError: a missing, damaged or older file, by its name, with what is wrong and what to do.
    """
    record = split_hash(load(path, remedy=kind.remedy))
    if wrong := _wrong(record, kind.form):
        schema = f" of schema {SCHEMA}" if "schema" in kind.form.__annotations__ else ""
        raise DataError(f"{path}: not {kind.name}{schema} ({wrong}); {kind.remedy}")
    return record


def read_if_there(path: Path, kind: Kind[R] = RUN) -> R | None:
    """As `read`, and None where there is no such file."""
    return read(path, kind) if path.is_file() else None


def _wrong(record: Any, form: type) -> str:
    """What keeps a value from being a record of a form: words, or nothing."""
    if not isinstance(record, dict):
        return f"{type(record).__name__}, not an object"
    if missing := sorted(form.__required_keys__ - record.keys()):
        return f"missing: {missing}"
    hints = typing.get_type_hints(form)
    if "schema" in hints and record["schema"] != SCHEMA:
        return f"its schema is {record['schema']!r}"
    for key, hint in hints.items():
        if key in record and not _fits(record[key], hint):
            return f"{key} is {type(record[key]).__name__}"
    return ""


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is of a type; of what is inside lists and objects nothing is
    said."""
    if hint is Any:
        return True
    if isinstance(hint, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    kind = dict if typing.is_typeddict(hint) else typing.get_origin(hint) or hint
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def split_hash(record: Any) -> Any:
    """An older record carries one hash for training and evaluation together: here it stands for
    both."""
    if not isinstance(record, dict) or "code_hash" not in record:
        return record
    whole = record["code_hash"]
    return {k: v for k, v in record.items() if k != "code_hash"} | {
        "training_hash": whole,
        "evaluation_hash": whole,
    }


def find(config: RunConfig, *, committed: bool) -> Record | None:
    """The record of a config, whichever experiment it was run for: two tables may share a row. A
    fresh one comes first."""
    found = [read(p) for p in sorted(folder(committed=committed).glob(f"*/{config.hash()}.json"))]
    return max(found, key=is_fresh, default=None)


def entries(experiment: Experiment) -> list[Entry]:
    """Every row and seed of an experiment with its record, in the table's order."""
    return [
        Entry(row=row, config=config, record=find(config, committed=experiment.committed))
        for row in experiment.rows
        for config in row.configs
    ]


@dataclass(frozen=True, kw_only=True)
class Others:
    """What lies among an experiment's records and is none of its profile's."""

    of_profile: dict[str, int]  # how many records each other profile has there
    unknown: dict[Path, str]  # files that no profile asks for, each with what it is


def foreign(experiment: Experiment) -> Others:
    """Files in the experiment's folder that its profile does not ask for, with any number of seeds;
    none is an error."""
    of_profile: Counter[str] = Counter()
    unknown = {}
    for path in sorted((folder(committed=experiment.committed) / experiment.name).glob("*.json")):
        try:
            record = read(path)
            seed = record.get("seed")
            check_number(seed, f"{path}: seed", least=0, most=LARGEST_SEED)
        except (ConfigError, DataError):
            unknown[path] = "no readable record; look at it before you delete it"
            continue
        asks = _asks(path.stem, seed, experiment)
        if asks is None:
            unknown[path] = "no row of experiments.yaml asks for it"
        elif asks != experiment.profile:
            of_profile[asks] += 1
    return Others(of_profile=dict(of_profile), unknown=unknown)


def _asks(wanted: str, seed: int, experiment: Experiment) -> str | None:
    """The profile under which some row has this hash: the experiment's own rather than another;
    None where none has."""
    kind = "committed" if experiment.committed else "local"
    alike = [p for p in profiles() if tree()["profiles"][p]["record"] == kind]
    own = [
        (experiment.name, profile)
        for profile in sorted(alike, key=lambda p: p != experiment.profile)
    ]
    elsewhere = [
        (name, profile) for profile in alike for name in experiments() if name != experiment.name
    ]
    for name, profile in own + elsewhere:
        if wanted in _hashes(name, profile, seed):
            return profile
    return None


def _hashes(name: str, profile: str, seed: int) -> set[str]:
    try:
        return {row.configs[0].hash() for row in expand(name, profile=profile, seed=seed).rows}
    except ConfigError:  # of another profile or experiment: told when it is asked for
        return set()


def one_device(found: list[Entry]) -> None:
    """A `ConfigError` where records of different kinds of device would stand in one table."""
    kinds = {e.record["device_type"] for e in found if e.record}
    if len(kinds) > 1:
        raise ConfigError(
            f"{found[0].row.experiment}: records of {' and '.join(sorted(kinds))} cannot stand in "
            "one table; delete one kind"
        )


def frame(found: list[Entry]) -> pd.DataFrame:
    """Records as a tidy table: one line per row, seed, domain and image, with the metrics as
    columns.

    `group` is "test", "validation" or "real"; `stale` marks lines whose code hash is not the
    library's own. Records of different kinds of device are a `ConfigError`: their numbers do not
    belong into one table.
    """
    one_device(found)
    lines = []
    for entry in found:
        if entry.record is None:
            continue
        names = scoring(entry.config).metrics
        base = {
            "row": entry.row.name,
            "label": entry.row.label,
            "seed": entry.config.seed,
            "hash": entry.record["hash"],
            "stale": entry.status == "stale",
        }
        for group, domain, scores in _scored(entry.record):
            place = {"group": group, "domain": domain, "half": scores.get("half")}
            for image in range(len(scores[names[0]])):
                metrics = {metric: scores[metric][image] for metric in names}
                lines.append(base | place | {"image": image} | metrics)
    return pd.DataFrame(lines)


def _scored(record: Record) -> Iterator[tuple[str, str, Scores]]:
    """Group, domain and scores of all that a run was scored on."""
    for domain, scores in record["images"].items():
        yield ("validation" if domain == "validation" else "test"), domain, scores
    for data_set, scores in record.get("real", {}).items():
        yield "real", data_set, scores
