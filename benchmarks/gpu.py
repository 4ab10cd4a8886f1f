"""A student's step on a GPU against a bare loop of the same networks and losses; started by
`benchmarks/gpu.sh`.

Of each encoder, with settings of `profile gpu`:

- *It runs*: `dalib.training.launch.ensure_weights` trains for some steps, from a given start and by
  a given teacher (ViT-L for all, as in the paper), both with random lively weights.
- *It resumes*: from its checkpoint in the middle, to the same losses, as far as the GPU's own
  kernels repeat themselves.
- *Images/s and memory* against the bare loop: teacher, student and frozen encoder as plain modules
  on a batch that is on the GPU already, the same losses, clipping and fused AdamW; no reading, no
  perturbation, no loop of ours. Blocks of steps of the two alternate.
- *Share of the peak*: the floating-point operations of the networks' forward and backward passes,
  what gradient checkpointing repeats not counted, over the time of a step and the device's peak for
  dense bf16.
"""

import argparse
import copy
import json
import os
import shutil
import statistics
import sys
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from dalib import losses, paths, provenance
from dalib.blocks import GivenNetwork, GivenTeacher
from dalib.config import RunConfig
from dalib.data import perturb
from dalib.data.mixture import Mixture
from dalib.models import build, save
from dalib.models.lively import enliven
from dalib.progress import Step
from dalib.training import launch
from dalib.training.pseudo import unit_range
from dalib.training.train import compile_parts, frozen_encoder
from dalib.writing import write_text

ENCODERS = ("vits", "vitb", "vitl")
TEACHER = "vitl"
BLOCK = 4
"""Steps of ours, then as many bare ones."""
PEAK = {
    "B200": 2250,  # NVIDIA Blackwell datasheet (HGX B200: 36 PFLOP/s over 8 with sparsity, halved)
    "H200": 989.4,  # NVIDIA H200 datasheet: 1,979 with sparsity, halved
    "H100 PCIe": 756,  # NVIDIA H100 datasheet: 1,513 with sparsity, halved
    "H100": 989.4,  # the same, SXM: 1,979 with sparsity, halved
    "A100": 312,  # NVIDIA A100 datasheet
    "L40S": 362.05,  # NVIDIA L40S datasheet, the figure without sparsity
    "L4": 121,  # NVIDIA L4 datasheet: 242 with sparsity, halved
}
"""Dense bf16 tensor TFLOP/s, by what a device's name contains; the first that fits."""


def photographs(folder: Path, *, count: int, height: int, width: int) -> None:
    """Smooth coloured images as JPEG, and beside each a 16-bit depth map, with its manifest."""
    draw = np.random.default_rng(0)
    folder.mkdir(parents=True)
    rows = ["image,depth,kind,depth_scale"]
    for number in range(count):
        coarse = draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.jpg", quality=90)
        near = 1000 + 100 * np.asarray(image.convert("L"), np.uint16)
        Image.fromarray(near).save(folder / f"{number}-depth.png")
        rows.append(f"{number}.jpg,{number}-depth.png,disparity,1000")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")


def settings(encoder: str, *, args: argparse.Namespace) -> RunConfig:
    """`profile gpu` of the row with everything, shortened, by files that are here."""
    from dabook.runs.experiments import expand

    row = expand("main_table", profile="gpu")["full"]
    side = 56 if args.tiny else 518
    scratch = args.scratch
    blocks = 2 if args.tiny else 3
    steps = 2 * BLOCK * blocks
    return row.configs[0].replace(
        encoder=encoder,
        pretrained=False,
        start=GivenNetwork(weights=str(scratch / f"{encoder}.safetensors")),
        teacher=GivenTeacher(weights=str(scratch / f"{args.teacher}.safetensors")),
        labelled=(f"depth:{scratch / 'labelled'}",),
        unlabelled=(f"photos:{scratch / 'photographs'}",),
        height=side,
        width=side,
        batch=args.batch,
        steps=steps,
        checkpoint_every=steps // 2,
        log_every=1,
        compile=args.compile or not args.tiny,
        workers=0 if args.tiny else min(12, os.cpu_count() or 1),
    )


class Bare:
    """The same networks and losses, on one batch that is there already."""

    def __init__(self, config: RunConfig, batch: dict[str, Tensor], *, device: torch.device):
        from dalib.models import load

        self.config, self.device = config, device
        student = load(config.start.weights)
        teacher = load(config.teacher.weights)
        frozen = frozen_encoder(config)
        if config.gradient_checkpointing:
            student.encoder.net.set_grad_checkpointing()
        placed = [
            n.to(device, memory_format=torch.channels_last) for n in (student, teacher, frozen)
        ]
        self.student, self.teacher, self.frozen = placed
        self.student.train()
        for still in (self.teacher, self.frozen):
            still.eval().requires_grad_(False)
        if config.compile:
            compile_parts(*placed)
        heads = {"params": self.student.decoder.parameters(), "lr": 1e-6}
        groups = [{"params": self.student.encoder.parameters(), "lr": 1e-6}, heads]
        self.optimiser = torch.optim.AdamW(groups, fused=True)
        self.batch = {name: values.to(device) for name, values in batch.items()}
        images = torch.cat([self.batch["image"], self.batch["pool_image"]])
        self.images = self.student.normalise(images).contiguous(memory_format=torch.channels_last)
        drawn = perturb.draw(
            [(0, 0, k) for k in range(len(self.batch["pool_image"]))],
            ("cutmix",),
            strength=1.0,
            **config.size,
        )
        _, self.inside = perturb.apply(self.batch["pool_image"].float() / 255, drawn)
        self.partner = perturb.partner(len(self.batch["pool_image"])).to(device)

    def step(self) -> None:
        """One step, without a wait for the device."""
        count = len(self.batch["image"])
        half = self.config.precision == "bf16"
        cast = torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext()
        with cast:
            labels = unit_range(self.teacher.predict(self.batch["pool_image"]).clone())
            disparity, features = self.student(self.images)
            with torch.no_grad():
                reference = self.frozen(self.images[count:])[-1]
        disparity = disparity.float()
        parts = {
            "labelled": losses.affine_invariant(
                disparity[:count], self.batch["disparity"], self.batch["valid"]
            ).mean(),
            "unlabelled": losses.cutmix_unlabelled(
                disparity[count:], labels, target_inside=labels[self.partner], inside=self.inside
            ).mean(),
            "feat": losses.feature_alignment(
                features[count:], reference, margin=self.config.margin
            ).mean(),
        }
        losses.total(parts, {"feat": self.config.align_weight}).backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), self.config.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def timed(self, steps: int) -> float:
        """Seconds for one of so many steps."""
        _wait(self.device)
        begun = time.perf_counter()
        for _ in range(steps):
            self.step()
        _wait(self.device)
        return (time.perf_counter() - begun) / steps


def flops(config: RunConfig, teacher: str) -> float:
    """Floating-point operations of a step: student forward and backward on all images, teacher and
    frozen encoder forward on the unlabelled ones. Counted on one image without memory, for they
    grow with the images."""
    shape = (1, 3, config.height, config.width)

    def counted(name: str, *, whole: bool, learns: bool) -> int:
        with torch.device("meta"):
            network = build(name, pretrained=False)
        network = network if whole else network.encoder
        # plain attention is made of matrix products, which are what is counted
        with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH):
            network.to_empty(device="cpu")
            with FlopCounterMode(display=False) as counter:
                with torch.set_grad_enabled(learns):
                    outputs = network(torch.empty(shape))
                if learns:
                    (outputs[0].mean() + outputs[1].mean()).backward()
        return counter.get_total_flops()

    pool = config.pool_batch
    student = counted(config.encoder, whole=True, learns=True) * (config.batch + pool)
    labels = counted(teacher, whole=True, learns=False) * pool
    return float(student + labels + counted(config.encoder, whole=False, learns=False) * pool)


def measure(encoder: str, *, args: argparse.Namespace, device: torch.device) -> dict:
    """What is said of one encoder."""
    config = settings(encoder, args=args)
    labelled, unlabelled = launch.sources(config)
    mixture = Mixture(config=config, labelled=labelled, unlabelled=unlabelled)
    images = config.batch + config.pool_batch
    middle = config.steps // 2
    begun = time.perf_counter()

    # bare alone: it compiles, and what memory it takes
    bare = Bare(config, mixture[0], device=device)
    _reset_peak(device)
    bare.timed(2)
    bare_memory = _peak(device)
    first_bare = time.perf_counter() - begun

    # ours whole, with bare blocks in between
    ours: list[float] = []
    plain: list[float] = []
    folder = {name: args.scratch / f"runs-{encoder}-{name}" for name in ("whole", "resumed")}
    last = time.perf_counter()

    def follow(line: str) -> None:
        nonlocal last
        if not isinstance(line, Step):
            return
        _wait(device)
        ours.append(time.perf_counter() - last)
        if line.done == middle + 1:  # what a kill would leave here
            shutil.copytree(folder["whole"], folder["resumed"])
        if line.done % BLOCK == 0:
            plain.append(bare.timed(BLOCK))
        last = time.perf_counter()

    begun = time.perf_counter()
    weights = _train(config, folder["whole"], follow)
    first_ours = time.perf_counter() - begun
    whole = _losses(weights)
    bare = None  # its memory is not ours

    # the same from the middle on, alone: what memory it takes, and where it ends
    _reset_peak(device)
    seen: list[int] = []
    again = _losses(
        _train(
            config,
            folder["resumed"],
            lambda s: seen.append(s.done) if isinstance(s, Step) else None,
        )
    )
    our_memory = _peak(device)
    if seen[0] != middle + 1:
        raise RuntimeError(f"resumed at step {seen[0]} and not {middle + 1}")
    apart = max(
        abs(a - b) / max(abs(a), 1e-12) for a, b in zip(whole[middle:], again[middle:], strict=True)
    )

    # reading alone
    reading = _reading(config, mixture, images)

    # after the first block, in which ours compiles
    step = statistics.median(ours[BLOCK:])
    bare_step = statistics.median(plain[1:])
    operations = flops(config, args.teacher)
    found = {
        "images_per_step": images,
        "seconds": {"ours": round(step, 5), "bare": round(bare_step, 5)},
        "images_per_second": {
            "ours": round(images / step, 2),
            "bare": round(images / bare_step, 2),
        },
        "ours_over_bare": round(bare_step / step, 4),
        "images_per_second_read": round(reading, 1),
        "peak_memory_mb": {"ours": our_memory, "bare": bare_memory},
        "tflop_per_step": round(operations / 1e12, 4),
        "tflop_per_second": {
            "ours": round(operations / step / 1e12, 2),
            "bare": round(operations / bare_step / 1e12, 2),
        },
        "resumed_after": middle,
        "resumed_greatest_relative_difference": apart,
        "seconds_of_both_runs": round(first_ours, 1),
        "seconds_until_bare_is_ready": round(first_bare, 1),
    }
    if args.peak:
        found["share_of_peak"] = {
            "ours": round(operations / step / 1e12 / args.peak, 4),
            "bare": round(operations / bare_step / 1e12 / args.peak, 4),
        }
    return found


def _train(config: RunConfig, folder: Path, report) -> Path:
    before = os.environ.get("DALIB_RUNS")
    os.environ["DALIB_RUNS"] = str(folder)
    try:
        return launch.ensure_weights(config, report=report)
    finally:
        os.environ.pop("DALIB_RUNS")
        if before is not None:
            os.environ["DALIB_RUNS"] = before


def _losses(weights: Path) -> list[float]:
    lines = (weights.parent / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def _reading(config: RunConfig, mixture: Mixture, images: int) -> float:
    """Images/s that the loader gives when nobody trains."""
    loader = iter(DataLoader(mixture, batch_size=None, num_workers=config.workers))
    next(loader)
    begun = time.perf_counter()
    count = sum(1 for _ in loader)
    return count * images / (time.perf_counter() - begun)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak(device: torch.device) -> int | None:
    """In MB; none without a GPU."""
    return round(torch.cuda.max_memory_allocated() / 2**20) if device.type == "cuda" else None


def _known_peak() -> float | None:
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((value for key, value in PEAK.items() if key in name), None)


def _arguments() -> argparse.Namespace:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--scratch", type=Path, required=True, help="a folder that may be filled")
    words.add_argument("--seconds", type=float, default=540, help="time that it may take")
    words.add_argument("--batch", type=int, help="labelled images per step")
    words.add_argument("--peak", type=float, help="dense bf16 TFLOP/s of the device")
    words.add_argument("--out", type=Path, help="where the record goes")
    words.add_argument("--tiny", action="store_true", help="small networks on the CPU")
    words.add_argument("--compile", action="store_true")
    args = words.parse_args()
    args.batch = args.batch or (2 if args.tiny else 8)
    args.peak = args.peak or _known_peak()
    args.teacher = "vits" if args.tiny else TEACHER
    args.scratch = args.scratch.resolve()
    return args


def main() -> None:
    """Measure each encoder, print, and write the record after each."""
    begun = time.perf_counter()
    args = _arguments()
    on_gpu = torch.cuda.is_available()
    if not on_gpu and not args.tiny:
        sys.exit("no GPU that torch can see; GPU_SH_TINY=1 tries the script on the CPU")
    device = torch.device("cuda" if on_gpu and not args.tiny else "cpu")
    if device.type == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    out = args.out or (args.scratch.parent / "gpu-tiny.json" if args.tiny else None)
    out = out or paths.benchmarks() / "gpu.json"

    # what is read
    size = {"height": 90, "width": 120} if args.tiny else {"height": 768, "width": 1024}
    count = 16 if args.tiny else 96
    photographs(args.scratch / "labelled", count=count, **size)
    photographs(args.scratch / "pairs", count=count, **size)
    (args.scratch / "photographs").mkdir()
    for path in sorted((args.scratch / "pairs").glob("*.jpg")):
        path.rename(args.scratch / "photographs" / path.name)
    encoders = ("vitt", "vits") if args.tiny else ENCODERS
    for name in {*encoders, args.teacher}:
        save(enliven(build(name, pretrained=False)), args.scratch / f"{name}.safetensors")

    # each encoder
    commit, dirty = provenance.commit()
    record = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else provenance.device(),
        "peak_tflop_per_second": args.peak,
        "teacher": args.teacher,
        "settings": {
            name: value
            for name, value in settings(encoders[0], args=args).to_dict().items()
            if name not in ("encoder", "start", "teacher", "labelled", "unlabelled")
        },
        "block": BLOCK,
        "encoders": {},
        "left_out": [],
        "versions": provenance.versions() | {"cuda": torch.version.cuda},
        "commit": commit,
        "dirty": dirty,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    longest = 0.0
    for name in encoders:
        left = args.seconds - (time.perf_counter() - begun)
        if left < 1.5 * longest:
            record["left_out"].append(name)
            print(f"{name}: left out, {left:.0f} s are too few", flush=True)
            continue
        started = time.perf_counter()
        record["encoders"][name] = copy.deepcopy(measure(name, args=args, device=device))
        longest = max(longest, time.perf_counter() - started)
        print(name, json.dumps(record["encoders"][name], indent=1), flush=True)
        write_text(out, json.dumps(record, indent=1) + "\n")
    print(f"{out}: written after {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
