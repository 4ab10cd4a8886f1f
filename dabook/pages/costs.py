"""What networks and runs cost at the paper's size: parameters, floating-point operations, memory,
disk. Counted by `dalib.training.costs`."""

from dataclasses import dataclass
from functools import cache

import torch

from dabook.show.html import Html, html, number
from dalib.training.costs import Step, measure, network, step

PRESETS = ("lite0", "lite2", "vits", "vitb", "vitl", "vitg")
SIDE = 518  # pixels; a network takes the largest multiple of its own stride below
# the paper's data, the teacher's epochs, 1 : 2
LABELLED = 1_500_000
EPOCHS = 20
UNLABELLED = 62_000_000
RATIO = 2
BATCH = 4  # labelled images of the step that is counted
PEAK = 312e12  # FLOP/s in bfloat16, NVIDIA's figure for an A100
GIB = 2**30


@cache
def parameters(name: str) -> int:
    """Number of weights of encoder and decoder."""
    return sum(p.numel() for p in network(name).parameters())


@cache
def side(name: str) -> int:
    """The image's side in pixels: 518, or for a CNN the next smaller multiple of its stride."""
    multiple = network(name).multiple
    return SIDE // multiple * multiple


@cache
def forward_flops(name: str, *, encoder_only: bool = False) -> int:
    """FLOPs of one image through a network, or through its encoder."""
    model = network(name).eval()
    pixels = side(name)
    with model.mean.fake_mode, torch.no_grad():
        images = torch.empty(1, 3, pixels, pixels)
        return measure(lambda: (model.encoder if encoder_only else model)(images))[0]


@cache
def training(name: str, *, labelled: int = 1, ratio: int = 0, checkpointing: bool = True) -> Step:
    """A step of a preset at full size in bfloat16: of a teacher, or with a `ratio` of a student
    with a teacher of its own kind."""
    student = network(name)
    mode = student.mean.fake_mode
    size = {"height": side(name), "width": side(name)}
    others = [network(name, mode) for _ in range(2)] if ratio else [None, None]
    with mode:
        return step(
            student,
            labelled=labelled,
            unlabelled=ratio * labelled,
            checkpointing=checkpointing,
            teacher=others[0],
            frozen=others[1],
            **size,
        )


@dataclass(frozen=True, kw_only=True)
class PaperRun:
    """What the paper's own training asks for, in FLOPs and bytes; checkpointing's second forward
    passes are in it."""

    teacher: int
    student: int
    stored_labels: int

    def gpu_days(self, *, utilisation: float) -> float:
        """Days of one accelerator that reaches this share of `PEAK`, teacher and student
        together."""
        return (self.teacher + self.student) / (PEAK * utilisation) / 86400


def paper_run(name: str = "vitl") -> PaperRun:
    """20 epochs of 1.5 million labelled images for the teacher; then 62 million unlabelled ones
    once, and half as many labelled.

    The teacher labels in the step (`labelling: online`). Stored labels would be float16 at 518 x
    518, one map an image.
    """
    return PaperRun(
        teacher=EPOCHS * LABELLED * training(name).flops,
        student=UNLABELLED // RATIO // BATCH * training(name, labelled=BATCH, ratio=RATIO).flops,
        stored_labels=UNLABELLED * SIDE * SIDE * 2,
    )


def network_table(names: tuple[str, ...] = PRESETS) -> Html:
    """Parameters, and the FLOPs of one image forward, per preset."""
    lines = {
        name: {
            "parameters, M": number(parameters(name) / 1e6, 1),
            "input, pixels": f"{side(name)} × {side(name)}",
            "forward, GFLOP": number(forward_flops(name) / 1e9, 0),
            "of it encoder": number(forward_flops(name, encoder_only=True) / 1e9, 0),
        }
        for name in names
    }
    return html(lines, list(names), name="costs-networks")


def step_table(names: tuple[str, ...] = ("vits", "vitb", "vitl")) -> Html:
    """A student's step on one accelerator, with and without checkpointing: operations and memory of
    `BATCH` labelled images."""
    lines = {}
    for name in names:
        for checkpointing, how in ((True, "checkpointing"), (False, "without")):
            found = training(name, labelled=BATCH, ratio=RATIO, checkpointing=checkpointing)
            lines[f"{name}, {how}"] = {
                "TFLOP": number(found.flops / 1e12, 1),
                "GiB": number(found.bytes / GIB, 1),
            }
    return html(lines, list(lines), caption=f"{BATCH} + {RATIO * BATCH} images", name="costs-steps")
