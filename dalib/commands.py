"""What every command line of this project does alike: logging, exit codes, and one line for what a
user can mend."""

import argparse
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dalib.errors import Stopped, UserError
from dalib.stopping import Stop, listening

Call = Callable[[argparse.Namespace], None]


class Parser(argparse.ArgumentParser):
    """Takes every word that begins like a negative number for a value, such as -1,20,3.5 or -1e-3:
    argparse itself knows -1 and -0.1 alone, and takes others for unknown options."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = re.compile(r"-\.?\d|-(inf|nan)")


class Commands:
    """A command line of several commands, each a function whose docstring is its help.

    Args:
        prog: how it is called, such as "python -m dalib".
        description: what it is for.
        elsewhere: commands that another program has, each with how it is called there.
    """

    def __init__(self, *, prog: str, description: str, elsewhere: dict[str, str] | None = None):
        self.parser = Parser(prog=prog, description=description)
        self._commands = self.parser.add_subparsers(required=True, metavar="COMMAND")
        self.elsewhere = elsewhere or {}

    def add(self, name: str, function: Call) -> argparse.ArgumentParser:
        """A command; what it takes is added to the parser that comes back."""
        sub = self._commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        sub.set_defaults(call=function)
        return sub

    @property
    def names(self) -> tuple[str, ...]:
        """The commands that there are."""
        return tuple(self._commands.choices)

    def main(self, words: list[str] | None = None) -> int:
        """Parse, call, and turn a `UserError` into a message and exit code 1; Ctrl-C is exit code
        130.

        Without `words` this is the program itself: it reads its own command line, and once the work
        is done nothing stops it from leaving with the code that says so.
        """
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # file names may hold bytes that no encoding knows
                stream.reconfigure(errors="backslashreplace")
        is_program = words is None
        words = sys.argv[1:] if words is None else words
        if words and words[0] in self.elsewhere:
            print(f"error: {words[0]} is a command of {self.elsewhere[words[0]]}", file=sys.stderr)
            return 2
        args = self.parser.parse_args(words)
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        for noisy in ("papermill.translators", "httpx", "blib2to3"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        try:
            with listening(Stop(), then_ignore=is_program):
                args.call(args)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt as interrupt:
            kept = "what was finished is kept; the same command goes on from there"
            print(f"interrupted: {str(interrupt) or kept}", file=sys.stderr)
            return 130
        return 0


@contextmanager
def written_at_the_end() -> Iterator[None]:
    """Around the work of a command that writes once, at its end: a stop says that nothing is kept."""
    nothing = "nothing was written yet; run it again from the start"
    try:
        yield
    except Stopped as stopped:
        raise Stopped(f"stopped before the end: {nothing}") from stopped
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(nothing) from interrupt
