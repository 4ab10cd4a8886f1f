"""One bar for everything that a call is about to train and score, with the time left for all of it.

A bar is drawn where somebody watches: in a terminal, in JupyterLab, in Colab. Elsewhere, as in a
log, in tests and in the book's own kernels, there are lines instead.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tqdm.auto import tqdm

from dalib.config import RunConfig
from dalib.errors import Stopped
from dalib.progress import Report, Step, headed

LINES = "DABOOK_LINES"
"""A variable that is set where progress is to be lines even in a notebook's kernel."""
FORMAT = "{desc}{percentage:3.0f}%|{bar}| {elapsed} so far, {remaining} left"


class Interrupted(Stopped):
    """The stop button of a notebook, or Ctrl-C beside one: a line instead of a traceback."""

    def _render_traceback_(self) -> list[str]:  # what IPython asks an exception for
        return [str(self)]


@dataclass(frozen=True)
class Work:
    """What one run takes, in images that go forward and backward through a network; forward alone
    counts a third."""

    labelling: float
    training: float
    scoring: float

    @property
    def whole(self) -> float:
        return self.labelling + self.training + self.scoring


def work(configs: Iterable[RunConfig]) -> dict[str, Work]:
    """Hash -> what is to be done for the runs and for those that they build on, in order, without
    what is trained already."""
    # seconds to import, which a command that only looks at its words can do without
    from dalib.data.scenes import TEST_DOMAINS
    from dalib.training import launch

    found: dict[str, Work] = {}

    def add(config: RunConfig, *, scored: bool) -> None:
        labelling = training = 0.0
        if not launch.trained(config):
            for needed in config.prerequisites().values():
                add(needed, scored=False)
            if config.pseudo_labels and config.labelling == "stored":
                labelling = config.unlabelled_images / 3
            pool = config.unlabelled_ratio * config.pseudo_labels
            training = float(config.steps * config.batch * (1 + pool))
        scoring = scored * (len(TEST_DOMAINS) + 1) * config.test_images / 3
        if scored or config.hash() not in found:
            found[config.hash()] = Work(labelling, training, scoring)

    for config in configs:
        add(config, scored=True)
    return found


class Bar:
    """A bar over `work`, moved by the steps that are reported.

    Args:
        configs: of the runs that are to be trained and scored.
        title: what stands before the bar until a row begins.
    """

    def __init__(self, configs: Iterable[RunConfig], *, title: str):
        self.work = work(configs)
        self.done = dict.fromkeys(self.work, 0.0)
        total = sum(w.whole for w in self.work.values())
        self.bar = tqdm(total=total, desc=f"{title}: ", bar_format=FORMAT, leave=True)

    def begin(self, head: str) -> None:
        """A row begins: its name stands before the bar."""
        self.bar.set_description(head)

    def report(self, line: str) -> None:
        """Take a line of progress: a `Step` moves the bar, any other line is shown above it."""
        if not isinstance(line, Step):
            self.bar.write(line)
        elif line.run in self.work:
            planned = self.work[line.run]
            self._move(line.run, planned.labelling + planned.training * line.done / line.steps)

    def end(self, config: RunConfig) -> None:
        """A run is scored and recorded."""
        run = config.hash()
        self._move(run, self.work[run].whole)

    def _move(self, run: str, done: float) -> None:
        self.bar.update(done - self.done[run])
        self.done[run] = done


class Lines:
    """The same as lines, each behind the head of its row; where a row begins, with the time left.

    Args:
        configs: of the runs that are to be trained and scored.
        say: receives the lines.
    """

    def __init__(self, configs: Iterable[RunConfig], say: Report):
        self.say, self.head = say, ""
        self.left, self.done = work(configs), 0.0
        self.begun = time.perf_counter()

    def begin(self, head: str) -> None:
        """A row begins."""
        self.head = f"{head}  "
        if not self.done:
            self.say(head)
            return
        rate = (time.perf_counter() - self.begun) / self.done
        left = rate * sum(w.whole for w in self.left.values())
        self.say(f"{self.head}about {left:.0f} s left in all")

    def report(self, line: str) -> None:
        """Pass a line on."""
        if isinstance(line, Step) and line.done == line.steps and line.run in self.left:
            planned = self.left[line.run]  # a teacher, perhaps, whose end nobody else tells
            self.done += planned.labelling + planned.training
            self.left[line.run] = Work(0, 0, planned.scoring)
        self.say(headed(self.head, line))

    def end(self, config: RunConfig) -> None:
        """A run is scored and recorded."""
        self.done += self.left.pop(config.hash()).whole


@contextmanager
def following(
    configs: Sequence[RunConfig],
    *,
    title: str,
    report: Report | None = None,
    say: Report = print,
) -> Iterator[Bar | Lines]:
    """Show how far the work of a block is.

    Args:
        configs: of the runs that are to be trained and scored.
        title: what stands before the bar.
        report: receives lines; None draws a bar where somebody watches.
        say: receives the lines where nobody does and no `report` is given.

    Raises:
        Interrupted: in a notebook, for KeyboardInterrupt and `Stopped`: one line without a
            traceback.
    """
    if report is not None or not watched():
        yield Lines(configs, report or say)
        return
    shown = Bar(configs, title=title)
    try:
        yield shown
    except (KeyboardInterrupt, Stopped) as error:
        if not in_notebook():
            raise
        raise Interrupted(
            f"Stopped: {title} keeps what it has done; run this cell again, and it goes on from "
            "there."
        ) from error
    finally:
        shown.bar.close()


def watched() -> bool:
    """Whether somebody sees what this process says while it says it."""
    return LINES not in os.environ and (in_notebook() or sys.stderr.isatty())


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook, of Jupyter's or Colab's."""
    shell: Callable | None = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return shell is not None and getattr(shell(), "kernel", None) is not None
