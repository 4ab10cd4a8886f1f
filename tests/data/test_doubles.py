"""Doubles: hand-made hashes, and pictures that are saved anew."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dalib.data.doubles import dhash, near_pairs


@pytest.fixture
def picture():
    """Smooth noise, which has brighter and darker neighbours at every scale."""
    drawn = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    return Image.fromarray(drawn).resize((160, 120), Image.Resampling.BICUBIC)


def test_the_bits_of_a_ramp():
    falling = torch.arange(63, -1, -1, dtype=torch.uint8).repeat(3, 20, 1)
    assert dhash(falling) == 2**64 - 1
    assert dhash(falling.flip(-1)) == 0


def test_scaled_and_saved_anew_it_is_near(picture):
    stored = io.BytesIO()
    picture.resize((80, 60)).save(stored, "JPEG", quality=80)
    pair = [dhash(picture), dhash(Image.open(stored))]
    mirrored = dhash(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert near_pairs([*pair, mirrored]) == [(0, 1)]


def test_pairs_by_hand_in_blocks_and_between_collections():
    hashes = [0, 0b11111, 0b111111, 2**64 - 1, 0]
    expected = [(0, 1), (0, 4), (1, 2), (1, 4)]
    assert near_pairs(hashes) == expected
    assert near_pairs(hashes, block=2) == expected
    assert near_pairs(hashes, within=0) == [(0, 4)]
    assert near_pairs([0, 2**64 - 1], [2**63, 7 * 2**61]) == [(0, 0), (0, 1)]
