"""The corruptions: values worked out by hand, and what must hold at every strength."""

import itertools
import math

import pytest
import torch

from dalib.data import scenes
from dalib.errors import ConfigError
from dalib.evaluation import corruptions
from dalib.evaluation.corruptions import FOG, STRENGTHS, corrupt, from_light, to_light


@pytest.fixture(scope="module")
def batch() -> dict:
    return scenes.render("validation", range(3), height=96, width=128)


def worse(batch, kind, strength, **options):
    return corrupt(
        batch["image"], kind, strength, domain="d", disparity=batch["disparity"], **options
    )


def distance(a, b) -> float:
    """Root mean square difference of 8-bit images, in grey levels."""
    return (a.double() - b.double()).square().mean().sqrt().item()


@pytest.mark.parametrize("kind", STRENGTHS)
class TestEvery:
    def test_has_five_strengths_and_each_is_farther_from_the_clean_image(self, batch, kind):
        away = [distance(worse(batch, kind, s), batch["image"]) for s in range(1, 6)]
        assert len(STRENGTHS[kind]) == 5
        assert away[0] > 1
        assert all(b > 1.02 * a for a, b in itertools.pairwise(away)), away

    def test_same_bits_twice_and_in_any_company(self, batch, kind):
        whole = worse(batch, kind, 3)
        assert torch.equal(whole, worse(batch, kind, 3))
        alone = {k: v[2:] for k, v in batch.items()}
        assert torch.equal(worse(alone, kind, 3, indices=[2])[0], whole[2])

    def test_keeps_kind_shape_and_range_and_leaves_the_input_alone(self, batch, kind):
        before = batch["image"].clone()
        assert worse(batch, kind, 5).dtype == torch.uint8
        floats = corrupt(before.float() / 255, kind, 5, domain="d", disparity=batch["disparity"])
        assert floats.dtype == torch.float32
        assert floats.shape == before.shape
        assert 0 <= floats.min() <= floats.max() <= 1
        assert torch.equal(corruptions.to_uint8(floats), worse(batch, kind, 5))
        assert torch.equal(batch["image"], before)


def test_light_by_hand():
    stored = torch.tensor([0.0, 0.04045, 0.5, 1.0], dtype=torch.float64)
    light = to_light(stored)
    assert light[1].item() == pytest.approx(0.04045 / 12.92)
    assert light[2].item() == pytest.approx(((0.5 + 0.055) / 1.055) ** 2.4)  # 0.2140
    assert torch.allclose(from_light(light), stored, atol=1e-6)


def test_a_stop_halves_the_light():
    grey = torch.full((1, 3, 4, 4), 0.5)
    assert to_light(corruptions.dark(grey, 1.0)).mean().item() == pytest.approx(
        0.2140 / 2, rel=1e-3
    )
    assert to_light(corrupt(grey, "dark", 2)).mean().item() == pytest.approx(
        0.2140 / 2**2.5, rel=1e-3
    )


def test_noise_has_its_standard_deviation_and_numbers_of_its_own():
    grey = torch.full((2, 3, 64, 64), 0.5)
    noise = corrupt(grey, "noise", 2, domain="a") - grey
    assert noise.std().item() == pytest.approx(STRENGTHS["noise"][1], rel=0.03)
    assert noise.mean().item() == pytest.approx(0, abs=2e-3)
    others = (
        corrupt(grey, "noise", 2, domain="b"),
        corrupt(grey, "noise", 2, domain="a", indices=[5, 6]),
    )
    for other in (noise.flip(0), *(o - grey for o in others)):
        together = torch.corrcoef(torch.stack([noise.flatten(), other.flatten()]))
        assert abs(together[0, 1].item()) < 0.05


def test_blur_spreads_a_point_as_its_sigma_says_and_scales_with_the_image():
    for height in (48, 96):
        point = torch.zeros(1, 3, height, height)
        point[..., height // 2, height // 2] = 1
        seen = corruptions.blur(point, 2.0)[0, 0].double()
        x = torch.arange(height, dtype=torch.float64) - height // 2
        assert (seen.sum(0) * x**2).sum().sqrt().item() == pytest.approx(
            2.0 * height / 96, rel=0.03
        )


def test_fog_lets_through_what_koschmieder_says():
    # depths 1, 2, 4 and the sky; their median is 2
    disparity = torch.tensor([[[1.0, 0.5, 0.25, 0.0]]])
    through = corruptions.transmission(disparity, 0.8)
    assert through[0, 0].tolist() == pytest.approx(
        [math.exp(-0.4), math.exp(-0.8), math.exp(-1.6), 0.0]
    )
    # the unit cancels
    assert torch.allclose(corruptions.transmission(1000 * disparity, 0.8), through)
    black = torch.zeros(1, 3, 1, 4)
    light = to_light(corruptions.fog(black, 0.8, disparity))[0, 0, 0]
    grey = to_light(torch.tensor(FOG)).item()
    assert light.tolist() == pytest.approx(
        [(1 - t) * grey for t in through[0, 0].tolist()], abs=1e-6
    )


@pytest.mark.parametrize("strength", [1, 5])
def test_fog_leaves_near_pixels_and_hides_far_ones(strength):
    image = torch.rand(1, 3, 2, 100, generator=torch.Generator().manual_seed(0))
    disparity = torch.full((1, 2, 100), 1.0)
    disparity[..., :20], disparity[..., 80:90], disparity[..., 90:] = 1000.0, 0.01, 0.0
    seen = corrupt(image, "fog", strength, disparity=disparity)
    assert (seen - image)[..., :20].abs().max() < 0.05
    assert (seen - FOG)[..., 80:].abs().max() < 1e-4


def test_jpeg_at_high_quality_is_nearly_the_image(batch):
    image = batch["image"].float() / 255
    assert (corruptions.jpeg(image, 95) - image).abs().mean() < 0.02
    flat = torch.full((1, 3, 16, 16), 128 / 255)
    assert torch.equal(corrupt(corruptions.to_uint8(flat), "jpeg", 5), corruptions.to_uint8(flat))


def test_an_empty_batch_stays_empty():
    for kind in STRENGTHS:
        none = torch.empty(0, 3, 16, 16, dtype=torch.uint8)
        assert corrupt(none, kind, 1, disparity=torch.empty(0, 16, 16)).shape == none.shape


def test_what_is_wrong_is_named(batch):
    image = batch["image"]
    with pytest.raises(ConfigError, match="Did you mean 'noise'"):
        corrupt(image, "nois", 1)
    for strength in (0, 6):
        with pytest.raises(ConfigError, match=f"strength {strength} of blur"):
            corrupt(image, "blur", strength)
    with pytest.raises(ValueError, match="fog needs the disparity"):
        corrupt(image, "fog", 1)
    with pytest.raises(ValueError, match="negative or not finite"):
        corrupt(image, "fog", 1, disparity=-batch["disparity"])
    with pytest.raises(ValueError, match="2 indices for 3 images"):
        corrupt(image, "noise", 1, indices=[0, 1])
