"""Records of robustness: the networks of a table scored under corruption, while their weights are
still there.

Weights never leave the machine that trained them, so what they score is recorded there: one file
per run, beside the records of training and never among them.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from dabook.runs import records
from dabook.runs.experiments import Row, expand
from dalib import certificates, paths, provenance
from dalib.config import RunConfig
from dalib.errors import DataError
from dalib.evaluation import robustness as scores
from dalib.models.depth_anything import restore
from dalib.training import launch
from dalib.training.folder import DONE, read_json
from dalib.training.pseudo import sha256
from dalib.writing import write_text

SCHEMA = 1
EXPERIMENT = "robustness"
TABLE = "main_table"
"""The experiment whose rows are scored."""
KEYS = {
    "schema",
    "hash",
    "table",
    "training_hash",
    "evaluation_hash",
    "tools_hash",
    "config",
    "scores",
}


@dataclass(frozen=True, kw_only=True)
class Entry(records.Entry):
    """One seed of one row, with its record of robustness if there is one."""

    @property
    def status(self) -> str:
        """ "missing", "fresh", or "stale": the network, or the way it was scored, is of another
        version of the code."""
        if self.record is None:
            return "missing"
        tools = certificates.unchanged("robustness", self.record["tools_hash"], scores.tools_hash())
        return "fresh" if tools and records.is_fresh(self.record) else "stale"


def path(config: RunConfig, *, committed: bool) -> Path:
    """Where the record of a run lies."""
    return (paths.robustness() if committed else paths.local_robustness()) / f"{config.hash()}.json"


def make(
    row: Row,
    config: RunConfig,
    *,
    weights: str,
    training_hash: str,
    found: scores.Scores,
    seconds: float,
) -> dict:
    """Compose a record.

    Args:
        row, config: the run.
        weights: digest of the network's file.
        training_hash: of the code that trained it.
        found: what `dalib.evaluation.robustness.measure` returned.
        seconds: that it took.
    """
    commit, dirty = provenance.commit()
    return {
        "schema": SCHEMA,
        "experiment": EXPERIMENT,
        "table": row.experiment,
        "row": row.name,
        "label": row.label,
        "profile": row.profile,
        "seed": config.seed,
        "hash": config.hash(),
        "weights": weights,
        "training_hash": training_hash,
        "evaluation_hash": provenance.code_hash("evaluation"),
        "tools_hash": scores.tools_hash(),
        "commit": commit,
        "dirty": dirty,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "device": provenance.device(),
        "device_type": provenance.device_type(),
        "versions": provenance.versions(),
        "processes": 1,
        "threads": torch.get_num_threads(),
        "wall_seconds": round(seconds, 1),
        "config": config.to_dict(),
        "scores": found,
    }


def read(file: Path) -> dict | None:
    """One record, None where there is none; a damaged or older one is a `DataError` that names the
    file."""
    if not file.is_file():
        return None
    try:
        record = records.split_hash(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file}: not a readable record ({error}); delete it and score its run again"
        ) from error
    if not isinstance(record, dict) or not record.keys() >= KEYS or record["schema"] != SCHEMA:
        raise DataError(
            f"{file}: not a robustness record of schema {SCHEMA}; delete it and score its run again"
        )
    return record


def entries(*, profile: str = "study", seeds: int | None = None) -> list[Entry]:
    """Every row and seed of the main table with its record, in the table's order; arguments as of
    `experiments.expand`."""
    plan = expand(TABLE, profile=profile, seeds=seeds)
    return [
        Entry(row=row, config=config, record=read(path(config, committed=plan.committed)))
        for row in plan.rows
        for config in row.configs
    ]


def run(
    *, profile: str = "study", seeds: int | None = None, report: Callable[[str], None] = print
) -> list[Entry]:
    """Score every network of the main table that has no fresh record and whose weights are here;
    trains nothing.

    Args:
        profile, seeds: see `dabook.runs.experiments.expand`.
        report: receives lines of progress, and for each run without weights the command that trains
            it.

    Returns:
        All entries.
    """
    plan = expand(TABLE, profile=profile, seeds=seeds)
    todo = [e for e in entries(profile=profile, seeds=seeds) if e.status != "fresh"]
    for number, entry in enumerate(todo, 1):
        row, config = entry.row, entry.config
        head = f"[{number}/{len(todo)}] {row.experiment}.{row.name} seed {config.seed}"
        if not launch.trained(config):
            words = f"row {row.experiment} {row.name} --profile {profile} --seed {config.seed}"
            report(f"{head}  skipped, no weights of this code here: python -m dabook {words}")
            continue
        begun, weights = time.perf_counter(), launch.folder(config) / launch.WEIGHTS
        model = restore(weights, expect=config.encoder)
        found = scores.measure(model, config, report=lambda line, h=head: report(f"{h}  {line}"))
        seconds = time.perf_counter() - begun
        stamp = read_json(weights.with_name(DONE))["stamp"]
        record = make(
            row,
            config,
            weights=sha256(weights)[:16],
            training_hash=stamp,
            found=found,
            seconds=seconds,
        )
        if other := unlike(record, records.find(config, committed=plan.committed)):
            report(f"{head}  these are not the weights behind the table: {other}")
        write_text(path(config, committed=plan.committed), records.dump(record))
    return entries(profile=profile, seeds=seeds)


def unlike(record: dict, training: dict | None) -> str | None:
    """Where the clean AbsRel differs by more than rounding from the training record of the same
    code; None where it agrees."""
    if training is None or records.code(training) != records.code(record):
        return None
    for domain, metrics in record["scores"]["clean"].items():
        pairs = zip(metrics["abs_rel"], training["images"][domain]["abs_rel"], strict=False)
        for image, (ours, theirs) in enumerate(pairs):
            if abs(ours - theirs) > 1e-3:
                return f"AbsRel {ours} and not {theirs} on image {image} of {domain}"
    return None
