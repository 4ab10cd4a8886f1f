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
