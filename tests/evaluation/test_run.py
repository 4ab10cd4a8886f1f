"""Predictions for images of any size, and the scores of a whole source."""

import numpy as np
import pytest
import torch
from helpers.networks import Brightness
from numpy.testing import assert_allclose
from torch import nn

from dalib.config import RunConfig
from dalib.errors import ConfigError
from dalib.evaluation import (
    METRICS,
    Protocol,
    evaluate_source,
    inverted,
    mean_over_images,
    network_size,
    predict_images,
    score,
    suite,
)
from dalib.evaluation.run import check_disparity
from dalib.models import build
from dalib.models.sizes import resize_disparity, resize_images

NEAR_AND_FAR = Protocol(name="test", max_depth=10.0)


class Pictures:
    """Three images of two sizes; the depth of a pixel is told by its red value."""

    def __init__(self):
        sizes = ((20, 30), (40, 30), (20, 30))
        generator = torch.Generator().manual_seed(0)
        self.images = [
            torch.randint(20, 250, (3, *size), generator=generator).to(torch.uint8)
            for size in sizes
        ]

    def __len__(self):
        return 3

    def __getitem__(self, i):
        image = self.images[i]
        disparity = image[0].float() / 100
        return {
            "image": image,
            "disparity": disparity,
            "valid": disparity > 0.5,
            "domain": "test",
            "name": f"no{i}",
        }


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_evaluate_source(batch_size):
    """Names and scores stay with their images, whatever the batches; each score is the one its
    image has alone."""

    def noisy(images):
        return [image[0].float() + image[1].float() / (1 + image.shape[1]) for image in images]

    got = evaluate_source(noisy, Pictures(), NEAR_AND_FAR, batch_size=batch_size)
    assert tuple(got) == ("names", *METRICS, "scale")
    assert got["names"] == ["no0", "no1", "no2"]
    for i, sample in enumerate(Pictures()[i] for i in range(3)):
        pred = noisy([sample["image"]])[0]
        alone = score(pred[None], sample["disparity"][None], sample["valid"][None], NEAR_AND_FAR)
        assert {key: got[key][i] for key in METRICS} == {key: alone[key].item() for key in METRICS}


def test_prediction_of_another_size_is_resized():
    """Bilinear, align_corners=False: the middles of 2 pixels become 1/4 and 3/4 of the way, the
    ends stay."""
    assert resize_disparity(torch.tensor([[[0.0, 1.0]]]), (1, 4)).flatten().tolist() == [
        0,
        0.25,
        0.75,
        1,
    ]
    small = evaluate_source(
        lambda images: [torch.rand(5, 5) for _ in images], Pictures(), NEAR_AND_FAR
    )
    assert np.isfinite(small["abs_rel"]).all()


def test_evaluate_source_names_the_image():
    def broken(images):
        return [
            torch.full(image.shape[1:], torch.nan if image.shape[1] == 40 else 1.0)
            for image in images
        ]

    with pytest.raises(ValueError, match="test, image 'no1': prediction is NaN"):
        evaluate_source(broken, Pictures(), NEAR_AND_FAR)


def test_mean_over_images():
    assert mean_over_images([0.1, float("nan"), 0.3]) == pytest.approx(0.2)
    assert np.isnan(mean_over_images([float("nan")]))


@pytest.mark.parametrize(
    ("size", "short_side", "multiple", "expected"),
    [
        ((480, 640), 518, 14, (518, 686)),  # 690.67 / 14 = 49.33
        ((640, 480), 518, 14, (686, 518)),
        ((375, 1242), 96, 32, (96, 320)),  # 317.95
        ((375, 1242), 100, 32, (128, 320)),  # 331.2 / 32 = 10.35, and 100 is raised
        ((100, 100), 96, 32, (96, 96)),
        ((96, 97), 90, 14, (98, 98)),  # 90.9 would round to 84
    ],
)
def test_network_size(size, short_side, multiple, expected):
    assert network_size(*size, short_side=short_side, multiple=multiple) == expected


def test_network_size_refuses_nothing():
    with pytest.raises(ConfigError, match="at least 1"):
        network_size(0, 5, short_side=96, multiple=32)


@pytest.mark.parametrize("pair", [False, True])
def test_predict_images(pair):
    """Sizes are grouped, order and size of the images kept, a smooth image survives the way there
    and back."""
    model = Brightness(pair)
    ramp = torch.linspace(0, 255, 48).to(torch.uint8)
    images = [
        ramp.expand(3, 24, 48),
        ramp[:, None].expand(3, 48, 24),
        ramp.expand(3, 24, 48).flip(-1),
    ]
    maps = predict_images(model, images, short_side=16, batch_size=2)
    assert model.seen == [(2, 3, 16, 32), (1, 3, 32, 16)]
    assert model.training
    for image, disparity in zip(images, maps, strict=True):
        assert disparity.shape == image.shape[1:]
        assert_allclose(disparity, image[0].float() / 255, atol=0.015)


def test_predict_images_leaves_the_right_size_alone():
    image = torch.randint(0, 256, (3, 16, 24)).to(torch.uint8)
    assert_allclose(
        predict_images(Brightness(False), [image], short_side=16)[0], image[0] / 255, atol=1e-6
    )


def test_predict_images_is_antialiased():
    """Stripes one pixel wide are grey once they are too fine for the network; without antialiasing
    they alias."""
    stripes = (torch.arange(128) % 2 * 255).to(torch.uint8).expand(3, 64, 128)
    inner = predict_images(Brightness(False), [stripes], short_side=24)[0]
    assert_allclose(inner[:, 8:-8], 0.5, atol=0.03)


def test_resized_images_stay_in_range():
    """Bicubic weights overshoot at an edge from black to white."""
    edge = (torch.arange(40) > 20).to(torch.uint8).mul(255).expand(1, 3, 40, 40)
    small = resize_images(edge, (16, 16))
    assert (small.min().item(), small.max().item()) == (0, 1)


class Metres(Brightness):
    """A network that says in one of three ways that it predicts metres."""

    def __init__(self, how: str):
        super().__init__(False)
        if how == "kind":
            self.kind = "depth_m"
        else:
            part = self if how == "itself" else nn.Identity()
            part.max_depth = 20.0
            self.decoder = nn.Sequential(part) if how == "part" else nn.Identity()


@pytest.mark.parametrize("how", ["kind", "itself", "part"])
def test_a_network_of_metres_is_refused_before_it_sees_an_image(how):
    """A perfect map of metres would be fitted upside down and get a poor score that looks like any
    other."""
    model = Metres(how)
    image = torch.zeros(3, 16, 24, dtype=torch.uint8)
    with pytest.raises(ConfigError, match="predicts depth in metres"):
        predict_images(model, [image], short_side=16)
    assert model.seen == []


@pytest.mark.parametrize("max_depth", [None, 80.0])
def test_our_own_networks_say_what_they_predict(max_depth, monkeypatch):
    def too_late():
        raise AssertionError("images were looked for")

    monkeypatch.setattr(suite, "real_domains", too_late)
    model = build("vitt", pretrained=False, max_depth=max_depth)
    if max_depth is None:
        check_disparity(model)
        return
    with pytest.raises(ConfigError, match="max_depth is set"):
        suite.evaluate(model, RunConfig())


def test_metres_taken_for_disparity_are_turned_round_by_the_fit():
    """Why metres are refused: the map is perfect, its scale comes out below zero, and its error is
    large."""
    depth = torch.linspace(1, 9, 48).view(1, 6, 8)
    everywhere = torch.ones(1, 6, 8, dtype=torch.bool)
    scores = score(depth, 1 / depth, everywhere, NEAR_AND_FAR)
    assert scores["scale"].item() < 0
    assert scores["abs_rel"].item() > 0.2
    assert inverted(scores["scale"].tolist()) == 1


def test_a_scale_is_unknown_where_nothing_counts():
    pred, target = torch.rand(2, 4, 4), torch.full((2, 4, 4), 0.5)
    valid = torch.zeros(2, 4, 4, dtype=torch.bool)
    valid[1] = True
    scales = score(pred, target, valid, NEAR_AND_FAR)["scale"]
    assert scales.isnan().tolist() == [True, False]
    assert inverted(scales.tolist()) == 0
