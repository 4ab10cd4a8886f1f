"""Records of robustness: the networks of a table scored under corruption, while their weights are
still there.

Weights never leave the machine that trained them, so what they score is recorded there: one file
per run, beside the records of training and never among them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from dabook.runs import records
from dabook.runs.experiments import Row, expand
from dalib import certificates, paths
from dalib.config import RunConfig
from dalib.evaluation import robustness as scores
from dalib.models.depth_anything import restore
from dalib.training import launch
from dalib.training.folder import DONE, read_json
from dalib.training.pseudo import sha256
from dalib.writing import write_text

EXPERIMENT = "robustness"
TABLE = "main_table"
"""The experiment whose rows are scored."""


class Record(TypedDict):
    """One network under corruption. The keys stand in the order of the file."""

    schema: int
    experiment: str  # "robustness"
    table: str  # the experiment that the network is of
    row: str
    label: str
    profile: str
    seed: int
    hash: str  # of the config
    weights: str  # digest of the network's file
    training_hash: str
    evaluation_hash: str
    tools_hash: str
    commit: str
    dirty: bool
    created: str  # UTC, ISO 8601
    device: str
    device_type: str
    versions: dict[str, str]
    processes: int
    threads: int
    wall_seconds: float
    config: dict[str, Any]
    scores: dict[str, dict[str, records.Scores]]  # condition -> domain -> scores


KIND = records.Kind(
    form=Record, name="a robustness record", remedy="delete it and score its run again"
)


@dataclass(frozen=True, kw_only=True)
class Entry(records.Entry):
    """One seed of one row, with its record of robustness if there is one."""

    record: Record | None

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
) -> Record:
    """Compose a record.

    Args:
        row, config: the run.
        weights: digest of the network's file.
        training_hash: of the code that trained it.
        found: what `dalib.evaluation.robustness.measure` returned.
        seconds: that it took.
    """
    own = {
        "experiment": EXPERIMENT,
        "table": row.experiment,
        "weights": weights,
        "training_hash": training_hash,
        "tools_hash": scores.tools_hash(),
        "processes": 1,
        "wall_seconds": round(seconds, 1),
        "scores": found,
    }
    return records.compose(KIND, records.about(row, config) | own)


def recorded(config: RunConfig, *, committed: bool) -> Record | None:
    """The record of a run, None where there is none."""
    return records.read_if_there(path(config, committed=committed), KIND)


def entries(*, profile: str = "study", seeds: int | None = None) -> list[Entry]:
    """Every row and seed of the main table with its record, in the table's order; arguments as of
    `experiments.expand`."""
    plan = expand(TABLE, profile=profile, seeds=seeds)
    return [
        Entry(row=row, config=config, record=recorded(config, committed=plan.committed))
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
        head = f"[{number}/{len(todo)}] {TABLE}.{entry.row.name} seed {entry.config.seed}"
        if launch.trained(entry.config):
            _score(entry, committed=plan.committed, report=lambda s, h=head: report(f"{h}  {s}"))
            continue
        command = f"row {TABLE} {entry.row.name} --profile {profile} --seed {entry.config.seed}"
        report(f"{head}  skipped, no weights of this code here: python -m dabook {command}")
    return entries(profile=profile, seeds=seeds)


def _score(entry: Entry, *, committed: bool, report: Callable[[str], None]) -> None:
    """Score one network whose weights are here, and write its record."""
    begun = time.perf_counter()
    weights = launch.folder(entry.config) / launch.WEIGHTS
    model = restore(weights, expect=entry.config.encoder)
    found = scores.measure(model, entry.config, report=report)
    record = make(
        entry.row,
        entry.config,
        weights=sha256(weights)[:16],
        training_hash=read_json(weights.with_name(DONE))["stamp"],
        found=found,
        seconds=time.perf_counter() - begun,
    )
    if other := unlike(record, records.find(entry.config, committed=committed)):
        report(f"these are not the weights behind the table: {other}")
    write_text(path(entry.config, committed=committed), records.dump(record))


def unlike(record: Record, training: records.Record | None) -> str | None:
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
