# The same rows for several GPUs or a cluster. The notebooks then find every record done. On one machine, four rows at a time,
# each on a GPU of its own (`processes` GPUs where that is above 1; the cores where there is none):
#   snakemake --cores 4 --config experiment=main_table profile=study seeds=5
# On a cluster, each row a job of its own (pip install snakemake-executor-plugin-slurm; edit configs/slurm/config.yaml):
#   snakemake --profile configs/slurm --config experiment=main_table profile=gpu processes=8

import shlex
import sys

from snakemake.exceptions import WorkflowError

try:
    from dalib import paths
    from dalib.config import check_names
    from dalib.errors import ConfigError, UserError
    from dabook.runs import records
    from dabook.runs.experiments import check_number, expand
    from dalib.training.machines import machines_of
    from dalib.data.mixture import check_shares
    from dalib.training.processes import refuse_other_launcher
except ImportError as error:
    raise WorkflowError(
        f"{sys.executable}, the Python of this snakemake, has no {error.name}; call .venv/bin/snakemake, which `make test` sets up"
    ) from None

EXPERIMENT = config.get("experiment", "main_table")
PROFILE = config.get("profile", "study")
SEEDS = config.get("seeds")
PROCESSES = config.get("processes", 1)
ACCELERATE = config.get("accelerate")  # a file of configs/, such as fsdp.yaml
PYTHON = shlex.quote(sys.executable)  # this one, whatever `python` is on the path of a job

try:
    refuse_other_launcher()
    check_names(config, ("experiment", "profile", "seeds", "processes", "accelerate"), what="name under --config")
    check_number(PROCESSES, "processes")
    machines = machines_of(ACCELERATE, processes=PROCESSES, machine_rank=0 if ACCELERATE else None)
    PROCESSES = machines.processes
    if machines.count > 1:
        raise ConfigError(f"{ACCELERATE}: a row is a job on one machine here; see configs/slurm/two_machines.sbatch")
    plan = expand(EXPERIMENT, profile=PROFILE, seeds=SEEDS)
    entries = {e.config.hash(): e for e in records.entries(plan)}
    for entry in entries.values():  # whether there are so many GPUs is for each job's own machine to say
        check_shares(entry.config, PROCESSES)
    paths.writable_runs()
except UserError as error:
    raise WorkflowError(str(error)) from None
FOLDER = str(records.folder(committed=plan.committed) / EXPERIMENT)
needed = {h: [r.hash() for r in e.config.prerequisites().values()] for h, e in entries.items()}


def before(wildcards):
    """A row waits for the runs that it builds on, such as its teacher, where they are rows of the same table."""
    return [f"{FOLDER}/{h}.json" for h in needed.get(wildcards.hash, []) if h in entries]


rule all:
    input:
        [f"{FOLDER}/{h}.json" for h, e in entries.items() if e.status != "fresh"],


rule row:
    input:
        before,
    output:
        FOLDER + "/{hash}.json",
    params:
        row=lambda w: entries[w.hash].row.name,
        seed=lambda w: entries[w.hash].config.seed,
        accelerate=f" --accelerate {shlex.quote(ACCELERATE)}" if ACCELERATE else "",
    resources:
        gpu=PROCESSES,
    shell:
        # a GPU for each process, which no other job has (dabook.runs.gpus)
        "{PYTHON} -m dabook.runs.gpus {PROCESSES} "
        "{PYTHON} -m dabook row {EXPERIMENT} {params.row} --profile {PROFILE} --seed {params.seed} --processes {PROCESSES}{params.accelerate}"
