# The same rows for several GPUs or a cluster: snakemake --cores 2, or with a SLURM executor plugin. The notebooks then find
# every record done. Example: snakemake --cores 4 --resources gpu=4 --config experiment=main_table profile=study seeds=5

import shlex
import sys

from snakemake.exceptions import WorkflowError

try:
    from dalib import paths
    from dalib.config import check_names
    from dalib.errors import UserError
    from dabook.runs import records
    from dabook.runs.experiments import check_number, expand
    from dalib.training.processes import check_processes, refuse_other_launcher
except ImportError as error:
    raise WorkflowError(
        f"{sys.executable}, the Python of this snakemake, has no {error.name}; call .venv/bin/snakemake, which `make test` sets up"
    ) from None

EXPERIMENT = config.get("experiment", "main_table")
PROFILE = config.get("profile", "study")
SEEDS = config.get("seeds")
PROCESSES = config.get("processes", 1)
PYTHON = shlex.quote(sys.executable)  # this one, whatever `python` is on the path of a job

try:
    refuse_other_launcher()
    check_names(config, ("experiment", "profile", "seeds", "processes"), what="name under --config")
    check_number(PROCESSES, "processes")
    plan = expand(EXPERIMENT, profile=PROFILE, seeds=SEEDS)
    entries = {e.config.hash(): e for e in records.entries(plan)}
    check_processes(PROCESSES, *(e.config for e in entries.values()))
    paths.writable_runs()
except UserError as error:
    raise WorkflowError(str(error)) from None
FOLDER = str(records.folder(committed=plan.committed) / EXPERIMENT)
needed = {h: e.config.prerequisites().get("teacher") for h, e in entries.items()}
teachers = {h: run.hash() for h, run in needed.items() if run is not None}


def teacher(wildcards):
    """A student waits for its teacher where the teacher is a row of the same table."""
    found = teachers.get(wildcards.hash)
    return f"{FOLDER}/{found}.json" if found in entries else []


rule all:
    input:
        [f"{FOLDER}/{h}.json" for h, e in entries.items() if e.status != "fresh"],


rule row:
    input:
        teacher,
    output:
        FOLDER + "/{hash}.json",
    params:
        row=lambda w: entries[w.hash].row.name,
        seed=lambda w: entries[w.hash].config.seed,
    resources:
        gpu=1,
    shell:
        "{PYTHON} -m dabook row {EXPERIMENT} {params.row} --profile {PROFILE} --seed {params.seed} --processes {PROCESSES}"
