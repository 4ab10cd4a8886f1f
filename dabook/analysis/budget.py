"""What a run costs in images that pass through the network, and how two rows of a comparison stand
in that."""

from dabook.analysis.statistics import Results, recorded
from dalib.config import RunConfig

EQUAL_STEPS = "at equal steps"


def image_passes(config: RunConfig) -> int:
    """Images that pass through the network in training, each as often as it does: labelled ones,
    and those of the pool.

    What came before is not counted: the teacher, an earlier round, the labelling.
    """
    return config.steps * config.batch * (1 + config.unlabelled_ratio * config.pseudo_labels)


def budget(results: Results, row: str, other: str) -> str:
    """How the training of a row compares in size with that of another: words, or nothing where
    steps and passes are the same."""
    first = results.rows[row].configs[0]
    second = results.rows[other].configs[0]
    ours = image_passes(first)
    theirs = image_passes(second)
    if ours == theirs:
        return "" if first.steps == second.steps else "at equal image passes"
    steps = f"{EQUAL_STEPS}, " if first.steps == second.steps else ""
    return f"{steps}{ours} image passes against {theirs}"


def passes(results: Results) -> str:
    """The image passes of every row: a sentence that names the rows by their number."""
    groups: dict[int, list[str]] = {}
    for row in results.rows.values():
        groups.setdefault(image_passes(row.configs[0]), []).append(f"“{row.label}”")
    return (
        "Image passes in training: "
        + "; ".join(f"{n} for {', '.join(rows)}" for n, rows in groups.items())
        + "."
    )


def longer() -> Results:
    """The page on the pool's rows of three times the steps: the student beside labelled images
    alone."""
    return Results(recorded("pool").entries, against={"long_4000": "long_labelled_only"})
