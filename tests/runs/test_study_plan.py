"""The plan of the study: read strictly, frozen once, and changed afterwards only where it says
so."""

import pytest
import yaml
from helpers import planned
from helpers.commands import main

from dabook.runs import jobs, plan
from dalib import paths, provenance
from dalib.errors import ConfigError


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = planned.write(tmp_path / "root")
    monkeypatch.setenv("DALIB_ROOT", str(folder))
    return folder


def edit(old: str, new: str) -> None:
    text = paths.plan().read_text()
    assert text.count(old) == 1
    paths.plan().write_text(text.replace(old, new))


def experiments(change) -> None:
    """Write another experiments.yaml."""
    tree = yaml.safe_load((paths.root() / "experiments.yaml").read_text())
    change(tree)
    (paths.root() / "experiments.yaml").write_text(yaml.safe_dump(tree, sort_keys=False) + "\n")


def amend(day: str, what: str) -> None:
    text = paths.plan().read_text().partition("amendments:")[0]
    paths.plan().write_text(
        f"{text}amendments:\n  - {{date: {day}, what: '{what}', why: It had to be.}}\n"
    )


# reading


def test_every_part_of_the_file_is_read(root):
    found = plan.read()
    assert found.about == "A study of two questions."
    assert found.settings == {"steps": 40, "batch": 4}
    assert [q.experiment for q in found.questions] == ["ideas", "longer"]
    assert found.questions[0].seconds == {"naive": 300, "blurred": 400, "labelled_only": 100}
    assert found.questions[1].seconds == {"labelled_only": 200, "twice": 200}
    assert found.tried[0].decision == "40 steps"
    assert found.cut[0].why == "They take too long."
    assert found.amendments == ()
    assert found.rows is found.science is None


def test_an_absent_plan_is_told_in_words(tmp_path, monkeypatch, capsys):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    assert plan.read_if_there() is None
    for words in (["plan"], ["plan", "--freeze"], ["study"]):
        assert main(words) == 1
        assert "there is no plan of the study yet; write one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("about: A study", "abuot: A study", "Did you mean 'about'"),
        ("about: A study of two questions.", "about: 3", "about: expected text, got 3"),
        ("cut:", "cut: []\nwhy:", "unknown key of top level in data/plan.yaml 'why'"),
        ("{steps: 40, batch: 4}", "{stpes: 40}", "Did you mean 'steps'"),
        ("{steps: 40, batch: 4}", "[]", "budget: settings: expected settings"),
        (
            "  why: More steps change nothing.",
            "  wy: x",
            "unknown key of budget in data/plan.yaml 'wy'",
        ),
        (
            "decision: 40 steps}",
            "decision: 40 steps, x: y}",
            "unknown key of tried, 1 in data/plan.yaml 'x'",
        ),
        (", decision: 40 steps", "", "tried, 1: decision missing"),
        ("decision: 40 steps}", "decision: a, numbers: data/x.csv}", "data/x.csv is not in"),
        ("experiment: longer", "experiment: longr", "Did you mean 'longer'"),
        ("experiment: longer", "experiment: ideas", "ideas stands there twice"),
        ("seeds: 1,", "seeds: 0,", "longer: seeds: 0 is not at least 1"),
        ("seeds: 1,", "seeds: one,", "longer: seeds: expected a whole number"),
        ("seconds: 200", "seconds: 0", "seconds of labelled_only: expected a number above 0"),
        ("seconds: 200", "seconds: .inf", "expected a number above 0"),
        ("naive: 300, ", "", "ideas: seconds: naive missing"),
        ("naive: 300", "naiv: 300", "Did you mean 'naive'"),
        ("naive: 300", "naive: true", "seconds of naive: expected a number above 0, got True"),
        ("cut:\n", "cut:\n  - larger\n", "cut, 1: expected what, why, got 'larger'"),
        ("cut:\n", "amendments: later\ncut:\n", "amendments: expected a list, got 'later'"),
        (
            "cut:\n",
            "amendments: [{date: 29.11.2026, what: a, why: b}]\ncut:\n",
            "expected a date such as 2026-11-29, got '29.11.2026'",
        ),
        ("cut:\n", "rows: {ideas: 123456789012}\ncut:\n", "ideas: expected twelve hex digits"),
        ("cut:\n", "science: {training: abc}\ncut:\n", "science: expected what python -m dabook"),
        ("device_type: ", "device_type: x", "device_type in processor"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(root, old, new, message):
    edit(old, new)
    with pytest.raises(ConfigError) as refused:
        plan.read()
    assert message in str(refused.value)
    assert "plan.yaml" in str(refused.value) or message == "Did you mean 'longer'"


# what is frozen


def test_freezing_keeps_the_text_and_says_what_changes_later(root, capsys):
    before = paths.plan().read_text()
    assert main(["plan", "--freeze"]) == 0
    text = paths.plan().read_text()
    assert text.startswith(before)
    found = plan.read()
    assert list(found.rows) == ["ideas", "longer"]
    assert found.science == {part: provenance.code_hash(part) for part in provenance.ROOTS}
    assert plan.changes(found) == {}
    assert plan.freeze() == "data/plan.yaml: is frozen as it stands"

    def relabelled(tree):
        rows = tree["experiments"]["ideas"]["rows"]
        rows["naive"]["label"] = "another"
        tree["experiments"]["ideas"]["rows"] = dict(reversed(rows.items()))

    experiments(relabelled)
    assert plan.changes(plan.read()) == {}

    def longer(tree):
        tree["experiments"]["longer"]["rows"]["twice"]["set"]["steps"] = 81

    experiments(longer)
    assert list(plan.changes(plan.read())) == ["longer"]
    capsys.readouterr()
    assert main(["plan"]) == 0
    assert "rows or seeds of longer have changed since" in capsys.readouterr().out
    assert "frozen; commit it" in plan.freeze()
    again = plan.read()
    assert again.rows["ideas"] == found.rows["ideas"]
    assert again.rows["longer"] != found.rows["longer"]
    assert paths.plan().read_text().count("rows:") == 1


@pytest.mark.parametrize("part", provenance.ROOTS)
def test_other_science_is_told(root, part):
    plan.freeze()
    edit(f"{part}: '{provenance.code_hash(part)}'", f"{part}: '{'0' * 12}'")
    (words,) = plan.changes(plan.read()).values()
    assert words == (
        f"the science has changed: {part} is {provenance.code_hash(part)}, frozen was {'0' * 12}"
    )


def test_frozen_keys_may_stand_anywhere_and_in_any_form(root):
    plan.freeze()
    rows = plan.read().rows
    edit("about: A study", "rows: {ideas: 'ffffffffffff'}\n# a remark\nabout: A study")
    text = paths.plan().read_text()
    tail = "rows:\n" + "".join(f"  {name}: '{value}'\n" for name, value in rows.items())
    assert text.endswith(tail)
    paths.plan().write_text(text.removesuffix(tail))
    plan.freeze()
    assert plan.read().rows == rows
    assert "# a remark\nabout" in paths.plan().read_text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t["profiles"]["study"].update(seeds=3), "ideas: 2 seeds, but 3 in profile"),
        (
            lambda t: t["profiles"]["study"]["set"].update(steps=41),
            "budget: steps is 40, but 41 in profile study",
        ),
    ],
)
def test_a_plan_that_contradicts_the_experiments_is_not_frozen(root, change, words):
    experiments(change)
    with pytest.raises(ConfigError, match=words):
        plan.freeze()
    assert plan.read().rows is None


def test_after_the_first_record_a_change_needs_an_amendment_of_the_day(root):
    plan.freeze()
    planned.keep("longer", "twice", 0)
    assert plan.freeze() == "data/plan.yaml: is frozen as it stands"
    frozen = plan.read().rows

    def longer(tree):
        tree["experiments"]["longer"]["rows"]["twice"]["set"]["steps"] = 81

    experiments(longer)
    today = plan._today()
    for day, what in ((None, ""), ("2026-01-02", "longer"), (today, "longer_ones"), (today, "all")):
        if day is not None:
            amend(day, what)
        with pytest.raises(ConfigError, match=r"names each of these(.|\n)*seeds of longer have"):
            plan.freeze()
        assert plan.read().rows in (frozen, None)
    amend(today, "longer: another number of steps")
    plan.freeze()
    assert plan.changes(plan.read()) == {}


def test_records_of_no_question_need_an_amendment_too(root):
    path = planned.keep("longer", "twice", 0)
    path.rename(path.with_name("0123456789ab.json"))
    with pytest.raises(ConfigError, match="longer is not frozen"):
        plan.freeze()
    path.with_name("0123456789ab.json").unlink()
    plan.freeze()
    (paths.records() / "gone").mkdir()
    (paths.records() / "gone" / "0123456789ab.json").write_text("{}")
    with pytest.raises(ConfigError, match="gone has records that the plan does not know"):
        plan.freeze()


# its runs and its costs


def test_runs_go_seed_by_seed_and_what_others_build_on_goes_first(root):
    found = jobs.jobs(plan.read())
    names = [(job.row.experiment, job.row.name, job.config.seed) for job in found]
    rows = ("labelled_only", "naive", "blurred")
    assert names == [("ideas", row, seed) for seed in (0, 1) for row in rows] + [
        ("longer", "twice", 0)
    ]
    assert [len(job.before) for job in found] == [0, 1, 1] * 2 + [0]
    assert found[1].claims() & found[2].claims() == {found[1].before[0].hash()}
    assert not found[1].claims() & found[4].claims()


def test_the_plan_is_counted_in_core_hours(root, capsys):
    planned.keep("ideas", "labelled_only", 0, wall_seconds=40.0)
    planned.keep("ideas", "naive", 0, training_hash="0" * 12)
    whole = jobs.overview(plan.read())
    ideas, longer = whole.lines
    assert (ideas.rows, ideas.seeds, ideas.runs, ideas.recorded, ideas.fresh) == (3, 2, 6, 2, 1)
    assert ideas.seconds == 2 * (300 + 400 + 100)
    # naive twice, blurred twice, and one labelled_only, which took 40 s before
    assert ideas.left == 2 * 300 + 2 * 400 + 40
    # labelled_only is a run of the first question
    assert (longer.rows, longer.runs, longer.seconds, longer.left) == (2, 1, 200, 200)
    # one teacher per seed, for which no row stands: as the dearest that it is trained for is not
    # known to be needed, as the first of its students
    assert (whole.others, whole.others_seconds, whole.others_left) == (2, 600, 600)
    assert whole.seconds == 1600 + 200 + 600
    assert main(["plan"]) == 0
    said = capsys.readouterr().out
    assert "in all 0.7 core-hours, 0.6 left" in said  # 2400 s, 2240 s
    assert "ideas is not frozen" in said


def test_the_pace_is_that_of_the_records(root):
    found = jobs.jobs(plan.read())
    pace = jobs.Pace(found)
    alone, naive, blurred = found[:3]
    assert pace.needed(alone) == 100
    assert pace.needed(naive) == 600  # and a teacher, for which no row stands
    assert pace.of_run(alone.config.replace(seed=9), naive.key) == 100  # a row but for its seed
    pace.learn(alone, 40.0, elapsed=55.0, before=0.0)
    pace.learn(blurred, 200.0, elapsed=325.0, before=100.0)
    assert pace.of(alone.key) == 40 + 20  # 15 and 25 s besides
    assert pace.of(blurred.key) == 200 + 20
    assert pace.of(naive.key) == 300
    pace.learn(alone, 60.0, elapsed=20.0, before=0.0)  # the rest of it was trained before
    assert pace.of(alone.key) == 50 + 20
