"""Anybody's model under the protocols: the same numbers as by hand, and one line for what it did
wrong."""

import csv
import math

import numpy as np
import pytest
import torch
from helpers.networks import Brightness
from helpers.training import Smooth
from torch import nn

from dalib.data.sources import DepthManifest
from dalib.errors import ConfigError, DataError, UserError
from dalib.evaluation import FLOORS, METRICS, PROTOCOLS, Protocol, evaluate_source, floor
from dalib.evaluation.scores import _predictor, evaluate, evaluate_folder
from dalib.models import build, save
from dalib.models.depth_anything import restore

NEAR = Protocol(name="near", min_depth=0.1, max_depth=4.0)


def sample(disparity, **more) -> dict:
    """A grey picture of a disparity map."""
    disparity = torch.tensor(disparity)
    image = torch.zeros(3, *disparity.shape, dtype=torch.uint8)
    return {
        "image": image,
        "disparity": disparity,
        "valid": torch.ones_like(disparity, dtype=torch.bool),
        "domain": "mine",
    } | more


SOURCE = [sample([[1.0, 0.5], [0.25, 0.0]]), sample([[1.0, 0.5], [0.5, 0.25]])]


def test_scores_by_hand():
    """Of the first image three pixels count: depths 1, 2, 4 m at disparities 1, 1/2, 1/4. The
    prediction 1, 0, 0 is fitted by 1 in the first and their mean 3/8 in the others: depths 1, 8/3,
    8/3, errors 0, 1/3, 1/3; both ratios are beyond 1.25 (4/3 and 3/2). The second image is met."""
    given = [torch.tensor([[1.0, 0], [0, 7]]), torch.tensor([[9.0, 7], [7, 6]])]
    scores = evaluate(lambda images: given, SOURCE, protocol=NEAR)
    assert scores.images["abs_rel"] == pytest.approx((2 / 9, 0), abs=1e-6)
    assert scores.images["delta1"] == pytest.approx((1 / 3, 1))
    assert scores.scales == pytest.approx((5 / 8, 1 / 4))
    assert scores.means["abs_rel"] == pytest.approx(1 / 9)
    assert scores.names == ("0", "1")
    assert (scores.scored, scores.inverted, scores.left_out) == (2, 0, 0)
    assert str(scores) == "AbsRel 0.1111  delta1 0.6667  (2 images, protocol near)"


@pytest.mark.parametrize("form", [np.asarray, lambda m: m[:, ::-1][:, ::-1], torch.tensor])
def test_maps_may_be_arrays_and_of_whole_numbers(form):
    scores = evaluate(
        lambda images: [form(np.array([[8, 4], [2, 5]])), form(np.array([[4, 2], [2, 1]]))],
        SOURCE,
        protocol=NEAR,
    )
    assert scores.images["abs_rel"] == pytest.approx((0, 0), abs=1e-6)


def test_depth_in_place_of_disparity_is_told():
    """The fit turns it round, and a score that looks like any other comes out."""
    depth = [1 / s["disparity"].clamp_min(0.1) for s in SOURCE]
    scores = evaluate(lambda images: depth, SOURCE, protocol=NEAR)
    assert scores.inverted == 2
    assert "near and far the wrong way round in 2" in str(scores)


def test_images_without_a_pixel_that_counts_are_told_and_not_averaged():
    far = sample([[0.01, 0.02], [0.0, 0.03]])
    given = torch.tensor([[1.0, 0], [0, 7]])
    scores = evaluate(lambda images: [given] * len(images), [SOURCE[0], far], protocol=NEAR)
    assert math.isnan(scores.images["abs_rel"][1])
    assert scores.means["abs_rel"] == pytest.approx(2 / 9)
    assert "(1 image, protocol near; 1 more without a pixel that counts" in str(scores)
    with pytest.raises(DataError, match="no pixel lies within protocol near"):
        evaluate(lambda images: [given], [far], protocol=NEAR)


@pytest.mark.parametrize("name", FLOORS)
@pytest.mark.parametrize("protocol", ["indoor", "relative"])
def test_a_named_source_scores_as_evaluate_source_does(name, protocol):
    """On a real picture with measured depth, which comes with scikit-image."""
    from dalib import open_source

    predict = floor(FLOORS[name])
    source = open_source("skimage:motorcycle", count=1, height=1, width=1)
    expected = evaluate_source(predict, source, PROTOCOLS[protocol])
    found = evaluate(predict, "skimage:motorcycle", protocol=protocol)
    assert found.names == ("motorcycle",)
    assert found.images == {metric: tuple(expected[metric]) for metric in METRICS}
    assert 0.05 < found.means["abs_rel"] < 0.5


# networks


def test_a_network_sees_images_at_the_size_that_is_asked_for():
    model = Brightness(False)
    source = [Smooth(count=2)[i] for i in range(2)]  # 64 x 96, disparity is brightness
    scores = evaluate(model, source, short_side=16)
    assert model.seen == [(2, 3, 16, 24)]
    assert scores.inverted == 0


@pytest.mark.parametrize(("beside", "expected"), [(64, 64), (None, 96)])
def test_a_network_is_scored_at_the_size_that_it_was_trained_at(beside, expected, tmp_path):
    save(build("lite0", pretrained=False, seed=0), tmp_path / "model.safetensors")
    if beside:
        text = '{"config": {"height": 64, "width": 96}}'
        (tmp_path / "job.json").write_text(text, encoding="utf-8")
    model = restore(tmp_path / "model.safetensors")
    seen = []
    model.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-2]))
    evaluate(model, [Smooth(count=1)[0]])
    assert seen == [expected]


class Tensors(nn.Module):
    """A module of somebody's, which takes batches."""

    def forward(self, images):
        return images.mean(1)


class Metres(Brightness):
    kind = "depth_m"


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (Metres(False), {}, "predicts depth in metres"),
        (Tensors(), {}, "give a function from a list of uint8 images"),
        (lambda images: images, {"short_side": 64}, "short_side: nothing would read 64"),
        (lambda images: None, {}, "gave NoneType, not a list of maps"),
        (lambda images: images[:1], {}, "gave 1 maps for 2 images"),
        (lambda images: images, {}, r"gave a map of shape \(3, 2, 2\)"),
        (lambda images: ["a", "b"], {}, "gave str where a map is meant"),
        (
            lambda images: [torch.full((2, 2), torch.nan)] * 2,
            {},
            "mine, image '0'.*see what the model gives there",
        ),
        (lambda images: images, {"protocol": "indor"}, "Did you mean 'indoor'"),
    ],
)
def test_what_a_model_did_wrong_is_said_in_one_line(model, options, message):
    with pytest.raises(UserError, match=message) as caught:
        evaluate(model, SOURCE, **options)
    assert "\n" not in str(caught.value)


def test_a_file_of_weights_is_no_model():
    with pytest.raises(ConfigError, match="model: str is neither a network nor a function"):
        _predictor("weights.pth", None)


def test_an_error_of_the_model_itself_is_not_hidden():
    def broken(images):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        evaluate(broken, SOURCE)


# ground truth


@pytest.mark.parametrize(
    ("change", "protocol", "error", "message"),
    [
        ({"scale_known": False}, "indoor", ConfigError, "no known scale, which protocol indoor"),
        ({"offset_known": False}, "relative", DataError, "unknown offset, so it cannot be scored"),
        ({"disparity": None}, "relative", DataError, "image 'x': no ground truth"),
    ],
)
def test_ground_truth_that_means_nothing_is_refused(change, protocol, error, message):
    bad = {k: v for k, v in (SOURCE[0] | {"name": "x"} | change).items() if v is not None}
    with pytest.raises(error, match=message):
        evaluate(lambda images: [torch.ones(2, 2)], [bad], protocol=protocol)


def test_ground_truth_of_unknown_scale_has_a_protocol():
    source = [SOURCE[0] | {"scale_known": False}]
    scores = evaluate(lambda images: [torch.tensor([[4.0, 2], [1, 9]])], source)
    assert scores.images["abs_rel"] == pytest.approx((0,), abs=1e-6)


@pytest.fixture
def folder(tmp_path):
    """Two data sets: one in metres with a protocol, and one of which a row has no known offset."""
    from PIL import Image

    rows = []
    for name, dataset, offset in (("a", "rooms", "yes"), ("b", "roof", "yes"), ("c", "roof", "no")):
        depth = np.linspace(1, 20, 48, dtype=np.float32).reshape(6, 8)
        np.save(tmp_path / f"{name}.npy", depth)
        Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / f"{name}.png")
        row = {"image": f"{name}.png", "depth": f"{name}.npy", "kind": "depth_m"}
        row |= {"depth_scale": "1", "dataset": dataset, "offset_known": offset}
        rows.append(row | {"protocol": "indoor" if dataset == "rooms" else ""})
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path


def test_each_data_set_of_a_folder_is_scored_by_its_own_protocol(folder):
    told = []
    found = evaluate_folder(floor(FLOORS["constant"]), folder, report=told.append)
    assert {name: s.protocol.name for name, s in found.items()} == {
        "rooms": "indoor",
        "roof": "relative",
    }
    for name, protocol in (("rooms", "indoor"), ("roof", "relative")):
        rows = DepthManifest(folder, dataset=name, offset_known=True)
        expected = evaluate_source(floor(FLOORS["constant"]), rows, PROTOCOLS[protocol])
        assert found[name].images["abs_rel"] == tuple(expected["abs_rel"])
    assert any("unknown offset are not scored: 1 of roof" in line for line in told)
    assert any("scored by the protocol relative" in line for line in told)


def test_rows_of_unknown_offset_are_left_out_and_counted(folder):
    scores = evaluate(floor(FLOORS["constant"]), f"depth:{folder}?dataset=roof")
    assert (scores.names, scores.left_out) == (("b",), 1)
    assert "(1 image, protocol relative; 1 row of unknown offset left out" in str(scores)
    with pytest.raises(DataError, match="no row has a known offset"):
        evaluate(floor(FLOORS["constant"]), f"depth:{folder}?offset_known=no")


def test_a_folder_without_a_manifest_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no manifest\.csv in this folder"):
        evaluate_folder(floor(FLOORS["constant"]), tmp_path)


# depth, and other alignments


def test_depth_is_scored_as_depth():
    """Depths 1, 2 and 4 m of three pixels. Right but for a factor of 2: 0 where a scale is fitted, 1
    where it is not."""
    twice = [torch.tensor([[2.0, 4.0], [8.0, 1.0]]), torch.tensor([[2.0, 4.0], [4.0, 8.0]])]
    near = Protocol(name="near", min_depth=0.1, max_depth=9.0)
    for alignment, expected in (("median", 0), ("scale", 0), ("disparity", 0), ("none", 1)):
        scores = evaluate(
            lambda images: twice, SOURCE, protocol=near, kind="depth", alignment=alignment
        )
        assert scores.images["abs_rel"] == pytest.approx((expected,) * 2, abs=1e-6), alignment
        assert scores.protocol.align == alignment
    logs = [x.log() + 3 for x in twice]
    scores = evaluate(
        lambda images: logs, SOURCE, protocol=near, kind="log_depth", alignment="log_depth"
    )
    assert scores.images["abs_rel"] == pytest.approx((0, 0), abs=1e-6)


def test_what_does_not_go_together_is_refused():
    maps = [torch.ones(2, 2), torch.ones(2, 2)]
    with pytest.raises(ConfigError, match="alignment 'depth' fits scale and shift in depth"):
        evaluate(lambda images: maps, SOURCE, protocol=NEAR, alignment="depth")
    with pytest.raises(ConfigError, match="kind"):
        evaluate(lambda images: maps, SOURCE, protocol=NEAR, kind="metres")
    with pytest.raises(ConfigError, match="alignment"):
        evaluate(lambda images: maps, SOURCE, protocol=NEAR, alignment="best")
    unknown = [sample([[1.0, 0.5]], scale_known=False)]
    with pytest.raises(ConfigError, match="without alignment nothing can be compared"):
        evaluate(lambda images: maps, unknown, kind="depth", alignment="none")


def test_a_network_is_scored_as_what_it_says_it_is():
    relative = build("lite0", pretrained=False, seed=0)
    with pytest.raises(ConfigError, match="'depth', but this network predicts disparity"):
        evaluate(relative, SOURCE, protocol=NEAR, kind="depth")
