"""One process of a training in several: what `accelerate launch -m dalib.training.worker JOB PARENT`
runs, PARENT being the process of this machine that began it.

Its lines for the parent, which is `dalib.training.launch`, begin with `SAYS` and `ENDS`.
"""

import sys
from pathlib import Path

import torch

from dalib import provenance
from dalib.errors import TrainingError, UserError
from dalib.progress import encode
from dalib.stopping import STOP, Stop, listening
from dalib.training.folder import held, read_json
from dalib.training.launch import ENDS, SAYS, WORKERS, execute
from dalib.training.processes import wait_for_launcher


def work(path: Path, parent: int) -> None:
    """Do a process's part of the job in this file. A `UserError` ends it with one line."""
    job = read_json(path)
    out = path.parent
    try:
        if job.get("stamp") != provenance.code_hash("training"):
            raise TrainingError("the code was edited after this run began; run again")
        stop = Stop(file=out / STOP, parent=parent)
        with listening(stop), held(out, report=_say, role=WORKERS, shared=True):
            wait_for_launcher(stop)
            execute(job, stop=stop, report=_say)
    except UserError as error:
        # in one line
        print(ENDS.rstrip(), f"{type(error).__name__}:", *str(error).split(), flush=True)
        raise SystemExit(error.exit_code) from error
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _say(line: str) -> None:
    print(f"{SAYS}{encode(line)}", flush=True)


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]))
