"""Tileable patterns as one flat atlas with mipmaps: looked up bilinearly at the level that the
pixel's footprint asks for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

SIDE, LEVELS = 256, 9
Grid = np.ndarray
_V, _U = np.meshgrid((np.arange(SIDE) + 0.5) / SIDE, (np.arange(SIDE) + 0.5) / SIDE, indexing="ij")


def _noise(slope: float, key: int, stretch: tuple[float, float] = (1.0, 1.0)) -> Grid:
    """Periodic noise with amplitude spectrum 1/f^slope, ranked to fill 0..1 evenly; `stretch` > 1
    lengthens the grain along (v, u)."""
    white = np.random.Generator(np.random.Philox(key)).standard_normal((SIDE, SIDE))
    fv = np.fft.fftfreq(SIDE)[:, None] * stretch[0]
    fu = np.fft.rfftfreq(SIDE)[None] * stretch[1]
    radius = np.hypot(fv, fu)
    radius[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(white) / radius**slope, s=(SIDE, SIDE))
    field = (field - field.mean()) / field.std()
    return np.clip(0.5 + field / 4, 0, 1)


def _cells(count: int, key: int) -> tuple[Grid, Grid, Grid]:
    """Periodic Voronoi diagram: distance to the nearest and second nearest point, and a random
    value per cell."""
    rng = np.random.Generator(np.random.Philox(key))
    points = rng.random((count, 2))
    value = rng.random(count)
    distance, order = cKDTree(points, boxsize=1.0).query(np.stack([_V, _U], -1), k=2)
    return (
        distance[..., 0] * np.sqrt(count),
        distance[..., 1] * np.sqrt(count),
        value[order[..., 0]],
    )


def _step(x: Grid, edge: float, soft: float = 0.02) -> Grid:
    return np.clip((x - edge) / soft + 0.5, 0, 1)


def _courses(rows: int, columns: int, joint: float, key: int, bond: float = 0.5) -> Grid:
    """Bricks, planks, tiles: 1 in the joints; blocks differ in tone. `bond` shifts every other
    row."""
    v, u = _V * rows, _U * columns
    u = u + bond * (np.floor(v) % 2)
    tone = np.random.Generator(np.random.Philox(key)).random((rows, columns))
    blocks = 0.45 * tone[np.floor(v).astype(int) % rows, np.floor(u).astype(int) % columns]
    edge = np.minimum(np.minimum(v % 1, 1 - v % 1) / rows, np.minimum(u % 1, 1 - u % 1) / columns)
    return np.where(edge < joint, 1.0, blocks)


def _windows(
    rows: int, columns: int, width: float, height: float, key: int, sill: float = 0.25
) -> Grid:
    """A facade: glass 1 (some panes lighter), frames 0.4, wall 0."""
    v, u = (_V * rows) % 1, (_U * columns) % 1
    du = np.abs(u - 0.5) - width / 2
    dv = np.abs(v - sill - height / 2) - height / 2
    inside = np.maximum(du / columns, dv / rows)
    tone = np.random.Generator(np.random.Philox(key)).random((rows, columns))
    glass = 0.65 + 0.35 * tone[np.floor(_V * rows).astype(int), np.floor(_U * columns).astype(int)]
    bars = (np.abs(u - 0.5) / columns < 0.006) | (np.abs(v - sill - height * 0.62) / rows < 0.005)
    return np.where(inside < 0, np.where(bars, 0.4, glass), np.where(inside < 0.012, 0.3, 0.0))


def _poster(key: int) -> Grid:
    """Something hung on a wall: soft shapes over each other."""
    rng = np.random.Generator(np.random.Philox(key))
    image = 0.3 + 0.4 * _V
    for _ in range(14):
        cv, cu, rv, ru, tone = rng.random(5)
        if rng.random() < 0.5:
            shape = ((_V - cv) / (0.05 + 0.3 * rv)) ** 2 + ((_U - cu) / (0.05 + 0.3 * ru)) ** 2 < 1
        else:
            shape = (np.abs(_V - cv) < 0.03 + 0.25 * rv) & (np.abs(_U - cu) < 0.03 + 0.25 * ru)
        image = np.where(shape, tone, image)
    return 0.8 * image + 0.2 * _noise(1.0, key + 1)


def _letters(key: int) -> Grid:
    """Rows of print: labels, pages, shop signs."""
    ink = np.random.Generator(np.random.Philox(key)).random((SIDE, SIDE // 4)).repeat(4, axis=1)
    words = (
        np.random.Generator(np.random.Philox(key + 1)).random((16, 16)).repeat(16, 0).repeat(16, 1)
        < 0.8
    )
    lines = (_V * 16) % 1
    return ((ink < 0.5) & words & (lines > 0.25) & (lines < 0.75)).astype(float)


def _books(key: int) -> Grid:
    """Spines side by side, each with a tone and a title band."""
    rng = np.random.Generator(np.random.Philox(key))
    edges = np.sort(rng.choice(np.arange(4, SIDE - 4, 6), 26, replace=False))
    book = np.searchsorted(edges, np.arange(SIDE))
    tone = rng.random(27)
    title = 0.2 + 0.5 * rng.random(27)
    image = np.broadcast_to(tone[book], (SIDE, SIDE)).copy()
    band = np.abs(_V - title[book][None]) < 0.06
    image[band] = 1 - image[band]
    image[:, edges] = 0.0
    return image


def _wood(key: int) -> Grid:
    warp = _noise(1.8, key, (1.0, 0.3))
    return (
        0.5
        + 0.3 * np.sin(2 * np.pi * (6 * _V + 3 * warp)) * _noise(1.2, key + 1, (1.0, 0.2))
        + 0.4 * (_noise(0.9, key + 2, (1.0, 0.08)) - 0.5)
    )


def _carpet() -> Grid:
    u = np.abs(_U - 0.5)
    v = np.abs(_V - 0.5)
    frame = (np.maximum(u, v) > 0.42) | (np.abs(np.maximum(u, v) - 0.36) < 0.015)
    bloom = np.sin(40 * u) * np.sin(40 * v) + np.cos(60 * np.hypot(u, v))
    return np.where(frame, 0.8, 0.5 + 0.25 * bloom)


def _dead_leaves(count: int, key: int) -> Grid:
    """Opaque discs and bars of power-law sizes over each other, the newest in front: the model of
    natural images whose spectrum falls as theirs does and whose edges occlude (Lee, Mumford and
    Huang 2001); a little 1/f noise on each."""
    rng = np.random.Generator(np.random.Philox(key))
    image = np.full((SIDE, SIDE), 0.5)
    axis = (np.arange(SIDE) + 0.5) / SIDE
    for _ in range(count):
        cv, cu, spread, turn, stretch, tone, kind = rng.random(7)
        size = 0.016 / (1 - 0.94 * spread)
        dv = (axis - cv + 0.5) % 1 - 0.5
        du = (axis - cu + 0.5) % 1 - 0.5
        rows = np.flatnonzero(np.abs(dv) < 1.5 * size)
        columns = np.flatnonzero(np.abs(du) < 1.5 * size)
        c, s = np.cos(np.pi * turn), np.sin(np.pi * turn)
        along = c * du[columns] + s * dv[rows, None]
        across = (c * dv[rows, None] - s * du[columns]) / (0.35 + 0.65 * stretch)
        norm = np.hypot(along, across) if kind < 0.6 else np.maximum(abs(along), abs(across))
        inside = np.ix_(rows, columns)
        image[inside] = np.where(norm < size, tone, image[inside])
    return np.clip(image + 0.5 * (_noise(0.9, key + 1) - 0.5), 0, 1)


def _speckle(key: int, share: float) -> Grid:
    """Grains of two sizes on a cloudy ground: granite, terrazzo, asphalt."""
    rng = np.random.Generator(np.random.Philox(key))
    fine = rng.random((SIDE, SIDE))
    coarse = rng.random((SIDE // 4, SIDE // 4)).repeat(4, 0).repeat(4, 1)
    grains = np.where(coarse < share, 0.9, np.where(fine < share, 0.1, 0.5))
    return np.clip(0.7 * grains + 0.6 * (_noise(1.1, key + 1) - 0.5) + 0.15, 0, 1)


def _weave(threads: int, key: int) -> Grid:
    """Threads over and under each other, uneven as cloth is."""
    v, u = _V * threads, _U * threads
    over = (np.floor(v) + np.floor(u)) % 2
    bulge = np.where(over > 0, np.sin(np.pi * (u % 1)), np.sin(np.pi * (v % 1)))
    return np.clip(0.6 * bulge + 0.2 * over + 0.8 * (_noise(0.9, key) - 0.5), 0, 1)


def _parquet(key: int) -> Grid:
    """Squares of strips, every other square turned."""
    v, u = _V * 4, _U * 4
    turned = (np.floor(v) + np.floor(u)) % 2 > 0
    strip = np.where(turned, u, v) * 4
    block = (np.floor(v) * 4 + np.floor(u)).astype(int) * 4 + (np.floor(strip) % 4).astype(int)
    tone = np.random.Generator(np.random.Philox(key)).random(64)[block % 64]
    joint = np.minimum(strip % 1, 1 - strip % 1) < 0.04
    return np.clip(np.where(joint, 0, 0.2 + 0.6 * tone) + 0.4 * (_noise(1.0, key + 1) - 0.5), 0, 1)


def _leaves(count: int, key: int) -> Grid:
    first, second, tone = _cells(count, key)
    return np.clip(tone * 0.8 + 0.3 * (second - first) - 0.15 * first, 0, 1)


def _stones() -> Grid:
    first, second, tone = _cells(90, 61)
    return np.where(second - first < 0.12, 0.0, 0.4 + 0.6 * tone)


def _marble() -> Grid:
    ripple = np.sin(2 * np.pi * 4 * (_U + _V) + 9 * _noise(1.6, 62))
    return np.clip(0.5 + 0.5 * ripple * np.abs(ripple), 0, 1)


_RECIPES: dict[str, Callable[[], Grid]] = {
    "noise": lambda: _noise(1.0, 1),
    "smooth": lambda: _noise(1.7, 2),
    "fine": lambda: _noise(0.5, 3),
    "plain": lambda: np.zeros((SIDE, SIDE)),
    "stripes": lambda: _step(np.abs((_U * 8) % 1 - 0.5), 0.25, 0.06),
    "checker": lambda: (np.floor(_U * 4) + np.floor(_V * 4)) % 2,
    "bricks": lambda: _courses(16, 8, 0.005, 4),
    "planks": lambda: np.clip(
        _courses(8, 2, 0.002, 5, 0.37) + 0.5 * (_noise(0.9, 6, (1.0, 0.06)) - 0.5), 0, 1
    ),
    "tiles": lambda: _courses(6, 6, 0.006, 7, 0.0),
    "wood": lambda: _wood(8),
    "plaid": lambda: (
        0.5 * _step(np.abs((_U * 5) % 1 - 0.5), 0.3, 0.03)
        + 0.5 * _step(np.abs((_V * 5) % 1 - 0.5), 0.35, 0.03)
    ),
    "dots": lambda: 1 - _step(np.hypot((_U * 6) % 1 - 0.5, (_V * 6) % 1 - 0.5), 0.28, 0.08),
    "windows": lambda: _windows(2, 3, 0.42, 0.55, 12),
    "bands": lambda: _windows(2, 1, 0.98, 0.5, 13),
    "office": lambda: _windows(4, 6, 0.8, 0.75, 14, 0.12),
    "sash": lambda: _windows(2, 4, 0.34, 0.62, 15, 0.18),
    "poster": lambda: _poster(16),
    "picture": lambda: _poster(18),
    "letters": lambda: _letters(20),
    "books": lambda: _books(22),
    "carpet": _carpet,
    "marble": _marble,
    "stones": _stones,
    "leaves": lambda: _leaves(420, 24),
    "bush": lambda: np.clip(0.65 * _leaves(160, 25) + 0.35 * _noise(0.6, 26), 0, 1),
    "grass": lambda: np.clip(
        0.5 + 1.2 * (_noise(0.5, 27, (1.0, 0.8)) - 0.5) + 0.6 * (_noise(1.3, 28) - 0.5), 0, 1
    ),
    "gravel": lambda: np.clip(0.6 * _leaves(480, 29) + 0.4 * _noise(0.3, 30), 0, 1),
    "corrugated": lambda: 0.5 + 0.5 * np.sin(2 * np.pi * 24 * _U),
    "bark": lambda: np.clip(0.5 + 1.5 * (_noise(0.8, 31, (1.0, 0.15)) - 0.5), 0, 1),
    "clouds": lambda: np.clip(2.4 * (_noise(1.45, 33) - 0.42), 0, 1),
    "heap": lambda: _dead_leaves(900, 34),
    "scene": lambda: _dead_leaves(260, 36),
    "speckle": lambda: _speckle(38, 0.12),
    "asphalt": lambda: _speckle(40, 0.2),
    "weave": lambda: _weave(24, 42),
    "parquet": lambda: _parquet(44),
    "mottle": lambda: np.clip(0.5 + 1.6 * (_noise(0.95, 46) - 0.5), 0, 1),
    "concrete": lambda: np.clip(
        _courses(2, 2, 0.004, 47, 0.0) * 0.5 + 0.25 + 1.1 * (_noise(1.2, 48) - 0.5), 0, 1
    ),
}
PATTERNS: dict[str, int] = {name: k for k, name in enumerate(_RECIPES)}


@cache
def atlas(device: str) -> Float[Tensor, " texels"]:
    """All patterns with all their mipmaps, flat: pattern by pattern, level by level, row by row."""
    flat = []
    for recipe in _RECIPES.values():
        level = recipe()
        for _ in range(LEVELS):
            flat.append(level.ravel())
            level = level.reshape(
                max(len(level) // 2, 1), -1, max(len(level) // 2, 1), 2 if len(level) > 1 else 1
            ).mean((1, 3))
    return torch.from_numpy(np.concatenate(flat)).float().to(device)


_SIZES = [(SIDE >> k) ** 2 for k in range(LEVELS)]


@cache
def _starts(device: str) -> Int[Tensor, " levels"]:
    """Where each mipmap of a pattern begins."""
    return torch.tensor([sum(_SIZES[:k]) for k in range(LEVELS)], dtype=torch.int32, device=device)


def lookup(
    pattern: Int[Tensor, " n"],
    u: Float[Tensor, " n"],
    v: Float[Tensor, " n"],
    footprint: Float[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """Bilinear value at (u, v), in repeats; `footprint` is the width of the pixel there, in
    repeats, and picks the mipmap."""
    texels = atlas(str(u.device))
    level = (footprint * SIDE).clamp(1.0, SIDE).log2().round().int()
    side = torch.bitwise_right_shift(torch.full_like(level, SIDE), level)
    base = _starts(str(u.device)).index_select(0, level) + pattern * sum(_SIZES)
    mask = side - 1
    x, y = u * side - 0.5, v * side - 0.5
    x0 = x.floor()
    y0 = y.floor()
    fx, fy = x - x0, y - y0
    left = x0.int()
    top = y0.int()
    right = left.add(1).bitwise_and_(mask)
    low = base + top.add(1).bitwise_and_(mask) * side
    left = left.bitwise_and_(mask)
    top = base + top.bitwise_and_(mask) * side
    a, b, c, d = (
        texels.index_select(0, k) for k in (top + left, top + right, low + left, low + right)
    )
    upper = torch.lerp(a, b, fx)
    return torch.lerp(upper, torch.lerp(c, d, fx), fy)
