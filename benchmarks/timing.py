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
    return both_medians(candidates, rounds=rounds, warmup=warmup)[0]


def both_medians(
    candidates: dict[str, Callable[[], object]], *, rounds: int = 15, warmup: int = 2
) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds on the clock and on the processor, all threads together, of each candidate
    over `rounds` interleaved rounds."""
    clock: dict[str, list[float]] = {name: [] for name in candidates}
    processor: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(warmup + rounds):
        for name, call in candidates.items():
            begun, spent = time.perf_counter(), time.process_time()
            call()
            if number >= warmup:
                clock[name].append(time.perf_counter() - begun)
                processor[name].append(time.process_time() - spent)
    return tuple(
        {name: statistics.median(values) for name, values in each.items()}
        for each in (clock, processor)
    )


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
