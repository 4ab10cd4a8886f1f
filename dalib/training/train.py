"""One flat loop for teacher and student. What differs between them is in the config: whether there
are unlabelled images."""

import copy
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from dalib import losses
from dalib.blocks import WeightFile
from dalib.config import RunConfig
from dalib.data.damaged import Ledger
from dalib.data.mixture import Mixture, batches
from dalib.data.schema import Source
from dalib.errors import Stopped, TrainingError
from dalib.models.depth_anything import DepthAnything, save
from dalib.models.encoder import Encoder
from dalib.stopping import Stop, ignore_signals
from dalib.training import tasks
from dalib.training.auxiliary import WithAuxiliary
from dalib.training.checkpoint import found, keep, not_finite, resume, set_foreign_aside
from dalib.training.ema import Average
from dalib.training.folder import WEIGHTS, Clock, same_data
from dalib.training.given import unchanged
from dalib.training.journal import Journal, Pace
from dalib.training.machines import Sharding
from dalib.training.pseudo import Labels
from dalib.training.sharding import Written, gathered, shard, whole
from dalib.training.step import label_now, shares, step_losses
from dalib.training.teacher import Teacher
from dalib.training.validation import Validation

# of a run on labelled images alone, for ST++
SNAPSHOTS = ("at_one_third.safetensors", "at_two_thirds.safetensors")
# the weights of the last step, beside the averaged ones that a run with `ema` ends with
RAW = "model_raw.safetensors"


def train(
    config: RunConfig,
    *,
    out: Path,
    labelled: Source | None,
    unlabelled: Source | None = None,
    pool: np.ndarray | None = None,
    pseudo: Labels | None = None,
    teacher: Teacher | None = None,
    first: DepthAnything | None = None,
    validation: Validation | None = None,
    processes: int = 1,
    sharding: Sharding | None = None,
    stamp: str = "",
    stop: Stop | None = None,
    clock: Clock | None = None,
    ledger: Ledger | None = None,
    report: Callable[[str], None] = print,
) -> Path:
    """Train a teacher (no unlabelled images) or a student, and write `out/model.safetensors`.

    A run that was killed goes on from its last checkpoint and ends with the same bits as one that
    was not.

    Args:
        config: everything that can change the result.
        out: the run's folder: config.json, checkpoint/, what `dalib.training.journal` writes, and at
            the end the weights; with `ema` those of the last step are in model_raw.safetensors.
        labelled, unlabelled: the sources; one of them may be None.
        pool: which of the unlabelled images to read; all by default.
        pseudo, teacher: what labels the unlabelled images, one of the two: stored pseudo labels, or
            the teacher itself. Neither where an oracle does: then the source's own disparity is the
            label.
        first: a network of the same kind to begin with, instead of the pre-trained encoder's
            weights.
        validation: what is scored every `validate_every` steps; nothing of the result depends on
            it.
        processes: the world size that was asked for; another one is a `TrainingError`.
        sharding: share the weights of each network out over the processes, instead of a copy in
            each (see `dalib.training.sharding`).
        stamp: hash of the code; a checkpoint with another stamp is not continued, unless a
            certificate joins the two.
        stop: asked at the end of each step; a request in any of the processes saves the state and
            ends the run in all of them.
        clock: notes the time whenever something is logged or saved.
        ledger: notes which damaged images were replaced.
        report: receives a line of progress now and then.

    Raises:
        TrainingError: wrong world size, neither or both of `pseudo` and `teacher`, or a loss that
            is not finite (the state is saved first).
        DataError: the images are others than those of the checkpoint, or the disk refuses a file,
            which it names.
        Stopped: there was a request to stop, and the state is saved.
    """
    # the processes
    accelerator = _accelerator(config, processes)
    main = accelerator.is_main_process
    stop = Stop() if stop is None else stop

    # the networks and the optimiser
    _check_labels(config, unlabelled=unlabelled, pseudo=pseudo, teacher=teacher)
    networks = _networks(config, first=first, teacher=teacher, device=accelerator.device)
    if sharding is not None:
        networks = networks.shard(sharding, accelerator)
    optimiser = _optimiser(config, networks)
    rates = [group["lr"] for group in optimiser.param_groups]

    # what an earlier leg of the run left
    if main:
        set_foreign_aside(out, stamp)
        same_data(out, {"labelled": labelled, "unlabelled": unlabelled}, begun=bool(found(out)))
    accelerator.wait_for_everyone()
    start = resume(
        out,
        networks.trained,
        optimiser,
        config=config,
        main=main,
        report=report,
        more=networks.more,
    )
    accelerator.wait_for_everyone()

    # the batches
    mixture = Mixture(
        config=config,
        labelled=labelled,
        unlabelled=unlabelled,
        pool=pool,
        pseudo=pseudo,
        seen=None if teacher is None else teacher.seen,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    loader = _loader(config, mixture, start=start, pinned=accelerator.device.type == "cuda")

    # everything to its place
    model, optimiser = networks.prepare(accelerator, optimiser)
    if config.compile:
        compile_parts(*networks.every())
    model.train()
    keeper = _Keeper(config, out, stamp=stamp, snapshots=unlabelled is None, clock=clock)
    pace = Pace(images=mixture.images)
    journal = None
    if main:
        journal = Journal(config, out, start=start, pace=pace, clock=clock, report=report)

    def validate(done: int) -> bool:
        """Score the network after so many steps, in all processes, where that is due. Returns
        whether a request to stop cut it short."""
        if validation is None or not validation.due(done):
            return False
        with pace.aside():
            scores = validation(
                networks.student,
                networks.weights,
                rank=accelerator.process_index,
                world=accelerator.num_processes,
                asked=stop.reason,
                report=report if main else lambda line: None,
            )
        if journal is not None and scores:
            journal.validated(done, scores)
        return scores is None

    # the steps
    told = nullcontext() if journal is None else closing(journal)
    with stop.defer(), told:  # from here on a request waits for the end of a step
        if validation is not None and _missed(accelerator, journal, start) and validate(start):
            raise _stopped(out, start, config)
        for step, batch in enumerate(pace.fed(batches(loader)), start):
            if ledger is not None:
                ledger.note_batch(batch)
            factor = schedule(step, steps=config.steps, warmup=config.warmup)
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            batch = {k: v.to(accelerator.device, non_blocking=True) for k, v in batch.items()}

            # forward and backward, in one part or in several
            of_parts = []
            for number, part in enumerate(shares(batch, config.accumulate), 1):
                if teacher is not None:
                    part = part | label_now(teacher, part, config)
                alone = number < config.accumulate  # the processes meet in the last part
                with accelerator.no_sync(model) if alone else nullcontext():
                    parts = step_losses(config, model, networks.student, networks.frozen, part)
                    loss = _total(config, parts)
                    accelerator.backward(loss / config.accumulate)
                of_parts.append(torch.stack([loss.detach(), *(p.detach() for p in parts.values())]))
            names = ["loss", *parts]
            own = torch.stack(of_parts).mean(0)
            norm = gathered(accelerator.clip_grad_norm_(model.parameters(), config.clip))

            # what all processes should know
            seen, asked = _told(accelerator, own, stop)
            # the step's one wait for the accelerator
            if not torch.isfinite(torch.stack([*seen, norm])).all():
                parts = dict(zip(names[1:], own[1:], strict=True))
                not_finite(accelerator, out, networks.trained, optimiser, step, batch, parts)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            done = step + 1
            if networks.average is not None:
                networks.average.update(networks.student, step=done)

            # what is kept of it
            ends_early = bool(asked > 0) and done < config.steps
            kept = networks, optimiser
            if sharding is not None and _is_kept(config, done, now=ends_early):
                kept = networks.gathered(optimiser)  # by all processes together
            if journal is not None:
                values = dict(zip(names, seen, strict=True))
                journal.note(done, values | {"grad_norm": norm}, optimiser)
                keeper.save(done, *kept, now=ends_early)
            if not ends_early and validate(done) and done < config.steps:
                ends_early = True
                if main:
                    keeper.save(done, networks, optimiser, now=True)
            if ends_early:
                accelerator.wait_for_everyone()  # none may leave while the state is being written
                raise _stopped(out, done, config)
        if sharding is not None:
            networks, _ = networks.gathered(optimiser)
        if main:
            if networks.average is not None:
                save(networks.student, out / RAW)
            networks.save(out / WEIGHTS)
    accelerator.wait_for_everyone()
    return out / WEIGHTS


def _accelerator(config: RunConfig, processes: int) -> Accelerator:
    """Accelerate for this run; a `TrainingError` where other processes run than were asked for."""
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
    return accelerator


def _check_labels(
    config: RunConfig,
    *,
    unlabelled: Source | None,
    pseudo: Labels | None,
    teacher: Teacher | None,
) -> None:
    """Something labels the unlabelled images, and one thing only."""
    given = (pseudo is not None) + (teacher is not None)
    if unlabelled is not None and given != config.teacher_labels:
        raise TrainingError(
            "unlabelled: give what labels these images, either pseudo or teacher, and neither for "
            "an oracle"
        )


class FrozenEncoder(Encoder):
    """The pre-trained encoder that features are aligned with (section 3.3)."""

    def normalise(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Images in 0..1 as this encoder wants them, which may be another kind than the
        student's."""
        mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (self.spec.mean, self.spec.std))
        return (images - mean) / std


@dataclass(frozen=True, kw_only=True)
class _Networks:
    """The networks of a run.

    Args:
        student: what is left in the end.
        trained: what the optimiser moves: the student, or the student with a second decoder.
        heads: the decoders, which have a learning rate of their own.
        frozen: the pre-trained encoder that features are aligned with.
        teacher: what labels each batch.
        average: of the student's weights, where the run keeps one.
        is_sharded: whether they are shared out over the processes.
        copied: what is trained, of a sharded run, in the main process.
    """

    student: DepthAnything
    trained: nn.Module
    heads: Sequence[nn.Module]
    frozen: FrozenEncoder | None
    teacher: DepthAnything | None
    average: Average | None
    copied: nn.Module | None = None
    is_sharded: bool = False

    @property
    def weights(self) -> dict[str, Tensor]:
        """What the run would end with now: the student's weights, or their average."""
        return (self.student if self.average is None else self.average).state_dict()

    @property
    def more(self) -> dict[str, Average]:
        """What a checkpoint holds besides, by name."""
        return {} if self.average is None else {"average": self.average}

    def save(self, path: Path) -> None:
        """Write what the run would end with now."""
        with nullcontext() if self.average is None else self.average.worn_by(self.student):
            save(self.student, path)

    def every(self) -> list[DepthAnything | Encoder]:
        """Those there are; the student first."""
        return [n for n in (self.student, self.frozen, self.teacher) if n is not None]

    def shard(self, how: Sharding, accelerator: Accelerator) -> "_Networks":
        """Share each network out over the processes, in place; the main process keeps a copy of
        what is trained, on the CPU, to write down what `gathered` brings."""
        copied = copy.deepcopy(self.trained).cpu() if accelerator.is_main_process else None
        still = [network.requires_grad_(False) for network in self.every()[1:]]
        for network in (self.trained, *still):
            shard(network, how, device=accelerator.device)
        return replace(self, copied=copied, is_sharded=True)

    def gathered(self, optimiser: Optimizer) -> tuple["_Networks", Written]:
        """Sharded networks and their optimiser as they are written down: whole, and on the CPU of
        the main process. All processes call this at the same time."""
        weights = whole(self.trained.state_dict())
        moments = Written(whole(optimiser.state_dict()))
        if self.copied is None:
            return self, moments
        self.copied.load_state_dict(weights)
        student = getattr(self.copied, "student", self.copied)
        return replace(self, trained=self.copied, student=student), moments

    def prepare(
        self, accelerator: Accelerator, optimiser: Optimizer
    ) -> tuple[nn.Module, AcceleratedOptimizer]:
        """What the steps call: the trained network in its wrappers, and the optimiser. The networks
        that do not learn are brought to the same device and precision, in place."""
        sharded = self.is_sharded
        if sharded:  # which does for the processes what DistributedDataParallel does otherwise
            model = accelerator.prepare_model(self.trained, evaluation_mode=True)
            optimiser = accelerator.prepare_optimizer(optimiser)
        else:
            model, optimiser = accelerator.prepare(self.trained, optimiser)
        for network in self.every()[1:]:
            if not sharded:
                network.to(memory_format=torch.channels_last)
            network.eval().requires_grad_(False)
            accelerator.prepare_model(network, evaluation_mode=True)
        return model, optimiser


def _networks(
    config: RunConfig,
    *,
    first: DepthAnything | None,
    teacher: Teacher | None,
    device: torch.device,
) -> _Networks:
    student = new_student(config, first)
    if config.gradient_checkpointing and hasattr(student.encoder.net, "set_grad_checkpointing"):
        student.encoder.net.set_grad_checkpointing()
    student = student.to(device, memory_format=torch.channels_last)
    frozen = frozen_encoder(config) if config.aligns else None
    trained: nn.Module = student
    heads: list[nn.Module] = [student.decoder]
    width = None if frozen is None else frozen.channels[-1]
    other_width = None if width == student.encoder.channels[-1] else width
    segmentation = "semantics" in config.pool_brings
    if segmentation or other_width is not None:
        auxiliary = WithAuxiliary(
            student=student, seed=config.seed, segmentation=segmentation, width=other_width
        )
        trained = auxiliary.to(device, memory_format=torch.channels_last)
        heads += auxiliary.heads
    return _Networks(
        student=student,
        trained=trained,
        heads=heads,
        frozen=frozen,
        teacher=None if teacher is None else teacher.network,
        average=Average(student, decay=config.ema) if config.ema else None,
    )


def new_student(config: RunConfig, first: DepthAnything | None = None) -> DepthAnything:
    """The network of a run before its first step: a pre-trained encoder and a new decoder, or the
    weights of `first`, of its encoder alone where the settings say so."""
    task = tasks.of(config)
    student = task.build(encoder_weights=encoder_file(config.encoder_weights))
    if first is not None:
        task.begin(student, first)
    return student


def frozen_encoder(config: RunConfig) -> FrozenEncoder:
    """The pre-trained encoder to be frozen: of the student's own kind, or of another."""
    own = not config.frozen_encoder
    given = config.encoder_weights if own else config.frozen_encoder_weights
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return FrozenEncoder(
            name=config.encoder if own else config.frozen_encoder,
            pretrained=config.pretrained,
            layers=config.layers,
            weights=encoder_file(given),
        )


def encoder_file(given: WeightFile | None) -> Path | None:
    """Where the encoder's weights lie; a `DataError` where they are not those of the settings."""
    if given is None:
        return None
    unchanged(given, role="encoder_weights")
    return Path(given.weights)


def _optimiser(config: RunConfig, networks: _Networks) -> Optimizer:
    """AdamW with two rates: the encoder's, and a higher one for what begins at random (section
    4)."""
    head_parameters = [p for head in networks.heads for p in head.parameters()]
    groups = [
        {"params": networks.student.encoder.parameters(), "lr": config.encoder_lr},
        {"params": head_parameters, "lr": config.encoder_lr * config.decoder_lr_factor},
    ]
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)


def _loader(config: RunConfig, mixture: Mixture, *, start: int, pinned: bool) -> DataLoader:
    """The batches from step `start` on."""
    return DataLoader(
        mixture,
        batch_size=None,
        sampler=range(start, config.steps),
        num_workers=config.workers,
        pin_memory=pinned,
        # its own, so that the loader does not draw from the global one
        generator=torch.Generator(),
        worker_init_fn=ignore_signals,  # a request to stop is this process's to answer
    )


def _total(config: RunConfig, parts: dict[str, Tensor]) -> Tensor:
    weights = {"feat": config.align_weight, "segmentation": config.segmentation_weight}
    return losses.total(parts, weights)


def _is_kept(config: RunConfig, done: int, *, now: bool) -> bool:
    """Whether something of the state may be written after so many steps: a checkpoint, or weights
    at a third of the training."""
    thirds = [k * config.steps // 3 for k in range(1, len(SNAPSHOTS) + 1)]
    return now or done % config.checkpoint_every == 0 or done in thirds


def _told(
    accelerator: Accelerator, own: Float[Tensor, " k"], stop: Stop
) -> tuple[list[Tensor], Tensor]:
    """The loss and its parts as means over the processes, and above 0 where one of them was asked
    to stop: what one is asked, all are."""
    asked = own.new_tensor([float(stop.reason() is not None)])
    *seen, asked = accelerator.reduce(torch.cat([own, asked]), reduction="mean")
    return seen, asked


def _stopped(out: Path, done: int, config: RunConfig) -> Stopped:
    return Stopped(
        f"{out}: asked to stop; the state after step {done} of {config.steps} is saved, run again "
        "to go on"
    )


def _missed(accelerator: Accelerator, journal: Journal | None, start: int) -> bool:
    """Whether the leg before ended between a step and its validation, in all processes alike."""
    missed = [journal is not None and not journal.has_validated(start)]
    return bool(broadcast_object_list(missed)[0])


class _Keeper:
    """What the main process keeps of a run as it goes: checkpoints, and snapshots for ST++.

    Args:
        config: the run.
        out: its folder.
        stamp: of the code, for the checkpoints.
        snapshots: keep the weights at one third and two thirds as well, for ST++.
        clock: notes the time whenever something is written.
    """

    def __init__(
        self,
        config: RunConfig,
        out: Path,
        *,
        stamp: str,
        snapshots: bool,
        clock: Clock | None,
    ):
        self.config = config
        self.out = out
        self.stamp = stamp
        self.clock = clock
        names = SNAPSHOTS if snapshots else ()
        self.snapshots = {k * config.steps // 3: name for k, name in enumerate(names, 1)}

    def save(self, done: int, networks: _Networks, optimiser: Optimizer, *, now: bool) -> None:
        """Keep a snapshot where one is due, and the state to go on from where that is, or `now`;
        after the last step there is nothing to go on to."""
        if done in self.snapshots:
            networks.save(self.out / self.snapshots[done])
        due = now or done % self.config.checkpoint_every == 0
        if due and done < self.config.steps:
            keep(
                self.out,
                networks.trained,
                optimiser,
                step=done,
                stamp=self.stamp,
                more=networks.more,
            )
            if self.clock is not None:
                self.clock.tick()


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
