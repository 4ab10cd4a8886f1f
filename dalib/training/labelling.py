"""Who labels the pool of a run, and which of its images are read: what `labelling` and `selection`
decide, in one place."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import PartialState
from jaxtyping import Int

from dalib.config import RunConfig
from dalib.data.damaged import ledger
from dalib.data.schema import Source
from dalib.models.depth_anything import DepthAnything, restore
from dalib.stopping import Stop
from dalib.training import pseudo, selection
from dalib.training.folder import WEIGHTS, folder, held
from dalib.training.pseudo import Labels
from dalib.training.train import SNAPSHOTS


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """What `train` is given for its pool. All None where an oracle labels, or nothing does.

    Args:
        pseudo: stored labels, by index.
        teacher: the network that labels in each step.
        pool: the images to read, by index; all by default.
    """

    pseudo: Labels | None = None
    teacher: DepthAnything | None = None
    pool: Int[np.ndarray, " m"] | None = None


def labelling(
    config: RunConfig,
    unlabelled: Source | None,
    *,
    state: PartialState,
    stop: Stop | None,
    report: Callable[[str], None],
) -> Labelling:
    """Label the pool of a run where that comes first, by networks that are trained already.

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
        weights = folder(config.teacher()) / WEIGHTS
        return Labelling(teacher=restore(weights, expect=config.encoder))

    # stored: once, before training
    given = {"state": state, "stop": stop, "report": report}
    first = _stored_labels(config, unlabelled, by=config.teacher(), **given)
    if config.selection == "none":
        return Labelling(pseudo=first)

    # ST++: the stable half alone, or all with the other half labelled anew
    half = _stable_half(config, unlabelled, first, state=state, report=report)
    again = config.first_half()
    if again is None:
        return Labelling(pseudo=first, pool=half)
    later = _stored_labels(config, unlabelled, by=again, **given)
    return Labelling(pseudo=selection.Relabelled(first, later, kept=half))


def _stored_labels(
    config: RunConfig,
    unlabelled: Source,
    *,
    by: RunConfig,
    state: PartialState,
    stop: Stop | None,
    report: Callable[[str], None],
) -> pseudo.PseudoLabels:
    """The labels that the network of the run `by` gives this pool, made once and shared by every
    student of that teacher."""
    weights = folder(by) / WEIGHTS
    teacher = pseudo.sha256(weights)[:16]
    out = weights.parent / f"pseudo-{unlabelled.fingerprint[:12]}-{teacher}"
    main = state.is_main_process

    # another student of this teacher may be at it; from here on nobody else writes the manifest
    with held(out, report=report, role=by.hash()) if main else nullcontext():
        state.wait_for_everyone()
        needed = not pseudo.is_finished(out)
        state.wait_for_everyone()  # all have looked before anything changes
        if needed:
            if main:
                report(f"labelling {len(unlabelled)} images")
            model = restore(weights, expect=config.encoder)
            model = model.to(state.device, memory_format=torch.channels_last)
            half = config.precision == "bf16"
            damaged = ledger(out, config, sources={"unlabelled": unlabelled}, report=report)
            with torch.autocast(state.device.type, torch.bfloat16, enabled=half):
                pace = pseudo.label(
                    model,
                    unlabelled,
                    out=out,
                    teacher=teacher,
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
        networks = []
        for name in SNAPSHOTS:
            network = restore(folder(config.teacher()) / name, expect=config.encoder)
            networks.append(network.to(state.device, memory_format=torch.channels_last))
        error = selection.instability(networks, unlabelled, labels, **config.size)
        selection.write(path, error)
    state.wait_for_everyone()
    return selection.stable_half(selection.read(path))
