"""On which machines a run trains, and how they do it together.

A user writes a configuration of accelerate (`configs/` has three, and `accelerate config` writes
one) and gives it to each machine with the same command::

    python -m dabook row main_table full --processes 16 --accelerate configs/two_machines.yaml

    train(config, processes=16, accelerate="configs/two_machines.yaml")

The file says where processes run: how many machines and processes there are, which GPUs, the main
machine's address and port. What a step does is `RunConfig`'s alone, so that a file which says
anything of precision, compilation, accumulation or another engine is refused. It may ask for
sharded weights (`distributed_type: FSDP`), which change what a GPU holds and not what is computed.

Which machine this is comes from, in this order: `machine_rank` as it is given, `SLURM_NODEID`,
`machine_rank` in the file. Address and port come from `MASTER_ADDR` and `MASTER_PORT`, or from the
file; the machines also meet at the port after it.

**Several machines share one file system**, with `DALIB_RUNS` at the same path on each of them.
On each runs one parent, which starts that machine's processes through `accelerate launch`:

1. Machine 0 decides. Its parent alone looks whether there are weights, takes the lock of the run's
   folder (and waits for it, as long as it takes), sets aside what other code left, and writes the
   job. The parents of the other machines touch nothing: they wait for what it says, over a
   `torch.distributed.TCPStore` that it holds. A lock of the file system would not do: on a shared
   one it may be slow, or granted to everybody, and a job from an earlier, killed launch would look
   like this one's.
2. It says "train this job" with the job's text. Each parent waits until it reads that very text in
   the run's folder, which shows that the folder is shared; compares the hash of its own code with
   the one in the job; and starts its processes. They meet at the main address and port.
3. Teachers and other runs that come first are jobs of their own, one after the other; at the end it
   says "whole", or how it failed, and each parent ends as machine 0 does.

A request to stop that reaches any machine's parent is a file in the run's folder, which all
processes see; they agree after a step, and machine 0 saves the state. If a parent dies, its
processes end, and with them those of the others. The record's stamp is that of machine 0's code,
which every process compares with its own.
"""

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from dalib import strict_yaml
from dalib.blocks import check_names
from dalib.errors import ConfigError, Stopped, TrainingError, UserError
from dalib.stopping import Stop

# what a file may say of where processes run; `accelerate launch` reads it
PLACES = (
    "compute_environment",
    "debug",
    "distributed_type",
    "enable_cpu_affinity",
    "gpu_ids",
    "machine_rank",
    "main_process_ip",
    "main_process_port",
    "main_training_function",
    "num_machines",
    "num_processes",
    "rdzv_backend",
    "same_network",
    "use_cpu",
)
# what `accelerate config` writes beside that -> the values that change no step, and the setting of
# `RunConfig` that decides it
STEPS = {
    "mixed_precision": ((None, "no", False), "precision"),
    "downcast_bf16": ((None, "no", False), "precision"),
    "dynamo_config": ((None, {}), "compile"),
    "gradient_accumulation_steps": ((None, 1), "accumulate"),
    "gradient_clipping": ((None,), "clip"),
    "deepspeed_config": ((None, {}), ""),
    "megatron_lm_config": ((None, {}), ""),
    "parallelism_config": ((None, {}), ""),
    "fp8_config": ((None, {}), ""),
    "mpirun_config": ((None, {}), ""),
    "tpu_env": ((None, []), ""),
    "tpu_use_cluster": ((None, False), ""),
    "tpu_use_sudo": ((None, False), ""),
}
# of `fsdp_config` -> the values that `dalib.training.sharding` has
SHARDS = {
    "fsdp_version": (2,),
    "fsdp_reshard_after_forward": (True, False),
    "fsdp_auto_wrap_policy": ("TRANSFORMER_BASED_WRAP",),
    "fsdp_transformer_layer_cls_to_wrap": ("Block",),
    "fsdp_state_dict_type": ("FULL_STATE_DICT",),
    "fsdp_offload_params": (False,),
    "fsdp_cpu_ram_efficient_loading": (False,),
    "fsdp_activation_checkpointing": (False,),
}
TYPES = ("NO", "MULTI_CPU", "MULTI_GPU", "FSDP")
# seconds in which a machine sees what another one has written, or hears its last word
LATENCY = 120.0


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """How weights are shared out over processes, by `dalib.training.sharding`.

    Args:
        reshard: give a block's weights back after its forward pass and gather them again for the
            backward pass, which takes the least memory; otherwise they stay in between, which sends
            a third less.
    """

    reshard: bool = True


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Where a run's processes are.

    Args:
        processes: how many, over all machines.
        count: machines, which have equally many of them.
        rank: which one this is; 0 is the main one.
        address, port: where processes of several machines meet, on the main one.
        file: the configuration of accelerate that said so.
        cpu: whether it asks for processors where there are GPUs.
        sharding: how weights are shared out over the processes; None for a copy in each.
    """

    processes: int = 1
    count: int = 1
    rank: int = 0
    address: str = ""
    port: int = 0
    file: Path | None = None
    cpu: bool = False
    sharding: Sharding | None = None

    @property
    def processes_here(self) -> int:
        """Processes of this machine."""
        return self.processes // self.count


def machines_of(
    file: str | Path | None = None, *, processes: int = 1, machine_rank: int | None = None
) -> Machines:
    """The machines of a run, from a file of accelerate and the environment; this one without a
    file.

    Args:
        file: a configuration of accelerate, in YAML.
        processes: over all machines; 1, the default, stands for the file's own number.
        machine_rank: which machine this is; by default `SLURM_NODEID`, or the file's.

    Raises `ConfigError` for a file that cannot be read, says anything that would change a step, or
    lacks what several machines need.
    """
    if file is None:
        if machine_rank:
            raise ConfigError(
                f"machine rank: {machine_rank}, and nothing says that there are several machines; "
                "give a configuration of accelerate"
            )
        return Machines(processes=processes)
    file = Path(file)
    said = _read(file)
    count = _number(said, "num_machines", 1, file)
    processes = processes if processes != 1 else _number(said, "num_processes", 1, file)
    if processes % count:
        raise ConfigError(
            f"{file}: {processes} processes cannot be shared evenly by {count} machines"
        )
    address, port, rank = "", 0, 0
    if count > 1:
        rank = _rank(said, machine_rank, count, file)
        address, port = _place(said, file)
    elif machine_rank:
        raise ConfigError(f"machine rank: {machine_rank}, but {file} says num_machines: 1")
    sharding = _sharding(said, file)
    if sharding is not None and processes < 2:
        raise ConfigError(
            f"{file}: distributed_type FSDP shares weights out over 2 processes or more"
        )
    return Machines(
        processes=processes,
        count=count,
        rank=rank,
        address=address,
        port=port,
        file=file,
        cpu=said.get("use_cpu") is True,
        sharding=sharding,
    )


def _read(file: Path) -> dict:
    """The file's keys and values, none of which changes a step."""
    said = strict_yaml.read(file)
    if not isinstance(said, dict):
        raise ConfigError(f"{file}: no configuration of accelerate, which is keys and values")
    check_names(said, (*PLACES, *STEPS, "fsdp_config"), what=f"key in {file}")
    for name, (plain, setting) in STEPS.items():
        if said.get(name) not in plain:
            rather = f"; write {setting} in the run's settings instead" if setting else ""
            raise ConfigError(
                f"{file}: {name}: {said[name]!r} would change what a step does, which the run's "
                f"settings alone decide{rather}, and leave it out here"
            )
    for name, known in (
        ("compute_environment", ("LOCAL_MACHINE",)),
        ("distributed_type", TYPES),
        ("rdzv_backend", ("static", None)),
    ):
        if said.get(name) not in known:
            raise ConfigError(
                f"{file}: {name}: {strict_yaml.brief(said.get(name))} is not one of "
                f"{', '.join(filter(None, known))}, which accelerate must be told"
            )
    return said


def _sharding(said: dict, file: Path) -> Sharding | None:
    if said.get("distributed_type") != "FSDP":
        if said.get("fsdp_config"):
            raise ConfigError(f"{file}: fsdp_config needs distributed_type: FSDP")
        return None
    wanted = said.get("fsdp_config") or {}
    check_names(wanted, SHARDS, what=f"key in {file}, fsdp_config")
    for name, value in wanted.items():
        if value not in SHARDS[name]:
            known = ", ".join(map(str, SHARDS[name]))
            hint = ""
            if name == "fsdp_activation_checkpointing":
                hint = "; write gradient_checkpointing in the run's settings instead"
            raise ConfigError(f"{file}: {name}: {value!r} is not one of {known}{hint}")
    if "fsdp_version" not in wanted:
        raise ConfigError(f"{file}: fsdp_config needs fsdp_version: 2")
    return Sharding(reshard=wanted.get("fsdp_reshard_after_forward", True))


def _number(said: dict, name: str, least: int, file: Path) -> int:
    value = said.get(name, least)
    if type(value) is not int or value < least:
        raise ConfigError(f"{file}: {name}: {value!r} is no whole number from {least}")
    return value


def _rank(said: dict, given: int | None, count: int, file: Path) -> int:
    """Which machine this is."""
    node = os.environ.get("SLURM_NODEID")
    source = "machine rank"
    if given is None and node is not None and node.isdecimal():
        given, source = int(node), "SLURM_NODEID"
    if given is None:
        if "machine_rank" not in said:
            raise ConfigError(
                f"{file}: nothing says which of the {count} machines this is; give a machine rank, "
                "or write machine_rank"
            )
        given, source = _number(said, "machine_rank", 0, file), f"{file}: machine_rank"
    if not 0 <= given < count:
        raise ConfigError(f"{source}: {given} is not one of 0 to {count - 1}, of {count} machines")
    return given


def _place(said: dict, file: Path) -> tuple[str, int]:
    """Address and port of the main machine."""
    address = os.environ.get("MASTER_ADDR") or said.get("main_process_ip")
    if not address:
        raise ConfigError(
            f"{file}: several machines, and nothing says where they meet; set MASTER_ADDR, or write "
            "main_process_ip"
        )
    port = os.environ.get("MASTER_PORT") or said.get("main_process_port")
    if not port or not str(port).isdecimal() or not 0 < int(port) < 2**16 - 1:
        raise ConfigError(
            f"{file}: several machines, and {port!r} is no port at which they could meet; set "
            "MASTER_PORT, or write main_process_port"
        )
    return str(address), int(port)


# how the parents talk


class Store:
    """Numbered messages from machine 0 to all others, each of which says that it has read them.

    One for each place, and as long as the process: commands that train several runs go on with it.
    """

    opened: dict[tuple[str, int], "Store"] = {}  # noqa: RUF012  (of the process)

    def __init__(self, machines: Machines, stop: Stop):
        self.machines = machines
        self.number = 0
        self.store = None
        while self.store is None:
            self.store = self._try(stop)

    @classmethod
    def of(cls, machines: Machines, stop: Stop) -> "Store":
        place = machines.address, machines.port + 1
        if place not in cls.opened:
            cls.opened[place] = cls(machines, stop)
        return cls.opened[place]

    def _try(self, stop: Stop):
        from torch.distributed import DistError, TCPStore

        main = self.machines.rank == 0
        place = self.machines.address, self.machines.port + 1
        try:
            return TCPStore(
                *place, is_master=main, wait_for_workers=False, timeout=timedelta(seconds=5)
            )
        except DistError as error:
            if main:
                raise ConfigError(
                    f"{place[0]}, port {place[1]}: the machines cannot meet there "
                    f"({' '.join(str(error).split())[:200]}); name an address of this machine and "
                    "a port that is free, as is the next"
                ) from error
            _give_way(stop)
            return None

    def tell(self, message: dict) -> None:
        """Say it to all machines, without waiting for them."""
        self.store.set(str(self.number), json.dumps(message))
        self.number += 1

    def await_readers(self, stop: Stop) -> None:
        """Wait until the others have read the last message; those that have not after `LATENCY`
        seconds are gone."""
        names = [f"{self.number - 1}/{k}" for k in range(1, self.machines.count)]
        until = time.monotonic() + LATENCY
        while not self.store.check(names) and time.monotonic() < until and not stop.reason():
            time.sleep(0.1)

    def hear(self, stop: Stop, *, seconds: float = math.inf) -> dict:
        """The next message; a `TrainingError` where it has not come after so many seconds."""
        from torch.distributed import DistError

        name = str(self.number)
        until = time.monotonic() + seconds
        try:
            while not self.store.check([name]):
                _give_way(stop)
                if time.monotonic() > until:
                    raise TrainingError(f"the main machine, {self.machines.address}, says nothing")
            message = json.loads(self.store.get(name))
            self.store.set(f"{name}/{self.machines.rank}", "")
        except DistError as error:
            raise TrainingError(
                f"the main machine, {self.machines.address}, has gone; its own output says why"
            ) from error
        self.number += 1
        return message


def _give_way(stop: Stop) -> None:
    if reason := stop.reason():
        raise Stopped(f"stopped by {reason} while waiting for the main machine")
    time.sleep(0.2)


@contextmanager
def leading(machines: Machines, stop: Stop, *, run: str) -> Iterator["Store | None"]:
    """On the main machine: hold the store while a run and those before it are trained, and tell the
    others how it ended. None where there is one machine."""
    if machines.count == 1:
        yield None
        return
    store = Store.of(machines, stop)
    try:
        yield store
    except BaseException as error:
        said = str(error) if isinstance(error, UserError) else type(error).__name__
        store.tell({"failed": said, "stopped": isinstance(error, Stopped)})
        store.await_readers(stop)
        raise
    store.tell({"whole": run})
    store.await_readers(stop)


def jobs(machines: Machines, stop: Stop, *, run: str) -> Iterator[dict]:
    """On another machine: the jobs that the main one gives out, until it says that the run is
    whole.

    Raises:
        Stopped, TrainingError: it ended in that way.
        ConfigError: it trains another run.
    """
    store = Store.of(machines, stop)
    while True:
        message = store.hear(stop)
        if "job" in message:
            yield message["job"]
        elif "failed" in message:
            kind = Stopped if message["stopped"] else TrainingError
            raise kind(f"the main machine, {machines.address}: {message['failed']}")
        elif message["whole"] != run:
            raise ConfigError(
                f"the main machine, {machines.address}, trained run {message['whole']}, and this "
                f"one was to train {run}; give the same command to each"
            )
        else:
            return


def hear_out(machines: Machines) -> str:
    """On another machine, whose part of a job has failed: what the main one says of it, in words,
    so that both have heard the same."""
    store = Store.of(machines, Stop())
    try:
        message = {"job": None}
        while "job" in message:
            message = store.hear(Stop(), seconds=LATENCY)
    except UserError as error:
        return str(error)
    return f"the main machine, {machines.address}: {message.get('failed', 'all is well')}"


def until_shared(path: Path, text: str, stop: Stop) -> None:
    """Wait until a file that the main machine wrote is to be read here.

    Raises `ConfigError` where it is not after `LATENCY` seconds.
    """
    until = time.monotonic() + LATENCY
    while not path.is_file() or path.read_text(encoding="utf-8") != text:
        if time.monotonic() > until:
            raise ConfigError(
                f"{path}: the main machine has written it, and here it is not to be read; set "
                "DALIB_RUNS to a folder that all machines share, at the same path"
            )
        _give_way(stop)
