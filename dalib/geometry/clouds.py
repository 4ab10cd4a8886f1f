"""Clouds of coloured points out of depth maps, and how flat a part of one is."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from dalib.errors import DataError
from dalib.geometry.camera import Camera


@dataclass(frozen=True)
class Cloud:
    """Points in the camera's coordinates (x right, y down, z forward), each with its colour.

    Args:
        points: (n, 3) in the unit of the depth.
        colours: (n, 3), sRGB.
    """

    points: Float[Tensor, "n 3"]
    colours: UInt8[Tensor, "n 3"]

    def __len__(self) -> int:
        return len(self.points)


def cloud(
    image: UInt8[Tensor, "3 H W"],
    depth: Float[Tensor, "h w"],
    camera: Camera,
    *,
    keep: Bool[Tensor, "h w"] | None = None,
) -> Cloud:
    """A point for each pixel that has a depth.

    Args:
        image: colours, sRGB.
        depth: z-depth, positive. What is infinite (the sky) or NaN has no point.
        camera: of this size.
        keep: pixels to use; all by default. See `edges`.

    Raises:
        DataError: sizes that differ, a depth that is zero or negative, or no point left.
    """
    sizes = {
        "image": tuple(image.shape[-2:]),
        "depth": tuple(depth.shape),
        "camera": tuple(camera.size),
    }
    if len(set(sizes.values())) > 1:
        named = ", ".join(f"{name} {h} x {w}" for name, (h, w) in sizes.items())
        raise DataError(f"sizes differ ({named}); resize the map, or the camera (Camera.resized)")
    if int((depth <= 0).sum()):
        raise DataError(f"{int((depth <= 0).sum())} depths are zero or negative")
    use = depth.isfinite() if keep is None else depth.isfinite() & keep
    if not use.any():
        if depth.isfinite().any():
            raise DataError(
                f"all pixels are left out, and nothing would be in the cloud; the nearest is at "
                f"{depth.min():.3g}: leave out fewer (--farthest, --drop-edges)"
            )
        raise DataError("no pixel has a finite depth; nothing would be in the cloud")
    # (3, H, W) -> (n, 3)
    points = (camera.rays() * depth.double()).permute(1, 2, 0)[use].float()
    return Cloud(points, image.permute(1, 2, 0)[use])


def edges(depth: Float[Tensor, "H W"], *, jump: float | int) -> Bool[Tensor, "H W"]:
    """Where depth jumps: one of the eight neighbours is more than `jump` (0.1: 10 %) farther or
    nearer.

    At an edge a map passes from the near depth to the far one in a few pixels, which lie in the air
    between both as points ("flying pixels"). A floor near the horizon jumps, too.
    """
    if not jump > 0:
        raise DataError(f"jump {jump}: must be positive, such as 0.1 for 10 %")
    around = depth[None, None]
    farthest = F.max_pool2d(around, 3, 1, 1)[0, 0]
    nearest = -F.max_pool2d(-around, 3, 1, 1)[0, 0]
    return (farthest > (1 + jump) * depth) | (depth > (1 + jump) * nearest)


@dataclass(frozen=True)
class Plane:
    """The plane nearest to a set of points, by total least squares.

    Args:
        normal: (3,), of length 1, towards the camera.
        offset: distance of the plane from the camera.
        rms: root mean square distance of the points from the plane.
        extent: root mean square distance of the points from their middle.
    """

    normal: Float[Tensor, " 3"]
    offset: float
    rms: float
    extent: float

    @property
    def bend(self) -> float:
        """`rms` / `extent`: 0 for a plane, whatever its size."""
        return self.rms / self.extent

    def angle(self, other: "Plane") -> float:
        """Between the two planes, in degrees, 0 to 90."""
        cosine = float((self.normal * other.normal).sum().abs().clamp(max=1))
        return float(torch.rad2deg(torch.tensor(cosine, dtype=torch.float64).acos()))


def fit_plane(points: Float[Tensor, "n 3"]) -> Plane:
    """The plane with the least sum of squared distances from the points.

    Raises:
        DataError: fewer than three points, all in one place, or one that is NaN or infinite.
    """
    if len(points) < 3:
        raise DataError(f"{len(points)} points have no plane; take at least 3")
    if not points.isfinite().all():
        raise DataError("points that are NaN or infinite have no plane; leave them out")
    points = points.double()
    middle = points.mean(0)
    _, sizes, axes = torch.linalg.svd(points - middle, full_matrices=False)
    if sizes[1] <= 1e-12 * (sizes[0] + middle.norm()):
        raise DataError("the points lie on one line or in one place; they have no plane")
    offset = float(axes[2] @ middle)
    normal = axes[2] if offset <= 0 else -axes[2]
    count = len(points) ** 0.5
    rms = float(((points - middle) @ axes[2]).square().mean().sqrt())
    return Plane(normal, abs(offset), rms, float(sizes.norm()) / count)
