"""A first look at a scene through a few rays, in numpy: `raycast.cast` is made for whole images,
not for 64 rays."""

from __future__ import annotations

import numpy as np

from dalib.data.scenes.primitives import CONE, ELLIPSOID, NEAR, Scene

SIDE = 8  # rays along a side of the (square) glance
_V, _U = (
    k.ravel() for k in np.meshgrid(*[(np.arange(SIDE) + 0.5) / SIDE * 2 - 1] * 2, indexing="ij")
)
_RAYS = np.stack([_U, _V, np.ones_like(_U)], 1)
_AXES = np.stack([_U, _V, _U + _V, _U - _V])  # as in Scene.outlines


def _tapered(
    o: np.ndarray, d: np.ndarray, slope_x: np.ndarray, slope_z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Entry and exit of rays o + t d, each (3, n), through |x| <= 1 - slope_x (y + 1), |y| <= 1,
    |z| <= 1 - slope_z (y + 1)."""
    slope = np.stack([slope_x, np.zeros_like(slope_x), slope_z])
    width, narrowing = 1 - slope * (o[1] + 1), slope * d[1]
    speed = np.concatenate([narrowing + d, narrowing - d])  # (6, n): outwards through each face
    t = np.concatenate([width - o, width + o]) / speed
    return np.where(speed < 0, t, -np.inf).max(0), np.where(speed > 0, t, np.inf).min(0)


def _quadric(
    o: np.ndarray, d: np.ndarray, slope: np.ndarray, cone: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Entry and exit through the unit sphere or, where `cone`, x^2 + z^2 <= (1 - slope (y + 1))^2;
    NaN where a ray misses."""
    (x, y, z), (dx, dy, dz) = o, d
    stretch = np.where(cone, -slope * slope, 1.0)  # of y^2
    lean, size = slope * (1 - slope), (1 - slope) ** 2  # 0 and 1 for spheres: they have no slope
    a = dx * dx + dz * dz + stretch * dy * dy
    b = x * dx + z * dz + (stretch * y + lean) * dy
    c = x * x + z * z + (stretch * y + 2 * lean) * y - size
    root = np.sqrt(b * b - a * c)
    # a < 0: steeper than a cone's side, the ray leaves one half of the double cone and enters the
    # other; one of them is not there
    near = np.where((a < 0) & (slope * dy > 0), -np.inf, (-b - root) / a)
    far = np.where((a < 0) & (slope * dy < 0), np.inf, (-b + root) / a)
    return near, far


def glance(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """z-depth (inf in the sky) and index of the primitive hit first (N in the sky) of 8 x 8 rays;
    foliage has no holes."""
    count = len(scene.shape)
    meet = np.ones((count, SIDE * SIDE), bool)
    for low, high, axis in zip(*scene.outlines, _AXES * scene.tangent, strict=True):
        meet &= (low[:, None] <= axis) & (high[:, None] >= axis)
    which, ray = np.nonzero(meet)
    linear, origin = scene.view
    o, shape = origin[which].T, scene.shape[which]
    d = np.einsum("nij,nj->in", linear[which], (_RAYS * [scene.tangent, scene.tangent, 1])[ray])
    slope_x, slope_z = scene.taper[which].T / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        near, far = _tapered(o, d, slope_x, slope_z)
        curved = np.flatnonzero(shape >= ELLIPSOID)
        enter, leave = _quadric(o[:, curved], d[:, curved], slope_x[curved], shape[curved] == CONE)
        near[curved] = np.maximum(near[curved], enter)
        far[curved] = np.minimum(far[curved], leave)
    depth = np.full((count + 1, SIDE * SIDE), np.inf)
    depth[which, ray] = np.where((near <= far) & (near > NEAR), near, np.inf)
    first = depth.min(0)
    return first, np.where(first < np.inf, depth.argmin(0), count)
