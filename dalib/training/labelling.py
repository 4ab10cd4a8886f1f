"""Who labels the pool of a run, and which of its images are read: what `labelling` and `selection`
decide, in one place."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from jaxtyping import Int

from dalib import paths
from dalib.blocks import GivenTeacher
from dalib.config import RunConfig
from dalib.data.damaged import ledger
from dalib.data.files import digest
from dalib.data.schema import Source
from dalib.models.depth_anything import restore
from dalib.stopping import Stop
from dalib.training import pseudo, selection
from dalib.training.folder import WEIGHTS, folder, held
from dalib.training.given import load_given
from dalib.training.pseudo import Labels, PseudoLabels
from dalib.training.teacher import Teacher, size_seen
from dalib.training.train import SNAPSHOTS


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """What `train` is given for its pool. All None where an oracle labels, or nothing does.

    Args:
        pseudo: stored labels, by index.
        stored: where they were made, if by one teacher.
        teacher: what labels in each step.
        pool: the images to read, by index; all by default.
    """

    pseudo: Labels | None = None
    stored: PseudoLabels | None = None
    teacher: Teacher | None = None
    pool: Int[np.ndarray, " m"] | None = None


def labelling(
    config: RunConfig,
    unlabelled: Source | None,
    *,
    state: PartialState,
    stop: Stop | None,
    report: Callable[[str], None],
) -> Labelling:
    """Label the pool of a run where that comes first, by networks that are there already.

    Args:
        config: the run.
        unlabelled: its pool.
        state: of the processes, each of which calls this.
        stop: see `pseudo.label`.
        report: receives lines of progress.
    """
    if not config.teacher_labels:
        return Labelling()
    if config.labelling == "online":
        return Labelling(teacher=teacher_of(config))

    # stored: once, before training
    given = {"state": state, "stop": stop, "report": report}
    first = _stored_labels(config, unlabelled, by=config.teacher_run(), **given)
    if config.selection == "none":
        return Labelling(pseudo=first, stored=first)

    # ST++: the stable half alone, or all with the other half labelled anew
    half = _stable_half(config, unlabelled, first, state=state, report=report)
    again = config.first_half()
    if again is None:
        return Labelling(pseudo=first, stored=first, pool=half)
    later = _stored_labels(config, unlabelled, by=again, **given)
    return Labelling(pseudo=selection.Relabelled(first, later, kept=half), stored=first)


def teacher_of(config: RunConfig, by: RunConfig | None = None) -> Teacher:
    """The teacher of a run: the network of the run `by`, by default that of its `teacher_run`, or
    the one that is given."""
    by = by or config.teacher_run()
    if by is None:
        given = config.teacher
        network = load_given(given, role="teacher")
        seen = size_seen(given, network, **config.size)
        return Teacher(network, seen=seen, name=_name(given), **config.size)
    weights = folder(by) / WEIGHTS
    network = restore(weights, expect=by.encoder)
    seen = by.height, by.width
    return Teacher(network, seen=seen, name=pseudo.sha256(weights)[:16], **config.size)


def _name(given: GivenTeacher) -> str:
    """Which network it is: its content, and how that is read where settings say so."""
    read = {k: v for k, v in given.reading().items() if v}
    return given.digest if not read else f"{given.digest}-{digest([repr(sorted(read.items()))])}"


def place_of_labels(config: RunConfig, by: RunConfig | None, source: Source, teacher: str) -> Path:
    """The folder of the labels that a teacher gives a pool, shared by all of its students.

    Args:
        config: of a student.
        by: the teacher's run; None where the teacher is given.
        source: the pool.
        teacher: which network it is, in hexadecimal digits.
    """
    name = f"pseudo-{source.fingerprint[:12]}-{teacher}"
    size = "{height}x{width}".format(**config.size)
    if by is not None:
        alike = by.size == config.size
        return folder(by) / (name if alike else f"{name}-{size}")
    side = config.teacher.short_side or config.short_side
    half = "-bf16" if config.precision == "bf16" else ""
    return paths.runs() / f"teacher-{config.teacher.digest}" / f"{name}-{size}-by-{side}{half}"


def _stored_labels(
    config: RunConfig,
    unlabelled: Source,
    *,
    by: RunConfig | None,
    state: PartialState,
    stop: Stop | None,
    report: Callable[[str], None],
) -> pseudo.PseudoLabels:
    """The labels that the network of the run `by`, or the teacher that is given, gives this pool,
    made once and shared by every student of that teacher."""
    given = by is None
    teacher = _name(config.teacher) if given else pseudo.sha256(folder(by) / WEIGHTS)[:16]
    out = place_of_labels(config, by, unlabelled, teacher)
    main = state.is_main_process

    # another student of this teacher may be at it; from here on nobody else writes the manifest
    role = config.teacher.digest if given else by.hash()
    with held(out, report=report, role=role) if main else nullcontext():
        state.wait_for_everyone()
        needed = not pseudo.is_finished(out)
        state.wait_for_everyone()  # all have looked before anything changes
        if needed:
            if main:
                report(f"labelling {len(unlabelled)} images")
            labeller = teacher_of(config, by)
            labeller.network.to(state.device, memory_format=torch.channels_last)
            half = config.precision == "bf16"
            damaged = ledger(out, config, sources={"unlabelled": unlabelled}, report=report)
            with torch.autocast(state.device.type, torch.bfloat16, enabled=half):
                pace = pseudo.label(
                    labeller,
                    unlabelled,
                    out=out,
                    teacher=teacher,
                    seen=labeller.seen,
                    workers=config.workers,
                    rank=state.process_index,
                    world=state.num_processes,
                    stop=stop,
                    ledger=damaged,
                    **config.size,
                )
            if main:
                report(str(pace))
            state.wait_for_everyone()
            if main:
                pseudo.finish(out, teacher=teacher, source=unlabelled, **config.size)
            state.wait_for_everyone()
    return pseudo.PseudoLabels(out, teacher=teacher, source=unlabelled)


def _stable_half(
    config: RunConfig,
    unlabelled: Source,
    labels: pseudo.PseudoLabels,
    *,
    state: PartialState,
    report: Callable[[str], None],
) -> Int[np.ndarray, " m"]:
    """Indices of the stabler half of the pool, found by the main process and kept beside the pseudo
    labels."""
    path = labels.path / selection.STABILITY
    if state.is_main_process and not path.exists():
        report(f"comparing the labels of {len(unlabelled)} images over the teacher's training")
        by = config.teacher_run()
        seen = by.height, by.width
        earlier = []
        for name in SNAPSHOTS:
            network = restore(folder(by) / name, expect=by.encoder)
            network = network.to(state.device, memory_format=torch.channels_last)
            earlier.append(Teacher(network, seen=seen, **config.size))
        error = selection.instability(earlier, unlabelled, labels, seen=seen, **config.size)
        selection.write(path, error)
    state.wait_for_everyone()
    return selection.stable_half(selection.read(path))
