"""Made-up records of networks under corruption, with known means."""

from dabook.analysis import corruption
from dabook.runs import records, robustness
from dabook.runs.experiments import expand
from dalib import provenance
from dalib.evaluation import robustness as scores
from dalib.writing import write_text
from helpers import fabricated

ROWS = ("labelled_only", "naive", "perturbed", "full")


def corrupted(levels, *, profile: str = "study", rows=ROWS, **changed) -> corruption.Robustness:
    """Records in which `levels(row, seed, kind, strength)` is the AbsRel, and one minus it the
    ordinal accuracy; of the study five seeds."""
    seeds = 5 if profile == "study" else None
    plan = expand("main_table", profile=profile, seeds=seeds)
    today = provenance.code_hash("training")
    for row in (plan[name] for name in rows):
        for config in row.configs:
            found = {}
            for kind, strength in scores.CONDITIONS:
                level = levels(row.name, config.seed, kind, strength)
                images = {
                    "abs_rel": [level - 0.01, level + 0.01],
                    "ordinal": [1 - level, 1 - level],
                }
                found[scores.condition_name(kind, strength)] = dict.fromkeys(
                    fabricated.DOMAINS[:6], images
                )
            record = (
                robustness.make(
                    row, config, weights="ab", training_hash=today, found=found, seconds=1.0
                )
                | changed
            )
            write_text(robustness.path(config, committed=plan.committed), records.dump(record))
    return corruption.Robustness(robustness.entries(profile=profile, seeds=seeds))


def example(row, seed, kind, strength) -> float:
    """Perturbation keeps the clean error and halves what corruption adds; alignment does nothing
    but vary with the seed."""
    slope = {"labelled_only": 0.02, "naive": 0.02}.get(row, 0.01)
    return 0.2 + 0.001 * seed + slope * strength + (row == "full") * (0.002 * (seed % 2) - 0.001)
