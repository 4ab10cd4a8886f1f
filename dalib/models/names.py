"""What one tensor is called here, in the released .pth files, and in `transformers` folders."""

from collections.abc import Mapping

import torch
from torch import Tensor

# dalib, official, transformers; {b} counts the encoder's blocks, {i} and {j} the decoder's levels
# from 0 and 1, {r} backwards
ENCODER = (
    ("encoder.net.cls_token", "pretrained.cls_token", "backbone.embeddings.cls_token"),
    ("encoder.net.mask_token", "pretrained.mask_token", "backbone.embeddings.mask_token"),
    ("encoder.net.pos_embed", "pretrained.pos_embed", "backbone.embeddings.position_embeddings"),
    (
        "encoder.net.patch_embed.proj",
        "pretrained.patch_embed.proj",
        "backbone.embeddings.patch_embeddings.projection",
    ),
    ("encoder.net.norm", "pretrained.norm", "backbone.layernorm"),
)
BLOCK = (
    ("norm1", "norm1", "norm1"),
    ("attn.qkv", "attn.qkv", "attention.attention.{qkv}"),
    ("attn.proj", "attn.proj", "attention.output.dense"),
    ("ls1.gamma", "ls1.gamma", "layer_scale1.lambda1"),
    ("norm2", "norm2", "norm2"),
    ("ls2.gamma", "ls2.gamma", "layer_scale2.lambda1"),
)
MLP = ("mlp.fc1", "mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2", "mlp.fc2")
SWIGLU = ("mlp.fc1", "mlp.w12", "mlp.weights_in"), ("mlp.fc2", "mlp.w3", "mlp.weights_out")  # ViT-G
LEVEL = (
    ("reassemble.{i}.project", "projects.{i}", "neck.reassemble_stage.layers.{i}.projection"),
    ("reassemble.{i}.resize", "resize_layers.{i}", "neck.reassemble_stage.layers.{i}.resize"),
    ("reassemble.{i}.out", "scratch.layer{j}_rn", "neck.convs.{i}"),
    ("fuse.{i}.out", "scratch.refinenet{j}.out_conv", "neck.fusion_stage.layers.{r}.projection"),
)
UNIT = ("skip", "resConfUnit1", "residual_layer1"), ("unit", "resConfUnit2", "residual_layer2")
HEAD = (
    ("conv", "scratch.output_conv1", "head.conv1"),
    ("head.0", "scratch.output_conv2.0", "head.conv2"),
    ("head.2", "scratch.output_conv2.2", "head.conv3"),
)
QKV = "query", "key", "value"
DEPTHS = {192: 12, 384: 12, 768: 12, 1024: 24, 1536: 40}  # blocks, by width


def table(width: int) -> list[tuple[str, str, str]]:
    """Names of all modules and bare parameters of a ViT network: dalib's, the official, and that of
    `transformers`.

    Args:
        width: of the encoder.
    """
    rows = list(ENCODER)
    for b in range(DEPTHS[width]):
        prefixes = (
            f"encoder.net.blocks.{b}.",
            f"pretrained.blocks.{b}.",
            f"backbone.encoder.layer.{b}.",
        )
        rows += [
            tuple(p + n for p, n in zip(prefixes, row, strict=True))
            for row in (*BLOCK, *(SWIGLU if width == 1536 else MLP))
        ]
    for i in range(4):
        prefixes = f"fuse.{i}.", f"scratch.refinenet{i + 1}.", f"neck.fusion_stage.layers.{3 - i}."
        units = [
            (
                f"{prefixes[0]}{a}.conv{n}",
                f"{prefixes[1]}{b}.conv{n}",
                f"{prefixes[2]}{c}.convolution{n}",
            )
            for a, b, c in UNIT
            for n in (1, 2)
        ]
        levels = [tuple(name.format(i=i, j=i + 1, r=3 - i) for name in row) for row in LEVEL]
        rows += [(f"decoder.{a}", f"depth_head.{b}", c) for a, b, c in (*levels, *units)]
    return rows + [(f"decoder.{a}", f"depth_head.{b}", c) for a, b, c in HEAD]


def from_official(tensors: Mapping[str, Tensor], width: int) -> dict[str, Tensor]:
    """Released tensors under dalib's names; those of unknown name keep it."""
    return _rename(tensors, {official: ours for ours, official, _ in table(width)})


def to_official(tensors: Mapping[str, Tensor], width: int) -> dict[str, Tensor]:
    """dalib's tensors under the released names."""
    return _rename(tensors, {ours: official for ours, official, _ in table(width)})


def from_transformers(tensors: Mapping[str, Tensor], width: int) -> dict[str, Tensor]:
    """Tensors of a `transformers` folder under dalib's names; those of unknown name keep it.

    Query, key and value, three matrices there, are one here. A third that is missing leaves the
    others as they were.
    """
    renamed = dict(tensors)
    for ours, _, theirs in table(width):
        if "{qkv}" not in theirs:
            continue
        for kind in ("weight", "bias"):
            three = [f"{theirs.format(qkv=part)}.{kind}" for part in QKV]
            if all(name in renamed for name in three):
                renamed[f"{ours}.{kind}"] = torch.cat([renamed.pop(name) for name in three])
    return _rename(renamed, {theirs: ours for ours, _, theirs in table(width)})


def to_transformers(tensors: Mapping[str, Tensor], width: int) -> dict[str, Tensor]:
    """dalib's tensors under the names in a `transformers` folder."""
    renamed = {}
    for name, tensor in _rename(
        tensors, {ours: theirs for ours, _, theirs in table(width)}
    ).items():
        if "{qkv}" in name:
            renamed |= {name.format(qkv=q): t for q, t in zip(QKV, tensor.chunk(3), strict=True)}
        else:
            renamed[name] = tensor
    return renamed


def _rename(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Replace names of modules in names of tensors: "norm.weight" by that of "norm"; a bare
    parameter is its own module."""
    renamed = {}
    for key, tensor in tensors.items():
        module, dot, kind = key.rpartition(".")
        if key in names:
            renamed[names[key]] = tensor
        else:
            renamed[names.get(module, module) + dot + kind] = tensor
    return renamed
