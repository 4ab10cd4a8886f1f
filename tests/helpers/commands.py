"""Both command lines, as one."""

from pathlib import Path

from dabook.__main__ import commands as book
from dabook.__main__ import main as book_main
from dalib.__main__ import main as library_main

OF_THE_BOOK = frozenset(book().names)


def main(words: list[str]) -> int:
    """Call `python -m dalib` or `python -m dabook` with these words in this process: whichever has
    the command."""
    return (book_main if words[0] in OF_THE_BOOK else library_main)(words)


def prediction(photos: Path, out: Path, weights: Path) -> list[str]:
    """The words that predict on the CPU."""
    return ["predict", *map(str, (photos, out)), "--weights", str(weights), "--device", "cpu"]
