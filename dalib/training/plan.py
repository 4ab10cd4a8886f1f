"""What a run would do, read and need, said before its first step; and what would stop it only later,
found before it.

Sources, weights and disk are looked at; networks are built without data, and their steps counted
(`dalib.training.costs`).
"""

import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from dalib import paths
from dalib.blocks import GivenNetwork, GivenTeacher
from dalib.config import RunConfig
from dalib.data.catalogue import check_sources, open_source, parse
from dalib.errors import DataError
from dalib.training.costs import Step, measure, network, step
from dalib.training.folder import folder, trained, untrained
from dalib.training.given import asked_of_the_hub, first_weights, load_given, pin
from dalib.training.machines import Machines, machines_of
from dalib.training.processes import check_processes
from dalib.training.teacher import size_seen
from dalib.training.trackers import check_trackers
from dalib.training.validation import check_validation

GB = 1e9
LABELLED_AT_ONCE = 32
"""Images at a time where labels are stored (`dalib.training.pseudo.label`)."""
LESS = "gradient_checkpointing: true, precision: bf16 and a smaller batch take less"
"""What to try where memory is too small."""
SLACK = 0.5e9
"""Bytes that a disk should have beside what is counted: logs, caches, other programs."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """A network that a run is given, as its file says.

    Args:
        role: "teacher" or "start".
        weights: the name in the settings.
        digest: of its content.
        encoder, layers: what it is.
        kind: "disparity" or "depth_m".
        parameters: how many weights.
        seen: height and width at which a teacher sees the student's images.
    """

    role: str
    weights: str
    digest: str
    encoder: str
    layers: str
    kind: str
    parameters: int
    seen: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of the runs that are to be trained, the teacher first.

    Args:
        role: "teacher", "student of the stable half", or "" for the run itself.
        config: its settings.
        done: it is trained already, and costs nothing.
        parameters: of its network.
        flops: of all of its steps, and of the labels that are stored for it.
        step_bytes: at the fullest moment of a step, or of labelling before the first one, of one
            process.
        labels_bytes: of the labels that will be stored for it.
        kept_bytes: of weights and checkpoints.
    """

    role: str
    config: RunConfig
    done: bool
    parameters: int
    flops: float
    step_bytes: int
    labels_bytes: int
    kept_bytes: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would do, and what it needs.

    Args:
        config: the run, its weights known by their content.
        out: the folder that it leaves.
        parts: what will be trained, in order.
        given: the networks that it is given.
        images: how many images each source has, by role and name; -1 where they are drawn first.
        processes: that train.
        flops_per_second: that a product of matrices reaches on this machine now, of one process.
        free_bytes: of the disk that `out` lies on.
        memory_bytes: of the device that trains, what is free.
    """

    config: RunConfig
    out: Path
    parts: tuple[Part, ...]
    given: tuple[Given, ...]
    images: dict[str, dict[str, int]]
    processes: int
    flops_per_second: float
    free_bytes: int
    memory_bytes: int

    @property
    def disk_bytes(self) -> int:
        """What will be written: weights, checkpoints, stored labels."""
        return sum(p.kept_bytes + p.labels_bytes for p in self.parts if not p.done)

    @property
    def seconds(self) -> float:
        """The least time that it can take: its counted operations at the speed of products of
        matrices, which a real step does not reach."""
        todo = sum(p.flops for p in self.parts if not p.done)
        return todo / (self.flops_per_second * self.processes)

    def lines(self, *, labels_only: bool = False) -> Iterator[str]:
        """For a person, before the first step: of the whole run, or of its pseudo labels alone,
        which need its teacher and not the student."""
        for part in self.parts:
            if part.role or not labels_only:
                yield from _part_lines(part, self.processes)
        for given in self.given:
            yield _given_line(given)
        for role, sources in self.images.items():
            times = _times(self.config, role)
            for name, count in sources.items():
                many = f"{count:,} images" if count >= 0 else f"draw {self.config.drawn}"
                often = f", each {times[name]} times an epoch" if name in times else ""
                yield f"reads     {role}: {name}, {many}{often}"
        for name in asked_of_the_hub(self.config):
            yield f"fetches   {name}: its pre-trained weights from the hub, where they are not here"
        if all(part.done for part in self.parts):
            yield f"is there  {self.out}: trained already; nothing is left to do"
            return
        needs = max(part.step_bytes for part in self.parts if not part.done)
        yield (
            f"disk      {self.disk_bytes / GB:.1f} GB, of {self.free_bytes / GB:.1f} GB free in "
            f"{self.out.parent}"
        )
        yield (
            f"memory    {needs / GB:.1f} GB in each process, of {self.memory_bytes / GB:.1f}"
            " GB free" + (f"; THIS WILL NOT FIT: {LESS}" if needs > self.memory_bytes else "")
        )
        if not labels_only:
            yield self._time_line()
            yield f"leaves    {self.out}"

    def _time_line(self) -> str:
        return (
            f"time      {span(self.seconds)} at least: the counted operations at the "
            f"{self.flops_per_second / 1e12:.2g} TFLOP/s that a product of matrices reaches here "
            "now; expect two to four times that"
        )


def _part_lines(part: Part, processes: int) -> Iterator[str]:
    config = part.config
    name = part.role or ("student" if config.pseudo_labels else "run")
    images = f"{config.batch} labelled" if config.labelled else ""
    if config.pseudo_labels:
        images += (" and " if images else "") + f"{config.pool_batch} unlabelled"
    state = "trained already" if part.done else f"{config.steps:,} steps of {images} images"
    yield (
        f"trains    {name}: {config.encoder}, {part.parameters / 1e6:.1f} M weights, {state}, "
        f"{config.height} x {config.width}"
        + (f", {processes} processes" if processes > 1 and not part.done else "")
    )


def _times(config: RunConfig, role: str) -> dict[str, int]:
    """The weights of the sources of a role, where they are other than 1."""
    pairs = zip(config.sources[role], config.weights[role], strict=True)
    return {name: weight for name, weight in pairs if weight > 1}


def _given_line(given: Given) -> str:
    seen = "" if given.seen is None else f", sees {given.seen[0]} x {given.seen[1]}"
    labels = given.role == "teacher" and given.kind == "depth_m"
    turned = ", turned into disparity" if labels else ""
    return (
        f"is given  {given.role}: {given.weights} ({given.digest[:8]}), {given.encoder} "
        f"{given.layers}, {given.parameters / 1e6:.1f} M weights, {given.kind}{turned}{seen}"
    )


def span(seconds: float | int) -> str:
    """A time for a person: in the two largest units."""
    for unit, size, below, smaller in (
        ("d", 86400, 3600, "h"),
        ("h", 3600, 60, "min"),
        ("min", 60, 1, "s"),
    ):
        if seconds >= size:
            whole, rest = divmod(round(seconds), size)
            return f"{whole} {unit} {rest // below} {smaller}"
    return f"{seconds:.0f} s"


def plan(config: RunConfig, *, processes: int = 1, machines: Machines | None = None) -> Plan:
    """Look at everything that a run would use, and count what it would need.

    Args:
        config: the run.
        processes: that train, here.
        machines: on which they train, where a file says so (`machines_of`).

    Raises:
        ConfigError: settings, weights or processes that do not go together.
        CheckpointError: weights that cannot be read.
        DataError: data that are not there or cannot be used, or a disk that is too full.
    """
    config = pin(config)
    machines = machines or machines_of(None, processes=processes)
    processes = machines.processes
    check_processes(processes, config, machines=machines.count)
    paths.writable_runs()
    for needed in untrained(config):
        check_sources(needed)
    if not trained(config):
        check_validation(config)
        check_trackers(config)
    given = tuple(_given(config))
    images = {role: _images(names) for role, names in config.sources.items()}
    parts = tuple(dict(_parts(config, given, images, processes)).values())
    found = Plan(
        config=config,
        out=folder(config),
        parts=parts,
        given=given,
        images=images,
        processes=processes,
        flops_per_second=_speed(config.precision),
        free_bytes=shutil.disk_usage(paths.runs()).free,
        memory_bytes=_free_memory(),
    )
    if found.disk_bytes and found.disk_bytes + SLACK > found.free_bytes:
        labels = any(part.labels_bytes for part in parts if not part.done)
        stored = ", or set labelling: online, which stores no labels" if labels else ""
        raise DataError(
            f"{paths.runs()}: {found.free_bytes / GB:.1f} GB are free, and this run writes "
            f"{found.disk_bytes / GB:.1f} GB (weights, checkpoints"
            f"{' and stored labels' if labels else ''}) and keeps {SLACK / GB:.1f} GB free; free "
            "some, or set DALIB_RUNS (of adapt and finetune: OUT) to a folder on a larger disk"
            f"{stored}"
        )
    return found


def _given(config: RunConfig) -> Iterator[Given]:
    """The given networks, each opened once."""
    for role in ("teacher", "start"):
        block = getattr(config, role)
        if not isinstance(block, GivenNetwork):
            continue
        is_first = role == "start" or (config.start == "teacher" and config.rounds == 1)
        opened = first_weights(config, block) if is_first else load_given(block, role=role)
        seen = None
        if isinstance(block, GivenTeacher):
            seen = size_seen(block, opened, **config.size)
        yield Given(
            role=role,
            weights=block.weights,
            digest=block.digest,
            encoder=opened.architecture["encoder"],
            layers=opened.architecture["layers"],
            kind=opened.kind,
            parameters=sum(p.numel() for p in opened.parameters()),
            seen=seen,
        )


def _images(names: tuple[str, ...]) -> dict[str, int]:
    """How many images each source has; -1 for drawn scenes, which are drawn when they are read."""
    found = {}
    for name in names:
        is_drawn = parse(name)[0] == "scenes"
        count = -1 if is_drawn else len(open_source(name, count=1, height=1, width=1))
        # one that is named twice is read twice
        found[name] = count if is_drawn else found.get(name, 0) + count
    return found


def _parts(
    config: RunConfig, given: tuple[Given, ...], images: dict[str, dict[str, int]], processes: int
) -> Iterator[tuple[str, Part]]:
    """The hash and cost of each run that comes first, and of the run itself."""
    start = config.start_run()
    for role, needed in config.prerequisites().items():
        own = given, images
        if needed == start:  # a run for itself, with a teacher and a pool of its own
            own = tuple(_given(needed)), {r: _images(names) for r, names in needed.sources.items()}
        for run, part in _parts(needed, *own, processes):
            yield run, replace(part, role=part.role or role)
    teacher = next((g for g in given if g.role == "teacher"), None)
    yield config.hash(), cost(config, teacher, images.get("unlabelled", {}), processes)


def cost(
    config: RunConfig, teacher: Given | None, pool: dict[str, int], processes: int = 1
) -> Part:
    """What one run costs by itself.

    Args:
        config: the run; its weights need not be there.
        teacher: the network that it is given, where it is given one.
        pool: images of each unlabelled source; -1 where they are drawn.
        processes: that train.
    """
    parameters = _parameters(config.encoder)
    labels = labeller(config, teacher)
    in_step = labels if config.labelling == "online" else None
    share = processes * config.accumulate
    counted = _step(
        config.encoder,
        labelled=config.labelled_batch // share,
        unlabelled=config.pool_batch // share if config.pseudo_labels else 0,
        height=config.height,
        width=config.width,
        checkpointing=config.gradient_checkpointing,
        precision=config.precision,
        teacher=in_step,
        frozen=(config.frozen_encoder or config.encoder) if config.aligns else None,
    )
    flops = float(counted.flops * share * config.steps)
    labels_bytes = 0
    fullest = counted.bytes
    if labels is not None and in_step is None:
        count = sum(config.unlabelled_images if n < 0 else n for n in pool.values())
        labels_bytes = count * config.height * config.width * np.dtype(np.float16).itemsize
        images = min(count, LABELLED_AT_ONCE) or 1
        labelling = _labelling(*labels, images=images, precision=config.precision)
        flops += count * labelling.flops / images
        fullest = max(fullest, labelling.bytes)
    return Part(
        role="",
        config=config,
        done=trained(config),
        parameters=parameters,
        flops=flops,
        step_bytes=fullest,
        labels_bytes=labels_bytes,
        # the weights, and two checkpoints with weights and AdamW's two moments
        kept_bytes=(1 + 2 * 3) * parameters * torch.float32.itemsize,
    )


def labeller(config: RunConfig, teacher: Given | None) -> tuple[str, tuple[int, int]] | None:
    """The encoder of the network that labels for a run, and the size at which it sees images."""
    if not config.teacher_labels:
        return None
    run = config.teacher_run()
    if run is not None:
        return run.encoder, (run.height, run.width)
    return teacher.encoder, teacher.seen


@cache
def _parameters(encoder: str) -> int:
    """How many numbers a network of this encoder has. It is built for that, so once."""
    return sum(p.numel() for p in network(encoder).parameters())


@cache
def _labelling(encoder: str, size: tuple[int, int], *, images: int, precision: str) -> Step:
    """Some images through a network that labels them."""
    model = network(encoder).eval()
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    with model.mean.fake_mode, torch.no_grad(), autocast:
        pictures = torch.empty(images, 3, *size)
        present = (*model.parameters(), pictures)
        flops, most = measure(lambda: model(pictures), *present)
    return Step(flops=flops, bytes=most)


@cache
def _step(
    encoder: str,
    *,
    labelled: int,
    unlabelled: int,
    height: int,
    width: int,
    checkpointing: bool,
    precision: str,
    teacher: tuple[str, tuple[int, int]] | None,
    frozen: str | None,
) -> Step:
    """A step on one device, counted on networks without data."""
    student = network(encoder)
    mode = student.mean.fake_mode
    others = {}
    if teacher is not None:
        others["teacher"] = network(teacher[0], mode)
        others["seen"] = teacher[1]
    if frozen is not None:
        others["frozen"] = network(frozen, mode)
    with mode:
        return step(
            student,
            labelled=labelled,
            unlabelled=unlabelled,
            height=height,
            width=width,
            checkpointing=checkpointing,
            precision=precision,
            **others,
        )


def _speed(precision: str) -> float:
    """FLOP/s of a product of matrices on the device that trains, the best of a few."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = 4096 if device == "cuda" else 1024
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left = torch.randn(side, side, device=device, dtype=kind)
    best = math.inf
    for _ in range(5):
        begun = time.perf_counter()
        left @ left
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begun)
    return 2 * side**3 / best


def _free_memory() -> int:
    """Bytes that the device that trains has free."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):  # no Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
