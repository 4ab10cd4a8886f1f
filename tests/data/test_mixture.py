"""Batches as a function of the step: the ratio, sharding, epochs, augmentation, and that nothing
else matters."""

import numpy as np
import pytest
import torch
from helpers.training import Smooth
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from dalib.blocks import GivenTeacher
from dalib.config import RunConfig
from dalib.data.damaged import Replacing
from dalib.data.mixture import (
    WINDOW,
    Batch,
    Concat,
    Mixture,
    batches,
    fetch,
    mix,
    pool_crop,
    shuffled,
    shuffled_in_blocks,
    uniform,
)
from dalib.data.photos import PhotoFolder
from dalib.data.schema import Source, resize_and_crop
from dalib.data.streams import Order, Stream, order_key
from dalib.data.subset import Subset
from dalib.errors import ConfigError, DataError

SIZE = {"height": 64, "width": 96}


class Labels:
    """Pseudo labels that can be told apart: image i has i + the column's number / 1000."""

    def get_batch(self, indices):
        columns = torch.arange(96) / 1000
        return (
            (torch.from_numpy(np.asarray(indices)).float()[:, None, None] + columns)
            .expand(-1, 64, 96)
            .clone()
        )


class Numbered(Source):
    """Image, disparity and valid of sample i all show i and the column, at any size; with a batch
    reader on request."""

    domain = "numbered"

    def __init__(self, count, *, height=64, width=96):
        self.count, self.shape, self.fingerprint = (
            count,
            (height, width),
            f"{count:04x}{height:04x}{width:04x}",
        )

    def __len__(self):
        return self.count

    def _sample(self, index):
        column = torch.arange(self.shape[1]).expand(self.shape)
        image = torch.stack([torch.full(self.shape, index), column, torch.zeros(self.shape)])
        return {
            "image": image.to(torch.uint8),
            "disparity": column.float() + 1,
            "valid": column >= self.shape[1] // 4,
            "domain": self.domain,
        }


def config(**changes):
    return RunConfig(**SIZE, batch=4, steps=50).replace(**changes)


def mixture(*, rank=0, world=1, labelled=23, pool=31, **changes):
    return Mixture(
        config=config(pseudo_labels=True, **changes),
        labelled=Numbered(labelled),
        unlabelled=Numbered(pool),
        pseudo=Labels(),
        rank=rank,
        world=world,
    )


def same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key


# hashes and permutations


def test_mix_is_splitmix64():
    """The first outputs of SplitMix64 from state 0, as its author's C code gives them; our chain of
    one word 0."""
    states = np.array([0, 0x9E3779B97F4A7C15], dtype=np.uint64)
    assert mix(states).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_mix_works_element_by_element():
    words = np.arange(5)
    assert mix(3, words).tolist() == [int(mix(3, words[i : i + 1])[0]) for i in range(5)]
    assert (
        len(set(mix(words, 3).tolist()) | set(mix(3, words).tolist())) == 9
    )  # the order of the words counts; (3, 3) is shared


def test_uniform_is_uniform():
    values = uniform(7, np.arange(20000))
    assert values.min() >= 0
    assert values.max() < 1
    assert np.histogram(values, 10, (0, 1))[0] == pytest.approx(np.full(10, 2000), abs=200)
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03
    assert abs(np.corrcoef(values, uniform(8, np.arange(20000)))[0, 1]) < 0.03


@settings(max_examples=40)
@given(st.integers(1, 3000), st.integers(0, 2**40), st.integers(0, 2**20))
def test_every_index_exactly_once_per_epoch(count, key, epoch):
    positions = epoch * count + np.arange(count)
    assert np.array_equal(np.sort(shuffled(positions, count, key=key)), np.arange(count))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16, 17, 1024, 1025, 4095, 4096, 4097])
def test_every_index_exactly_once_at_the_edges(count):
    for epoch in range(3):
        got = shuffled(epoch * count + np.arange(count), count, key=0)
        assert np.array_equal(np.sort(got), np.arange(count))


def test_epochs_and_keys_differ():
    first, second = (shuffled(e * 500 + np.arange(500), 500, key=3) for e in (0, 1))
    other = shuffled(np.arange(500), 500, key=4)
    for a, b in ((first, second), (first, other), (first, np.arange(500))):
        assert (a == b).sum() < 10
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.15


def test_shuffling_is_random_access():
    whole = shuffled(np.arange(400), 77, key=1)
    assert [int(shuffled(np.array([p]), 77, key=1)[0]) for p in (0, 5, 76, 77, 399)] == whole[
        [0, 5, 76, 77, 399]
    ].tolist()


# in blocks of neighbours


@settings(max_examples=40)
@given(st.integers(1, 700), st.integers(1, 90), st.integers(0, 2**40), st.integers(0, 2**20))
def test_blocks_give_every_index_exactly_once_per_epoch(count, block, key, epoch):
    positions = epoch * count + np.arange(count)
    got = shuffled_in_blocks(positions, count, block=block, key=key)
    assert np.array_equal(np.sort(got), np.arange(count))


def test_blocks_are_random_access_and_differ_between_epochs_and_keys():
    whole = shuffled_in_blocks(np.arange(2000), 500, block=10, key=3)
    for places in ([0], [499, 500, 1999], [77, 3, 1200]):
        got = shuffled_in_blocks(np.array(places), 500, block=10, key=3)
        assert got.tolist() == whole[places].tolist()
    other = shuffled_in_blocks(np.arange(500), 500, block=10, key=4)
    for a, b in ((whole[:500], whole[500:1000]), (whole[:500], other)):
        assert (a == b).sum() < 12
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.15


def test_a_window_is_of_few_blocks_of_neighbours():
    """In any window of 8 x 10 positions no more than eight blocks are read, whole, and mixed; over
    the epochs their cuts move."""
    count, block = 997, 10
    cuts = set()
    for epoch in range(4):
        got = shuffled_in_blocks(epoch * count + np.arange(count), count, block=block, key=1)
        for start in range(0, count, WINDOW * block):
            window = got[start : start + WINDOW * block]
            steps = np.diff(np.sort(window))
            assert (steps != 1).sum() <= WINDOW + 1  # one more where the ring's ends meet
            assert (np.diff(window) == 1).sum() < 6, "shuffled"
        first = np.sort(got[: WINDOW * block])
        cuts |= set(first[1:][np.diff(first) != 1] % block)
    assert len(cuts) > 2


def test_blocks_as_large_as_the_source_are_one_window():
    got = shuffled_in_blocks(np.arange(500), 500, block=500, key=1)
    assert (got[:-1] + 1 == got[1:]).sum() < 6


@pytest.mark.parametrize("world", [1, 2, 4])
def test_any_number_of_processes_reads_the_same_blocks(world):
    whole = mixture(shuffle_block=3)
    parts = [mixture(rank=rank, world=world, shuffle_block=3) for rank in range(world)]
    for step in (0, 5, 17):
        pieces = [p[step] for p in parts]
        same({k: torch.cat([p[k] for p in pieces]) for k in pieces[0]}, whole[step])
    assert not torch.equal(whole[0]["pool_index"], mixture()[0]["pool_index"])


# batches


def test_one_labelled_to_two_unlabelled():
    batch = mixture()[0]
    assert batch["image"].shape == (4, 3, 64, 96)
    assert batch["pool_image"].shape == (8, 3, 64, 96)
    assert (batch["image"].dtype, batch["disparity"].dtype, batch["valid"].dtype) == (
        torch.uint8,
        torch.float32,
        torch.bool,
    )
    assert len(mixture(unlabelled_ratio=5)[0]["pool_image"]) == 20


def test_labelled_only_has_no_pool():
    batch = Mixture(config=config(), labelled=Numbered(5))[0]
    assert not [k for k in batch if k.startswith("pool")]


@pytest.mark.parametrize(
    ("changes", "given", "missing"),
    [
        ({}, {"pseudo": Labels()}, {"pool_semantics", "pool_seen"}),
        ({"labelling": "oracle"}, {}, {"pool_semantics", "pool_seen"}),
        (
            {"labelling": "online"},
            {"seen": (32, 48)},
            {"pool_semantics", "pool_disparity", "pool_valid"},
        ),
        ({"segmentation_weight": 1.0}, {"pseudo": Labels()}, {"pool_seen"}),
    ],
)
def test_a_batch_holds_what_its_page_says(changes, given, missing):
    """Every key of `Batch`, save what the run does without, with the stated types and shapes; what
    was read is said where damaged images are replaced."""

    class Classed(Numbered):
        def _sample(self, index):
            sample = super()._sample(index)
            return sample | {"semantics": sample["image"][1]}

    batch = Mixture(
        config=config(pseudo_labels=True, **changes),
        labelled=Numbered(5),
        unlabelled=Classed(7),
        **given,
    )[0]
    stated = Batch.__annotations__
    # classes of labelled images are read for segmentation alone, which has no pool
    assert set(batch) == set(stated) - missing - {"read", "pool_read", "semantics"}
    for key, value in batch.items():
        assert isinstance(value, stated[key]), key
        assert len(value) == (8 if key.startswith("pool_") else 4), key
    alone = Mixture(config=config(task="segmentation"), labelled=Classed(7))[0]
    assert set(alone) == {"image", "semantics", "flip", "index", "position"}
    assert all(isinstance(value, stated[key]) for key, value in alone.items())


def test_the_table_of_streams_stays_as_the_records_have_it():
    """Each number once; crops of the pool by index alone, all else by seed and position."""
    assert [s.value for s in Stream] == list(range(1, 10))
    assert [order_key(seed, order) for seed in (0, 1) for order in Order] == [0, 1, 2, 3]
    batch = mixture(seed=3)[2]
    for prefix, stream, size in (("", Stream.LABELLED_FLIP, 4), ("pool_", Stream.POOL_FLIP, 8)):
        positions = 2 * size + np.arange(size)
        assert batch[f"{prefix}position"].tolist() == positions.tolist()
        assert (
            batch[f"{prefix}flip"].tolist() == (uniform(3, int(stream), positions) < 0.5).tolist()
        )
    indices = np.arange(9)
    assert np.array_equal(
        pool_crop(indices), np.stack([uniform(1, indices), uniform(2, indices)], 1)
    )


@pytest.mark.parametrize(("prefix", "count", "size"), [("", 23, 4), ("pool_", 31, 8)])
def test_epochs_are_walked_through(prefix, count, size):
    """Read in order, each stream shows every image once before it shows one twice."""
    batches = mixture()
    seen = torch.cat([batches[k][f"{prefix}index"] for k in range(3 * count // size + 1)])
    for epoch in range(3):
        assert sorted(seen[epoch * count : (epoch + 1) * count].tolist()) == list(range(count))


def test_the_image_is_the_one_of_the_index():
    batch = mixture()[3]
    for prefix in ("", "pool_"):
        assert batch[f"{prefix}image"][:, 0, 5, 5].tolist() == batch[f"{prefix}index"].tolist()
    assert batch["pool_disparity"][:, 0, 0].round().long().tolist() == batch["pool_index"].tolist()


@pytest.mark.parametrize("world", [2, 4])
def test_slices_of_all_processes_make_the_batch(world):
    whole = mixture()
    parts = [mixture(rank=rank, world=world) for rank in range(world)]
    for step in (0, 1, 17):
        pieces = [p[step] for p in parts]
        same({k: torch.cat([p[k] for p in pieces]) for k in pieces[0]}, whole[step])


def test_any_batch_comes_without_the_ones_before():
    """A fresh mixture's batch 11 is the batch 11 of one that has read on from the start."""
    old = mixture()
    for step in range(11):
        old[step]
    same(old[11], mixture()[11])


def test_seeds_differ():
    assert not torch.equal(mixture(seed=0)[0]["index"], mixture(seed=1)[0]["index"])
    one, other = mixture(seed=0, labelled=31), mixture(seed=1, labelled=31)
    # the two streams are shuffled differently
    assert not torch.equal(one[0]["index"][:4], one[0]["pool_index"][:4])
    assert not torch.equal(one[0]["pool_index"], other[0]["pool_index"])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_do_not_matter(workers):
    batches, expected = mixture(), mixture()
    loader = DataLoader(batches, batch_size=None, sampler=range(5, 9), num_workers=workers)
    for step, batch in enumerate(loader, 5):
        same(batch, expected[step])


def test_flips_are_consistent():
    """Image, disparity and valid turn together, about half of the images turn, and a pseudo label
    turns with its image."""
    turned = []
    batches = mixture()
    for step in range(40):
        batch = batches[step]
        column = batch["image"][:, 1, 0].float()  # what column of the source each column shows
        assert torch.equal(batch["disparity"][:, 0], column + 1)
        assert torch.equal(batch["valid"][:, 0], column >= 24)
        pool_column = batch["pool_image"][:, 1, 0].float()
        expected = batch["pool_index"][:, None] + pool_column / 1000
        assert torch.allclose(batch["pool_disparity"][:, 0], expected, atol=1e-5)
        turned += (column[:, 0] > column[:, -1]).tolist() + (
            pool_column[:, 0] > pool_column[:, -1]
        ).tolist()
    assert np.mean(turned) == pytest.approx(0.5, abs=0.08)


def test_flips_differ_between_epochs():
    batches = mixture(labelled=4)
    flipped = {
        tuple((b["image"][:, 1, 0, 0] > 0)[b["index"].argsort()].tolist())
        for b in map(batches.__getitem__, range(12))
    }
    assert len(flipped) > 3


def test_pseudo_labels_that_are_not_finite_are_not_valid():
    class Holes(Labels):
        def get_batch(self, indices):
            maps = super().get_batch(indices)
            maps[:, :, :10] = torch.nan
            return maps

    batch = Mixture(
        config=config(pseudo_labels=True),
        labelled=Numbered(5),
        unlabelled=Numbered(5),
        pseudo=Holes(),
    )[0]
    assert torch.equal(batch["pool_valid"], torch.isfinite(batch["pool_disparity"]))
    assert (~batch["pool_valid"]).sum() == 8 * 64 * 10


@pytest.mark.parametrize(
    ("world", "changes", "message"),
    [
        (3, {}, "batch: 4 images cannot be shared evenly by 3"),
        (
            4,
            {"unlabelled_ratio": 1, "perturb": ("cutmix",)},
            "unlabelled_ratio: 4 images .* by 4 processes in CutMix pairs",
        ),
    ],
)
def test_batches_that_cannot_be_shared(world, changes, message):
    with pytest.raises(ConfigError, match=message):
        mixture(world=world, **changes)


def test_labelled_photographs_without_ground_truth():
    with pytest.raises(DataError, match=r"labelled: no ground truth in.*smooth"):
        Mixture(config=config(), labelled=Smooth(labelled=False))[0]


# sources of any size


def test_concat_by_hand():
    both = Concat(Numbered(3), Numbered(2), Numbered(4))
    assert len(both) == 9
    assert [int(s["image"][0, 0, 0]) for s in both] == [0, 1, 2, 0, 1, 0, 1, 2, 3]
    assert int(both[-1]["image"][0, 0, 0]) == 3
    with pytest.raises(IndexError):
        both[9]


def test_concat_fingerprints():
    """Hexadecimal, and different as soon as one of the sources differs or their order does."""
    a, b, c = Numbered(3), Numbered(2), Numbered(4)
    prints = [Concat(*s).fingerprint for s in ((a,), (a, b), (b, a), (a, c), (a, b, c))]
    assert prints[0] == a.fingerprint
    assert len({p[:12] for p in prints}) == 5  # folders of pseudo labels are named by twelve digits
    assert all(int(p, 16) >= 0 for p in prints)


def test_fetch_brings_different_sizes_to_one():
    both = Concat(Numbered(2, height=64, width=96), Numbered(2, height=100, width=120))
    indices = np.array([3, 0, 2])
    crop = np.array([[0.0, 1.0], [0.5, 0.5], [0.25, 0.75]])
    batch = fetch(both, indices, **SIZE, crop=crop)
    for place, (i, position) in enumerate(zip(indices, crop, strict=True)):
        expected = resize_and_crop(both[int(i)], **SIZE, position=tuple(position))
        for key in ("image", "disparity", "valid"):
            assert torch.equal(batch[key][place], expected[key])
    assert batch["domain"] == ["numbered"] * 3
    assert batch["image"].shape == (3, 3, 64, 96)


def test_fetch_crops_in_the_centre_by_default():
    got = fetch(Numbered(2, height=64, width=128), np.array([1]), **SIZE)
    assert got["image"][0, 1, 0, [0, -1]].tolist() == [16, 111]


def test_fetch_takes_whole_batches_where_the_size_fits():
    class Batched(Numbered):
        height, width = 64, 96

        def get_batch(self, indices):
            return {
                "image": torch.full((len(indices), 3, 64, 96), 7, dtype=torch.uint8),
                "domain": ["b"] * len(indices),
            }

    for source in (Batched(5), Concat(Batched(5))):
        assert fetch(source, np.array([1, 2]), **SIZE)["image"].unique().tolist() == [7]
        assert fetch(source, np.array([1, 2]), height=32, width=48)["image"].shape == (2, 3, 32, 48)
    assert fetch(Concat(Batched(5), Numbered(2)), np.array([1, 6]), **SIZE)["image"][
        :, 0, 0, 0
    ].tolist() == [1, 1]


def test_fetch_mixes_labelled_and_unlabelled_sources():
    """A pool may hold scenes and photographs; what not all have is left out."""
    batch = fetch(
        Concat(Smooth(count=2), Smooth(count=2, labelled=False)), np.array([0, 3]), **SIZE
    )
    assert set(batch) == {"image", "domain"}


def test_pool_crops_belong_to_the_index():
    """So that the stored label shows the same pixels in every epoch, in labelling and in
    training."""
    crops = pool_crop(np.arange(500))
    assert np.array_equal(pool_crop(np.array([499, 3])), crops[[499, 3]])
    assert crops.shape == (500, 2)
    assert abs(np.corrcoef(crops.T)[0, 1]) < 0.15
    wide = Mixture(
        config=config(pseudo_labels=True),
        labelled=Numbered(5),
        unlabelled=Numbered(4, height=64, width=200),
        pseudo=Labels(),
    )
    lefts = {}
    for step in range(6):
        batch = wide[step]
        for image, index in zip(batch["pool_image"], batch["pool_index"].tolist(), strict=True):
            lefts.setdefault(index, set()).add(int(image[1].min()))
    assert all(len(left) == 1 for left in lefts.values())
    assert len(set.union(*lefts.values())) > 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_named_in_one_line(tmp_path, workers):
    """Also by a loader process, whose errors come as a traceback in words."""
    Image.new("RGB", (16, 16)).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    config = RunConfig(
        height=16, width=16, batch=2, steps=3, pseudo_labels=True, labelling="online"
    )
    mixture = Mixture(config=config, labelled=Smooth(), unlabelled=PhotoFolder(tmp_path))
    loader = DataLoader(mixture, batch_size=None, num_workers=workers)
    with pytest.raises(DataError) as raised:
        list(batches(loader))
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / 'cut.png'}: ")
    assert "\n" not in message
    assert "Traceback" not in message


class Counting(Smooth):
    """Which notes what is read of it."""

    def __init__(self, *, alike: bool):
        super().__init__(count=6, height=48, width=80, labelled=False)
        self.alike = alike
        self.noted: list[int] = []

    @property
    def reads_alike(self) -> bool:
        return self.alike

    def _sample(self, index):
        self.noted.append(index)
        return super()._sample(index)


def test_a_second_size_for_the_teacher_costs_no_second_reading(tiny):
    """Where a source reads alike for each size; the same batch comes out either way."""
    given = GivenTeacher(weights="given.safetensors")
    config = tiny.replace(
        pseudo_labels=True, labelling="online", labelled=(), perturb=(), teacher=given
    )
    batches = {}
    for alike in (True, False):
        pool = Counting(alike=alike)
        mixture = Mixture(config=config, labelled=None, unlabelled=Concat(pool), seen=(32, 48))
        batches[alike] = mixture[0]
        images = batches[alike]["pool_index"].tolist()
        assert sorted(pool.noted) == sorted(images * (1 if alike else 2))
    assert batches[True]["pool_seen"].shape[-2:] == (32, 48)
    for name, values in batches[True].items():
        assert torch.equal(values, batches[False][name]), name


def test_which_sources_read_alike_for_every_size(tmp_path):
    Image.new("RGB", (96, 64)).save(tmp_path / "a.jpg")
    plain, draft = (PhotoFolder(tmp_path, draft=draft) for draft in (False, True))
    for wrap in (lambda x: x, Concat, Replacing, lambda x: Subset(x, np.array([0]))):
        assert wrap(plain).reads_alike
        assert not wrap(draft).reads_alike
    assert not Concat(plain, draft).reads_alike
