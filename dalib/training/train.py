"""One flat loop for teacher and student. What differs between them is in the config: whether there are unlabelled images."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import gather_object
from torch import nn
from torch.utils.data import DataLoader

from dalib import losses
from dalib.config import RunConfig
from dalib.data import perturb
from dalib.data.mixture import Mixture
from dalib.data.schema import Source
from dalib.errors import TrainingError
from dalib.models.depth_anything import DepthAnything, build, save
from dalib.models.encoder import Encoder
from dalib.training.pseudo import PseudoLabels

WEIGHTS = "model.safetensors"


def train(
    config: RunConfig,
    *,
    out: Path,
    labelled: Source,
    unlabelled: Source | None = None,
    pseudo: PseudoLabels | None = None,
    processes: int = 1,
    stamp: str = "",
    report: Callable[[str], None] = print,
) -> Path:
    """Train a teacher (no unlabelled images) or a student, and write `out/model.safetensors`.

    A run that was killed goes on from its last checkpoint and ends with the same bits as one that was not.

    Args:
        config: everything that can change the result.
        out: the run's folder: config.json, metrics.jsonl, checkpoint/, and at the end the weights.
        labelled, unlabelled, pseudo: the sources and the stored pseudo labels of the unlabelled one.
        processes: the world size that was asked for; another one is a `TrainingError`.
        stamp: hash of the code; a checkpoint with another stamp is not continued.
        report: receives a line of progress now and then.

    Raises:
        TrainingError: wrong world size, or a loss that is not finite (the state is saved first).
    """
    if not PartialState._shared_state or PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)  # one kernel may train in several precisions
    accelerator = Accelerator(mixed_precision=config.precision)
    if accelerator.num_processes != processes:
        raise TrainingError(
            f"processes: asked for {processes}, but {accelerator.num_processes} run; start training through dalib.training.launch"
        )
    main, device = accelerator.is_main_process, accelerator.device
    student = build(config.encoder, pretrained=config.pretrained, layers=config.layers, seed=config.seed)
    if config.gradient_checkpointing and hasattr(student.encoder.net, "set_grad_checkpointing"):
        student.encoder.net.set_grad_checkpointing()
    student = student.to(device, memory_format=torch.channels_last)
    frozen = _frozen(config, device) if config.align != "none" else None
    optimiser = torch.optim.AdamW(
        [
            {"params": student.encoder.parameters(), "lr": config.encoder_lr},
            {"params": student.decoder.parameters(), "lr": config.encoder_lr * config.decoder_lr_factor},
        ],
        weight_decay=config.weight_decay,
        fused=True,
    )
    rates = [group["lr"] for group in optimiser.param_groups]
    start = _resume(out, student, optimiser, config=config, stamp=stamp, main=main)
    accelerator.wait_for_everyone()
    mixture = Mixture(
        config=config,
        labelled=labelled,
        unlabelled=unlabelled,
        pseudo=pseudo,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    loader = DataLoader(
        mixture,
        batch_size=None,
        sampler=range(start, config.steps),
        num_workers=config.workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # its own, so that the loader does not draw from the global one
    )
    model, optimiser = accelerator.prepare(student, optimiser)
    if config.compile:
        model = torch.compile(model)
    model.train()
    log, begun = Log(out / "metrics.jsonl", start) if main else None, time.perf_counter()
    for step, batch in enumerate(loader, start):
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * schedule(step, steps=config.steps, warmup=config.warmup)
        batch = {k: v.to(device, non_blocking=True) for k, v in batch.items()}
        parts = step_losses(config, model, student, frozen, batch, step)
        loss = losses.total(parts, {"feat": config.align_weight})
        seen = accelerator.reduce(torch.stack([loss.detach(), *(p.detach() for p in parts.values())]), reduction="mean")
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), config.clip)
        if not (torch.isfinite(seen).all() and torch.isfinite(norm)):
            _stop(accelerator, out, student, optimiser, step, batch, parts)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        done = step + 1
        if main and (done % config.log_every == 0 or done == config.steps):
            log.write(step=done, loss=seen[0], **dict(zip(parts, seen[1:], strict=True)), grad_norm=norm)
            left = (time.perf_counter() - begun) / (done - start) * (config.steps - done)
            report(f"step {done}/{config.steps}  loss {seen[0]:.4f}  {left:.0f} s left")
        if main and done % config.checkpoint_every == 0 and done < config.steps:
            _checkpoint(out, student, optimiser, step=done, stamp=stamp)
    if main:
        save(student, out / WEIGHTS)
        shutil.rmtree(out / "checkpoint", ignore_errors=True)
    accelerator.wait_for_everyone()
    return out / WEIGHTS


def step_losses(
    config: RunConfig, model: nn.Module, student: DepthAnything, frozen: Encoder | None, batch: dict, step: int
) -> dict[str, torch.Tensor]:
    """The losses of one step: `labelled` (L_l), and where there are such images `unlabelled` (L_u) and `feat` (L_feat).

    Labelled and perturbed unlabelled images go through the network as one batch.
    """
    n, images, mask = len(batch["image"]), batch["image"].float().div_(255), None
    if "pool_image" in batch:
        pool = batch["pool_image"].float().div_(255)
        keys = [(config.seed, 7, int(p)) for p in batch["pool_position"]]
        drawn = perturb.draw(keys, config.perturb, height=pool.shape[-2], width=pool.shape[-1])
        pool, mask = perturb.apply(pool, drawn)
        images = torch.cat([images, pool])
    images = student.normalise(images).contiguous(memory_format=torch.channels_last)
    pred, features = model(images)
    parts = {"labelled": _mean(losses.affine_invariant(pred[:n].float(), batch["disparity"], batch["valid"]))}
    if "pool_image" in batch:
        around, valid = batch["pool_disparity"], batch["pool_valid"]
        within = around
        if mask is not None:
            other = perturb.partner(len(around)).to(around.device)
            within, valid = around[other], torch.where(mask, valid[other], valid)
        else:
            mask = torch.zeros_like(valid)
        parts["unlabelled"] = _mean(losses.cutmix_unlabelled(pred[n:].float(), within, around, mask, valid))
    if frozen is not None:
        which = {"unlabelled": slice(n, None), "labelled": slice(0, n), "both": slice(None)}[config.align]
        with torch.no_grad():
            reference = frozen(images[which])[-1]
        parts["feat"] = losses.feature_alignment(features[which], reference, margin=config.margin).mean()
    return parts


def _mean(per_image: torch.Tensor) -> torch.Tensor:
    """Mean over the images of the batch. Sources refuse images without valid pixels, so that every one counts."""
    return per_image.mean()


def schedule(step: int, *, steps: int, warmup: int = 0) -> float:
    """Factor of the learning rate: linear warm-up, then linear decay towards 0 at the last step."""
    return (step + 1) / warmup if step < warmup else (steps - step) / max(1, steps - warmup)


def _frozen(config: RunConfig, device: torch.device) -> Encoder:
    """The pre-trained encoder of the student's own kind, frozen (section 3.3)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder = Encoder(name=config.encoder, pretrained=config.pretrained, layers=config.layers)
    return encoder.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


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


def _checkpoint(out: Path, student: nn.Module, optimiser, *, step: int, stamp: str, name: str = "checkpoint") -> Path:
    """Full state, atomically. There is no random state to keep: every random number is a function of (seed, step)."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "state.pt.partial"
    torch.save(
        {"step": step, "stamp": stamp, "model": student.state_dict(), "optimiser": optimiser.state_dict()}, partial
    )
    os.replace(partial, folder / "state.pt")
    return folder / "state.pt"


def _resume(out: Path, student: nn.Module, optimiser, *, config: RunConfig, stamp: str, main: bool) -> int:
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


def _stop(
    accelerator: Accelerator, out: Path, student: nn.Module, optimiser, step: int, batch: dict, parts: dict
) -> None:
    """Save the state before the bad step and say which images it saw."""
    ids = {k: v.tolist() for k, v in batch.items() if k.endswith("index")}
    every = gather_object([ids])  # of all processes
    ids = {k: [i for part in every for i in part[k]] for k in ids}
    if accelerator.is_main_process:
        path = _checkpoint(out, student, optimiser, step=step, stamp="", name="failed")
    else:
        path = out / "failed" / "state.pt"
    values = ", ".join(f"{k} {v.item():g}" for k, v in parts.items())
    raise TrainingError(
        f"the loss or its gradient is not finite at step {step} ({values}); "
        f"labelled images {ids['index']}, unlabelled {ids.get('pool_index', [])}. "
        f"The state before that step is in {path}; look at those images, or lower encoder_lr."
    )


if __name__ == "__main__":
    from dalib.training.launch import worker

    worker(sys.argv[1])
