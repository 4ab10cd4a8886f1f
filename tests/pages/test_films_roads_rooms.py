"""Roads, rooms and films: what is shown beside what, and numbers that say whether maps are smears."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dabook.pages import films_roads_rooms as page
from dabook.runs import networks
from dalib import models, paths
from dalib.data.scenes import SPLITS, describe
from dalib.errors import CheckpointError
from dalib.predict import predict

SIZE = {"height": 60, "width": 80}


def grid(height: int = 60, width: int = 80):
    y = torch.linspace(-1, 1, height)[:, None].expand(height, width)
    x = torch.linspace(-1, 1, width).expand(height, width)
    return x, y


def sample(disparity: torch.Tensor, *, valid: torch.Tensor | None = None) -> dict:
    """A picture of nothing with this truth."""
    return {
        "image": torch.full((3, *disparity.shape), 90, dtype=torch.uint8),
        "disparity": disparity.float(),
        "valid": torch.ones(disparity.shape, dtype=torch.bool) if valid is None else valid,
        "domain": "x",
        "title": "Nothing",
    }


def stairs() -> torch.Tensor:
    """Three depths with two edges, 2, 3 and 5 metres."""
    depth = torch.full((60, 80), 5.0)
    depth[:, :40], depth[30:, :20] = 3.0, 2.0
    return 1 / depth


@given(st.lists(st.floats(-0.02, 0.02), min_size=5, max_size=5))
def test_a_truth_that_is_such_a_surface_is_its_own_best_smear(found):
    x, y = grid()
    a, b, c, d, e = found
    truth = 0.25 + a * x + b * y + c * x * x + d * x * y + e * y * y
    smear = page.surface(sample(truth))
    assert torch.allclose(smear, truth, atol=1e-5)


def test_the_best_smear_is_the_best_and_has_no_edges():
    seen = sample(stairs())
    smear = page.surface(seen)
    misses = ((smear - seen["disparity"]) ** 2).mean()
    x, y = grid()
    for term in (torch.ones_like(x), x, y, x * x, x * y, y * y):
        for step in (-1e-3, 1e-3):
            assert ((smear + step * term - seen["disparity"]) ** 2).mean() >= misses
    assert page.edges(smear, seen) < 0.05
    assert page.edges(seen["disparity"], seen) == pytest.approx(1)
    assert page.error(seen["disparity"], seen) == pytest.approx(0, abs=1e-6)


def test_a_smear_is_fitted_where_something_is_known_alone():
    x, _ = grid()
    truth = 0.2 + 0.05 * x
    spoilt, valid = truth.clone(), torch.ones(60, 80, dtype=torch.bool)
    spoilt[:20], valid[:20] = 9.0, False
    assert torch.allclose(page.surface(sample(spoilt, valid=valid)), truth, atol=1e-5)


def test_scale_and_shift_of_a_map_do_not_matter():
    seen = sample(stairs())
    assert page.error(7 * stairs() + 3, seen) == pytest.approx(0, abs=1e-5)
    assert page.edges(7 * stairs() + 3, seen) == pytest.approx(1)


def test_what_is_read_from_them():
    seen = [sample(stairs()), {k: v for k, v in sample(stairs()).items() if k != "disparity"}]
    x, _ = grid()
    exact, slope = [stairs()] * 2, [0.3 - 0.01 * x] * 2
    every = page.reading(seen, {"teacher": slope, "student": slope})
    assert "Mean AbsRel over the 1 pictures with a truth" in every
    assert "The maps are smears." in every
    assert "0.00 (teacher), 0.00 (student)" in every
    mixed = page.reading(seen, {"teacher": slope, "student": exact})
    assert mixed.endswith("Those of teacher are smears, those of student not.")
    assert "0.000 (student)" in mixed
    good = page.reading(seen, {"student": exact})
    assert "no smears" in good
    assert "1.00 (student)" in good


def test_views_of_a_picture_with_a_truth_and_without():
    whole = page.views(sample(stairs()), {"teacher": stairs(), "student": stairs()})
    assert [v.label for v in whole] == ["image", "truth", "teacher", "student"]
    assert [v.note for v in whole] == ["", "", "AbsRel 0.00", "AbsRel 0.00"]
    photograph = {"image": torch.zeros(3, 900, 600, dtype=torch.uint8), "title": "x"}
    bare = page.views(photograph, {"student": torch.rand(900, 600)})
    assert [(v.label, v.note) for v in bare] == [("image", ""), ("student", "")]
    assert {tuple(v.picture.shape) for v in bare} == {(3, 480, 320)}


def test_the_divider_begins_between_the_image_and_the_last_network():
    shown = page.dividers([sample(stairs())], {"teacher": [stairs()], "yours": [stairs()]}).text
    assert re.findall(r'value="(\d)" selected', shown) == ["0", "3"]
    assert 'alt="Nothing: yours"' in shown


def test_every_scene_is_of_the_kind_that_its_group_says_and_none_is_scored():
    kinds = {"roads": {"street"}, "rooms": {"room"}, "films": {"room", "tabletop", "nature"}}
    for group, shown in page.SCENES.items():
        assert {kind for split, *_ in shown for kind in SPLITS[split].kinds} <= kinds[group]
        for split, index, title in shown:
            assert index >= page.FIRST
            assert describe(split, index)
            assert title.strip() == title
    titles = [title for shown in page.SCENES.values() for *_, title in shown]
    assert len(set(titles)) == len(titles)
    assert [s["title"] for s in page.scenes("roads", **SIZE)] == [
        title for *_, title in page.SCENES["roads"]
    ]


class Metres(models.DepthAnything):
    """A metric network that sees two metres left and four right."""

    def __init__(self):
        nn.Module.__init__(self)

    kind = "depth_m"


@pytest.mark.slow
def test_the_readers_own_network(tmp_path, monkeypatch):
    torch.manual_seed(0)
    images = [{"image": torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)}]
    model = models.build("lite0", pretrained=False, seed=1).eval()
    models.save(model, tmp_path / "mine.safetensors")
    monkeypatch.setattr(paths, "shipped_weights", lambda: tmp_path / "none.safetensors")
    (mine,) = page.others(str(tmp_path / "mine.safetensors"), "smoke")
    assert mine.label == "yours"
    (found,) = page.see(mine, images)
    alone = predict(images[0]["image"], model=model, short_side=96)
    assert torch.allclose(found, alone, rtol=1e-4, atol=1e-5)
    assert found.std() > 1e-3
    with pytest.raises(CheckpointError, match=r"other\.pth"):
        page.others(str(tmp_path / "other.pth"), "smoke")
    assert page.others("", "smoke") == []

    # the student that comes with the library stands before it
    monkeypatch.setattr(paths, "shipped_weights", lambda: tmp_path / "mine.safetensors")
    both = page.others(str(tmp_path / "mine.safetensors"), "smoke")
    assert [network.label for network in both] == [networks.SHIPPED, "yours"]
    assert [network.label for network in page.others("", "smoke")] == [networks.SHIPPED]

    # depth in metres is turned into disparity, and 0 m does not divide
    metric = networks.Network(label="yours", model=Metres(), short_side=96)
    depth = torch.tensor([[2.0, 4.0, 0.0]])
    monkeypatch.setattr(page, "predict", lambda *_, **__: [depth])
    (found,) = page.see(metric, images)
    assert found[0].tolist() == pytest.approx([0.5, 0.25, 1000.0])
