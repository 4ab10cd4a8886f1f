"""What several tests share; `tests` is on their path."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""
