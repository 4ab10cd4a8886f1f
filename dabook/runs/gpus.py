"""GPUs for jobs that run at the same time on one machine: `python -m dabook.runs.gpus COUNT COMMAND`
waits until so many are free, and becomes the command, which sees no others.

What is free is told by locks of the operating system (`flock`) on files in `runs/locks`, which a job
that has died cannot leave behind: the command inherits them open, and the kernel lets go of them
when it ends, however it ends. Without a GPU, the command starts as it is.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from dalib import locking, paths
from dalib.errors import ConfigError


def visible() -> list[str]:
    """The GPUs that this process may use, by the names that `CUDA_VISIBLE_DEVICES` has for them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    try:
        said = subprocess.run(
            ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    return said.stdout.split()


def take(count: int, gpus: list[str]) -> dict[str, int]:
    """Wait until `count` of these GPUs are free, and hold them: name -> the open file of its lock.

    All or none are held while it waits, so that jobs of several GPUs cannot block one another.
    Raises `ConfigError` for more than there are.
    """
    if count > len(gpus):
        raise ConfigError(
            f"processes: {count} is more than the {len(gpus)} GPUs of this machine "
            f"({', '.join(gpus)})"
        )
    told = False
    while True:
        held = {}
        for gpu in gpus:
            if len(held) == count:
                break
            handle = os.open(_lock(gpu), os.O_RDWR | os.O_CREAT, 0o666)
            if locking.lock(handle):
                held[gpu] = handle
            else:
                os.close(handle)
        if len(held) == count:
            return held
        for handle in held.values():
            os.close(handle)
        if not told:
            print(f"waiting for {count} of {len(gpus)} GPUs", file=sys.stderr, flush=True)
            told = True
        # jobs that wait alike should not meet again and again
        time.sleep(0.5 + (os.getpid() % 100) / 200)


def _lock(gpu: str) -> Path:
    """A file for each GPU of each machine; and of each allocation of a cluster, where the same
    number may stand for another GPU."""
    job = os.environ.get("SLURM_JOB_ID", "")
    name = f"gpu-{socket.gethostname()}-{job}-{gpu}".replace("/", "_")
    folder = paths.runs() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def main(words: list[str]) -> None:
    """Become the command, with GPUs of its own."""
    count, command = int(words[0]), words[1:]
    gpus = visible()
    if gpus:
        held = take(count, gpus)
        for handle in held.values():
            os.set_inheritable(handle, True)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(held)
    os.execvp(command[0], command)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ConfigError as error:
        sys.exit(f"error: {error}")
