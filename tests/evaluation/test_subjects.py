"""What a function of somebody's may give for an image, and what is told of the rest."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from dalib.errors import DataError, Stopped
from dalib.evaluation.predictions import Key
from dalib.evaluation.subjects import Function, as_map, function_of
from dalib.functions import CallError

MAP = np.array([[1.0, 2.5], [3.0, 4.0]])
KEY = Key(name="a", path="a.png", number=0, dataset="rooms")


@pytest.mark.parametrize(
    "given",
    [
        MAP,
        MAP.tolist(),
        MAP.astype(">f8"),
        MAP.astype(np.longdouble),
        MAP.astype(np.float16),
        MAP[::-1].copy()[::-1],
        MAP[None, None],
        MAP[..., None],
        MAP[None, ..., None],
        np.ma.masked_array(MAP),
        torch.tensor(MAP),
        torch.tensor(MAP, requires_grad=True),
        torch.tensor(MAP).bfloat16()[None],
        [torch.tensor(row) for row in MAP],
    ],
    ids=lambda x: f"{type(x).__name__}-{getattr(x, 'dtype', '')}-{np.ndim(x)}",
)
def test_what_is_a_map(given):
    found = as_map(given, where="here")
    assert found.dtype == torch.float32
    assert found.tolist() == MAP.tolist()


@pytest.mark.parametrize("dtype", ["u2", "u4", "u8", "i2", "i4", "i8"])
def test_whole_numbers_of_more_than_8_bits(dtype):
    assert as_map((2 * MAP).astype(dtype), where="here").tolist() == (2 * MAP).tolist()


def test_what_is_masked_out_is_not_known():
    found = as_map(np.ma.masked_greater(MAP, 3.5), where="here")
    assert found[0].tolist() == [1.0, 2.5]
    assert math.isnan(found[1, 1])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "NoneType where a map"),
        ("x", "str where a map"),
        (3.0, r"shape \(\)"),
        ({"depth": MAP}, "dict where a map"),
        ((MAP, 3), "tuple where a map"),
        ([[1.0], [1.0, 2.0]], "list where a map"),
        ((x for x in MAP), "generator where a map"),
        (MAP > 2, "an array of bool"),
        (torch.tensor(MAP > 2), "an array of bool"),
        (MAP.astype(complex), "an array of complex128"),
        (MAP.astype(object), "an array of object"),
        (MAP.astype(str), "an array of <U"),
        (torch.tensor(MAP).to_sparse(), "Tensor where a map"),
        (torch.empty(2, 2, device="meta"), "Tensor where a map"),
        (MAP.astype(np.uint8), "8 bits a value"),
        (torch.tensor(MAP).to(torch.int8), "8 bits a value"),
        (Image.fromarray(MAP.astype(np.uint8)), "8 bits a value"),
        (np.zeros((0, 4)), r"shape \(0, 4\)"),
        (np.zeros(4), r"shape \(4,\)"),
        (np.zeros((2, 4, 5)), r"shape \(2, 4, 5\)"),
        (np.zeros((4, 5, 3)), r"shape \(4, 5, 3\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_map(given, said):
    with pytest.raises(DataError, match=f"^here: it gave .*{said}"):
        as_map(given, where="here")


def one(function):
    """Its map of one image."""
    image = torch.zeros(3, 2, 2, dtype=torch.uint8)
    return Function(function, kind="depth", name="mine.py:f").maps([image], [KEY])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("one\ntwo"), "it raised RuntimeError: one$"),
        (AssertionError(), "it raised AssertionError$"),
        (SystemExit(0), "it raised SystemExit: 0$"),
    ],
    ids=str,
)
def test_what_it_raises_is_told_with_the_image(error, said):
    def raising(image):
        raise error

    with pytest.raises(DataError, match=rf"^--call mine\.py:f: rooms, image 'a': {said}"):
        one(raising)


@pytest.mark.parametrize("error", [KeyboardInterrupt, Stopped])
def test_who_stops_it_is_not_told_that_it_raised(error):
    def stopped(image):
        raise error

    with pytest.raises(error):
        one(stopped)


def test_what_it_writes_into_its_image_is_its_own():
    image = torch.full((3, 2, 2), 7, dtype=torch.uint8)

    def blacken(given):
        given[:] = 0
        return np.ones((2, 2))

    Function(blacken, kind="depth", name="f").maps([image], [KEY])
    assert (image == 7).all()


def test_the_line_that_raised_is_named(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def f(image):\n    return 1 / 0\n")
    found = function_of(f"{file}:f", kind="depth")
    with pytest.raises(DataError, match=r"ZeroDivisionError: .* \(mine\.py, line 2\)"):
        found.maps([torch.zeros(3, 2, 2, dtype=torch.uint8)], [KEY])


def test_more_than_an_image_is_refused_before_any_is_read(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def f(image, *, weights):\n    return image\n")
    with pytest.raises(CallError, match=r"called with an image alone, .*weights"):
        function_of(f"{file}:f", kind="depth")
