"""What a check found, in words."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy import ndarray as Array

from dalib.conformance.catalogue import Fault
from dalib.conformance.files import Vector, as_lists


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault, and the vector that shows it.

    Args:
        name: of the fault, or of two with "and"; "unexplained" where none is known.
        words: what it is.
        mend: what to do.
        seen: where others had it.
        vector, about: which shows it, and what that holds.
        dtype: in what precision.
        got, expected: values, or an exception's words.
        alike: other faults that these vectors cannot tell from it.
        metric: of which metric.
    """

    name: str
    words: str
    mend: str
    seen: str = ""
    vector: str = ""
    about: str = ""
    dtype: str = ""
    got: Array | str | None = None
    expected: Array | str | None = None
    alike: list[str] = field(default_factory=list)
    metric: str = ""

    @classmethod
    def of(cls, name: str, fault: Fault, *, vector: Vector, **more: object) -> "Finding":
        """A known fault on a vector."""
        return cls(
            name=name,
            words=fault.words,
            mend=fault.mend,
            seen=fault.seen,
            vector=vector.name,
            about=vector.about,
            **more,
        )

    def lines(self) -> list[str]:
        """As it is printed."""
        seen = f" [seen: {self.seen}]" if self.seen else ""
        found = [f"{self.metric + ': ' if self.metric else ''}{self.name}: {self.words}{seen}"]
        about = f" ({self.about}), in {self.dtype}" if self.about else ""
        found.append(f"  shown by  {self.vector}{about}")
        if self.got is not None:
            found.append(f"  got       {_shown(self.got)}")
        if self.expected is not None:
            found.append(f"  expected  {_shown(self.expected)}")
        found.append(f"  to mend   {self.mend}")
        if self.alike:
            found.append(f"  or else   {'; '.join(self.alike)}: these give the same here")
        return found


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a check found; true where the function conforms.

    Args:
        findings: faults; none where it conforms.
        passed, failed: names of vectors.
        left_out: vector -> why.
        notes: what else is worth knowing.
        subject, kind: what was checked, as what.
        metric: of one metric.
    """

    findings: list[Finding]
    passed: list[str]
    failed: list[str]
    left_out: dict[str, str]
    notes: list[str]
    subject: str = ""
    kind: str = ""
    metric: str = ""

    @property
    def conforms(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def faults(self) -> list[str]:
        """Names of what was found."""
        return [f.name for f in self.findings]

    def __bool__(self) -> bool:
        return self.conforms

    def __str__(self) -> str:
        return "\n".join(self.lines())

    @classmethod
    def joined(cls, subject: str, kind: str, reports: Sequence["Report"]) -> "Report":
        """One report of several metrics, or of one kind."""
        several = len(reports) > 1

        def of(report: Report, names: Sequence[str]) -> list[str]:
            return [f"{report.metric}/{n}" if several else n for n in names]

        return cls(
            findings=[
                Finding(**(_fields(f) | {"metric": r.metric})) for r in reports for f in r.findings
            ],
            passed=[n for r in reports for n in of(r, r.passed)],
            failed=[n for r in reports for n in of(r, r.failed)],
            left_out={k: v for r in reports for k, v in r.left_out.items()},
            notes=[f"{r.metric}: {n}" if several else n for r in reports for n in r.notes],
            subject=subject,
            kind=kind,
            metric=reports[0].metric if len(reports) == 1 else "",
        )

    def lines(self) -> list[str]:
        """As it is printed."""
        what = f"{self.kind} {self.metric}".strip()
        found = len(self.findings)
        verdict = "conforms" if not found else f"{found} fault{'s' * (found > 1)}"
        head = f"{self.subject} as {what}: {verdict}"
        count = len(self.passed) + len(self.failed)
        told = f"{len(self.passed)} of {count} vectors passed"
        if 0 < len(self.failed) <= 12:
            told += f"; failed: {', '.join(self.failed)}"
        lines = [head, *(line for f in self.findings for line in f.lines()), told]
        for why in dict.fromkeys(self.left_out.values()):
            names = ", ".join(n for n, w in self.left_out.items() if w == why)
            lines.append(f"left out: {names} ({why})")
        return lines + list(dict.fromkeys(self.notes))

    def to_dict(self) -> dict:
        """For JSON."""
        return {
            "subject": self.subject,
            "kind": self.kind,
            "metric": self.metric,
            "conforms": self.conforms,
            "findings": [
                asdict(f) | {"got": _plain(f.got), "expected": _plain(f.expected)}
                for f in self.findings
            ],
            "passed": self.passed,
            "failed": self.failed,
            "left_out": self.left_out,
            "notes": self.notes,
        }


def _fields(finding: Finding) -> dict:
    return {name: getattr(finding, name) for name in finding.__dataclass_fields__}


def _plain(x: Array | str | None) -> object:
    if not isinstance(x, np.ndarray):
        return x
    return as_lists(x)


def _shown(x: Array | str) -> str:
    """Numbers to nine digits; of a map its first row."""
    if isinstance(x, str):
        return x
    if x.ndim == 3:
        return f"{_shown(x[0, 0])} ... (the first row)"
    if x.ndim == 2:
        return f"scale {_shown(x[0])}, shift {_shown(x[1])}"
    return " ".join(f"{v:.9g}" for v in np.atleast_1d(x))
