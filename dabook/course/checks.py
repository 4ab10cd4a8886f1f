"""The tests that stand in a notebook of the course: each says in words what is wrong, and ends its
cell with an error, so that nbgrader and `python -m dabook grade` count it."""

import traceback
from collections.abc import Callable, Collection, Sequence

import numpy as np

from dalib.config import check_names
from dalib.conformance import check as conform
from dalib.conformance import read
from dalib.conformance.catalogue import SCORES
from dalib.conformance.reference import METRICS
from dalib.conformance.report import Report
from dalib.errors import ConfigError
from dalib.functions import CallError


class CheckError(Exception):
    """What a test found. A notebook shows the words alone."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


class NotWrittenError(CheckError):
    """There is still a gap in its place."""


class WrongError(CheckError):
    """There is something, and it is not right."""


def check(
    function: Callable,
    kind: str,
    *,
    metric: str | None = None,
    only: Collection[str] = (),
    named: bool = True,
) -> None:
    """Hold a function against the vectors of the conformance kit.

    Args:
        function: called by keyword, as `python -m dalib conform --as KIND --list` says.
        kind: of `dalib.conformance.kinds`.
        metric: which, of the kinds "metric" and "evaluator".
        only: names of vectors; all by default.
        named: whether the fault is named, with what to do about it; else only the vectors that show
            one.

    Raises:
        NotWrittenError: the function still has its gap.
        WrongError: it does not conform, or cannot be called.
        ConfigError: an unknown kind, metric or vector.
    """
    what = f"{getattr(function, '__name__', 'the function')} as {kind} {metric or ''}".rstrip()
    try:
        report = conform(function, kind, metric=metric, skip=_others(kind, metric, only))
    except CallError as error:
        if (gap := _gap(error)) is not None:
            raise NotWrittenError(_unwritten(what.partition(" as ")[0], gap)) from None
        raise WrongError(f"{what}: {error}") from None
    if not report:
        raise WrongError("\n".join(_told(what, report, kind, metric, named=named))) from None
    count = f", {len(report.passed)} vectors" if _about(kind, metric) else ""
    print("\n".join([f"{what}: conforms{count}", *report.notes]))


def agree(what: str, yours: object, ours: object, *, within: float = 1e-4) -> None:
    """Compare what a student found with what the library finds.

    Args:
        what: how messages call it.
        yours: a number, or anything that NumPy takes for an array, or a function without arguments
            that gives it; `...` where there is a gap.
        ours: the same of the library.
        within: what is allowed, relative to the larger of 1 and the library's.

    Raises:
        NotWrittenError: there is still a gap.
        WrongError: another value, another shape, or none.
    """
    yours = _given(what, yours)
    mine, theirs = (_numbers(x, what) for x in (yours, ours))
    if mine.shape != theirs.shape and mine.size == theirs.size == 1:
        mine = mine.reshape(theirs.shape)
    if mine.shape != theirs.shape:
        raise WrongError(f"{what}: has shape {mine.shape}, and {theirs.shape} is meant")
    away = abs(mine - theirs) / np.maximum(1, abs(theirs))
    wrong = ~(away <= within) & ~(np.isnan(mine) & np.isnan(theirs))
    if wrong.any():
        raise WrongError(f"{what}: {_places(mine, wrong)}, which is not what the library finds")
    print(f"{what}: right")


def holds(what: str, yours: object, law: Callable[[np.ndarray], bool], otherwise: str) -> None:
    """See that what a student found, for which there are many right answers, obeys a law.

    Args:
        what, yours: as for `agree`.
        law: of the array.
        otherwise: what to say where it does not hold.

    Raises:
        NotWrittenError: there is still a gap.
        WrongError: no numbers, or the law does not hold.
    """
    if not law(_numbers(_given(what, yours), what)):
        raise WrongError(f"{what}: {otherwise}")
    print(f"{what}: right")


def written(what: str, given: object) -> None:
    """See that there is something in the place of a gap; else a `NotWrittenError`."""
    if given is ... or given is None or (isinstance(given, str) and not given.strip()):
        raise NotWrittenError(_unwritten(what, ""))


def _given(what: str, yours: object) -> object:
    """What a student found, called where it is a function."""
    try:
        found = yours() if callable(yours) else yours
    except CheckError:
        raise
    except Exception as error:
        if (hint := _gap(error)) is not None:
            raise NotWrittenError(_unwritten(what, hint)) from None
        raise WrongError(f"{what}: {_failed(error)}") from None
    written(what, found)
    return found


def _failed(error: Exception) -> str:
    """What went wrong in a student's code, and in which line of a cell."""
    frames = traceback.extract_tb(error.__traceback__)
    cells = [frame for frame in frames if "ipykernel" in frame.filename]
    where = f" in line {cells[-1].lineno} of its cell, {cells[-1].line}" if cells else ""
    return f"ends with {type(error).__name__}{where}: {error}"


# ---- words


def _unwritten(what: str, hint: str) -> str:
    return f"{what}: not written yet" + (f". Hint: {hint}" if hint else "")


def _told(
    what: str, report: Report, kind: str, metric: str | None, *, named: bool
) -> Sequence[str]:
    """What a report says, for somebody who looks for the fault."""
    about = _about(kind, metric)
    count = len(report.passed) + len(report.failed)
    head = f"{what}: does not conform"
    if about and report.failed:
        head += f", {len(report.failed)} of {count} vectors fail"
    if named:
        return [head, *(line for finding in report.findings for line in finding.lines())]
    shown = report.failed or [finding.vector for finding in report.findings]
    names = dict.fromkeys(name.rpartition("/")[2] for name in shown)  # METRIC/VECTOR of a dict
    return [head, *(f"  {name}: {about.get(name, '')}" for name in names)]


def _about(kind: str, metric: str | None) -> dict[str, str]:
    """Vector -> what it holds; nothing for a kind that is held against a law."""
    if kind in SCORES and metric is None:
        metric = METRICS[0]  # the vectors of all metrics hold the same
    try:
        return {vector.name: vector.about for vector in read(kind, metric)}
    except OSError:
        return {}


def _gap(error: BaseException | None) -> str | None:
    """The hint of the gap that an error comes from, None where it has another cause."""
    while error is not None:
        if isinstance(error, NotImplementedError):
            return str(error)
        error = error.__cause__
    return None


def _others(kind: str, metric: str | None, only: Collection[str]) -> list[str]:
    if not only:
        return []
    known = _about(kind, metric)
    if not known:
        raise ConfigError(f"only: {kind!r} has no vectors to choose from")
    check_names(only, known, what=f"vector of {kind}")
    return [name for name in known if name not in only]


# ---- values


def _numbers(given: object, what: str) -> np.ndarray:
    if hasattr(given, "detach"):
        given = given.detach().cpu()
    try:
        return np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        raise WrongError(f"{what}: {type(given).__name__} is no number") from None


def _places(mine: np.ndarray, wrong: np.ndarray) -> str:
    """The first value that is wrong, and where it stands: "element 1, 2 is 10"."""
    if not mine.ndim:
        return f"{mine:.6g}"
    place = tuple(int(k) for k in np.argwhere(wrong)[0])
    return f"element {', '.join(map(str, place))} is {mine[place]:.6g}"
