"""Under another launcher, or with a number of processes that cannot be, a command ends at once and
says why."""

import os

import pytest
import torch
from helpers.commands import main
from helpers.training import Smooth

from dalib.config import RunConfig
from dalib.data.mixture import Mixture
from dalib.errors import ConfigError
from dalib.training.processes import RANKS, SETTINGS, SIZES, check_processes, refuse_other_launcher


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in (*RANKS, *SIZES, *SETTINGS):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RANK", "0"),
        ("RANK", ""),
        ("WORLD_SIZE", "2"),
        ("LOCAL_RANK", "0"),
        ("OMPI_COMM_WORLD_SIZE", "2"),
        ("PMI_SIZE", "4"),
        ("ACCELERATE_USE_FSDP", "true"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4"),
    ],
)
def test_what_another_launcher_sets_is_named(name, value, monkeypatch):
    refuse_other_launcher()
    monkeypatch.setenv(name, value)
    with pytest.raises(
        ConfigError, match=rf"^{name}: set by another launcher .*--processes N.*unset {name}$"
    ):
        refuse_other_launcher()


@pytest.mark.parametrize("name", [*SIZES, "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"])
def test_a_launcher_of_one_process_changes_nothing(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    refuse_other_launcher()
    monkeypatch.setenv(name, "2")  # it is looked at
    with pytest.raises(ConfigError, match=f"^{name}: "):
        refuse_other_launcher()


@pytest.mark.parametrize("words", [["row", "main_table", "naive"], ["run", "main_table"], ["book"]])
def test_each_command_that_trains_refuses_before_it_waits(words, monkeypatch, capsys):
    """Before: PartialState waited for the other process, for ever."""
    for name, value in {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: RANK, LOCAL_RANK, WORLD_SIZE: set by another launcher")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("count", "cores", "gpus", "message"),
    [
        (0, 8, 0, "processes: 0 is not at least 1"),
        (-1, 8, 0, "processes: -1 is not at least 1"),
        (9, 8, 0, "processes: 9 is more than the 8 cores"),
        (3, 8, 2, "processes: 3 is more than the 2 GPUs"),
        (3, 8, 0, "processes: batch: 8 images cannot be shared evenly by 3 processes"),
    ],
)
def test_processes_that_cannot_be(count, cores, gpus, message, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ConfigError, match=message):
        check_processes(count, RunConfig(batch=8))


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_processes_that_share_the_batch(count, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    config = RunConfig(batch=8, height=64, width=96)
    check_processes(count, config)
    parts = [
        Mixture(config=config, labelled=Smooth(), rank=rank, world=count)[0]["index"].tolist()
        for rank in range(count)
    ]
    assert [len(part) for part in parts] == [8 // count] * count
    assert len({index for part in parts for index in part}) == 8


def test_cutmix_pairs_are_not_parted(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    config = RunConfig(batch=2, unlabelled_ratio=1, pseudo_labels=True, perturb=("cutmix",))
    with pytest.raises(ConfigError, match="CutMix pairs"):
        check_processes(2, config)


@pytest.mark.parametrize("words", [["row", "main_table", "naive"], ["run", "main_table"]])
@pytest.mark.parametrize("count", ["0", "-1", "100000"])
def test_the_commands_refuse_them(words, count, capsys):
    assert main([*words, "--processes", count, "--profile", "smoke"]) == 1
    assert f"error: processes: {count} is" in capsys.readouterr().err
