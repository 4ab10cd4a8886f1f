"""The command line of the library: `python -m dalib predict photos maps --weights W`. The commands
themselves are in `dalib.cli`, one module each."""

import sys

from dalib.cli import (
    adapt,
    cache,
    calibrate,
    check_data,
    conform,
    evaluate,
    explain,
    export,
    fetch,
    finetune,
    label,
    manifest,
    predict,
    train,
)
from dalib.commands import Commands

ROAD = (
    fetch,
    manifest,
    check_data,
    adapt,
    label,
    train,
    evaluate,
    finetune,
    predict,
    calibrate,
    export,
    explain,
    conform,
    cache,
)
"""The commands in the order in which one comes to need them, which is that of `--help`."""
BOOK = ("run", "row", "rows", "book", "readme", "robustness", "floors", "certify", "student")


def commands() -> Commands:
    """The whole command line."""
    top = Commands(
        prog="python -m dalib",
        description="From photographs and a teacher to a student, its report and its export: the commands in the "
        "order in which one needs them (book/your_student.md walks through them).",
        elsewhere={name: f"the book: python -m dabook {name}" for name in BOOK},
    )
    for command in ROAD:
        command.add(top)
    return top


def main(words: list[str] | None = None) -> int:
    """Run one command line, and return its exit code."""
    return commands().main(words)


if __name__ == "__main__":
    sys.exit(main())
