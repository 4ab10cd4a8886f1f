"""Clouds: points lie where a pinhole camera and the stated guess put them, and the page stays
light."""

import base64

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from dabook.show import clouds


def test_depth_spans_the_guessed_ratio_and_is_affine_in_disparity():
    near = torch.linspace(0, 1, 101).expand(4, 101)
    depth = clouds.depth(7 + 3 * near, 4.0)  # scale and shift do not matter
    assert depth.min() == pytest.approx(1)
    assert depth.max() == pytest.approx(4)
    assert depth[0, 50] == pytest.approx(1 / (0.25 + 0.75 * 0.5))  # by hand
    assert_allclose(np.diff(1 / depth[0, 3:-3], 2), 0, atol=1e-5)


def test_points_lie_on_the_rays_of_a_pinhole_camera(monkeypatch):
    monkeypatch.setattr(clouds, "FIELD", 90.0)
    right, forward, up = clouds.coordinates(torch.tensor([[1.0, 1.0], [2.0, 4.0]])) * clouds.STEP
    # 2 pixels across 90 degrees: focal length 1 pixel, middles half a pixel off the axis
    assert_allclose(forward, [1, 1, 2, 4])
    assert_allclose(right, [-0.5, 0.5, -1, 2])
    assert_allclose(up, [0.5, 0.5, -1, -2])


@pytest.mark.parametrize(("height", "width"), [(300, 400), (640, 9), (6, 8)])
def test_a_cloud_has_few_points_in_the_colours_of_the_image(height, width):
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[0, :, : width // 2], image[2, :, width // 2 :] = 200, 100
    disparity = torch.linspace(0, 1, height)[:, None].expand(height, width)
    figure = clouds.cloud(image, disparity, points=2000)
    assert [bool(trace.visible) for trace in figure.data] == [
        r == clouds.SHOWN for r in clouds.RATIOS
    ]
    trace = figure.data[0]
    assert 0 < len(trace.x) <= 2000
    colours = {trace.marker.colorscale[i][1] for i in trace.marker.color.tolist()}
    assert {"rgb(200,0,0)", "rgb(0,0,100)"} <= colours
    top, bottom = trace.y[np.argmax(trace.z)], trace.y[np.argmin(trace.z)]
    assert bottom < top, "low is near here"


def test_no_coordinate_overflows_sixteen_bits():
    flat = torch.linspace(0, 1, 400).view(20, 20)
    points = clouds.coordinates(clouds.depth(flat, max(clouds.RATIOS)))
    assert points[1].max() * clouds.STEP == pytest.approx(max(clouds.RATIOS), abs=clouds.STEP)
    assert points[1].min() > 0


def test_the_fragment_is_light_and_asks_for_nothing():
    image = torch.randint(0, 256, (3, 300, 400), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    html = clouds.show(image, torch.rand(300, 400)).data
    assert len(html) < 1_000_000
    assert "http" not in html.replace("http://www.w3.org", "")
    assert "Plotly.newPlot" in html
    x = clouds.cloud(image, torch.rand(300, 400)).to_plotly_json()["data"][0]["x"]
    assert x["dtype"] == "i2"
    assert len(base64.b64decode(x["bdata"])) <= 2 * clouds.POINTS


def test_samples_are_the_readers_or_those_of_scikit_image(tmp_path):
    from PIL import Image

    for i in range(8):
        Image.new("RGB", (8, 6), (i, 0, 0)).save(tmp_path / f"{i}.png")
    mine = clouds.samples(str(tmp_path))
    assert [s["name"] for s in mine] == [f"{i}.png" for i in range(6)]
    assert clouds.samples()[0]["name"] == "motorcycle"
