"""Inference: ours against `transformers` and, with --official PATH, the official code. Same
weights, input and threads.

python benchmarks/inference.py                       ViT-S, 518x518, float32; bfloat16 too where the processor has it
python benchmarks/inference.py --official PATH --rounds 9

Medians of interleaved rounds; the memory that a run takes, in a process of its own (Linux). Writes
data/benchmarks/inference.json, from which the book shows its table.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import parity
import torch
import transformers
from timing import keep, medians
from torch import Tensor

from dalib.evaluation.align import least_squares
from dalib.models import build
from dalib.models.inference import has_bfloat16, optimise
from dalib.models.lively import enliven

SIDE, SEED = 518, 0


def contenders(encoder: str, checkout: Path | None) -> dict[str, Callable[[Tensor], Tensor]]:
    """Name -> function of RGB in 0..1, all with the same weights. At 518 x 518 both ways of
    resampling positions agree."""
    model = enliven(
        build(encoder, pretrained=False, layers="v2", position="transformers"), seed=SEED
    ).eval()
    theirs = parity.peer(model)
    found = {
        "dalib": optimise(model),
        "dalib, as it trains": lambda x: model(
            model.normalise(x).contiguous(memory_format=torch.channels_last)
        )[0],
        "transformers": lambda x: theirs(model.normalise(x)),
    }
    model.to(memory_format=torch.channels_last)
    if checkout:
        reference = parity.official(checkout, model)
        found["official code"] = lambda x: reference(model.normalise(x))
    if has_bfloat16(torch.device("cpu")):
        found["dalib, bfloat16"] = optimise(model, dtype=torch.bfloat16)
        found["transformers, bfloat16"] = partial(_autocast, found["transformers"])
    return found


def _autocast(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return network(images).float()


def images(batch: int) -> Tensor:
    """The same input for everyone."""
    return torch.rand(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(SEED))


def deviation(found: Tensor, reference: Tensor) -> float:
    """Mean of |aligned - reference| / reference over the pixels, aligned in disparity."""
    scale, shift = least_squares(found, reference, torch.ones_like(found, dtype=torch.bool))
    aligned = scale[:, None, None] * found + shift[:, None, None]
    return float(((aligned - reference).abs() / reference.clamp_min(1e-3)).mean())


def peak(options: argparse.Namespace, name: str, batch: int) -> float:
    """Memory in MB that one contender takes for a run, in a process of its own."""
    words = [
        sys.executable,
        __file__,
        "--encoder",
        options.encoder,
        "--alone",
        name,
        "--batch",
        str(batch),
    ]
    words += ["--official", str(options.official)] if options.official else []
    return float(
        subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-1]
    )


def alone(options: argparse.Namespace) -> None:
    """Run one contender by itself, and print the memory that the run took on top of what was there
    before (Linux)."""
    call = contenders(options.encoder, options.official)[options.alone]
    x = images(options.batch)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _memory("VmRSS")
    with torch.inference_mode():
        call(x)
    print(round(_memory("VmHWM") - before))


def _memory(kind: str) -> float:
    """MB from /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1024


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--official", type=Path, help="checkout of the official V1 or V2 repository"
    )
    parser.add_argument("--encoder", default="vits")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        alone(options)
        return
    calls, rows = contenders(options.encoder, options.official), []
    for batch in options.batches:
        x = images(batch)
        with torch.inference_mode():
            reference = calls["transformers"](x)
            found = {name: call(x) for name, call in calls.items()}
            seconds = medians(
                {n: partial(call, x) for n, call in calls.items()}, rounds=options.rounds, warmup=1
            )
        for name, value in seconds.items():
            rows.append(
                {
                    "contender": name,
                    "batch": batch,
                    "seconds": round(value, 4),
                    "speed against transformers": round(seconds["transformers"] / value, 3),
                    "largest difference": round(parity.distance(found[name], reference), 8),
                    "AbsRel": round(deviation(found[name], reference), 6),
                    "peak MB": peak(options, name, batch),
                }
            )
            print(rows[-1], flush=True)
    facts = {
        "encoder": options.encoder,
        "side": SIDE,
        "seed": SEED,
        "rounds": options.rounds,
        "rows": rows,
    }
    keep("inference", facts, peers={"transformers": transformers.__version__})


if __name__ == "__main__":
    main()
