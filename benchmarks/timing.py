"""Interleaved medians: every candidate runs once per round, so that whatever else the machine does hits all of them alike."""

import statistics
import time
from collections.abc import Callable


def medians(candidates: dict[str, Callable[[], object]], *, rounds: int = 15, warmup: int = 2) -> dict[str, float]:
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
