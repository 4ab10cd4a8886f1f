"""Ending work early without losing it: signals, and processes whose parent is gone.

SIGTERM and SIGUSR1 (what clusters send before the time is up) end the work with
`dalib.errors.Stopped` and its exit code, 75: at once where nothing would be lost, and after the
current step, with the state saved, where something would. So does SIGINT in the second case (Ctrl-C,
a notebook's stop button); in the first, and the second time, it is a KeyboardInterrupt. Of several training
processes it is enough that one is asked: they agree at the end of a step.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dalib.errors import Stopped

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
STOP = "stop"
"""A file in a run's folder: how the process that was called asks those that it started."""
GRACE = 60.0
"""Seconds in which a process whose parent is gone ends by itself; after them it is taken to wait
for somebody who will not come."""


class Stop:
    """Whether the work was asked to stop, and by what.

    Args:
        file: asks, as soon as it exists.
        parent: pid of the process that began this job; its end asks, and so does the end of this
            process's own parent.
    """

    def __init__(self, *, file: Path | None = None, parent: int | None = None):
        self.file = file
        self.parent = parent
        self.launcher = os.getppid()
        self.signal: int | None = None
        self.deferred = False
        self.relay: Path | None = None

    def note(self, number: int, _frame=None) -> None:
        """What a signal does: ask those behind `relay`, and raise `Stopped` here unless somebody
        will look at `reason`."""
        if number == signal.SIGINT and (self.signal == number or not self.deferred):
            raise KeyboardInterrupt
        self.signal = number
        if self.relay is not None:
            self.relay.touch()
        if not self.deferred:
            raise Stopped(
                f"stopped by {signal.Signals(number).name}; what was finished is kept, "
                "run again to go on"
            )

    def reason(self) -> str | None:
        """What asked for it, in words; None where nothing did."""
        if self.signal is not None:
            return signal.Signals(self.signal).name
        if self.file is not None and self.file.exists():
            return "a request of the process that started this one"
        if self.is_orphan():
            return "the end of the process that started this one"
        return None

    def is_orphan(self) -> bool:
        """Whether the process that began this job is gone, or the one between it and this one."""
        return self.parent is not None and (
            os.getppid() != self.launcher or not is_alive(self.parent)
        )

    @contextmanager
    def defer(self, *, relay: Path | None = None) -> Iterator[None]:
        """While a block runs signals are only noted, and `relay`, a file of other processes, is
        made."""
        before = self.deferred, self.relay
        self.deferred = True
        self.relay = relay
        try:
            yield
        finally:
            self.deferred, self.relay = before


@contextmanager
def listening(stop: Stop, *, then_ignore: bool = False) -> Iterator[Stop]:
    """Let `SIGNALS` and SIGINT reach `stop`; put the handlers back afterwards.

    Only the main thread can; elsewhere signals do what they did before. A process that has a parent
    to ask for it is watched as
    well: where it is waiting for others of its job, no step comes at which it would see that they
    are gone.

    Args:
        stop: what they are noted in.
        then_ignore: ignore them afterwards, as a program does that has done its work and is about
            to leave: its exit code says what it did.
    """
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {n: signal.signal(n, stop.note) for n in (*SIGNALS, signal.SIGINT)}
    done = threading.Event()
    if stop.parent is not None:
        threading.Thread(target=_watch, args=(stop, done), daemon=True).start()
    try:
        yield stop
    finally:
        done.set()
        for number, handler in before.items():
            after = signal.SIG_DFL if handler is None else handler
            signal.signal(number, signal.SIG_IGN if then_ignore else after)


def _watch(stop: Stop, done: threading.Event) -> None:
    """End this process where its parent is gone and it has not ended by itself after `GRACE`
    seconds."""
    while not done.wait(1):
        if stop.is_orphan() and not done.wait(GRACE):
            print(
                "the process that started this one is gone, and so is whom it waits for",
                file=sys.stderr,
                flush=True,
            )
            os._exit(Stopped.exit_code)


def ignore_signals(_: int) -> None:
    """For a loader's processes: they end with the process that they load for, and not before it has
    saved its state."""
    for number in (*SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine is there, and not just waiting to be buried."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True  # no /proc on this system: the signal's answer stands
    return state not in "ZX"
