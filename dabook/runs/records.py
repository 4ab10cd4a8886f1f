"""Records: what a run came to, with everything needed to trust or repeat it. One JSON file each,
atomic, diffable."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

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
from dalib.evaluation.metrics import METRICS
from dalib.writing import write_text

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One seed of one row, with its record if there is one."""

    row: Row
    config: RunConfig
    record: dict | None

    @property
    def status(self) -> str:
        """ "missing", "fresh", or "stale": made by another version of the code."""
        if self.record is None:
            return "missing"
        return "fresh" if is_fresh(self.record) else "stale"


def is_fresh(record: dict) -> bool:
    """Whether today's code would train and score to the same bits: it is the same, or certified to
    be as good."""
    return all(certificates.unchanged(part, record[f"{part}_hash"]) for part in provenance.ROOTS)


def code(record: dict) -> str:
    """The code that made a record, in short: one hash, or that of training and that of
    evaluation."""
    return " + ".join(dict.fromkeys(record[f"{part}_hash"] for part in provenance.ROOTS))


def folder(*, committed: bool) -> Path:
    """Where the records of a profile lie."""
    return paths.records() if committed else paths.local_records()


def make(row: Row, config: RunConfig, *, training: dict, scores: dict) -> dict:
    """Compose a record.

    Args:
        row, config: what was run.
        training: the run's train.json, whose stamp is the hash of the code that trained it.
        scores: what `dalib.evaluation.suite.evaluate` returned.
    """
    commit, dirty = provenance.commit()
    return {
        "schema": SCHEMA,
        "experiment": row.experiment,
        "row": row.name,
        "label": row.label,
        "profile": row.profile,
        "seed": config.seed,
        "hash": config.hash(),
        "teacher": config.teacher().hash() if config.pseudo_labels else None,
        "training_hash": training["stamp"],
        "evaluation_hash": provenance.code_hash("evaluation"),
        "commit": commit,
        "dirty": dirty,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "device": provenance.device(),
        "device_type": provenance.device_type(),
        "instructions": provenance.instructions(),
        "versions": provenance.versions(),
        **{k: training[k] for k in ("processes", "threads", "wall_seconds", "peak_memory_mb")},
        "config": config.to_dict(),
        **scores,
    }


def write(record: dict, *, committed: bool, again: bool = False) -> Path:
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


def dump(record: dict) -> str:
    """Indented JSON with each list of numbers on one line, so that a diff shows which domain
    changed."""

    def block(value, depth):
        if not isinstance(value, dict) or not value:
            return json.dumps(value, ensure_ascii=False)
        pad = " " * depth
        return (
            "{\n"
            + ",\n".join(f"{pad} {json.dumps(k)}: {block(v, depth + 1)}" for k, v in value.items())
            + f"\n{pad}}}"
        )

    return block(record, 0) + "\n"


def read(path: Path) -> dict:
    """Read one record; a damaged or older one is a `DataError` that names the file."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: not a readable record ({error}); delete it and run its row again"
        ) from error
    record = split_hash(record) if isinstance(record, dict) else {}
    missing = {
        "schema",
        "hash",
        "training_hash",
        "evaluation_hash",
        "config",
        "images",
    } - record.keys()
    if missing or record["schema"] != SCHEMA:
        raise DataError(
            f"{path}: not a record of schema {SCHEMA} (missing: {sorted(missing)}); delete it and "
            "run its row again"
        )
    return record


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


def find(config: RunConfig, *, committed: bool) -> dict | None:
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
    lines = []
    one_device(found)
    for entry in found:
        if entry.record is None:
            continue
        base = {
            "row": entry.row.name,
            "label": entry.row.label,
            "seed": entry.config.seed,
            "hash": entry.record["hash"],
            "stale": entry.status == "stale",
        }
        for group, domains in (
            ("images", entry.record["images"]),
            ("real", entry.record.get("real", {})),
        ):
            for domain, scores in domains.items():
                kind = (
                    "real"
                    if group == "real"
                    else "validation"
                    if domain == "validation"
                    else "test"
                )
                for image in range(len(scores["abs_rel"])):
                    metrics = {m: scores[m][image] for m in METRICS}
                    lines.append(
                        base
                        | {
                            "group": kind,
                            "domain": domain,
                            "half": scores.get("half"),
                            "image": image,
                        }
                        | metrics
                    )
    return pd.DataFrame(lines)
