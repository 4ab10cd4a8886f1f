"""The course: exercises and labs as a student's and an instructor's edition, and what their
notebooks call.

    from dabook.course import agree, check, holds

`markers` finds solutions in a cell, `editions` makes both editions, `checks` are the tests that stand
in a notebook, `bench` is where rows are added and predictions written down, `gap` is the puzzle of
one exercise, `grading` counts points.
"""

from dabook.course.checks import (
    CheckError,
    NotWrittenError,
    WrongError,
    agree,
    check,
    holds,
    written,
)

__all__ = [
    "CheckError",
    "NotWrittenError",
    "WrongError",
    "agree",
    "check",
    "holds",
    "written",
]
