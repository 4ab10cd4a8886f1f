"""Where training runs: in this process when one is asked for, through `accelerate launch` when
several are."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from dalib import provenance
from dalib.config import RunConfig
from dalib.data.catalogue import open_source
from dalib.data.mixture import Concat
from dalib.errors import Stopped, TrainingError, UserError
from dalib.models.depth_anything import restore
from dalib.progress import decode, encode, headed
from dalib.stopping import STOP, Stop, listening
from dalib.training import pseudo, selection
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
    set_aside,
    trained,
)
from dalib.training.processes import refuse_other_launcher, wait_for_launcher
from dalib.training.train import SNAPSHOTS, train
from dalib.writing import write_text

# how a process's lines begin that are meant for the one that started it
SAYS, ENDS = "dalib: ", "dalib stops: "
WORKERS = (
    # the lock that the processes of a job share: where one outlives its parent, the next job waits
    # for it
    "workers"
)
# how long processes wait for one another, as while one lists millions of files
PATIENCE = timedelta(hours=12)


def sources(config: RunConfig) -> tuple[Concat, Concat | None]:
    """The labelled source, and the unlabelled one where the run has one."""

    def concat(names, count):
        return Concat(
            *(
                open_source(name, count=count, height=config.height, width=config.width)
                for name in names
            )
        )

    labelled = concat(config.labelled, config.labelled_images)
    return labelled, concat(
        config.unlabelled, config.unlabelled_images
    ) if config.pseudo_labels else None


def ensure_weights(
    config: RunConfig,
    *,
    processes: int = 1,
    afresh: bool = False,
    report: Callable[[str], None] = print,
) -> Path:
    """Weights of a run, trained by this very code or by code certified to give the same bits; a
    whole run is not trained again.

    A student's teacher is seen to first. What another version of the code left in the run's folder
    is set aside, never removed.

    Args:
        config: the run.
        processes: training processes.
        afresh: train even where there are weights; what lies in the folder is set aside.
        report: receives lines of progress.

    Raises:
        ConfigError: another launcher's environment, see `refuse_other_launcher`.
        TrainingError: training ended without weights.
        Stopped: a signal ended it early, with its state saved.
    """
    refuse_other_launcher()
    out, stamp = folder(config), provenance.code_hash("training")
    if trained(config) and not afresh:
        for line in _changed_data(config):
            report(line)
        return out / WEIGHTS
    for role, needed in before(config).items():
        ensure_weights(
            needed,
            processes=processes,
            report=lambda line, role=role: report(headed(f"{role}: ", line)),
        )
    with listening(Stop()) as stop, held(out, report=report):
        with held(out, report=report, role=WORKERS):
            pass  # processes of a job whose parent is gone have saved their state
        if trained(config) and not afresh:
            return out / WEIGHTS  # by the job that held the folder before
        if (code := other_code(out)) is not None:
            set_aside(out, f"code-{code}", report)
        elif afresh and out.exists():
            set_aside(out, "before", report)
        out.mkdir(parents=True, exist_ok=True)
        (out / STOP).unlink(missing_ok=True)
        job = {"config": config.to_dict(), "out": str(out), "processes": processes, "stamp": stamp}
        write_text(out / JOB, json.dumps(job | {"parent": os.getpid()}, indent=1))
        if processes == 1:
            execute(job, stop=stop, report=report)
        else:
            _accelerate(out / JOB, processes, stop, report)
    if not trained(config):
        raise TrainingError(f"{out}: training ended without weights; its output above says why")
    return out / WEIGHTS


def _changed_data(config: RunConfig) -> list[str]:
    """What a reader should know of a whole run: which of its folders and data sets hold other
    images now. Scenes never change."""
    out = folder(config)
    names = (*config.labelled, *(config.unlabelled if config.pseudo_labels else ()))
    if all(name.startswith("scenes:") for name in names):
        return []
    try:
        labelled, unlabelled = sources(config)
    except UserError as error:  # gone, perhaps; the weights are still what they were
        return [str(error)]
    return [
        f"{role}: {what}; the weights in {out} are of the images as they were, --retrain makes "
        "others"
        for role, what in changed(out, {"labelled": labelled, "unlabelled": unlabelled}).items()
    ]


def before(config: RunConfig) -> dict[str, RunConfig]:
    """The runs that a run builds on, each with its role in it."""
    needed = {}
    if config.pseudo_labels and (config.labelling != "oracle" or config.start == "teacher"):
        needed["teacher"] = config.teacher()
    if config.selection == "stable_first":
        needed["student of the stable half"] = config.replace(selection="stable")
    return needed


def execute(job: dict, *, stop: Stop | None = None, report: Callable[[str], None] = print) -> None:
    """Label the pool where the run has one, train, and leave `train.json` behind. Runs in each
    process of the job."""
    config, out = RunConfig.from_dict(job["config"]), Path(job["out"])
    cpu, clock = parse_flag_from_env("ACCELERATE_USE_CPU"), Clock(out)
    state = PartialState(cpu=cpu, timeout=PATIENCE)
    with state.main_process_first():  # which also renders what is rendered once
        labelled, unlabelled = sources(config)
    labels = teacher = pool = None
    weights = folder(config.teacher()) / WEIGHTS
    if unlabelled is not None and config.labelling == "online":
        teacher = restore(weights, expect=config.encoder)
    elif unlabelled is not None and config.labelling == "stored":
        labels = _pseudo_labels(config, config.teacher(), unlabelled, state, stop, report)
    if config.selection != "none":
        pool = _stable(config, unlabelled, labels, state, report)
    if config.selection == "stable_first":
        later = _pseudo_labels(
            config, config.replace(selection="stable"), unlabelled, state, stop, report
        )
        labels, pool = selection.Relabelled(labels, later, kept=pool), None
    train(
        config,
        out=out,
        labelled=labelled,
        unlabelled=unlabelled,
        pool=pool,
        pseudo=labels,
        teacher=teacher,
        start_from=weights if config.start == "teacher" else None,
        processes=job["processes"],
        stamp=job["stamp"],
        stop=stop,
        clock=clock,
        report=report,
    )
    if state.is_main_process:
        done = {
            "stamp": job["stamp"],
            "processes": job["processes"],
            "threads": torch.get_num_threads(),
            "wall_seconds": round(clock.tick(), 1),
            "legs": clock.legs,
            "peak_memory_mb": round(_peak_memory()),
        }
        write_text(out / DONE, json.dumps(done))
        for checkpoint in found(out):  # only now: the weights and what is said of them are whole
            checkpoint.unlink()
    if stop is not None and (reason := stop.reason()):
        raise Stopped(f"{out}: is trained; stopped by {reason} before anything else")


def _pseudo_labels(
    config: RunConfig,
    by: RunConfig,
    unlabelled: Concat,
    state: PartialState,
    stop: Stop | None,
    report,
) -> pseudo.PseudoLabels:
    """A run's labels of this pool, made once and shared by every student of that teacher."""
    weights = folder(by) / WEIGHTS
    teacher = pseudo.sha256(weights)[:16]
    size = {"height": config.height, "width": config.width}
    out = weights.parent / f"pseudo-{unlabelled.fingerprint[:12]}-{teacher}"

    alone = held(out, report=report, role=by.hash()) if state.is_main_process else nullcontext()
    # another student of this teacher may be at it; from here on nobody else writes the manifest
    with alone:
        state.wait_for_everyone()
        if not (out / pseudo.MANIFEST).exists():
            if state.is_main_process:
                report(f"labelling {len(unlabelled)} images")
            model = restore(weights, expect=config.encoder).to(
                state.device, memory_format=torch.channels_last
            )
            share = {"rank": state.process_index, "world": state.num_processes}
            with torch.autocast(
                state.device.type, torch.bfloat16, enabled=config.precision == "bf16"
            ):
                pseudo.label(
                    model, unlabelled, out=out, teacher=teacher, stop=stop, **share, **size
                )
            state.wait_for_everyone()
            if state.is_main_process:
                pseudo.finish(out, teacher=teacher, source=unlabelled, **size)
            state.wait_for_everyone()
    return pseudo.PseudoLabels(out, teacher=teacher, source=unlabelled)


def _stable(
    config: RunConfig, unlabelled: Concat, labels: pseudo.PseudoLabels, state: PartialState, report
) -> np.ndarray:
    """Indices of the stabler half of the pool, found by the main process and kept beside the pseudo
    labels."""
    path = labels.path / selection.STABILITY
    if state.is_main_process and not path.exists():
        report(f"comparing the labels of {len(unlabelled)} images over the teacher's training")
        before = [folder(config.teacher()) / name for name in SNAPSHOTS]
        networks = [
            restore(p, expect=config.encoder).to(state.device, memory_format=torch.channels_last)
            for p in before
        ]
        error = selection.instability(
            networks, unlabelled, labels, height=config.height, width=config.width
        )
        selection.write(path, error)
    state.wait_for_everyone()
    return selection.stable_half(selection.read(path))


def _peak_memory() -> float:
    """Greatest memory of this process in MB: of the accelerator where there is one, resident
    otherwise."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # of this process alone; ru_maxrss begins with what its parent had
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )


def _accelerate(job: Path, processes: int, stop: Stop, report: Callable[[str], None]) -> None:
    """Run a job in several processes, pass on what they print, and a request to stop to them."""
    env = dict(os.environ)
    if not torch.cuda.is_available():
        env |= {"ACCELERATE_USE_CPU": "true"}
        env.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    words = [
        "--multi_gpu",
        "--num_processes",
        str(processes),
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
    ]
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        *words,
        "--main_process_port",
        "0",
        "-m",
        "dalib.training.train",
        str(job),
    ]
    tail, errors = [], []
    with (
        stop.defer(relay=job.with_name(STOP)),
        subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        for line in process.stdout:
            tail = [*tail[-120:], line.rstrip()]
            if line.startswith(SAYS):
                report(decode(line.removeprefix(SAYS).rstrip()))
            if line.startswith(ENDS):
                errors.append(line.removeprefix(ENDS).rstrip())
    stopped = [line.partition(": ")[2] for line in errors if line.startswith(Stopped.__name__)]
    if stopped:
        raise Stopped(stopped[0])
    if stop.reason():
        raise Stopped(
            f"{job.parent}: stopped by {stop.reason()}; run again to go on from its last checkpoint"
        )
    if process.returncode:
        raise TrainingError(
            f"accelerate launch ended with code {process.returncode}:\n"
            + "\n".join(dict.fromkeys(errors) or tail)
        )


def worker(path: str) -> None:
    """Entry of each process that `accelerate launch` starts."""
    job, out = read_json(Path(path)), Path(path).parent
    try:
        if job.get("stamp") != provenance.code_hash("training"):
            raise TrainingError("the code was edited after this run began; run again")
        stop = Stop(file=out / STOP, parent=job["parent"])
        with listening(stop), held(out, report=_say, role=WORKERS, shared=True):
            wait_for_launcher(stop)
            execute(job, stop=stop, report=_say)
    except UserError as error:
        # in one line
        print(ENDS.rstrip(), f"{type(error).__name__}:", *str(error).split(), flush=True)
        raise SystemExit(error.exit_code) from error
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _say(line: str) -> None:
    print(f"{SAYS}{encode(line)}", flush=True)
