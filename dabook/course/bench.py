"""Where a student adds rows: a copy of `experiments.yaml`, so that the book's own stays as it is; and
where expectations are written down before a run."""

import json
import os
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

from dabook.course.checks import WrongError, written
from dabook.runs.experiments import FILE, Experiment, expand, experiments
from dabook.runs.records import entries
from dalib import paths
from dalib.errors import ConfigError
from dalib.writing import write_text

BECAUSE = "because"
"""The entry of an expectation that says why."""
WORDS = 5
"""The least that a reason has."""
PLACE = "DALIB_COURSE"
"""The variable that names a folder for what exercises and labs leave behind, in the place of `course`
in the folder for runs: so that a notebook that is graded does not find another one's expectation."""
_BOOK: list[Path] = []
"""The checkout, as it was before the first bench."""


def bench(name: str) -> Path:
    """A folder with a copy of `experiments.yaml`. From now on this process finds its experiments
    there, and its runs where they were before.

    Args:
        name: of the folder, below `place()`.

    Raises:
        ConfigError: the folder cannot be written.
    """
    runs = paths.writable_runs()
    if not _BOOK:
        _BOOK.append(paths.root())
    folder = place() / name
    write_text(folder / FILE, (_BOOK[0] / FILE).read_text(encoding="utf-8"))
    os.environ |= {"DALIB_ROOT": str(folder), "DALIB_RUNS": str(runs)}
    return folder


def place() -> Path:
    """Where exercises and labs leave what they write: `DALIB_COURSE`, else `runs/course`."""
    named = os.environ.get(PLACE)
    return Path(named) if named else paths.writable_runs() / "course"


def add(folder: Path, rows: object) -> None:
    """Put an experiment at the end of the copy, in the place of one that was put there before.

    Args:
        folder: of `bench`.
        rows: YAML, indented as in the file.

    Raises:
        NotWrittenError: there is still a gap.
        WrongError: what the book says of the text, such as an unknown setting.
    """
    written("the rows", rows)
    if not isinstance(rows, str):
        raise WrongError(f"the rows: {type(rows).__name__}; write them as text")
    path = folder / FILE
    before = (_BOOK[0] / FILE).read_text(encoding="utf-8")
    write_text(path, f"{before.rstrip()}\n\n{rows.strip(chr(10)).rstrip()}\n")
    os.utime(path, ns=(_next_instant(path),) * 2)  # two writes within one tick of the clock
    try:
        names = experiments()
    except ConfigError as error:
        write_text(path, before)
        raise WrongError(str(error)) from None
    print(f"{path}: {len(names)} experiments, the last is {names[-1]}")


def _next_instant(path: Path) -> int:
    return path.stat().st_mtime_ns + 1_000_000


def one_change(name: str, *, profile: str = "smoke") -> Experiment:
    """See that every row of an experiment differs in one setting from the row that it is compared
    with, and return the experiment.

    Raises:
        WrongError: no such experiment, fewer than two rows, or a row with no change or several.
    """
    try:
        found = expand(name, profile=profile)
    except ConfigError as error:
        raise WrongError(str(error)) from None
    if len(found.rows) < 2:
        raise WrongError(f"{name}: has {len(found.rows)} row; a comparison needs two")
    for row, other in _compared(found):
        mine, theirs = (found[each].configs[0].to_dict() for each in (row, other))
        changed = [key for key in mine if mine[key] != theirs[key]]
        if not changed:
            raise WrongError(
                f"{name}: {row} has the settings of {other} under the profile {profile}; they "
                "would be one run"
            )
        if len(changed) > 1:
            raise WrongError(
                f"{name}: {row} differs from {other} in {', '.join(changed)}: a difference in "
                "error would have several possible causes; change one setting"
            )
        print(f"{row} differs from {other} in {changed[0]}")
    return found


def _compared(found: Experiment) -> list[tuple[str, str]]:
    """Each row with the one that it is compared with."""
    names = [row.name for row in found.rows]
    if isinstance(found.against, Mapping):
        return list(found.against.items())
    others = names[:-1] if found.against == "above" else [names[0]] * (len(names) - 1)
    return list(zip(names[1:], others, strict=True))


def expect(
    found: Experiment, said: Mapping[str, object], *, choices: Mapping[str, Collection[str]]
) -> None:
    """Write down what somebody expects of an experiment. It may be changed until the first of its
    runs has a record, and not afterwards.

    Args:
        found: the experiment.
        said: question -> answer, and `because` with the reason.
        choices: question -> the answers that there are.

    Raises:
        NotWrittenError: there is still a gap.
        WrongError: an unknown answer, no reason, or a change after the fact.
    """
    for question, known in choices.items():
        answer = said.get(question)
        written(question, answer)
        if answer not in known:
            raise WrongError(f"{question}: {answer!r} is none of {', '.join(known)}")
    reason = said.get(BECAUSE)
    written(BECAUSE, reason)
    if len(str(reason).split()) < WORDS:
        raise WrongError(f"{BECAUSE}: say why, in {WORDS} words or more")
    known = {question: said[question] for question in (*choices, BECAUSE)}
    path = place() / "expected" / f"{found.name}-{found.profile}.json"
    first = _first(path)
    ran = any(entry.record for entry in entries(found))
    if first is not None and ran:
        if first["said"] != known:
            raise WrongError(
                f"the runs are there since; what you expected on {first['when']} was "
                f"{json.dumps(first['said'], ensure_ascii=False)}"
            )
        print(f"expected on {first['when']}, {'after' if first['ran'] else 'before'} the runs")
        return
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    content = {"said": known, "when": when, "ran": ran}
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    note = "; note: some of these runs were there already, so say whether you had seen them"
    print(f"{path}: written on {when}{note if ran else ''}")


def _first(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
