"""Perturbation: independent step-by-step references, the laws of what is drawn, and what a key
decides."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import ndimage

from dalib.data import perturb
from dalib.data.perturb import (
    BLUR,
    CUTMIX,
    GREY_P,
    JITTER,
    Perturbation,
    apply,
    draw,
    gaussian_blur,
    inside,
    partner,
)
from dalib.errors import ConfigError

ALL = ("colour", "blur", "cutmix")
SIZE = {"height": 24, "width": 32}
LUMA = np.array([0.299, 0.587, 0.114])


def pictures(count=4, seed=0, height=24, width=32):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def keys(count, *first):
    return [(*first, i) for i in range(count)]


def many(kind, count=3000, **size):
    return draw(keys(count, 5), (kind,), **(SIZE | size))


# what a key decides


def test_the_same_key_draws_the_same():
    one, other = draw(keys(6, 1), ALL, **SIZE), draw(keys(6, 1), ALL, **SIZE)
    for name in ("colour", "sigma", "box"):
        assert torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.slow
def test_another_key_draws_something_else():
    one, other = draw(keys(20, 1), ALL, **SIZE), draw(keys(20, 2), ALL, **SIZE)
    assert not torch.equal(one.colour, other.colour)
    assert not torch.equal(one.sigma, other.sigma)
    assert not torch.equal(one.box, other.box)
    assert (
        len({tuple(c.flatten().tolist()) for c in one.colour}) > 10
    )  # nor do the images of a batch share their numbers


@pytest.mark.slow
@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)), min_size=1, max_size=6),
    st.randoms(),
)
def test_the_company_does_not_matter(some, random):
    """A key draws the same whatever other keys the batch holds, and in whatever place."""
    order = random.sample(range(len(some)), len(some))
    whole, shuffled = draw(some, ALL, **SIZE), draw([some[i] for i in order], ALL, **SIZE)
    for name in ("colour", "sigma", "box"):
        assert torch.equal(getattr(whole, name)[order], getattr(shuffled, name))


@pytest.mark.parametrize("kind", ALL)
def test_kinds_are_independent(kind):
    """Switching the others off leaves a kind's numbers unchanged."""
    alone, together = draw(keys(40), (kind,), **SIZE), draw(keys(40), ALL, **SIZE)
    name = {"colour": "colour", "blur": "sigma", "cutmix": "box"}[kind]
    assert torch.equal(getattr(alone, name), getattr(together, name))
    assert [k for k in ("colour", "sigma", "box") if getattr(alone, k) is not None] == [name]


def test_nothing_switched_on_changes_nothing():
    images = pictures()
    got, mask = apply(images, draw(keys(4), (), **SIZE))
    assert torch.equal(got, images)
    assert mask is None


# colour


class Script(np.random.Generator):
    """A generator that returns prepared numbers: `random`, `uniform` (in -1..1) and the order of
    the four steps."""

    def __new__(cls, **_):
        return super().__new__(cls, np.random.PCG64(0))

    def __init__(self, *, jitter, grey, uniforms, order):
        super().__init__(np.random.PCG64(0))
        self.randoms, self.uniforms, self.order = (
            [0.0 if jitter else 0.999, 0.0 if grey else 0.999],
            list(uniforms),
            order,
        )

    def random(self):
        return self.randoms.pop(0)

    def uniform(self, low, high):
        assert (low, high) == (-1, 1)
        return self.uniforms.pop(0)

    def permutation(self, count):
        assert count == 4
        return np.array(self.order)


def stepwise(image, *, brightness, contrast, saturation, angle, order, grey):
    """Brightness, contrast, saturation, hue one after the other on (3, h, w), float64, nothing
    clamped on the way."""
    for step in order:
        luma = np.tensordot(LUMA, image, 1)
        if step == 0:
            image = brightness * image
        elif step == 1:
            image = contrast * image + (1 - contrast) * luma.mean()
        elif step == 2:
            image = saturation * image + (1 - saturation) * luma
        else:
            turned = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
            i = 0.595716 * image[0] - 0.274453 * image[1] - 0.321263 * image[2]
            q = 0.211456 * image[0] - 0.522591 * image[1] + 0.311135 * image[2]
            i, q = (
                math.cos(angle) * i - math.sin(angle) * q,
                math.sin(angle) * i + math.cos(angle) * q,
            )
            # back to RGB by NTSC's published inverse
            image = np.stack(
                [
                    turned + 0.9563 * i + 0.6210 * q,
                    turned - 0.2721 * i - 0.6474 * q,
                    turned - 1.1070 * i + 1.7046 * q,
                ]
            )
    return np.repeat(np.tensordot(LUMA, image, 1)[None], 3, 0) if grey else image


@settings(max_examples=40)
@given(
    st.lists(st.floats(-1, 1), min_size=4, max_size=4),
    st.permutations(range(4)),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_colour_step_by_step(uniforms, order, jitter, grey, seed):
    """One linear map of pixel and mean does what the four steps do one after the other."""
    colour = perturb._colour(Script(jitter=jitter, grey=grey, uniforms=uniforms, order=order), 1.0)
    image = pictures(1, seed)
    factors = [
        1 + JITTER[k] * u
        for k, u in zip(("brightness", "contrast", "saturation"), uniforms, strict=False)
    ]
    expected = stepwise(
        image[0].double().numpy(),
        brightness=factors[0],
        contrast=factors[1],
        saturation=factors[2],
        angle=2 * math.pi * JITTER["hue"] * uniforms[3],
        order=order if jitter else [],
        grey=grey,
    )
    got = perturb.colour_distortion(image, colour[None])
    assert_allclose(got[0], expected.clip(0, 1), atol=2e-3)  # the published inverse has four digits


def test_colour_by_hand():
    """Contrast 0.5 on one black and one white pixel: both half way to the mean luma 0.5."""
    script = Script(jitter=True, grey=False, uniforms=[0, -1, 0, 0], order=[1, 0, 2, 3])
    image = torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2).contiguous()
    got = perturb.colour_distortion(image, perturb._colour(script, 1.0)[None])
    assert_allclose(got[0, :, 0], np.tile([0.25, 0.75], (3, 1)), atol=1e-6)


def test_hue_keeps_luma_and_grey_stays_grey():
    script = Script(jitter=True, grey=False, uniforms=[0, 0, 0, 0.7], order=[3, 2, 1, 0])
    colour = perturb._colour(script, 1.0)
    image = 0.4 + 0.2 * pictures(1)  # mild, so that nothing is clamped
    got = perturb.colour_distortion(image, colour[None])
    weights = torch.tensor(LUMA, dtype=torch.float32).view(3, 1, 1)
    assert_allclose((got * weights).sum(1), (image * weights).sum(1), atol=1e-5)
    assert (got - image).abs().max() > 0.02
    grey = image.mean(1, keepdim=True).expand(-1, 3, -1, -1).contiguous()
    assert_allclose(perturb.colour_distortion(grey, colour[None]), grey, atol=1e-5)


def test_colour_law():
    """Jitter with p 0.8, grey with p 0.2; the greatest factors are reached and never passed."""
    colour = many("colour").colour
    identity = torch.cat([torch.eye(3), torch.zeros(3, 3)], 1)
    grey = (colour - colour[:, :1]).abs().amax((1, 2)) < 1e-6
    luma = torch.tensor(LUMA, dtype=torch.float32).expand(3, 3)
    plain = (colour - identity).abs().amax((1, 2)) < 1e-6
    plain |= (colour - torch.cat([luma, torch.zeros(3, 3)], 1)).abs().amax((1, 2)) < 1e-5
    assert grey.float().mean().item() == pytest.approx(GREY_P, abs=0.03)
    assert plain.float().mean().item() == pytest.approx(1 - JITTER["p"], abs=0.03)
    # a white image keeps brightness only, whatever the order: contrast, saturation and hue leave it
    # alone
    brightness = colour.sum(2).mean(1)
    jittered = brightness[~plain]
    assert jittered.min() > 1 - JITTER["brightness"] - 1e-3
    assert jittered.max() < 1 + JITTER["brightness"] + 1e-3
    assert jittered.std().item() == pytest.approx(JITTER["brightness"] / math.sqrt(3), rel=0.05)


def test_strength_zero_leaves_colours_and_focus():
    images = pictures(30)
    drawn = draw(keys(30), ("colour", "blur"), **SIZE, strength=0.0)
    assert not drawn.sigma.any()
    grey = (drawn.colour - drawn.colour[:, :1]).abs().amax((1, 2)) < 1e-5
    got, _ = apply(images, drawn)
    assert_allclose(got[~grey], images[~grey], atol=1e-5)
    assert 0 < grey.sum() < 15


# blur


@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.0, 1.7, 2.0])
def test_blur_against_scipy(sigma):
    images = pictures(2)
    got = gaussian_blur(images, torch.tensor([sigma, 0.0]))
    radius = max(1, math.ceil(3 * sigma))
    expected = ndimage.gaussian_filter(
        images[0].double().numpy(), (0, sigma, sigma), mode="mirror", radius=(0, radius, radius)
    )
    assert_allclose(got[0], expected, atol=2e-6)
    assert torch.equal(got[1], images[1])  # sigma 0: as it was


def test_blur_does_not_depend_on_the_company():
    """The same image and sigma, alone or beside a stronger blur, on one process or on another."""
    images, sigma = pictures(4), torch.tensor([0.4, 1.02, 0.0, 2.0])
    together = gaussian_blur(images, sigma)
    for i in range(4):
        assert_allclose(
            gaussian_blur(images[i : i + 1], sigma[i : i + 1])[0], together[i], atol=1e-6
        )


def test_blur_keeps_a_constant_and_the_mean_of_the_interior():
    flat = torch.full((1, 3, 24, 32), 0.37)
    assert_allclose(gaussian_blur(flat, torch.tensor([1.5])), flat, atol=1e-6)
    spot = torch.zeros(1, 3, 24, 32)
    spot[:, :, 12, 16] = 1
    got = gaussian_blur(spot, torch.tensor([1.5]))
    assert_allclose(got.sum((2, 3)), 1, atol=1e-5)
    assert_allclose(got, got.flip(2).roll(1, 2), atol=1e-7)  # symmetric about row 12 of 24
    assert got.max() < 0.1


def test_blur_on_images_smaller_than_the_kernel():
    images = pictures(1, height=4, width=5)
    got = gaussian_blur(images, torch.tensor([2.0]))
    assert got.shape == images.shape
    assert images.min() <= got.min()
    assert got.std() < 0.7 * images.std()


def test_blur_law():
    sigma = many("blur").sigma
    blurred = sigma[sigma > 0]
    assert len(blurred) / len(sigma) == pytest.approx(BLUR["p"], abs=0.03)
    low, high = BLUR["sigma"]
    assert low <= blurred.min() < low + 0.01
    assert high - 0.01 < blurred.max() <= high
    assert blurred.mean().item() == pytest.approx((low + high) / 2, abs=0.05)


# CutMix


def test_box_law():
    """On a large square: p 0.5, area U(0.02, 0.4), aspect U(0.3, 1/0.3) as far as the rectangle
    fits, placed uniformly."""
    box = many("cutmix", height=1000, width=1000).box.double()
    mixed = box[(box[:, 2] > box[:, 0])]
    assert len(mixed) / len(box) == pytest.approx(CUTMIX["p"], abs=0.03)
    assert not box[box[:, 2] <= box[:, 0]].any()
    h, w = mixed[:, 2] - mixed[:, 0], mixed[:, 3] - mixed[:, 1]
    area, aspect = h * w / 1e6, h / w
    assert 0.02 - 1e-3 < area.min() < 0.025
    assert 0.39 < area.max() < 0.4 + 1e-3
    assert 0.3 - 0.01 < aspect.min() < 0.32
    assert 3.2 < aspect.max() < 1 / 0.3 + 0.02
    small = area < 0.25  # these fit at any aspect: nothing was redrawn
    assert area[small].mean().item() == pytest.approx((0.02 + 0.25) / 2, abs=0.01)
    assert aspect[small].mean().item() == pytest.approx((0.3 + 1 / 0.3) / 2, abs=0.1)
    for start, side in ((mixed[:, 0], h), (mixed[:, 1], w)):
        assert ((start >= 0) & (start + side <= 1000)).all()
        where = (start / (1000 - side))[side < 900]
        assert where.mean().item() == pytest.approx(0.5, abs=0.03)
        assert where.std().item() == pytest.approx(1 / math.sqrt(12), abs=0.02)


@settings(max_examples=30)
@given(st.integers(8, 600), st.integers(8, 600), st.integers(0, 10**6))
def test_boxes_fit(height, width, seed):
    box = draw(keys(20, seed), ("cutmix",), height=height, width=width).box
    mixed = box[box[:, 2] > box[:, 0]]
    assert (mixed >= 0).all()
    assert (mixed[:, 2] <= height).all()
    assert (mixed[:, 3] <= width).all()
    assert (mixed[:, 3] > mixed[:, 1]).all()


def test_peer_bug_cutmix_with_a_fixed_box():
    box = many("cutmix", count=200).box
    mixed = {tuple(b.tolist()) for b in box if b[2] > b[0]}
    assert len(mixed) > 80
    assert len({b[2] - b[0] for b in mixed}) > 8
    assert len({b[:2] for b in mixed}) > 60


def test_partner_by_hand():
    assert partner(6).tolist() == [1, 0, 3, 2, 5, 4]
    with pytest.raises(ConfigError, match=r"even number.*not 5"):
        partner(5)


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(1, 4))
def test_partners_stay_in_their_slice(pairs, world):
    """Each process pairs its own images, so a batch split over processes has the pairs of the whole
    batch."""
    whole, share = partner(2 * pairs * world), 2 * pairs
    parts = [partner(share) + rank * share for rank in range(world)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(whole[whole], torch.arange(len(whole)))


def test_inside_by_hand():
    mask = inside(torch.tensor([[1, 0, 3, 2], [0, 0, 0, 0]]), 4, 3)
    assert mask[0].int().tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert not mask[1].any()


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_mixed_image_is_the_partner_inside_and_itself_outside(seed):
    """The partner as distorted for itself (eq. 5), not the clean one and not distorted with the
    neighbour's numbers."""
    images, drawn = pictures(6, seed % 100), draw(keys(6, seed), ALL, **SIZE)
    distorted, none = apply(images, Perturbation(colour=drawn.colour, sigma=drawn.sigma, box=None))
    mixed, mask = apply(images, drawn)
    assert none is None
    for i, other in enumerate([1, 0, 3, 2, 5, 4]):
        top, left, bottom, right = drawn.box[i].tolist()
        expected = distorted[i].clone()
        expected[:, top:bottom, left:right] = distorted[other, :, top:bottom, left:right]
        assert torch.equal(mixed[i], expected)
        assert mask[i].sum() == (bottom - top) * (right - left)
        assert mask[i, top:bottom, left:right].all()


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 3.0]))
def test_images_stay_within_0_and_1(seed, strength):
    drawn = draw(keys(8, seed), ALL, **SIZE, strength=strength)
    got, _ = apply(pictures(8, seed % 50).round(), drawn)  # black and white: the extremes
    assert got.min() >= 0
    assert got.max() <= 1 + 1e-6
    assert torch.isfinite(got).all()


def test_the_given_images_are_not_changed():
    images = pictures()
    before = images.clone()
    apply(images, draw(keys(4), ALL, **SIZE))
    assert torch.equal(images, before)
