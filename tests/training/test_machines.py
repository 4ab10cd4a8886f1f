"""Where processes run: what a configuration of accelerate may say, which machine this is, and two
machines that train one run."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from helpers import ROOT
from helpers.commands import main

from dalib.config import RunConfig
from dalib.errors import ConfigError
from dalib.training import launch
from dalib.training.machines import Machines, Sharding, machines_of

TWO = {"num_machines": 2, "num_processes": 4, "main_process_ip": "a", "main_process_port": 29500}
# what `accelerate config` of accelerate 1.15 writes for one machine with two GPUs
WRITTEN = """
compute_environment: LOCAL_MACHINE
debug: false
distributed_type: MULTI_GPU
downcast_bf16: 'no'
enable_cpu_affinity: false
gpu_ids: all
machine_rank: 0
main_training_function: main
mixed_precision: 'no'
num_machines: 1
num_processes: 2
rdzv_backend: static
same_network: true
tpu_env: []
tpu_use_cluster: false
tpu_use_sudo: false
use_cpu: false
"""


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT", "SLURM_NODEID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def written(tmp_path):
    def write(values):
        path = tmp_path / "accelerate.yaml"
        if not isinstance(values, str):
            least = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU"}
            values = yaml.safe_dump(least | values)
        path.write_text(values)
        return path

    return write


# what a file says


def test_each_configuration_of_ours_is_one(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    found = {
        path.stem: machines_of(path, machine_rank=1 if path.stem == "two_machines" else None)
        for path in (ROOT / "configs").glob("*.yaml")
    }
    assert set(found) == {"one_machine", "two_machines", "fsdp"}
    assert found["one_machine"].processes == 8
    assert found["fsdp"].sharding == Sharding(reshard=True)
    two = found["two_machines"]
    assert (two.count, two.rank, two.processes_here) == (2, 1, 8)
    assert (two.address, two.port, two.sharding) == ("10.0.0.1", 29500, None)


def test_what_accelerate_itself_writes_is_taken(written):
    found = machines_of(written(WRITTEN))
    assert (found.processes, found.count, found.sharding) == (2, 1, None)
    assert machines_of(written(WRITTEN), processes=6).processes == 6
    assert machines_of(None, processes=3) == Machines(processes=3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mixed_precision": "bf16"}, "mixed_precision: 'bf16' would change .*write precision in"),
        ({"dynamo_config": {"dynamo_backend": "INDUCTOR"}}, "dynamo_config: .*write compile in"),
        ({"gradient_accumulation_steps": 2}, "accumulation_steps: 2 .*write accumulate in"),
        ({"deepspeed_config": {"zero_stage": 2}}, "deepspeed_config: .*decide, and leave it out"),
        ({"distributed_type": "DEEPSPEED"}, "'DEEPSPEED' is not one of NO, MULTI_CPU"),
        ({"distributed_type": "FSDP", "num_processes": 2}, "needs fsdp_version: 2"),
        ({"fsdp_config": {"fsdp_version": 2}}, "fsdp_config needs distributed_type: FSDP"),
        (
            {"distributed_type": "FSDP", "fsdp_config": {"fsdp_version": 1}},
            "fsdp_version: 1 is not one of 2",
        ),
        (
            {"distributed_type": "FSDP", "fsdp_config": {"fsdp_activation_checkpointing": True}},
            "fsdp_activation_checkpointing: True .*write gradient_checkpointing in",
        ),
        (
            {"distributed_type": "FSDP", "fsdp_config": {"fsdp_version": 2}},
            "shares weights out over 2 processes or more",
        ),
        ({"num_process": 2}, r"unknown key .*'num_process'\. Did you mean 'num_processes'"),
        ({"num_processes": 0}, "num_processes: 0 is no whole number from 1"),
        (TWO | {"num_processes": 3}, "3 processes cannot be shared evenly by 2 machines"),
        (TWO, "nothing says which of the 2 machines this is"),
        (TWO | {"machine_rank": 2}, "machine_rank: 2 is not one of 0 to 1"),
        (
            {"num_machines": 2, "num_processes": 4, "machine_rank": 0},
            "nothing says where they meet; set MASTER_ADDR",
        ),
        (TWO | {"machine_rank": 0, "main_process_port": 0}, "0 is no port .*set MASTER_PORT"),
        ("num_processes: 2", "compute_environment: nothing is not one of LOCAL_MACHINE"),
        ("- 1", "no configuration of accelerate"),
    ],
)
def test_what_would_change_a_step_or_cannot_be_is_refused(values, message, written):
    path = written(values)
    with pytest.raises(ConfigError, match=f"(?s){message}") as caught:
        machines_of(path)
    assert str(path) in str(caught.value)


def test_which_machine_this_is(written, monkeypatch):
    path = written(TWO | {"machine_rank": 0})
    assert machines_of(path).rank == 0
    monkeypatch.setenv("SLURM_NODEID", "1")
    assert machines_of(path).rank == 1
    assert machines_of(path, machine_rank=0).rank == 0
    monkeypatch.setenv("SLURM_NODEID", "2")
    with pytest.raises(ConfigError, match="SLURM_NODEID: 2 is not one of 0 to 1"):
        machines_of(path)


def test_a_rank_without_machines_is_refused(written):
    with pytest.raises(ConfigError, match="machine rank: 1, and nothing says that there are"):
        machines_of(None, machine_rank=1)
    with pytest.raises(ConfigError, match=r"machine rank: 1, but .* says num_machines: 1"):
        machines_of(written(WRITTEN), machine_rank=1)


def test_what_the_launcher_is_told(written, tmp_path, monkeypatch):
    """The file is passed through, and of what a step does it has no say."""
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29600")
    machines = machines_of(written(TWO | {"machine_rank": 1}))
    words = launch._command(tmp_path / "job.json", machines)
    told = dict(itertools.pairwise(words))
    assert told["--config_file"] == str(written(TWO | {"machine_rank": 1}))
    for name, value in {
        "--num_processes": "4",
        "--num_machines": "2",
        "--machine_rank": "1",
        "--main_process_ip": "10.0.0.1",
        "--main_process_port": "29600",
        "--mixed_precision": "no",
        "--dynamo_backend": "no",
    }.items():
        assert told[name] == value
    assert words[-2:] == [str(tmp_path / "job.json"), str(os.getpid())]
    assert "MASTER_ADDR" not in launch._environment(machines)


def test_the_command_refuses_it_before_anything_else(written, capsys):
    path = written({"mixed_precision": "fp16"})
    words = ["row", "main_table", "naive", "--profile", "smoke", "--accelerate", str(path)]
    assert main(words) == 1
    assert f"error: {path}: mixed_precision: 'fp16' would change" in capsys.readouterr().err


# two machines


MACHINE = """
import sys
from dalib.config import RunConfig
from dalib.training import launch
config = RunConfig.from_dict({config!r})
say = lambda line: print(line, flush=True)
given = dict(processes=2, accelerate=sys.argv[1]) if sys.argv[1:] else {{}}
print(launch.ensure_weights(config, report=say, **given), flush=True)
"""
CONFIG = RunConfig(
    height=64,
    width=96,
    steps=4,
    batch=4,
    log_every=1,
    labelled_images=8,
    unlabelled_images=8,
    encoder_lr=1e-6,
    pseudo_labels=True,
    perturb=("cutmix",),
)


def free_ports():
    """A port whose successor is free as well."""
    import socket

    for port in range(23000, 33000, 7):
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise AssertionError("no two free ports")


@pytest.fixture
def machine(written, tmp_path):
    """Starts a process that stands for a machine, on a folder that all share."""
    path = written({"num_machines": 2, "num_processes": 2})
    port = str(free_ports())
    started = []

    def start(rank, config=CONFIG, *, alone=False, **changes):
        env = os.environ | {
            "OMP_NUM_THREADS": "1",
            "DALIB_RUNS": str(tmp_path / "runs"),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "SLURM_NODEID": str(rank),
        }
        process = subprocess.Popen(
            [sys.executable, "-c", MACHINE.format(config=config.to_dict())]
            + [str(path)] * (not alone),
            env=env | changes,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_two_machines_train_a_teacher_and_its_student(machine, tmp_path):
    """The second one is there first, and waits; the main one alone decides and writes."""
    second = machine(1)
    time.sleep(1)
    first = machine(0)
    said = [process.communicate(timeout=240)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], said
    weights = tmp_path / "runs" / CONFIG.hash() / "model.safetensors"
    assert [text.splitlines()[-1] for text in said] == [str(weights)] * 2
    assert weights.is_file()
    assert "step 4/4" in said[0]
    assert "step" not in said[1]
    job = json.loads(weights.with_name("job.json").read_text())
    assert (job["processes"], job["sharding"]) == (2, None)

    # the losses are those of one process
    alone = machine(0, alone=True, DALIB_RUNS=str(tmp_path / "alone"))
    assert alone.communicate(timeout=120)[0]
    alone = tmp_path / "alone" / CONFIG.hash() / "model.safetensors"
    logs = [
        [json.loads(line)["loss"] for line in w.with_name("metrics.jsonl").open()]
        for w in (weights, alone)
    ]
    assert logs[0] == pytest.approx(logs[1], rel=1e-4)

    # both again: it is whole, and none trains
    again = [machine(rank) for rank in (0, 1)]
    said = [process.communicate(timeout=120)[0] for process in again]
    assert [process.returncode for process in again] == [0, 0], said
    assert "step" not in said[0] + said[1]


@pytest.mark.slow
def test_the_end_of_a_machine_is_the_end_of_the_others(machine):
    """Killed while it trains, the main one leaves nobody waiting."""
    config = CONFIG.replace(steps=4000, pseudo_labels=False, perturb=())
    first, second = machine(0, config), machine(1, config)
    for line in first.stdout:
        if line.startswith("step 1/"):
            break
    first.send_signal(signal.SIGKILL)
    text, _ = second.communicate(timeout=150)
    assert second.returncode != 0
    assert "Error" in text or "Stopped" in text


@pytest.mark.slow
def test_an_error_of_the_main_machine_reaches_the_others(machine):
    """Data that are not there: both end at once, and both say why."""
    config = CONFIG.replace(labelled=("depth:/nowhere",), pseudo_labels=False, perturb=())
    both = [machine(rank, config) for rank in (0, 1)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert all(process.returncode for process in both)
    assert all("/nowhere" in text for text in said)
