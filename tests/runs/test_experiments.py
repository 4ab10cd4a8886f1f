"""experiments.yaml: what it expands to, and that a slip in it is an error that names the known
names."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers import ROOT

from dabook.runs.experiments import LARGEST_SEED, MOST_SEEDS, expand, experiments, profiles
from dalib.config import TEACHER_SEEDS, RunConfig
from dalib.data import perturb
from dalib.data.mixture import shuffled, uniform
from dalib.errors import ConfigError

NULL = object()  # a section with nothing in it
SMALL = {
    "profiles": {
        "quick": {"seeds": 2, "record": "local", "set": {"steps": 5, "batch": 4}},
        "study": {"seeds": 3, "record": "committed", "set": {}},
    },
    "experiments": {
        "fruit": {
            "question": "Which?",
            "seeds": {"study": 4},
            "rows": {
                "apple": {"label": "An apple"},
                "pear": {"label": "A pear", "set": {"pseudo_labels": True, "batch": 6}},
            },
        }
    },
}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Write a tree as the checkout's experiments.yaml."""
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))

    def write(tree):
        text = tree if isinstance(tree, str) else yaml.safe_dump(tree, sort_keys=False)
        (tmp_path / "experiments.yaml").write_text(text)

    write(SMALL)
    return write


def changed(*path, value):
    """SMALL with one value replaced, or removed where it is None."""
    tree = yaml.safe_load(yaml.safe_dump(SMALL, sort_keys=False))
    node = tree
    for key in path[:-1]:
        node = node[key]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = None if value is NULL else value
    return tree


def test_expansion_by_hand(small):
    """The row's settings win over the profile's, seeds count from 0, labels and order are the
    file's."""
    found = expand("fruit", profile="quick")
    assert [(r.name, r.label) for r in found.rows] == [("apple", "An apple"), ("pear", "A pear")]
    assert found.rows[0].configs == tuple(RunConfig(steps=5, batch=4, seed=s) for s in (0, 1))
    assert found.rows[1].configs == tuple(
        RunConfig(steps=5, batch=6, seed=s, pseudo_labels=True) for s in (0, 1)
    )
    assert (found.question, found.committed, found["pear"]) == ("Which?", False, found.rows[1])
    assert experiments() == ["fruit"]
    assert profiles() == ["quick", "study"]


def test_seeds(small):
    """The caller's number, else the experiment's own for this profile, else the profile's."""
    assert len(expand("fruit", profile="quick").rows[0].configs) == 2
    assert len(expand("fruit", profile="study").rows[0].configs) == 4
    assert [c.seed for c in expand("fruit", profile="study", seeds=1).rows[0].configs] == [0]
    assert expand("fruit", profile="study").committed
    for seeds in (0, -1):
        with pytest.raises(ConfigError, match=f"seeds: {seeds} is not at least 1"):
            expand("fruit", profile="quick", seeds=seeds)
    with pytest.raises(ConfigError, match=f"seeds: {MOST_SEEDS + 1} is more than {MOST_SEEDS}"):
        expand("fruit", profile="quick", seeds=MOST_SEEDS + 1)


@pytest.mark.parametrize("seed", [0, 1, 10**9, LARGEST_SEED - TEACHER_SEEDS])
def test_one_seed_alone(seed, small, monkeypatch):
    """Only its config is made; before, all up to it were."""
    made = []
    whole = RunConfig.__post_init__
    monkeypatch.setattr(RunConfig, "__post_init__", lambda self: (made.append(self), whole(self)))
    found = expand("fruit", profile="quick", seed=seed)
    assert [c.seed for c in found["pear"].configs] == [seed]
    assert found["pear"].configs[0] == RunConfig(steps=5, batch=6, seed=seed, pseudo_labels=True)
    assert len(made) < 10


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (-1, "seed: -1 is not at least 0"),
        (LARGEST_SEED + 1, f"is more than {LARGEST_SEED}"),
        (LARGEST_SEED, f"so that {LARGEST_SEED - TEACHER_SEEDS} is the largest here"),
    ],
)
def test_a_seed_that_no_generator_takes_is_refused(seed, message, small):
    with pytest.raises(ConfigError, match=message):
        expand("fruit", profile="quick", seed=seed)


@pytest.mark.parametrize("seed", [LARGEST_SEED, LARGEST_SEED + 1])
def test_the_largest_seed_is_the_last_that_every_generator_takes(seed):
    """Weights, order of the images, flips and crops, perturbations: the same limit by trial."""

    def draw():
        torch.Generator().manual_seed(seed)
        shuffled(np.arange(4), 10, key=2 * seed + 1)
        uniform(seed, 5, np.arange(4))
        perturb.draw([(seed, 1, 0)], ("colour",), height=8, width=8)

    if seed == LARGEST_SEED:
        draw()
    else:
        with pytest.raises(OverflowError):
            draw()


def test_trained_in_the_book_unless_it_says_otherwise(small):
    assert expand("fruit", profile="quick").trained_in_book
    small(changed(*FRUIT, "trained_in_book", value=False))
    assert not expand("fruit", profile="quick").trained_in_book


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("friut", "quick"), r"unknown experiment 'friut'\. Did you mean 'fruit'\? Known: fruit"),
        (("fruit", "quik"), r"unknown profile 'quik'\. Did you mean 'quick'\? Known: quick, study"),
    ],
)
def test_unknown_names(arguments, message, small):
    with pytest.raises(ConfigError, match=message):
        expand(arguments[0], profile=arguments[1])
    with pytest.raises(
        ConfigError,
        match=r"unknown row of fruit 'aple'\. Did you mean 'apple'\? Known: apple, pear",
    ):
        expand("fruit", profile="quick")["aple"]


FRUIT = ("experiments", "fruit")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("experimints",),
            {},
            r"'experimints'\. Did you mean 'experiments'\? Known: profiles, experiments",
        ),
        (("profiles",), None, "profiles missing"),
        (("profiles", "quick", "sets"), {}, r"key of profile quick 'sets'\. Did you mean 'set'"),
        (
            ("profiles", "quick", "record"),
            "git",
            r"kind of record in profile quick 'git'\. Known: local, committed",
        ),
        (("profiles", "quick", "record"), None, "profile quick: record missing"),
        (
            ("profiles", "quick", "set"),
            {"stepz": 1},
            r"fruit\.apple under profile quick: unknown setting 'stepz'",
        ),
        ((*FRUIT, "colour"), 1, "key of experiment fruit 'colour'"),
        (
            (*FRUIT, "trained_in_book"),
            "no",
            "experiment fruit: trained_in_book is 'no', not true or false",
        ),
        ((*FRUIT, "question"), None, "experiment fruit: question missing"),
        ((*FRUIT, "seeds"), {"stduy": 3}, r"'stduy'\. Did you mean 'study'"),
        ((*FRUIT, "rows", "apple"), "red", r"row fruit\.apple: expected label, got 'red'"),
        (
            (*FRUIT, "rows", "apple", "lable"),
            "x",
            r"key of row fruit\.apple 'lable'\. Did you mean 'label'",
        ),
        ((*FRUIT, "rows", "apple", "label"), None, r"row fruit\.apple: label missing"),
        (
            (*FRUIT, "rows", "pear", "set"),
            {"steps": "two"},
            r"fruit\.pear under profile quick: steps: expected int",
        ),
        (
            (*FRUIT, "rows", "pear", "set"),
            {"perturb": ["blur"]},
            r"fruit\.pear under profile quick: .*pseudo_labels: true",
        ),
        (
            (*FRUIT, "rows", "pear", "set"),
            {"seed": 3},
            r"fruit\.pear under profile quick: seeds are counted",
        ),
        # other shapes
        (
            ("profiles",),
            ["quick"],
            r"profiles: expected one profile or more by name, got \['quick'\]",
        ),
        (("profiles",), {}, "profiles: expected one profile or more"),
        (("profiles", "quick"), NULL, "profile quick: expected seeds, record, set, got nothing"),
        (("profiles", "quick", "set"), NULL, "profile quick: set: expected settings, got nothing"),
        (
            ("profiles", "quick", "set"),
            [{"steps": 3}],
            "profile quick: set: expected settings, got ",
        ),
        (
            ("profiles", "quick", "seeds"),
            "two",
            "profile quick: seeds: expected a whole number, got 'two'",
        ),
        (("profiles", "quick", "seeds"), 0, "profile quick: seeds: 0 is not at least 1"),
        (("profiles", "quick", "seeds"), 2.5, "profile quick: seeds: expected a whole number"),
        (("profiles", "quick", "seeds"), True, "profile quick: seeds: expected a whole number"),
        (
            ("profiles", "quick", "seeds"),
            10**9,
            "profile quick: seeds: 1000000000 is more than 1000",
        ),
        (
            ("profiles", "quick", "divide"),
            {"steps": 0},
            "profile quick, divide: steps: 0 is not at least 1",
        ),
        (
            ("profiles", "quick", "divide"),
            ["steps"],
            "profile quick: divide: expected numbers by setting",
        ),
        (("experiments",), [1], "experiments: expected one experiment or more by name"),
        (("experiments",), "fruit", "experiments: expected one experiment or more by name"),
        (FRUIT, NULL, "experiment fruit: expected question, rows, got nothing"),
        ((*FRUIT, "question"), 7, "experiment fruit: question: expected text in quotes, got 7"),
        (
            (*FRUIT, "seeds"),
            3,
            r"experiment fruit: seeds: expected numbers by profile, such as \{study: 3\}, got 3",
        ),
        ((*FRUIT, "seeds"), {"study": 0}, "experiment fruit, seeds: study: 0 is not at least 1"),
        (
            (*FRUIT, "rows"),
            NULL,
            "experiment fruit: rows: expected one row or more by name, got nothing",
        ),
        ((*FRUIT, "rows"), ["apple"], "experiment fruit: rows: expected one row or more by name"),
        ((*FRUIT, "rows", "apple"), NULL, r"row fruit\.apple: expected label, got nothing"),
        (
            (*FRUIT, "rows", "apple", "label"),
            50,
            r"row fruit\.apple: label: expected text in quotes, got 50",
        ),
        (
            (*FRUIT, "rows", "apple", "set"),
            NULL,
            r"row fruit\.apple: set: expected settings, got nothing",
        ),
        ((*FRUIT, "rows", "apple", "set"), [1, 2], r"row fruit\.apple: set: expected settings"),
        (
            (*FRUIT, "rows", "apple", "paper"),
            9,
            r"row fruit\.apple: paper: expected \[table, row\], got 9",
        ),
        ((*FRUIT, "rows"), {50: {"label": "x"}}, "experiment fruit: rows: the name 50 is not text"),
        (
            (*FRUIT, "rows"),
            {False: {"label": "x"}},
            "experiment fruit: rows: the name False is not text",
        ),
        (
            ("experiments", "../up"),
            {"question": "?", "rows": {"a": {"label": "a"}}},
            "'../up' cannot name a file",
        ),
        (
            (*FRUIT, "against"),
            "abvoe",
            "unknown word for against in experiment fruit 'abvoe'. Did you mean 'above'",
        ),
        (
            (*FRUIT, "against"),
            ["apple"],
            "experiment fruit: against: expected above, first or a row for each row",
        ),
        (
            (*FRUIT, "against"),
            {"pear": "aple"},
            "unknown row in against of experiment fruit 'aple'",
        ),
    ],
)
def test_slips_are_named(path, value, message, small):
    small(changed(*path, value=value))
    with pytest.raises(ConfigError, match=message):
        expand("fruit", profile="quick")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  pear:\n", "  apple:\n", "'apple' stands twice, here and in line"),
        (
            "    question: Which?\n",
            "    question: Which?\n    question: Why?\n",
            "'question' stands twice",
        ),
        ("    seeds: 2\n", "\tseeds: 2\n", "indent with spaces"),
    ],
)
def test_what_yaml_would_let_pass_or_tell_in_many_lines_is_named_with_its_line(
    old, new, message, small
):
    text = yaml.safe_dump(SMALL, sort_keys=False)
    assert old in text
    small(text.replace(old, new))
    with pytest.raises(ConfigError, match=rf"experiments\.yaml, line \d+: .*{message}") as caught:
        experiments()
    assert "\n" not in str(caught.value)


def test_a_file_of_another_encoding_is_read(small, tmp_path):
    (tmp_path / "experiments.yaml").write_bytes(
        yaml.safe_dump(SMALL, sort_keys=False).encode("utf-16")
    )
    assert experiments() == ["fruit"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "not valid YAML"), ("", "top level: expected profiles, experiments, got nothing")],
)
def test_a_damaged_file_is_named(text, message, small):
    small(text)
    with pytest.raises(ConfigError, match=rf"experiments\.yaml.*{message}"):
        experiments()


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    with pytest.raises(ConfigError, match=r"experiments\.yaml: not found; .*DALIB_ROOT"):
        experiments()


def test_an_edit_is_seen(small):
    assert expand("fruit", profile="quick").question == "Which?"
    import os
    import time

    small(changed(*FRUIT, "question", value="Why?"))
    os.utime(Path(os.environ["DALIB_ROOT"]) / "experiments.yaml", (time.time() + 5,) * 2)
    assert expand("fruit", profile="quick").question == "Why?"


# the file of this checkout


@pytest.fixture
def checkout(monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", str(ROOT))


def test_every_row_of_every_profile_expands(checkout):
    for profile in profiles():
        for name in experiments():
            found = expand(name, profile=profile)
            hashes = [c.hash() for row in found.rows for c in row.configs]
            assert len(set(hashes)) == len(hashes), (
                f"{name} under {profile} has two rows that are the same run"
            )


def test_the_main_table_adds_one_idea_a_row(checkout):
    rows = expand("main_table", profile="study").rows
    assert [r.name for r in rows] == [
        "labelled_only",
        "labelled_long",
        "naive",
        "perturbed",
        "full",
    ]
    first, long, naive, perturbed, full = (r.configs[0] for r in rows)
    assert first == long.replace(steps=first.steps)
    assert long.steps > first.steps
    assert naive == first.replace(pseudo_labels=True)
    assert perturbed == naive.replace(perturb=("colour", "blur", "cutmix"))
    assert full == perturbed.replace(align="unlabelled")
    teacher = first.replace(seed=TEACHER_SEEDS, draw=0)
    students = (naive, perturbed, full)
    assert all(c.teacher_run().hash() == teacher.hash() for c in students)
    assert len(rows[0].configs) == 10  # as the plan on its page says
    assert [c.seed for c in rows[0].configs] == list(range(len(rows[0].configs)))


def test_the_gpu_profile_has_the_papers_values(checkout):
    """paper.md: ViT-L from DINOv2, the last four blocks, 518 x 518, encoder 5e-6, decoder ten times
    that, linear decay, labelled to unlabelled 1 : 2, all three perturbations, alpha 0.85 on
    unlabelled images, the plain average of the losses.
    """
    config = expand("main_table", profile="gpu")["full"].configs[0]
    assert (config.encoder, config.pretrained, config.layers) == ("vitl", True, "v1")
    assert (config.height, config.width) == (518, 518)
    assert (config.encoder_lr, config.encoder_lr * config.decoder_lr_factor) == (5e-6, 5e-5)
    assert (config.unlabelled_ratio, config.warmup) == (2, 0)
    assert config.perturb == ("colour", "blur", "cutmix")
    assert (config.align, config.margin, config.align_weight) == ("unlabelled", 0.85, 1.0)
    # one pass over its pool
    assert config.steps * config.batch * config.unlabelled_ratio == 62_000_000
    # the teacher's epochs
    assert config.steps * config.batch / 1.5e6 == pytest.approx(20, rel=0.04)
    assert (config.precision, config.gradient_checkpointing, config.compile) == ("bf16", True, True)
    assert config.labelling == "online"
    assert config.batch % 8 == 0
    # eight processes, each with whole CutMix pairs
    assert config.batch // 8 * config.unlabelled_ratio % 2 == 0
