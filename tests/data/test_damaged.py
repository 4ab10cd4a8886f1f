"""Damaged images are replaced by a rule, with their own crop and label, written down once, and end
the run where there are too many."""

import csv

import numpy as np
import pytest
import torch
from helpers.training import Smooth
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from dalib.config import RunConfig
from dalib.data.catalogue import check_sources
from dalib.data.damaged import Ledger, Replacing, guarded, guarded_run, ledger
from dalib.data.mixture import Concat, Mixture, batches, fetch, pool_crop
from dalib.data.photos import PhotoFolder
from dalib.errors import DataError

SIZE = {"height": 16, "width": 16}


class Spoilt(Smooth):
    """Some of its images cannot be read; wide, so that each has a crop of its own."""

    def __init__(self, *, damaged, count=40, labelled=False):
        super().__init__(count=count, height=16, width=48, labelled=labelled)
        self.damaged = set(damaged)
        self.tried = []

    def _sample(self, index):
        self.tried.append(index)
        if index in self.damaged:
            raise DataError(f"photo-{index}.jpg: truncated,\ndamaged")
        return super()._sample(index)


class Labels:
    """Pseudo labels that say whose they are."""

    def get_batch(self, indices):
        return torch.from_numpy(np.asarray(indices)).float()[:, None, None].expand(-1, 16, 16)


def mixture(source, *, pseudo=None, **options):
    config = RunConfig(
        **SIZE, batch=4, steps=30, pseudo_labels=True, damaged_share=0.3, labelling="online"
    )
    labelled = Smooth(height=16, width=16)
    return Mixture(config=config, labelled=labelled, unlabelled=source, pseudo=pseudo, **options)


# the rule


@settings(max_examples=15)
@given(st.integers(2, 60), st.data())
def test_a_replacement_is_readable_and_follows_from_the_index_alone(count, data):
    damaged = data.draw(st.sets(st.integers(0, count - 1), max_size=count // 2))
    order = data.draw(st.permutations(range(count)))
    one, other = (Replacing(Spoilt(damaged=damaged, count=count)) for _ in range(2))
    found = {i: one[i]["read"] for i in range(count)}
    assert {i: other[i]["read"] for i in order} == found, "whatever was read before"
    assert all(found[i] == i for i in range(count) if i not in damaged)
    assert not damaged & set(found.values())
    plain = Smooth(count=count, height=16, width=48, labelled=False)
    assert all(torch.equal(one[i]["image"], plain[found[i]]["image"]) for i in found)


def test_a_damaged_shard_is_not_replaced_by_one_image():
    source = Replacing(Spoilt(damaged=range(100, 200), count=1000))
    assert len({source[i]["read"] for i in range(100, 200)}) > 85


def test_what_is_known_is_not_tried_again():
    source = Spoilt(damaged=[])
    replaced = Replacing(source, known=[3])
    assert replaced[3]["read"] != 3
    assert 3 not in source.tried


def test_nothing_can_be_read():
    with pytest.raises(DataError, match=r"(?s)photo-5\.jpg: .*nor could any of 32 others"):
        Replacing(Spoilt(damaged=range(40)))[5]
    with pytest.raises(IndexError, match="no sample 40"):
        Replacing(Spoilt(damaged=[]))[40]


def test_only_where_the_run_allows_it():
    source = Spoilt(damaged=[0])
    assert guarded(source, RunConfig()) is source
    with pytest.raises(DataError, match="photo-0"):
        fetch(source, np.array([0]), **SIZE)
    assert fetch(guarded(source, RunConfig(damaged_share=0.1)), np.array([0]), **SIZE)["read"] != 0


def test_other_faults_are_not_hidden():
    class Broken(Smooth):
        def _sample(self, index):
            raise KeyError("a fault of the program")

    with pytest.raises(KeyError):
        Replacing(Broken())[0]


# in batches


def test_a_replacement_brings_its_own_crop_and_label():
    """So that they fit, whenever the damage was found: label and crop are those of the image that
    is seen."""
    whole = Smooth(count=40, height=16, width=48, labelled=False)
    batch_of = mixture(Replacing(Spoilt(damaged=range(0, 40, 4))), pseudo=Labels())
    replaced = 0
    for step in range(10):
        batch = batch_of[step]
        read = batch["pool_read"].numpy()
        expected = fetch(whole, read, crop=pool_crop(read), **SIZE)["image"]
        flip = batch["pool_flip"][:, None, None, None]
        assert torch.equal(batch["pool_image"], torch.where(flip, expected.flip(-1), expected))
        assert batch["pool_disparity"][:, 0, 0].tolist() == read.tolist()
        assert not np.isin(read, range(0, 40, 4)).any()
        replaced += int((batch["pool_read"] != batch["pool_index"]).sum())
        assert "read" not in batch, "the labelled source replaces nothing"
    assert replaced == 20, "two epochs of ten damaged images"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2])
def test_workers_and_processes_replace_alike(workers, world):
    expected = mixture(Replacing(Spoilt(damaged=[1, 2, 30])))
    parts = [
        DataLoader(
            mixture(Replacing(Spoilt(damaged=[1, 2, 30])), rank=rank, world=world),
            batch_size=None,
            sampler=range(3, 9),
            num_workers=workers,
        )
        for rank in range(world)
    ]
    for step, pieces in enumerate(zip(*map(batches, parts), strict=True), 3):
        for key, value in expected[step].items():
            assert torch.equal(torch.cat([p[key] for p in pieces]), value), key


def test_a_source_of_whole_batches_stays_one():
    class Batched(Smooth):
        height, width = 16, 16

        def get_batch(self, indices):
            return {"image": torch.zeros(len(indices), 3, 16, 16, dtype=torch.uint8), "domain": []}

    for source in (Batched(), Concat(Batched())):
        got = fetch(Replacing(source), np.array([2, 5]), **SIZE)
        assert got["read"].tolist() == [2, 5]
        assert got["image"].unique().tolist() == [0]


def test_the_fingerprint_is_the_sources():
    source = Spoilt(damaged=[1])
    assert Replacing(source).fingerprint == source.fingerprint
    assert len(Replacing(source)) == 40


# the list


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_damaged_image_is_written_once(tmp_path):
    config = RunConfig(damaged_share=0.3)
    told = []
    source = Replacing(Spoilt(damaged=[4, 7]))
    noted = ledger(
        tmp_path, config, sources={"labelled": None, "unlabelled": source}, report=told.append
    )
    assert noted.counts() == {"unlabelled": 0}
    loader = DataLoader(mixture(source), batch_size=None, sampler=range(12), num_workers=2)
    for batch in batches(loader):
        noted.note_batch(batch)
    found = rows(tmp_path / "damaged.csv")
    assert sorted(int(row["index"]) for row in found) == [4, 7]
    for row in found:
        assert row["role"] == "unlabelled"
        assert int(row["read"]) == source[int(row["index"])]["read"]
        assert row["why"] == f"photo-{row['index']}.jpg: truncated, damaged"
    assert noted.counts() == {"unlabelled": 2}
    assert len(told) == 2
    assert "image 4 is damaged" in "".join(told)


def test_without_damage_there_is_no_list(tmp_path):
    assert ledger(tmp_path, RunConfig(), sources={}) is None
    noted = ledger(
        tmp_path, RunConfig(damaged_share=0.1), sources={"unlabelled": Spoilt(damaged=[])}
    )
    noted.note_batch({"pool_index": torch.arange(3), "pool_read": torch.arange(3)})
    noted.note_batch({"index": torch.arange(3)})
    assert not list(tmp_path.iterdir())


def test_processes_share_the_list_and_a_resumed_run_goes_on_with_it(tmp_path):
    sources = {"unlabelled": Replacing(Spoilt(damaged=[4, 7, 9]))}
    given = {"sources": sources, "share": 0.1, "report": lambda line: None}
    one, other = (Ledger(tmp_path / "damaged.csv", **given) for _ in range(2))
    one.note("unlabelled", np.array([4, 5]), np.array([20, 5]))
    other.note("unlabelled", np.array([4, 7]), np.array([20, 21]))
    one.note("unlabelled", np.array([7]), np.array([21]))
    assert [row["index"] for row in rows(tmp_path / "damaged.csv")] == ["4", "7"]
    with (tmp_path / "damaged.csv").open("a") as file:
        file.write("unlabelled,8")  # by a process that was killed
    again = Ledger(tmp_path / "damaged.csv", **given)
    assert again.found == {"unlabelled": {4, 7}}
    again.note("unlabelled", np.array([9]), np.array([22]))
    assert again.counts() == {"unlabelled": 3}
    assert rows(tmp_path / "damaged.csv")[-1]["index"] == "9"


def test_a_run_that_goes_on_does_without_what_it_did_without(tmp_path):
    """Also where the image can be read by now: the rest of the run is as it would have been."""
    config = RunConfig(damaged_share=0.1)
    before = {"labelled": Smooth(), "unlabelled": Spoilt(damaged=[4])}
    sources, noted = guarded_run(tmp_path, config, before, report=lambda line: None)
    first = sources["unlabelled"][4]["read"]
    noted.note("unlabelled", np.array([4]), np.array([first]))
    repaired = before | {"unlabelled": Spoilt(damaged=[])}
    sources, noted = guarded_run(tmp_path, config, repaired)
    assert sources["unlabelled"][4]["read"] == first
    assert noted.counts() == {"labelled": 0, "unlabelled": 1}
    sources, noted = guarded_run(tmp_path, RunConfig(), before | {"unlabelled": None})
    assert (sources["labelled"], sources["unlabelled"], noted) == (before["labelled"], None, None)


def test_above_the_share_the_run_ends(tmp_path):
    """Four of forty may be damaged; with the fifth, whoever noted the others, it ends."""
    given = {
        "sources": {"unlabelled": Spoilt(damaged=[])},
        "share": 0.1,
        "report": lambda line: None,
    }
    one, other = (Ledger(tmp_path / "damaged.csv", **given) for _ in range(2))
    one.note("unlabelled", np.array([1, 2]), np.array([9, 9]))
    other.note("unlabelled", np.array([3, 4]), np.array([9, 9]))
    with pytest.raises(
        DataError, match=r"damaged\.csv: 5 of the 40 unlabelled images .* 0\.1 allows"
    ):
        one.note("unlabelled", np.array([5]), np.array([9]))
    with pytest.raises(DataError, match="5 of the 40"):  # nor does it go on
        guarded_run(tmp_path, RunConfig(damaged_share=0.1), given["sources"])


def test_a_list_that_cannot_be_written(tmp_path):
    noted = Ledger(
        tmp_path / "file" / "damaged.csv", sources={"unlabelled": Spoilt(damaged=[])}, share=0.5
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"damaged\.csv: could not be written"):
        noted.note("unlabelled", np.array([5]), np.array([9]))


def test_a_damaged_first_image_does_not_end_the_look_before_training(tmp_path):
    from PIL import Image

    for name in "abc":
        Image.new("RGB", (16, 16)).save(tmp_path / f"{name}.png")
    (tmp_path / "a.png").write_bytes(b"no picture")
    config = RunConfig(
        labelled=("skimage:motorcycle",),
        unlabelled=(f"photos:{tmp_path}",),
        pseudo_labels=True,
        labelling="online",
    )
    with pytest.raises(DataError, match=r"a\.png"):
        check_sources(config)
    check_sources(config.replace(damaged_share=0.4))
    assert Replacing(PhotoFolder(tmp_path))[0]["read"] in (1, 2)
