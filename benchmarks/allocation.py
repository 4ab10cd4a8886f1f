"""A training step of the study with glibc's own way of taking memory, and with what the processes of
a study are given (`dabook.runs.allocation`): in turn, each in a process of its own, in one thread.

python benchmarks/allocation.py       writes data/benchmarks/allocation.json
"""

import json
import os
import statistics
import subprocess
import sys
import time

from timing import keep, report

from dabook.runs import allocation

ROUNDS, WARM, STEPS = 7, 3, 12
SIZE = {"height": 64, "width": 96}
BATCHES = {"8 images": 8, "24 images": 24}
OWN, GIVEN = "glibc's own way", "huge pages, kept"


def child() -> None:
    """Print the seconds of one step for each batch size."""
    import torch

    from dalib.models import build

    torch.set_num_threads(1)
    network = build("lite0", pretrained=False, seed=0).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    found = {}
    for title, count in BATCHES.items():
        images = torch.rand(count, 3, *SIZE.values())
        for number in range(WARM + STEPS):
            if number == WARM:
                begun = time.perf_counter()
            disparity, _ = network(images)
            disparity.mean().backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        found[title] = (time.perf_counter() - begun) / STEPS
    print(json.dumps(found))


def measured(environment: dict[str, str]) -> dict[str, float]:
    """The seconds that a child in this environment prints."""
    result = subprocess.run(
        [sys.executable, __file__, "child"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    """Measure, print, and write the record."""
    plain = {k: v for k, v in os.environ.items() if k != allocation.VARIABLE}
    plain |= {"OMP_NUM_THREADS": "1"}
    os.environ.pop(allocation.VARIABLE, None)
    ways = {OWN: plain, GIVEN: plain | allocation.environment()}
    rounds = [{name: measured(way) for name, way in ways.items()} for _ in range(ROUNDS)]
    medians = {
        title: {name: statistics.median(each[name][title] for each in rounds) for name in ways}
        for title in BATCHES
    }
    for title, seconds in medians.items():
        report(title, seconds, against=OWN)
    rounded = {t: {name: round(s, 5) for name, s in each.items()} for t, each in medians.items()}
    facts = {"encoder": "lite0", **SIZE, "steps": STEPS, "tunables": allocation.TUNABLES}
    keep("allocation", facts | {"rounds": ROUNDS, "wall_seconds": rounded})


if __name__ == "__main__":
    child() if sys.argv[1:] == ["child"] else main()
