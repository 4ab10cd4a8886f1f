"""A scene becomes an image, its exact disparity and its semantics: ray casting in blocks of 8x8
pixels.

Each primitive is tried only in the blocks that its projected outline touches. The rays are not
normalised: a direction has length 1 along the optical axis, so the ray parameter t *is* the z-depth
and 1/t the disparity. Every scene is computed by
itself, on one thread, in chunks that fit in cache: hence the same bits in any batch, process or
thread pool.
"""

from __future__ import annotations

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
HUGE = 1e30  # times what is wrong with a hit: added instead of branched upon, which is slow
NUDGE = 1e-20  # keeps a direction from being exactly 0 along an axis, and changes no other
Vec = tuple[Tensor, Tensor, Tensor]


@dataclass
class Rays:
    """Pixel rays in blocks, (blocks, 64): `u` right and `v` up on the plane one metre ahead of the
    eye."""

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
        return grid.reshape(*lead, self.rows * BLOCK, self.columns * BLOCK)[
            ..., : self.height, : self.width
        ]


@lru_cache(maxsize=16)
def _pixels(
    height: int, width: int, shift: tuple[float, float]
) -> tuple[Float[Tensor, "t 64"], Float[Tensor, "t 64"]]:
    """Pixels right of and above the middle of the image, in float64 and in blocks."""
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    x = torch.arange(columns * BLOCK, dtype=torch.float64) + 0.5 + shift[0] - width / 2
    y = height / 2 - 0.5 - shift[1] - torch.arange(rows * BLOCK, dtype=torch.float64)
    grids = torch.meshgrid(y, x, indexing="ij")
    y, x = (
        g.reshape(rows, BLOCK, columns, BLOCK).transpose(1, 2).reshape(-1, BLOCK * BLOCK)
        for g in grids
    )
    return x, y


def pixel_rays(
    scene: Scene, height: int, width: int, device: str, shift: tuple[float, float] = (0.0, 0.0)
) -> Rays:
    """Through pixel centres, or `shift` pixels right and down of them; the field of view is
    vertical: a wider image sees more."""
    step = 2 * scene.tangent / height
    u, v = ((k * step).float().to(device) for k in _pixels(height, width, shift))
    return Rays(u, v, -(-height // BLOCK), -(-width // BLOCK), height, width, step)


def dot(a: Vec, b: Vec) -> Tensor:
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])


def box(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Entry and exit of rays o + t d, (n, 3, k), through the cube [-1, 1]^3; entry > exit where
    they miss."""
    inverse = d.reciprocal()
    # the middle with its sign turned
    middle = o * inverse
    reach = inverse.abs()
    return -(middle + reach).amin(1), (reach - middle).amin(1)


def wedge(o: Tensor, d: Tensor, taper: Float[Tensor, "n 2"]) -> tuple[Tensor, Tensor]:
    """The cube with sides |x| <= 1 - taper_x (y + 1) / 2, and z alike: four slanted planes, a floor
    and a lid."""
    near, far = box(o[:, 1:2], d[:, 1:2])
    slope = taper[:, :, None] / 2
    lean, width = slope * d[:, 1:2], 1 - slope - slope * o[:, 1:2]
    speed = torch.cat([lean + d[:, ::2], lean - d[:, ::2]], 1)  # (n, 4, k) towards the planes
    t = torch.cat([width - o[:, ::2], width + o[:, ::2]], 1) / speed
    enters = torch.sub(t, speed.clamp_min(0), alpha=HUGE)
    leaves = torch.sub(t, speed.clamp_max(0), alpha=HUGE)
    return torch.maximum(near, enters.amax(1)), torch.minimum(far, leaves.amin(1))


def _nearest(o: Tensor, d: Tensor) -> tuple[Tensor, Vec, Vec]:
    """The ray parameter closest to the origin, the point there, and the direction: far, small
    primitives keep their precision."""
    o = o.unbind(1)
    d = d.unbind(1)
    shift = -dot(o, d) / dot(d, d)
    return shift, tuple(torch.addcmul(ok, shift, dk) for ok, dk in zip(o, d, strict=True)), d


def _roots(square: Tensor) -> Tensor:
    """The square root; below zero, where there is none, that of the opposite with a minus sign,
    which makes entry > exit."""
    return torch.copysign(square.abs().sqrt(), square)


def ellipsoid(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Entry and exit through the unit sphere."""
    shift, nearest, d = _nearest(o, d)
    half = _roots((1 - dot(nearest, nearest)) / dot(d, d))
    return shift - half, shift + half


def cone(o: Tensor, d: Tensor, taper: Float[Tensor, "n 1"]) -> tuple[Tensor, Tensor]:
    """Entry and exit through the capped cone about y with radius 1 - taper (y + 1) / 2 for |y| <=
    1."""
    shift, (x, y, z), (dx, dy, dz) = _nearest(o, d)
    slope = taper / 2
    radius, lean = 1 - slope - slope * y, slope * dy
    a = torch.addcmul(dx * dx, dz, dz) - lean * lean
    b = torch.addcmul(torch.addcmul(x * dx, z, dz), lean, radius)
    c = torch.addcmul(x * x, z, z) - radius * radius
    inverse = a.reciprocal()
    middle = b * inverse
    root = _roots(b * b - a * c) * inverse
    near, far = -(middle + root), root - middle
    steep = a.clamp_max(0)  # steeper than the side: inside from the one crossing on, or up to it
    near = torch.addcmul(near, steep, lean.clamp_min(0), value=HUGE)
    far = torch.addcmul(far, steep, lean.clamp_max(0), value=HUGE)
    inverse = dy.reciprocal()
    middle = y * inverse
    reach = inverse.abs()
    near = torch.maximum(near, -(middle + reach))
    far = torch.minimum(far, reach - middle)
    return near + shift, far + shift


def cross(
    shape: int, o: Tensor, d: Tensor, form: Float[Tensor, "n 3"], leaves: bool = True
) -> tuple[Tensor, Tensor]:
    """Entry and exit of rays o + t d, (n, 3, k), for one kind of primitive; entry > exit where they
    miss.

    `form` has its two tapers and how ragged it is: with `leaves`, such ellipsoids lose leaves near
    the rim.
    """
    if shape == CONE:
        return cone(o, d, form[:, :1])
    if shape == WEDGE:
        return wedge(o, d, form[:, :2])
    if shape != ELLIPSOID:
        return box(o, d)
    near, far = ellipsoid(o, d)
    if leaves and len(leafy := (form[:, 2] > 0).nonzero()[:, 0]):
        o, d = (k.index_select(0, leafy).unbind(1) for k in (o, d))
        t = near.index_select(0, leafy)
        rim = (far - near).index_select(0, leafy) / 2
        room = rim.clamp_min(0) * rim * dot(d, d)  # 1 in the middle, 0 on the outline
        x, y, z = (torch.addcmul(ok, t, dk) for ok, dk in zip(o, d, strict=True))
        texels = atlas(str(near.device))
        column = ((x + 0.37 * z) * 60).floor().int().bitwise_and_(255)
        row = ((y + 0.61 * z) * 60).floor().int().bitwise_and_(255)
        leaf = texels.index_select(
            0, (PATTERNS["leaves"] * (len(texels) // len(PATTERNS)) + row * 256 + column).flatten()
        ).view_as(x)
        gone = room < form[:, 2:].index_select(0, leafy) * leaf
        near = near.index_copy(0, leafy, t.masked_fill(gone, torch.inf))
    return near, far


def conics(linear: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Matrices A (n, 3, 3) of unit spheres seen from `origin`: (u, v, 1) A (u, v, 1) >= 0 where
    linear @ (u, v, 1) meets them."""
    along = np.einsum("nij,ni->nj", linear, origin)
    room = (origin * origin).sum(1) - 1
    return along[:, :, None] * along[:, None] - room[:, None, None] * (
        linear.transpose(0, 2, 1) @ linear
    )


def may_meet(
    conic: np.ndarray, x: np.ndarray, y: np.ndarray, rx: np.ndarray | float, ry: np.ndarray | float
) -> np.ndarray:
    """False where a conic is surely negative on the whole rectangle with middle (x, y) and half
    sides (rx, ry)."""
    a, b, c, d, e, f = (conic[:, i, j] for i, j in ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)))
    gx, gy = a * x + b * y + d, b * x + c * y + e
    value = gx * x + gy * y + d * x + e * y + f
    curve = np.maximum(a, 0) * rx * rx + 2 * np.abs(b) * rx * ry + np.maximum(c, 0) * ry * ry
    return value + 2 * (np.abs(gx) * rx + np.abs(gy) * ry) + curve >= -1e-6 * np.abs(f)


def _pairs(scene: Scene, rays: Rays) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (primitive, block) that can meet, ordered by primitive: octagons around the boxes,
    conics around the ellipsoids."""
    reach = (BLOCK - 1) / 2 * rays.step  # from the middle of a block to its outermost rays
    slack = 0.01 * rays.step
    u, v = (k[:, [0, -1]].double().mean(1).numpy(force=True) for k in (rays.u, rays.v))
    lo, hi = scene.outlines
    meet = np.ones((lo.shape[1], len(u)), bool)
    for k, (axis, wide) in enumerate(
        ((u, reach), (v, reach), (u + v, 2 * reach), (u - v, 2 * reach))
    ):
        meet &= lo[k, :, None] <= axis + (wide + slack)
        meet &= hi[k, :, None] >= axis - (wide + slack)
    which, block = np.divmod(np.flatnonzero(meet), len(u))
    linear, origin = scene.view
    keep = np.ones(len(which), bool)
    ball = np.flatnonzero((scene.shape == ELLIPSOID)[which])
    k = block[ball]
    keep[ball] = may_meet(
        conics(linear, origin)[which[ball]], u[k], v[k], reach + slack, reach + slack
    )
    return which[keep], block[keep]


def cast(scene: Scene, rays: Rays) -> tuple[Float[Tensor, "t 64"], Int[Tensor, "t 64"]]:
    """z-depth (inf in the sky) and the index of the primitive hit first (N in the sky)."""
    device = rays.u.device
    count = len(scene.shape)
    linear, origin = scene.view
    table = np.concatenate([linear.reshape(-1, 9), origin, scene.form], 1)
    table = torch.from_numpy(table).float().to(device)
    which, block = _pairs(scene, rays)
    ahead = torch.stack([rays.u, rays.v, torch.ones_like(rays.u)], 1)
    nudge = rays.u.new_full((1, 1, 1), NUDGE)
    hits, blocks, owners = [], [], []
    kinds = scene.shape[which]
    for shape in np.unique(kinds):
        where = np.flatnonzero(kinds == shape)
        for start in range(0, len(where), CHUNK):
            part = where[start : start + CHUNK]
            block_k, which_k = (torch.from_numpy(k[part]).to(device) for k in (block, which))
            row = table.index_select(0, which_k)
            d = torch.baddbmm(nudge, row[:, :9].view(-1, 3, 3), ahead.index_select(0, block_k))
            near, far = cross(int(shape), row[:, 9:12, None], d, row[:, 12:])
            miss = (near - far).clamp_min(0) + (NEAR - near).clamp_min(0)
            hits.append(torch.add(near, miss, alpha=HUGE).nan_to_num(HUGE))
            blocks.append(block_k)
            owners.append(which_k)
    depth = torch.full_like(rays.u, torch.inf)
    owner = torch.full_like(rays.u, count)
    if hits:
        hit = torch.cat(hits)
        block = torch.cat(blocks)
        name = torch.cat(owners)[:, None].float()
        index = block[:, None].expand(-1, BLOCK * BLOCK)
        depth.scatter_reduce_(0, index, hit, "amin")
        behind = hit - depth.index_select(0, block)  # 0 for the first
        owner.scatter_reduce_(0, index, torch.add(name, behind, alpha=HUGE), "amin")
        sky = depth >= FAR
        depth.masked_fill_(sky, torch.inf)
        owner.masked_fill_(sky, count)
    return depth, owner.int()
