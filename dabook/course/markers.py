"""Solutions in the cells of a notebook: where they begin and end, and what a student finds instead.

A solution in code stands between two lines, as nbgrader has it. After a colon follows the hint that
a student gets in its place::

    def median(d):
        ### BEGIN SOLUTION: sort the values; which one is in the middle?
        return d.sort().values[len(d) // 2]
        ### END SOLUTION

In a function the hint is raised as a `NotImplementedError`; names that are assigned at the left edge
become `...`; anything else there becomes a line of `...` under its hint.
"""

import ast
import json
import re
import textwrap
from dataclasses import dataclass

from dalib.errors import ConfigError

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
MARKER = re.compile(
    r"^(?P<indent>\s*)###\s(?P<edge>BEGIN|END)\sSOLUTION(?P<rest>.*)$", re.MULTILINE
)
LIKE = re.compile(r"\b(?:begin|end)[\s_-]*soluti?on", re.IGNORECASE)
"""What somebody may have meant for a marker."""
HINT = re.compile(r"^:\s(?P<hint>\S.*)$")
WIDTH = 100


@dataclass(frozen=True, kw_only=True)
class Solution:
    """One solution in a cell.

    Args:
        first, last: the lines of its markers, counted from 0.
        indent: of the markers.
        hint: what a student is told.
        code: between the markers, without their indent.
    """

    first: int
    last: int
    indent: str
    hint: str
    code: str

    @property
    def stub(self) -> list[str]:
        """The lines that stand in its place in the student's edition."""
        if self.indent:
            return [self.indent + line for line in _raised(self.hint, WIDTH - len(self.indent))]
        comment = textwrap.wrap(self.hint, WIDTH - 2)
        names = _assigned(self.code) or [""]
        return [f"# {line}" for line in comment] + [f"{n} = ..." if n else "..." for n in names]


def solutions(source: str, where: str) -> list[Solution]:
    """The solutions of a cell, in their order.

    Args:
        source: the code.
        where: what messages begin with.

    Raises:
        ConfigError: a marker without its other half, one in another or almost one; a solution
            without a hint or without code, or one that is no Python.
    """
    lines = source.split("\n")
    found: list[Solution] = []
    begun: int | None = None
    for place, line in enumerate(lines):
        marker = MARKER.match(line)
        if marker is None:
            if LIKE.search(line):
                raise ConfigError(
                    f"{where}, line {place + 1}: {line.strip()!r} is almost a marker; write "
                    f"{BEGIN}: HINT or {END}"
                )
            continue
        if marker["edge"] == "BEGIN":
            if begun is not None:
                raise ConfigError(
                    f"{where}, line {place + 1}: a solution begins within the one of line "
                    f"{begun + 1}; end that first ({END})"
                )
            begun = place
            continue
        if begun is None:
            raise ConfigError(f"{where}, line {place + 1}: a solution ends that never began")
        found.append(_solution(lines, begun, place, where))
        begun = None
    if begun is not None:
        raise ConfigError(
            f"{where}, line {begun + 1}: the solution that begins here has no end; close it with "
            f"{END}"
        )
    return found


def without(source: str, where: str) -> str:
    """A cell as a student gets it: each solution replaced by its stub. Errors as `solutions`."""
    lines = source.split("\n")
    for each in reversed(solutions(source, where)):
        lines[each.first : each.last + 1] = each.stub
    return "\n".join(lines)


def _solution(lines: list[str], first: int, last: int, where: str) -> Solution:
    begin, end = (MARKER.match(lines[k]) for k in (first, last))
    hint = HINT.match(begin["rest"])
    if hint is None:
        raise ConfigError(
            f"{where}, line {first + 1}: a solution without a hint; write {BEGIN}: HINT"
        )
    if end["rest"].strip():
        raise ConfigError(f"{where}, line {last + 1}: nothing may follow {END}")
    if begin["indent"] != end["indent"]:
        raise ConfigError(
            f"{where}, line {last + 1}: the solution ends at another indent than it begins with"
        )
    indent = begin["indent"]
    inner = lines[first + 1 : last]
    if outside := [k for k, x in enumerate(inner) if x.strip() and not x.startswith(indent)]:
        raise ConfigError(
            f"{where}, line {first + 2 + outside[0]}: stands left of the marker of its solution"
        )
    code = "\n".join(line[len(indent) :] for line in inner).strip("\n")
    try:
        empty = not ast.parse(code).body
    except SyntaxError as error:
        raise ConfigError(
            f"{where}, line {first + 1 + (error.lineno or 1)}: the solution is no Python "
            f"({error.msg})"
        ) from error
    if empty:
        raise ConfigError(f"{where}, line {first + 1}: a solution without code")
    return Solution(first=first, last=last, indent=indent, hint=hint["hint"].strip(), code=code)


def _assigned(code: str) -> list[str]:
    """The names that a piece of code assigns, each once; none where it does anything else."""
    found: dict[str, None] = {}
    for statement in ast.parse(code).body:
        if not isinstance(statement, ast.Assign):
            return []
        for target in statement.targets:
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            if not all(isinstance(name, ast.Name) for name in names):
                return []
            found |= dict.fromkeys(name.id for name in names)
    return list(found)


def _raised(hint: str, width: int) -> list[str]:
    """A `raise` that says the hint, over as many lines as it needs."""
    whole = f"raise NotImplementedError({json.dumps(hint, ensure_ascii=False)})"
    if len(whole) <= width:
        return [whole]
    # 4 of the indent, 2 quotes, and the space that a piece ends with
    pieces = textwrap.wrap(hint, width - 7)
    said = [piece + " " for piece in pieces[:-1]] + pieces[-1:]
    inner = [f"    {json.dumps(piece, ensure_ascii=False)}" for piece in said]
    return ["raise NotImplementedError(", *inner, ")"]
