"""The whole network once more, in float64, as plain functions of tensors under their released
names: what others are compared with."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def depth_anything(
    tensors: dict[str, Tensor],
    images: Tensor,
    *,
    blocks: Sequence[Sequence[int]],
    heads: int,
    position: str,
    max_depth: float | None = None,
) -> list[Tensor]:
    """Maps (b, h, w) of normalised images, one for each choice of blocks.

    Args:
        tensors: of a released .pth file.
        blocks: choices of the four that are read, counted from 0.
        heads: of the attention.
        position: "official": the step between samples of the position embeddings comes from a scale
            factor; "transformers": from the size.
        max_depth: of a metric network.
    """
    t = {k: v.double() for k, v in tensors.items()}
    rows, columns = images.shape[-2] // 14, images.shape[-1] // 14

    def linear(x, name):
        return x @ t[name + ".weight"].T + t[name + ".bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdim=True)
        return (
            x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * t[name + ".weight"]
            + t[name + ".bias"]
        )

    def conv(x, name, **options):
        return F.conv2d(x, t[name + ".weight"], t.get(name + ".bias"), **options)

    def attention(x, name):
        # (b, heads, n, c)
        q, k, v = linear(x, name + ".qkv").unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        share = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        return linear((share @ v).transpose(1, 2).flatten(2), name + ".proj")

    def positions():
        cells = t["pretrained.pos_embed"][:, 1:].reshape(1, 37, 37, -1).permute(0, 3, 1, 2)
        if (rows, columns) != (37, 37):
            size = (
                {"scale_factor": ((rows + 0.1) / 37, (columns + 0.1) / 37)}
                if position == "official"
                else {"size": (rows, columns)}
            )
            cells = F.interpolate(cells, mode="bicubic", **size)
        return cells.flatten(2).transpose(1, 2)

    x = (
        conv(images.double(), "pretrained.patch_embed.proj", stride=14).flatten(2).transpose(1, 2)
        + positions()
    )
    first = (t["pretrained.cls_token"] + t["pretrained.pos_embed"][:, :1]).expand(len(x), -1, -1)
    x, maps = torch.cat([first, x], 1), {}
    for number in range(max(map(max, blocks)) + 1):
        at = f"pretrained.blocks.{number}."
        x = x + t[at + "ls1.gamma"] * attention(norm(x, at + "norm1"), at + "attn")
        hidden = F.gelu(linear(norm(x, at + "norm2"), at + "mlp.fc1"))
        x = x + t[at + "ls2.gamma"] * linear(hidden, at + "mlp.fc2")
        if any(number in choice for choice in blocks):
            maps[number] = (
                norm(x, "pretrained.norm")[:, 1:].transpose(1, 2).unflatten(2, (rows, columns))
            )

    def up(x, size):
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True)

    def unit(x, name):
        return x + conv(
            F.relu(conv(F.relu(x), name + ".conv1", padding=1)), name + ".conv2", padding=1
        )

    def decode(maps):
        levels = []
        for number, y in enumerate(maps):
            y, resize = (
                conv(y, f"depth_head.projects.{number}"),
                f"depth_head.resize_layers.{number}",
            )
            if number < 2:
                y = F.conv_transpose2d(
                    y, t[resize + ".weight"], t[resize + ".bias"], stride=(4, 2)[number]
                )
            elif number == 3:
                y = conv(y, resize, stride=2, padding=1)
            levels.append(conv(y, f"depth_head.scratch.layer{number + 1}_rn", padding=1))
        path = None
        for number in (3, 2, 1, 0):
            at = f"depth_head.scratch.refinenet{number + 1}."
            path = levels[3] if path is None else path + unit(levels[number], at + "resConfUnit1")
            size = (
                levels[number - 1].shape[-2:] if number else [2 * s for s in levels[0].shape[-2:]]
            )
            path = conv(up(unit(path, at + "resConfUnit2"), size), at + "out_conv")
        path = up(conv(path, "depth_head.scratch.output_conv1", padding=1), images.shape[-2:])
        path = F.relu(conv(path, "depth_head.scratch.output_conv2.0", padding=1))
        path = conv(path, "depth_head.scratch.output_conv2.2")[:, 0]
        return F.relu(path) if max_depth is None else max_depth * path.sigmoid()

    return [decode([maps[number] for number in choice]) for choice in blocks]
