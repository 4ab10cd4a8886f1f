"""What a run leaves behind while it goes: a line of metrics per logged step, the state to go on
from, the state before a failure."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from dalib import certificates
from dalib.config import RunConfig
from dalib.errors import DataError, TrainingError
from dalib.training import sharding
from dalib.writing import whole, write_text

CHECKPOINTS = "checkpoint"
KEPT = 2
"""So many checkpoints stay: should the last one be damaged, the one before it serves."""


class Log:
    """metrics.jsonl, one line per logged step; lines after the step that training resumes from are
    dropped."""

    def __init__(self, path: Path, start: int):
        lines = path.read_text().splitlines() if start and path.exists() else []
        whole_lines = [line for line in lines if line.endswith("}")]  # a kill may halve one
        kept = [line for line in whole_lines if json.loads(line)["step"] <= start]
        write_text(path, "".join(line + "\n" for line in kept))
        self.path = path

    def write(self, **values) -> None:
        """Append one line; tensors become numbers."""
        line = json.dumps({k: float(v) if k != "step" else v for k, v in values.items()})
        try:
            with self.path.open("a") as file:
                file.write(line + "\n")
        except OSError as error:
            raise DataError(
                f"{self.path}: could not be written ({error}); free some space and run again"
            ) from error


def keep(
    out: Path,
    student: nn.Module | sharding.Written,
    optimiser,
    *,
    step: int,
    stamp: str,
    name: str = CHECKPOINTS,
) -> Path:
    """Full state, whole or not at all; the last `KEPT` stay. Every random number is a function of
    (seed, step): none is kept. What is sharded has been gathered before, by `sharding.whole`.

    Raises `DataError`, which names the file, where the disk refuses; the checkpoints before it are
    untouched.
    """
    path = out / name / f"step-{step:09d}.pt"
    state = {
        "step": step,
        "stamp": stamp,
        "model": student.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    with whole(path, also=(RuntimeError,)) as partial:
        torch.save(state, partial)
    for older in found(out, name)[KEPT:]:
        older.unlink(missing_ok=True)
    return path


def found(out: Path, name: str = CHECKPOINTS) -> list[Path]:
    """The checkpoints in a run's folder, latest first."""
    return sorted((out / name).glob("step-*.pt"), reverse=True)


def set_foreign_aside(out: Path, stamp: str) -> None:
    """Give checkpoints of other code a name that no run goes on from, so that they neither mislead
    nor are pruned."""
    for path in found(out):
        try:
            theirs = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["stamp"]
        except Exception:  # damaged: `resume` says so
            continue
        if theirs != stamp and not certificates.unchanged("training", theirs, stamp):
            path.rename(path.with_name(f"code-{theirs}-{path.name}"))


def resume(
    out: Path,
    student: nn.Module,
    optimiser,
    *,
    config: RunConfig,
    main: bool,
    report: Callable[[str], None] = print,
) -> int:
    """Load the latest readable checkpoint of this very run, if there is one, and return the step to
    go on with.

    A damaged checkpoint is passed over for the one before it, with a line. Where none is readable a
    `TrainingError` names them: to start anew is for the user to decide.
    """
    damaged = {}
    for path in found(out):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            sharding.load(student, optimiser, state)
        except Exception as error:  # truncated or foreign
            damaged[path] = " ".join(str(error).split())[:200]
            continue
        if main and damaged:
            report(
                f"{', '.join(map(str, damaged))}: unreadable; going on from step "
                f"{state['step']} of {path.name}"
            )
        return state["step"]
    if damaged:
        files = "; ".join(f"{path} ({error})" for path, error in damaged.items())
        raise TrainingError(
            f"unreadable checkpoint: {files}; move {out / CHECKPOINTS} away to start again"
        )
    if main:
        write_text(out / "config.json", json.dumps(config.to_dict(), indent=1) + "\n")
    return 0


def not_finite(
    accelerator: Accelerator,
    out: Path,
    student: nn.Module,
    optimiser,
    step: int,
    batch: dict,
    parts: dict,
) -> None:
    """Save the state before the bad step and say which images it saw."""
    mine = {k: v.tolist() for k, v in batch.items() if k.endswith("index")}
    ids = {k: [] for k in mine}
    for part in gather_object([mine]):  # of all processes
        for k in ids:
            ids[k] += part[k]
    path = out / "failed"
    weights = sharding.Written(sharding.whole(student.state_dict()))  # by all processes together
    moments = sharding.Written(sharding.whole(optimiser.state_dict()))
    if accelerator.is_main_process:
        path = keep(out, weights, moments, step=step, stamp="", name="failed")
    values = ", ".join(f"{k} {v.item():g}" for k, v in parts.items())
    raise TrainingError(
        f"the loss or its gradient is not finite at step {step} ({values}); "
        f"labelled images {ids['index']}, unlabelled {ids.get('pool_index', [])}. "
        f"The state before that step is in {path}; look at those images, or lower encoder_lr."
    )
