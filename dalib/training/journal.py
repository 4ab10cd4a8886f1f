"""What a run says of itself while it goes: a line of progress, its files, its trackers.

In the run's folder are, with one JSON object a line:

- `metrics.jsonl`: losses, norm of the gradient, learning rates. A function of the run alone: the
  same for a run that was killed and one that was not.
- `speed.jsonl`: `images_per_second` over all processes, `waiting` (share of the time in which the
  loop waited for its next batch), `memory_mb` (the peak so far, of the main process), all since the
  line before; `seconds` says how long that is. Of this machine, and different each time.
- `validation.jsonl`: the scores of each validation, and the best step so far.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from dalib.config import RunConfig
from dalib.errors import DataError
from dalib.progress import Step
from dalib.training.folder import Clock
from dalib.training.trackers import Trackers
from dalib.writing import write_text

METRICS, SPEED, VALIDATION = "metrics.jsonl", "speed.jsonl", "validation.jsonl"
RATES = ("lr_encoder", "lr_decoder")
"""What the learning rates of the optimiser's groups are called, in their order."""
FIRST = 5
"""So many steps of each leg do not count for the time left: they compile, and fill caches."""

T = TypeVar("T")


def duration(seconds: float | int) -> str:
    """A time for a person: seconds under 2 minutes, minutes under 2 hours, hours and minutes under
    2 days, days and hours."""
    seconds = round(seconds)
    minutes = round(seconds / 60)
    hours = round(seconds / 3600)
    if seconds < 120:
        return f"{seconds} s"
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"


class Pace:
    """How fast the steps of this leg go, by the clock of this process.

    Args:
        images: of one step, over all processes.
        clock: seconds.
    """

    def __init__(self, *, images: int, clock: Callable[[], float | int] = time.perf_counter):
        self.images = images
        self.clock = clock
        self.steps = 0
        self.begun = self.warm = clock()  # of the leg, and of the steps that count for what is left
        self.since = self.begun  # the last line, and what has passed since
        self.told = 0
        self.waited = 0.0
        self.beside = 0.0

    def fed(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches, while the time that they are waited for is taken."""
        source = iter(batches)
        while True:
            asked = self.clock()
            try:
                batch = next(source)
            except StopIteration:
                return
            self.waited += self.clock() - asked
            yield batch

    def step(self) -> None:
        """A step is done."""
        self.steps += 1
        if self.steps == FIRST:
            self.warm = self.clock()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is done in the block is no part of a step, as a validation: it takes its time from
        what is left, but counts for no speed."""
        begun = self.clock()
        try:
            yield
        finally:
            self.beside += self.clock() - begun

    def line(self) -> dict[str, float | int]:
        """`seconds` since the last line, and in them `images_per_second` and the share of
        `waiting`."""
        now = self.clock()
        seconds = max(now - self.since - self.beside, 1e-9)
        found = {
            "seconds": seconds,
            "images_per_second": self.images * (self.steps - self.told) / seconds,
            "waiting": self.waited / seconds,
        }
        self.since, self.told = now, self.steps
        self.waited = self.beside = 0.0
        return found

    def left(self, steps: int) -> float | int:
        """Seconds that so many further steps will take: as those of this leg, without its `FIRST`
        ones as soon as there are others."""
        counted = self.steps - FIRST
        if counted > 0:
            return steps * (self.clock() - self.warm) / counted
        return steps * (self.clock() - self.begun) / max(self.steps, 1)


class Log:
    """A file with one JSON object a line, each of a `step`. Lines after the step that training goes
    on from are dropped, and so is half a line, as a kill may leave one."""

    def __init__(self, path: Path, start: int):
        self.path = path
        self.lines = [line for line in read_lines(path) if line["step"] <= start] if start else []
        if path.exists() or self.lines:
            write_text(path, "".join(json.dumps(line) + "\n" for line in self.lines))

    def write(self, **values: float | int) -> None:
        """Append one line. Raises `DataError` where the disk refuses it."""
        self.lines.append(values)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise DataError(
                f"{self.path}: could not be written ({error}); free some space and run again"
            ) from error


def read_lines(path: Path) -> list[dict]:
    """The whole lines of such a file; none where there is no file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


class Journal:
    """What the main process says of a run as it goes.

    Args:
        config: the run.
        out: its folder.
        start: the step that it goes on from.
        pace: of its steps.
        clock: notes the time whenever something is written.
        report: receives the lines of progress.
    """

    def __init__(
        self,
        config: RunConfig,
        out: Path,
        *,
        start: int,
        pace: Pace,
        clock: Clock | None,
        report: Callable[[str], None],
    ):
        self.config = config
        self.pace = pace
        self.clock = clock
        self.report = report
        self.metrics = Log(out / METRICS, start)
        self.speed = Log(out / SPEED, start)
        self.validation = Log(out / VALIDATION, start)
        self.trackers = Trackers(config, out, start=start, report=report)

    def note(self, done: int, values: dict[str, Tensor], optimiser: Optimizer) -> None:
        """Note the step that was done just now, and log it if it is one to be logged.

        Args:
            done: how many steps are done.
            values: losses and the norm of the gradient, as they are called in the log.
            optimiser: with the learning rates of this step.
        """
        steps = self.config.steps
        self.pace.step()
        if done % self.config.log_every and done != steps:
            return
        metrics = {name: float(value) for name, value in values.items()}
        groups = optimiser.param_groups
        metrics |= {name: group["lr"] for name, group in zip(RATES, groups, strict=True)}
        speed = {name: round(value, 4) for name, value in self.pace.line().items()}
        speed["memory_mb"] = round(peak_memory())
        self.metrics.write(step=done, **metrics)
        self.speed.write(step=done, **speed)
        left = self.pace.left(steps - done)
        line = progress(done, steps, metrics["loss"], speed, left=left)
        self.report(Step(line, run=self.config.hash(), done=done, steps=steps))
        self.trackers.log(metrics | speed, step=done)
        if self.clock is not None:
            self.clock.tick()

    def has_validated(self, done: int) -> bool:
        """Whether there are scores after this many steps."""
        return any(line["step"] == done for line in self.validation.lines)

    def validated(self, done: int, scores: dict[str, float | int]) -> None:
        """Note the scores after this many steps, and which step is the best."""
        step, error = best([*self.validation.lines, {"step": done} | scores]) or (done, 0.0)
        self.validation.write(step=done, best_step=step, **scores)
        note = "the best so far" if step == done else f"the best was {error:.4f} after step {step}"
        self.report(f"validation after step {done}: AbsRel {scores['abs_rel']:.4f}, {note}")
        self.trackers.log({f"validation/{k}": v for k, v in scores.items()}, step=done)

    def close(self) -> None:
        """Nothing more will be said."""
        self.trackers.close()


def progress(
    done: int, steps: int, loss: float | int, speed: dict[str, float | int], *, left: float | int
) -> str:
    """The line of progress after a step.

    Args:
        done, steps: steps that are done, and of the whole run.
        loss: of the last of them.
        speed: as `Pace.line` has it, and `memory_mb`.
        left: seconds that the rest will take.
    """
    rate = speed["images_per_second"]
    words = [
        f"step {done}/{steps}",
        f"loss {loss:.4f}",
        f"{rate:.{0 if rate >= 10 else 1}f} images/s",
        f"waiting {100 * speed['waiting']:.0f} %",
        f"{speed['memory_mb'] / 1024:.1f} GB",
        f"left {duration(left)}",
    ]
    return "  ".join(words)


def best(lines: Iterable[dict]) -> tuple[int, float | int] | None:
    """The step of the least mean AbsRel, the first of equals, and its value; None where no line has
    one that is a number."""
    scored = [(x["abs_rel"], x["step"]) for x in lines if x["abs_rel"] == x["abs_rel"]]
    value, step = min(scored, default=(None, None))
    return None if step is None else (step, value)


def outcome(out: Path) -> dict[str, float | int]:
    """What a whole run came to, from the files in its folder: the mean `images_per_second` and share
    of `waiting` over all its logged steps, the first ones included; with validation `best_step` and
    its `best_abs_rel`."""
    lines = read_lines(out / SPEED)
    seconds = sum(line["seconds"] for line in lines)
    found: dict[str, float | int] = {}
    for name in ("images_per_second", "waiting"):
        total = sum(line[name] * line["seconds"] for line in lines)
        found[name] = round(total / seconds, 4) if seconds else 0.0
    if scored := best(read_lines(out / VALIDATION)):
        found |= {"best_step": scored[0], "best_abs_rel": scored[1]}
    return found


def peak_memory() -> float:
    """Greatest memory of this process in MB: of the accelerator where there is one, resident
    otherwise."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # of this process alone; ru_maxrss begins with what its parent had
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
