"""Samples of any size brought to the size of a batch: all maps move together, and none is mixed."""

import pytest
import torch
from numpy.testing import assert_allclose

from dalib.data.schema import Source, resize_and_crop
from dalib.errors import DataError


def depth_ramp(rows, columns):
    disparity = torch.arange(rows * columns).float().view(rows, columns)
    image = (disparity % 251).to(torch.uint8).expand(3, -1, -1)
    return {
        "image": image,
        "disparity": disparity,
        "valid": disparity % 3 > 0,
        "domain": "test",
        "name": "x",
    }


class Squares(Source):
    domain, fingerprint = "squares", "5a"

    def __len__(self):
        return 3

    def _sample(self, index):
        return {"image": index**2}


def test_a_source_counts_from_both_ends():
    squares = Squares()
    assert [s["image"] for s in squares] == [0, 1, 4]
    assert squares[-1]["image"] == 4
    for outside in (3, -4):
        with pytest.raises(
            IndexError, match=f"Squares has 3 samples; there is no sample {outside}"
        ):
            squares[outside]


def test_a_source_must_say_how_many_and_which():
    class Half(Source):
        def __len__(self):
            return 1

    with pytest.raises(TypeError, match="_sample"):
        Half()


def test_resize_and_crop_crops_and_mirrors():
    """4 x 8 to 4 x 4 at the right: columns 4..7, mirrored 7..4; all maps move together."""
    sample = depth_ramp(4, 8)
    got = resize_and_crop(sample, height=4, width=4, flip=True, position=(0, 1))
    columns = [7, 6, 5, 4]
    for key in ("disparity", "valid"):
        assert torch.equal(got[key], sample[key][:, columns])
        assert got[key].dtype == sample[key].dtype
    assert torch.equal(got["image"], sample["image"][:, :, columns])
    assert got["name"] == "x"


def test_resize_and_crop_never_mixes_disparity():
    """Shrinking by 3 takes the middle pixel of each 3 x 3; values and validity belong to the same
    pixel."""
    sample = depth_ramp(9, 15)
    got = resize_and_crop(sample, height=3, width=5)
    assert torch.equal(got["disparity"], sample["disparity"][1::3, 1::3])
    assert torch.equal(got["valid"], sample["valid"][1::3, 1::3])


def test_resize_and_crop_antialiases_the_image():
    """A checkerboard shrunk by 2.5 is grey all over."""
    board = ((torch.arange(40)[:, None] + torch.arange(40)) % 2 * 255).to(torch.uint8)
    image = resize_and_crop(
        {"image": board.expand(3, -1, -1), "domain": "test"}, height=16, width=16
    )["image"]
    assert_allclose(image[:, 1:-1, 1:-1], 127.5, atol=12)


@pytest.mark.parametrize("size", [(96, 128), (128, 96), (300, 300), (7, 500)])
def test_resize_and_crop_size(size):
    got = resize_and_crop(depth_ramp(101, 67), height=size[0], width=size[1], position=(0.3, 0.9))
    assert got["image"].shape == (3, *size)
    assert got["disparity"].shape == got["valid"].shape == size
    assert torch.equal(got["valid"], got["disparity"] % 3 > 0)
    for axis in (0, 1):  # nothing is turned
        assert (got["disparity"].diff(dim=axis) >= 0).all()


def test_resize_and_crop_position():
    with pytest.raises(DataError, match=r"0\.\.1"):
        resize_and_crop(depth_ramp(4, 4), height=2, width=2, position=(0, 1.5))
