"""JPEG files decoded at a fraction of their size: by a rule of the sizes, the same wherever the
image is read, and close to the full picture shrunk."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dalib.data.catalogue import open_source
from dalib.data.files import decode_image, draft_scale, read_rgb
from dalib.data.mixture import Concat, fetch, pool_crop
from dalib.data.photos import PhotoFolder
from dalib.data.schema import resize_and_crop


def smooth(size=(320, 200)):
    """(width, height); a photograph's slow changes, with some grain."""
    width, height = size
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (6, 8, 3), np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.float64)
    grain = random.normal(0, 4, (height, width, 1))
    return Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8))


def encoded(picture, kind="JPEG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("stored", "wanted", "scale"),
    [
        ((1500, 2250), (96, 128), 4),  # an eighth leaves 188 rows, and twice 96 are 192
        ((1536, 2250), (96, 128), 8),
        ((1500, 2250), (518, 518), 1),
        ((2072, 2072), (518, 518), 2),
        ((2071, 2072), (518, 518), 1),
        ((2250, 1500), (96, 128), 4),  # 128 columns of 1500 are what it must cover
        ((16, 16), (96, 128), 1),
        ((20_000, 20_000), (1, 1), 8),
    ],
)
def test_the_scale_by_hand(stored, wanted, scale):
    assert draft_scale(stored, wanted) == scale


@given(*[st.integers(1, 5000)] * 4)
def test_twice_the_pixels_are_left_and_no_larger_scale_would_leave_them(rows, columns, h, w):
    scale = draft_scale((rows, columns), (h, w))
    covers = max(h / rows, w / columns)  # by which the whole image is resized

    def left(by):
        return rows / by >= 2 * rows * covers and columns / by >= 2 * columns * covers

    assert scale == 1 or left(scale)
    assert scale == 8 or not left(2 * scale)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 12), st.integers(1, 12))
def test_pillow_decodes_at_the_scale_of_the_rule(width, height, h, w):
    data = encoded(Image.new("RGB", (width, height)))
    scale = draft_scale((height, width), (h, w))
    got = decode_image(data, name="a", draft_for=(h, w)).size
    assert got == (-(-width // scale), -(-height // scale))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_photographs_are_measured_upright(tmp_path, orientation):
    """A high one, stored lying: its shorter side decides what is left."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a.jpg").write_bytes(encoded(smooth((640, 160)), exif=exif))
    wanted = (40, 160)
    shape = read_rgb(tmp_path / "a.jpg", draft_for=wanted).shape[1:]
    stored = (160, 640) if orientation < 5 else (640, 160)
    scale = draft_scale(stored, wanted)
    assert scale == (2 if orientation < 5 else 1)
    assert tuple(shape) == (stored[0] // scale, stored[1] // scale)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_the_image_is_close_to_the_full_one_shrunk(tmp_path, mode, options):
    (tmp_path / "a.jpg").write_bytes(encoded(smooth().convert(mode), quality=95, **options))
    size = {"height": 24, "width": 32}
    images = []
    for draft in (False, True):
        sample = PhotoFolder(tmp_path, draft=draft).sample_for(0, **size)
        images.append(resize_and_crop(sample, **size)["image"].float())
    assert sample["image"].shape == (3, 50, 80), "a quarter"
    assert not torch.equal(*images)
    assert (images[0] - images[1]).abs().mean() < 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP"])
def test_other_formats_are_decoded_in_full(kind):
    data = encoded(smooth(), kind)
    assert decode_image(data, name="a", draft_for=(8, 8)).size == (320, 200)


def test_a_jpeg_with_damaged_metadata_is_decoded_alike():
    """Which are told, and ignored."""
    data = encoded(smooth())
    damaged = data[:2] + b"\xff\xe1\x00\x10Exif\0\0II*\0\xff\xff\xff\xff" + data[2:]
    told = []
    for content in (data, damaged):
        picture = decode_image(content, name="a", draft_for=(25, 40), tell=told.append)
        assert picture.size == (80, 50)


def test_labelling_and_training_read_the_same_pixels(tmp_path):
    """As a source of its own or among others, and only where its user allowed it."""
    (tmp_path / "a.jpg").write_bytes(encoded(smooth()))
    size = {"height": 24, "width": 32}
    one = np.array([0])
    drafted = open_source(f"photos:{tmp_path}?draft=yes", count=1, **size)
    plain = open_source(f"photos:{tmp_path}", count=1, **size)
    expected = fetch(drafted, one, crop=pool_crop, **size)["image"]
    for source in (Concat(drafted), Concat(drafted, plain)):
        assert torch.equal(fetch(source, one, crop=pool_crop, **size)["image"], expected)
    full = fetch(plain, one, crop=pool_crop, **size)["image"]
    assert not torch.equal(full, expected)
    assert torch.equal(fetch(Concat(plain), one, crop=pool_crop, **size)["image"], full)
    whole = resize_and_crop(plain[0], **size, position=tuple(pool_crop(one)[0]))["image"]
    assert torch.equal(full[0], whole)
