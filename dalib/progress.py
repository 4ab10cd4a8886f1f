"""How far a training is: a line for a person that a program understands as well."""

import json
import re
from collections.abc import Callable

Report = Callable[[str], None]
"""Receives lines of progress; each line of a training is a `Step`."""

_CODED = re.compile(r"step (\[.*?\]) (.*)", re.S)


class Step(str):
    """A line of progress that knows how far which run is; it prints as the line.

    Args:
        line: for a person.
        run: hash of the run's configuration.
        done: steps that are done, from 0 to `steps`.
        steps: of the whole run.
    """

    run: str
    done: int
    steps: int

    def __new__(cls, line: str, *, run: str, done: int, steps: int):
        self = super().__new__(cls, line)
        self.run, self.done, self.steps = run, done, steps
        return self


def headed(head: str, line: str) -> str:
    """A line behind a head; a `Step` stays one."""
    text = f"{head}{line}"
    if isinstance(line, Step):
        return Step(text, run=line.run, done=line.done, steps=line.steps)
    return text


def encode(line: str) -> str:
    """A line as a process sends it to the one that started it."""
    if isinstance(line, Step):
        return f"step {json.dumps([line.run, line.done, line.steps])} {line}"
    return f"line {line}"


def decode(text: str) -> str:
    """What `encode` was given."""
    if found := _CODED.fullmatch(text):
        run, done, steps = json.loads(found[1])
        return Step(found[2], run=run, done=done, steps=steps)
    return text.removeprefix("line ")
