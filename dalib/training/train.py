"""One flat loop for teacher and student. What differs between them is in the config: whether there are unlabelled images."""

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs
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
from dalib.training.checkpoint import Log, keep, resume, stop
from dalib.training.pseudo import PseudoLabels, unit_range

WEIGHTS = "model.safetensors"


def train(
    config: RunConfig,
    *,
    out: Path,
    labelled: Source,
    unlabelled: Source | None = None,
    pseudo: PseudoLabels | None = None,
    teacher: DepthAnything | None = None,
    processes: int = 1,
    stamp: str = "",
    report: Callable[[str], None] = print,
) -> Path:
    """Train a teacher (no unlabelled images) or a student, and write `out/model.safetensors`.

    A run that was killed goes on from its last checkpoint and ends with the same bits as one that was not.

    Args:
        config: everything that can change the result.
        out: the run's folder: config.json, metrics.jsonl, checkpoint/, and at the end the weights.
        labelled, unlabelled: the sources.
        pseudo, teacher: what labels the unlabelled images, one of the two: stored pseudo labels, or the network itself.
        processes: the world size that was asked for; another one is a `TrainingError`.
        stamp: hash of the code; a checkpoint with another stamp is not continued.
        report: receives a line of progress now and then.

    Raises:
        TrainingError: wrong world size, neither or both of `pseudo` and `teacher`, or a loss that is not finite (the state
            is saved first).
    """
    if not PartialState._shared_state or PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)  # one kernel may train in several precisions
    ddp = DistributedDataParallelKwargs(gradient_as_bucket_view=True)  # saves a copy of the gradients
    accelerator = Accelerator(mixed_precision=config.precision, kwargs_handlers=[ddp])
    if accelerator.num_processes != processes:
        raise TrainingError(
            f"processes: asked for {processes}, but {accelerator.num_processes} run; start training through dalib.training.launch"
        )
    if unlabelled is not None and (pseudo is None) == (teacher is None):
        raise TrainingError("unlabelled: give what labels these images, either pseudo or teacher")
    main, device = accelerator.is_main_process, accelerator.device
    weights = Path(config.encoder_weights) if config.encoder_weights else None
    student = build(
        config.encoder,
        pretrained=config.pretrained,
        layers=config.layers,
        encoder_weights=weights,
        seed=config.seed,
    )
    if config.gradient_checkpointing and hasattr(student.encoder.net, "set_grad_checkpointing"):
        student.encoder.net.set_grad_checkpointing()
    student = student.to(device, memory_format=torch.channels_last)
    frozen = _frozen(config) if config.align != "none" else None
    optimiser = torch.optim.AdamW(
        [
            {"params": student.encoder.parameters(), "lr": config.encoder_lr},
            {"params": student.decoder.parameters(), "lr": config.encoder_lr * config.decoder_lr_factor},
        ],
        weight_decay=config.weight_decay,
        fused=True,
    )
    rates = [group["lr"] for group in optimiser.param_groups]
    start = resume(out, student, optimiser, config=config, stamp=stamp, main=main)
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
    for network in (n for n in (frozen, teacher) if n is not None):
        network.to(memory_format=torch.channels_last).eval().requires_grad_(False)
        accelerator.prepare_model(network, evaluation_mode=True)  # in place: the student's device and precision
    if config.compile:
        compile_parts(*(n for n in (student, frozen, teacher) if n is not None))
    model.train()
    log, begun = Log(out / "metrics.jsonl", start) if main else None, time.perf_counter()
    for step, batch in enumerate(loader, start):
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * schedule(step, steps=config.steps, warmup=config.warmup)
        batch = {k: v.to(device, non_blocking=True) for k, v in batch.items()}
        if teacher is not None:
            batch |= label_now(teacher, batch)
        parts = step_losses(config, model, student, frozen, batch, step)
        loss = losses.total(parts, {"feat": config.align_weight})
        seen = accelerator.reduce(torch.stack([loss.detach(), *(p.detach() for p in parts.values())]), reduction="mean")
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), config.clip)
        if not torch.isfinite(torch.stack([*seen, norm])).all():  # the step's one wait for the accelerator
            stop(accelerator, out, student, optimiser, step, batch, parts)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        done = step + 1
        if main and (done % config.log_every == 0 or done == config.steps):
            log.write(step=done, loss=seen[0], **dict(zip(parts, seen[1:], strict=True)), grad_norm=norm)
            left = (time.perf_counter() - begun) / (done - start) * (config.steps - done)
            report(f"step {done}/{config.steps}  loss {seen[0]:.4f}  {left:.0f} s left")
        if main and done % config.checkpoint_every == 0 and done < config.steps:
            keep(out, student, optimiser, step=done, stamp=stamp)
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


def label_now(teacher: DepthAnything, batch: dict) -> dict[str, torch.Tensor]:
    """`pool_disparity` and `pool_valid` of a batch that has none: what `pseudo.label` would have stored, before rounding to float16.

    The teacher sees the clean image as it is in its source; where the batch has it mirrored, the label is mirrored.
    """
    flip = batch["pool_flip"][:, None, None]
    images = torch.where(flip[:, None], batch["pool_image"].flip(-1), batch["pool_image"])
    maps = unit_range(teacher.predict(images))
    return {"pool_disparity": torch.where(flip, maps.flip(-1), maps), "pool_valid": torch.isfinite(maps)}


def compile_parts(*networks: DepthAnything | Encoder) -> None:
    """`torch.compile`, in place, each transformer block by itself (a CNN whole), and the decoder.

    Blocks are alike and share their machine code, so that a deep network compiles as fast as a shallow one. Checkpointing and
    DistributedDataParallel stay outside what is compiled: the one can run a block again, the other send its gradients
    while earlier blocks are still at work. Names of parameters do not change.
    """
    torch.compiler.reset()  # what an earlier run compiled counts towards the limit of variants
    for network in networks:
        encoder = network if isinstance(network, Encoder) else network.encoder
        for part in encoder.net.blocks if encoder.is_vit else [encoder.net]:
            part.compile(dynamic=False)
        if encoder is not network:
            network.decoder.compile(dynamic=False)


def _mean(per_image: torch.Tensor) -> torch.Tensor:
    """Mean over the images of the batch. Sources refuse images without valid pixels, so that every one counts."""
    return per_image.mean()


def schedule(step: int, *, steps: int, warmup: int = 0) -> float:
    """Factor of the learning rate: linear warm-up, then linear decay towards 0 at the last step."""
    return (step + 1) / warmup if step < warmup else (steps - step) / max(1, steps - warmup)


def _frozen(config: RunConfig) -> Encoder:
    """The pre-trained encoder of the student's own kind, to be frozen (section 3.3)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Encoder(
            name=config.encoder,
            pretrained=config.pretrained,
            layers=config.layers,
            weights=Path(config.encoder_weights) if config.encoder_weights else None,
        )


if __name__ == "__main__":
    from dalib.training.launch import worker

    worker(sys.argv[1])
