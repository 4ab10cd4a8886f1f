"""Pairs of primitive and block that the renderer leaves out are pairs that cannot meet."""

import math

import numpy as np
import pytest
import torch

from dalib.data.scenes import KINDS, Split, describe, raycast, shading
from dalib.data.scenes.glance import SIDE, glance
from dalib.data.scenes.primitives import CONE, WEDGE, Builder, Material, Scene
from dalib.data.scenes.raycast import cast, pixel_rays

H, W = 48, 72
GREY = Material((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def _tried(scene: Scene, height: int = H, width: int = W) -> list[torch.Tensor]:
    """Depth, owner, and what three lights reach: a sun, the sky within 1.6 m, a lamp."""
    rays = pixel_rays(scene, height, width, "cpu")
    depth, owner = cast(scene, rays)
    hit = depth < math.inf
    t = torch.where(hit, depth, 1.0)
    local = (rays.u, rays.v, torch.ones_like(rays.u))
    point = tuple(
        scene.eye[k] + t * sum(scene.gaze[k, j] * local[j] for j in range(3)) for k in range(3)
    )
    up = (torch.zeros_like(t), torch.ones_like(t), torch.zeros_like(t))
    lights = [
        ((0.36, 0.8, -0.48, 0.0), math.inf),
        ((0.0985, 0.9842, -0.1474, 0.0), 1.6),
        ((0.5, 2.5, 3.0, 1.0), math.inf),
    ]
    shadows = [shading.visibility(scene, point, up, hit, light, reach) for light, reach in lights]
    return [depth, owner, *(rays.image(torch.where(hit, k, 1.0)) for k in shadows)]


def _try_all(monkeypatch, height: int = H, width: int = W) -> None:
    """From here on every primitive is tried in every block."""
    blocks = -(-height // raycast.BLOCK) * -(-width // raycast.BLOCK)

    def every(scene, *_, chosen=None):
        chosen = np.arange(len(scene.shape)) if chosen is None else chosen
        return np.repeat(chosen, blocks), np.tile(np.arange(blocks), len(chosen))

    monkeypatch.setattr(raycast, "_pairs", every)
    monkeypatch.setattr(
        shading, "_shade_pairs", lambda scene, chosen, *_: every(scene, chosen=chosen)
    )


# table tops where bounds by the width at the bottom cut off cups or their shadows
PICKS = (1, 30, 34, 36, 39)
SWEEP = [(kind, index) for kind in KINDS for index in (0, 1)] + [
    ("tabletop", index) for index in PICKS
]


@pytest.mark.slow
def test_culling_loses_no_pair_that_matters(monkeypatch):
    """The same hits and shadows when every primitive is tried in every block."""
    scenes = [
        describe(Split("test", 103, {kind: 1.0}, {"plain": 1.0}), index)[0] for kind, index in SWEEP
    ]
    culled = [_tried(scene, 96, 128) for scene in scenes]
    _try_all(monkeypatch, 96, 128)
    for what, scene, found in zip(SWEEP, scenes, culled, strict=True):
        for name, one, other in zip(
            ("depth", "owner", "sun", "sky", "lamp"), found, _tried(scene, 96, 128), strict=True
        ):
            assert torch.equal(one, other), (what, name, int((one != other).sum()))


@pytest.mark.parametrize("shape", [CONE, WEDGE])
def test_what_is_wider_at_the_top_is_not_cut_at_its_bottom_width(shape, monkeypatch):
    """A flowerpot of 1 m at the bottom and 1.5 m at the top, 4 m ahead: at each of these places
    some rim leaves its bottom's blocks."""
    places = np.linspace(-1, 1, 9)
    scenes = []
    for x in places:
        b = Builder()
        b.eye, b.angles = (0.0, 1.5, 0.0), (0.0, -0.2, 0.0)
        b.add(shape, x, 0.3, 4.0, 1.0, 1.0, 1.0, GREY, "object", taper=(-0.5, -0.5), yaw=0.3)
        b.box(0, -1, 4, 40, 1, 40, GREY, "floor", casts=False)
        scenes.append(b.build())
    culled = [_tried(scene) for scene in scenes]
    _try_all(monkeypatch)
    for x, scene, found in zip(places, scenes, culled, strict=True):
        for name, one, other in zip(
            ("depth", "owner", "sun", "sky", "lamp"), found, _tried(scene), strict=True
        ):
            assert torch.equal(one, other), (x, name)
        for k, shadow in enumerate(found[2:]):
            assert (shadow < 1).sum() > 20, (x, k)


def test_the_corners_of_a_tapered_box_are_its_own():
    b = Builder()
    b.wedge(1, 0, 2, 2, 4, 6, GREY, "object", taper=(0.5, -1.0))
    # round: of a cone's tapers the first counts
    b.cone(0, 0, 0, 2, 2, 2, GREY, "object", taper=(-0.5, 0.9))
    b.box(0, 0, 0, 2, 2, 2, GREY, "object", taper=(0.5, 0.5))  # neither boxes nor ellipsoids taper
    box, wedge, cone = b.build().corners.transpose(1, 0, 2)
    expected = {
        (1 + x * (0.5 if y else 1), y, 2 + z * (6 if y else 3))
        for x in (-1, 1)
        for y in (0, 4)
        for z in (-1, 1)
    }
    assert set(map(tuple, wedge.round(12).tolist())) == expected
    expected = {
        (x * (1.5 if y else 1), y, z * (1.5 if y else 1))
        for x in (-1, 1)
        for y in (0, 2)
        for z in (-1, 1)
    }
    assert set(map(tuple, cone.round(12).tolist())) == expected
    assert set(map(tuple, box.round(12).tolist())) == {
        (x, y, z) for x in (-1, 1) for y in (0, 2) for z in (-1, 1)
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_glance_sees_what_the_renderer_sees(kind):
    """Up to the holes in the foliage, which the glance leaves out."""
    for index in range(20):
        scene = describe(Split("test", 9, {kind: 1.0}, {"plain": 1.0}), index)[0]
        scene.material[:, 11] = 0
        rays = pixel_rays(scene, SIDE, SIDE, "cpu")
        depth, owner = (
            rays.image(k).flip(0).flatten().numpy() for k in cast(scene, rays)
        )  # a glance begins at the bottom
        found, first = glance(scene)
        # two faces in one plane may take turns
        same = (owner == first) | np.isclose(found, depth, rtol=1e-6)
        assert same.sum() >= SIDE * SIDE - 1, index  # one ray may graze an edge
        np.testing.assert_allclose(found[same], depth[same], rtol=1e-5)
