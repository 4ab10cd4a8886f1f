"""A scene becomes an image, its exact disparity and its semantics: ray casting in blocks of 8x8 pixels.

Each primitive is tried only in the blocks that its projected outline touches. The rays are not normalised: a direction has
length 1 along the optical axis, so the ray parameter t *is* the z-depth and 1/t the disparity. Every scene is computed by
itself, on one thread, in chunks that fit in cache: hence the same bits in any batch, process or thread pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dalib.data.scenes.primitives import CONE, ELLIPSOID, NEAR, WEDGE, Scene
from dalib.data.scenes.textures import PATTERNS, atlas

BLOCK = 8
CHUNK = 320  # blocks per chunk: 20,480 rays
FAR = 2e4
Vec = tuple[Tensor, Tensor, Tensor]


@dataclass
class Rays:
    """Pixel rays in blocks, (blocks, 64): `u` right and `v` up on the plane one metre ahead of the eye."""

    u: Float[Tensor, "t 64"]
    v: Float[Tensor, "t 64"]
    rows: int
    columns: int
    height: int
    width: int
    step: float  # between pixels

    def image(self, values: Tensor) -> Tensor:
        """(..., blocks, 64) back to (..., height, width)."""
        lead = values.shape[:-2]
        grid = values.reshape(*lead, self.rows, self.columns, BLOCK, BLOCK).transpose(-3, -2)
        return grid.reshape(*lead, self.rows * BLOCK, self.columns * BLOCK)[..., : self.height, : self.width]


@lru_cache(maxsize=16)
def _pixels(height: int, width: int, shift: tuple[float, float]) -> tuple[Float[Tensor, "t 64"], Float[Tensor, "t 64"]]:
    """Pixels right of and above the middle of the image, in float64 and in blocks."""
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    x = torch.arange(columns * BLOCK, dtype=torch.float64) + 0.5 + shift[0] - width / 2
    y = height / 2 - 0.5 - shift[1] - torch.arange(rows * BLOCK, dtype=torch.float64)
    grids = torch.meshgrid(y, x, indexing="ij")
    y, x = (g.reshape(rows, BLOCK, columns, BLOCK).transpose(1, 2).reshape(-1, BLOCK * BLOCK) for g in grids)
    return x, y


def pixel_rays(scene: Scene, height: int, width: int, device: str, shift: tuple[float, float] = (0.0, 0.0)) -> Rays:
    """Through pixel centres, or `shift` pixels right and down of them; the field of view is vertical: a wider image sees more."""
    step = 2 * scene.tangent / height
    u, v = ((k * step).float().to(device) for k in _pixels(height, width, shift))
    return Rays(u, v, -(-height // BLOCK), -(-width // BLOCK), height, width, step)


def dot(a: Vec, b: Vec) -> Tensor:
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])


def affine(row: Sequence[Tensor], p: Vec, shift: Tensor) -> Tensor:
    """row . p + shift."""
    return torch.addcmul(torch.addcmul(torch.addcmul(shift, row[0], p[0]), row[1], p[1]), row[2], p[2])


def box(o: Vec, d: Vec) -> tuple[Tensor, Tensor]:
    """Entry and exit of rays o + t d through the cube [-1, 1]^3; entry > exit where they miss."""
    near = far = None
    for ok, dk in zip(o, d, strict=True):
        inverse = dk.reciprocal()
        middle, reach = -ok * inverse, inverse.abs()
        near = middle - reach if near is None else torch.maximum(near, middle - reach)
        far = middle + reach if far is None else torch.minimum(far, middle + reach)
    return near, far


def wedge(o: Vec, d: Vec, taper: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The cube with sides |x| <= 1 - taper_x (y + 1) / 2, and z alike."""
    (ox, oy, oz), (dx, dy, dz) = o, d
    inverse = dy.reciprocal()
    middle, reach = -oy * inverse, inverse.abs()
    near, far = middle - reach, middle + reach
    for ok, dk, k in ((ox, dx, taper[0] / 2), (oz, dz, taper[1] / 2)):
        slope, room = k * dy, 1 - k - k * oy
        for sign in (1, -1):
            speed = sign * dk + slope
            t = (room - sign * ok) / speed
            near = torch.where(speed < 0, torch.maximum(near, t), near)
            far = torch.where(speed > 0, torch.minimum(far, t), far)
    return near, far


def _nearest(o: Vec, d: Vec) -> tuple[Tensor, Vec]:
    """The ray parameter closest to the origin and the point there: far, small primitives keep their precision."""
    shift = -dot(o, d) / dot(d, d)
    return shift, tuple(torch.addcmul(ok, shift, dk) for ok, dk in zip(o, d, strict=True))


def ellipsoid(o: Vec, d: Vec) -> tuple[Tensor, Tensor]:
    """Entry and exit through the unit sphere."""
    shift, nearest = _nearest(o, d)
    room = 1 - dot(nearest, nearest)
    half = (room.clamp_min(0) / dot(d, d)).sqrt()
    near = torch.where(room > 0, shift - half, torch.inf)
    return near, shift + half


def cone(o: Vec, d: Vec, taper: Tensor) -> tuple[Tensor, Tensor]:
    """Entry and exit through the capped cone about y with radius 1 - taper (y + 1) / 2 for |y| <= 1."""
    dx, dy, dz = d
    shift, (x, y, z) = _nearest(o, d)
    slope = taper / 2
    radius = 1 - slope - slope * y
    a = dx * dx + dz * dz - slope * slope * dy * dy
    b = x * dx + z * dz + slope * dy * radius
    c = x * x + z * z - radius * radius
    root = (b * b - a * c).sqrt()  # NaN where the ray misses: no comparison below is then true
    near, far = torch.full_like(root, torch.inf), torch.full_like(root, -torch.inf)
    for t in ((-b - root) / a, (-b + root) / a):
        inside = (y + t * dy).abs() <= 1
        near, far = torch.where(inside, torch.minimum(near, t), near), torch.where(inside, torch.maximum(far, t), far)
    for cap, size in ((-1.0, 1.0), (1.0, 1 - taper)):
        t = (cap - y) / dy
        inside = (x + t * dx) ** 2 + (z + t * dz) ** 2 <= size * size
        near, far = torch.where(inside, torch.minimum(near, t), near), torch.where(inside, torch.maximum(far, t), far)
    return near + shift, far + shift


def cross(shape: int, o: Vec, d: Vec, taper: Sequence[Tensor], ragged: Tensor | None) -> tuple[Tensor, Tensor]:
    """Entry and exit for one kind of primitive; `ragged` ellipsoids lose leaves near the rim."""
    if shape == CONE:
        return cone(o, d, taper[0])
    if shape == WEDGE:
        return wedge(o, d, (taper[0], taper[1]))
    if shape != ELLIPSOID:
        return box(o, d)
    near, far = ellipsoid(o, d)
    if ragged is not None and len(leafy := (ragged[:, 0] > 0).nonzero()[:, 0]):
        ox, oy, oz, dx, dy, dz = (k.expand_as(near).index_select(0, leafy) for k in (*o, *d))
        t, rim = near.index_select(0, leafy), (far - near).index_select(0, leafy) / 2
        room = (rim * rim * dot((dx, dy, dz), (dx, dy, dz))).nan_to_num(0, 0, 0)  # 1 in the middle, 0 on the outline
        t = torch.where(room > 0, t, 0.0)
        x, y, z = ((ok + t * dk) for ok, dk in ((ox, dx), (oy, dy), (oz, dz)))
        texels = atlas(str(near.device))
        column = ((x + 0.37 * z) * 60).floor().int().bitwise_and_(255)
        row = ((y + 0.61 * z) * 60).floor().int().bitwise_and_(255)
        leaf = texels.index_select(
            0, (PATTERNS["leaves"] * (len(texels) // len(PATTERNS)) + row * 256 + column).flatten()
        ).view_as(x)
        gone = room < ragged.index_select(0, leafy) * leaf
        near = near.index_copy(0, leafy, near.index_select(0, leafy).masked_fill(gone, torch.inf))
    return near, far


def conics(linear: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Matrices A (n, 3, 3) of unit spheres seen from `origin`: (u, v, 1) A (u, v, 1) >= 0 where linear @ (u, v, 1) meets them."""
    along = np.einsum("nij,ni->nj", linear, origin)
    room = (origin * origin).sum(1) - 1
    return along[:, :, None] * along[:, None] - room[:, None, None] * (linear.transpose(0, 2, 1) @ linear)


def may_meet(
    conic: np.ndarray, x: np.ndarray, y: np.ndarray, rx: np.ndarray | float, ry: np.ndarray | float
) -> np.ndarray:
    """False where a conic is surely negative on the whole rectangle with middle (x, y) and half sides (rx, ry)."""
    a, b, c, d, e, f = (conic[:, i, j] for i, j in ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)))
    gx, gy = a * x + b * y + d, b * x + c * y + e
    value = gx * x + gy * y + d * x + e * y + f
    curve = np.maximum(a, 0) * rx * rx + 2 * np.abs(b) * rx * ry + np.maximum(c, 0) * ry * ry
    return value + 2 * (np.abs(gx) * rx + np.abs(gy) * ry) + curve >= -1e-6 * np.abs(f)


def _pairs(scene: Scene, rays: Rays) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (primitive, block) that can meet, ordered by primitive: octagons around the boxes, conics around the ellipsoids."""
    reach = (BLOCK - 1) / 2 * rays.step  # from the middle of a block to its outermost rays
    slack = 0.01 * rays.step
    u, v = (k[:, [0, -1]].double().mean(1).numpy(force=True) for k in (rays.u, rays.v))
    lo, hi = scene.outlines
    meet = np.ones((lo.shape[1], len(u)), bool)
    for k, (axis, wide) in enumerate(((u, reach), (v, reach), (u + v, 2 * reach), (u - v, 2 * reach))):
        meet &= (lo[k, :, None] <= axis + (wide + slack)) & (hi[k, :, None] >= axis - (wide + slack))
    balls = np.flatnonzero(scene.shape == ELLIPSOID)
    which, block = np.nonzero(meet[balls])
    linear, origin = scene.view
    conic = conics(linear[balls], origin[balls])[which]
    meet[balls[which], block] = may_meet(conic, u[block], v[block], reach + slack, reach + slack)
    return np.nonzero(meet)


def cast(scene: Scene, rays: Rays) -> tuple[Float[Tensor, "t 64"], Int[Tensor, "t 64"]]:
    """z-depth (inf in the sky) and the index of the primitive hit first (N in the sky)."""
    device, count = rays.u.device, len(scene.shape)
    linear, origin = scene.view
    table = (
        torch.from_numpy(np.concatenate([linear.reshape(-1, 9), origin, scene.taper, scene.material[:, 11:12]], 1))
        .float()
        .to(device)
    )
    which, block = _pairs(scene, rays)
    hits, blocks, owners = [], [], []
    kinds = scene.shape[which]
    for shape in np.unique(kinds):
        where = np.flatnonzero(kinds == shape)
        for start in range(0, len(where), CHUNK):
            part = where[start : start + CHUNK]
            block_k, which_k = (torch.from_numpy(k[part]).to(device) for k in (block, which))
            row = table.index_select(0, which_k)[:, :, None].unbind(1)  # each (n, 1)
            u, v = rays.u.index_select(0, block_k), rays.v.index_select(0, block_k)
            d = tuple(torch.addcmul(torch.addcmul(row[k + 2], row[k], u), row[k + 1], v) for k in (0, 3, 6))
            near, far = cross(int(shape), row[9:12], d, row[12:14], row[14])
            hits.append(torch.where((near <= far) & (near > NEAR) & (near < FAR), near, torch.inf))
            blocks.append(block_k)
            owners.append(which_k)
    depth = torch.full_like(rays.u, torch.inf)
    owner = torch.full_like(rays.u, count)
    if hits:
        hit, index, name = (
            torch.cat(hits),
            torch.cat(blocks)[:, None].expand(-1, BLOCK * BLOCK),
            torch.cat(owners)[:, None].float(),
        )
        depth.scatter_reduce_(0, index, hit, "amin")
        first = torch.where((hit == depth.index_select(0, index[:, 0])) & (hit < torch.inf), name, float(count))
        owner.scatter_reduce_(0, index, first, "amin")
    return depth, owner.int()
