"""The same network in a form for inference alone: equal outputs, less time, less memory.

What it does, and only because it was measured to pay (`benchmarks/inference.py`): LayerScale is
folded into the weights before it; on an x86 CPU a ViT's blocks are those of `dalib.models.packed`;
ReLUs and sums work in place; and on a CPU the head, whose maps are the largest of all, runs in
strips of rows that stay in cache and never exist as a whole.
"""

import copy
import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from timm.layers import LayerScale
from torch import Tensor, nn

from dalib.models import packed
from dalib.models.depth_anything import DepthAnything, refuse_other_kinds
from dalib.models.dpt import DPT, Fusion, ResidualUnit
from dalib.models.encoder import Encoder

STRIP = 2**21
"""Values of one strip of the head on a CPU (8 MB in float32)."""


class Inference(nn.Module):
    """A network made for inference; see `optimise`."""

    def __init__(self, *, model: DepthAnything, dtype: torch.dtype, pack: bool = False):
        super().__init__()
        self.dtype = dtype
        self.model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        if self.model.encoder.is_vit:
            fold_layer_scale(self.model.encoder)
            if pack and packed.available(model.mean.device, dtype):
                packed.pack(self.model.encoder, dtype)
        self.model.encoder.to(dtype)
        self.model.decoder.to(dtype)
        # one channel of disparity needs more steps than half precision has
        self.model.decoder.head[2].float()

    @torch.inference_mode()
    def forward(
        self, images: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b h w"]:
        """What the network's `kind` says, float32, of uint8 RGB or floats in 0..1 whose sides are
        multiples of its `multiple`.

        A CPU takes the images one by one: their maps fill its caches already.
        """
        images = images.to(self.model.mean.device)
        parts = images.split(1 if images.device.type == "cpu" else len(images))
        return torch.cat([self._maps(part) for part in parts])

    def _maps(self, images: Tensor) -> Tensor:
        batch = self.model.normalise(images).to(self.dtype, memory_format=torch.channels_last)
        decoder = self.model.decoder
        return head(
            decoder,
            decoder.conv(path(decoder, self.model.encoder(batch))),
            tuple(images.shape[-2:]),
        )


def optimise(
    model: DepthAnything,
    *,
    dtype: torch.dtype = torch.float32,
    compile: bool = False,
    device: str | torch.device | None = None,
) -> Inference:
    """A copy of a network for inference; the network itself stays as it is.

    Args:
        model: any of ours.
        dtype: float32 (outputs equal to rounding), or bfloat16 or float16 for everything but the
            last convolution.
        compile: `torch.compile` the encoder's blocks, for many images of one size. On an x86 CPU
            packed blocks are faster than these (by a tenth in float32 and by a quarter in
            bfloat16), and need no compiler.
        device: by default where the network is. What was packed for a CPU cannot be moved
            afterwards.
    """
    refuse_other_kinds(model)
    device = torch.device(device) if device else model.mean.device
    if dtype == torch.bfloat16 and not has_bfloat16(device):
        warnings.warn(
            "bfloat16: this processor only emulates it; float32 is several times faster",
            stacklevel=2,
        )
    net = Inference(model=copy.deepcopy(model).to(device), dtype=dtype, pack=not compile)
    if compile:
        encoder = net.model.encoder
        for part in encoder.net.blocks if encoder.is_vit else [encoder.net]:
            part.compile(dynamic=False)
    return net


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 rather than emulating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type != "cpu" or any(
        v for k, v in torch.cpu.get_capabilities().items() if "bf16" in k
    )


@torch.no_grad()
def fold_layer_scale(encoder: Encoder) -> None:
    """gamma * (W x + b) = (gamma W) x + gamma b, in the last layer of attention and of the
    feed-forward part."""
    for block in encoder.net.blocks:
        for name, layer in (("ls1", "attn.proj"), ("ls2", "mlp.fc2")):
            # blocks of other families have none under these names
            scale = getattr(block, name, None)
            if isinstance(scale, LayerScale):
                linear = block.get_submodule(layer)
                linear.weight.mul_(scale.gamma[:, None])
                linear.bias.mul_(scale.gamma)
                setattr(block, name, nn.Identity())


def path(decoder: DPT, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b f h w"]:
    """The decoder up to its last fused map, as `DPT.forward`, with sums and ReLUs in place."""
    maps = [r(m) for r, m in zip(decoder.reassemble, maps, strict=True)]
    sizes = [
        (2 * maps[0].shape[-2], 2 * maps[0].shape[-1]),
        *(tuple(m.shape[-2:]) for m in maps[:-1]),
    ]
    fused = None
    for block, x, size in reversed(list(zip(decoder.fuse, maps, sizes, strict=True))):
        fused = _fuse(block, fused, x, size)
    return fused


def _fuse(block: Fusion, fused: Tensor | None, x: Tensor, size: tuple[int, int]) -> Tensor:
    if fused is not None:
        x = _unit(block.skip, x).add_(fused)
    return F.interpolate(
        block.out(_unit(block.unit, x)), size=size, mode="bilinear", align_corners=True
    )


def _unit(block: ResidualUnit, x: Tensor) -> Tensor:
    return block.conv2(block.conv1(F.relu(x)).relu_()).add_(x)


def head(
    decoder: DPT, x: Float[Tensor, "b f h2 w2"], size: tuple[int, int]
) -> Float[Tensor, "b h w"]:
    """Interpolation to `size` (align_corners=True) and the two last convolutions, strip by strip on
    a CPU."""
    height, width = size
    conv, act, last, end = decoder.head
    rows = max(16, STRIP // (width * x.shape[1])) if x.device.type == "cpu" else height
    source = x.permute(0, 2, 3, 1)  # (b, h2, w2, f): a view, for channels lie last
    place = torch.arange(height, device=x.device, dtype=torch.float64) * (
        (x.shape[2] - 1) / max(1, height - 1)
    )
    low = place.long().clamp(max=max(0, x.shape[2] - 2))
    high = (low + 1).clamp(max=x.shape[2] - 1)
    share = (place - low).to(x.dtype)[:, None, None]
    out = torch.empty(len(x), height, width, device=x.device)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        # the 3x3 convolution looks one row further
        seen = slice(max(top - 1, 0), min(bottom + 1, height))
        # (b, rows, w2, f)
        lines = torch.lerp(source[:, low[seen]], source[:, high[seen]], share[seen])
        each = lines.flatten(0, 1)[:, None].permute(
            0, 3, 1, 2
        )  # a batch of rows, for threads share batches and nothing else
        each = F.interpolate(each, size=(1, width), mode="bilinear", align_corners=True)
        lines = each.permute(0, 2, 3, 1).reshape(*lines.shape[:2], width, -1).permute(0, 3, 1, 2)
        inner = act(conv(lines))[:, :, top - seen.start : bottom - seen.start]
        out[:, top:bottom] = end(last(inner.float())).squeeze(1)
    return out if decoder.max_depth is None else out * decoder.max_depth
