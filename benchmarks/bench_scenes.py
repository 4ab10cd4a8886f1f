"""Scenes per second: one process, two processes, styles alone, the cache. Medians over interleaved
rounds.

python benchmarks/bench_scenes.py [--rounds 7] [--count 48]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch

from dalib.data.scenes import KINDS, Split, describe, render
from dalib.data.scenes.cache import CachedScenes, materialise

WORKER = """
import sys, time, torch
torch.set_num_threads(1)
from dalib.data.scenes import render
start, count, rounds = map(int, sys.argv[1:])
render("unlabelled", range(4))
for k in range(rounds):
    sys.stdin.readline()
    begun = time.perf_counter()
    render("unlabelled", range(start, start + count))
    print(time.perf_counter() - begun, flush=True)
"""


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=48)
    options = parser.parse_args()
    torch.set_num_threads(1)
    render("unlabelled", range(4))
    command = [sys.executable, "-c", WORKER]
    numbers = [str(options.count), str(options.rounds)]
    crew = [
        subprocess.Popen(
            [*command, str(k * options.count), *numbers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for k in range(2)
    ]

    def both() -> None:
        for worker in crew:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for worker in crew:
            worker.stdout.readline()

    with tempfile.TemporaryDirectory() as scratch:
        os.environ["DALIB_RUNS"] = scratch
        cached: CachedScenes = materialise(split="unlabelled", count=96)
        picks = torch.randint(0, 96, (24,)).tolist()
        cases: dict[str, tuple[Callable[[], object], int]] = {
            "one process": (lambda: render("unlabelled", range(options.count)), options.count),
            "two processes": (both, 2 * options.count),
            "descriptions alone": (
                lambda: [describe("unlabelled", i) for i in range(options.count)],
                options.count,
            ),
            "from the cache": (lambda: cached.get_batch(picks), 24),
            "480x640, 2x2 rays": (
                lambda: render("labelled", [1], height=480, width=640, supersample=2),
                1,
            ),
        }
        for kind in KINDS:
            split = Split("bench", 7, {kind: 1.0}, {"plain": 1.0})
            cases[f"kind {kind}"] = (lambda split=split: render(split, range(12)), 12)
        times: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(options.rounds):
            for name, (work, _) in cases.items():
                times[name].append(seconds(work))
    base = options.count / statistics.median(times["one process"])
    for name, (_, images) in cases.items():
        rate = images / statistics.median(times[name])
        print(
            f"{name:22s} {rate:10.1f} images/s   {rate / base:8.2f} x one process   best "
            f"{images / min(times[name]):.1f}"
        )


if __name__ == "__main__":
    main()
