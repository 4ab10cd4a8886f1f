"""A ViT's blocks on an x86 processor: oneDNN's linear layers, with weights in the order that its kernels read.

`torch.nn.Linear` brings its weights into that order at every call, or hands a float32 product to MKL, which reaches less on some
processors; and it adds bias, GELU and the residual sum in passes of their own. The operations here are those that
`torch.compile` with frozen weights puts in; no compiler is needed for them.
"""

import platform

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import Mlp
from timm.models.vision_transformer import Attention
from timm.models.vision_transformer import Block as Plain
from torch import Tensor, nn

from dalib.models.encoder import Encoder

SCORES = 2**20
"""Attention weights of one head that exist at a time (2 MB in bfloat16)."""


def available(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether blocks can be packed for a device and a precision: float32, or bfloat16 that is not emulated, on x86."""
    known = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    here = device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64")
    return here and known and (dtype == torch.float32 or (dtype == torch.bfloat16 and _has("avx512_bf16", "amx_bf16")))


def _has(*names: str) -> bool:
    return any(torch.cpu.get_capabilities().get(name, False) for name in names)


def pack(encoder: Encoder) -> None:
    """Put packed blocks in the place of a ViT's blocks, in place; blocks of another build (ViT-G's feed-forward part) stay.

    LayerScale has to be folded before. The network can no longer be moved, nor its blocks be saved.
    """
    for i, block in enumerate(encoder.net.blocks):
        if packable(block):
            encoder.net.blocks[i] = Block(block)


def packable(block: nn.Module) -> bool:
    """Whether a block is what `Block` computes: plain attention, a feed-forward part with exact GELU, and no more."""
    if type(block) is not Plain or type(block.attn) is not Attention or type(block.mlp) is not Mlp:
        return False
    attn, mlp = block.attn, block.mlp
    nothing = block.ls1, block.ls2, attn.q_norm, attn.k_norm, attn.norm, mlp.norm
    gelu = isinstance(mlp.act, nn.GELU) and mlp.act.approximate == "none"
    return gelu and attn.gate is None and all(isinstance(part, nn.Identity) for part in nothing)


class Linear:
    """A linear layer with packed weights: x (..., i) to GELU(W x + b) or W x + b + `plus`, (..., o).

    Args:
        layer: whose weights are copied.
        gelu: whether a GELU follows.
    """

    def __init__(self, layer: nn.Linear, *, gelu: bool = False):
        self.weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)
        self.bias, self.after = layer.bias, "gelu" if gelu else "none"

    def __call__(self, x: Float[Tensor, "*b i"], plus: Float[Tensor, "*b o"] | None = None) -> Float[Tensor, "*b o"]:
        if plus is not None:
            return torch.ops.mkldnn._linear_pointwise.binary(x, plus, self.weight, self.bias, "add")
        return torch.ops.mkldnn._linear_pointwise.default(x, self.weight, self.bias, self.after, [], "none")


class Block(nn.Module):
    """timm's transformer block, for inference."""

    def __init__(self, block: Plain):
        super().__init__()
        self.norm1, self.norm2, self.heads = block.norm1, block.norm2, block.attn.num_heads
        self.qkv, self.proj = Linear(block.attn.qkv), Linear(block.attn.proj)
        self.fc1, self.fc2 = Linear(block.mlp.fc1, gelu=True), Linear(block.mlp.fc2)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Same shape out as in."""
        x = self.proj(attention(self.qkv(self.norm1(x)), self.heads), plus=x)
        return self.fc2(self.fc1(self.norm2(x)), plus=x)


def attention(qkv: Float[Tensor, "b n _"], heads: int) -> Float[Tensor, "b n c"]:
    """Softmax attention from queries, keys and values side by side (b, n, 3 * c), each with its heads one after another.

    PyTorch's kernel has no products in bfloat16 without AMX, and takes as long as in float32: there the products are oneDNN's.
    """
    q, k, v = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # each (b, heads, n, d)
    if qkv.dtype == torch.float32 or _has("amx_bf16"):
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    q = q * q.shape[-1] ** -0.5
    (_, n, _), rows = qkv.shape, max(1, SCORES // qkv.shape[1])
    out = torch.empty_like(v)
    scores = qkv.new_empty(min(rows, n), n)
    for queries, keys, values, found in zip(*(t.flatten(0, 1) for t in (q, k, v, out)), strict=True):
        for part, into in zip(queries.split(rows), found.split(rows), strict=True):
            weights = scores[: len(part)]
            torch.mm(part, keys.T, out=weights)
            torch.softmax(weights, -1, out=weights)
            torch.mm(weights, values, out=into)
    return out.transpose(1, 2).flatten(2)
