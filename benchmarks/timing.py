"""Interleaved medians: every candidate runs once per round, so that whatever else the machine does
hits all of them alike. And what was measured as a record, with the circumstances."""

import json
import statistics
import time
from collections.abc import Callable

import torch

from dabook.runs.records import circumstances
from dalib import paths
from dalib.models.inference import has_bfloat16
from dalib.writing import write_text


def medians(
    candidates: dict[str, Callable[[], object]], *, rounds: int = 15, warmup: int = 2
) -> dict[str, float]:
    """Median seconds of each candidate over `rounds` interleaved rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(warmup + rounds):
        for name, call in candidates.items():
            begun = time.perf_counter()
            call()
            if number >= warmup:
                seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in seconds.items()}


def report(title: str, found: dict[str, float], *, against: str) -> None:
    """Print medians and their ratio to one of them."""
    print(title)
    for name, value in found.items():
        print(f"  {name:34} {1e3 * value:9.2f} ms   x {value / found[against]:.3f}")


def keep(name: str, facts: dict, *, peers: dict[str, str] | None = None) -> None:
    """Write `data/benchmarks/NAME.json`: the facts, and the threads, device, versions (of `peers`
    too) and commit they come from."""
    bfloat16 = has_bfloat16(torch.device("cpu"))
    record = facts | circumstances("threads", "device") | {"bfloat16": bfloat16}
    record |= circumstances("versions", "commit", "dirty", "created")
    record["versions"] |= peers or {}
    write_text(paths.benchmarks() / f"{name}.json", json.dumps(record, indent=1) + "\n")
