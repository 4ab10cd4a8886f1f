"""Learning curves in words: the signs that are told are those of the records."""

import pytest
from helpers import fabricated

from dabook.analysis import curves
from dabook.analysis.statistics import recorded
from dabook.pages import learning
from dabook.runs.experiments import expand
from dabook.show.sentences import UNRECORDED

BASE = [0.30, 0.31, 0.32]
STEPS = ("_third", "", "_triple")


@pytest.fixture(autouse=True)
def study(tmp_path, monkeypatch):
    """An empty checkout whose records a test may write."""
    monkeypatch.setenv("DALIB_ROOT", str(fabricated.root(tmp_path / "root")))


def write(**factors: tuple[float, float, float]) -> tuple:
    """Every row at a factor of `BASE` at each number of steps; the plan and its results."""
    levels = {
        f"{row}{end}": [x * factor for x in BASE]
        for row, by_steps in factors.items()
        for end, factor in zip(STEPS, by_steps, strict=True)
    }
    fabricated.write("learning_curves", levels)
    return recorded("learning_curves"), expand("learning_curves", profile="study")


def numbers(plan) -> list[int]:
    return list(learning.steps_of(plan, "Labelled images only"))


def test_an_order_that_turns_is_told():
    """Pseudo labels help early and harm late; perturbation always helps; alignment never does
    anything that could be told."""
    results, plan = write(
        labelled_only=(1.0, 0.9, 0.8),
        naive=(0.9, 0.9, 0.9),
        perturbed=(0.8, 0.8, 0.8),
        full=(0.8, 0.8, 0.8),
    )
    first, _, last = numbers(plan)
    assert learning.order(results, plan) == (
        f"Of 3 rows 1 changes places with the row before it between {first} and {last} steps "
        "(“+ pseudo labels”). The sign of 1 of the 3 changes is decided, and the same, at every number "
        "of steps (“+ strong perturbation”)."
    )
    told = learning.ladder(results, plan)
    assert f"The students with pseudo labels lower the error at {first} (−10.0 %)" in told
    assert f"raise the error at {last} (+12.5 %)" in told


def test_an_order_that_holds_is_told():
    results, plan = write(
        labelled_only=(1.0, 0.9, 0.8), naive=(0.95, 0.85, 0.75), perturbed=(0.9, 0.8, 0.7)
    )
    first, usual, last = numbers(plan)
    told = learning.order(results, plan)
    assert told.startswith(
        f"None of 2 rows changes places with the row before it between {first} and {last} steps by "
        "both intervals. The sign of 2 of the 2 changes is decided, and the same, at every number"
    )
    gained = learning.gained(curves.of(plan, results))
    assert gained.startswith(
        f"From {usual} to {last} steps: “Labelled images only” lowers the error"
    )
    assert "by 11.1 %" in gained
    assert "“+ feature alignment”" not in gained


def test_of_one_number_of_steps_no_order_is_told():
    levels = {"labelled_only": BASE, "naive": [0.9 * x for x in BASE]}
    fabricated.write("learning_curves", levels)
    results, plan = recorded("learning_curves"), expand("learning_curves", profile="study")
    assert learning.order(results, plan).startswith(
        f"Only runs of {numbers(plan)[1]} steps are recorded so far"
    )


@pytest.mark.slow
def test_labelled_images_alone_at_equal_compute_stand_beside_the_curves():
    rows = {row.name: row.configs[0] for row in expand("main_table", profile="study").rows}
    takes = f"takes {rows['labelled_long'].steps} steps, "
    bare = learning.labelled_long()
    assert takes in bare
    assert "At equal compute" not in bare
    assert UNRECORDED not in bare
    fabricated.write("main_table", {"labelled_only": BASE, "labelled_long": [x / 2 for x in BASE]})
    assert "; beside it, it lowers the error by 50.0 %" in learning.labelled_long()
    fabricated.write("main_table", {"full": BASE})
    told = learning.labelled_long()
    assert "At equal compute, “+ feature alignment” beside “Labelled images only, the" in told
    assert "raises the error by 100.0 %" in told


def test_nothing_recorded():
    results, plan = recorded("learning_curves"), expand("learning_curves", profile="study")
    assert learning.order(results, plan) == UNRECORDED
    assert set(learning.ladder(results, plan).split(". ")) <= {UNRECORDED, UNRECORDED[:-1]}
    assert learning.gained(curves.of(plan, results)) == UNRECORDED
