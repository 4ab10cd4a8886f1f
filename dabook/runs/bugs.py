"""What each bug of `faulty` costs: one record per variant and seed, and the command that makes
them.

    python -m dabook.runs.bugs --profile study --bug NAME --seed 0

True runs are read where they lie (`DALIB_RUNS`) and never written to; one that is missing is named
with the command that trains it. A variant is trained below `bugs` there, scored and recorded; its
network stays, and is scored again where the record is gone.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from dabook.runs import records
from dabook.runs.experiments import Row, expand
from dabook.runs.faulty import VARIANTS, Variant, learn, score, settings
from dalib import certificates, paths, provenance
from dalib.config import RunConfig, check_names
from dalib.errors import ConfigError, DataError, TrainingError, UserError
from dalib.training import launch
from dalib.training.pseudo import MANIFEST, sha256
from dalib.writing import write_text

EXPERIMENT = "bugs"
TABLE = "main_table"
"""The experiment whose runs the variants are compared with."""
SEEDS = 3


class Record(records.Record):
    """One seed of one variant: a run's record, and after it what makes it a bug's."""

    bugs_hash: str
    switches: list[str]
    against: str  # the row or variant that it is compared with
    true_run: str  # hash of the config that it shares
    weights: str | None  # digest of the true network that it read


KIND = records.Kind(form=Record, name="the record of a bug", remedy="delete it and run it again")


def bugs_hash() -> str:
    """Digest of the faulty functions and of how they are switched on, docstrings left out."""
    return provenance.files_hash([Path(__file__).with_name("faulty.py")])


@dataclass(frozen=True, kw_only=True)
class Entry(records.Entry):
    """One seed of one variant, with its record if there is one; `config` is that of the true
    run."""

    record: Record | None

    @property
    def status(self) -> str:
        """ "missing", "fresh", or "stale": made by another version of the library or of the bugs."""
        if self.record is None:
            return "missing"
        bugs = certificates.unchanged("bugs", self.record["bugs_hash"], bugs_hash())
        return "fresh" if bugs and records.is_fresh(self.record) else "stale"


def path(name: str, config: RunConfig, *, committed: bool) -> Path:
    """Where the record of a variant lies: never among those of true runs."""
    home = (
        paths.root() / "data" / EXPERIMENT if committed else paths.runs() / EXPERIMENT / "records"
    )
    return home / f"{name}-{config.hash()}.json"


def recorded(name: str, config: RunConfig, *, committed: bool) -> Record | None:
    """The record of a variant, None where there is none."""
    return records.read_if_there(path(name, config, committed=committed), KIND)


def plan(profile: str, seeds: int | None = None) -> tuple[dict[str, Row], bool]:
    """The rows of the main table by name, with as many seeds as bugs have; and whether records are
    committed."""
    table = expand(TABLE, profile=profile, seeds=seeds)
    count = seeds or min(SEEDS, len(table.rows[0].configs))
    rows = {
        r.name: Row(
            experiment=EXPERIMENT,
            name=r.name,
            label=r.label,
            profile=profile,
            configs=r.configs[:count],
        )
        for r in table.rows
    }
    return rows, table.committed


def entries(*, profile: str = "study", seeds: int | None = None) -> list[Entry]:
    """Every variant and seed with its record, in the order of `VARIANTS`."""
    rows, committed = plan(profile, seeds)
    return [
        Entry(
            row=_row(name, rows[v.row]),
            config=config,
            record=recorded(name, config, committed=committed),
        )
        for name, v in VARIANTS.items()
        for config in rows[v.row].configs
    ]


def true_entries(*, profile: str = "study", seeds: int | None = None) -> list[records.Entry]:
    """The true runs that variants are compared with, with their records of the main table."""
    rows, committed = plan(profile, seeds)
    used = [rows[name] for name in dict.fromkeys(v.row for v in VARIANTS.values())]
    return [
        records.Entry(row=row, config=config, record=records.find(config, committed=committed))
        for row in used
        for config in row.configs
    ]


def _row(name: str, true: Row) -> Row:
    label = name.replace("_", " ")
    return Row(
        experiment=EXPERIMENT, name=name, label=label, profile=true.profile, configs=true.configs
    )


def price(entry: Entry, *, committed: bool, report: Callable[[str], None] = print) -> Record:
    """Train and score, or only score, one variant under one seed; write its record and return it.

    Raises `DataError` where a true run that it needs is not here; nothing is trained in its place.
    """
    name = entry.row.name
    variant = VARIANTS[name]
    weights = needed(variant, entry.row, entry.config)

    # train, where the bug is one of training
    begun = time.perf_counter()
    facts = {"processes": 1, "threads": torch.get_num_threads(), "peak_memory_mb": None}
    if variant.trained:
        stamp = f"{provenance.code_hash('training')} {bugs_hash()} {weights}"
        facts = learn(name, entry.config, stamp=stamp, report=report)

    # score
    found = score(name, entry.config)
    facts.setdefault("wall_seconds", round(time.perf_counter() - begun, 1))
    facts |= {"stamp": provenance.code_hash("training")}

    # record
    config = settings(variant, entry.config)
    own = {
        "hash": f"{name}-{entry.config.hash()}",
        "bugs_hash": bugs_hash(),
        "switches": list(variant.switches),
        "against": variant.against or variant.row,
        "true_run": entry.config.hash(),
        "weights": weights,
    }
    run_facts = records.about(entry.row, config) | records.trained(config, facts)
    record = records.compose(KIND, run_facts | found | own)
    write_text(path(name, entry.config, committed=committed), records.dump(record))
    return record


def needed(variant: Variant, row: Row, config: RunConfig) -> str | None:
    """First digits of the digest of the true network that a variant reads: its teacher, or the one
    that it scores."""
    if variant.trained and not config.pseudo_labels:
        return None
    true_run = config.teacher_run() if variant.trained else config
    folder = launch.folder(true_run)
    command = (
        f"python -m dabook row {TABLE} {variant.row} --profile {row.profile} --seed {config.seed}"
    )
    if not launch.trained(true_run):
        raise DataError(f"{folder}: no network of this code; to train it: {command}")
    if variant.trained and not any(folder.glob(f"pseudo-*/{MANIFEST}")):
        raise DataError(f"{folder}: no pseudo labels; to make them: {command}")
    return sha256(folder / launch.WEIGHTS)[:16]


def run(
    *,
    profile: str = "study",
    bug: str | None = None,
    seed: int | None = None,
    seeds: int | None = None,
    report: Callable[[str], None] = print,
) -> list[Entry]:
    """Price whatever has no fresh record, and return all entries.

    Args:
        profile: of experiments.yaml.
        bug, seed: one variant, one seed alone; all by default. An unknown variant is a
            `ConfigError` with the known ones.
        seeds: how many, `SEEDS` by default or as many as the profile has.
        report: receives lines of progress.
    """
    check_names([bug] if bug else [], VARIANTS, what="bug")
    if seed is not None:
        seeds = max(seeds or 0, seed + 1)
    todo = [e for e in entries(profile=profile, seeds=seeds) if e.status != "fresh"]
    todo = [e for e in todo if bug in (None, e.row.name) and seed in (None, e.config.seed)]
    committed = plan(profile, seeds)[1]
    for number, entry in enumerate(todo, 1):
        head = f"[{number}/{len(todo)}] {EXPERIMENT}.{entry.row.name} seed {entry.config.seed}"
        report(head)
        try:
            price(entry, committed=committed, report=lambda line, h=head: report(f"{h}  {line}"))
        except DataError:
            raise
        except (
            TrainingError,
            ValueError,
        ) as error:  # a bug may well end in NaN: the others are priced all the same
            report(f"{head}  no record: {error}")
    return entries(profile=profile, seeds=seeds)


def main(words: list[str] | None = None) -> int:
    """The command line; a `UserError` becomes a message and exit code 1."""
    parser = argparse.ArgumentParser(
        prog="python -m dabook.runs.bugs", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--profile", default="study")
    parser.add_argument("--bug", help=f"one of {', '.join(VARIANTS)} (default: all)")
    parser.add_argument("--seed", type=int, help="one seed (default: all)")
    parser.add_argument("--seeds", type=int, help=f"how many, counted from 0 (default: {SEEDS})")
    parser.add_argument("--list", action="store_true", help="only say what is recorded")
    args = parser.parse_args(words)
    options = {k: v for k, v in vars(args).items() if k != "list"}
    try:
        if args.seeds is not None and args.seeds < 1:
            raise ConfigError(f"seeds: {args.seeds} is not at least 1")
        found = entries(profile=args.profile, seeds=args.seeds) if args.list else run(**options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for e in found if args.list else ():
        print(f"{e.status:8}{e.row.name} seed {e.config.seed}")
    fresh = sum(e.status == "fresh" for e in found)
    print(f"{fresh} of {len(found)} are recorded")
    return 0


if __name__ == "__main__":
    sys.exit(main())
