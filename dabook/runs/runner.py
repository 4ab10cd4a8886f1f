"""One call that runs what is missing, for a notebook, the command line or Snakemake."""

import json

from dabook.runs import progress, records
from dabook.runs.experiments import Row, expand
from dalib.config import RunConfig
from dalib.data.catalogue import check_sources
from dalib.errors import ConfigError
from dalib.evaluation.suite import check, evaluate
from dalib.progress import Report
from dalib.training import launch, tasks
from dalib.training.folder import DONE, untrained
from dalib.training.machines import machines_of
from dalib.writing import write_text

RECORD = "run.json"


def run_row(
    row: Row,
    config: RunConfig,
    *,
    committed: bool,
    again: bool = False,
    retrain: bool = False,
    processes: int = 1,
    accelerate: str | None = None,
    machine_rank: int | None = None,
    report: Report | None = None,
) -> dict | None:
    """Train and score one seed of one row, and write its record.

    Weights that are here and of today's code are scored as they are: an edit of the evaluation, or
    a record that is gone, costs no training. A run that was killed goes on. Nothing is removed:
    what has to make room is set aside.

    Args:
        row, config: what to run.
        committed: where the record goes.
        again: train once more, and write the record beside the one that there is. Without a
            committed record a `ConfigError`.
        retrain: train once more, and write the record over the one that there is.
        processes: training processes, over all machines.
        accelerate, machine_rank: see `dalib.training.machines`. The main machine alone scores and
            writes the record; the others end with the training, and return nothing.
        report: receives lines of progress; by default there is a bar where somebody watches, and
            lines elsewhere.
    """
    if report is None:
        name = f"{row.experiment}.{row.name} seed {config.seed}"
        with progress.following([config], title=name) as shown:
            record = run_row(
                row,
                config,
                committed=committed,
                again=again,
                retrain=retrain,
                processes=processes,
                accelerate=accelerate,
                machine_rank=machine_rank,
                report=shown.report,
            )
            shown.end(config)
        return record
    if again and not (committed and records.find(config, committed=True)):
        raise ConfigError(
            f"--again: {row.experiment}, row {row.name}, seed {config.seed} has no committed "
            f"record in profile {row.profile} to"
            " stand beside; run it without --again first, or name a profile whose records are "
            "committed (study)"
        )
    look_ahead(config, report)
    out = launch.folder(config)
    # a teacher that was only trained for its students will do
    afresh = retrain or (again and (out / RECORD).exists())
    machines = machines_of(accelerate, processes=processes, machine_rank=machine_rank)
    weights = launch.ensure_weights(
        config,
        processes=processes,
        accelerate=accelerate,
        machine_rank=machine_rank,
        afresh=afresh,
        report=report,
    )
    if machines.rank:
        return None
    model = tasks.of(config).restore(weights)
    training = json.loads((out / DONE).read_text())
    record = records.make(row, config, training=training, scores=evaluate(model, config))
    records.write(record, committed=committed, again=again)
    write_text(
        out / RECORD,
        json.dumps({k: record[k] for k in ("hash", "training_hash", "evaluation_hash")}),
    )
    return record


def look_ahead(config: RunConfig, report: Report) -> None:
    """Find what would stop a run only after its training: sources, manifests and files that cannot
    be read or scored.

    What is left out of the scores is reported, once per process. Raises as `check_sources` and
    `dalib.evaluation.suite.check`.
    """
    for needed in untrained(config):
        check_sources(needed)
    for note in check():
        if note not in _TOLD:
            _TOLD.add(note)
            report(note)


_TOLD: set[str] = set()


def run(
    name: str,
    *,
    profile: str,
    seeds: int | None = None,
    processes: int = 1,
    train: bool = True,
    report: Report | None = None,
) -> list[records.Entry]:
    """Run every row and seed of an experiment that has no fresh record, and return all entries.

    Args:
        name, profile, seeds: see `dabook.runs.experiments.expand`.
        processes: training processes per run.
        train: False returns the entries as they are, with or without records, and runs nothing.
        report: receives lines of progress; by default there is one bar for all rows, with the time
            left, where somebody watches, and lines elsewhere.
    """
    experiment = expand(name, profile=profile, seeds=seeds)
    todo = [e for e in records.entries(experiment) if e.status != "fresh"] if train else []
    if not todo:
        return records.entries(experiment)
    with progress.following([e.config for e in todo], title=name, report=report) as shown:
        for number, entry in enumerate(todo, 1):
            head = f"[{number}/{len(todo)}] {name}.{entry.row.name} seed {entry.config.seed}"
            shown.begin(head)
            run_row(
                entry.row,
                entry.config,
                committed=experiment.committed,
                processes=processes,
                report=shown.report,
            )
            shown.end(entry.config)
    return records.entries(experiment)
