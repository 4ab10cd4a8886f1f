"""Protocols: hand-worked scores, a NumPy reference, properties, crops in use, floors."""

import csv

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from PIL import Image

from dalib.errors import ConfigError, DataError
from dalib.evaluation import (
    FLOORS,
    METRICS,
    PROTOCOLS,
    Protocol,
    depth_metrics,
    evaluate_source,
    floor,
    least_squares,
    mean_over_images,
    real_sets,
    score,
)
from dalib.evaluation.protocols import HALVES
from dalib.evaluation.suite import check, real_domains

NEAR_AND_FAR = Protocol(name="test", max_depth=10.0)


def maps(*, seed, images=2, height=12, width=16):
    """Random disparity between 1/20 and 2 (some of it beyond a cap of 10), a noisy prediction, 70 %
    valid."""
    generator = torch.Generator().manual_seed(seed)
    target = 0.05 + 1.95 * torch.rand(images, height, width, generator=generator)
    pred = target + 0.3 * torch.rand(images, height, width, generator=generator)
    return pred, target, torch.rand(images, height, width, generator=generator) > 0.3


def reference(pred, target, valid, *, cap):
    """One image, float64 NumPy, from the words of the protocol: fit in disparity, clamp below,
    invert, compare."""
    pred, target, valid = pred.double().numpy(), target.double().numpy(), valid.numpy()
    keep = valid & (target >= 1 / cap)
    p, t = pred[keep], target[keep]
    scale, shift = np.linalg.lstsq(np.stack([p, np.ones_like(p)], 1), t, rcond=None)[0]
    p, t = 1 / np.maximum(scale * p + shift, 1 / cap), 1 / t
    return (
        np.mean(np.abs(p - t) / t),
        np.mean(np.maximum(p / t, t / p) < 1.25),
        np.sqrt(np.mean((p - t) ** 2)),
    )


def test_by_hand():
    """Disparity 1, 1/2 and prediction 3, 3: scale 0, shift 3/4, depth 4/3 for 1 and 2: errors 1/3
    and 1/3."""
    got = score(
        torch.full((1, 1, 2), 3.0),
        torch.tensor([[[1.0, 0.5]]]),
        torch.ones(1, 1, 2) > 0,
        NEAR_AND_FAR,
    )
    assert got["abs_rel"].item() == pytest.approx(1 / 3)
    assert got["rmse"].item() == pytest.approx(((1 / 9 + 4 / 9) / 2) ** 0.5)


def test_reference():
    pred, target, valid = maps(seed=0, images=4)
    got = score(pred, target, valid, NEAR_AND_FAR)
    for i in range(4):
        expected = reference(pred[i], target[i], valid[i], cap=10)
        assert_allclose([got[key][i] for key in ("abs_rel", "delta1", "rmse")], expected, rtol=1e-9)


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.floats(0.01, 100),
    st.floats(-100, 100),
    st.sampled_from(sorted(PROTOCOLS)),
)
def test_invariant_to_scale_and_shift(seed, scale, shift, protocol):
    pred, target, valid = maps(seed=seed)
    expected = score(pred, target, valid, PROTOCOLS[protocol])
    got = score(scale * pred.double() + shift, target, valid, PROTOCOLS[protocol])
    assert all(
        torch.allclose(got[key], expected[key], rtol=1e-6, atol=1e-9) for key in ("abs_rel", "rmse")
    )


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([float("nan"), float("inf"), -1e38, 0.0]))
def test_invalid_pixels_never_matter(seed, junk):
    pred, target, valid = maps(seed=seed)
    expected = score(pred, target, valid, PROTOCOLS["nyuv2"])
    got = score(
        torch.where(valid, pred, junk), torch.where(valid, target, junk), valid, PROTOCOLS["nyuv2"]
    )
    assert all(torch.equal(got[key], expected[key]) for key in METRICS)


def test_permuting_images_permutes_results():
    pred, target, valid = maps(seed=1, images=3)
    order = torch.tensor([2, 0, 1])
    expected, got = (
        score(*x, NEAR_AND_FAR)
        for x in ((pred, target, valid), (pred[order], target[order], valid[order]))
    )
    for key in METRICS:
        assert_allclose(got[key], expected[key][order], rtol=1e-12)


def test_aligned_in_disparity_not_in_depth():
    """Peer bug: disparity aligned to depth. A prediction affine in 1/z is perfect; one affine in z
    is not."""
    depth = torch.linspace(1, 9, 48).view(1, 6, 8)
    everywhere = torch.ones(1, 6, 8, dtype=torch.bool)
    right, wrong = (
        score(p, 1 / depth, everywhere, NEAR_AND_FAR)["abs_rel"].item()
        for p in (5 / depth - 7, -depth)
    )
    assert right == pytest.approx(0, abs=1e-5)
    assert wrong > 0.2
    scale, shift = least_squares(5 / depth - 7, depth, everywhere)
    in_depth = depth_metrics((scale * (5 / depth - 7) + shift).clamp(min=1e-3), depth, everywhere)
    assert in_depth["abs_rel"].item() > 0.2


def test_clamped_from_below():
    """Prediction -1, 0, 1 for disparity 0.1, 0.1, 1: scale 0.45, shift 0.4, so -0.05, 0.4, 0.85.
    The first would be behind the camera; clamped to 1/10 it is 10 m, which is right. Errors 0, 0.75
    and 3/17. Without a cap the farthest ground truth, here also 10, is the bound.
    """
    pred, target = torch.tensor([[[-1.0, 0, 1]]]), torch.tensor([[[0.1, 0.1, 1]]])
    everywhere = torch.ones(1, 1, 3, dtype=torch.bool)
    for protocol in (NEAR_AND_FAR, PROTOCOLS["relative"]):
        got = score(pred, target, everywhere, protocol)["abs_rel"].item()
        assert got == pytest.approx((0.75 + 3 / 17) / 3, rel=1e-6)


def test_sky_and_what_lies_out_of_range_do_not_count():
    """Rows 0..3 are sky, 4 and 5 lie at 11 m, 6 at 0.5 mm: none of them matters."""
    pred, target, valid = maps(seed=2)
    target[:, :4], target[:, 4:6], target[:, 6] = 0, 1 / 11, 2000
    below = torch.zeros_like(valid)
    below[:, 7:] = True
    got, expected = (
        score(pred, target, valid, NEAR_AND_FAR),
        score(pred, target, valid & below, NEAR_AND_FAR),
    )
    assert all(torch.equal(got[key], expected[key]) for key in METRICS)


def test_half_precision():
    pred, target, valid = maps(seed=3)
    got = score(1000 * pred.half(), target, valid, NEAR_AND_FAR)
    expected = score(1000 * pred.half().float(), target, valid, NEAR_AND_FAR)
    assert_allclose(got["abs_rel"], expected["abs_rel"], rtol=1e-2)
    assert got["abs_rel"].isfinite().all()


def test_empty_masks():
    """No valid pixel, or none within the cap: NaN for that image and no other."""
    pred, target, valid = maps(seed=4, images=3)
    valid[0], target[1] = False, 1 / 50
    for protocol, empty in (
        (NEAR_AND_FAR, [True, True, False]),
        (PROTOCOLS["relative"], [True, False, False]),
    ):
        assert score(pred, target, valid, protocol)["abs_rel"].isnan().tolist() == empty


def test_nan_in_a_prediction_is_an_error():
    pred, target, valid = maps(seed=5)
    with pytest.raises(
        ValueError, match=r"prediction is NaN or infinite at valid pixels of images \[0, 1\]"
    ):
        score(pred / 0 - pred / 0, target, valid, NEAR_AND_FAR)


@pytest.mark.parametrize(
    ("crop", "size", "rows", "columns"),
    [
        ("eigen", (480, 640), (45, 471), (41, 601)),
        ("eigen", (240, 320), (22, 236), (20, 300)),
        ("garg", (375, 1242), (153, 371), (44, 1197)),
        ("garg", (352, 1216), (143, 349), (43, 1172)),
        (None, (5, 7), (0, 5), (0, 7)),
    ],
)
def test_crops(crop, size, rows, columns):
    mask = Protocol(name="test", crop=crop).crop_mask(*size)
    inside = mask.nonzero()
    assert inside.amin(0).tolist() == [rows[0], columns[0]]
    assert (inside.amax(0) + 1).tolist() == [rows[1], columns[1]]
    assert mask.sum() == (rows[1] - rows[0]) * (columns[1] - columns[0])


@pytest.mark.parametrize("name", ["nyuv2", "kitti"])
def test_crops_are_used(name):
    """Peer bug: crops computed and never used. Here the ground truth outside the crop is wrong, and
    nobody notices."""
    protocol, size = PROTOCOLS[name], (480, 640)
    target = torch.linspace(0.2, 2, 480)[:, None].expand(size)[None].clone()
    pred, valid = 3 * target - 1, torch.ones(1, *size, dtype=torch.bool)
    outside = ~protocol.crop_mask(*size)[None]
    target[outside] = 5 - target[outside]
    uncropped = Protocol(name="test", max_depth=protocol.max_depth)
    assert score(pred, target, valid, protocol)["abs_rel"].item() == pytest.approx(0, abs=1e-5)
    assert score(pred, target, valid, uncropped)["abs_rel"].item() > 0.1


def test_nan_in_the_ground_truth_is_an_error():
    pred, target, valid = maps(seed=6)
    target[1] = torch.nan
    with pytest.raises(
        ValueError, match=r"target is NaN or infinite at valid pixels of images \[1\]"
    ):
        score(pred, target, valid, NEAR_AND_FAR)


def test_unknown_crop_and_impossible_range():
    with pytest.raises(ConfigError, match="'center'"):
        Protocol(name="test", crop="center")
    with pytest.raises(ConfigError, match="min_depth 5"):
        Protocol(name="test", min_depth=5.0, max_depth=2.0)


def test_floors():
    """The bottom of the ramp is near; a constant scores |1 / mean(d) - z| / z."""
    ramp = FLOORS["vertical ramp"](4, 3)
    assert ramp.shape == (4, 3)
    assert ramp[0].tolist() == [0, 0, 0]
    assert ramp[-1].tolist() == [1, 1, 1]
    target, everywhere = torch.tensor([[[1.0, 0.25]]]), torch.ones(1, 1, 2, dtype=torch.bool)
    got = score(FLOORS["constant"](1, 2)[None], target, everywhere, NEAR_AND_FAR)["abs_rel"].item()
    assert got == pytest.approx((0.6 + 0.6) / 2)


def test_halves_are_fixed_and_disjoint():
    assert set(HALVES["tune"]) == {"sunrgbd", "tum", "icl_nuim", "habitat", "nuscenes"}
    assert set(HALVES["table"]) == {
        "nyuv2",
        "kitti",
        "redwood",
        "middlebury",
        "mvs_outdoor",
        "flyingthings3d",
    }
    assert {protocol for half in HALVES.values() for protocol in half.values()} <= PROTOCOLS.keys()


def test_real_sets_absent(monkeypatch, tmp_path):
    """Where nothing is asked for, and where none is: no real set but the one in the wheel."""
    monkeypatch.delenv("DALIB_REALDEPTH", raising=False)
    (tmp_path / "checkout").mkdir()
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path / "checkout"))
    assert real_sets() == []
    assert [name for name, *_ in real_domains()] == ["motorcycle"]
    assert check() == []
    monkeypatch.setenv("DALIB_REALDEPTH", "none")
    assert real_sets() == []


@pytest.mark.parametrize("given", ["", "a_file", "nowhere", "empty"])
def test_a_wrong_place_of_real_sets_is_named(monkeypatch, tmp_path, given):
    (tmp_path / "a_file").write_text("x")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DALIB_REALDEPTH", given)
    with pytest.raises(
        ConfigError, match=f"DALIB_REALDEPTH: '{given}' is no folder with a manifest.csv"
    ):
        check()


@pytest.fixture
def real(tmp_path, monkeypatch):
    """Write a collection: one pair per row, each row a dict of what differs; `DALIB_REALDEPTH`
    names it."""
    monkeypatch.setenv("DALIB_REALDEPTH", str(tmp_path / "garden"))

    def write(*rows):
        (tmp_path / "garden").mkdir(exist_ok=True)
        columns = list(
            dict.fromkeys(
                ["image", "depth", "kind", "depth_scale", *(key for row in rows for key in row)]
            )
        )
        with (tmp_path / "garden" / "manifest.csv").open("w", newline="") as file:
            lines = csv.DictWriter(file, columns, restval="")
            lines.writeheader()
            for k, row in enumerate(rows):
                Image.new("RGB", (4, 2)).save(tmp_path / "garden" / f"{k}.png")
                Image.fromarray(np.full((2, 4), 1000 + k, np.uint16)).save(
                    tmp_path / "garden" / f"{k}_depth.png"
                )
                pair = {"image": f"{k}.png", "depth": f"{k}_depth.png"}
                lines.writerow(pair | {"kind": "depth_m", "depth_scale": "1000"} | row)
        return tmp_path / "garden"

    return write


def seen():
    """Name, half, protocol and size of each set."""
    return [(s.name, s.half, s.protocol.name, len(s.source)) for s in real_sets()]


def test_any_manifest_is_scored_by_its_own_names(real):
    """A bare one is called like its folder; our eleven come first, in their order, as they always
    were."""
    real({}, {})
    assert seen() == [("garden", "table", "relative", 2)]
    assert [name for name, *_ in real_domains()] == ["motorcycle", "garden"]
    real(
        {"dataset": "roof"},
        {"dataset": "kitti"},
        {"dataset": ""},
        {"dataset": "tum"},
        {"dataset": "roof"},
    )
    ours = [("tum", "tune", "indoor", 1), ("kitti", "table", "kitti", 1)]
    assert seen() == [*ours, ("roof", "table", "relative", 2), ("garden", "table", "relative", 1)]
    assert [s.source[0]["domain"] for s in real_sets()] == ["tum", "kitti", "roof", "garden"]
    (note,) = check()
    assert (
        "scored by the protocol relative (no crop, no cap): roof, garden; declare another in a "
        "column" in note
    )


def test_protocol_and_half_are_columns_or_a_file(real):
    folder = real(
        {"dataset": "roof", "protocol": "driving", "half": "tune"},
        {"dataset": "shed"},
        {"dataset": "kitti"},
    )
    (folder / "protocols.yaml").write_text(
        "shed: {protocol: indoor}\nkitti: {protocol: driving, half: tune}\n"
    )
    assert sorted(seen()) == [
        ("kitti", "tune", "driving", 1),
        ("roof", "tune", "driving", 1),
        ("shed", "table", "indoor", 1),
    ]
    assert check() == []


def test_rows_of_unknown_offset_are_left_out_and_said(real):
    real({"dataset": "roof", "offset_known": "no"}, {"dataset": "roof", "offset_known": "yes"})
    assert seen() == [("roof", "table", "relative", 1)]
    assert "rows of unknown offset are not scored: 1 of roof" in check()[0]
    real({"dataset": "roof", "offset_known": "no"})
    with pytest.raises(
        DataError, match=r"manifest\.csv: no row has a known offset, so none can be scored"
    ):
        check()


def test_images_out_of_range_are_said_and_a_whole_set_of_them_refused(real):
    """Millimetres taken for metres: nothing is nearer than 10 m, and every score would be NaN."""
    far = {"protocol": "indoor", "depth_scale": "1"}
    real({"protocol": "indoor"}, {"id": "hall"} | far)
    assert check() == [
        "data set 'garden': no pixel lies within protocol indoor (its range of depth and its "
        "crop) in hall, which are not scored"
    ]
    real(far)
    with pytest.raises(
        DataError, match=r"data set 'garden': no pixel lies within .*; correct depth_scale"
    ):
        check()


DECLARED_WRONGLY = [
    (
        {"protocol": "outdoor"},
        "",
        r"unknown protocol of data set 'roof' in .*manifest\.csv: 'outdoor'",
    ),
    ({"half": "train"}, "", "unknown half of data set 'roof' in .* 'train'. Known: tune, table"),
    (
        {},
        "roof: {protocol: indor}",
        r"unknown protocol of data set 'roof' in .*protocols\.yaml: 'indor'. Did you mean 'indoor'",
    ),
    ({}, "roof: {half: 3}", r"unknown half of data set 'roof' in .*protocols\.yaml: '3'"),
    ({}, "roof: {protocol: [indoor]}", "unknown protocol of data set 'roof'"),
    (
        {},
        "roof: {protocl: indoor}",
        "unknown entry of data set 'roof' in .* 'protocl'. Did you mean 'protocol'",
    ),
    ({}, "rof: {protocol: indoor}", "unknown data set in .* 'rof'. Did you mean 'roof'"),
    ({}, "- roof", r"protocols\.yaml: write one line for each data set"),
    ({}, "roof: indoor", r"protocols\.yaml: write one line for each data set"),
    ({}, "roof: {", r"protocols\.yaml, line 1: not valid YAML"),
    (
        {},
        "roof: {half: tune}\nroof: {half: table}",
        r"protocols\.yaml, line 2: .roof. stands twice",
    ),
]


@pytest.mark.parametrize(
    ("columns", "text", "message"),
    DECLARED_WRONGLY,
    ids=[f"{c}{t}" for c, t, _ in DECLARED_WRONGLY],
)
def test_a_wrong_declaration_is_named_before_step_0(real, columns, text, message):
    folder = real({"dataset": "roof"} | columns)
    if text:
        (folder / "protocols.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        check()


def test_sets_that_cannot_be_scored_are_named_before_step_0(real):
    """Two protocols for one set, the name of scikit-image's, a file that is not there, one that is
    none."""
    real({"protocol": "indoor"}, {"protocol": "driving"})
    with pytest.raises(
        ConfigError, match="data set 'garden' has several entries of protocol: driving, indoor"
    ):
        check()
    for unknown in ({"scale_known": "no"}, {"kind": "disparity"}):
        real({"protocol": "indoor"} | unknown)
        with pytest.raises(
            ConfigError,
            match="'garden' have no known scale, which protocol indoor needs; declare protocol",
        ):
            check()
    folder = real({"protocol": "indoor"})
    (folder / "protocols.yaml").write_text("garden: {protocol: driving}")
    with pytest.raises(
        ConfigError,
        match=r"protocols\.yaml: protocol of data set 'garden' is driving, but indoor in manifest",
    ):
        check()
    (folder / "protocols.yaml").unlink()
    real({"dataset": "motorcycle"})
    with pytest.raises(
        ConfigError, match=r"manifest\.csv: a data set is called 'motorcycle', as scikit-image's"
    ):
        check()
    folder = real({}, {})
    (folder / "1_depth.png").unlink()
    with pytest.raises(DataError, match=r"manifest\.csv: no such file: .*1_depth\.png"):
        check()
    (folder / "1_depth.png").write_text("no picture")
    with pytest.raises(DataError, match=r"1_depth\.png: "):
        check()


def test_floors_on_real_images():
    """The floors that the collection's README gives over a superset: about 0.34 for a constant,
    0.31 for a ramp."""
    sets = real_sets()
    if not sets:
        pytest.skip("../shared/realdepth is not here; set DALIB_REALDEPTH to its folder")
    assert {s.name for s in sets} == {name for half in HALVES.values() for name in half}
    means = {}
    for name, prediction in FLOORS.items():
        scores = [evaluate_source(floor(prediction), s.source, s.protocol)["abs_rel"] for s in sets]
        means[name] = np.mean([mean_over_images(s) for s in scores])
    assert means["constant"] == pytest.approx(0.34, abs=0.03)
    assert means["vertical ramp"] == pytest.approx(0.31, abs=0.03)
