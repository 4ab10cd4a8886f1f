"""What a run says while it goes: times, speeds and shares by a clock of the test's own; files that
are the same for a killed run; trackers that go on, and that may fail."""

import json
from functools import partial

import pytest
import torch
from accelerate import tracking
from helpers.training import Interruption, Smooth, interrupt_at, quiet
from numpy.testing import assert_allclose

from dalib.data.mixture import Mixture
from dalib.errors import ConfigError
from dalib.training import launch
from dalib.training import train as training
from dalib.training.journal import Log, Pace, best, duration, outcome, progress, read_lines
from dalib.training.trackers import check_trackers
from dalib.training.train import train


def lines(out, name):
    return [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]


# times


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (119.4, "119 s"),
        (119.6, "2 min"),
        (150, "2 min"),
        (151, "3 min"),
        (7169, "119 min"),
        (7170, "2 h 0 min"),
        (2 * 3600 + 61, "2 h 1 min"),
        (47 * 3600 + 59 * 60, "47 h 59 min"),
        (47 * 3600 + 59 * 60 + 31, "2 d 0 h"),
        (51 * 3600 + 1799, "2 d 3 h"),
        (71.6 * 3600, "3 d 0 h"),
        (400 * 86400, "400 d 0 h"),
    ],
)
def test_a_time_for_a_person(seconds, told):
    assert duration(seconds) == told


def test_the_line_of_progress():
    speed = {"images_per_second": 312.4, "waiting": 0.0161, "memory_mb": 4198}
    line = progress(400, 250_000, 0.12341, speed, left=51 * 3600)
    assert line == ("step 400/250000  loss 0.1234  312 images/s  waiting 2 %  4.1 GB  left 2 d 3 h")
    slow = speed | {"images_per_second": 0.84}
    assert "  0.8 images/s  " in progress(1, 2, 1.0, slow, left=5)


class Clock:
    """Stands still until it is told to move."""

    now = 100.0

    def __call__(self):
        return self.now


def steps(pace, clock, *, waits, works):
    """Steps that wait so long for a batch, and then work so long."""

    def source():
        for wait in waits:
            clock.now += wait
            yield "batch"

    for batch, work in zip(pace.fed(source()), works, strict=True):
        assert batch == "batch"
        clock.now += work
        pace.step()


def test_speed_and_waiting_since_the_last_line():
    """Four steps of 6 images in 2 + 6 seconds, 2 of them waiting; then one step without a wait, and
    a validation of 100 seconds that is no part of it."""
    clock = Clock()
    pace = Pace(images=6, clock=clock)
    steps(pace, clock, waits=[0.5] * 4, works=[1.5] * 4)
    assert pace.line() == {"seconds": 8, "images_per_second": 3, "waiting": 0.25}
    with pace.aside():
        clock.now += 100
    steps(pace, clock, waits=[0], works=[2])
    assert pace.line() == {"seconds": 2, "images_per_second": 3, "waiting": 0}


def test_the_first_steps_do_not_count_for_what_is_left():
    """60 seconds of compiling, then a second a step. With no others there are only they."""
    clock = Clock()
    pace = Pace(images=1, clock=clock)
    steps(pace, clock, waits=[0], works=[60])
    assert pace.left(10) == 600
    steps(pace, clock, waits=[0] * 4, works=[1] * 4)
    assert pace.left(10) == 10 * 64 / 5
    steps(pace, clock, waits=[0.25] * 2, works=[0.75] * 2)
    assert pace.left(1000) == 1000
    with pace.aside():  # a validation is a part of what is still to come
        clock.now += 3
    steps(pace, clock, waits=[0], works=[1])
    assert pace.left(1000) == 2000
    assert pace.left(0) == 0


@pytest.mark.slow
def test_what_is_left_after_a_resume_is_of_this_leg_alone(tmp_path, tiny, monkeypatch):
    """Steps of 10 seconds by the clock, of which 4 of 12 are left after the eighth, in a run that
    went on from step 2: 40 s, whatever the earlier leg took."""
    config = tiny.replace(steps=12)
    with pytest.raises(Interruption):
        train(config, out=tmp_path, labelled=Smooth(), report=interrupt_at(3))
    clock = Clock()
    monkeypatch.setattr(training, "Pace", partial(Pace, clock=clock))

    class Slow(torch.optim.AdamW):
        def step(self, closure=None):
            clock.now += 10
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Slow)
    seen = []
    train(config, out=tmp_path, labelled=Smooth(), report=seen.append)
    told = {line.split("/")[0]: line.rpartition("left ")[2] for line in seen}
    assert told["step 3"] == "90 s"
    assert told["step 8"] == "40 s"
    assert told["step 12"] == "0 s"


# files


def test_images_of_a_step(tiny, tiny_student):
    """2 labelled ones, and 4 of the pool."""
    assert Mixture(config=tiny, labelled=Smooth()).images == 2
    both = Mixture(config=tiny_student, labelled=Smooth(), unlabelled=Smooth())
    assert both.images == 6
    alone = Mixture(config=tiny_student, labelled=None, unlabelled=Smooth(), rank=1, world=2)
    assert alone.images == 4


@pytest.mark.slow
def test_rates_and_speed_go_to_files_of_their_own(tmp_path, tiny):
    """The rates fall linearly; what differs from run to run is not in metrics.jsonl, which is the
    same for a run that was interrupted."""
    seen = []
    train(tiny, out=tmp_path / "whole", labelled=Smooth(), report=seen.append)
    metrics = lines(tmp_path / "whole", "metrics")
    assert_allclose([m["lr_encoder"] for m in metrics], [1e-3 * k / 6 for k in (6, 5, 4, 3, 2, 1)])
    assert_allclose([m["lr_decoder"] for m in metrics], [1e-2 * k / 6 for k in (6, 5, 4, 3, 2, 1)])
    speed = lines(tmp_path / "whole", "speed")
    assert [s["step"] for s in speed] == [1, 2, 3, 4, 5, 6]
    names = {"step", "seconds", "images_per_second", "waiting", "memory_mb"}
    assert all(s.keys() == names for s in speed)
    for s in speed:
        assert s["images_per_second"] * s["seconds"] == pytest.approx(2, rel=0.01)
        assert 0 <= s["waiting"] < 1
    assert " images/s  waiting " in seen[0]

    with pytest.raises(Interruption):
        train(tiny, out=tmp_path / "cut", labelled=Smooth(), report=interrupt_at(5))
    train(tiny, out=tmp_path / "cut", labelled=Smooth(), report=quiet)
    files = [(tmp_path / each / "metrics.jsonl").read_bytes() for each in ("whole", "cut")]
    assert files[0] == files[1]
    assert [s["step"] for s in lines(tmp_path / "cut", "speed")] == [1, 2, 3, 4, 5, 6]


def test_a_slow_source_shows_as_waiting(tmp_path, tiny, monkeypatch):
    """By a source that moves the clock 3 seconds an image, where a step has 2 and nothing else
    takes any time."""
    clock = Clock()

    class Slow(Smooth):
        def _sample(self, index):
            clock.now += 3
            return super()._sample(index)

    monkeypatch.setattr(training, "Pace", partial(Pace, clock=clock))
    train(tiny.replace(log_every=3), out=tmp_path, labelled=Slow(), report=quiet)
    found = lines(tmp_path, "speed")
    assert [(s["seconds"], s["waiting"]) for s in found] == [(18, 1), (18, 1)]
    assert_allclose([s["images_per_second"] for s in found], 1 / 3, atol=1e-4)
    assert outcome(tmp_path) == {"images_per_second": pytest.approx(1 / 3, abs=1e-4), "waiting": 1}


def test_the_means_of_a_whole_run_by_hand(tmp_path):
    """10 images in 10 s and 30 in 5 s: 40 / 15; waiting 5 s and 1 s of 15."""
    log = Log(tmp_path / "speed.jsonl", 0)
    log.write(step=1, seconds=10, images_per_second=1, waiting=0.5)
    log.write(step=2, seconds=5, images_per_second=6, waiting=0.2)
    assert outcome(tmp_path) == {"images_per_second": 2.6667, "waiting": 0.4}
    assert outcome(tmp_path / "nothing") == {"images_per_second": 0.0, "waiting": 0.0}


def test_train_json_says_how_fast_the_whole_run_was(tiny, launched):
    path = launch.ensure_weights(tiny.replace(steps=2), report=quiet)
    done = json.loads((path.parent / "train.json").read_text())
    speed = lines(path.parent, "speed")
    mean = 4 / sum(s["seconds"] for s in speed)
    assert done["images_per_second"] == pytest.approx(mean, rel=0.01)
    assert 0 <= done["waiting"] < 1
    assert "best_step" not in done


def test_lines_behind_the_step_and_half_lines_are_dropped(tmp_path):
    """And what stays keeps its bytes, a loss that was no number included."""
    path = tmp_path / "x.jsonl"
    kept = '{"step": 1, "loss": 0.30000000000000004}\n{"step": 2, "loss": NaN}\n'
    path.write_text(kept + '{"step": 3, "loss": 1.0}\n{"step": 4, "lo')
    log = Log(path, 2)
    assert path.read_text() == kept
    log.write(step=3, loss=0.5)
    assert [line["step"] for line in read_lines(path)] == [1, 2, 3]
    Log(path, 0)
    assert path.read_text() == ""


def test_the_best_step():
    """The first of equals; a score that is no number is none."""
    nan = float("nan")
    assert best([{"step": 1, "abs_rel": nan}]) is None
    scores = [(1, nan), (2, 0.5), (3, 0.25), (4, 0.25)]
    assert best([{"step": s, "abs_rel": x} for s, x in scores]) == (3, 0.25)
    assert best([]) is None


# trackers


@pytest.mark.slow
def test_tensorboard_goes_on_without_doubled_steps(tmp_path, tiny):
    """Read back as TensorBoard itself reads them: every step once, with the values of
    metrics.jsonl, though steps 3 to 5 were written twice; the settings once."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = tiny.replace(trackers=("tensorboard",))
    with pytest.raises(Interruption):
        train(config, out=tmp_path, labelled=Smooth(), report=interrupt_at(5))
    # the state of step 4 is lost: what the first leg wrote of 3 to 5 is to be hidden
    (tmp_path / "checkpoint" / "step-000000004.pt").unlink()
    train(config, out=tmp_path, labelled=Smooth(), report=quiet)
    log = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    metrics = lines(tmp_path, "metrics")
    for name in ("loss", "lr_encoder", "grad_norm"):
        events = log.Scalars(name)
        assert [e.step for e in events] == [1, 2, 3, 4, 5, 6]
        assert_allclose([e.value for e in events], [m[name] for m in metrics], rtol=1e-6)
    speed = lines(tmp_path, "speed")
    assert_allclose(
        [e.value for e in log.Scalars("images_per_second")],
        [s["images_per_second"] for s in speed],
        rtol=1e-6,
    )
    (settings,) = (tmp_path / "tensorboard").rglob("hparams.yml")
    assert f"hash: {config.hash()}" in settings.read_text()
    assert "encoder_lr: 0.001" in settings.read_text()


class Fake(tracking.GeneralTracker):
    """Notes what it is told, in a list that outlives it; fails where it is told to."""

    name = "fake"
    requires_logging_directory = False
    told: list
    fails: str

    def __init__(self, project, **options):
        super().__init__()
        assert project == "dalib"

    @property
    def tracker(self):
        return self.told

    def _note(self, what, *values):
        if what == self.fails:
            raise ConnectionError("no route\nto host")
        self.told.append((what, *values))

    def start(self):
        self._note("start")

    def store_init_configuration(self, values):
        self._note("settings", values)

    def log(self, values, step=None, **more):
        self._note("log", step, values)

    def finish(self):
        self._note("finish")


@pytest.fixture
def fake(monkeypatch):
    kind = type("Kind", (Fake,), {"told": [], "fails": ""})
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "fake", kind)
    return kind


def test_a_tracker_is_told_all_and_its_settings_once(tmp_path, tiny, fake):
    config = tiny.replace(trackers=("fake",), steps=4)
    with pytest.raises(Interruption):
        train(config, out=tmp_path, labelled=Smooth(), report=interrupt_at(3))
    train(config, out=tmp_path, labelled=Smooth(), report=quiet)
    kinds = [what for what, *_ in fake.told]
    assert kinds == [
        *("start", "settings", "log", "log", "finish"),
        *("start", "log", "log", "finish"),
    ]
    assert [values[0] for what, *values in fake.told if what == "log"] == [1, 2, 3, 4]
    logged = fake.told[2][2]
    assert logged == pytest.approx(
        {k: v for k, v in lines(tmp_path, "metrics")[0].items() if k != "step"}
        | {k: v for k, v in lines(tmp_path, "speed")[0].items() if k != "step"}
    )
    settings = fake.told[1][1]
    assert settings["steps"] == 4
    assert settings["trackers"] == "fake"
    assert settings["teacher"] == "null"
    assert all(isinstance(v, str | int | float) for v in settings.values())


@pytest.mark.slow
@pytest.mark.parametrize("where", ["start", "settings", "log", "finish"])
def test_a_tracker_that_fails_is_told_of_once_and_changes_nothing(where, tmp_path, tiny, fake):
    config = tiny.replace(steps=3)
    plain = train(config, out=tmp_path / "plain", labelled=Smooth(), report=quiet).read_bytes()
    fake.fails = where
    seen = []
    config = config.replace(trackers=("fake",))
    path = train(config, out=tmp_path / "told", labelled=Smooth(), report=seen.append)
    assert path.read_bytes() == plain
    warnings = [line for line in seen if not line.startswith("step ")]
    assert warnings == [
        "tracker fake failed (ConnectionError: no route to host); the run goes on without it"
    ]
    kinds = [what for what, *_ in fake.told]
    before = {"start": 0, "settings": 1, "log": 2, "finish": 5}[where]
    assert len(kinds) == before


def test_trackers_are_looked_at_before_anything(tiny_student, launched, monkeypatch):
    """A name that nobody knows, and one whose package is not here: before the teacher is trained."""
    with pytest.raises(ConfigError, match=r"'tensorbord'.* Did you mean 'tensorboard'"):
        launch.ensure_weights(tiny_student.replace(trackers=("tensorbord",)), report=quiet)
    monkeypatch.setattr(tracking, "_available_trackers", [])
    with pytest.raises(ConfigError, match=r"comet_ml is not installed; .*pip install comet-ml"):
        launch.ensure_weights(tiny_student.replace(trackers=("comet_ml",)), report=quiet)
    assert launched == []


def test_a_registered_tracker_needs_no_package(tiny, fake, monkeypatch):
    monkeypatch.setattr(tracking, "_available_trackers", [])
    check_trackers(tiny.replace(trackers=("fake",)))
