"""What a network and a training step cost: floating-point operations and memory, counted and not
estimated.

A step is carried out on tensors that have shapes and no data (`FakeTensorMode`), with PyTorch's own
counter of operations and a count of the bytes alive, so that ViT-G needs no more than a laptop. A
FLOP is an addition or a multiplication: a product of an (m, k) and a (k, n) matrix has 2 m k n.
Element-wise operations, normalisation, resizing and the losses are not counted as FLOPs; their
memory is.
"""

import math
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from dalib import losses
from dalib.models.depth_anything import DepthAnything, build
from dalib.models.encoder import spec
from dalib.models.sizes import resize_disparity


def _attention(query, key, value, *_, **__) -> int:
    """Scores and their product with the values: two products of (n, d) x (d, n) for each of b x h
    heads."""
    b, h, n, d = query
    return 2 * (2 * b * h * n * key[2] * d)


def _attention_backward(grad, query, *rest, **__) -> int:
    """Fused attention keeps no scores: five products of that size, one of which makes the scores
    again."""
    return 5 * _attention(query, *rest) // 2


def _convolution_backward(
    grad,
    images,
    weight,
    _bias,
    _stride,
    _padding,
    _dilation,
    transposed,
    _extra,
    _groups,
    mask,
    **_,
) -> int:
    """For each gradient that is asked for, of the images and of the weights, as many products as
    forward: at each place, of each weight once. PyTorch's own count takes convolutions in groups
    for dense ones, which for a CNN of depthwise convolutions is eight times too many."""
    places = images if transposed else grad
    products = places[0] * math.prod(places[2:]) * math.prod(weight)
    return 2 * products * sum(mask[:2])


COUNTED = {
    torch.ops.aten.convolution_backward: _convolution_backward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""What PyTorch's counter of FLOPs does not know, attention on a processor, or counts wrongly."""


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
        FlopCounterMode(display=False, custom_mapping=COUNTED) as counter,
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
    seen: tuple[int, int] | None = None,
    frozen: DepthAnything | None = None,
) -> Step:
    """A step as `dalib.training.train` takes it: the teacher labels, the student passes forward,
    the frozen encoder looks, the losses, the backward pass, AdamW. It may have no labelled images.

    Args:
        student: tensors with or without data, on the processor; its gradients are set.
        labelled, unlabelled: images on this accelerator. CutMix's second region is left out of the
            loss.
        height, width: of the images, pixels.
        checkpointing: of the encoder's blocks, where it is a ViT.
        precision: as in `RunConfig`.
        teacher, frozen: networks that label, and whose encoder is aligned with; counted where
            given.
        seen: size of the images that the teacher takes; the student's by default.

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
    asked = images[labelled:] if seen is None else torch.empty(unlabelled, 3, *seen)

    # the step itself
    def work():
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
        labels = target
        if teacher is not None:
            with autocast, torch.no_grad():
                said = resize_disparity(teacher(asked)[0].float(), (height, width))
            labels = torch.cat([target[:labelled], said])
        with autocast:
            disparity, features = student(images)
        loss = losses.affine_invariant(disparity.float(), labels, valid).mean()
        if frozen is not None:
            with autocast, torch.no_grad():
                reference = frozen.encoder(images[labelled:])[-1]
            if features.shape[1:] == reference.shape[1:]:  # else a linear layer, which is small
                loss = loss + losses.feature_alignment(features[labelled:], reference).mean()
        loss.backward()

    # what it costs, and AdamW's two moments
    flops, most = measure(work, *weights, images, target, valid)
    moments = sum(2 * p.numel() * p.element_size() for p in student.parameters())
    return Step(flops=flops, bytes=most + moments)
