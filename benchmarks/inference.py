"""Inference: ours against `transformers`, OpenVINO, ONNX Runtime and, with --official PATH, the
official code. Same weights, input and threads.

python benchmarks/inference.py                       ViT-S, 518x518, float32; bfloat16 too where the processor has it
python benchmarks/inference.py --official PATH --rounds 9
python benchmarks/inference.py --record inference-amx    another machine's record beside the book's

Medians of interleaved rounds, of the time on the clock and of the time on the processor, which other
work on the machine touches less; the memory that a run takes, in a process of its own (Linux).
Writes data/benchmarks/inference.json, from which the book shows its table. `predict --engine auto`
reads every inference*.json there.

int8 is what a user of ONNX Runtime or OpenVINO gets without more packages: weights and activations
of convolutions and linear layers in 8 bits (onnxruntime.quantization, static, weights by channel),
with ranges from drawn scenes. The weights here are random, so that its loss says little of a trained
network's.
"""

import argparse
import copy
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import parity
import torch
from timing import both_medians, keep
from torch import Tensor

from dalib.data.scenes.splits import Scenes
from dalib.evaluation.align import least_squares
from dalib.models import DepthAnything, build
from dalib.models.inference import has_bfloat16, optimise
from dalib.models.lively import enliven
from dalib.predict import engines
from dalib.predict.fingerprint import fingerprint

SIDE, SEED = 518, 0
CALIBRATION, SPLIT = 4, "unlabelled"  # drawn scenes that the ranges of int8 come from


Call = Callable[[Tensor], Tensor]


def contenders(encoder: str, checkout: Path | None) -> dict[str, Callable[[], Call]]:
    """Name -> what makes a function of RGB in 0..1; all have the same weights. At 518 x 518 both
    ways of resampling positions agree."""
    model = enliven(
        build(encoder, pretrained=False, layers="v2", position="transformers"), seed=SEED
    ).eval()

    def trained() -> Call:
        net = copy.deepcopy(model).to(memory_format=torch.channels_last)
        return lambda x: net(net.normalise(x).contiguous(memory_format=torch.channels_last))[0]

    def transformers_() -> Call:
        theirs = parity.peer(model)
        return lambda x: theirs(model.normalise(x))

    def official() -> Call:
        reference = parity.official(checkout, model)
        return lambda x: reference(model.normalise(x))

    def engine(name: str, dtype: torch.dtype = torch.float32) -> Call:
        return compiled(engines.exported(model, digest=fingerprint(model)), name, dtype)

    found = {
        "dalib": lambda: optimise(model),
        "dalib, as it trains": trained,
        "transformers": transformers_,
        "OpenVINO": partial(engine, "openvino"),
        "ONNX Runtime": partial(engine, "onnxruntime"),
    }
    if checkout:
        found["official code"] = official
    if has_bfloat16(torch.device("cpu")):
        found["dalib, bfloat16"] = lambda: optimise(model, dtype=torch.bfloat16)
        found["transformers, bfloat16"] = lambda: partial(_autocast, transformers_())
        found["OpenVINO, bfloat16"] = partial(engine, "openvino", torch.bfloat16)
    for name in ("openvino", "onnxruntime"):
        found[f"{engines.CONTENDERS[name]}, int8"] = partial(int8, model, name)
    return found


def compiled(file: Path, engine: str, dtype: torch.dtype = torch.float32) -> Call:
    """An exported network as an engine runs it, with the network for this size compiled, so that a
    run is nothing else."""
    run, _ = engines.NETWORKS[engine](file, dtype).at((SIDE, SIDE))
    return lambda x: torch.cat([run(image) for image in x.contiguous().split(1)])


def _autocast(network: Call, images: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return network(images).float()


def int8(model: DepthAnything, engine: str) -> Call:
    """The network in 8 bits, run by an engine's own program."""
    return compiled(quantised(engines.exported(model, digest=fingerprint(model))), engine)


def quantised(file: Path) -> Path:
    """An exported network with convolutions and linear layers in 8 bits, beside it in the cache;
    ranges are those of `CALIBRATION` drawn scenes."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    out = file.with_name(f"{file.stem}.int8-{version('onnxruntime')}.onnx")
    if out.exists():
        return out

    class Drawn(CalibrationDataReader):
        """One drawn scene at a time, at the size that is timed."""

        def __init__(self):
            self.source = Scenes(split=SPLIT, count=CALIBRATION, height=SIDE, width=SIDE)
            self.left = iter(range(CALIBRATION))

        def get_next(self) -> dict | None:
            place = next(self.left, None)
            if place is None:
                return None
            return {"images": (self.source[place]["image"][None].float() / 255).numpy()}

    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        ready, fresh = Path(folder) / "ready.onnx", Path(folder) / out.name
        quant_pre_process(file, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            fresh,
            Drawn(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            per_channel=True,
            extra_options={"MatMulConstBOnly": True},
        )
        os.replace(fresh, out)
    return out


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
    words += ["--threads", str(options.threads)] if options.threads else []
    return float(
        subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-1]
    )


def alone(options: argparse.Namespace) -> None:
    """Run one contender by itself, and print the memory that the run took on top of what was there
    before (Linux)."""
    call = contenders(options.encoder, options.official)[options.alone]()
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
    parser.add_argument("--threads", type=int, help="(default: PyTorch's)")
    parser.add_argument("--record", default="inference", help="name of the record")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.alone:
        alone(options)
        return
    load = os.getloadavg()[0]
    calls = {name: make() for name, make in contenders(options.encoder, options.official).items()}
    rows = []
    for batch in options.batches:
        x = images(batch)
        with torch.inference_mode():
            found = {name: call(x) for name, call in calls.items()}  # which warms up as well
            reference = found["transformers"]
            clock, processor = both_medians(
                {n: partial(call, x) for n, call in calls.items()}, rounds=options.rounds, warmup=0
            )
        for name, value in clock.items():
            span = float(reference.max() - reference.min())
            rows.append(
                {
                    "contender": name,
                    "batch": batch,
                    "seconds": round(value, 4),
                    "processor seconds": round(processor[name], 4),
                    "speed against transformers": round(clock["transformers"] / value, 3),
                    "largest difference": round(parity.distance(found[name], reference), 8),
                    "mean difference": round(
                        float((found[name] - reference).abs().mean()) / span, 8
                    ),
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
        "processor kind": engines.processor_kind(),
        "load before": round(load, 2),
        "rows": rows,
    }
    peers = ("transformers", "openvino", "onnxruntime", "onnx")
    keep(options.record, facts, peers={name: version(name) for name in peers})


if __name__ == "__main__":
    main()
