"""The state of a run to go on from, and the state before a failure."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from dalib import certificates
from dalib.config import RunConfig
from dalib.errors import TrainingError
from dalib.training import sharding
from dalib.writing import whole, write_text

CHECKPOINTS = "checkpoint"
KEPT = 2
"""So many checkpoints stay: should the last one be damaged, the one before it serves."""


def keep(
    out: Path,
    student: nn.Module | sharding.Written,
    optimiser,
    *,
    step: int,
    stamp: str,
    name: str = CHECKPOINTS,
    more: Mapping[str, Any] | None = None,
) -> Path:
    """Full state, whole or not at all; the last `KEPT` stay. Every random number is a function of
    (seed, step): none is kept. What is sharded has been gathered before, by `sharding.whole`.
    `more` has a state by name, as the student has one.

    Raises `DataError`, which names the file, where the disk refuses; the checkpoints before it are
    untouched.
    """
    path = out / name / f"step-{step:09d}.pt"
    state = {
        "step": step,
        "stamp": stamp,
        "model": student.state_dict(),
        "optimiser": optimiser.state_dict(),
        **{name: part.state_dict() for name, part in (more or {}).items()},
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
    more: Mapping[str, Any] | None = None,
) -> int:
    """Load the latest readable checkpoint of this very run, if there is one, and return the step to
    go on with. `more` as `keep` was given it.

    A damaged checkpoint is passed over for the one before it, with a line. Where none is readable a
    `TrainingError` names them: to start anew is for the user to decide.
    """
    damaged = {}
    for path in found(out):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            sharding.load(student, optimiser, state)
            for name, part in (more or {}).items():
                part.load_state_dict(state[name])
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
