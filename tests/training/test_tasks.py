"""Tasks beside disparity, and runs that begin with the network of another run."""

import dataclasses
import json
from contextlib import suppress

import pytest
import torch
from helpers.training import quiet
from safetensors.torch import load_file

from dabook.runs import experiments
from dalib.blocks import GivenNetwork, GivenTeacher, TrainedStart, WeightFile
from dalib.config import CHOICES, INHERITED, RunConfig
from dalib.errors import ConfigError, DataError
from dalib.evaluation import suite
from dalib.models import build, save
from dalib.training import launch, tasks
from dalib.training.given import first_weights, pin
from dalib.training.plan import plan
from dalib.training.train import new_student

PERTURBED = {"pseudo_labels": True, "perturb": ["colour", "blur", "cutmix"]}


def metric(tiny=None, **changes):
    """A metric run to ten metres."""
    base = RunConfig() if tiny is None else tiny
    return base.replace(**({"task": "metric", "max_depth": 10.0} | changes))


# settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task": "metric"}, "max_depth: missing; task metric needs the metres"),
        ({"max_depth": 10}, "max_depth: nothing would read 10.0; it needs task: metric"),
        ({"task": "segmentation", "max_depth": 10}, "nothing would read 10.0"),
        ({"task": "metric", "max_depth": 0}, "max_depth: 0.0 is not above 0"),
        ({"task": "metric", "max_depth": float("inf")}, "max_depth: inf is not above 0 and finite"),
        ({"task": "deph"}, "task: 'deph' is not one of disparity, depth, metric, segmentation"),
        (
            {"task": "depth", "pseudo_labels": True},
            "pseudo_labels: task depth learns from labelled images alone",
        ),
        ({"task": "depth", "gradient_weight": 2.0}, "it needs task: disparity"),
        ({"task": "depth", "validate_every": 2}, "task depth is not validated"),
        (
            {"task": "depth", "start": {"trained": {}}},
            "start, trained predicts disparity, and this run begins and ends with depth up to scale",
        ),
        (
            {"start": {"trained": {"task": "depth"}}},
            "predicts depth up to scale and shift, and a student begins and ends with disparity",
        ),
        (
            {"task": "metric", "max_depth": 10, "pseudo_labels": True},
            "pseudo_labels: task metric learns from labelled images alone",
        ),
        (
            {"task": "metric", "max_depth": 10, "gradient_weight": 2.0},
            "gradient_weight: nothing would read 2.0; it needs task: disparity",
        ),
        ({"start": {"part": "encoder"}}, "start: names no weights"),
        ({"start": {"trained": 3}}, "start, trained: expected settings by name, got 3"),
        ({"start": {"trained": {"stepz": 3}}}, "start, trained: unknown setting 'stepz'"),
        ({"start": {"trained": {}, "part": "head"}}, "part: 'head' is not one of network, encoder"),
        ({"start": {"weights": "x.pth", "part": "head"}}, "part: 'head' is not one of network"),
        ({"start": {"trained": {}, "teacher": "x"}}, "unknown setting of start 'teacher'"),
        (
            {"start": {"trained": {"encoder": "resnet18"}}},
            "start, trained: encoder resnet18, and the run that begins with it has lite0",
        ),
        (
            {"start": {"trained": {"task": "metric", "max_depth": 10}}},
            "start, trained predicts depth in metres, and a student begins and ends with disparity;"
            " take its encoder alone",
        ),
        (
            {"task": "segmentation", "start": {"trained": {}}},
            "start, trained predicts disparity, and this run begins and ends with classes",
        ),
        (
            {"pseudo_labels": True, "teacher": {"weights": "x.pth", "part": "encoder"}},
            "teacher, part: 'encoder' labels nothing",
        ),
    ],
)
def test_impossible_tasks_and_starts_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig.from_dict(values)


def test_metres_are_a_number_of_one_kind():
    whole = RunConfig.from_dict({"task": "metric", "max_depth": 10})
    assert whole.max_depth == 10.0
    assert type(whole.max_depth) is float
    assert whole.hash() == metric().hash()
    assert len({RunConfig().hash(), whole.hash(), metric(max_depth=80.0).hash()}) == 3


def test_what_a_run_with_a_start_says_goes_through_json():
    config = metric(start=TrainedStart(trained=PERTURBED, part="encoder"), seed=3)
    again = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert hash(again) == hash(config)
    assert again.start_run() == config.start_run()


# the run that comes first


def test_the_run_to_begin_with_is_the_one_that_others_have():
    """Its hash is that of the same settings on their own, seed by seed, so that nothing is trained
    twice; and what it says in other words is the same start."""
    config = metric(start=TrainedStart(trained=PERTURBED, part="encoder"), steps=7, batch=4)
    for seed in (0, 3):
        own = RunConfig.from_dict(PERTURBED | {"seed": seed})
        assert config.replace(seed=seed).start_run() == own
    other = config.replace(start=TrainedStart(trained=PERTURBED | {"steps": 250}, part="encoder"))
    assert other.hash() == config.hash()
    whole = config.replace(start=TrainedStart(trained=PERTURBED))
    longer = config.replace(start=TrainedStart(trained=PERTURBED | {"steps": 9}, part="encoder"))
    assert len({config.hash(), whole.hash(), longer.hash(), metric(steps=7, batch=4).hash()}) == 4


def test_what_it_has_from_the_run_that_begins_with_it():
    """What makes the network and its images, and how runs go; nothing of data and optimisation."""
    outer = metric(
        seed=5,
        encoder="vitt",
        pretrained=False,
        layers="v2",
        height=28,
        width=42,
        precision="bf16",
        labelled=("scenes:labelled_room",),
        steps=3,
        workers=2,
        start=TrainedStart(trained={}),
    )
    run = outer.start_run()
    fields = {f.name for f in dataclasses.fields(RunConfig)}
    assert {n for n in fields if getattr(run, n) != getattr(RunConfig(), n)} == {
        *("seed", "encoder", "pretrained", "layers", "height", "width", "precision", "workers")
    }
    assert fields >= set(INHERITED)


def test_the_runs_that_come_first():
    config = metric(start=TrainedStart(trained=PERTURBED, part="encoder"))
    assert config.prerequisites() == {"network to begin with": config.start_run()}
    assert config.start_run().prerequisites() == {"teacher": config.start_run().teacher_run()}
    assert config.starts_from() == config.start_run()
    assert config.start_part == "encoder"
    assert RunConfig().start_part == "network"


def test_given_weights_inside_a_start_are_known_by_their_content(tmp_path):
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for path in paths:
        save(build("lite0", seed=1), path)
    runs = [
        pin(metric(start=TrainedStart(trained={"start": str(path), "steps": 2}))) for path in paths
    ]
    assert runs[0].hash() == runs[1].hash()
    assert isinstance(runs[0].start_run().start, GivenNetwork)
    taught = {"pseudo_labels": True, "teacher": {"weights": str(paths[0])}}
    config = pin(metric(start=TrainedStart(trained=taught)))
    assert config.start_run().teacher == GivenTeacher(
        weights=str(paths[0]), digest=config.start_run().teacher.digest
    )
    assert config.start_run().teacher.digest
    with pytest.raises(ConfigError, match="not known by its content yet"):
        metric(start=TrainedStart(trained=taught)).hash()
    # and again, from what a job is told
    assert pin(RunConfig.from_dict(config.to_dict())).hash() == config.hash()


def test_rows_of_an_experiment_share_the_run_to_begin_with(tmp_path, monkeypatch):
    """A profile's settings and divisors hold for it, as if it were a row of its own."""
    text = """
profiles:
  small: {seeds: 2, record: local, set: {steps: 4, test_images: 3}, divide: {steps: 10}}
experiments:
  first: {question: "?", rows: {a: {label: a, set: &a {pseudo_labels: true}}, b: {label: b, set: &b {steps: 50}}}}
  second:
    question: "?"
    rows:
      a: {label: a, set: {task: metric, max_depth: 10, steps: 20, start: {trained: *a}}}
      b: {label: b, set: {task: metric, max_depth: 10, start: {trained: *b, part: encoder}}}
"""
    (tmp_path / "experiments.yaml").write_text(text)
    monkeypatch.setattr("dalib.paths.root", lambda: tmp_path)
    first = experiments.expand("first", profile="small")
    second = experiments.expand("second", profile="small")
    for row in ("a", "b"):
        for seed in (0, 1):
            assert second[row].configs[seed].start_run() == first[row].configs[seed]
    assert (second["a"].configs[0].steps, second["b"].configs[0].start_run().steps) == (2, 5)


# the network that a run begins with


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


@pytest.mark.slow
def test_a_run_begins_with_the_network_or_the_encoder_of_a_run(tiny, launched):
    """And that run is trained once for all that begin with it."""
    found = {}
    for part in ("network", "encoder"):
        start = TrainedStart(trained={**vars(tiny), "start": "encoder", "seed": 4}, part=part)
        config = tiny.replace(start=start)
        launch.ensure_weights(config, report=quiet)
        found[part] = new_student(config, launch.first_network(config))
    run = config.start_run()
    assert launched.count(run.hash()) == 1
    trained = build("lite0", seed=0)
    trained.load_state_dict(load_file(launch.folder(run) / launch.WEIGHTS))
    fresh = build("lite0", seed=tiny.seed)
    assert same(found["network"].state_dict(), trained.state_dict())
    assert same(found["encoder"].encoder.state_dict(), trained.encoder.state_dict())
    assert same(found["encoder"].decoder.state_dict(), fresh.decoder.state_dict())
    assert not same(trained.decoder.state_dict(), fresh.decoder.state_dict())
    assert not same(trained.encoder.state_dict(), fresh.encoder.state_dict())


def test_of_a_given_network_the_encoder_alone_may_be_taken(tmp_path):
    """Then what it predicts does not matter."""
    path = tmp_path / "metric.safetensors"
    given = build("lite0", seed=7, max_depth=80.0)
    save(given, path)
    whole = pin(RunConfig(start=GivenNetwork(weights=str(path))))
    with pytest.raises(ConfigError, match="predicts depth in metres, and a student begins"):
        first_weights(whole, whole.start)
    config = pin(RunConfig(start=GivenNetwork(weights=str(path), part="encoder")))
    assert config.hash() != whole.hash()
    network = new_student(config, first_weights(config, config.start))
    assert network.kind == "disparity"
    assert same(network.encoder.state_dict(), given.encoder.state_dict())
    assert not same(network.decoder.state_dict(), given.decoder.state_dict())


def test_a_metric_run_may_begin_with_either_kind(tmp_path):
    for reach in (None, 80.0):
        path = tmp_path / f"{reach}.safetensors"
        given = build("lite0", seed=7, max_depth=reach)
        save(given, path)
        config = pin(metric(start=GivenNetwork(weights=str(path))))
        network = new_student(config, first_weights(config, config.start))
        assert (network.kind, network.max_depth) == ("depth_m", 10.0)
        own, theirs = network.state_dict(), given.state_dict()
        last = [name for name in own if name.startswith("decoder.head.2.")]
        assert len(last) == 2
        if reach is None:  # the layer that gives disparity stays behind
            assert not any(torch.equal(own[name], theirs[name]) for name in last)
            own = {k: v for k, v in own.items() if k not in last}
            theirs = {k: v for k, v in theirs.items() if k not in last}
        assert same(own, theirs)


def test_every_task_that_can_be_trained_can_be_scored():
    known = []
    for name in CHOICES["task"]:
        config = RunConfig(task=name, max_depth=10.0 if name == "metric" else None)
        with suppress(ConfigError):
            known.append((tasks.of(config).name, bool(suite.scoring(config).metrics)))
    assert ("disparity", True) in known
    assert all(scored for _, scored in known)


def test_a_file_of_weights_stays_a_block():
    assert RunConfig(encoder_weights="x.pth", encoder="vits", height=28, width=28).given() == {
        "encoder_weights": WeightFile(weights="x.pth")
    }


@pytest.mark.slow
def test_the_plan_counts_the_run_to_begin_with(tmp_path):
    """With a teacher and a pool of its own, which the run itself knows nothing of; and its data are
    looked at before anything is trained."""
    path = tmp_path / "teacher.safetensors"
    save(build("lite0", seed=1), path)
    taught = {"pseudo_labels": True, "teacher": {"weights": str(path)}, "steps": 30}
    config = metric(
        labelled=("scenes:labelled_room",), steps=20, start=TrainedStart(trained=taught)
    )
    found = plan(config)
    assert [(part.role, part.config.steps) for part in found.parts] == [
        ("network to begin with", 30),
        ("", 20),
    ]
    # what it labels before it trains, which is stored: 4000 maps of 96 x 128 in half precision
    assert found.parts[0].labels_bytes == 4000 * 96 * 128 * 2
    assert found.parts[1].labels_bytes == 0
    gone = {"labelled": [f"depth:{tmp_path / 'gone'}"]}
    with pytest.raises(DataError, match="gone"):
        plan(metric(start=TrainedStart(trained=gone)))
