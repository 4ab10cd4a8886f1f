"""Light on what the rays hit: materials, sun or lamp with shadows, darkness under things, sky with
clouds, fog."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dalib.data.scenes.primitives import CONE, ELLIPSOID, Lighting, Scene
from dalib.data.scenes.raycast import CHUNK, HUGE, NUDGE, Rays, Vec, conics, cross, dot, may_meet
from dalib.data.scenes.textures import PATTERNS, lookup

LIFT = 4e-3  # metres between a surface and where its shadow rays start
SLACK = 1e-4  # around bounds in the light's view: more than float32 rounds


def unit(a: Vec) -> Vec:
    scale = dot(a, a).clamp_min(1e-12).rsqrt()
    return a[0] * scale, a[1] * scale, a[2] * scale


def _shade_pairs(
    scene: Scene, chosen: np.ndarray, start: Vec, live: Tensor, light: tuple, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """(primitive, block) pairs that can meet on the way to the light: bounds compared in the
    light's own view."""
    lamp = np.array(light[:3])
    m, m0 = (k[chosen] for k in scene.frames)
    if light[3]:
        corners = scene.corners[:, chosen].transpose(2, 0, 1)  # (3, 8, n)
        below = lamp[1] - corners[1]
        above = (below < 0.02).any(0)
        below = np.maximum(below, 0.02)
        x, z = (corners[0] - lamp[0]) / below, (corners[2] - lamp[2]) / below
        spans = [
            np.where(above, [[-np.inf], [np.inf]], [k.min(0), k.max(0)])
            for k in (x, z, x + z, x - z)
        ]
        depth = (lamp[1] - start[1]).clamp_min(0.02)
        axes = [(start[0] - lamp[0]) / depth, (start[2] - lamp[2]) / depth]
        outline = conics(m[:, :, [0, 2, 1]] * [1, 1, -1], m @ lamp + m0)
        balls = (scene.shape[chosen] == ELLIPSOID) & ~above
    else:
        x, y, z = light[:3]
        flat = math.hypot(x, y) or 1.0  # a light from straight ahead or behind has any side
        side = (y / flat, -x / flat, 0.0) if x or y else (1.0, 0.0, 0.0)
        up = (-z * side[1], z * side[0], x * side[1] - y * side[0])
        basis = np.array([side, up, light[:3]])
        directions = np.stack(
            [basis[0], basis[1], basis[0] + basis[1], basis[0] - basis[1], basis[2]]
        )
        extent = scene.corners[:, chosen] @ directions.T  # (8, n, 5)
        spans = list(np.stack([extent.min(0), extent.max(0)]).transpose(2, 0, 1))
        spans[4][0] -= reach
        axes = [x * start[0] + y * start[1] + z * start[2] for x, y, z in basis.tolist()]
        across = np.stack(
            [m @ basis[0], m @ basis[1], m0], 2
        )  # (n, 3, 3): unit space from (x, y, 1) in the light's view
        aim = (m @ lamp) / np.linalg.norm(m @ lamp, axis=1, keepdims=True)
        across = across - aim[:, :, None] * (aim[:, None] @ across)
        outline = np.diag([0.0, 0.0, 1.0]) - across.transpose(0, 2, 1) @ across
        balls = scene.shape[chosen] == ELLIPSOID
    axes[2:2] = [axes[0] + axes[1], axes[0] - axes[1]]
    values = torch.stack(axes)
    dead = (~live).float().mul_(HUGE)
    low = (values + dead).amin(2)
    high = (values - dead).amax(2)
    low, high = (k.double().numpy(force=True) for k in (low, high))
    lo, hi = np.stack(spans, 1)  # (axes, n)
    # blocks with a live pixel; of the others nothing needs comparing
    lit = np.flatnonzero(low[0] <= high[0])
    low, high = low[:, lit] - SLACK, high[:, lit] + SLACK
    some = np.flatnonzero(
        ((high.max(1, initial=-np.inf) >= lo.T) & (low.min(1, initial=np.inf) <= hi.T)).all(1)
    )
    meet = np.ones((len(some), len(lit)), bool)
    for first, last, least, most in zip(lo[:, some], hi[:, some], low, high, strict=True):
        meet &= first[:, None] <= most
        meet &= last[:, None] >= least
    which, block = np.divmod(np.flatnonzero(meet), max(len(lit), 1))
    which = some[which]
    keep = np.ones(len(which), bool)
    ball = np.flatnonzero(balls[which])
    k = block[ball]
    x, y, rx, ry = *(low[:2, k] + high[:2, k]) / 2, *(high[:2, k] - low[:2, k]) / 2
    keep[ball] = may_meet(outline[which[ball]], x, y, rx, ry)
    return chosen[which[keep]], lit[block[keep]]


def visibility(
    scene: Scene,
    point: Vec,
    normal: Vec,
    live: Tensor,
    light: tuple[float, float, float, float],
    reach: float = np.inf,
) -> Float[Tensor, "t k"]:
    """1 where nothing stands between the points and the light; with a finite `reach`, occluders
    fade out over that many metres."""
    clear = torch.ones_like(point[0])
    chosen = np.flatnonzero(scene.casts & (scene.half.max(1) > (0.12 if reach < np.inf else 0.02)))
    start = tuple(p + LIFT * n for p, n in zip(point, normal, strict=True))
    which, block = _shade_pairs(scene, chosen, start, live, light, reach)
    if not len(which):
        return clear
    device = clear.device
    m, m0 = scene.frames
    aim = np.einsum("nij,j->ni", m, np.array(light[:3])) + (m0 if light[3] else NUDGE)
    table = (
        torch.from_numpy(np.concatenate([m.reshape(-1, 9), m0, aim, scene.form], 1))
        .float()
        .to(device)
    )
    start = torch.stack(start, 1)
    kinds = scene.shape[which]
    seen, blocks, step = [], [], CHUNK * 64 // clear.shape[1]
    for shape in np.unique(kinds):
        where = np.flatnonzero(kinds == shape)
        for begin in range(0, len(where), step):
            part = where[begin : begin + step]
            block_k, which_k = (torch.from_numpy(k[part]).to(device) for k in (block, which))
            row = table.index_select(0, which_k)
            o = torch.baddbmm(
                row[:, 9:12, None], row[:, :9].view(-1, 3, 3), start.index_select(0, block_k)
            )
            d = row[:, 12:15, None] - o if light[3] else row[:, 12:15, None]
            near, far = cross(int(shape), o, d, row[:, 15:], leaves=reach == np.inf)
            near = near.clamp_min(0)
            miss = (near - far).clamp_min(0)
            if light[3]:  # the lamp stands at 1
                miss = miss + (near - 0.98).clamp_min(0)
            seen.append(torch.add(near / reach, miss, alpha=HUGE).nan_to_num(1.0))
            blocks.append(block_k)
    return clear.scatter_reduce_(
        0, torch.cat(blocks)[:, None].expand(-1, clear.shape[1]), torch.cat(seen), "amin"
    )


def _overhead(scene: Scene, point: Vec, normal: Vec, live: Tensor) -> Float[Tensor, "t 64"]:
    """How open the view upwards is, within 1.6 m, from one pixel in four: the darkness under tables
    and cars."""

    def thin(values: Tensor) -> Tensor:
        return values.view(-1, 4, 2, 4, 2)[:, :, 0, :, 1].reshape(-1, 16)

    clear = visibility(
        scene,
        tuple(map(thin, point)),
        tuple(map(thin, normal)),
        thin(live),
        (0.0985, 0.9842, -0.1474, 0.0),
        reach=1.6,
    )
    return clear.view(-1, 4, 1, 4, 1).expand(-1, 4, 2, 4, 2).reshape(-1, 64)


def sky(light: Lighting, d: Vec) -> Vec:
    """Gradient from horizon to zenith, with clouds in perspective."""
    up = unit(d)[1]
    blend = (up.clamp(0, 1)).sqrt()
    high = (up + 0.08).clamp_min(0.03)
    length = dot(d, d).sqrt()
    shape = lookup(
        torch.full_like(up, PATTERNS["clouds"], dtype=torch.int32).flatten(),
        (0.22 * d[0] / length / high + light.cloud_shift).flatten(),
        (0.22 * d[2] / length / high + 0.7 * light.cloud_shift).flatten(),
        torch.full_like(up, 0.02).flatten(),
    ).view_as(up)
    cloud = shape * (light.clouds * (up * 6).clamp(0, 1))
    bright = max(light.horizon) * 1.15
    white = torch.full_like(up, bright)
    ends = zip(light.horizon, light.zenith, strict=True)
    return tuple(torch.lerp(low + (top - low) * blend, white, cloud) for low, top in ends)


def _surface(
    scene: Scene, rays: Rays, depth: Tensor, owner: Int[Tensor, "t 64"]
) -> tuple[Vec, Tensor, Tensor, tuple[Tensor, ...]]:
    """World normals, texture coordinates u and v in metres, and the material of each pixel's
    primitive."""
    linear, origin = scene.view
    table = np.concatenate(
        [
            linear.reshape(-1, 9),
            origin,
            scene.frames[0].transpose(0, 2, 1).reshape(-1, 9),
            scene.half,
            scene.shape[:, None],
            scene.taper,
            scene.material,
        ],
        1,
    )
    table = (
        torch.from_numpy(np.concatenate([table, table[-1:]]).T).float().to(depth.device)
    )  # a last column for the sky
    column = table.index_select(1, owner.flatten()).view(-1, *depth.shape).unbind(0)
    x, y, z = (
        column[9 + k // 3] + depth * (column[k] * rays.u + column[k + 1] * rays.v + column[k + 2])
        for k in (0, 3, 6)
    )
    half, shape, taper, material = column[21:24], column[24], column[25:27], column[27:]
    ax = x.abs()
    ay = y.abs()
    az = z.abs()
    kx, kz = taper[0] / 2, taper[1] / 2
    # how close to each face: 0 on the face, negative inside
    fx, fy, fz = ax + kx * y + kx - 1, ay - 1, az + kz * y + kz - 1
    flat_y = (fy >= fx) & (fy >= fz)
    flat_x = ~flat_y & (fx >= fz)
    flat_z = ~flat_y & ~flat_x
    nx = flat_x * x.sign()
    nz = flat_z * z.sign()
    ny = torch.where(flat_y, y.sign(), torch.where(flat_x, kx, kz))
    u = torch.where(flat_x, z * half[2], x * half[0])
    v = torch.where(flat_y, z * half[2], -y * half[1])
    shapes = set(np.unique(scene.shape).tolist())
    if ELLIPSOID in shapes or CONE in shapes:
        ball, tube = shape == ELLIPSOID, shape == CONE
        steep = (x / half[0]) ** 2 + (z / half[2]) ** 2
        lid = (tube & (ay > 0.9999)) | (ball & (y > 0) & ((y / half[1]) ** 2 > 0.6 * steep))
        side = (ball | tube) & ~lid
        top = lid & tube
        nx, nz = (
            torch.where(top, 0.0, torch.where(ball | tube, k, n)) for k, n in ((x, nx), (z, nz))
        )
        ny = torch.where(
            ball, y, torch.where(top, y.sign(), torch.where(tube, kx * (1 - kx - kx * y), ny))
        )
        u = torch.where(side, torch.atan2(x, z) * half[0], torch.where(lid, x * half[0], u))
        v = torch.where(lid, z * half[2], torch.where(side, -y * half[1], v))
    r = column[12:21]
    normal = unit(tuple(r[k] * nx + r[k + 1] * ny + r[k + 2] * nz for k in (0, 3, 6)))
    return normal, u, v, material


def shade(
    scene: Scene,
    rays: Rays,
    depth: Float[Tensor, "t 64"],
    owner: Int[Tensor, "t 64"],
    *,
    jitter: float = 0.0,
) -> Float[Tensor, "3 t 64"]:
    """Linear radiance, about 1 for white in full light. `jitter` in [-1, 1] shifts the light for
    one sample of a soft shadow."""
    light = scene.light
    hit = depth < torch.inf
    t = torch.where(hit, depth, 1.0)
    gaze = scene.gaze
    d = tuple(
        gaze[k, 0].item() * rays.u + gaze[k, 1].item() * rays.v + gaze[k, 2].item()
        for k in range(3)
    )
    normal, u, v, material = _surface(scene, rays, t, owner)
    point = tuple(e + t * k for e, k in zip(scene.eye.tolist(), d, strict=True))
    pattern, size, grunge, gloss, glow = material[6:11]
    view = unit(d)
    facing = -dot(normal, view)
    footprint = t * (2 * scene.tangent / rays.height) / facing.clamp(0.3, 1.0)
    offset = owner * 0.377
    shape = u.shape

    def texture(which: Tensor, span: Tensor, shift: Tensor | float) -> Tensor:
        args = (
            which.expand(shape),
            u / span + shift,
            v / span + shift,
            (footprint / span).expand(shape),
        )
        return lookup(args[0].int().flatten(), *(a.flatten() for a in args[1:])).view(shape)

    mix = texture(pattern, size, 0.0)
    stain = texture(torch.zeros_like(pattern), 2.0 + 0.5 * size, offset) - 0.5
    dirt = (1 + 2.0 * grunge * stain).clamp_min(0.1)
    albedo = [torch.lerp(material[k], material[3 + k], mix) * dirt for k in range(3)]

    lx, ly, lz, w = light.main
    main = (lx + 0.08 * jitter * (1 + 2 * w), ly, lz + 0.06 * jitter * (1 + 2 * w), w)
    if w:
        ray = tuple(m - p for m, p in zip(main, point, strict=False))
        fall = 1 / (1 + dot(ray, ray) / light.reach**2)
        to_light = unit(ray)
    else:
        length = float(np.linalg.norm(main[:3]))
        main = (main[0] / length, main[1] / length, main[2] / length, 0.0)
        to_light = tuple(torch.tensor(main[:3], device=t.device))
        fall = 1.0
    cosine = dot(normal, to_light).clamp_min(0)
    lit = cosine * fall
    if light.shadow > 0:
        lit = lit * (
            1 - light.shadow * (1 - visibility(scene, point, normal, hit & (cosine > 0), main))
        )
    level = (2 * normal[1] + 0.2).clamp(0, 1)  # what faces down is dark already
    open_sky = 1 - 0.65 * level * (1 - _overhead(scene, point, normal, hit))
    half_way = unit(tuple(a - b for a, b in zip(to_light, view, strict=True)))
    spark = gloss * dot(normal, half_way).clamp_min(0) ** 40 * lit * 1.5
    sheen = gloss * 0.6 * (1 - facing.clamp(0, 1)) ** 4
    upward = 0.5 + 0.5 * normal[1]
    colour = []
    for k in range(3):
        ambient = (
            torch.lerp(
                torch.full_like(upward, light.below[k]),
                torch.full_like(upward, light.above[k]),
                upward,
            )
            * open_sky
        )
        value = (
            albedo[k] * (ambient + light.colour[k] * lit)
            + light.colour[k] * spark
            + sheen * light.horizon[k]
        )
        colour.append(value + albedo[k] * (glow * light.glow * mix))
    for x, y, z, reach, tint in light.lamps:
        ray = (x - point[0], y - point[1], z - point[2])
        square = dot(ray, ray)
        fall = (dot(normal, ray) * square.rsqrt() * 0.8 + 0.2).clamp_min(0) / (
            1 + square / reach**2
        ) ** 1.5
        colour = [c + albedo[k] * fall * tint[k] for k, c in enumerate(colour)]
    air = 1.0
    if light.fog > 0:
        air = torch.exp(-light.fog * t * dot(d, d).sqrt())
        colour = [air * c + (1 - air) * h for c, h in zip(colour, light.horizon, strict=True)]
    if bool(hit.all()):
        return torch.stack(colour)
    behind = sky(light, d)
    return torch.stack([torch.where(hit, c, s) for c, s in zip(colour, behind, strict=True)])
