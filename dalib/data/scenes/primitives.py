"""What a scene is made of: tapered boxes, ellipsoids and cones as arrays, a camera and its lights.

World axes are x right, y up, z ahead, in metres. Each primitive lives in a unit space of its own (a
cube [-1, 1]^3, a unit sphere, a unit cylinder); `Scene.frames` maps world to unit space, where one
intersection formula serves all sizes and poses, and leaves the ray parameter t as it is.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

BOX, WEDGE, ELLIPSOID, CONE = range(4)
NEAR = 0.02  # metres ahead of the eye where sight begins
CLASSES = (
    "sky",
    "terrain",
    "road",
    "pavement",
    "floor",
    "ceiling",
    "wall",
    "opening",
    "furniture",
    "object",
    "building",
    "vehicle",
    "person",
    "vegetation",
    "pole",
    "rock",
)
CLASS_ID = {name: k for k, name in enumerate(CLASSES)}
Real = float | int
Colour = tuple[Real, Real, Real]


class Material(NamedTuple):
    """Albedo `a` where the pattern is 0 and `b` where it is 1; `size` metres per repeat; `grunge`
    strength of 1/f stains."""

    a: Colour
    b: Colour
    pattern: int = 0
    size: Real = 1.0
    grunge: Real = 0.25
    gloss: Real = 0.0
    glow: Real = 0.0  # light given off by the `b` part, whatever falls on it
    ragged: Real = 0.0  # foliage: how much of an ellipsoid's rim is eaten away


@dataclass
class Lighting:
    """Main light as homogeneous `main` (w = 0: direction towards it, w = 1: position), ambient
    light from above and below, small lamps."""

    main: tuple[Real, Real, Real, Real] = (0.4, 0.8, -0.3, 0.0)
    colour: Colour = (1.0, 0.95, 0.85)
    above: Colour = (0.45, 0.5, 0.6)
    below: Colour = (0.25, 0.23, 0.2)
    reach: Real = 6.0  # metres at which a main light with a position has fallen to half
    shadow: Real = 1.0
    # x, y, z, reach in m, colour
    lamps: list[tuple[Real, Real, Real, Real, Colour]] = field(default_factory=list)
    horizon: Colour = (0.75, 0.82, 0.9)
    zenith: Colour = (0.3, 0.5, 0.85)
    clouds: Real = 0.5
    cloud_shift: Real = 0.0
    glow: Real = 1.0  # scales what materials give off
    fog: Real = 0.0  # extinction per metre


@dataclass
class Scene:
    """Primitives as float64 arrays, ready for the renderer; `seed` feeds whatever noise the style
    adds."""

    shape: np.ndarray  # (N,)
    centre: np.ndarray  # (N, 3)
    half: np.ndarray  # (N, 3)
    rotation: np.ndarray  # (N, 3, 3): unit space to world, without the scaling
    # (N, 2): by how much of its width at the bottom (x, z) the top is narrower; below 0: wider
    taper: np.ndarray
    material: np.ndarray  # (N, 12): Material, flat
    semantic: np.ndarray  # (N,)
    casts: np.ndarray  # (N,): whether it casts a shadow
    eye: np.ndarray  # (3,)
    gaze: np.ndarray  # (3, 3): camera axes (right, up, ahead) as columns
    tangent: float  # tan of half the vertical field of view
    light: Lighting

    @cached_property
    def frames(self) -> tuple[np.ndarray, np.ndarray]:
        """`m` (N, 3, 3) and `m0` (N, 3) with unit = m @ world + m0."""
        m = self.rotation.transpose(0, 2, 1) / self.half[:, :, None]
        return m, -np.einsum("nij,nj->ni", m, self.centre)

    @cached_property
    def form(self) -> np.ndarray:
        """The tapers and how ragged it is, (N, 3)."""
        return np.concatenate([self.taper, self.material[:, 11:12]], 1)

    @cached_property
    def corners(self) -> np.ndarray:
        """The eight corners of the tapered boxes around the primitives, (8, N, 3) in the world."""
        unit = np.repeat(_SIGNS[:, None], len(self.half), 1)
        unit[:, :, ::2] *= 1 - self.taper * (_SIGNS[:, 1:2] + 1)[:, None] / 2
        return (
            self.centre
            + ((unit * self.half)[:, :, None] @ self.rotation.transpose(0, 2, 1))[:, :, 0]
        )

    @cached_property
    def view(self) -> tuple[np.ndarray, np.ndarray]:
        """`linear` (N, 3, 3) and `origin` (N, 3): camera directions and the eye in unit space."""
        m, m0 = self.frames
        return m @ self.gaze, m @ self.eye + m0

    @cached_property
    def outlines(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds (4, N) of u, v, u + v, u - v of the boxes around, seen on the plane one metre
        ahead; lo > hi behind the eye."""
        x, y, z = ((self.corners - self.eye) @ self.gaze).transpose(2, 0, 1)  # each (8, N)
        front = z >= NEAR * 0.999
        cut = np.flatnonzero(
            front.any(0) & ~front.all(0)
        )  # boxes that reach behind the eye: their edges are cut at NEAR
        ahead = np.where(front, z, np.inf)
        lo, hi = _extremes(x / ahead, y / ahead, front)
        if len(cut):
            a, b = (np.stack([x, y, z])[:, e][..., cut] for e in _EDGES.T)  # (3, 12, n)
            with np.errstate(divide="ignore", invalid="ignore"):
                s = (NEAR - a[2]) / (b[2] - a[2])
            crosses = (s > 0) & (s < 1)
            s = np.where(crosses, s, 0.0)
            u, v = (a[:2] + s * (b[:2] - a[:2])) / NEAR
            low, high = _extremes(u, v, crosses)
            lo[:, cut] = np.minimum(lo[:, cut], low)
            hi[:, cut] = np.maximum(hi[:, cut], high)
        return lo, hi


_SIGNS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
_EDGES = np.array([(a, b) for a in range(8) for b in range(a) if (a ^ b) in (1, 2, 4)])


def _extremes(u: np.ndarray, v: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest u, v, u + v, u - v, (4, n), over the points (k, n) that are kept."""
    axes = np.stack([u, v, u + v, u - v])
    return np.where(keep, axes, np.inf).min(1), np.where(keep, axes, -np.inf).max(1)


def rotation(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """(..., 3, 3): roll about z, then pitch about x (positive looks up), then yaw about y (positive
    turns z towards x)."""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    rows = [
        [cy * cr - sy * sp * sr, -cy * sr - sy * sp * cr, sy * cp],
        [cp * sr, cp * cr, sp],
        [-sy * cr - cy * sp * sr, sy * sr - cy * sp * cr, cy * cp],
    ]
    return np.stack([np.stack(np.broadcast_arrays(*row), -1) for row in rows], -2)


class Builder:
    """Collects primitives. Sizes are full sizes; (x, y, z) is the middle of the bottom face, in the
    frame opened by `at`."""

    def __init__(self) -> None:
        self.rows: list[tuple] = []
        self.frame = (0.0, 0.0, 0.0, 0.0)
        self.light = Lighting()
        self.eye: tuple[Real, Real, Real] = (0.0, 1.5, 0.0)
        self.angles = (0.0, 0.0, 0.0)  # yaw, pitch, roll in radians
        self.fov = 50.0  # vertical, in degrees
        # (pivot, yaw, pitch, roll) of frames that are turned about all axes; 0 is the world
        self.turns: list[tuple[Real, ...]] = [(0.0,) * 6]
        self.turn = 0

    @contextlib.contextmanager
    def at(self, x: Real, y: Real, z: Real, yaw: Real = 0.0) -> Iterator[None]:
        """Everything added inside stands in a frame moved to (x, y, z) and turned by `yaw`."""
        saved = self.frame
        fx, fy, fz, turn = saved
        c = math.cos(turn)
        s = math.sin(turn)
        self.frame = (fx + c * x + s * z, fy + y, fz - s * x + c * z, turn + yaw)
        try:
            yield
        finally:
            self.frame = saved

    @contextlib.contextmanager
    def tumbled(
        self, x: Real, y: Real, z: Real, *, yaw: Real = 0.0, pitch: Real = 0.0, roll: Real = 0.0
    ) -> Iterator[None]:
        """Everything added inside is turned as a whole about (x, y, z), its origin. Not within
        another such frame."""
        fx, fy, fz, turn = self.frame
        c = math.cos(turn)
        s = math.sin(turn)
        pivot = (fx + c * x + s * z, fy + y, fz - s * x + c * z)
        saved = self.frame
        self.turns.append((*pivot, turn + yaw, pitch, roll))
        self.turn = len(self.turns) - 1
        self.frame = (0.0, 0.0, 0.0, 0.0)
        try:
            yield
        finally:
            self.frame = saved
            self.turn = 0

    def add(
        self,
        shape: int,
        x: Real,
        y: Real,
        z: Real,
        w: Real,
        h: Real,
        d: Real,
        material: Material,
        semantic: str,
        *,
        yaw: Real = 0.0,
        pitch: Real = 0.0,
        roll: Real = 0.0,
        taper: tuple[Real, Real] = (0.0, 0.0),
        casts: bool = True,
    ) -> None:
        fx, fy, fz, turn = self.frame
        c = math.cos(turn)
        s = math.sin(turn)
        self.rows.append(
            (
                shape,
                fx + c * x + s * z,
                fy + y + h / 2,
                fz - s * x + c * z,
                w / 2,
                h / 2,
                d / 2,
                turn + yaw,
                pitch,
                roll,
                *taper,
                *material.a,
                *material.b,
                *material[2:],
                CLASS_ID[semantic],
                casts,
                self.turn,
            )
        )

    def box(self, *args, **options) -> None:
        self.add(BOX, *args, **options)

    def wedge(self, *args, **options) -> None:
        """A box whose top is narrower by `taper` (x, z) of its width: a roof, a car's cabin."""
        self.add(WEDGE, *args, **options)

    def ball(self, *args, **options) -> None:
        self.add(ELLIPSOID, *args, **options)

    def cone(self, *args, **options) -> None:
        """A cylinder whose top radius is smaller by `taper[0]`, or larger if below 0: a pole, a
        lampshade, a fir, a cup."""
        self.add(CONE, *args, **options)

    def build(self) -> Scene:
        # stable: kept in order within a shape
        rows = np.array(sorted(self.rows, key=lambda row: row[0]), float)
        shape = rows[:, 0].astype(int)
        taper = rows[:, 10:12] * (shape > BOX)[:, None] * (shape != ELLIPSOID)[:, None]
        taper = np.where(shape[:, None] == CONE, taper[:, :1], taper)  # round
        centre = rows[:, 1:4]
        pose = rotation(*rows[:, 7:10].T)
        if len(self.turns) > 1:
            turns = np.array(self.turns, float)
            moved = np.flatnonzero(rows[:, 26])
            which = rows[moved, 26].astype(int)
            whole = rotation(*turns[which, 3:].T)
            centre[moved] = turns[which, :3] + np.einsum("nij,nj->ni", whole, centre[moved])
            pose[moved] = whole @ pose[moved]
        return Scene(
            shape=shape,
            centre=centre,
            half=np.maximum(rows[:, 4:7], 1e-3),
            rotation=pose,
            taper=taper,
            material=rows[:, 12:24],
            semantic=rows[:, 24].astype(int),
            casts=rows[:, 25].astype(bool),
            eye=np.array(self.eye, float),
            gaze=rotation(*map(np.array, self.angles)),
            tangent=math.tan(math.radians(self.fov) / 2),
            light=self.light,
        )
