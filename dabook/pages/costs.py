"""What networks and runs cost: parameters, floating-point operations, memory, disk. Counted, not
estimated.

A training step is carried out on tensors that have shapes and no data (`FakeTensorMode`), with
PyTorch's own counter of operations and a count of the bytes alive, so that ViT-G needs no more than
a laptop. A FLOP is an addition or a
multiplication: a product of an (m, k) and a (k, n) matrix has 2 m k n. Element-wise operations,
normalisation, resizing and
the losses are not counted as FLOPs; their memory is.
"""

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from dabook.show.html import Html, html, number
from dalib import losses
from dalib.models.depth_anything import DepthAnything, build
from dalib.models.encoder import spec

PRESETS = ("lite0", "vits", "vitb", "vitl", "vitg")
SIDE = 518  # pixels; a network takes the largest multiple of its own stride below
# the paper's data, the teacher's epochs, 1 : 2
LABELLED = 1_500_000
EPOCHS = 20
UNLABELLED = 62_000_000
RATIO = 2
BATCH = 4  # labelled images of the step that is counted
PEAK = 312e12  # FLOP/s in bfloat16, NVIDIA's figure for an A100
GIB = 2**30


def _attention(query, key, value, *_, **__) -> int:
    """Scores and their product with the values: two products of (n, d) x (d, n) for each of b x h
    heads."""
    b, h, n, d = query
    return 2 * (2 * b * h * n * key[2] * d)


def _attention_backward(grad, query, *rest, **__) -> int:
    """Fused attention keeps no scores: five products of that size, one of which makes the scores
    again."""
    return 5 * _attention(query, *rest) // 2


ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""What PyTorch's counter of FLOPs does not know: attention on a processor."""


class Live(TorchDispatchMode):
    """Counts the bytes of all storages that are alive, from those given at the start to those that
    operations make.

    Args:
        tensors: what is there already.
    """

    def __init__(self, *tensors: torch.Tensor):
        super().__init__()
        self.now = 0
        self.peak = 0
        self._alive = {}
        for tensor in tensors:
            self._add(tensor)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor)
        return made

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        size = storage.nbytes()
        if key in self._alive:
            return

        def gone(_):
            self.now -= size
            del self._alive[key]

        self._alive[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


def measure(work: Callable[[], object], *present: torch.Tensor) -> tuple[int, int]:
    """FLOPs of a piece of work, and the greatest number of bytes alive during it, `present` tensors
    included."""
    with (
        FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter,
        Live(*present) as live,
    ):
        work()
    return counter.get_total_flops(), live.peak


def network(name: str, mode: FakeTensorMode | None = None) -> DepthAnything:
    """A preset on the processor, its tensors without data: they belong to `mode`, or to a new one,
    `model.mean.fake_mode`.

    A CNN is built for real first, because the folding of its batch normalisation is checked on
    values.
    """
    with torch.device("meta") if spec(name).out_channels else nullcontext():
        model = build(name, pretrained=False, seed=0)
    model.to("meta")
    with mode or FakeTensorMode():
        return model._apply(lambda t: torch.empty(t.shape, dtype=t.dtype))


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


@dataclass(frozen=True, kw_only=True)
class Step:
    """One training step on one accelerator: FLOPs, and bytes at the fullest moment."""

    flops: int
    bytes: int


def step(
    student: DepthAnything,
    *,
    labelled: int,
    unlabelled: int = 0,
    height: int,
    width: int,
    checkpointing: bool = True,
    precision: str = "bf16",
    teacher: DepthAnything | None = None,
    frozen: DepthAnything | None = None,
) -> Step:
    """A step as `dalib.training.train` takes it: the teacher labels, the student passes forward,
    the frozen encoder looks, the losses, the backward pass, AdamW.

    Args:
        student: tensors with or without data, on the processor; its gradients are set.
        labelled, unlabelled: images on this accelerator. CutMix's second region is left out of the
            loss.
        height, width: of the images, pixels.
        checkpointing: of the encoder's blocks, where it is a ViT.
        precision: as in `RunConfig`.
        teacher, frozen: networks that label, and whose encoder is aligned with; counted where
            given.

    Bytes are weights, gradients and AdamW's two moments in float32 (16 per weight), 4 per weight of
    the two other networks, and all that the passes keep or make on the way. Not in it: the
    accelerator's own libraries (about 1 GiB), and the allocator's fragments.
    """
    # the networks
    if student.encoder.is_vit:
        student.encoder.net.set_grad_checkpointing(checkpointing)
    student.train()
    weights = [p for n in (student, teacher) if n is not None for p in n.parameters()]
    weights += list(frozen.encoder.parameters()) if frozen is not None else []

    # the batch
    images = torch.empty(labelled + unlabelled, 3, height, width).contiguous(
        memory_format=torch.channels_last
    )
    target = torch.empty(labelled + unlabelled, height, width)
    valid = torch.ones(target.shape, dtype=torch.bool)

    # the step itself
    def work():
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
        labels = target
        if teacher is not None:
            with autocast, torch.no_grad():
                labels = torch.cat([target[:labelled], teacher(images[labelled:])[0].float()])
        with autocast:
            disparity, features = student(images)
        loss = losses.affine_invariant(disparity.float(), labels, valid).mean()
        if frozen is not None:
            with autocast, torch.no_grad():
                reference = frozen.encoder(images[labelled:])[-1]
            loss = loss + losses.feature_alignment(features[labelled:], reference).mean()
        loss.backward()

    # what it costs, and AdamW's two moments
    flops, most = measure(work, *weights, images, target, valid)
    moments = sum(2 * p.numel() * p.element_size() for p in student.parameters())
    return Step(flops=flops, bytes=most + moments)


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
