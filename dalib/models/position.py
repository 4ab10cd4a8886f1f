"""Position embeddings of a ViT at any size of image, as DINOv2 resamples them and as `transformers`
does."""

import torch
from jaxtyping import Float
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

POSITIONS = ("official", "transformers")
Whole = int | torch.SymInt  # a size that is known, or that an export leaves free


def add_positions(
    net: VisionTransformer, patches: Float[Tensor, "b h w c"]
) -> Float[Tensor, "b n c"]:
    """What timm's ViT does before its blocks, with the position embeddings resampled as
    `net.position` says.

    timm itself resamples with antialiasing, which DINOv2 does not.
    """
    b, h, w, _ = patches.shape
    grid = net.patch_embed.grid_size
    embedding = net.pos_embed
    # embeddings of the class token and its like
    prefix = 0 if net.no_embed_class else net.num_prefix_tokens
    # a graph for every size may not look at this one
    if torch.compiler.is_exporting() or (h, w) != grid:
        embedding = torch.cat(
            [
                embedding[:, :prefix],
                resample(embedding[:, prefix:], grid, (h, w), position=net.position),
            ],
            dim=1,
        )
    front = [t.expand(b, -1, -1) for t in (net.cls_token, net.reg_token) if t is not None]
    tokens = patches.flatten(1, 2)  # (b, h * w, c)
    if net.no_embed_class:
        return net.pos_drop(torch.cat([*front, tokens + embedding], dim=1))
    return net.pos_drop(torch.cat([*front, tokens], dim=1) + embedding)


def resample(
    embedding: Float[Tensor, "1 n c"],
    grid: tuple[int, int],
    size: tuple[Whole, Whole],
    *,
    position: str,
) -> Float[Tensor, "1 m c"]:
    """Position embeddings of a grid (37 x 37 for DINOv2) at another size, bicubically and without
    antialiasing.

    Args:
        embedding: of the grid's cells, row by row.
        grid, size: rows and columns before and after.
        position: `"official"` takes the step between samples from a scale factor of (n + 0.1) / 37,
            as the code of DINOv2 and Depth Anything does, so that the samples do not quite span the
            grid; `"transformers"` takes it from n / 37. At the grid's own size both return the
            embeddings as they are.
    """
    rows, columns = (torch.scalar_tensor(n, device=embedding.device) for n in size)
    own = (rows == grid[0]) & (columns == grid[1])
    offset = torch.where(own, 0.0, 0.1) if position == "official" else 0.0
    down = _cubic(size[0], grid[0], grid[0] / (rows + offset))  # (h2, h)
    across = _cubic(size[1], grid[1], grid[1] / (columns + offset))  # (w2, w)
    cells = embedding.float().unflatten(1, grid)  # (1, h, w, c)
    with torch.autocast(embedding.device.type, enabled=False):
        return (
            torch.einsum("yh,xw,bhwc->byxc", down, across, cells).flatten(1, 2).to(embedding.dtype)
        )


def _cubic(
    count: Whole, old: int, step: Float[Tensor, ""], a: float = -0.75
) -> Float[Tensor, "count old"]:
    """Matrix that samples `old` values at `count` places, `step` apart, by cubic convolution with
    repeated borders."""
    place = (torch.arange(count, device=step.device) + 0.5) * step - 0.5
    tap = place.floor()[:, None] + torch.arange(-1, 3, device=step.device)  # (count, 4)
    d = (place[:, None] - tap).abs()
    weight = torch.where(
        d <= 1, ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    )
    column = torch.arange(old, device=step.device)
    return torch.where(tap.clamp(0, old - 1)[..., None] == column, weight[..., None], 0.0).sum(1)
