"""Pairs of primitive and block that the renderer leaves out are pairs that cannot meet."""

import math

import numpy as np
import pytest
import torch

from dalib.data.scenes import KINDS, Split, describe, raycast, shading
from dalib.data.scenes.glance import SIDE, glance
from dalib.data.scenes.raycast import cast, pixel_rays

H, W = 48, 72


@pytest.mark.parametrize("kind", KINDS)
def test_culling_loses_no_pair_that_matters(kind, monkeypatch):
    """The same hits when every primitive is tried in every block, and the same shadows on all but a few grazed pixels."""
    scene = describe(Split("test", 9, {kind: 1.0}, {"plain": 1.0}), 1)[0]
    rays = pixel_rays(scene, H, W, "cpu")
    depth, owner = cast(scene, rays)
    hit = depth < math.inf
    t = torch.where(hit, depth, 1.0)
    local = (rays.u, rays.v, torch.ones_like(rays.u))
    point = tuple(scene.eye[k] + t * sum(scene.gaze[k, j] * local[j] for j in range(3)) for k in range(3))
    up = (torch.zeros_like(t), torch.ones_like(t), torch.zeros_like(t))
    lights = [
        ((0.36, 0.8, -0.48, 0.0), math.inf),
        ((0.0985, 0.9842, -0.1474, 0.0), 1.6),
        ((0.5, 2.5, 3.0, 1.0), math.inf),
    ]
    shadows = [shading.visibility(scene, point, up, hit, light, reach) for light, reach in lights]

    def every(scene, *rest, chosen=None):
        chosen = np.arange(len(scene.shape)) if chosen is None else chosen
        return np.repeat(chosen, len(t)), np.tile(np.arange(len(t)), len(chosen))

    monkeypatch.setattr(raycast, "_pairs", every)
    monkeypatch.setattr(shading, "_shade_pairs", lambda scene, chosen, *rest: every(scene, chosen=chosen))
    everywhere = cast(scene, rays)
    assert torch.equal(depth, everywhere[0])
    assert torch.equal(owner, everywhere[1])
    for (light, reach), found in zip(lights, shadows, strict=True):
        differs = (found != shading.visibility(scene, point, up, hit, light, reach)) & hit
        assert differs.float().mean() < 2e-3, light


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
        same = (owner == first) | np.isclose(found, depth, rtol=1e-6)  # two faces in one plane may take turns
        assert same.sum() >= SIDE * SIDE - 1, index  # one ray may graze an edge
        np.testing.assert_allclose(found[same], depth[same], rtol=1e-5)
