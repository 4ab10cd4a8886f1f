"""Figures that answer to the hand: what stands in the page without a script, what the script is
given, and what is refused. What they do in a browser is in `tests/site/test_touch_browser.py`."""

import base64
import io
import json
import math
import re
from functools import cache
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import touched
from helpers.touched import HEIGHT, WIDTH
from PIL import Image

from dabook.show.html import Html, number
from dabook.show.touch import (
    affine,
    cloud,
    conventions,
    cutmix,
    features,
    margin,
    relative,
    shell,
    strength,
)
from dabook.show.touch.turning import Eye
from dalib import losses
from dalib.errors import ConfigError
from dalib.evaluation.conventions import rescore
from dalib.geometry import Camera, fit_plane

made = cache(touched.make)
VOID = {"img", "input"}


class Parsed(HTMLParser):
    """A figure's tags with their attributes; its text by the part that it stands in."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.open, self.said = [], [], {"live": "", "still": "", "script": "", "": ""}
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("class") or ""))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        names = [name for _, name in self.open] + [tag for tag, _ in self.open]
        part = next((p for p in ("script", "style", "live", "still") if p in names), "")
        self.said["script" if part == "style" else part] += data + "\n"

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def payload(html: Html) -> dict:
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', html.text)
    return json.loads(text)


def still(html: Html) -> str:
    return Parsed(html.text).said["still"]


@pytest.mark.parametrize("kind", touched.MAKERS)
class TestEvery:
    def test_it_is_well_formed_small_and_says_what_it_is(self, kind):
        html = made(kind).html
        assert len(html.text.encode()) <= shell.LIMIT
        parsed = Parsed(html.text)
        box = next(a for a in parsed.all("div") if a.get("class") == "dalib-touch")
        assert box["data-kind"] == kind
        assert box["aria-label"] in parsed.said[""]
        live = next(a for a in parsed.all("div") if a.get("class") == "live")
        assert "hidden" in live
        assert sum(a.get("role") == "status" for a in parsed.all("p")) == 1

    def test_every_picture_and_every_control_has_a_name(self, kind):
        html = made(kind).html
        parsed = Parsed(html.text)
        assert all(a["alt"] for a in parsed.all("img"))
        named = parsed.all("svg") + parsed.all("canvas")
        assert all(a["aria-label"] for a in named if "role" in a)
        assert all("aria-label" in a for _, a in parsed.tags if "tabindex" in a)
        controls = re.findall(r"<(?:input|select)\b", html.text)
        assert len(re.findall(r"<label>.*?<(?:input|select)\b", html.text)) == len(controls)

    def test_the_still_has_the_numbers_that_the_live_part_begins_with(self, kind):
        text = made(kind).html.text
        before, after = re.split(r'<div class="still">', text)
        begun, standing = (
            dict(re.findall(r'data-number="(\w+)">([^<]*)<', part)) for part in (before, after)
        )
        if kind == "strength":  # below each picture
            assert f"1: loss {begun['loss']}" in still(made(kind).html)
        else:
            assert begun == standing
        assert begun

    def test_pictures_are_held_once_and_the_live_part_takes_them_from_the_still(self, kind):
        text = made(kind).html.text
        before, after = re.split(r'<div class="still">', text)
        assert "<img" not in before
        keys = re.findall(r'data-copy="(\w+)"', before)
        assert set(keys) <= set(re.findall(r'data-picture="(\w+)"', after))

    def test_nothing_is_asked_of_anybody_and_no_two_elements_share_a_name(self, kind):
        text = made(kind).html.text
        assert not re.search(r"https?:|src=\"/|@import|fetch\(|XMLHttp|localStorage", text)
        assert " id=" not in text
        assert "url(" not in text

    def test_a_terminal_shows_what_is_read(self, kind):
        shown = repr(made(kind).html)
        assert len(shown) < 3000
        assert "function" not in shown
        assert "{" not in shown


# what scripts compute from, and the numbers of the first state


def test_scale_and_shift_are_given_whole_and_begin_with_the_loss_of_the_library():
    html, of = made("affine").html, made("affine").of
    given = payload(html)
    for name in ("label", "prediction"):
        assert torch.equal(torch.from_numpy(shell.restored(given[name]).copy()), of[name])
    everywhere = torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)
    loss = losses.affine_invariant(of["prediction"][None], of["label"][None], everywhere)
    assert number(float(loss), 4) in still(html)
    assert number(float((of["prediction"] - of["label"]).abs().mean()), 4) in still(html)
    # the chart's line is the row of the map, at its place
    (line,) = re.findall(r'"warm-line" points="([^"]*)"', html.text)[:1]
    axes = given["charts"][0]
    left, top, right, bottom = axes["box"]
    places = [[float(x) for x in point.split(",")] for point in line.split()]
    across = np.interp([x for x, _ in places], [left, right], axes["x"])
    up = np.interp([y for _, y in places], [top, bottom], axes["y"][::-1])
    assert np.allclose(across, range(WIDTH), atol=0.01)
    assert np.allclose(up, of["prediction"][given["row"]], atol=0.01)


def test_a_box_begins_with_the_losses_of_the_library():
    html, of = made("cutmix").html, made("cutmix").of
    inside = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    top, left, bottom, right = touched.BOX
    inside[:, top:bottom, left:right] = True
    teacher, student = of["teacher"], of["student"]
    pred = torch.where(inside, student[:1], student[1:])
    apart = losses.cutmix_unlabelled(pred, teacher[1:], target_inside=teacher[:1], inside=inside)
    label = torch.where(inside, teacher[:1], teacher[1:])
    together = losses.affine_invariant(pred, label, torch.ones_like(inside))
    found = cutmix.losses(teacher, student, touched.BOX)
    assert found["apart"] == pytest.approx(float(apart))
    assert found["together"] == pytest.approx(float(together))
    assert found["weight"] == pytest.approx(8 * 12 / (HEIGHT * WIDTH))
    assert found["rest"] == pytest.approx(1 - found["weight"])
    mean = found["weight"] * found["inside"] + found["rest"] * found["outside"]
    assert found["apart"] == pytest.approx(mean)
    for name in ("inside", "outside", "apart", "together"):
        assert number(found[name], 4) in still(html)


def test_the_loss_of_cosines_is_that_of_features_that_have_them():
    # two tokens below the margin, by hand (0.5 + 0.3) / 4; at a margin of 1 all of them count
    cosines = torch.tensor([0.5, 0.7, 0.85, 0.95])
    assert margin.loss(cosines, 0.8) == pytest.approx(0.2)
    assert margin.share(cosines, 0.8) == 0.5
    assert margin.loss(cosines, 1.0) == pytest.approx(0.25)
    generator = torch.Generator().manual_seed(0)
    student, frozen = torch.randn(2, 1, 16, 5, 7, generator=generator).unbind(0)
    student = 0.5 * student + frozen
    seen = F.cosine_similarity(student, frozen, dim=1).flatten()
    want = float(losses.feature_alignment(student, frozen, margin=0.85))
    assert margin.loss(seen, 0.85) == pytest.approx(want, abs=1e-6)


def test_every_token_is_given_and_counted_once():
    html, of = made("margin").html, made("margin").of
    given = payload(html)
    for name, kept in zip(given["names"], given["cosines"], strict=True):
        assert np.array_equal(shell.restored(kept), np.sort(of["cosines"][name].numpy()))
        assert number(margin.loss(of["cosines"][name], touched.MARGIN), 4) in still(html)
    # the heights of the bars of one histogram add up to all of its tokens
    drawn = re.search(r'<div class="still">.*?</svg></svg>', html.text)[0]
    heights = [float(x) for x in re.findall(r'<rect class="bar[^>]*height="([\d.]+)"', drawn)]
    low, high = given["axes"]["y"]
    _, top, _, bottom = given["axes"]["box"]
    assert sum(heights) * (high - low) / (bottom - top) == pytest.approx(1, abs=0.01)


def test_main_components_are_those_of_an_eigendecomposition():
    found = made("features").of["features"]
    shown = features.components(found)
    tokens = found.double().flatten(1).T.numpy()
    centred = tokens - tokens.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    for k in range(3):
        want = (centred @ axes[:, -1 - k]).reshape(6, 8)
        seen = shown[k].double().numpy()
        assert abs(np.corrcoef(want.flatten(), seen.flatten())[0, 1]) > 0.999
        assert (seen.min(), seen.max()) == (0, 255)


def test_cosines_are_kept_as_they_are_printed():
    html, found = made("features").html, made("features").of["features"]
    given = payload(html)
    tokens = found.flatten(1).T
    cosines = F.cosine_similarity(tokens[:, None].double(), tokens[None].double(), dim=-1)
    kept = shell.restored(given["cosines"])
    for i, j in ((0, 0), (3, 17), (47, 2), (20, 21)):
        assert number(int(kept[i, j]) / 100, 2) == number(float(cosines[i, j]), 2)
    means = shell.restored(given["means"])
    assert number(int(means[19]) / 100, 2) == number(float(cosines[19].mean()), 2)
    assert number(float(cosines[19, given["other"]]), 2) in still(html)


def test_each_strength_has_its_loss_against_the_clean_map():
    html, maps = made("strength").html, made("strength").of["maps"]
    given = payload(html)
    assert given["losses"] == [number(x, 3) for x in strength.losses(maps)]
    assert given["losses"][0] == "0.000"
    assert strength.losses([maps[0], 5 * maps[0] + 2])[1] == pytest.approx(0, abs=1e-5)
    for step, text in zip(given["strengths"], given["losses"], strict=True):
        assert f"{step}: loss {text}" in still(html)


def test_a_wrong_shift_of_disparity_bends_no_plane_and_one_of_depth_does():
    camera = Camera.from_fov(60, (HEIGHT, WIDTH))
    rays = camera.rays()
    normal = torch.tensor([0.2, 0.4, -0.7], dtype=torch.float64)
    disparity = -torch.einsum("c,chw->hw", normal, rays)  # of a plane, in front of the camera
    assert float(disparity.min()) > 0
    flat = disparity.flatten().float()
    low, high = cloud.ends(flat)
    for what, shift, bends in (
        ("disparity", low, False),
        ("disparity", high, False),
        ("depth", cloud.ends(flat, "depth")[1], True),
    ):
        depth, scale, error = cloud.shifted(flat, shift, what)
        assert bool((depth > 0).all())
        points = (rays.flatten(1) * depth).T
        assert (fit_plane(points).bend > 1e-3) == bends
        assert error > 0.02
        truth = 1 / flat.double()
        plain = depth / scale
        best = float((plain * truth).sum() / plain.square().sum())  # by hand
        assert scale == pytest.approx(best)
    assert cloud.shifted(flat, 0.0)[1:] == pytest.approx((1, 0), abs=1e-6)


def test_sky_and_invalid_pixels_are_no_points():
    html, of = made("cloud").html, made("cloud").of
    given = payload(html)
    kept = shell.restored(given["disparity"])
    assert np.array_equal(kept, of["disparity"].numpy())
    assert len(kept) == (HEIGHT - 3) * (WIDTH - 1)
    assert shell.restored(given["colours"]).shape == (len(kept), 3)
    # turned upright: the axes stay at right angles, and down is down
    turned = cloud._upright(touched.DOWN)
    assert torch.allclose(turned @ turned.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
    down = torch.tensor(touched.DOWN, dtype=torch.float64)
    assert torch.allclose(
        turned @ down / down.norm(), torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    )


class TestAPhotographAsACloud:
    def test_depth_spans_the_guessed_ratio_and_is_affine_in_disparity(self):
        near = torch.linspace(0, 1, 101).expand(4, 101)
        depth = relative.depth(7 + 3 * near, 4.0)  # scale and shift do not matter
        assert depth.min() == pytest.approx(1)
        assert depth.max() == pytest.approx(4)
        assert depth[0, 50] == pytest.approx(1 / (0.25 + 0.75 * 0.5))  # by hand
        assert np.abs(np.diff(1 / depth[0, 3:-3].numpy(), 2)).max() < 1e-5

    def test_the_script_gets_the_depths_of_every_guess(self):
        html, of = made("relative").html, made("relative").of
        given = payload(html)
        near = shell.restored(given["near"]) / relative.STEPS
        for k, ratio in enumerate(given["ratios"]):
            want = relative.depth(of["disparity"], ratio).flatten().numpy()
            found = 1 / (1 / ratio + (1 - 1 / ratio) * near)  # as relative.js has it
            assert np.abs(found / want - 1).max() < 1e-3
            # the eye looks at the middle of that very cloud
            rays = Camera.from_fov(relative.FIELD, (HEIGHT, WIDTH)).rays().flatten(1).numpy()
            assert given["eyes"][k]["middle"] == pytest.approx(Eye.on(rays * want).middle, rel=1e-4)
        assert given["camera"]["f"] == pytest.approx(WIDTH / 2 / math.tan(math.radians(55 / 2)))

    @pytest.mark.parametrize(("height", "width"), [(300, 400), (640, 9), (6, 8)])
    def test_there_are_few_points_in_the_colours_of_the_image(self, height, width):
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        image[0, :, : width // 2], image[2, :, width // 2 :] = 200, 100
        disparity = torch.linspace(0, 1, height)[:, None].expand(height, width)
        given = payload(relative.figure(image, disparity, points=2000))
        places, table = (shell.restored(given[key]) for key in ("ink", "table"))
        assert (
            len(places) == len(shell.restored(given["near"])) == math.prod(given["camera"]["size"])
        )
        assert 0 < len(places) <= 2000
        colours = {tuple(table[k].tolist()) for k in places}
        assert {(200, 0, 0), (0, 0, 100)} <= colours

    def test_a_large_photograph_makes_a_light_figure(self):
        noise = torch.Generator().manual_seed(0)
        image = torch.randint(0, 256, (3, 900, 1200), generator=noise).to(torch.uint8)
        html = relative.figure(image, torch.rand(900, 1200, generator=noise))
        assert len(html.text.encode()) <= shell.LIMIT


def test_the_table_of_conventions_is_that_of_the_evaluation():
    html, of = made("conventions").html, made("conventions").of
    given = payload(html)
    assert given["choices"] == {k: ["", *names] for k, names in touched.QUESTIONS.items()}
    assert len(given["errors"]) == len(given["good"]) == len(given["places"]) == 3 * 2 * 3
    for at, names in ((0, ()), (1, ("mean_pixels",)), (17, ("median", "cap_10", "median_images"))):
        want = rescore(
            of["maps"],
            of["samples"],
            protocol="scenes",
            conventions=names,
            names=("abs_rel", "delta1"),
        )
        assert given["errors"][at] == number(want["abs_rel"])
        assert given["good"][at] == number(want["delta1"])
    assert given["factors"][0] == "× 1.00"
    assert "fit in disparity" in still(html)


def test_a_convention_that_the_protocol_has_is_no_choice():
    with pytest.raises(ConfigError, match="cap_80: the protocol has this convention already"):
        conventions.figure(
            [touched.smooth(1, 9, 12)], touched.scenes(1), title="x", questions={"cap": ("cap_80",)}
        )


# the frame


def test_a_map_has_the_colours_of_matplotlib_and_grey_where_it_has_no_value():
    values = torch.linspace(-1, 2, 240).view(12, 20)
    values[0, 0] = torch.nan
    seen = shell.painted(values, 0, 1, "inferno")
    want = plt.get_cmap("inferno")(values.clamp(0, 1).nan_to_num().numpy(), bytes=True)[..., :3]
    difference = (seen.movedim(0, -1).int() - torch.from_numpy(want.astype(int))).abs()
    assert int(difference.flatten(0, 1)[1:].max()) <= 6  # a step of 255, not of 256
    assert seen[:, 0, 0].tolist() == [0xC9, 0xD0, 0xD2]
    assert shell.restored(shell.table("inferno")).shape == (256, 3)


def test_a_picture_with_clear_parts_keeps_them():
    picture = torch.zeros(4, 6, 8, dtype=torch.uint8)
    picture[0, :3], picture[3, :3] = 200, 255
    data = shell.address(picture, "PNG").partition(",")[2]
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))
    assert seen[0, 0].tolist() == [200, 0, 0, 255]
    assert (seen[3:, :, 3] == 0).all()


@pytest.mark.parametrize("kind", shell.KINDS)
def test_arrays_come_back(kind):
    values = torch.tensor([[0, 1, 2], [7, 100, 127]])
    assert np.array_equal(shell.restored(shell.stored(values, kind)), values)
    if kind != "f4":
        with pytest.raises(ConfigError, match=f"values from -300 to 300 do not fit {kind}"):
            shell.stored(torch.tensor([-300, 300]), kind)


def test_a_title_is_text_and_no_markup():
    label = touched.smooth(1, HEIGHT, WIDTH)
    text = affine.figure(label, label + label**2, title='<b>"a" & b</b></script>').text
    assert "<b>" not in text
    box = next(a for a in Parsed(text).all("div") if a.get("class") == "dalib-touch")
    assert box["aria-label"] == '<b>"a" & b</b></script>'
    strange = margin.figure(
        {"</script><i>": torch.ones(3), "b": torch.ones(3)}, title="Tokens"
    ).text
    assert "<i>" not in strange
    assert payload(Html(strange))["names"][0] == "</script><i>"


# what is refused

LABEL = touched.smooth(1, HEIGHT, WIDTH)
TWO = touched.smooth(4, 2, HEIGHT, WIDTH)
IMAGES = torch.stack([touched.picture(6), touched.picture(7)])
CAMERA = Camera.from_fov(60, (HEIGHT, WIDTH))
SMALL = touched.picture(1, HEIGHT, WIDTH)
VALID = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
TOKENS = {"a": torch.ones(3), "b": torch.ones(3)}


def noise(*shape: int) -> torch.Tensor:
    """An image that no format makes small."""
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: affine.figure(LABEL, LABEL[:, 1:], title="x"), "prediction is 18 x 23 and should"),
        (lambda: affine.figure(0 * LABEL, LABEL, title="x"), "the label is constant"),
        (lambda: affine.figure(LABEL / 0, LABEL, title="x"), "label has values that are not"),
        (
            lambda: affine.figure(torch.rand(200, 9), torch.rand(200, 9), title="x"),
            "a label of 200 x 9; give 4 to 96",
        ),
        (lambda: affine.figure(LABEL, LABEL, title="x", row=18), "row 18 of a label with 18 rows"),
        (
            lambda: affine.figure(LABEL, LABEL, title="x", image=noise(3, 400, 400)),
            r"x: \d{6} bytes, more than the 150000 of a figure",
        ),
        (
            lambda: cutmix.figure(IMAGES, TWO, TWO[:, 1:], title="x", box=touched.BOX),
            "student is 2 x 17 x 24",
        ),
        (
            lambda: cutmix.figure(IMAGES, TWO, TWO, title="x", box=(4, 6, 6, 18)),
            r"box \(4, 6, 6, 18\) does not lie",
        ),
        (
            lambda: cutmix.figure(IMAGES, TWO, TWO, title="x", box=(4, 6, 12, 25)),
            r"box \(4, 6, 12, 25\) does not lie",
        ),
        (lambda: margin.figure({"a": torch.ones(3)}, title="x"), "1 networks; give two"),
        (
            lambda: margin.figure(TOKENS | {"b": torch.zeros(0)}, title="x"),
            "0 tokens of b; give 1 to",
        ),
        (lambda: margin.figure(TOKENS | {"b": torch.full((2,), 1.5)}, title="x"), "a cosine of b"),
        (lambda: margin.figure(TOKENS, title="x", margin=0.855), "margin 0.855; the slider has"),
        (
            lambda: features.figure(SMALL, torch.rand(8, 20, 20), title="x"),
            "20 x 20 tokens of 8 channels; give 8 to 260",
        ),
        (
            lambda: features.figure(SMALL, torch.rand(8, 4, 4), title="x", token=(4, 0)),
            "token 4, 0 of 4 x 4",
        ),
        (
            lambda: strength.figure([SMALL], [LABEL], [0], title="x"),
            "1 steps; give 2 to 12",
        ),
        (
            lambda: strength.figure([SMALL] * 2, [LABEL] * 2, [0.5, 1], title="x"),
            "do not grow from 0",
        ),
        (
            lambda: strength.figure([SMALL] * 2, [LABEL] * 3, [0, 1], title="x"),
            "2 frames, 3 maps and 2 strengths",
        ),
        (
            lambda: cloud.figure(SMALL[:, 1:], LABEL, VALID, CAMERA, title="x"),
            "image is 3 x 17 x 24",
        ),
        (
            lambda: cloud.figure(
                SMALL, LABEL, VALID, Camera.from_fov(60, (HEIGHT, 2 * WIDTH)), title="x"
            ),
            "camera is 18 x 48",
        ),
        (lambda: cloud.figure(SMALL, LABEL, ~VALID, CAMERA, title="x"), "0 points; give 16 to"),
        (
            lambda: conventions.figure([LABEL], touched.scenes(2), title="x"),
            "1 predictions for 2 scenes",
        ),
    ],
)
def test_what_makes_no_figure_is_refused_in_one_line(make, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
