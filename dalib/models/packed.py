"""A ViT's blocks on an x86 processor: oneDNN's linear layers, with weights in the order that its
kernels read.

`torch.nn.Linear` brings its weights into that order at every call, or hands a float32 product to
MKL, which reaches less on some processors; and it adds bias, GELU and the residual sum in passes of
their own. The operations here are those that `torch.compile` with frozen weights puts in; no
compiler is needed for them.
"""

import copy
import math
import platform

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import Mlp
from timm.models.vision_transformer import Attention
from timm.models.vision_transformer import Block as Plain
from torch import Tensor, nn

from dalib.models.encoder import Encoder

SCORES = 2**21
"""Bytes of the attention weights of one head that exist at a time."""


def available(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether blocks can be packed for a device and a precision: float32, or bfloat16 that is not
    emulated, on x86."""
    known = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    here = device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64")
    return (
        here
        and known
        and (
            dtype == torch.float32 or (dtype == torch.bfloat16 and _has("avx512_bf16", "amx_bf16"))
        )
    )


def _has(*names: str) -> bool:
    return any(torch.cpu.get_capabilities().get(name, False) for name in names)


def mkl_is_slow() -> bool:
    """Whether MKL, by which PyTorch multiplies float32 matrices, leaves AVX-512 unused: it does on
    AMD's processors, and takes 1.7 times as long as oneDNN there."""
    return _has("avx512_f") and "AMD" in torch.cpu.get_capabilities().get("cpu_name", "")


def pack(encoder: Encoder, dtype: torch.dtype) -> None:
    """Put packed blocks in the place of a ViT's blocks, in place; blocks of another build (ViT-G's
    feed-forward part) stay.

    LayerScale has to be folded before. The network can no longer be moved, nor its blocks be saved.
    """
    for i, block in enumerate(encoder.net.blocks):
        if packable(block):
            encoder.net.blocks[i] = Block(block, dtype=dtype)


def packable(block: nn.Module) -> bool:
    """Whether a block is what `Block` computes: plain attention, a feed-forward part with exact
    GELU, and no more."""
    if type(block) is not Plain or type(block.attn) is not Attention or type(block.mlp) is not Mlp:
        return False
    attn, mlp = block.attn, block.mlp
    nothing = block.ls1, block.ls2, attn.q_norm, attn.k_norm, attn.norm, mlp.norm
    gelu = isinstance(mlp.act, nn.GELU) and mlp.act.approximate == "none"
    return gelu and attn.gate is None and all(isinstance(part, nn.Identity) for part in nothing)


class Linear:
    """A linear layer with packed weights: x (..., i) to GELU(W x + b) or W x + b + `plus`, (...,
    o).

    Args:
        layer: whose weights are copied.
        dtype: of weights, inputs and outputs.
        gelu: whether a GELU follows.
    """

    def __init__(self, layer: nn.Linear, *, dtype: torch.dtype, gelu: bool = False):
        self.weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().to(dtype), None)
        self.bias = None if layer.bias is None else layer.bias.detach().to(dtype)
        self.after = "gelu" if gelu else "none"

    def __call__(
        self, x: Float[Tensor, "*b i"], plus: Float[Tensor, "*b o"] | None = None
    ) -> Float[Tensor, "*b o"]:
        # overloads by name: to find them PyTorch would look at every value of the bias
        run = torch.ops.mkldnn._linear_pointwise
        if plus is not None:
            return run.binary(x, plus, self.weight, self.bias, "add")
        return run.default(x, self.weight, self.bias, self.after, [], "none")


class Block(nn.Module):
    """timm's transformer block, for inference in one precision.

    PyTorch's attention has no products in bfloat16 without AMX, where it takes as long as in
    float32, and in float32 its products are MKL's. Where either is slow it is `attention`, and the
    scale of its scores stands in the weights of the queries.
    """

    def __init__(self, block: Plain, *, dtype: torch.dtype):
        super().__init__()
        self.norm1, self.norm2, self.heads = block.norm1, block.norm2, block.attn.num_heads
        qkv = block.attn.qkv
        self.split = mkl_is_slow() if dtype == torch.float32 else not _has("amx_bf16")
        if self.split:
            qkv = copy.deepcopy(qkv)
            for part in qkv.parameters():
                part.data[: len(part) // 3] *= block.attn.scale / math.log(2)
        self.qkv, self.proj = Linear(qkv, dtype=dtype), Linear(block.attn.proj, dtype=dtype)
        self.fc1, self.fc2 = (
            Linear(block.mlp.fc1, dtype=dtype, gelu=True),
            Linear(block.mlp.fc2, dtype=dtype),
        )

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Same shape out as in."""
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # (b, heads, n, d)
        mixed = (attention if self.split else F.scaled_dot_product_attention)(*qkv)
        x = self.proj(mixed.transpose(1, 2).flatten(2), plus=x)
        return self.fc2(self.fc1(self.norm2(x)), plus=x)


def attention(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h n d"], v: Float[Tensor, "b h n d"]
) -> Float[Tensor, "b h n d"]:
    """sum_j 2^(q.k_j) v_j / sum_j 2^(q.k_j), by products of matrices.

    The powers are taken without subtracting the largest score first, since float32 and bfloat16
    reach from 2^-126 to 2^128; where the sum of a row comes near either end, PyTorch's attention
    does it all again.
    """
    n = q.shape[2]
    out = torch.empty_like(v, memory_format=torch.contiguous_format)
    sums = v.new_empty(*v.shape[:-1], 1)
    rows = max(1, SCORES // (n * q.element_size()))
    one_head = _by_linear if q.dtype == torch.float32 and available(q.device, q.dtype) else _by_mm
    for head in zip(*(t.flatten(0, 1) for t in (q, k, v, out, sums)), strict=True):
        one_head(*head, rows=rows)
    if not ((sums > 2.0**-60) & (sums < 2.0**100)).all():
        return F.scaled_dot_product_attention(q, k, v, scale=math.log(2))
    return out.div_(sums)


def _by_mm(
    q: Float[Tensor, "n d"],
    k: Float[Tensor, "n d"],
    v: Float[Tensor, "n d"],
    out: Float[Tensor, "n d"],
    sums: Float[Tensor, "n 1"],
    *,
    rows: int,
) -> None:
    """The numerators and denominators of one head, `rows` queries at a time, into `out` and
    `sums`."""
    scores = q.new_empty(min(rows, len(q)), len(q))
    for queries, into, total in zip(*(t.split(rows) for t in (q, out, sums)), strict=True):
        weights = scores[: len(queries)]
        torch.mm(queries, k.T, out=weights)
        torch.exp2(weights, out=weights)
        torch.mm(weights, v, out=into)
        torch.sum(weights, -1, keepdim=True, out=total)


def _by_linear(
    q: Float[Tensor, "n d"],
    k: Float[Tensor, "n d"],
    v: Float[Tensor, "n d"],
    out: Float[Tensor, "n d"],
    sums: Float[Tensor, "n 1"],
    *,
    rows: int,
) -> None:
    """The same by oneDNN's linear layers, whose weights are the keys and the values; `torch.mm`
    takes MKL in float32."""
    keys, values = k.contiguous(), v.T.contiguous()
    for queries, into, total in zip(*(t.split(rows) for t in (q, out, sums)), strict=True):
        weights = _linear(queries, keys)
        torch.exp2(weights, out=weights)
        into.copy_(_linear(weights, values))
        torch.sum(weights, -1, keepdim=True, out=total)


def _linear(x: Float[Tensor, "n i"], weight: Float[Tensor, "o i"]) -> Float[Tensor, "n o"]:
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, None, "none", [], "none")
