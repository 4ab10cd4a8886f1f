"""Two processes against one: the same global batch, the same losses, the same weights, and proof
that there were two."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from helpers.training import Smooth
from numpy.testing import assert_allclose
from PIL import Image

from dalib.config import RunConfig
from dalib.data.mixture import Mixture
from dalib.errors import TrainingError
from dalib.models import build, load
from dalib.training import launch


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A labelled folder with a manifest and a folder of photographs: sources that any process can
    open by name."""
    root = tmp_path_factory.mktemp("data")
    (root / "photos").mkdir()
    with (root / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "depth", "kind", "depth_scale"])
        for i, sample in enumerate(Smooth(count=8)):
            Image.fromarray(sample["image"].permute(1, 2, 0).numpy()).save(root / f"{i}.png")
            stored = (1000 * sample["disparity"]).round().numpy().astype(np.uint16)
            Image.fromarray(stored).save(root / f"{i}-depth.png")
            rows.writerow([f"{i}.png", f"{i}-depth.png", "disparity", 1000])
    for i, sample in enumerate(Smooth(count=10, seed=1, labelled=False)):
        Image.fromarray(sample["image"].permute(1, 2, 0).numpy()).save(root / "photos" / f"{i}.png")
    return root


@pytest.fixture
def config(folders):
    return RunConfig(
        labelled=(f"depth:{folders}",),
        unlabelled=(f"photos:{folders / 'photos'}",),
        height=64,
        width=96,
        steps=4,
        batch=4,
        log_every=1,
        # so small that rounding, which Adam blows up wherever a gradient is nearly 0, stays
        # rounding
        encoder_lr=1e-6,
        pseudo_labels=True,
        perturb=("colour", "blur", "cutmix"),
        align="unlabelled",
    )


def run(config, processes, runs, monkeypatch):
    monkeypatch.setenv("DALIB_RUNS", str(runs))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    lines = []
    weights = launch.ensure_weights(config, processes=processes, report=lines.append)
    return weights, lines


@pytest.mark.slow
def test_two_processes_agree_with_one(config, tmp_path, monkeypatch):
    """One teacher, and its student with everything on: in this process, and on two behind
    `accelerate launch`, which also share the labelling.
    """
    one, _ = run(config, 1, tmp_path / "one", monkeypatch)
    teacher = config.teacher_run().hash()
    shutil.copytree(
        tmp_path / "one" / teacher,
        tmp_path / "two" / teacher,
        ignore=shutil.ignore_patterns("pseudo-*"),
    )
    two, lines = run(config, 2, tmp_path / "two", monkeypatch)
    assert json.loads((one.parent / "train.json").read_text())["processes"] == 1
    assert json.loads((two.parent / "train.json").read_text())["processes"] == 2
    assert [line for line in lines if line.startswith("labelling")] == ["labelling 10 images"]
    assert sum(line.startswith("step 4/4") for line in lines) == 1  # the main process alone reports
    alone, together = (
        [json.loads(line) for line in (w.parent / "metrics.jsonl").open()] for w in (one, two)
    )
    assert [m["step"] for m in together] == [1, 2, 3, 4]
    rates = {"lr_encoder", "lr_decoder"}
    losses = {"loss", "labelled", "unlabelled", "feat"}
    assert set(alone[0]) == {"step", "grad_norm"} | losses | rates
    for key in alone[0]:
        values = [[m[key] for m in log] for log in (together, alone)]
        assert_allclose(*values, rtol=1e-4 if key != "grad_norm" else 1e-3, err_msg=key)
    first, second, start = (
        load(one).state_dict(),
        load(two).state_dict(),
        build("lite0", seed=0).state_dict(),
    )
    moved = sum((first[k] - start[k]).abs().sum() for k in start)
    apart = sum((first[k] - second[k]).abs().sum() for k in start)
    assert moved > 1
    assert apart < 0.02 * moved


def losses_of(weights):
    return [json.loads(line) for line in (weights.parent / "metrics.jsonl").open()]


def test_four_processes_read_what_one_reads(config):
    """Each image of a step once, in the order of the processes."""
    labelled, unlabelled = launch.sources(config)
    given = {"config": config, "labelled": labelled, "unlabelled": unlabelled}
    for step in range(3):
        whole = Mixture(**given)[step]
        for world in (2, 4):
            parts = [Mixture(**given, rank=rank, world=world)[step] for rank in range(world)]
            for name, values in whole.items():
                assert torch.equal(torch.cat([part[name] for part in parts]), values), name


@pytest.mark.slow
def test_four_processes_and_parts_of_a_step_agree_with_one(config, tmp_path, monkeypatch):
    """Losses of one process, of four, and of two that go through their share in two parts."""
    config = config.replace(labelling="online", batch=4, steps=3)
    logs = {}
    for name, processes, parts in (("one", 1, 1), ("four", 4, 1), ("parts", 2, 2)):
        runs = tmp_path / name
        weights, _ = run(config.replace(accumulate=parts), processes, runs, monkeypatch)
        logs[name] = losses_of(weights)
    for name in ("four", "parts"):
        for key in logs["one"][0]:
            values = [[m[key] for m in logs[which]] for which in (name, "one")]
            rtol = 1e-4 if key != "grad_norm" else 1e-3
            assert_allclose(*values, rtol=rtol, err_msg=f"{name}, {key}")


FSDP = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
num_processes: 2
fsdp_config: {fsdp_version: 2}
"""


@pytest.mark.slow
def test_weights_in_parts_train_as_weights_in_one_piece(config, tmp_path, monkeypatch):
    """FSDP2 against a copy in each of two processes: losses, weights, and a checkpoint that either
    goes on from. The teacher and the frozen encoder, of another width, are shared out as well."""
    config = config.replace(
        encoder="vitt",
        pretrained=False,
        frozen_encoder="vits",
        margin=1.0,
        height=56,
        width=56,
        labelling="online",
        checkpoint_every=2,
        gradient_checkpointing=True,
    )
    path = tmp_path / "fsdp.yaml"
    path.write_text(FSDP)
    kept = {}

    def remember(name):
        def report(line):
            out = tmp_path / name / config.hash()
            if line.startswith("step 3/"):  # the checkpoint of step 2 is there
                unfinished = shutil.ignore_patterns("*.partial")  # the processes write on
                place = tmp_path / "kept" / name / config.hash()
                kept[name] = shutil.copytree(out, place, ignore=unfinished)

        return report

    # each from the start, and then each from the other's checkpoint
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    logs = {}
    for name, given in (("whole", {"processes": 2}), ("shared", {"accelerate": path})):
        monkeypatch.setenv("DALIB_RUNS", str(tmp_path / name))
        if name == "shared":  # by the same teacher, to the bit
            teacher = config.teacher_run().hash()
            shutil.copytree(tmp_path / "whole" / teacher, tmp_path / name / teacher)
        weights = launch.ensure_weights(config, report=remember(name), **given)
        logs[name] = losses_of(weights), load(weights).state_dict()
    for name, given in (("whole", {"accelerate": path}), ("shared", {"processes": 2})):
        shutil.copytree(tmp_path / name / teacher, tmp_path / "kept" / name / teacher)
        monkeypatch.setenv("DALIB_RUNS", str(tmp_path / "kept" / name))
        weights = launch.ensure_weights(config, report=lambda _: None, **given)
        logs[f"{name}, resumed as the other"] = losses_of(weights), load(weights).state_dict()

    # all four
    expected, network = logs.pop("whole")
    start = build("vitt", pretrained=False, seed=0).state_dict()
    moved = sum((network[k] - start[k]).abs().sum() for k in start)
    assert expected[0]["feat"] > 0.1
    for name, (found, again) in logs.items():
        assert [m["step"] for m in found] == [1, 2, 3, 4]
        for key in expected[0]:
            values = [[m[key] for m in log] for log in (found, expected)]
            rtol = 1e-4 if key != "grad_norm" else 1e-3
            assert_allclose(*values, rtol=rtol, err_msg=f"{name}, {key}")
        apart = sum((again[k] - network[k]).abs().sum() for k in start)
        assert apart < 0.02 * moved, name


@pytest.mark.slow
def test_an_error_in_a_process_ends_the_launch(config, folders, tmp_path, monkeypatch):
    """The message that a process ended with reaches the caller."""
    labelled = config.teacher_run().replace(labelled=(f"depth:{folders}?dataset=absent",))
    with pytest.raises(
        TrainingError, match=r"(?s)ended with code 1:\nDataError: .*missing column dataset"
    ):
        run(labelled, 2, tmp_path, monkeypatch)
    assert not launch.trained(labelled)
    assert torch.distributed.is_initialized() is False
