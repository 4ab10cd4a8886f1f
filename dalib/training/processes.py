"""How many processes train, and that no launcher but our own starts them: asked before anything
waits."""

import os
import socket
import time

from dalib.config import RunConfig
from dalib.errors import ConfigError, Stopped
from dalib.stopping import Stop

# of torchrun and its kin; where one is set, processes wait for the others
RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
# of MPI, which sets 1 for a single process too
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
# of `accelerate launch`, which change how a step is made -> the values that change nothing
SETTINGS = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("1",),
    "ACCELERATE_DYNAMO_BACKEND": ("no", "NO"),
    "ACCELERATE_USE_DEEPSPEED": ("false", "False"),
    "ACCELERATE_USE_FSDP": ("false", "False"),
    "ACCELERATE_USE_MEGATRON_LM": ("false", "False"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": ("false", "False"),
}


def refuse_other_launcher() -> None:
    """Raise `ConfigError` where the environment is that of torchrun, MPI or `accelerate launch`.

    Every process of such a launcher would train the same run, or wait for ever for others that
    never come. For the parent of a training only: its workers, which `dalib.training.launch`
    starts, have these variables rightly.
    """
    found = [name for name in RANKS if name in os.environ]
    found += [name for name in SIZES if os.environ.get(name, "1") != "1"]
    found += [
        name for name, plain in SETTINGS.items() if os.environ.get(name, plain[0]) not in plain
    ]
    if found:
        raise ConfigError(
            f"{', '.join(found)}: set by another launcher (torchrun, accelerate launch, MPI); "
            "call the command without it and"
            f" say --processes N, or unset what is left over: unset {' '.join(found)}"
        )


def check_processes(count: int, *configs: RunConfig, machines: int = 1) -> None:
    """Raise `ConfigError` for more processes on each of the machines than this one has cores or
    GPUs, or a number that cannot share these runs' batches."""
    if count < 1:
        raise ConfigError(f"processes: {count} is not at least 1")
    if count == 1:
        return
    import torch  # seconds to import, which a run in one process can do without here

    from dalib.data.mixture import check_shares

    gpus = torch.cuda.device_count()
    limit, what = (gpus, "GPUs") if gpus else (os.cpu_count() or 1, "cores")
    if count // machines > limit:
        each = f" on each of {machines} machines" if machines > 1 else ""
        raise ConfigError(
            f"processes: {count // machines}{each} is more than the {limit} {what} of this machine"
        )
    for config in configs:
        try:
            check_shares(config, count)
        except ConfigError as error:
            raise ConfigError(f"processes: {error}; take a number that divides them") from error


def wait_for_launcher(stop: Stop) -> None:
    """Wait until the place where the processes of a job meet can be reached; `Stopped` where their
    launcher is gone.

    torch would wait there too, but deaf and blind: killed while its processes are importing, a
    launcher would leave them there for as long as they may wait for one another. Nothing is waited
    for where there is one process, or where this one is the place.
    """
    place = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    launcher_is_place = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if None in place or not (launcher_is_place or os.environ.get("RANK", "0") != "0"):
        return
    while True:
        try:
            socket.create_connection((place[0], int(place[1])), timeout=5).close()
        except OSError:
            if reason := stop.reason():
                raise Stopped(f"stopped by {reason} before the processes met") from None
            time.sleep(0.2)
        else:
            return
