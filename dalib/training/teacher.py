"""The network that makes pseudo labels, of any kind and size, as its student's labeller."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dalib.blocks import GivenTeacher
from dalib.models.depth_anything import DepthAnything, refuse_other_kinds
from dalib.models.sizes import network_size, resize_disparity

NEAREST_M = 1e-3
"""Metres below which depth is taken to be this: a metric network may say 0, and disparity is
1/depth."""


class Teacher:
    """A network that predicts disparity of images for a student (section 3.1).

    Its own size may be another than the student's: a ViT takes multiples of its patch, and sees
    best at the size that it was trained at. Then it wants the same crop at its own size (`seen`),
    and its maps are brought to the student's size.

    Args:
        network: of disparity, or of depth in metres, which is turned into disparity here; with
            `predict` and `kind`, as `DepthAnything` has them.
        height, width: of the student's images, in pixels.
        seen: height and width of the images that `predict` takes; the student's by default.
        name: which network it is, for the manifest of its labels.

    Raises:
        ConfigError: a network of classes, or of depth up to scale and shift.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        height: int,
        width: int,
        seen: tuple[int, int] | None = None,
        name: str = "",
    ):
        refuse_other_kinds(network)
        self.network = network
        self.size = height, width
        self.seen = self.size if seen is None else seen
        self.name = name

    def eval(self) -> "Teacher":
        """Put the network into the state in which it predicts."""
        self.network.eval()
        return self

    @torch.inference_mode()
    def predict(
        self, images: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b h2 w2"]:
        """Disparity up to scale and shift at the student's size, of images of the size `seen`;
        uint8, or floats in 0..1."""
        maps = self.network.predict(images)
        if self.network.kind == "depth_m":
            maps = 1 / maps.clamp_min(NEAREST_M)
        return resize_disparity(maps, self.size)


def size_seen(
    given: GivenTeacher, network: DepthAnything, *, height: int, width: int
) -> tuple[int, int]:
    """The size at which a given teacher sees a student's images: their aspect, and the teacher's
    own short side, as far as multiples of its patch allow."""
    short_side = given.short_side or min(height, width)
    multiple = 1 if network.encoder.layout.any_side else network.multiple
    return network_size(height, width, short_side=short_side, multiple=multiple)
