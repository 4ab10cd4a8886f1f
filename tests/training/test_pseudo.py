"""Pseudo labels: what is stored, by whom, whole or not at all."""

import json
import shutil

import numpy as np
import pytest
import torch
from helpers.training import Smooth
from safetensors.torch import load_file, save_file

from dalib.data.mixture import fetch, pool_crop
from dalib.errors import DataError
from dalib.models import build
from dalib.training import pseudo
from dalib.training.pseudo import PseudoLabels, finish, label, unit_range

SIZE = {"height": 64, "width": 96}


@pytest.fixture(scope="module")
def teacher():
    return build("lite0", seed=3)


@pytest.fixture(scope="module")
def pool():
    """Wider than the labels, so that each image has a crop."""
    return Smooth(count=10, width=140, seed=1, labelled=False)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(pseudo, "SHARD", 4)


@pytest.fixture(scope="module")
def made(tmp_path_factory, teacher, pool):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pseudo, "SHARD", 4)
        out = tmp_path_factory.mktemp("labels")
        label(teacher, pool, out=out, teacher="beef", batch=3, **SIZE)
        finish(out, teacher="beef", source=pool, **SIZE)
    return out


@pytest.fixture
def labels(made, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(made, tmp_path / "labels")


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_unit_range_by_hand():
    maps = torch.tensor([[[2.0, 4, 6]], [[7, 7, 7]], [[-1, 0, 3]]])
    assert unit_range(maps).tolist() == [[[0, 0.5, 1]], [[0, 0, 0]], [[0, 0.25, 1]]]


def test_labels_are_the_teachers_own(labels, teacher, pool):
    """Of the clean image under its own crop, each map scaled to 0..1, to float16's precision."""
    indices = np.array([7, 0, 9, 3, 3])
    images = fetch(pool, indices, **SIZE, crop=pool_crop(indices))["image"]
    expected = teacher.predict(images)
    expected = torch.stack([(m - m.min()) / (m.max() - m.min()) for m in expected])
    got = PseudoLabels(labels).get_batch(indices)
    assert got.dtype == torch.float32
    assert torch.allclose(got, expected, atol=6e-4)
    assert (got.amin((1, 2)) == 0).all()
    assert (got.amax((1, 2)) == 1).all()
    assert not torch.equal(got[0], got[1])


def test_manifest(labels, pool):
    manifest = json.loads((labels / "manifest.json").read_text())
    assert {k: manifest[k] for k in ("teacher", "data", "count", "height", "width")} == {
        "teacher": "beef",
        "data": pool.fingerprint,
        "count": 10,
        "height": 64,
        "width": 96,
    }
    names = [f"{start:09d}.safetensors" for start in (0, 4, 8)]
    assert [s["file"] for s in manifest["shards"]] == names
    assert [s["sha256"] for s in manifest["shards"]] == [pseudo.sha256(labels / n) for n in names]
    assert sorted(p.name for p in labels.iterdir()) == [*names, "manifest.json"]
    assert len(PseudoLabels(labels, teacher="beef", source=pool)) == 10


class Dying:
    """A teacher that is killed at its n-th batch."""

    def __init__(self, model, lives):
        self.model, self.lives, self.batches = model, lives, 0

    def eval(self):
        return self

    def predict(self, images):
        self.batches += 1
        if self.batches > self.lives:
            raise KeyboardInterrupt
        return self.model.predict(images)


@pytest.mark.parametrize("lives", [0, 1, 3, 4])
def test_an_interrupted_pass_goes_on_where_it_stopped(lives, made, tmp_path, teacher, pool):
    """Same files in the end; whole shards are not made again. Shards of 4, 4, 2 in batches of 3: 2,
    2 and 1 passes."""
    from inspect import unwrap

    out = tmp_path / "labels"
    with pytest.raises(KeyboardInterrupt):
        unwrap(label)(Dying(teacher, lives), pool, out=out, teacher="beef", batch=3, **SIZE)
    with pytest.raises(DataError, match="no readable manifest"):  # never taken for whole
        PseudoLabels(out)
    again = Dying(teacher, 99)
    unwrap(label)(again, pool, out=out, teacher="beef", batch=3, **SIZE)
    assert again.batches == 5 - 2 * (lives // 2)
    finish(out, teacher="beef", source=pool, **SIZE)
    assert files(out) == files(made)


def test_a_truncated_shard_of_an_interrupted_pass_is_made_again(labels, made, teacher, pool):
    (labels / "manifest.json").unlink()
    shard = labels / "000000004.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    label(teacher, pool, out=labels, teacher="beef", batch=3, **SIZE)
    finish(labels, teacher="beef", source=pool, **SIZE)
    assert files(labels) == files(made)


def test_processes_share_the_shards(tmp_path, made, teacher, pool):
    for rank in (1, 0):
        label(teacher, pool, out=tmp_path, teacher="beef", batch=3, rank=rank, world=2, **SIZE)
        if rank == 1:
            assert [p.name for p in tmp_path.glob("*.safetensors")] == ["000000004.safetensors"]
    finish(tmp_path, teacher="beef", source=pool, **SIZE)
    assert files(tmp_path) == files(made)


@pytest.mark.parametrize("damage", ["bit", "truncated", "missing", "swapped"])
def test_a_damaged_shard_is_named(damage, labels):
    shard = labels / "000000004.safetensors"
    if damage == "bit":
        content = bytearray(shard.read_bytes())
        content[-1000] ^= 1
        shard.write_bytes(content)
    elif damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif damage == "missing":
        shard.unlink()
    else:
        shutil.copy(labels / "000000000.safetensors", shard)
    stored = PseudoLabels(labels)
    assert stored.get_batch(np.array([0, 9])).shape == (2, 64, 96)  # the others are still good
    with pytest.raises(
        DataError, match=r"000000004\.safetensors: pseudo-label shard is missing or damaged"
    ):
        stored.get_batch(np.array([0, 5]))


def test_labels_of_another_teacher_or_pool_are_refused(labels, pool):
    with pytest.raises(DataError, match=r"manifest\.json: made from teacher beef, not cafe"):
        PseudoLabels(labels, teacher="cafe", source=pool)
    other = Smooth(count=10, width=140, seed=2, labelled=False)
    with pytest.raises(
        DataError, match=rf"made from data {pool.fingerprint}, not {other.fingerprint}"
    ):
        PseudoLabels(labels, teacher="beef", source=other)


@pytest.mark.parametrize("content", [None, "{", "{}", '"text"'])
def test_a_damaged_manifest_is_named(content, labels, pool):
    (labels / "manifest.json").unlink()
    if content is not None:
        (labels / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=r"manifest\.json: "):
        PseudoLabels(labels, teacher="beef", source=pool)


def test_loader_processes_open_their_own_files(labels):
    import pickle

    stored = PseudoLabels(labels)
    expected = stored.get_batch(np.arange(10))
    copy = pickle.loads(pickle.dumps(stored))
    assert torch.equal(copy.get_batch(np.arange(10)), expected)


def test_what_is_stored_is_what_is_read(labels):
    shard = load_file(labels / "000000008.safetensors")["disparity"]
    assert shard.dtype == torch.float16
    assert torch.equal(PseudoLabels(labels).get_batch(np.array([8, 9])), shard.float())
    save_file({"disparity": shard + 1}, labels / "000000008.safetensors")
    with pytest.raises(DataError, match="000000008"):
        PseudoLabels(labels).get_batch(np.array([8]))
