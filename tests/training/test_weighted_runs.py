"""A run with weighted sources, from settings to weights: stopped in the middle of an epoch, and by
one process or a loader of its own."""

import pytest
from helpers.training import TINY, Interruption, interrupt_at, pairs, quiet

from dalib.blocks import WeightedSource
from dalib.training.folder import folder
from dalib.training.launch import ensure_weights
from dalib.training.plan import plan


@pytest.fixture
def config(tmp_path):
    """Three pairs once and two of them three times: an epoch of 9 images, 2 a step; at a rate at
    which a tiny network does not die."""
    one, two = (pairs(tmp_path / name, count=n) for name, n in (("one", 3), ("two", 2)))
    heavy = WeightedSource(source=f"depth:{two}", weight=3)
    return TINY.replace(labelled=(f"depth:{one}", heavy), encoder_lr=1e-5)


@pytest.mark.slow
def test_a_weighted_run_that_was_stopped_in_an_epoch_ends_with_the_same_bits(
    config, tmp_path, monkeypatch
):
    whole = ensure_weights(config, report=quiet).read_bytes()
    monkeypatch.setenv("DALIB_RUNS", str(tmp_path / "again"))
    with pytest.raises(Interruption):
        ensure_weights(config, report=interrupt_at(3))
    assert list(folder(config).rglob("*.safetensors")) != [folder(config) / "model.safetensors"]
    read_by_others = config.replace(workers=2)
    assert read_by_others.hash() == config.hash()
    assert ensure_weights(read_by_others, report=quiet).read_bytes() == whole
    # the weight is part of the run
    plain = config.replace(labelled=config.sources["labelled"])
    assert plain.hash() != config.hash()
    assert ensure_weights(plain, report=quiet).read_bytes() != whole


@pytest.mark.slow
def test_a_plan_names_the_weights(config):
    lines = [line for line in plan(config).lines() if line.startswith("reads")]
    once, often = lines
    assert once.endswith("one, 3 images")
    assert often.endswith("two, 2 images, each 3 times an epoch")
