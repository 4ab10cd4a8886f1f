"""A student of one's own, compared with its teacher: which photographs are kept back, what is
measured on them, and the report that is written."""

from dalib.adaptation.compare import (
    MEASURES,
    Change,
    Comparison,
    Condition,
    Estimate,
    compare,
)
from dalib.adaptation.report import parents, write_report
from dalib.adaptation.split import Split, Subset, keep_back
from dalib.models.licences import Terms, about_derived, released_terms, terms_of

__all__ = [
    "MEASURES",
    "Change",
    "Comparison",
    "Condition",
    "Estimate",
    "Split",
    "Subset",
    "Terms",
    "about_derived",
    "compare",
    "keep_back",
    "parents",
    "released_terms",
    "terms_of",
    "write_report",
]
