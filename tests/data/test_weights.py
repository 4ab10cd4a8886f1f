"""Sources with weights: how often an epoch reads each image, in which order, and that nothing else
changes for it."""

from collections import Counter

import numpy as np
import pytest
import torch
from helpers.training import Smooth

from dalib.config import RunConfig
from dalib.data.damaged import Replacing
from dalib.data.mixture import Concat, Epoch, Mixture
from dalib.data.schema import Source

SIZE = {"height": 8, "width": 8}


class Marked(Source):
    """Sample i of a source that begins at `first` shows first + i everywhere."""

    domain = "marked"

    def __init__(self, count, first=0):
        self.count, self.first = count, first
        self.fingerprint = f"{count:04x}{first:04x}"

    def __len__(self):
        return self.count

    def _sample(self, index):
        value = self.first + index
        return {
            "image": torch.full((3, 8, 8), value, dtype=torch.uint8),
            "disparity": torch.full((8, 8), float(value)),
            "valid": torch.ones(8, 8, dtype=torch.bool),
            "domain": self.domain,
        }


class Numbers:
    """Pseudo labels of 9 images, one each: image i has i / 100. It notes which were asked for."""

    def get_batch(self, indices):
        assert max(indices) < 9
        return torch.from_numpy(np.asarray(indices) / 100).float()[:, None, None].expand(-1, 8, 8)


def joined(*weights):
    """5 images and 4, of these weights."""
    return Concat(Marked(5), Marked(4, first=5), weights=weights or None)


def mixture(labelled, *, rank=0, world=1, pool=None, chosen=None, **changes):
    values = {"batch": 4, "steps": 100, "unlabelled_ratio": 2} | changes
    config = RunConfig(**SIZE, pseudo_labels=pool is not None, **values)
    return Mixture(
        config=config,
        labelled=labelled,
        unlabelled=pool,
        pool=chosen,
        pseudo=None if pool is None else Numbers(),
        rank=rank,
        world=world,
    )


def read(mixture, steps, key="index"):
    """The indices of so many steps."""
    return torch.cat([mixture[step][key] for step in steps]).tolist()


def test_places_of_an_epoch():
    """All of a part in order and then again; without weights a place is an index."""
    assert Epoch(joined()).at(np.arange(9)).tolist() == list(range(9))
    weighted = Epoch(joined(1, 3))
    assert len(weighted) == 5 + 3 * 4
    assert weighted.at(np.arange(17)).tolist() == [0, 1, 2, 3, 4, *[5, 6, 7, 8] * 3]
    other = Epoch(joined(2, 1), chosen=np.array([1, 3, 8]))
    assert other.at(np.arange(5)).tolist() == [1, 3, 1, 3, 8]
    mixed = Epoch(joined(2, 3), chosen=np.array([8, 1, 6]))
    assert mixed.at(np.arange(8)).tolist() == [1, 1, 8, 6, 8, 6, 8, 6]
    alone = Epoch(joined(2, 3), chosen=np.array([7, 5]))
    assert alone.at(np.arange(6)).tolist() == [7, 5] * 3
    # in whatever order they were chosen, where all weigh the same 1
    assert Epoch(joined(1, 1), chosen=np.array([8, 1])).at(np.arange(2)).tolist() == [8, 1]


@pytest.mark.parametrize("block", [0, 2])
@pytest.mark.parametrize("weights", [(1, 3), (2, 1), (4, 4)])
def test_each_image_is_read_as_often_as_its_weight(weights, block):
    """In each epoch, with and without blocks; the image of an index is the source's."""
    labelled = joined(*weights)
    length = weights[0] * 5 + weights[1] * 4
    batches = mixture(labelled, shuffle_block=block)
    indices = read(batches, range(3 * length))  # 4 images a step, so 12 epochs
    images = torch.cat([batches[s]["image"][:, 0, 0, 0] for s in range(3 * length)]).tolist()
    assert images == indices
    expected = {i: weights[i >= 5] for i in range(9)}
    epochs = [indices[k * length : (k + 1) * length] for k in range(12)]
    assert all(Counter(epoch) == expected for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 12


def test_plain_names_are_read_in_the_order_of_old():
    plain = mixture(Concat(Marked(9)))
    assert read(plain, range(20)) == read(mixture(joined()), range(20))
    assert read(plain, range(20)) == read(mixture(joined(1, 1)), range(20))


def test_processes_and_resumption_change_nothing():
    """Two processes share each batch, and step 7 is the same whatever was read before."""
    weights = (1, 3)
    whole = mixture(joined(*weights))
    halves = [mixture(joined(*weights), rank=rank, world=2) for rank in (0, 1)]
    for step in (7, 0, 30):
        together = [i for half in halves for i in half[step]["index"].tolist()]
        assert together == whole[step]["index"].tolist()
    loader = torch.utils.data.DataLoader(whole, batch_size=None, num_workers=2, sampler=range(5, 9))
    assert torch.cat([b["index"] for b in loader]).tolist() == read(whole, range(5, 9))


def test_two_readings_of_an_image_have_crops_and_flips_of_their_own():
    """They are keyed by the position in the reading, not by the image."""
    batches = mixture(joined(1, 7))
    flips = {}
    for step in range(40):
        batch = batches[step]
        for index, flip in zip(batch["index"].tolist(), batch["flip"].tolist(), strict=True):
            flips.setdefault(index, set()).add(flip)
    assert all(flips[index] == {True, False} for index in range(5, 9))


def test_a_pool_image_has_one_label_however_often_it_is_read():
    pool = joined(1, 3)
    assert len(pool) == 9
    assert pool.fingerprint == joined().fingerprint  # so that labels are shared
    batches = mixture(Concat(Smooth(count=3, seed=1)), pool=pool)
    indices = read(batches, range(17), "pool_index")  # 8 a step: 8 epochs of 17
    assert Counter(indices) == {i: 8 * (3 if i >= 5 else 1) for i in range(9)}
    batch = batches[3]
    label = batch["pool_disparity"][:, 0, 0] * 100
    assert label.round().int().tolist() == batch["pool_index"].tolist()
    assert batch["pool_image"][:, 0, 0, 0].tolist() == batch["pool_index"].tolist()


def test_a_part_of_a_pool_keeps_its_weights():
    """The stabler half, by index."""
    chosen = np.array([0, 2, 5, 8])
    batches = mixture(Concat(Smooth(count=3, seed=1)), pool=joined(1, 3), chosen=chosen)
    indices = read(batches, range(8), "pool_index")  # 64 images: 8 epochs of 8
    assert Counter(indices) == {0: 8, 2: 8, 5: 24, 8: 24}


def test_what_replaces_damaged_images_keeps_the_weights():
    guarded = Replacing(joined(1, 3), known=[0])
    indices = read(mixture(guarded), range(17))  # 68 images: 4 epochs of 17
    assert Counter(indices) == {i: 4 * (3 if i >= 5 else 1) for i in range(9)}
    assert 0 not in read(mixture(guarded), range(17), "read")
