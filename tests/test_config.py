"""Configs: strictness, and what the hash sees and does not see. With it, what the hash of the code
sees."""

import ast
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st

from dalib import provenance
from dalib.blocks import (
    GivenNetwork,
    GivenTeacher,
    TrainedStart,
    TrainedTeacher,
    WeightedSource,
    WeightFile,
)
from dalib.config import (
    CHOICES,
    DISTORTIONS,
    LARGEST_SEED,
    MAY_BE_ZERO,
    PATCHES,
    PERTURBATIONS,
    STUDENT_SEEDS,
    TEACHER_SEEDS,
    RunConfig,
    check_names,
)
from dalib.errors import ConfigError, UserError
from dalib.models.encoder import PRESETS, layout

FIELDS = {f.name: f for f in dataclasses.fields(RunConfig)}
FREE = (
    *(
        "gradient_checkpointing",
        "compile",
        "accumulate",
        "workers",
        "checkpoint_every",
        "log_every",
    ),
    *("validate_every", "validation", "validation_images", "trackers"),
)
OTHER = {  # another possible value of every field, on top of a student that has everything on
    "seed": 7,
    "draw": 5,
    "labelled": ("photos:x", WeightedSource(source="pool:rgbd", weight=4)),
    "unlabelled": ("photos:y", "scenes:unlabelled"),
    "labelled_images": 3,
    "unlabelled_images": 4,
    "test_images": 5,
    "height": 64,
    "width": 64,
    "shuffle_block": 16,
    "damaged_share": 0.01,
    "encoder": "resnet18",
    "pretrained": False,
    "encoder_weights": WeightFile(weights="dinov2.pth", digest="0d1n0"),
    "labelling": "online",
    "sky": "ignore",
    "teacher_sees": "perturbed",
    "layers": "v2",
    "rounds": 2,
    "selection": "stable",
    "teacher": GivenTeacher(weights="vitl.pth", digest="1a26e"),
    "start": GivenNetwork(weights="small.pth", digest="5a11"),
    "perturb": ("blur", "cutmix"),
    "strength": 2.0,
    "perturb_labelled": ("colour",),
    "cutmix_regions": "together",
    "drop": 0.2,
    "drop_unit": "region",
    "gradient_weight": 2.0,
    "align": "both",
    "margin": 0.7,
    "frozen_encoder": "resnet50",
    "frozen_encoder_weights": None,
    "align_weight": 0.5,
    "frozen_sees": "clean",
    "segmentation_weight": 1.0,
    "steps": 9,
    "batch": 12,
    "unlabelled_ratio": 3,
    "encoder_lr": 1e-5,
    "decoder_lr_factor": 1.0,
    "weight_decay": 0.0,
    "warmup": 2,
    "clip": 5.0,
    "precision": "bf16",
    "ema": 0.999,
    "gradient_checkpointing": True,
    "compile": True,
    "accumulate": 2,
    "workers": 3,
    "checkpoint_every": 1,
    "log_every": 1,
    "validate_every": 50,
    "validation": ("skimage:motorcycle",),
    "validation_images": 7,
    "trackers": ("tensorboard",),
}


NEEDS = {"teacher_sees": {"labelling": "online"}}
"""What some of them need to be read."""


def student(**changes):
    base = {
        "pseudo_labels": True,
        "perturb": ["colour", "blur", "cutmix"],
        "drop": 0.1,
        "align": "unlabelled",
    }
    return RunConfig.from_dict(base).replace(**changes)


def test_the_list_of_other_values_is_complete():
    # a task has no unlabelled images; tests/training/test_tasks.py has these
    assert set(OTHER) == set(FIELDS) - {"pseudo_labels", "task", "max_depth"}


# strictness


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"stepz": 3},
            r"unknown setting 'stepz'\. Did you mean 'steps'\? Known: seed, draw, .*log_every",
        ),
        ({"steps": "many"}, "steps: expected int, got 'many'"),
        ({"steps": 1.5}, r"steps: expected int, got 1\.5"),
        ({"steps": True}, "steps: expected int, got True"),
        ({"encoder_lr": "5e-6"}, "encoder_lr: expected float, got '5e-6'"),
        ({"pretrained": 1}, "pretrained: expected bool, got 1"),
        ({"pretrained": "true"}, "pretrained: expected bool, got 'true'"),
        ({"labelled": "scenes:labelled"}, "labelled: expected a list of names"),
        ({"labelled": [1]}, "labelled: expected a list of names"),
        ({"labelled": []}, "labelled: empty"),
        ({"labelled": [{"source": "a"}]}, "labelled: {'source': 'a'} has no weight; add it"),
        ({"labelled": [{"weight": 2}]}, "labelled: {'weight': 2} has no source; add it"),
        (
            {"labelled": [{"source": "a", "weigth": 2}]},
            "unknown setting of labelled 'weigth'. Did you mean 'weight'",
        ),
        ({"labelled": [{"source": "a", "weight": 0}]}, "weight: 0 of source a; it must be a whole"),
        ({"labelled": [{"source": "a", "weight": 1.5}]}, "labelled, weight: expected int, got 1.5"),
        (
            {"labelled": [{"source": "a", "weight": True}]},
            "labelled, weight: expected int, got True",
        ),
        ({"labelled": [{"source": "", "weight": 2}]}, "source: '' is no name"),
        (
            {"validation": [{"source": "a", "weight": 2}]},
            r"validation: expected a list of names, got",
        ),
        ({"draw": -1}, "draw: -1 is not at least 0"),
        ({"draw": 1.0}, "draw: expected int, got 1.0"),
        ({"seed": LARGEST_SEED + 1}, "seed: .* is too large; the order of images takes at most"),
        (
            {"seed": LARGEST_SEED - TEACHER_SEEDS + 1, "pseudo_labels": True},
            f"seed of up to {TEACHER_SEEDS} more, so that {LARGEST_SEED - TEACHER_SEEDS} is",
        ),
        (
            {"seed": LARGEST_SEED - 2 * STUDENT_SEEDS + 1, "pseudo_labels": True, "rounds": 3},
            f"seed of up to {2 * STUDENT_SEEDS} more",
        ),
        ({"encoder": None}, "encoder: expected str"),
        ({"encoder": "vits14"}, "encoder: 'vits14' is neither a preset"),
        (
            {"encoder": "vitt"},
            "height, width: encoder vitt takes multiples of 14 pixels, and these are 96 x 128; "
            "the nearest are height 98 and width 126",
        ),
        ({"encoder": "vitl", "height": 5, "width": 518}, "the nearest are height 14 and width 518"),
        (
            {"encoder": "test_vit", "height": 70, "width": 98},
            "multiples of 16.*height 64 and width 96",
        ),
        (
            {"encoder": "swin_tiny_patch4_window7_224", "height": 98, "width": 126},
            "multiples of 32.* 96 and width 128",
        ),
        ({"encoder": "levit_128s"}, "encoder: levit_128s has maps at strides of 16, 32, 64 pixels"),
        ({"steps": 0}, "steps: 0 is not above 0"),
        ({"batch": -2}, "batch: -2 is not above 0"),
        ({"seed": -1}, "seed: -1 is not at least 0"),
        ({"clip": float("nan")}, "clip: nan is not above 0 and finite"),
        ({"encoder_lr": float("inf")}, "encoder_lr: inf is not above 0 and finite"),
        ({"precision": "fp8"}, "precision: 'fp8' is not one of no, bf16"),
        ({"layers": "v3"}, "layers: 'v3' is not one of v1, v2"),
        ({"align": "all"}, "align: 'all' is not one of none, unlabelled, labelled, both"),
        (
            {"pseudo_labels": True, "perturb": ["nonsense"]},
            "unknown perturbation in perturb 'nonsense'. Known: colour, blur, cutmix",
        ),
        (
            {"pseudo_labels": True, "perturb_labelled": ["cutmix"]},
            "in perturb_labelled 'cutmix'. Known: colour, blur",
        ),
        ({"pseudo_labels": True, "drop": 1}, "drop: 1.0 would leave nothing"),
        ({"damaged_share": 1}, "damaged_share: 1.0 would accept"),
        ({"shuffle_block": -1}, "shuffle_block: -1 is not at least 0"),
        (
            {"pseudo_labels": True, "selection": "stable", "labelling": "online"},
            "needs labelling: stored",
        ),
        (
            {"pseudo_labels": True, "selection": "stable", "rounds": 2},
            "needs labelling: stored and rounds: 1",
        ),
        (
            {"pseudo_labels": True, "selection": "stable", "steps": 2},
            "steps: 2 leave no earlier teachers",
        ),
        ({"pseudo_labels": True, "rounds": 2, "labelling": "oracle"}, "rounds: an oracle"),
        ({"perturb": ["colour"]}, "set pseudo_labels: true"),
        ({"align": "both"}, "set pseudo_labels: true"),
        (
            {"pseudo_labels": True, "perturb": ["cutmix"], "batch": 3, "unlabelled_ratio": 1},
            "cannot be paired",
        ),
    ],
)
def test_impossible_values_are_named(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        RunConfig.from_dict(values)
    assert isinstance(caught.value, UserError)


def test_a_cnn_takes_any_size_and_the_usual_encoders_need_no_look(monkeypatch):
    """A config is made often: asking timm takes seconds, and the short names have their multiples
    beside them."""
    monkeypatch.setattr("dalib.models.encoder.layout", None)
    for name, patch in PATCHES.items():
        RunConfig(encoder=name, height=3 * patch, width=5 * patch)
    assert RunConfig(height=97, width=131).encoder == "lite0"


@pytest.mark.slow
def test_the_multiples_of_the_presets_are_the_networks_own():
    assert set(PATCHES) == set(PRESETS)
    assert {n: layout(n).stride for n in PATCHES if layout(n).plain} == {
        n: p for n, p in PATCHES.items() if p > 1
    }
    assert RunConfig(encoder="resnet18", height=97, width=131).width == 131


@pytest.mark.parametrize(
    ("values", "need"),
    [
        ({"rounds": 2}, "pseudo_labels"),
        ({"selection": "stable"}, "pseudo_labels"),
        ({"start": "teacher"}, "pseudo_labels"),
        ({"drop": 0.1}, "pseudo_labels"),
        ({"segmentation_weight": 1.0}, "pseudo_labels"),
        ({"perturb_labelled": ["blur"]}, "pseudo_labels"),
        ({"pseudo_labels": True, "perturb": ["cutmix"], "strength": 2.0}, "colour or blur"),
        (
            {"pseudo_labels": True, "perturb": ["blur"], "cutmix_regions": "together"},
            "cutmix in perturb",
        ),
        ({"pseudo_labels": True, "drop_unit": "region"}, "drop"),
        ({"pseudo_labels": True, "perturb": ["blur"], "frozen_sees": "clean"}, "align"),
        ({"pseudo_labels": True, "align": "both", "frozen_sees": "clean"}, "colour or blur"),
        ({"labelled": ["photos:x"], "draw": 3}, "drawn scenes"),
        ({"teacher_sees": "perturbed"}, "labelling: online"),
        (
            {"pseudo_labels": True, "perturb": ["blur"], "teacher_sees": "perturbed"},
            "labelling: online",
        ),
        (
            {
                "pseudo_labels": True,
                "labelling": "oracle",
                "perturb": ["blur"],
                "teacher_sees": "perturbed",
            },
            "labelling: online",
        ),
        (
            {
                "pseudo_labels": True,
                "labelling": "online",
                "perturb": ["cutmix"],
                "teacher_sees": "perturbed",
            },
            "colour or blur in perturb",
        ),
        ({"task": "metric", "max_depth": 10, "sky": "ignore"}, "task: disparity"),
        ({"task": "depth", "sky": "farthest"}, "task: disparity"),
        (
            {
                "pseudo_labels": True,
                "labelled": [],
                "teacher": {"weights": "vitl.pth"},
                "sky": "ignore",
            },
            "labelled images or an oracle",
        ),
    ],
)
def test_a_setting_that_nothing_reads_is_refused(values, need):
    """Otherwise one run would stand in two rows under two names."""
    with pytest.raises(ConfigError, match=f"nothing would read .*; it needs .*{need}"):
        RunConfig.from_dict(values)


def test_possible_values():
    """Zero where zero means something, whole numbers for real ones, and lists for tuples."""
    config = RunConfig.from_dict(
        {"warmup": 0, "weight_decay": 0, "margin": 1, "labelled": ["a", "b"], "workers": 0}
    )
    assert (config.weight_decay, config.margin, config.labelled) == (0.0, 1.0, ("a", "b"))
    assert type(config.margin) is float
    assert (
        config.hash() == RunConfig.from_dict({"weight_decay": 0.0, "labelled": ["a", "b"]}).hash()
    )


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().steps = 3


def test_names_are_checked_with_a_hint():
    with pytest.raises(
        ConfigError, match=r"unknown fruit 'aple'\. Did you mean 'apple'\? Known: apple, pear"
    ):
        check_names(["pear", "aple"], ["apple", "pear"], what="fruit")
    with pytest.raises(ConfigError, match=r"unknown fruit 'zzz'\. Known: apple, pear"):
        check_names(["zzz"], ["apple", "pear"], what="fruit")
    check_names([], [], what="fruit")


def test_round_trip_through_json():
    # which forbids others
    config = student(**{k: v for k, v in OTHER.items() if k not in ("layers", "selection")})
    again = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.hash() == config.hash()


# what is decided by a config


def test_the_runs_that_come_first():
    plain = student()
    assert RunConfig().prerequisites() == {}
    assert plain.prerequisites() == {"teacher": plain.teacher_run()}
    assert plain.replace(labelling="online").prerequisites() == {"teacher": plain.teacher_run()}
    oracle = plain.replace(labelling="oracle")
    assert oracle.prerequisites() == {}
    started = oracle.replace(start="teacher")
    assert started.prerequisites() == {"teacher": started.teacher_run()}
    assert started.starts_from() == started.teacher_run()
    assert plain.starts_from() is None
    again = plain.replace(selection="stable_first")
    assert list(again.prerequisites()) == ["teacher", "student of the stable half"]
    half = again.prerequisites()["student of the stable half"]
    assert half == again.first_half()
    assert half.selection == "stable"
    assert half.first_half() is None


def test_what_a_run_reads():
    assert RunConfig().sources == {"labelled": ("scenes:labelled",)}
    assert RunConfig().weights == {"labelled": (1,)}
    assert list(student().sources) == ["labelled", "unlabelled"]
    assert RunConfig().pool_brings == student().pool_brings == ()
    assert student(labelling="oracle").pool_brings == ("disparity",)
    both = student(labelling="oracle", segmentation_weight=1.0)
    assert both.pool_brings == ("disparity", "semantics")
    assert (student().teacher_labels, student(labelling="oracle").teacher_labels) == (True, False)
    assert not RunConfig().teacher_labels
    wide = RunConfig(height=64, width=96, batch=6, unlabelled_ratio=3)
    assert (wide.size, wide.short_side, wide.pool_batch) == ({"height": 64, "width": 96}, 64, 18)


SEVERAL = {
    # each draws numbers of its own
    "seed": {"data.mixture", "training.step", "training.tasks", "training.train"},
    # what the loss is, how it is scored, and how the validation is
    "task": {"evaluation.suite", "training.tasks"},
    # what counts in the loss, in a look ahead, and in validation
    "max_depth": {"data.catalogue", "training.tasks", "training.validation"},
    # what is built, and what is frozen beside it
    "layers": {"training.tasks", "training.train"},
    "pretrained": {"training.tasks", "training.train"},
    # in the labelled and the unlabelled loss
    "gradient_weight": {"training.step", "training.tasks"},
    # what is built and read back, and what is frozen beside it
    "encoder": {"training.tasks", "training.train"},
    # what is frozen, and that it wants images of its own kind
    "frozen_encoder": {"training.step", "training.train"},
    # whose content is looked at, and what labels
    "teacher": {"training.given", "training.labelling"},
    # what the processes can share evenly, and how each goes through its share
    "accumulate": {"data.mixture", "training.train"},
    # how many batches there are, and when the last one is done
    "steps": {"data.mixture", "training.journal", "training.train", "training.validation"},
    "workers": {"training.labelling", "training.train"},
    # in labelling as in training
    "precision": {"training.labelling", "training.train"},
}
"""The settings that more than one module reads."""
TELL = ("adaptation.", "cli.", "training.descent", "training.plan", "training.recipe")
"""Modules that look ahead, or say what was or will be done, and decide nothing."""


def test_no_setting_is_decided_in_two_rooms():
    """By the syntax trees: which modules of the library read `config.NAME`."""
    package = Path(provenance.__file__).parent
    readers = {name: set() for name in FIELDS}
    for file in package.rglob("*.py"):
        module = ".".join(file.relative_to(package).with_suffix("").parts)
        if module.startswith(TELL):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in FIELDS
                and ast.unparse(node.value) in ("config", "self.config")
            ):
                readers[node.attr].add(module)
    found = {name: where for name, where in readers.items() if len(where) > 1}
    assert found == SEVERAL
    through_decisions = {name for name, where in readers.items() if not where}
    assert through_decisions == {
        "draw",
        "height",
        "labelled",
        "pseudo_labels",
        "rounds",
        "unlabelled",
        "unlabelled_images",
        "unlabelled_ratio",
        "width",
    }


# the hash of a config


@pytest.mark.parametrize("name", [name for name in OTHER if name != "frozen_encoder_weights"])
def test_the_hash_sees_what_changes_a_result_and_nothing_else(name):
    base = NEEDS.get(name, {})
    changed = student(**{name: OTHER[name]} | base)
    assert (changed.hash() == student(**base).hash()) == (name in FREE)


def test_pseudo_labels_are_in_the_hash():
    assert RunConfig().hash() != RunConfig(pseudo_labels=True).hash()


def test_defaults_are_left_out():
    """So that a record stays valid when a field is added: spelling a default out changes
    nothing."""
    assert RunConfig().hash() == "44136fa355b3"  # sha256 of {}
    spelt_out = RunConfig().to_dict() | {"pseudo_labels": True}
    assert RunConfig.from_dict(spelt_out).hash() == RunConfig(pseudo_labels=True).hash()


@given(st.permutations(["colour", "blur", "cutmix"]), st.integers(1, 3))
def test_the_order_of_perturbations_does_not_matter(names, count):
    names = names[:count]
    one, other = (RunConfig(pseudo_labels=True, perturb=tuple(n)) for n in (names, sorted(names)))
    assert one == other
    assert one.hash() == other.hash()


def test_the_hash_is_the_same_in_another_process():
    text = (
        "from dalib.config import RunConfig; print(RunConfig(seed=3, perturb=('blur',), "
        "pseudo_labels=True).hash())"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == RunConfig(seed=3, perturb=("blur",), pseudo_labels=True).hash()


# teachers


def test_students_share_a_teacher():
    """Whatever only concerns unlabelled images is no matter for the teacher; everything else is."""
    teacher = student().teacher_run()
    assert not teacher.pseudo_labels
    assert teacher.perturb == ()
    assert teacher.align == "none"
    pool = [n for n, f in FIELDS.items() if f.metadata.get("pool")]
    assert set(pool) == {
        "unlabelled",
        "unlabelled_images",
        "teacher",
        "frozen_encoder",
        "frozen_encoder_weights",
        "labelling",
        "teacher_sees",
        "perturb",
        "align",
        "margin",
        "align_weight",
        "unlabelled_ratio",
        "rounds",
        "selection",
        "strength",
        "perturb_labelled",
        "cutmix_regions",
        "drop",
        "drop_unit",
        "frozen_sees",
        "segmentation_weight",
    }
    for name, value in OTHER.items():
        if name in ("rounds", "teacher"):
            continue  # whose teacher is a student, or given, see below
        changed = student(**{name: value} | NEEDS.get(name, {}))
        same = changed.teacher_run().hash() == teacher.hash()
        assert same == (name in pool or name in FREE or name == "start"), name


def chain(run):
    """A run, its teacher, its teacher's teacher, ..."""
    found = [run]
    while found[-1].pseudo_labels and found[-1].teacher_run() is not None:
        found.append(found[-1].teacher_run())
    return found


@pytest.mark.parametrize("seed", [0, 3])
def test_whoever_labels_has_another_seed_and_the_same_scenes(seed):
    """A teacher, the students of earlier rounds, and that of the stable half; the first teacher is
    the same run for every row of a seed."""
    teacher = student(seed=seed).teacher_run()
    assert (teacher.seed, teacher.draw) == (seed + TEACHER_SEEDS, seed)
    for rounds in (1, 2, 3):
        runs = chain(student(seed=seed, rounds=rounds))
        assert [run.rounds for run in runs] == [*range(rounds, 0, -1), 1]
        between = [seed + STUDENT_SEEDS * k for k in range(rounds)]
        assert [run.seed for run in runs] == [*between, seed + TEACHER_SEEDS]
        assert {run.drawn for run in runs} == {seed}
        assert runs[-1].hash() == teacher.hash()
        assert runs[-2].perturb == student().perturb

    last = student(seed=seed, selection="stable_first")
    half = last.first_half()
    assert (half.seed, half.drawn, half.selection) == (seed + STUDENT_SEEDS, seed, "stable")
    assert half.teacher_run().hash() == last.teacher_run().hash() == teacher.hash()
    for rows in (student(seed=seed, start="teacher"), student(seed=seed, labelling="online")):
        assert rows.teacher_run().hash() == teacher.hash()


def test_a_teachers_block_says_otherwise():
    named = student(seed=3, teacher=TrainedTeacher(seed=9)).teacher_run()
    assert (named.seed, named.draw) == (9, 3)
    assert named.hash() == RunConfig(seed=9, draw=3).hash()
    other = student(seed=3, teacher=TrainedTeacher(seed=9, draw=9)).teacher_run()
    assert other.hash() == RunConfig(seed=9).hash()
    large = student(seed=3, teacher=TrainedTeacher(encoder="lite2"))
    assert (large.teacher_run().seed, large.teacher_run().encoder) == (3 + TEACHER_SEEDS, "lite2")
    again = large.replace(rounds=2).teacher_run()
    assert again.teacher_run().hash() == large.teacher_run().hash()
    # a seed near the end, where the teacher's is named
    student(seed=LARGEST_SEED, teacher=TrainedTeacher(seed=1))
    # a network that is given has no seed; a student of the round before has
    given = student(rounds=2, teacher=GivenTeacher(weights="a.pth", digest="1a")).teacher_run()
    assert (given.seed, given.teacher.weights) == (STUDENT_SEEDS, "a.pth")


def test_a_draw_is_the_seeds_own_unless_it_is_said():
    """One run has one hash, however its draw is written; and none where no scenes are read."""
    assert (RunConfig(seed=4).drawn, RunConfig(seed=4, draw=1).drawn) == (4, 1)
    assert RunConfig(seed=4, draw=4).hash() == RunConfig(seed=4).hash()
    assert RunConfig(seed=4, draw=1).hash() != RunConfig(seed=4).hash()
    assert RunConfig(seed=0, draw=0).hash() == RunConfig().hash()
    pairs = student(seed=4, labelled=("depth:x",))
    assert (pairs.teacher_run().draw, pairs.replace(draw=2).teacher_run().draw) == (None, None)
    begun = RunConfig(seed=4, draw=2, start=TrainedStart(trained={"labelled_images": 9}))
    assert (begun.start_run().seed, begun.start_run().draw) == (4, 2)
    plain = RunConfig(seed=4, draw=2, start=TrainedStart(trained={"labelled": ["depth:x"]}))
    assert plain.start_run().draw is None


def test_a_source_of_weight_1_is_its_name():
    plain = RunConfig(labelled=("scenes:labelled", "depth:x"))
    block = {"source": "depth:x", "weight": 1}
    assert RunConfig.from_dict({"labelled": ["scenes:labelled", block]}) == plain
    heavy = RunConfig.from_dict({"labelled": ["scenes:labelled", block | {"weight": 4}]})
    assert heavy.sources == plain.sources
    assert (plain.weights, heavy.weights) == ({"labelled": (1, 1)}, {"labelled": (1, 4)})
    assert len({run.hash() for run in (plain, heavy, heavy.replace(labelled=("depth:x",)))}) == 3
    assert RunConfig.from_dict(json.loads(json.dumps(heavy.to_dict()))) == heavy
    assert heavy.to_dict()["labelled"] == ["scenes:labelled", {"source": "depth:x", "weight": 4}]
    # in a teacher's block, and of a run to begin with
    taught = RunConfig.from_dict(
        {"pseudo_labels": True, "teacher": {"labelled": ["scenes:labelled", block | {"weight": 4}]}}
    )
    assert taught.teacher_run().weights == heavy.weights
    assert taught.teacher_run().hash() == heavy.replace(seed=TEACHER_SEEDS, draw=0).hash()
    begun = RunConfig.from_dict({"start": {"trained": {"labelled": [block | {"weight": 4}]}}})
    assert begun.start_run().weights == {"labelled": (4,)}


def test_the_labelled_only_row_is_a_teacher_of_another_seed():
    for changes in ({}, {"seed": 2}, {"labelled_images": 150}):
        row = RunConfig(**changes)
        teacher = row.replace(seed=row.seed + TEACHER_SEEDS, draw=row.seed)
        assert row.teacher_run().hash() == student(**changes).teacher_run().hash() == teacher.hash()
        # which it does not read
        assert row.hash() == row.replace(unlabelled_images=77, margin=0.7).hash()


def test_alignment_on_labelled_images_is_a_run_of_its_own():
    """Without pseudo labels too: it must not be taken for the plain labelled-only row."""
    aligned = RunConfig(align="labelled")
    assert aligned.hash() != RunConfig().hash()
    assert aligned.replace(margin=0.7).hash() != aligned.hash()
    assert aligned.teacher_run().hash() == RunConfig().teacher_run().hash()


# the hash of the code


CODE = '''
"""What this module is for."""
LIMIT = 3
"""What the limit is for."""

def f(x, y=None):
    """What f does."""
    return [x + 1, None, "a"]
'''


def code_hash(tmp_path, text, name="module.py"):
    (tmp_path / name).write_text(text)
    return provenance.files_hash([tmp_path / name])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("What f does.", "What f really does."),
        ('    """What f does."""\n', ""),
        ("What this module", "What that module"),
        ("What the limit is", "What the limit was"),
        ("LIMIT = 3", "LIMIT = 3  # a comment"),
        ("LIMIT = 3", "\n\nLIMIT   =   (3)"),
        ('[x + 1, None, "a"]', "[\n        x + 1,\n        None,\n        'a',\n    ]"),
    ],
)
def test_the_code_hash_overlooks_form(old, new, tmp_path):
    assert old in CODE
    assert code_hash(tmp_path, CODE.replace(old, new)) == code_hash(tmp_path, CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x + 1", "x - 1"),
        ("x + 1", "x + 1.0"),
        ("x + 1", "x + True"),
        ("x + 1", "y + 1"),
        ("y=None", "y=0"),
        ("y=None", "y"),
        ("None,", "0,"),
        ('"a"', '"b"'),
        ("LIMIT = 3", "LIMIT = 4"),
        ("def f", "def g"),
        ("    return", "    x = 2\n    return"),
    ],
)
def test_the_code_hash_sees_what_can_change_a_result(old, new, tmp_path):
    assert old in CODE
    assert code_hash(tmp_path, CODE.replace(old, new, 1)) != code_hash(tmp_path, CODE)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the library whose code is hashed in place of the library's."""
    copy = tmp_path / "dalib"
    shutil.copytree(
        Path(provenance.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.setattr(provenance, "__file__", str(copy / "provenance.py"))
    return copy


def hashes():
    """Of both parts, read from the disk anew."""
    return {part: provenance.code_hash.__wrapped__(part) for part in provenance.ROOTS}


@pytest.mark.slow
def test_the_code_hash_covers_the_science_and_not_the_book(package):
    before = hashes()
    assert before["training"] != before["evaluation"]
    for name in (
        "commands.py",
        "paths.py",
        "errors.py",
        "stopping.py",
        "writing.py",
        "locking.py",
        "certificates.py",
    ):
        (package / name).write_text("x = 1\n")
    (package / "models" / "export_of_finished_networks.py").write_text("x = 1\n")
    losses = package / "losses.py"
    losses.write_text(losses.read_text() + "\n# a comment\n")
    assert hashes() == before


@pytest.mark.parametrize(
    ("file", "parts"),
    [
        # the mean map is scaled as the loss scales a label
        ("losses.py", {"training", "evaluation"}),
        ("training/step.py", {"training"}),
        ("evaluation/protocols.py", {"evaluation"}),
        ("evaluation/align.py", {"evaluation"}),
        ("evaluation/segmentation.py", {"evaluation"}),
        ("training/segmentation.py", {"training"}),
        ("models/dpt.py", {"training", "evaluation"}),
        ("data/sources.py", {"training", "evaluation"}),
    ],
)
def test_training_and_evaluation_are_hashed_apart(file, parts):
    """A hash is over the files behind its part."""
    path = Path(provenance.__file__).parent / file
    assert {part for part in provenance.ROOTS if path in provenance.science(part)} == parts


def test_the_science_is_what_training_and_scores_import(tmp_path, monkeypatch):
    """Through functions and packages too; `import a.b` and `from a import b` alike; each file once,
    circles and all."""
    package = tmp_path / "dalib"
    files = {
        "training/launch.py": "from dalib import paths, losses\ndef f():\n    from dalib.models "
        "import load\n",
        "training/apart.py": "",
        "evaluation/suite.py": "import dalib.config\nimport json\nfrom dalib.models.deep import x\n",
        "losses.py": "from dalib.config import y\n",
        "config.py": "import dalib.losses\nfrom dalib.errors import z\n",
        "models/__init__.py": "from dalib.models.read import load\n",
        "models/read.py": "",
        "models/deep.py": "",
        "models/unused.py": "",
        "paths.py": "",
        "errors.py": "",
    }
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    found = {
        part: {f.relative_to(package).as_posix() for f in provenance.science(part)}
        for part in provenance.ROOTS
    }
    both = {"losses.py", "config.py"}
    assert found["training"] == both | {
        "training/launch.py",
        "models/__init__.py",
        "models/read.py",
    }
    assert found["evaluation"] == both | {"evaluation/suite.py", "models/deep.py"}


def test_an_edit_changes_nothing_in_a_running_process(monkeypatch, tmp_path):
    """The record of a run names the code that was loaded, not the one that stands on the disk by
    the time it ends."""
    before = provenance.code_hash("training")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.code_hash("training") == before
    assert len(before) == 12
    assert int(before, 16) >= 0


@pytest.fixture(scope="module")
def explained() -> dict[str, str]:
    """Field -> what stands above it in `#:` comments, as Sphinx reads them."""
    analyser = pytest.importorskip("sphinx.pycode").ModuleAnalyzer
    found = analyser.for_module("dalib.config").find_attr_docs()
    return {field: " ".join(lines) for (owner, field), lines in found.items() if owner}


def test_every_field_is_explained_where_it_is_declared(explained):
    assert list(explained) == list(FIELDS)
    assert not [name for name, text in explained.items() if not text.strip().endswith(".")]


def test_every_choice_is_named_where_its_field_is_explained(explained):
    named = CHOICES | {"perturb": PERTURBATIONS, "perturb_labelled": DISTORTIONS}
    named |= {"encoder": PRESETS}
    missing = {
        name: absent
        for name, words in named.items()
        if (absent := [w for w in words if not re.search(rf"\b{w}\b", explained[name])])
    }
    assert missing == {}


def test_every_number_says_from_where_on_it_is_allowed(explained):
    """Zero or not is decided in one place, `MAY_BE_ZERO`; what is said must be the same."""
    sizes = ("height", "width")  # their multiples are said, and tested above
    for name, field in FIELDS.items():
        if field.type is float:
            bound = "From 0" if name in MAY_BE_ZERO else "Above 0"
        elif field.type is int and name not in sizes:
            bound = f"A whole number from {0 if name in MAY_BE_ZERO else 1}"
        elif field.type is bool:
            bound = "(true)" if "(true)" in explained[name] else "True or false"
        else:
            continue
        assert bound in explained[name], name


def test_the_page_shows_every_field_with_its_explanation(explained, tmp_path):
    """The page's own directive, under the book's own options for docstrings. Napoleon takes the
    words before a colon in the first line for a type, and hides them under that name."""
    page = (ROOT / "book" / "api" / "config.md").read_text(encoding="utf-8")
    (tmp_path / "index.md").write_text(page.partition("## `dalib.blocks`")[0], encoding="utf-8")
    book = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]
    ours = {k: v for k, v in book.items() if k.startswith(("autodoc", "napoleon", "default_role"))}
    ours["extensions"] = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
    settings = "\n".join(f"{name} = {value!r}" for name, value in ours.items())
    (tmp_path / "conf.py").write_text(settings, encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "text", tmp_path, tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr

    def bare(text: str) -> str:
        return " ".join(re.sub(r"[`\"*]", "", text).split())

    shown = bare((tmp_path / "out" / "index.txt").read_text(encoding="utf-8"))
    for name, text in explained.items():
        heading, told = rf"\b{name}: [\w\[\], .|]+ = \S+(?: \S+)? ", re.escape(bare(text))
        assert re.search(heading + told, shown), name
