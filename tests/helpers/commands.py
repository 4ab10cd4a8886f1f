"""Both command lines, as one."""

from dabook.__main__ import commands as book
from dabook.__main__ import main as book_main
from dalib.__main__ import main as library_main

OF_THE_BOOK = frozenset(book().names)


def main(words: list[str]) -> int:
    """Call `python -m dalib` or `python -m dabook` with these words in this process: whichever has
    the command."""
    return (book_main if words[0] in OF_THE_BOOK else library_main)(words)
