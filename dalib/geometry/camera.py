"""The pinhole camera that turns a pixel and its z-depth into a point."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dalib.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera without distortion, for images of one size.

    Column j and row i of a pixel are the place of its centre, as in OpenCV: the middle of an image
    W pixels wide is at (W - 1) / 2.

    Args:
        fx, fy: focal lengths in pixels.
        cx, cy: the principal point, in pixels.
        size: (H, W) of the images.

    Raises:
        ConfigError: a focal length that is not positive, or a value that is not finite.
        DataError: a principal point outside the image, which belongs to images of another size.
    """

    fx: float | int
    fy: float | int
    cx: float | int
    cy: float | int
    size: tuple[int, int]

    def __post_init__(self) -> None:
        height, width = self.size
        for name in ("fx", "fy"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} {value}: a focal length is a positive number of pixels")
        for name, side in (("cx", width), ("cy", height)):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise ConfigError(f"{name} {value}: must be a finite number of pixels")
            if not -0.5 <= value <= side - 0.5:
                raise DataError(
                    f"{name} {value:g}: the principal point lies outside an image of {width} x "
                    f"{height} pixels; give the intrinsics of images of this size"
                )

    @classmethod
    def from_fov(cls, degrees: float | int, size: tuple[int, int]) -> "Camera":
        """A camera of square pixels that sees so many degrees across the longer side of the image,
        from edge to edge, with the principal point in the middle."""
        if not 0 < degrees < 180:
            raise ConfigError(f"field of view {degrees}: must lie between 0 and 180 degrees")
        return cls.from_focal(max(size) / (2 * math.tan(math.radians(degrees) / 2)), size)

    @classmethod
    def from_focal(cls, focal: float | int, size: tuple[int, int]) -> "Camera":
        """A camera of square pixels with this focal length in pixels and the principal point in the
        middle."""
        height, width = size
        return cls(fx=focal, fy=focal, cx=(width - 1) / 2, cy=(height - 1) / 2, size=size)

    def resized(self, size: tuple[int, int]) -> "Camera":
        """The camera of the same images resized to (h, w), each side by itself."""
        down, right = (new / old for new, old in zip(size, self.size, strict=True))
        return Camera(
            fx=self.fx * right,
            fy=self.fy * down,
            cx=(self.cx + 0.5) * right - 0.5,
            cy=(self.cy + 0.5) * down - 0.5,
            size=size,
        )

    def rays(self) -> Float[Tensor, "3 H W"]:
        """The point of each pixel at z-depth 1: right, down and forward, in float64."""
        height, width = self.size
        rows, columns = torch.meshgrid(
            torch.arange(height, dtype=torch.float64),
            torch.arange(width, dtype=torch.float64),
            indexing="ij",
        )
        right = (columns - self.cx) / self.fx
        down = (rows - self.cy) / self.fy
        return torch.stack([right, down, torch.ones_like(right)])


@dataclass(frozen=True, kw_only=True)
class Lens:
    """What is known of the camera before the size of an image is: exactly one of three.

    Args:
        fov: degrees across the longer side, see `Camera.from_fov`.
        focal: focal length in pixels of the full image.
        intrinsics: (fx, fy, cx, cy) in pixels of the full image.

    Raises:
        ConfigError: none of them or several, or a value that no camera has.
    """

    fov: float | int | None = None
    focal: float | int | None = None
    intrinsics: tuple[float | int, ...] | None = None

    def __post_init__(self) -> None:
        given = [name for name, value in vars(self).items() if value is not None]
        if len(given) != 1:
            have = " and ".join(f"--{name}" for name in given) or "none"
            raise ConfigError(
                "a cloud needs the camera: give one of --fov (degrees across the longer side; a "
                "phone's main camera has 65 to 75), --focal or --intrinsics, not " + have
            )
        if self.fov is not None and not 0 < self.fov < 180:
            raise ConfigError(f"--fov {self.fov}: must lie between 0 and 180 degrees")
        lengths = [self.focal] if self.focal is not None else (self.intrinsics or ())[:2]
        if not all(math.isfinite(f) and f > 0 for f in lengths):
            raise ConfigError(f"--{given[0]}: a focal length is a positive number of pixels")

    def camera(self, size: tuple[int, int]) -> Camera:
        """The camera of an image of this size (H, W)."""
        if self.fov is not None:
            return Camera.from_fov(self.fov, size)
        if self.focal is not None:
            return Camera.from_focal(self.focal, size)
        fx, fy, cx, cy = self.intrinsics
        return Camera(fx=fx, fy=fy, cx=cx, cy=cy, size=size)

    def __str__(self) -> str:
        name, value = next((k, v) for k, v in vars(self).items() if v is not None)
        words = ",".join(f"{v:g}" for v in value) if isinstance(value, tuple) else f"{value:g}"
        return f"{name} {words}"


def parse_intrinsics(text: str) -> tuple[float, float, float, float]:
    """`fx,fy,cx,cy` as four numbers; a `ConfigError` for anything else."""
    try:
        fx, fy, cx, cy = (float(word) for word in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--intrinsics {text!r}: must be four numbers fx,fy,cx,cy in pixels"
        ) from None
    if not all(map(math.isfinite, (fx, fy, cx, cy))):
        raise ConfigError(f"--intrinsics {text!r}: every number must be finite")
    return fx, fy, cx, cy
