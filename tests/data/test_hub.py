"""Any `datasets` data set by the names of its columns, in local folders."""

import datasets
import numpy as np
import pytest
from PIL import Image

from dalib.data.hub import HubDataset
from dalib.errors import DataError


@pytest.fixture
def local_hub(tmp_path):
    """Two samples saved by `datasets`: PIL images, 16-bit depth in millimetres, float disparity
    with NaN, and its mask."""
    depth = Image.fromarray(np.array([[0, 1000, 2000, 4000]] * 2, np.uint16))
    columns = {
        "photo": [Image.new("RGB", (4, 2), (200, 10, 20)), Image.new("L", (4, 2), 77)],
        "depth_mm": [depth, depth],
        "disp": [[[float("nan"), 1.0, 0.0, 3.0]] * 2] * 2,
        "known": [[[0, 1, 1, 1]] * 2] * 2,
    }
    features = datasets.Features(
        photo=datasets.Image(),
        depth_mm=datasets.Image(),
        disp=datasets.Array2D((2, 4), "float32"),
        known=datasets.Array2D((2, 4), "uint8"),
    )
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_hub_by_hand(local_hub):
    metres = HubDataset(local_hub, image="photo", depth="depth_mm", depth_scale=1000)[1]
    assert metres["disparity"].tolist() == [[0, 1, 0.5, 0.25]] * 2
    assert metres["valid"].tolist() == [[False, True, True, True]] * 2
    assert metres["image"].shape == (3, 2, 4)
    assert (metres["domain"], metres["name"], metres["scale_known"]) == ("saved", "1", True)
    masked = HubDataset(local_hub, image="photo", disparity="disp", mask="known", domain="toy")[0]
    assert masked["disparity"].tolist() == [[0, 1, 0, 3]] * 2
    assert masked["valid"].tolist() == [[False, True, True, True]] * 2, (
        "0 inside the mask is the sky"
    )
    assert (masked["domain"], masked["scale_known"]) == ("toy", False)
    assert HubDataset(local_hub, image="photo")[0].keys() == {"image", "domain", "name"}


def test_hub_loads_parquet_and_splits(local_hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    data = datasets.load_from_disk(local_hub)
    (tmp_path / "files").mkdir()
    data.select_columns(["photo"]).to_parquet(tmp_path / "files" / "train.parquet")
    assert len(HubDataset(tmp_path / "files", image="photo")) == 2
    datasets.DatasetDict(val=data.select([0])).save_to_disk(tmp_path / "splits")
    assert len(HubDataset(tmp_path / "splits", image="photo", split="val")) == 1
    with pytest.raises(DataError, match="no split 'train'; choose among val"):
        HubDataset(tmp_path / "splits", image="photo")


def test_hub_fingerprint_follows_the_mapping(local_hub):
    one, same, other = (
        HubDataset(local_hub, image="photo", depth="depth_mm", depth_scale=scale).fingerprint
        for scale in (1, 1, 2)
    )
    assert one == same != other


def test_hub_bad_input(local_hub, tmp_path):
    with pytest.raises(
        DataError, match=r"saved: missing column image; .* among photo, depth_mm, disp, known"
    ):
        HubDataset(local_hub)
    with pytest.raises(DataError, match="missing column depths"):
        HubDataset(local_hub, image="photo", depth="depths")
    with pytest.raises(DataError, match="are both given"):
        HubDataset(local_hub, image="photo", depth="depth_mm", disparity="disp")
    with pytest.raises(DataError, match="sample 0: 2 NaN or infinite values of disparity"):
        HubDataset(local_hub, image="photo", disparity="disp")[0]
    with pytest.raises(DataError, match=r"nowhere: split 'train' cannot be loaded"):
        HubDataset(tmp_path / "nowhere")


def test_hub_truncated_image(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    cut = {"image": [{"bytes": data[: len(data) // 2], "path": None}]}
    features = datasets.Features(image=datasets.Image())
    datasets.Dataset.from_dict(cut, features=features).save_to_disk(tmp_path / "cut")
    with pytest.raises(DataError, match="cut, sample 0: truncated, damaged or not an image"):
        HubDataset(tmp_path / "cut")[0]
