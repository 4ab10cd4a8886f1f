"""One bar for everything that a call is about to train and score, with the time left for all of it.

A bar is drawn where somebody watches: in a terminal, in JupyterLab, in Colab. Elsewhere, as in a
log, in tests and in the book's own kernels, there are lines instead. Where a command in a terminal
runs a notebook, the notebook's kernel sends its progress, and the command draws the bar.
"""

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from dalib.config import RunConfig
from dalib.errors import Stopped
from dalib.progress import Report, Step, decode, encode, headed

LINES = "DABOOK_LINES"
"""A variable that is set where progress is to be lines even in a notebook's kernel."""
SENT = "DABOOK_PROGRESS"
"""A variable that names the file to which a kernel sends its progress, for a bar elsewhere."""
POLL = 0.1
"""Seconds between two looks at that file."""
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
        planned: hash of each run -> what it takes.
        title: what stands before the bar until a row begins.
    """

    def __init__(self, planned: Mapping[str, Work], *, title: str):
        self.work = planned
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
        self.end_run(config.hash())

    def end_run(self, run: str) -> None:
        """The run of this hash is scored and recorded."""
        self._move(run, self.work[run].whole)

    def close(self) -> None:
        """Leave the bar as it is, and the line that it stands in."""
        self.bar.close()

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


class Sender:
    """The same sent to another process, which draws the bar (`received`).

    Args:
        planned, title: see `Bar`.
        path: the file that takes the messages, one in a line.
        say: receives the lines that are no steps.
    """

    def __init__(self, planned: Mapping[str, Work], *, title: str, path: Path, say: Report):
        self.path, self.say = path, say
        self._send("open", title, {run: astuple(w) for run, w in planned.items()})

    def begin(self, head: str) -> None:
        """A row begins."""
        self._send("begin", head)

    def report(self, line: str) -> None:
        """Send a step; any other line stays here."""
        if isinstance(line, Step):
            self._send("report", encode(line))
        else:
            self.say(line)

    def end(self, config: RunConfig) -> None:
        """A run is scored and recorded."""
        self._send("end", config.hash())

    def close(self) -> None:
        """Nothing more comes."""
        self._send("close")

    def _send(self, *message: object) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(message) + "\n")


class Receiver:
    """Draws the bars of which a `Sender` in another process writes."""

    def __init__(self) -> None:
        self.shown: Bar | None = None

    def take(self, message: str) -> None:
        """Do what one message says."""
        what, *rest = json.loads(message)
        if what == "open":
            title, planned = rest
            self.close()
            self.shown = Bar({run: Work(*w) for run, w in planned.items()}, title=title)
        elif self.shown is None:
            return  # of a bar that is closed
        elif what == "begin":
            self.shown.begin(rest[0])
        elif what == "report":
            self.shown.report(decode(rest[0]))
        elif what == "end":
            self.shown.end_run(rest[0])
        else:
            self.close()

    def close(self) -> None:
        """Close the bar that is open, if one is."""
        if self.shown is not None:
            self.shown.close()
        self.shown = None


@contextmanager
def received() -> Iterator[dict[str, str]]:
    """Draw the bars of a process that this block starts, and yield the variables that it needs.

    What is logged meanwhile is written above the bar.
    """
    with tempfile.TemporaryDirectory(prefix="dabook-") as folder:
        path = Path(folder) / "progress"
        path.touch()
        over, receiver = threading.Event(), Receiver()
        thread = threading.Thread(target=_read, args=(path, receiver, over), daemon=True)
        thread.start()
        try:
            with logging_redirect_tqdm():
                yield {SENT: str(path)}
        finally:
            over.set()
            thread.join()
            receiver.close()


def _read(path: Path, receiver: Receiver, over: threading.Event) -> None:
    """Hand on what is written into a file, a line at a time, until it is over."""
    begun = ""
    with path.open(encoding="utf-8") as file:
        while True:
            last = over.wait(POLL)  # before the file is read: nothing comes after
            *lines, begun = (begun + file.read()).split("\n")
            for line in lines:
                receiver.take(line)
            if last:
                return


@contextmanager
def following(
    configs: Sequence[RunConfig],
    *,
    title: str,
    report: Report | None = None,
    say: Report = print,
) -> Iterator[Bar | Lines | Sender]:
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
    if report is None and (path := os.environ.get(SENT)):
        sender = Sender(work(configs), title=title, path=Path(path), say=say)
        try:
            yield sender
        finally:
            sender.close()
        return
    if report is not None or not watched():
        yield Lines(configs, report or say)
        return
    shown = Bar(work(configs), title=title)
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
        shown.close()


def watched() -> bool:
    """Whether somebody sees what this process says while it says it."""
    return LINES not in os.environ and (in_notebook() or sys.stderr.isatty())


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook, of Jupyter's or Colab's."""
    shell: Callable | None = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return shell is not None and getattr(shell(), "kernel", None) is not None
