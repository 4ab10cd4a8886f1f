"""Pieces of work side by side, a few at a time, and never two at once that claim the same thing."""

import queue
import threading
from collections.abc import Callable, Sequence, Set

LANES = 2


def run(
    names: Sequence[str],
    work: Callable[[str], object],
    claims: Callable[[str], Set[str]],
    *,
    lanes: int = LANES,
) -> None:
    """Do all the work, each piece in a thread of its own that bears its name, and return when it is
    done.

    Args:
        names: of the pieces, without repetition.
        work: does the piece of that name.
        claims: what a piece claims for itself. It is asked again whenever a lane is free, so that
            it may shrink as others finish. Of two that claim the same thing, the one that stands
            first in `names` goes first.
        lanes: how many at once.

    Pieces that claim something go before those that do not: they are the long ones. When a piece
    raises, what is being done beside it goes on to its end, nothing new begins, and then the first
    error is raised. The threads die with the program.
    """
    pending, running, ended, error = list(names), {}, queue.SimpleQueue(), None

    def do(name: str) -> None:
        failure = None
        try:
            work(name)
        except BaseException as raised:  # raised again below, by the caller's thread
            failure = raised
        ended.put((name, failure))

    while pending or running:
        while len(running) < lanes and (name := _next(pending, claims, running.values())):
            pending.remove(name)
            running[name] = claims(name)
            threading.Thread(target=do, args=(name,), name=name, daemon=True).start()
        name, failure = ended.get()
        del running[name]
        if failure is not None:
            error = error or failure
            pending.clear()
    if error is not None:
        raise error


def _next(pending: list[str], claims: Callable[[str], Set[str]], running) -> str | None:
    taken, free = set().union(*running), []
    for name in pending:
        own = claims(name)
        if taken.isdisjoint(own):
            free.append((not own, name))
        taken |= own  # nobody overtakes one that waits
    return min(free, key=lambda pair: pair[0])[1] if free else None
