# The same rows for several GPUs or a cluster: snakemake --cores 2, or with a SLURM executor plugin. The notebooks then find
# every record done. Example: snakemake --cores 4 --resources gpu=4 --config experiment=main_table profile=study seeds=5

from dalib.study import records
from dalib.study.experiments import expand

EXPERIMENT = config.get("experiment", "main_table")
PROFILE = config.get("profile", "study")
SEEDS = config.get("seeds")
PROCESSES = config.get("processes", 1)

plan = expand(EXPERIMENT, profile=PROFILE, seeds=None if SEEDS is None else int(SEEDS))
entries = {e.config.hash(): e for e in records.entries(plan)}
FOLDER = str(records.folder(committed=plan.committed) / EXPERIMENT)
teachers = {h: e.config.teacher().hash() for h, e in entries.items() if e.config.pseudo_labels}


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
        "python -m dalib row {EXPERIMENT} {params.row} --profile {PROFILE} --seed {params.seed} --processes {PROCESSES}"
