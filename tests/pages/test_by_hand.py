"""What the page of figures to move makes for its figures."""

import pytest
import torch

from dabook.pages import by_hand
from dalib.data import perturb
from dalib.data.scenes import Scenes
from dalib.losses import affine_invariant, median_scale

SIZE = (12, 16)


def test_scenes_are_those_that_no_table_scores_at_any_size():
    found = by_hand.scene("labelled_room", 2, SIZE)
    source = Scenes(split="labelled_room", count=by_hand.FIRST + 3, height=12, width=16)
    assert torch.equal(found["disparity"], source[by_hand.FIRST + 2]["disparity"])
    images = by_hand.many(("labelled_room",), 3, height=12, width=16)
    assert torch.equal(images[2], found["image"])


def test_a_prediction_is_brought_to_the_median_and_the_scale_of_a_label():
    generator = torch.Generator().manual_seed(0)
    prediction, label = torch.rand(2, *SIZE, generator=generator)
    prediction = 40 * prediction - 7
    everywhere = torch.ones(1, *SIZE, dtype=torch.bool)
    brought = by_hand.brought(prediction, label)
    for found, wanted in zip(
        median_scale(brought[None], everywhere), median_scale(label[None], everywhere), strict=True
    ):
        assert found.item() == pytest.approx(wanted.item(), rel=1e-4)
    before, after = (
        affine_invariant(d[None], label[None], everywhere).item() for d in (prediction, brought)
    )
    assert after == pytest.approx(before, rel=1e-4)


def test_a_camera_knows_where_down_is():
    """A floor is a plane at a right angle to it: its points have one height."""
    size = (48, 64)
    room = by_hand.scene("labelled_room", 7, size)
    camera, down = by_hand.camera("labelled_room", 7, size)
    assert sum(x**2 for x in down) == pytest.approx(1)
    points = camera.rays() / room["disparity"].double()
    height = torch.einsum("c,chw->hw", torch.tensor(down, dtype=torch.float64), points)
    floor = room["semantics"] == room["semantics"][-1, 2]  # what lies at the lower left
    assert int(floor.sum()) > 200
    lowest = height[floor].quantile(0.9)
    assert float((height[floor] - lowest).abs().quantile(0.5)) < 0.02


def test_the_draw_has_colour_and_blur_and_begins_with_the_clean_image():
    image = by_hand.scene("unlabelled", 4, SIZE)["image"]
    clean, usual, double = by_hand.perturbed(image, (0, 1, 2))
    assert torch.equal(clean, image)
    assert not torch.equal(usual, image)
    assert not torch.equal(double, usual)
    drawn = perturb.draw([by_hand.DRAW], ("colour", "blur"), height=12, width=16)
    assert float(drawn.sigma[0]) > 0
    rows = drawn.colour[0]
    assert float((rows[0] - rows[1]).abs().max()) > 0.1  # a grey image has one row thrice
