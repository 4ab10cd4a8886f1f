"""The conformance kit: test vectors for the paper's losses, for aligners and for metrics, and a check
that runs anybody's function against them and names the fault.

    from dalib.conformance import check

    report = check(my_loss, kind="affine_invariant")
    assert report, report

The vectors are JSON files in the folder `vectors`, under the Apache License 2.0; `build` makes them
from formulas that are independent of the rest of `dalib`.
"""

from dalib.conformance.checking import check, described, kind_of, kinds
from dalib.conformance.files import Vector, read
from dalib.conformance.report import Finding, Report
from dalib.functions import CallError

__all__ = [
    "CallError",
    "Finding",
    "Report",
    "Vector",
    "check",
    "described",
    "kind_of",
    "kinds",
    "read",
]
