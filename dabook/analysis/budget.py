"""What a run costs, and at which reading two rows stand side by side.

A student reads more images than the row that it is compared with, and somebody had to train its
teacher and label its pool. So a difference has two readings. *At equal steps*: both rows took as many
steps on labelled images, as in the paper's tables. *At equal compute*: labelled images alone were
given what teacher, labelling and student cost together. An experiment names such rows under
`equal_compute`, and nothing is called reproduced without its reading (`dabook.analysis.verdicts`).
"""

from functools import cache

from dabook.analysis.statistics import Estimate, Results
from dabook.runs.experiments import divides
from dalib.config import RunConfig
from dalib.errors import ConfigError

EQUAL_STEPS = "at equal steps"
EQUAL_COMPUTE = "at equal compute"
EQUAL_BOTH = "at equal steps and compute"
EQUAL_PASSES = "at equal image passes, teacher not counted"
UNTRAINED = "against floors, which are not trained"
NONE_DECLARED = "no row of equal compute is declared"
TOLERANCE = 0.02
"""By how much the compute of two rows may differ and still be called equal."""
SPARE = 0.15
"""By how much more labelled images alone may have, and still be called so: one long row serves
students of different cost, and what it has too much speaks against them."""
BACKWARD = 2
"""Forward passes that a backward pass costs: it computes gradients of activations and of weights."""


def image_passes(config: RunConfig) -> int:
    """Images that pass through the network in training, each as often as it does: labelled ones,
    and those of the pool.

    What came before is not counted: the teacher, an earlier round, the labelling.
    """
    pool = config.pool_batch * config.pseudo_labels
    return config.steps * (config.labelled_batch + pool)


def forward_passes(config: RunConfig) -> int:
    """The work of a run by itself in forward passes of one image: three for an image that is learned
    from, one for an image that is labelled.

    They can be held against those of another run where networks and images of both are of one size
    and no features are aligned; `operations` counts everything.
    """
    work = (1 + BACKWARD) * image_passes(config)
    if config.stores_labels:
        return work + config.unlabelled_images
    return work + config.steps * config.pool_batch * config.teacher_labels


@cache
def operations(config: RunConfig) -> tuple[float, float]:
    """FLOPs of a run by itself, the storing of its labels included, and of the runs that it needs
    first, its teacher's; each of them once."""
    first, *needed = _with_needed(config)
    return _flops(first), sum(map(_flops, needed))


@cache
def _flops(config: RunConfig) -> float:
    from dalib.training.plan import cost  # seconds to import, and most pages count passes alone

    drawn = dict.fromkeys(config.sources.get("unlabelled", ()), -1)
    return cost(config, None, drawn).flops


@cache
def compute(config: RunConfig, other: RunConfig) -> float:
    """How many times the compute of another run a run takes, teacher and labelling counted in both:
    by forward passes where all networks and images are of one size, else by operations.

    What weights cost that are given is not known, and counted in neither.
    """
    ours = _with_needed(config)
    theirs = _with_needed(other)
    every = ours + theirs
    sizes = {(run.encoder, run.height, run.width) for run in every}
    simple = len(sizes) == 1 and not any(run.aligns for run in every)
    if simple or any(run.given() for run in every):
        return sum(map(forward_passes, ours)) / sum(map(forward_passes, theirs))
    return sum(operations(config)) / sum(operations(other))


def _with_needed(config: RunConfig) -> list[RunConfig]:
    """A run, and after it all that are trained before it, each once."""
    found = {config: None}
    for needed in config.prerequisites().values():
        found |= dict.fromkeys(_with_needed(needed))
    return list(found)


@cache
def reading(config: RunConfig, other: RunConfig) -> str:
    """At which reading two runs stand side by side, as the end of a sentence."""
    if config.replace(seed=0) == other.replace(seed=0):
        return EQUAL_BOTH
    steps = (config.steps, config.batch) == (other.steps, other.batch)
    times = compute(config, other)
    if abs(times - 1) <= TOLERANCE:
        return EQUAL_BOTH if steps else EQUAL_COMPUTE
    if not steps and _is_equal(config, other):
        return EQUAL_COMPUTE
    if steps:
        return EQUAL_STEPS
    if image_passes(config) == image_passes(other):
        return EQUAL_PASSES
    return f"at {times:.2g} times the compute"


def reading_of(results: Results, row: str, other: str) -> str:
    """The reading of a row of a table beside another; beside what is no row, such as the best floor,
    `UNTRAINED`."""
    if other not in results.rows:
        return UNTRAINED
    return reading(results.rows[row].configs[0], results.rows[other].configs[0])


def at_equal_compute(results: Results, row: str, **options) -> Estimate | None:
    """The change of a row against labelled images alone with as much compute, as `Results.change`
    gives it; None where the experiment names no such row.

    Raises `ConfigError` where the labelled images have less by more than `TOLERANCE`, or more by more
    than `SPARE`, with the steps that would be right. A profile that divides steps rounds them, and
    is not held to it.
    """
    other = results.equal_compute.get(row)
    if other is None:
        return None
    check_equal(results, row, other)
    return results.change(row, versus=other, **options)


def check_equal(results: Results, row: str, other: str) -> None:
    """Raise `ConfigError` as `at_equal_compute` says."""
    ours = results.rows[row].configs[0]
    theirs = results.rows[other].configs[0]
    if not _is_equal(ours, theirs) and not divides(results.profile):
        times = compute(ours, theirs)
        raise ConfigError(
            f"experiments.yaml, {results.experiment}: equal_compute of {row} is {other}, which takes "
            f"{theirs.steps} steps; with teacher and labelling {row} takes {times:.3f} times its "
            f"compute. Give {other} {round(theirs.steps * times)} steps"
        )


def _is_equal(student: RunConfig, labelled: RunConfig) -> bool:
    """Whether labelled images alone have as much compute as a student, by `TOLERANCE` and `SPARE`."""
    share = compute(labelled, student)
    return not labelled.pseudo_labels and 1 - TOLERANCE <= share <= 1 + SPARE


def beside(results: Results) -> str:
    """What stands under a table of its two readings: a sentence."""
    rows = {row: other for row, other in results.equal_compute.items() if row in results.rows}
    if not rows:
        return f"At equal compute: {NONE_DECLARED} for this table"
    groups: dict[str, list[str]] = {}
    for row, other in rows.items():
        groups.setdefault(other, []).append(f"“{results.rows[row].label}”")
    parts = (
        f"{', '.join(names)} beside “{results.rows[o].label}”{_spare(results, rows, o)}"
        for o, names in groups.items()
    )
    return f"At equal compute (teacher, labelling and student counted): {'; '.join(parts)}"


def _spare(results: Results, rows: dict[str, str], other: str) -> str:
    """How much more compute a labelled row has than the cheapest student beside it, where it shows."""
    labelled = results.rows[other].configs[0]
    students = [results.rows[row].configs[0] for row, long in rows.items() if long == other]
    most = max(compute(labelled, student) for student in students)
    return f" (which has up to {most:.2f} times its compute)" if most > 1 + TOLERANCE else ""


def budget(results: Results, row: str, other: str) -> str:
    """How the training of a row compares in size with that of another: its reading, and the image
    passes where they differ."""
    words = reading_of(results, row, other)
    if words == UNTRAINED:
        return words
    ours = image_passes(results.rows[row].configs[0])
    theirs = image_passes(results.rows[other].configs[0])
    return words if ours == theirs else f"{words}, {ours} image passes against {theirs}"


def passes(results: Results) -> str:
    """The image passes of every row, without those of its teacher: a sentence that names the rows by
    their number."""
    counts = {row.label: str(image_passes(row.configs[0])) for row in results.rows.values()}
    return f"Image passes in training, without teacher and labelling: {_listed(counts)}."


def pool_reads(results: Results) -> str:
    """How often every student reads each image of its drawn pool: a sentence that names the rows by
    that number."""
    students = {
        row.label: row.configs[0] for row in results.rows.values() if row.configs[0].pseudo_labels
    }
    counts = {
        label: f"{config.steps * config.pool_batch / config.unlabelled_images:.1f} times"
        for label, config in students.items()
    }
    return f"In training each image of the pool is read {_listed(counts)}."


def _listed(counts: dict[str, str]) -> str:
    """Labels with what is counted of them, those of one number together."""
    groups: dict[str, list[str]] = {}
    for label, count in counts.items():
        groups.setdefault(count, []).append(f"“{label}”")
    return "; ".join(f"{count} for {', '.join(labels)}" for count, labels in groups.items())
