"""What a run leaves behind while it goes: a line of metrics per logged step, the state to go on from, the state before a failure."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from dalib.config import RunConfig
from dalib.errors import TrainingError


class Log:
    """metrics.jsonl, one line per logged step; lines after the step that training resumes from are dropped."""

    def __init__(self, path: Path, start: int):
        kept: Iterable[str] = path.read_text().splitlines() if start and path.exists() else ()
        kept = [
            line for line in kept if line.endswith("}") and json.loads(line)["step"] <= start
        ]  # a kill may halve one
        path.write_text("".join(line + "\n" for line in kept))
        self.path = path

    def write(self, **values) -> None:
        """Append one line; tensors become numbers."""
        line = json.dumps({k: float(v) if k != "step" else v for k, v in values.items()})
        with self.path.open("a") as file:
            file.write(line + "\n")


def keep(out: Path, student: nn.Module, optimiser, *, step: int, stamp: str, name: str = "checkpoint") -> None:
    """Full state, atomically. There is no random state to keep: every random number is a function of (seed, step)."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "state.pt.partial"
    torch.save(
        {"step": step, "stamp": stamp, "model": student.state_dict(), "optimiser": optimiser.state_dict()}, partial
    )
    os.replace(partial, folder / "state.pt")


def resume(out: Path, student: nn.Module, optimiser, *, config: RunConfig, stamp: str, main: bool) -> int:
    """Load the checkpoint of this very run, if there is one, and return the step to go on with."""
    path = out / "checkpoint" / "state.pt"
    if path.exists():
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            same = state["stamp"] == stamp
        except Exception as error:  # truncated or foreign
            raise TrainingError(
                f"{path}: unreadable checkpoint ({error}); delete {path.parent} to start again"
            ) from error
        if same:
            student.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
            return state["step"]
    if main:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(json.dumps(config.to_dict(), indent=1) + "\n")
    return 0


def stop(
    accelerator: Accelerator, out: Path, student: nn.Module, optimiser, step: int, batch: dict, parts: dict
) -> None:
    """Save the state before the bad step and say which images it saw."""
    ids = {k: v.tolist() for k, v in batch.items() if k.endswith("index")}
    every = gather_object([ids])  # of all processes
    ids = {k: [i for part in every for i in part[k]] for k in ids}
    path = out / "failed" / "state.pt"
    if accelerator.is_main_process:
        keep(out, student, optimiser, step=step, stamp="", name="failed")
    values = ", ".join(f"{k} {v.item():g}" for k, v in parts.items())
    raise TrainingError(
        f"the loss or its gradient is not finite at step {step} ({values}); "
        f"labelled images {ids['index']}, unlabelled {ids.get('pool_index', [])}. "
        f"The state before that step is in {path}; look at those images, or lower encoder_lr."
    )
