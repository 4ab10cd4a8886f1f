"""Pseudo labels: what is stored, by whom, whole or not at all."""

import json
import shutil

import numpy as np
import pytest
import torch
from helpers.training import Smooth
from safetensors.torch import load_file, save_file

from dalib.config import RunConfig
from dalib.data.damaged import Replacing, ledger
from dalib.data.mixture import fetch, pool_crop
from dalib.errors import DataError
from dalib.models import build
from dalib.training import pseudo
from dalib.training.pseudo import PseudoLabels, finish, is_finished, label, unit_range

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


def spoil(shard, how):
    """One of the ways in which a shard is lost."""
    if how == "bit":
        content = bytearray(shard.read_bytes())
        content[-1000] ^= 1
        shard.write_bytes(content)
    elif how == "truncated":
        shard.write_bytes(shard.read_bytes()[:-1])
    else:
        shard.unlink()


@pytest.mark.parametrize("how", ["bit", "truncated", "missing"])
def test_a_damaged_shard_is_made_anew_alone(how, labels, made, teacher, pool):
    """Run again: the shard is noticed, by a look or since a reader met it, and two passes of its
    own make it as it was."""
    from inspect import unwrap

    assert is_finished(labels)
    kept = labels / "000000000.safetensors"
    before = kept.stat()
    spoil(labels / "000000004.safetensors", how)
    with pytest.raises(DataError, match="run again, which makes this shard anew"):
        PseudoLabels(labels).get_batch(np.array([5]))
    assert not is_finished(labels)
    again = Dying(teacher, 99)
    unwrap(label)(again, pool, out=labels, teacher="beef", batch=3, **SIZE)
    assert again.batches == 2
    finish(labels, teacher="beef", source=pool, **SIZE)
    assert is_finished(labels)
    assert files(labels) == files(made)
    assert (kept.stat().st_mtime_ns, kept.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert PseudoLabels(labels).get_batch(np.array([5])).shape == (1, 64, 96)


def test_a_pass_over_finished_labels_finds_damage_that_nobody_met(labels, made, teacher, pool):
    spoil(labels / "000000008.safetensors", "bit")
    assert is_finished(labels), "the size is the same, and no checksum was compared"
    pace = label(teacher, pool, out=labels, teacher="beef", batch=3, **SIZE)
    assert pace.images == 2
    finish(labels, teacher="beef", source=pool, **SIZE)
    assert files(labels) == files(made)


def test_a_shard_that_was_only_read_wrongly_is_kept(labels, made, teacher, pool):
    (labels / "000000004.damaged").touch()
    assert not is_finished(labels)
    assert label(teacher, pool, out=labels, teacher="beef", batch=3, **SIZE).images == 0
    assert is_finished(labels)
    assert files(labels) == files(made)


def test_labels_from_before_sizes_were_noted(labels):
    manifest = json.loads((labels / "manifest.json").read_text())
    for entry in manifest["shards"]:
        del entry["bytes"]
    (labels / "manifest.json").write_text(json.dumps(manifest))
    assert is_finished(labels)
    assert PseudoLabels(labels).get_batch(np.array([5])).shape == (1, 64, 96)


def test_labelling_does_not_mix_with_labels_of_another_origin(labels, made, teacher, pool):
    with pytest.raises(DataError, match="made from teacher beef, not cafe"):
        label(teacher, pool, out=labels, teacher="cafe", **SIZE)
    other = Smooth(count=10, width=140, seed=2, labelled=False)
    with pytest.raises(DataError, match="made from data"):
        label(teacher, other, out=labels, teacher="beef", **SIZE)
    assert files(labels) == files(made)


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_that_read_do_not_matter(workers, tmp_path, made, teacher, pool):
    pace = label(teacher, pool, out=tmp_path, teacher="beef", batch=3, workers=workers, **SIZE)
    finish(tmp_path, teacher="beef", source=pool, **SIZE)
    assert files(tmp_path) == files(made)
    assert pace.images == 10


def test_the_wait_for_images_is_measured(tmp_path, monkeypatch):
    """By a clock that goes on three seconds while a batch is read and one while it is labelled."""
    now = [100.0]

    def reading(images, *, workers):
        for number in range(len(images)):
            now[0] += 3
            yield images[number]

    class Quick:
        eval = staticmethod(lambda: None)

        def predict(self, images):
            now[0] += 1
            return images[:, 0].float()

    monkeypatch.setattr(pseudo, "_read_ahead", reading)
    monkeypatch.setattr(pseudo.time, "perf_counter", lambda: now[0])
    given = {"out": tmp_path, "teacher": "beef", "batch": 2, **SIZE}
    pace = label(Quick(), Smooth(count=8, labelled=False), **given)
    assert (pace.images, pace.seconds, pace.waiting, pace.share) == (8, 16.0, 12.0, 0.75)
    assert str(pace) == (
        "labelled 8 images in 16 s (0.5 images/s), 75% of it waiting for images to be read"
    )
    nothing = label(Quick(), Smooth(count=8, labelled=False), **given)
    assert (nothing.images, nothing.share) == (0, 0.0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_named_by_whoever_reads_it(workers, tmp_path, teacher):
    source = Damaged(count=6, width=140, labelled=False)
    with pytest.raises(DataError, match=r"^photo-3\.jpg: damaged$"):
        label(teacher, source, out=tmp_path, teacher="beef", batch=2, workers=workers, **SIZE)


class Damaged(Smooth):
    """Its fourth image cannot be read."""

    def _sample(self, index):
        if index == 3:
            raise DataError("photo-3.jpg: damaged")
        return super()._sample(index)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_has_the_label_of_its_replacement(workers, tmp_path, teacher):
    """Whose crop it shows, too; it is written down once, with why."""
    source = Replacing(Damaged(count=10, width=140, seed=1, labelled=False))
    config = RunConfig(damaged_share=0.1)
    given = {"teacher": "beef", "batch": 3, "workers": workers, **SIZE}
    noted = ledger(tmp_path, config, sources={"unlabelled": source}, report=lambda line: None)
    label(teacher, source, out=tmp_path, ledger=noted, **given)
    finish(tmp_path, teacher="beef", source=source, **SIZE)
    instead = source[3]["read"]
    maps = PseudoLabels(tmp_path).get_batch(np.array([3, instead]))
    assert torch.equal(maps[0], maps[1])
    (_, line) = (tmp_path / "damaged.csv").read_text().splitlines()
    assert line == f"unlabelled,3,{instead},photo-3.jpg: damaged"
    assert noted.counts() == {"unlabelled": 1}
    none = ledger(tmp_path / "n", RunConfig(damaged_share=0.01), sources={"unlabelled": source})
    with pytest.raises(DataError, match="1 of the 10 unlabelled images are damaged"):
        label(teacher, source, out=tmp_path / "again", ledger=none, **given)


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
