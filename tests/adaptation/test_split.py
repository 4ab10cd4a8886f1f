"""Which photographs are kept back: a function of the photograph, near doubles together."""

import numpy as np
import pytest
import torch
from helpers.training import Smooth
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dalib.adaptation import Split, Subset, keep_back, split
from dalib.data.mixture import Concat, fetch
from dalib.data.photos import PhotoFolder
from dalib.data.schema import Source
from dalib.errors import ConfigError, DataError


class Named(Source):
    """Photographs of which only names are known: a look at one fails."""

    domain = "named"

    def __init__(self, names):
        self.names = names
        self.fingerprint = "0" * 16

    def __len__(self):
        return len(self.names)

    def _sample(self, index):
        raise AssertionError("looked at")


def pictures(folder, count, *, first=0, copies=()):
    """JPEG files of random cells, and smaller copies of some of them."""
    folder.mkdir(exist_ok=True)
    for k in range(first, first + count):
        cells = np.random.default_rng(k).integers(0, 255, (12, 16, 3), dtype=np.uint8)
        picture = Image.fromarray(cells).resize((320, 240), Image.Resampling.NEAREST)
        picture.save(folder / f"{k:03d}.jpg")
        if k in copies:
            picture.resize((200, 150)).save(folder / f"copy of {k:03d}.jpg", quality=60)
    return PhotoFolder(folder)


def test_the_two_sides_are_all_and_share_nothing():
    found = keep_back(Named([f"{k}.jpg" for k in range(1000)]), look=False)
    both = np.concatenate([found.training, found.kept])
    assert sorted(both.tolist()) == list(range(1000))
    assert 70 <= len(found.kept) <= 130  # binomial(1000, 0.1): 100 with a deviation of 9.5


def test_whoever_is_added_moves_nobody():
    names = [f"{k}.jpg" for k in range(400)]
    few = {names[k] for k in keep_back(Named(names), look=False).kept}
    more = ["a.jpg", *names, *(f"new {k}.jpg" for k in range(300))]
    many = {more[k] for k in keep_back(Named(more), look=False).kept}
    assert {name for name in many if name in set(names)} == few


def test_another_seed_keeps_others_back():
    source = Named([f"{k}.jpg" for k in range(400)])
    kept = [set(keep_back(source, look=False, seed=s).kept.tolist()) for s in (0, 0, 1)]
    assert kept[0] == kept[1] != kept[2]
    assert len(kept[0] & kept[2]) < 20  # by chance: 400 / 100


def test_a_large_pool_is_not_looked_at_and_gives_up_no_more_than_it_must(monkeypatch):
    monkeypatch.setattr(split, "LOOKED_AT", 100)
    found = keep_back(Named([f"{k}.jpg" for k in range(5000)]), most=200)
    assert not found.checked
    assert 150 <= len(found.kept) <= 250


def test_near_doubles_are_on_one_side(tmp_path):
    copies = range(0, 60, 2)
    source = pictures(tmp_path / "pool", 60, copies=copies)
    sides = []
    for seed in range(6):
        found = keep_back(source, seed=seed)
        names = [bytes(source.names[int(k)].as_py()).decode() for k in found.kept]
        sides.append(names)
        for name in names:
            twin = name.removeprefix("copy of ") if name.startswith("copy") else f"copy of {name}"
            if int(name[-7:-4]) in copies:
                assert twin in names
        assert (found.checked, found.doubles) == (True, 60)
    assert any(name.startswith("copy") for names in sides for name in names)


def test_hashes_that_somebody_has_are_taken():
    """Places 0 to 19 are one picture: too large a group to be kept back."""
    hashes = [0] * 20 + [(1 << 20) * k * 0x1234567 % 2**64 for k in range(1, 81)]
    found = keep_back(Named([f"{k}" for k in range(100)]), hashes=hashes, seed=3)
    assert set(range(20)) <= set(found.training.tolist())
    assert found.checked
    assert found.doubles >= 20


@pytest.mark.parametrize(("count", "more"), [(3, 7), (9, 1)])
def test_too_few_says_how_many(count, more):
    with pytest.raises(ConfigError, match=rf"{count} photographs: at least 10 .* add {more}"):
        keep_back(Smooth(count=count))


def test_few_keep_five():
    found = keep_back(Smooth(count=10, labelled=False))
    assert (len(found.kept), len(found.training)) == (5, 5)


def test_one_picture_ten_times_is_refused():
    with pytest.raises(ConfigError, match="nearly all of them near doubles"):
        keep_back(Named([f"{k}" for k in range(12)]), hashes=[7] * 12)


@settings(max_examples=40)
@given(
    count=st.integers(10, 60),
    kinds=st.integers(6, 60),
    share=st.floats(0.02, 0.5),
    seed=st.integers(0, 99),
)
def test_no_group_is_ever_cut(count, kinds, share, seed):
    draw = np.random.default_rng([count, kinds, seed])
    group = draw.integers(0, kinds, count)
    hashes = [int(g) * 0x9E3779B97F4A7C15 % 2**64 for g in group]
    source = Named([f"{k}.jpg" for k in range(count)])
    try:
        found = keep_back(source, share=share, seed=seed, hashes=hashes)
    except ConfigError:
        return
    assert not set(group[found.kept].tolist()) & set(group[found.training].tolist())
    assert len(found.kept) >= 5 <= len(found.training)


def test_a_photograph_that_cannot_be_read_is_named(tmp_path):
    source = pictures(tmp_path / "pool", 12)
    (tmp_path / "pool" / "005.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"005\.jpg"):
        keep_back(source)


def test_names_reach_through_subsets_and_concatenations():
    """The same photographs are kept back, whatever is around their source."""
    names = [f"{k}.jpg" for k in range(200)]
    plain = keep_back(Named(names), look=False).kept
    parts = Concat(Named(names[:50]), Named(names[50:]))
    assert keep_back(parts, look=False).kept.tolist() == plain.tolist()
    back = Subset(Named(names), np.arange(200)[::-1])
    assert sorted(199 - keep_back(back, look=False).kept) == plain.tolist()


class TestSubset:
    def test_is_those_samples_in_that_order(self):
        source = Smooth(count=6)
        some = Subset(source, np.array([4, 1]))
        assert len(some) == 2
        assert torch.equal(some[1]["image"], source[1]["image"])
        assert torch.equal(some[-2]["disparity"], source[4]["disparity"])

    def test_fingerprint_is_of_content_and_choice(self):
        one, other = Smooth(count=6), Smooth(count=6, seed=1)
        prints = [
            Subset(source, np.array(chosen)).fingerprint
            for source, chosen in ((one, [0, 1]), (one, [1, 0]), (one, [0]), (other, [0, 1]))
        ]
        assert len(set(prints)) == 4
        assert prints[0] == Subset(Smooth(count=6), np.array([0, 1])).fingerprint

    def test_batches_of_a_source_that_stacks_them(self):
        class Stacks(Smooth):
            height, width = 64, 96

            def get_batch(self, indices):
                return {"image": torch.stack([self[int(i)]["image"] for i in indices])}

        source = Stacks(count=6)
        some = Subset(source, np.array([5, 3, 0]))
        batch = fetch(some, np.array([2, 0]), height=64, width=96)
        assert torch.equal(batch["image"][0], source[0]["image"])
        assert torch.equal(batch["image"][1], source[5]["image"])

    def test_what_is_not_there_is_refused(self):
        with pytest.raises(DataError, match="6 is none of the 6 samples"):
            Subset(Smooth(count=6), np.array([0, 6]))


def test_a_split_is_a_plain_value():
    found = keep_back(Smooth(count=20, labelled=False))
    assert isinstance(found, Split)
    assert found.seed == 0


def test_of_a_pool_too_large_to_look_at_those_kept_back_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(split, "LOOKED_AT", 10)
    pictures(tmp_path / "p", 40)
    source = PhotoFolder(tmp_path / "p")
    kept = keep_back(source, least=3).kept
    broken = int(kept[0])
    (tmp_path / "p" / source.name_of(broken)).write_bytes(b"\xff\xd8 and no more")
    with pytest.raises(DataError, match=source.name_of(broken)):
        keep_back(source, least=3, whole=True)
    found = keep_back(source, least=3, damaged_share=0.9, whole=True)
    assert set(found.kept.tolist()) == set(kept.tolist()) - {broken}
    assert broken in found.training
