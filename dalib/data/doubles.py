"""Pictures that stand twice in a collection: the same, or nearly, by a 64-bit difference hash."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

NEAR = 5
"""Bits in which the hashes of near doubles differ at most."""


def dhash(image: UInt8[Tensor, "3 H W"] | Image.Image) -> int:
    """The difference hash of a picture: whether each of 8 x 8 cells is brighter than the one to its
    right. A picture that is scaled or saved anew keeps it, within a few bits."""
    if isinstance(image, Tensor):
        image = Image.fromarray(image.permute(1, 2, 0).numpy())
    cells = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    brighter = cells[:, :-1] > cells[:, 1:]  # (8, 8)
    return int.from_bytes(np.packbits(brighter).tobytes(), "big")


def near_pairs(
    hashes: list[int], others: list[int] | None = None, *, within: int = NEAR, block: int = 1024
) -> list[tuple[int, int]]:
    """The pairs of places whose hashes differ in at most `within` bits.

    Args:
        hashes: of a collection.
        others: of a second one, with which the first is compared; by default with itself, each pair
            once and the smaller place first.
        within: bits.
        block: rows that are compared at a time, for memory.
    """
    rows = np.array(hashes, np.uint64)
    columns = rows if others is None else np.array(others, np.uint64)
    found = []
    for start in range(0, len(rows), block):
        differ = np.bitwise_count(rows[start : start + block, None] ^ columns[None])
        first, second = np.nonzero(differ <= within)
        first = first + start
        if others is None:
            first, second = first[first < second], second[first < second]
        found += zip(first.tolist(), second.tolist(), strict=True)
    return found
