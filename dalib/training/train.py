"""One flat loop for teacher and student. What differs between them is in the config: whether there
are unlabelled images."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs
from torch.utils.data import DataLoader

from dalib import losses
from dalib.config import RunConfig
from dalib.data.mixture import Mixture, batches
from dalib.data.schema import Source
from dalib.errors import Stopped, TrainingError
from dalib.models.depth_anything import DepthAnything, build, restore, save
from dalib.models.encoder import Encoder
from dalib.progress import Step
from dalib.stopping import Stop, ignore_signals
from dalib.training.auxiliary import WithSegmentation
from dalib.training.checkpoint import Log, found, keep, not_finite, resume, set_foreign_aside
from dalib.training.folder import WEIGHTS, Clock, same_data
from dalib.training.pseudo import Labels
from dalib.training.step import label_now, step_losses

# of a run on labelled images alone, for ST++
SNAPSHOTS = ("at_one_third.safetensors", "at_two_thirds.safetensors")


def train(
    config: RunConfig,
    *,
    out: Path,
    labelled: Source,
    unlabelled: Source | None = None,
    pool: np.ndarray | None = None,
    pseudo: Labels | None = None,
    teacher: DepthAnything | None = None,
    start_from: Path | None = None,
    processes: int = 1,
    stamp: str = "",
    stop: Stop | None = None,
    clock: Clock | None = None,
    report: Callable[[str], None] = print,
) -> Path:
    """Train a teacher (no unlabelled images) or a student, and write `out/model.safetensors`.

    A run that was killed goes on from its last checkpoint and ends with the same bits as one that
    was not.

    Args:
        config: everything that can change the result.
        out: the run's folder: config.json, metrics.jsonl, checkpoint/, and at the end the weights.
        labelled, unlabelled: the sources.
        pool: which of the unlabelled images to read; all by default.
        pseudo, teacher: what labels the unlabelled images, one of the two: stored pseudo labels, or
            the network itself. Neither where an oracle does: then the source's own disparity is the
            label.
        start_from: weights of a network of the same kind to begin with, instead of the pre-trained
            encoder's.
        processes: the world size that was asked for; another one is a `TrainingError`.
        stamp: hash of the code; a checkpoint with another stamp is not continued, unless a
            certificate joins the two.
        stop: asked at the end of each step; a request in any of the processes saves the state and
            ends the run in all of them.
        clock: notes the time whenever something is logged or saved.
        report: receives a line of progress now and then.

    Raises:
        TrainingError: wrong world size, neither or both of `pseudo` and `teacher`, or a loss that
            is not finite (the state is saved first).
        DataError: the images are others than those of the checkpoint, or the disk refuses a file,
            which it names.
        Stopped: there was a request to stop, and the state is saved.
    """
    if not PartialState._shared_state or PartialState().num_processes == 1:
        # one kernel may train in several precisions
        AcceleratorState._reset_state(reset_partial_state=True)
    # saves a copy of the gradients
    ddp = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
    accelerator = Accelerator(mixed_precision=config.precision, kwargs_handlers=[ddp])
    if accelerator.num_processes != processes:
        raise TrainingError(
            f"processes: asked for {processes}, but {accelerator.num_processes} run; start "
            "training through dalib.training.launch"
        )
    stop = Stop() if stop is None else stop
    given = (pseudo is not None) + (teacher is not None)
    if unlabelled is not None and given != (config.labelling != "oracle"):
        raise TrainingError(
            "unlabelled: give what labels these images, either pseudo or teacher, and neither for "
            "an oracle"
        )
    main, device = accelerator.is_main_process, accelerator.device
    weights = Path(config.encoder_weights) if config.encoder_weights else None
    student = build(
        config.encoder,
        pretrained=config.pretrained,
        layers=config.layers,
        encoder_weights=weights,
        seed=config.seed,
    )
    if start_from is not None:
        student.load_state_dict(restore(start_from, expect=config.encoder).state_dict())
    if config.gradient_checkpointing and hasattr(student.encoder.net, "set_grad_checkpointing"):
        student.encoder.net.set_grad_checkpointing()
    student = student.to(device, memory_format=torch.channels_last)
    trained, heads = student, [student.decoder]
    if config.segmentation_weight:
        trained = WithSegmentation(student=student, seed=config.seed).to(
            device, memory_format=torch.channels_last
        )
        heads.append(trained.segmentation)
    frozen = _frozen(config) if config.align != "none" else None
    optimiser = torch.optim.AdamW(
        [
            {"params": student.encoder.parameters(), "lr": config.encoder_lr},
            {
                "params": [p for h in heads for p in h.parameters()],
                "lr": config.encoder_lr * config.decoder_lr_factor,
            },
        ],
        weight_decay=config.weight_decay,
        fused=True,
    )
    rates = [group["lr"] for group in optimiser.param_groups]
    if main:
        set_foreign_aside(out, stamp)
        same_data(out, {"labelled": labelled, "unlabelled": unlabelled}, begun=bool(found(out)))
    accelerator.wait_for_everyone()
    start = resume(out, trained, optimiser, config=config, main=main, report=report)
    accelerator.wait_for_everyone()
    mixture = Mixture(
        config=config,
        labelled=labelled,
        unlabelled=unlabelled,
        pool=pool,
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
        # its own, so that the loader does not draw from the global one
        generator=torch.Generator(),
        worker_init_fn=ignore_signals,  # a request to stop is this process's to answer
    )
    model, optimiser = accelerator.prepare(trained, optimiser)
    for network in (n for n in (frozen, teacher) if n is not None):
        network.to(memory_format=torch.channels_last).eval().requires_grad_(False)
        # in place: the student's device and precision
        accelerator.prepare_model(network, evaluation_mode=True)
    if config.compile:
        compile_parts(*(n for n in (student, frozen, teacher) if n is not None))
    model.train()
    snapshots = {k * config.steps // 3: name for k, name in enumerate(SNAPSHOTS, 1)}
    log, begun = Log(out / "metrics.jsonl", start) if main else None, time.perf_counter()
    with stop.defer():  # from here on a request waits for the end of a step
        for step, batch in enumerate(batches(loader), start):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(step, steps=config.steps, warmup=config.warmup)
            batch = {k: v.to(device, non_blocking=True) for k, v in batch.items()}
            if teacher is not None:
                batch |= label_now(teacher, batch)
            parts = step_losses(config, model, student, frozen, batch, step)
            loss = losses.total(
                parts, {"feat": config.align_weight, "segmentation": config.segmentation_weight}
            )
            asked = loss.new_tensor(float(stop.reason() is not None))
            told = torch.stack([loss.detach(), *(p.detach() for p in parts.values()), asked])
            # of all processes: what one is asked, all are
            *seen, asked = accelerator.reduce(told, reduction="mean")
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(model.parameters(), config.clip)
            # the step's one wait for the accelerator
            if not torch.isfinite(torch.stack([*seen, norm])).all():
                not_finite(accelerator, out, trained, optimiser, step, batch, parts)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            done = step + 1
            if main and (done % config.log_every == 0 or done == config.steps):
                values = dict(zip(parts, seen[1:], strict=True))
                log.write(step=done, loss=seen[0], **values, grad_norm=norm)
                left = (time.perf_counter() - begun) / (done - start) * (config.steps - done)
                line = f"step {done}/{config.steps}  loss {seen[0]:.4f}  {left:.0f} s left"
                report(Step(line, run=config.hash(), done=done, steps=config.steps))
                if clock is not None:
                    clock.tick()
            if main and unlabelled is None and (name := snapshots.get(done)):
                save(student, out / name)
            ends_early = bool(asked > 0) and done < config.steps
            if main and done < config.steps and (ends_early or done % config.checkpoint_every == 0):
                keep(out, trained, optimiser, step=done, stamp=stamp)
                if clock is not None:
                    clock.tick()
            if ends_early:
                accelerator.wait_for_everyone()  # none may leave while the state is being written
                raise Stopped(
                    f"{out}: asked to stop; the state after step {done} of {config.steps} is "
                    "saved, run again to go on"
                )
        if main:
            save(student, out / WEIGHTS)
    accelerator.wait_for_everyone()
    return out / WEIGHTS


def compile_parts(*networks: DepthAnything | Encoder) -> None:
    """`torch.compile`, in place, each transformer block by itself (a CNN whole), and the decoder.

    Blocks are alike and share their machine code, so that a deep network compiles as fast as a
    shallow one. Checkpointing and DistributedDataParallel stay outside what is compiled: the one
    can run a block again, the other send its gradients while earlier blocks are still at work.
    Names of parameters do not change.
    """
    torch.compiler.reset()  # what an earlier run compiled counts towards the limit of variants
    for network in networks:
        encoder = network if isinstance(network, Encoder) else network.encoder
        for part in encoder.net.blocks if encoder.is_vit else [encoder.net]:
            part.compile(dynamic=False)
        if encoder is not network:
            network.decoder.compile(dynamic=False)


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
