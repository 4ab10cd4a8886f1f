"""The streams of random numbers that a run draws from, in one table.

A number is a hash of (seed, stream, position), `position` counting the images of a step's labelled
or unlabelled half from the first step on, so that it depends on no batch, process or worker. Who
wants another random number adds a stream here; a value that has been used never changes, since the
records were made with it.
"""

from enum import IntEnum


class Stream(IntEnum):
    """Which random number of an image: the second word of its key, after the seed."""

    POOL_CROP_TOP = 1
    """Unlabelled images: where the crop lies from top to bottom. By index, and the first word: no
    seed or epoch moves it, for the stored pseudo label shows the same pixels."""
    POOL_CROP_LEFT = 2
    """Unlabelled images: where the crop lies from left to right, likewise."""
    LABELLED_CROP_TOP = 3
    """Labelled images: where the crop lies from top to bottom, anew in each epoch."""
    LABELLED_CROP_LEFT = 4
    """Labelled images: where the crop lies from left to right."""
    LABELLED_FLIP = 5
    """Labelled images: whether they are mirrored, anew in each epoch."""
    POOL_FLIP = 6
    """Unlabelled images: whether they are mirrored."""
    POOL_PERTURBATION = 7
    """Unlabelled images: colour, blur and CutMix of what the student sees (`perturb.draw`)."""
    LABELLED_PERTURBATION = 8
    """Labelled images: colour and blur, where a run distorts them too."""
    REPLACEMENT = 9
    """Damaged images: which others are tried in their place (`dalib.data.damaged`). By index, and
    the first word, as `POOL_CROP_TOP`."""


class Order(IntEnum):
    """Whose order is shuffled. The shuffle's key is `order_key`, a table of its own: no image has a
    part in it."""

    LABELLED = 0
    POOL = 1


def order_key(seed: int, order: Order) -> int:
    """Key of `mixture.shuffled`, another one for each seed and each of the two orders."""
    return 2 * seed + int(order)
