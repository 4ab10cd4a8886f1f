"""Where training runs: in this process when one is asked for, through `accelerate launch` when
several are."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from dalib import provenance
from dalib.blocks import GivenNetwork
from dalib.config import RunConfig
from dalib.data.catalogue import open_source
from dalib.data.damaged import Ledger, guarded_run
from dalib.data.mixture import Concat
from dalib.data.resized import at_size
from dalib.errors import ConfigError, Stopped, TrainingError, UserError
from dalib.models.depth_anything import DepthAnything
from dalib.progress import decode, headed
from dalib.stopping import STOP, Stop, listening
from dalib.training import tasks
from dalib.training.checkpoint import found
from dalib.training.folder import (
    DONE,
    JOB,
    WEIGHTS,
    Clock,
    changed,
    folder,
    held,
    other_code,
    read_json,
    read_of,
    set_aside,
    trained,
)
from dalib.training.given import first_weights, pin
from dalib.training.journal import outcome, peak_memory
from dalib.training.labelling import labelling
from dalib.training.machines import (
    Machines,
    Sharding,
    Store,
    hear_out,
    jobs,
    leading,
    machines_of,
    until_shared,
)
from dalib.training.processes import refuse_other_launcher
from dalib.training.trackers import check_trackers
from dalib.training.train import train
from dalib.training.validation import check_validation, validation_of
from dalib.writing import write_text

# how a process's lines begin that are meant for the one that started it
SAYS = "dalib: "
ENDS = "dalib stops: "
# the lock that the processes of a job share: where one outlives its parent, the next job waits for
# it
WORKERS = "workers"
# where the stored labels of a run are that were made before it
LABELS = "labels.json"
# how long processes wait for one another, as while one lists millions of files
PATIENCE = timedelta(hours=12)


def sources(config: RunConfig) -> tuple[Concat | None, Concat | None]:
    """The labelled and the unlabelled source, each where the run has one."""
    opened = {}
    for role, names in config.sources.items():
        wanted = {"count": config.counts[role], "draw": config.drawn, **config.size}
        every = [at_size(open_source(name, **wanted), **config.size) for name in names]
        opened[role] = Concat(*every, weights=config.weights[role])
    return opened.get("labelled"), opened.get("unlabelled")


def ensure_weights(
    config: RunConfig,
    *,
    processes: int = 1,
    accelerate: str | Path | None = None,
    machine_rank: int | None = None,
    afresh: bool = False,
    report: Callable[[str], None] = print,
) -> Path:
    """Weights of a run, trained by this very code or by code certified to give the same bits; a
    whole run is not trained again.

    A student's teacher is seen to first. What another version of the code left in the run's folder
    is set aside, never removed.

    Args:
        config: the run.
        processes: training processes, over all machines.
        accelerate: a configuration of accelerate, for several machines or sharded weights; see
            `dalib.training.machines`.
        machine_rank: which machine this is; by default `SLURM_NODEID`, or the file's.
        afresh: train even where there are weights; what lies in the folder is set aside.
        report: receives lines of progress.

    Raises:
        ConfigError: another launcher's environment, see `refuse_other_launcher`; a configuration
            that cannot be, see `machines_of`; or a tracker that is not there.
        DataError: a source to validate on that is not there, or has no ground truth.
        TrainingError: training ended without weights.
        Stopped: a signal ended it early, with its state saved.
    """
    refuse_other_launcher()
    config = pin(config)
    machines = machines_of(accelerate, processes=processes, machine_rank=machine_rank)
    if machines.count == 1:
        return _ensure(config, machines=machines, afresh=afresh, report=report)
    with listening(Stop()) as stop:
        if machines.rank:
            return _follow(config, machines, stop, report)
        with leading(machines, stop, run=config.hash()) as store:
            return _ensure(config, machines=machines, afresh=afresh, store=store, report=report)


def _ensure(
    config: RunConfig,
    *,
    machines: Machines,
    report: Callable[[str], None],
    afresh: bool = False,
    store: Store | None = None,
) -> Path:
    """`ensure_weights` on the main machine; `store` is how the others hear of each job."""
    out = folder(config)
    stamp = provenance.code_hash("training")  # of the code that is loaded, so before anything long
    if trained(config) and not afresh:
        for line in _changed_data(config):
            report(line)
        return out / WEIGHTS

    # what would stop it only later
    check_validation(config)
    check_trackers(config)

    if machines.sharding is not None:
        _check_sharded(config)
    _ensure_prerequisites(config, machines=machines, store=store, report=report)

    # the run itself, with its folder to itself
    with listening(Stop()) as stop, _alone(out, report=report):
        if trained(config) and not afresh:
            return out / WEIGHTS  # by the job that held the folder before
        _make_room(out, afresh=afresh, report=report)
        options = {"machines": machines, "store": store, "report": report}
        _start(config, out, stamp=stamp, stop=stop, **options)
    if not trained(config):
        raise TrainingError(f"{out}: training ended without weights; its output above says why")
    return out / WEIGHTS


def ensure_labels(
    config: RunConfig, *, processes: int = 1, report: Callable[[str], None] = print
) -> Path:
    """The folder of the stored pseudo labels that a run will read, made now where they are not
    there: by a teacher that is trained first where that is needed. The run itself is not trained.

    Args:
        config: a run with `labelling: stored`.
        processes: that label.
        report: receives lines of progress.

    Raises:
        ConfigError: a run that stores no labels.
        Stopped: a signal ended it early; whole shards are kept.
    """
    refuse_other_launcher()
    config = pin(config)
    if not config.stores_labels:
        raise ConfigError("labelling: this run stores no labels; train makes what it needs")
    out = folder(config)
    stamp = provenance.code_hash("training")
    machines = machines_of(None, processes=processes)
    _ensure_prerequisites(config, machines=machines, store=None, report=report)
    with listening(Stop()) as stop, _alone(out, report=report):
        out.mkdir(parents=True, exist_ok=True)
        (out / STOP).unlink(missing_ok=True)
        options = {"machines": machines, "stamp": stamp, "stop": stop, "report": report}
        _start(config, out, labels_only=True, **options)
    return Path(read_json(out / LABELS)["path"])


def _check_sharded(config: RunConfig) -> None:
    """What a run whose weights lie in parts cannot do yet."""
    asked = [name for name in ("ema", "validate_every") if getattr(config, name)]
    if asked:
        raise ConfigError(
            f"{', '.join(asked)}: not with sharded weights (FSDP); set it to 0, or train with a copy "
            "of the weights in each process"
        )


def _ensure_prerequisites(
    config: RunConfig,
    *,
    machines: Machines,
    store: Store | None,
    report: Callable[[str], None],
) -> None:
    """Weights of the runs that a run builds on."""
    for role, needed in config.prerequisites().items():
        _ensure(
            pin(needed),
            machines=machines,
            store=store,
            report=lambda line, role=role: report(headed(f"{role}: ", line)),
        )


@contextmanager
def _alone(out: Path, *, report: Callable[[str], None]) -> Iterator[None]:
    """A run's folder to oneself, once the processes of a job whose parent is gone have saved their
    state."""
    with held(out, report=report):
        with held(out, report=report, role=WORKERS):
            pass
        yield


def _start(
    config: RunConfig,
    out: Path,
    *,
    machines: Machines,
    stamp: str,
    stop: Stop,
    report: Callable[[str], None],
    store: Store | None = None,
    labels_only: bool = False,
) -> None:
    """Do a job here, or in processes of their own."""
    job = _write_job(config, out, machines=machines, stamp=stamp, labels_only=labels_only)
    if machines.processes == 1:
        execute(job, stop=stop, report=report)
        return
    if store is not None:
        store.tell({"job": job})
    _accelerate(out / JOB, machines, stop, report)


def _follow(
    config: RunConfig, machines: Machines, stop: Stop, report: Callable[[str], None]
) -> Path:
    """`ensure_weights` on any other machine: start its share of each job that the main one gives
    out, until the run is whole."""
    stamp = provenance.code_hash("training")
    report(f"machine {machines.rank} waits for {machines.address}")
    for job in jobs(machines, stop, run=config.hash()):
        if job["stamp"] != stamp:
            raise TrainingError(
                f"the code of this machine ({stamp}) is not that of the main one ({job['stamp']}); "
                "bring both to one commit"
            )
        path = Path(job["out"]) / JOB
        until_shared(path, _text(job), stop)
        try:
            _accelerate(path, machines, stop, report)
        except TrainingError as error:
            raise TrainingError(f"{error}\n{hear_out(machines)}") from error
    return folder(config) / WEIGHTS


def _make_room(out: Path, *, afresh: bool, report: Callable[[str], None]) -> None:
    """Set aside what may not be gone on with, and see that there is a folder and no old request to
    stop in it."""
    code = other_code(out)
    if code is not None:
        set_aside(out, f"code-{code}", report)
    elif afresh and out.exists():
        set_aside(out, "before", report)
    out.mkdir(parents=True, exist_ok=True)
    (out / STOP).unlink(missing_ok=True)


def _write_job(
    config: RunConfig, out: Path, *, machines: Machines, stamp: str, labels_only: bool
) -> dict:
    """What each process is told, in a file for those that are processes of their own."""
    sharding = machines.sharding
    job = {
        "config": config.to_dict(),
        "out": str(out),
        "processes": machines.processes,
        "sharding": None if sharding is None else asdict(sharding),
        "stamp": stamp,
        "labels_only": labels_only,
    }
    write_text(out / JOB, _text(job))
    return job


def _text(job: dict) -> str:
    return json.dumps(job, indent=1)


def _changed_data(config: RunConfig) -> list[str]:
    """What a reader should know of a whole run: which of its folders and data sets hold other
    images now. Scenes never change."""
    out = folder(config)
    names = [name for chosen in config.sources.values() for name in chosen]
    if all(name.startswith("scenes:") for name in names):
        return []
    try:
        labelled, unlabelled = sources(config)
    except UserError as error:  # gone, perhaps; the weights are still what they were
        return [str(error)]
    return [
        f"{role}: {what}; the weights in {out} are of the images as they were (move that folder "
        "away to train anew)"
        for role, what in changed(out, {"labelled": labelled, "unlabelled": unlabelled}).items()
    ]


def execute(job: dict, *, stop: Stop | None = None, report: Callable[[str], None] = print) -> None:
    """Label the pool where the run has one, train, and leave `train.json` behind. Runs in each
    process of the job."""
    config = RunConfig.from_dict(job["config"])
    out = Path(job["out"])
    clock = Clock(out)
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
    state = PartialState(cpu=cpu, timeout=PATIENCE)

    # the images, their labels, the first weights
    with state.main_process_first():  # which also renders what is rendered once
        labelled, unlabelled = sources(config)
        validation = validation_of(config)
    roles = {"labelled": labelled, "unlabelled": unlabelled}
    roles, ledger = guarded_run(out, config, roles, report=report)
    labelled, unlabelled = roles["labelled"], roles["unlabelled"]
    labels = labelling(config, unlabelled, state=state, stop=stop, report=report)
    if job.get("labels_only"):
        if state.is_main_process:
            write_text(out / LABELS, json.dumps({"path": str(labels.stored.path)}) + "\n")
        return
    first = first_network(config)

    # training
    train(
        config,
        out=out,
        labelled=labelled,
        unlabelled=unlabelled,
        pool=labels.pool,
        pseudo=labels.pseudo,
        teacher=labels.teacher,
        first=first,
        validation=validation,
        processes=job["processes"],
        sharding=None if job.get("sharding") is None else Sharding(**job["sharding"]),
        stamp=job["stamp"],
        stop=stop,
        clock=clock,
        ledger=ledger,
        report=report,
    )

    # what is said of it
    if state.is_main_process:
        _finish(out, job, clock, ledger)
    reason = None if stop is None else stop.reason()
    if reason:
        raise Stopped(f"{out}: is trained; stopped by {reason} before anything else")


def first_network(config: RunConfig) -> DepthAnything | None:
    """The network whose weights a student begins with; None where the pre-trained encoder's are."""
    start = config.starts_from()
    if start is None:
        return None
    if isinstance(start, GivenNetwork):
        return first_weights(config, start)
    return tasks.of(start).restore(folder(start) / WEIGHTS)


def _finish(out: Path, job: dict, clock: Clock, ledger: Ledger | None) -> None:
    """Say of the weights how they were made, which makes the run a whole one."""
    done = {
        "stamp": job["stamp"],
        "processes": job["processes"],
        "threads": torch.get_num_threads(),
        "wall_seconds": round(clock.tick(), 1),
        "legs": clock.legs,
        "peak_memory_mb": round(peak_memory()),
        **outcome(out),
    }
    data = read_of(out, RunConfig.from_dict(job["config"]))
    if data:
        done["data"] = data
    if ledger is not None:
        done["damaged"] = ledger.counts()
    write_text(out / DONE, json.dumps(done))
    for checkpoint in found(out):  # only now: the weights and what is said of them are whole
        checkpoint.unlink()


def _accelerate(job: Path, machines: Machines, stop: Stop, report: Callable[[str], None]) -> None:
    """Run this machine's processes of a job, pass on what they print, and a request to stop to
    them."""
    tail: list[str] = []
    ends: list[str] = []
    with (
        stop.defer(relay=job.with_name(STOP)),
        subprocess.Popen(
            _command(job, machines),
            env=_environment(machines),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_deaf,
        ) as process,
    ):
        for line in process.stdout:
            tail = [*tail[-120:], line.rstrip()]
            if line.startswith(SAYS):
                report(decode(line.removeprefix(SAYS).rstrip()))
            if line.startswith(ENDS):
                ends.append(line.removeprefix(ENDS).rstrip())

    # how it ended
    stopped = [line.partition(": ")[2] for line in ends if line.startswith(Stopped.__name__)]
    if stopped:
        raise Stopped(stopped[0])
    if stop.reason():
        raise Stopped(
            f"{job.parent}: stopped by {stop.reason()}; run again to go on from its last checkpoint"
        )
    if process.returncode:
        words = list(dict.fromkeys(ends)) or tail
        raise TrainingError(
            f"accelerate launch ended with code {process.returncode}:\n" + "\n".join(words)
        )


def _deaf() -> None:
    """For the launcher: SLURM sends SIGUSR1 to all processes of a job. Those that train listen to
    it; the launcher would die of it, and they with it."""
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def _environment(machines: Machines) -> dict[str, str]:
    """This process's, and where there is no GPU the cores shared out."""
    env = dict(os.environ)
    for name in ("MASTER_ADDR", "MASTER_PORT"):  # said to the launcher, which sets them anew
        env.pop(name, None)
    if machines.cpu or not torch.cuda.is_available():
        threads = max(1, (os.cpu_count() or 1) // machines.processes_here)
        env["ACCELERATE_USE_CPU"] = "true"
        env.setdefault("OMP_NUM_THREADS", str(threads))
    return env


def _command(job: Path, machines: Machines) -> list[str]:
    """What starts the processes. The file's own words come first; of what stands here it has no
    say."""
    options = {} if machines.file is None else {"--config_file": str(machines.file.resolve())}
    options |= {
        "--num_processes": str(machines.processes),
        "--num_machines": str(machines.count),
        "--mixed_precision": "no",
        "--dynamo_backend": "no",
        "--main_process_port": str(machines.port),
    }
    if machines.count > 1:
        options |= {
            "--machine_rank": str(machines.rank),
            "--main_process_ip": machines.address,
        }
    words = [word for option in options.items() for word in option]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", *words]
    return [*launcher, "-m", "dalib.training.worker", str(job), str(os.getpid())]
