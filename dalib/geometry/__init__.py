"""From depth maps to clouds of points: the camera, the points, and their files.

Depth is z-depth throughout, the distance along the camera's axis and not along the pixel's ray.
Coordinates are those of OpenCV: x to the right, y down, z forward, in the unit of the depth.
"""

from dalib.geometry.camera import Camera, Lens, parse_intrinsics
from dalib.geometry.clouds import Cloud, Plane, cloud, edges, fit_plane
from dalib.geometry.files import write_glb, write_ply

__all__ = [
    "Camera",
    "Cloud",
    "Lens",
    "Plane",
    "cloud",
    "edges",
    "fit_plane",
    "parse_intrinsics",
    "write_glb",
    "write_ply",
]
