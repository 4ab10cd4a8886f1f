"""What teacher and student cost on this machine: size, time and, on an accelerator, memory."""

import statistics
import time
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from dalib.adaptation.compare import Eye, Eyes
from dalib.provenance import device

ROUNDS, WARM = 15, 2
"""Runs of each network that are timed, and before them."""
SECONDS = 60.0
"""Beyond so many seconds, `FEWEST` rounds are enough."""
FEWEST = 3


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One network.

    Attributes:
        encoder: its preset.
        parameters: how many.
        bytes: of its files, or of its weights in memory where it has none.
        input: (rows, columns) that it sees of the picture.
        milliseconds: median time of one picture through the network alone: no reading, no resizing.
        fast, slow: quartiles of that time.
        memory: bytes that one picture takes at most on an accelerator, weights included; None on a
            CPU, where it is not measured.
    """

    encoder: str
    parameters: int
    bytes: int
    input: tuple[int, int]
    milliseconds: float
    fast: float
    slow: float
    memory: int | None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Both networks, timed in turn on the same picture.

    Attributes:
        device: of the networks, "cpu" or "cuda:0".
        name: of the processor or accelerator.
        threads: of PyTorch on a CPU.
        torch: its version.
        picture: (rows, columns) of the picture.
        rounds: how often each was timed.
        teacher, student: their costs.
        speed, parameters, bytes: the teacher's over the student's.
    """

    device: str
    name: str
    threads: int
    torch: str
    picture: tuple[int, int]
    rounds: int
    teacher: Cost
    student: Cost
    speed: float
    parameters: float
    bytes: float


def measure(eyes: Eyes, picture: UInt8[Tensor, "3 h w"], *, rounds: int = ROUNDS) -> Machine:
    """Time teacher and student in turn, so that what else the machine does falls on both.

    Args:
        eyes: the networks.
        picture: what they look at.
        rounds: of each.
    """
    both = {"teacher": eyes.teacher, "student": eyes.after}
    items = {k: eye.run.prepare(picture) for k, eye in both.items()}
    times: dict[str, list[float]] = {k: [] for k in both}
    for _ in range(WARM):
        for name, eye in both.items():
            eye.run([items[name]])
    begun = time.perf_counter()
    for turn in range(rounds):
        for name, eye in both.items():
            start = time.perf_counter()
            eye.run([items[name]])  # brings the map to the CPU, and so waits for it
            times[name].append(1000 * (time.perf_counter() - start))
        if turn + 1 >= FEWEST and time.perf_counter() - begun > SECONDS:
            break
    costs = {
        name: _cost(eye, times[name], tuple(items[name].image.shape[1:]), items[name])
        for name, eye in both.items()
    }
    teacher, student = costs["teacher"], costs["student"]
    where = eyes.teacher.run.device
    return Machine(
        device=str(where),
        name=device(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        picture=tuple(picture.shape[1:]),
        rounds=len(times["teacher"]),
        teacher=teacher,
        student=student,
        speed=teacher.milliseconds / student.milliseconds,
        parameters=teacher.parameters / student.parameters,
        bytes=teacher.bytes / student.bytes,
    )


def _cost(eye: Eye, times: list[float], size: tuple[int, int], item) -> Cost:
    model = eye.run.model
    fast, median, slow = statistics.quantiles(times, n=4) if len(times) > 1 else 3 * times
    return Cost(
        encoder=str(getattr(model, "architecture", {}).get("encoder", type(model).__name__)),
        parameters=sum(p.numel() for p in model.parameters()),
        bytes=_bytes(model),
        input=size,
        milliseconds=median,
        fast=fast,
        slow=slow,
        memory=_memory(eye, item),
    )


def _bytes(model: nn.Module) -> int:
    """Of the files that the weights came from; of the weights, where there is no such file."""
    files = [file for file in getattr(model, "sources", ()) if file.is_file()]
    if files:
        return sum(file.stat().st_size for file in files)
    return sum(t.numel() * t.element_size() for t in model.state_dict().values())


def _memory(eye: Eye, item) -> int | None:
    """Bytes on a CUDA device while one picture passes."""
    where = eye.run.device
    if where.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(where)
    before = torch.cuda.memory_allocated(where)
    eye.run([item])
    passing = torch.cuda.max_memory_allocated(where) - before
    weights = sum(t.numel() * t.element_size() for t in eye.run.model.state_dict().values())
    return passing + weights
