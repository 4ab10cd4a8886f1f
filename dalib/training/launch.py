"""Where training runs: in this process when one is asked for, through `accelerate launch` when several are."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from dalib import paths
from dalib.config import RunConfig
from dalib.data.catalogue import open_source
from dalib.data.mixture import Concat
from dalib.errors import TrainingError, UserError
from dalib.models.depth_anything import restore
from dalib.provenance import code_hash
from dalib.training import pseudo, selection
from dalib.training.train import SNAPSHOTS, WEIGHTS, train

DONE = "train.json"
PATIENCE = timedelta(hours=12)  # how long processes wait for one another, as while one lists millions of files


def folder(config: RunConfig) -> Path:
    """Where a run keeps its files."""
    return paths.runs() / config.hash()


def sources(config: RunConfig) -> tuple[Concat, Concat | None]:
    """The labelled source, and the unlabelled one where the run has one."""

    def concat(names, count):
        return Concat(*(open_source(name, count=count, height=config.height, width=config.width) for name in names))

    labelled = concat(config.labelled, config.labelled_images)
    return labelled, concat(config.unlabelled, config.unlabelled_images) if config.pseudo_labels else None


def ensure_weights(config: RunConfig, *, processes: int = 1, report: Callable[[str], None] = print) -> Path:
    """Weights of a run, trained by this very code; a run that is already whole is not trained again.

    A student's teacher is seen to first. Raises `TrainingError` if training ends without weights.
    """
    out, stamp = folder(config), code_hash()
    if trained(config):
        return out / WEIGHTS
    for role, needed in before(config).items():
        ensure_weights(needed, processes=processes, report=lambda line, role=role: report(f"{role}: {line}"))
    if out.exists() and _stamp(out / "job.json") != stamp:
        shutil.rmtree(out)  # left by another version of the code
    out.mkdir(parents=True, exist_ok=True)
    job = {"config": config.to_dict(), "out": str(out), "processes": processes, "stamp": stamp}
    (out / "job.json").write_text(json.dumps(job, indent=1))
    if processes == 1:
        execute(job, report=report)
    else:
        _accelerate(out / "job.json", processes, report)
    if not trained(config):
        raise TrainingError(f"{out}: training ended without weights; its output above says why")
    return out / WEIGHTS


def before(config: RunConfig) -> dict[str, RunConfig]:
    """The runs that a run builds on, each with its role in it."""
    needed = {}
    if config.pseudo_labels and (config.labelling != "oracle" or config.start == "teacher"):
        needed["teacher"] = config.teacher()
    if config.selection == "stable_first":
        needed["student of the stable half"] = config.replace(selection="stable")
    return needed


def trained(config: RunConfig) -> bool:
    """Whether the run's weights are there and of this version of the code."""
    out = folder(config)
    return (out / WEIGHTS).exists() and _stamp(out / DONE) == code_hash()


def _stamp(path: Path) -> str | None:
    try:
        return json.loads(path.read_text())["stamp"]
    except (OSError, ValueError, KeyError):
        return None


def execute(job: dict, *, report: Callable[[str], None] = print) -> None:
    """Label the pool where the run has one, train, and leave `train.json` behind. Runs in each process of the job."""
    config, out = RunConfig.from_dict(job["config"]), Path(job["out"])
    cpu, begun = parse_flag_from_env("ACCELERATE_USE_CPU"), time.perf_counter()
    state = PartialState(cpu=cpu, timeout=PATIENCE)
    with state.main_process_first():  # which also renders what is rendered once
        labelled, unlabelled = sources(config)
    labels = teacher = pool = None
    weights = folder(config.teacher()) / WEIGHTS
    if unlabelled is not None and config.labelling == "online":
        teacher = restore(weights, expect=config.encoder)
    elif unlabelled is not None and config.labelling == "stored":
        labels = _pseudo_labels(config, config.teacher(), unlabelled, state, report)
    if config.selection != "none":
        pool = _stable(config, unlabelled, labels, state, report)
    if config.selection == "stable_first":
        later = _pseudo_labels(config, config.replace(selection="stable"), unlabelled, state, report)
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
        report=report,
    )
    if state.is_main_process:
        done = {
            "stamp": job["stamp"],
            "processes": job["processes"],
            "threads": torch.get_num_threads(),
            "wall_seconds": round(time.perf_counter() - begun, 1),
            "peak_memory_mb": round(_peak_memory()),
        }
        partial = out / (DONE + ".partial")
        partial.write_text(json.dumps(done))
        os.replace(partial, out / DONE)


def _pseudo_labels(
    config: RunConfig, by: RunConfig, unlabelled: Concat, state: PartialState, report
) -> pseudo.PseudoLabels:
    """A run's labels of this pool, made once and shared by every student of that teacher."""
    weights = folder(by) / WEIGHTS
    teacher = pseudo.sha256(weights)[:16]
    size = {"height": config.height, "width": config.width}
    out = weights.parent / f"pseudo-{unlabelled.fingerprint[:12]}-{teacher}"
    if not (out / pseudo.MANIFEST).exists():
        if state.is_main_process:
            report(f"labelling {len(unlabelled)} images")
        model = restore(weights, expect=config.encoder).to(state.device, memory_format=torch.channels_last)
        share = {"rank": state.process_index, "world": state.num_processes}
        with torch.autocast(state.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            pseudo.label(model, unlabelled, out=out, teacher=teacher, **share, **size)
        state.wait_for_everyone()
        if state.is_main_process:
            pseudo.finish(out, teacher=teacher, source=unlabelled, **size)
        state.wait_for_everyone()
    return pseudo.PseudoLabels(out, teacher=teacher, source=unlabelled)


def _stable(
    config: RunConfig, unlabelled: Concat, labels: pseudo.PseudoLabels, state: PartialState, report
) -> np.ndarray:
    """Indices of the stabler half of the pool, found by the main process and kept beside the pseudo labels."""
    path = labels.path / selection.STABILITY
    if state.is_main_process and not path.exists():
        report(f"comparing the labels of {len(unlabelled)} images over the teacher's training")
        before = [folder(config.teacher()) / name for name in SNAPSHOTS]
        networks = [
            restore(p, expect=config.encoder).to(state.device, memory_format=torch.channels_last) for p in before
        ]
        error = selection.instability(networks, unlabelled, labels, height=config.height, width=config.width)
        selection.write(path, error)
    state.wait_for_everyone()
    return selection.stable_half(selection.read(path))


def _peak_memory() -> float:
    """Greatest memory of this process in MB: of the accelerator where there is one, resident otherwise."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # of this process alone; ru_maxrss begins with what its parent had
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _accelerate(job: Path, processes: int, report: Callable[[str], None]) -> None:
    """Run a job in several processes and pass on what they print."""
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
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        tail, errors = [], []
        for line in process.stdout:
            tail = [*tail[-120:], line.rstrip()]
            if line.startswith("dalib: "):
                report(line.removeprefix("dalib: ").rstrip())
            if line.startswith("dalib stops: "):
                errors.append(line.removeprefix("dalib stops: ").rstrip())
    if process.returncode:
        raise TrainingError(
            f"accelerate launch ended with code {process.returncode}:\n" + "\n".join(dict.fromkeys(errors) or tail)
        )


def worker(path: str) -> None:
    """Entry of each process that `accelerate launch` starts."""
    job = json.loads(Path(path).read_text())
    try:
        if job["stamp"] != code_hash():
            raise TrainingError("the code was edited after this run began; run again")
        execute(job, report=lambda line: print(f"dalib: {line}", flush=True))
    except UserError as error:
        print(f"dalib stops: {type(error).__name__}:", *str(error).split(), flush=True)  # in one line
        raise SystemExit(1) from error
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
