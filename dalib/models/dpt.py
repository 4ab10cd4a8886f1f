"""The DPT decoder (arXiv:2103.13413) as Depth Anything uses it: reassemble, fuse, head."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dalib.models.position import Whole


class Reassemble(nn.Module):
    """Brings one encoder map to its place in the pyramid: project, resize, and bring to the fusion
    width.

    Args:
        in_channels: channels of the encoder map.
        out_channels: channels after the projection; None where the map needs neither projection nor
            resizing (a CNN).
        features: width of the fusion blocks.
        scale: 4, 2, 1 or 0.5; the map's side is multiplied by it.
    """

    def __init__(self, *, in_channels: int, out_channels: int | None, features: int, scale: float):
        super().__init__()
        width = out_channels or in_channels
        self.project = nn.Conv2d(in_channels, width, 1) if out_channels else nn.Identity()
        if scale > 1:
            self.resize = nn.ConvTranspose2d(width, width, int(scale), stride=int(scale))
        elif scale < 1:
            self.resize = nn.Conv2d(width, width, 3, stride=round(1 / scale), padding=1)
        else:
            self.resize = nn.Identity()
        self.out = nn.Conv2d(width, features, 3, padding=1, bias=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f h2 w2"]:
        """(b, c, h, w) to (b, features, scale * h, scale * w)."""
        return self.out(self.resize(self.project(x)))


class ResidualUnit(nn.Module):
    """ReLU, convolution, ReLU, convolution, plus the input."""

    def __init__(self, *, features: int):
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Float[Tensor, "b f h w"]) -> Float[Tensor, "b f h w"]:
        """Same shape out as in."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Fusion(nn.Module):
    """Adds a finer map to the coarser path and brings the sum to the next size.

    Args:
        features: channels of both inputs and of the output.
        deepest: the first block of the path, which has nothing to add to.
    """

    def __init__(self, *, features: int, deepest: bool = False):
        super().__init__()
        self.skip = None if deepest else ResidualUnit(features=features)
        self.unit = ResidualUnit(features=features)
        self.out = nn.Conv2d(features, features, 1)

    def forward(
        self,
        x: Float[Tensor, "b f h w"],
        skip: Float[Tensor, "b f h w"] | None,
        size: tuple[Whole, Whole],
    ) -> Float[Tensor, "b f h2 w2"]:
        """The fused map at `size`; `skip` is None in the deepest block.

        The 1x1 convolution stands before the interpolation, not behind it as in the published code:
        it mixes channels and interpolation mixes places with weights that sum to one, so that they
        commute, and here it does a quarter of the work.
        """
        if self.skip is not None:
            x = x + self.skip(skip)
        return F.interpolate(self.out(self.unit(x)), size=size, mode="bilinear", align_corners=True)


class DPT(nn.Module):
    """From four feature maps to one map of disparity, or of depth in metres where there is a
    `max_depth`.

    Args:
        channels: channels of the encoder's maps.
        out_channels: widths of the reassembled maps (paper.md's table), or None to keep the
            encoder's.
        features: width of the fusion blocks.
        scales: resizing of each map (see `Encoder.scales`).
        hidden: channels before the last convolution.
        max_depth: None for disparity, at least 0 (a ReLU); otherwise depth from 0 to this many
            metres (a sigmoid times it).

    The last convolution is computed in float32 whatever precision the rest has: the 8 bits of
    bfloat16 leave a map of values near 1, which is what a new decoder gives, with half a dozen
    distinct ones.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        out_channels: Sequence[int] | None,
        features: int,
        scales: Sequence[float],
        hidden: int,
        max_depth: float | None = None,
    ):
        super().__init__()
        self.max_depth = max_depth
        widths = out_channels or [None] * len(channels)
        self.reassemble = nn.ModuleList(
            Reassemble(in_channels=c, out_channels=o, features=features, scale=s)
            for c, o, s in zip(channels, widths, scales, strict=True)
        )
        last = len(channels) - 1
        self.fuse = nn.ModuleList(
            Fusion(features=features, deepest=i == last) for i in range(len(channels))
        )
        self.conv = nn.Conv2d(features, features // 2, 3, padding=1)
        self.head = nn.Sequential(
            nn.Conv2d(features // 2, hidden, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, 1, 1),
            nn.ReLU(inplace=True) if max_depth is None else nn.Sigmoid(),
        )
        if max_depth is None:
            nn.init.constant_(self.head[2].bias, 1.0)  # the last ReLU starts open

    def path(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b f h2 w2"]:
        """The maps fused, at twice the finest one's size and half the fusion width: what the head
        reads."""
        maps = [r(m) for r, m in zip(self.reassemble, maps, strict=True)]
        sizes = [(2 * maps[0].shape[-2], 2 * maps[0].shape[-1]), *(m.shape[-2:] for m in maps[:-1])]
        path = self.fuse[-1](maps[-1], None, sizes[-1])  # (b, f, h/16, w/16)
        for i in reversed(range(len(maps) - 1)):
            path = self.fuse[i](path, maps[i], sizes[i])  # ... (b, f, h/2, w/2)
        return self.conv(path)  # (b, f/2, h/2, w/2)

    def forward(
        self, maps: Sequence[Float[Tensor, "b _ _ _"]], size: tuple[Whole, Whole]
    ) -> Float[Tensor, "b h w"]:
        """Disparity, at least 0, at `size` = (h, w); depth in metres where there is a
        `max_depth`."""
        # (b, f/2, h, w)
        path = F.interpolate(self.path(maps), size=size, mode="bilinear", align_corners=True)
        path = self.head[:2](path)
        with torch.autocast(path.device.type, enabled=False):  # see above
            # (b, 1, h, w)
            out = F.conv2d(path.float(), self.head[2].weight.float(), self.head[2].bias.float())
            out = self.head[3](out).squeeze(1)
        return out if self.max_depth is None else out * self.max_depth


class ClassDecoder(DPT):
    """The same decoder with a head of classes: a 1x1 convolution in the place of the depth head,
    whose logits are brought to the image's size.

    Args:
        classes: how many.
        shape: the other arguments of `DPT`, without `max_depth`.
    """

    def __init__(self, *, classes: int, features: int, **shape: Any):
        super().__init__(features=features, **shape)
        self.head = nn.Conv2d(features // 2, classes, 1)

    def forward(
        self, maps: Sequence[Float[Tensor, "b _ _ _"]], size: tuple[Whole, Whole]
    ) -> Float[Tensor, "b k h w"]:
        """The logits of each class at `size` = (h, w)."""
        logits = self.head(self.path(maps))  # (b, k, h/2, w/2)
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=True)
