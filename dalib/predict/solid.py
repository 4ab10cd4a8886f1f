"""The cloud of points of a photograph: what is asked for, and how a map becomes one."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dalib.errors import ConfigError, DataError
from dalib.geometry import Cloud, Lens, cloud, edges
from dalib.models.sizes import resize_disparity
from dalib.predict.metres import ScaleShift
from dalib.predict.prepare import Prepared

METRES = "metres"
GUESSED = "distance of the nearest thing, guessed"


@dataclass(frozen=True, kw_only=True)
class Solid:
    """How clouds are made. A point for each value that the network gave, in the colours that it saw:
    nothing is interpolated.

    Args:
        lens: what is known of the camera.
        guess: for relative disparity without known distances: how many times as far as the nearest
            thing (98th percentile) the farthest (2nd) is. The unit is then the distance of the
            nearest.
        edges: leave out points whose neighbours are more than this share nearer or farther, see
            `dalib.geometry.edges`.
        farthest: leave out points beyond this distance.
    """

    lens: Lens
    guess: float | int | None = None
    edges: float | int | None = None
    farthest: float | int | None = None

    def __post_init__(self) -> None:
        if self.guess is not None and not (math.isfinite(self.guess) and self.guess > 1):
            raise ConfigError(f"--guess {self.guess}: must be a number above 1")
        for name in ("edges", "farthest"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                option = "--drop-edges" if name == "edges" else "--farthest"
                raise ConfigError(f"{option} {value}: must be a positive number")

    def describe(self) -> str:
        """In words, for the note beside the maps."""
        words = [
            str(self.lens),
            f"guess {self.guess:g}" if self.guess is not None else "",
            f"edges above {self.edges:g} dropped" if self.edges is not None else "",
            f"no farther than {self.farthest:g}" if self.farthest is not None else "",
        ]
        return ", ".join(word for word in words if word)

    def of(
        self,
        item: Prepared,
        disparity: Float[Tensor, "h w"],
        *,
        kind: str = "disparity",
        fit: ScaleShift | None = None,
    ) -> tuple[Cloud, str]:
        """The cloud of an image, and its unit.

        Args:
            item: the image, as the network saw it.
            disparity: its map at that size, or its depth for kind "depth_m".
            kind: "disparity" or "depth_m".
            fit: what makes metres of it.

        Raises:
            DataError: nothing at a finite distance; a principal point outside the image.
        """
        if tuple(disparity.shape) != tuple(item.image.shape[-2:]):
            disparity = resize_disparity(disparity[None], tuple(item.image.shape[-2:]))[0]
        unit = METRES
        if kind == "depth_m":
            depth = disparity
        elif fit is not None:
            depth = fit.depth(disparity)
        elif self.guess is not None:
            depth, unit = ScaleShift.guessed(disparity, self.guess).depth(disparity), GUESSED
        else:
            raise ConfigError(NO_SHAPE)
        depth = torch.where(depth > 0, depth, torch.inf)
        keep = depth.isfinite()
        if self.edges is not None:
            keep &= ~edges(depth, jump=self.edges)
        if self.farthest is not None:
            keep &= depth <= self.farthest
        try:
            camera = self.lens.camera(item.size).resized(tuple(depth.shape))
            colours = (255 * item.image).round().to(torch.uint8)
            return cloud(colours, depth, camera, keep=keep), unit
        except (ConfigError, DataError) as error:
            raise DataError(f"{item.name}: {error}") from error


NO_SHAPE = (
    "a cloud of relative disparity has no shape until its shift is known: give known distances "
    "(--known, --sparse), or a guess of how many times as far the farthest is as the nearest "
    "(--guess 10)"
)
