"""Photographs and a teacher to a student and its report, as a user asks for it."""

import json
import os
import re

import pytest
import torch
from helpers.commands import main
from PIL import Image

from dalib.adaptation.adapt import KEPT_BACK, RECIPES, REPORT, STUDENT, prepare
from dalib.blocks import GivenTeacher
from dalib.data.photos import PhotoFolder
from dalib.errors import CheckpointError, ConfigError, DataError
from dalib.models import build, load, save
from dalib.models.lively import enliven

SIZE = {"height": 64, "width": 96}
TINY = ["--height", "64", "--width", "96"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Sixty smooth pictures in which brighter is nearer for a teacher that was trained on nothing,
    weights of a ViT, and a small student to begin with."""
    out = tmp_path_factory.mktemp("files")
    (out / "photos").mkdir()
    generator = torch.Generator().manual_seed(1)
    for k in range(60):
        coarse = torch.randint(0, 256, (4, 5, 3), generator=generator).to(torch.uint8)
        picture = Image.fromarray(coarse.numpy()).resize((120, 90), Image.Resampling.BICUBIC)
        picture.save(out / "photos" / f"{k:02}.jpg")
    save(enliven(build("vitt", pretrained=False)), out / "teacher.safetensors")
    save(
        enliven(build("vitt", pretrained=False, max_depth=20.0), seed=2), out / "metric.safetensors"
    )
    save(build("lite0", seed=3), out / "small.safetensors")
    return out


def words(files, out, *more, teacher="teacher", steps=50):
    named = ["--teacher", str(files / f"{teacher}.safetensors"), "--steps", str(steps)]
    # a ViT on a CPU: at a size that costs seconds
    named += ["--set", "teacher.short_side=70"]
    return ["adapt", str(files / "photos"), str(out), *named, *TINY, *more]


@pytest.fixture(scope="module")
def adapted(files, tmp_path_factory):
    """The whole way once, for several tests."""
    out = tmp_path_factory.mktemp("out") / "mine"
    assert main(words(files, out, "--set", "encoder_lr=5.0e-4")) == 0
    return out


# the whole way


@pytest.mark.slow
def test_the_student_is_nearer_to_its_teacher_on_photographs_it_has_not_seen(adapted):
    content = json.loads((adapted / "report.json").read_text())
    gain = content["agreement"]["distance"]
    assert gain["after"]["value"] < gain["before"]["value"]
    kept = json.loads((adapted / KEPT_BACK).read_text())["names"]
    assert 5 <= len(kept) < 20
    page = (adapted / "report.html").read_text()
    assert re.search(r"nearer to its teacher", page)
    assert "http-equiv" not in page
    student = load(adapted / "student.safetensors")
    assert student.kind == "disparity"
    assert student.about["trained"]["recipe"] == "v1"
    assert student.about["trained"]["photographs"] == 60 - len(kept)


@pytest.mark.slow
def test_called_again_it_does_nothing_again_and_keeps_what_is_there(adapted, files, capsys):
    before = {p.name: p.stat().st_mtime_ns for p in adapted.iterdir() if p.is_file()}
    assert main(words(files, adapted, "--set", "encoder_lr=5.0e-4")) == 0
    assert "trained already" in capsys.readouterr().out
    assert {p.name: p.stat().st_mtime_ns for p in adapted.iterdir() if p.is_file()} == before

    # other settings: not over it unasked
    assert main(words(files, adapted, "--recipe", "v2", steps=2)) == 1
    assert "is the student of other settings" in capsys.readouterr().err
    assert {p.name: p.stat().st_mtime_ns for p in adapted.iterdir() if p.is_file()} == before


@pytest.mark.slow
@pytest.mark.parametrize("student", ["small", "teacher"])
def test_a_student_that_begins_with_weights(files, tmp_path, student, capsys):
    """A CNN, and a ViT that begins as its teacher: the latter cannot come nearer."""
    out = tmp_path / "mine"
    weights = str(files / f"{student}.safetensors")
    size = ["--height", "70", "--width", "98"]
    assert main([*words(files, out, "--student", weights, steps=2), *size]) == 0
    content = json.loads((out / "report.json").read_text())
    distance = content["agreement"]["distance"]
    if student == "teacher":
        assert distance["before"]["value"] < 1e-3 < distance["after"]["value"]
    assert load(out / "student.safetensors").architecture["encoder"] == (
        "lite0" if student == "small" else "vitt"
    )


# what is made of the words


def settings(files, tmp_path, **options):
    options = SIZE | {"teacher": files / "teacher.safetensors"} | options
    return prepare(files / "photos", tmp_path / "mine", **options)


def test_the_recipes(files, tmp_path):
    one = settings(files, tmp_path).plan.config
    assert (one.perturb, one.align, one.labelled) == (
        ("colour", "blur", "cutmix"),
        "unlabelled",
        (),
    )
    two = settings(files, tmp_path, recipe="v2").plan.config
    assert (two.perturb, two.gradient_weight, two.drop) == ((), 2.0, 0.1)
    assert set(RECIPES) == {"v1", "v2"}


@pytest.mark.slow
def test_what_nobody_says_fits_the_photographs(files, tmp_path):
    """Fifty-odd photographs, read sixteen at a time: twenty readings would be under 200 steps."""
    ready = settings(files, tmp_path)
    config = ready.plan.config
    count = len(ready.split.training)
    assert (config.steps, config.batch, config.pool_batch) == (200, 8, 16)
    assert config.labelling == "stored"
    assert config.teacher.short_side == 518  # a ViT's own
    (name,) = config.unlabelled
    assert ready.plan.images["unlabelled"] == {name: count}
    assert settings(files, tmp_path, steps=3).plan.config.labelling == "online"  # read once
    given = GivenTeacher(weights=str(files / "metric.safetensors"), short_side=70)
    other = settings(files, tmp_path, teacher=given, changes={"teacher": {"short_side": 98}})
    assert other.plan.config.teacher.short_side == 98
    assert other.plan.given[0].kind == "depth_m"


def test_a_run_is_the_same_however_its_folders_are_written(files, tmp_path, monkeypatch):
    whole = settings(files, tmp_path).plan.config
    monkeypatch.chdir(files)
    options = SIZE | {"teacher": files / "teacher.safetensors"}
    short = prepare("photos", os.path.relpath(tmp_path / "mine"), **options).plan.config
    assert short.hash() == whole.hash()


@pytest.mark.slow
def test_a_gpu_computes_in_bfloat16_where_nobody_says(files, tmp_path, monkeypatch):
    assert settings(files, tmp_path).plan.config.precision == "no"
    from dalib.adaptation import adapt
    from dalib.training import plan

    monkeypatch.setattr(adapt.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(plan, "_speed", lambda _: 1e12)
    monkeypatch.setattr(plan, "_free_memory", lambda: 10**12)
    assert settings(files, tmp_path).plan.config.precision == "bf16"
    wanted = settings(files, tmp_path, changes={"precision": "no"})
    assert wanted.plan.config.precision == "no"


def test_photographs_that_are_kept_back_are_not_trained_on(files, tmp_path):
    ready = settings(files, tmp_path)
    kept = json.loads((tmp_path / "mine" / KEPT_BACK).read_text())["names"]
    photographs = PhotoFolder(files / "photos")
    from dalib.data.catalogue import open_source

    (name,) = ready.plan.config.unlabelled
    pool = open_source(name, count=1, height=1, width=1)
    seen = {pool.name_of(i) for i in range(len(pool))}
    assert seen | set(kept) == {photographs.name_of(i) for i in range(60)}
    assert not seen & set(kept)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"teacher": "absent.pth"}, CheckpointError, r"absent\.pth: no such file"),
        ({"student": "lite1"}, ConfigError, "lite1"),
        ({"student": "absent.pth"}, CheckpointError, r"absent\.pth: no such file"),
        (
            {"student": "{metric}", "height": 70, "width": 98},
            ConfigError,
            "predicts depth in metres, and a student begins",
        ),
        ({"recipe": "v3"}, ConfigError, r"unknown recipe 'v3'"),
        ({"height": 65}, ConfigError, None),
        ({"width": None, "height": 64}, ConfigError, "height, width: give both, or none"),
        ({"labelled": ("depth:absent",)}, DataError, "absent"),
        ({"changes": {"stepz": 3}}, ConfigError, r"Did you mean 'steps'"),
        ({"changes": {"unlabelled": ["photos:x"]}}, ConfigError, "unlabelled: is for adapt"),
        ({"changes": {"teacher": "x.pth"}}, ConfigError, "teacher: is for adapt"),
        (
            {"changes": {"teacher": {"weights": "x"}}},
            ConfigError,
            r"teacher\.weights: is for adapt",
        ),
        ({"processes": 0}, ConfigError, "processes: 0 is not at least 1"),
    ],
)
def test_what_cannot_be_is_found_before_anything(files, tmp_path, options, error, message):
    if message is None:  # lite0 takes any size
        settings(files, tmp_path, **options)
        return
    named = {"{metric}": files / "metric.safetensors"}
    options = {k: named.get(v, v) if isinstance(v, str) else v for k, v in options.items()}
    with pytest.raises(error, match=message):
        settings(files, tmp_path, **options)
    assert not (tmp_path / "mine" / "student.safetensors").exists()


def test_too_few_photographs_and_other_ones(files, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for k in range(4):
        (few / f"{k}.jpg").write_bytes((files / "photos" / f"{k:02}.jpg").read_bytes())
    with pytest.raises(ConfigError, match="photographs"):
        prepare(few, tmp_path / "mine", teacher=files / "teacher.safetensors", **SIZE)
    settings(files, tmp_path)
    for k in range(4, 30):
        (few / f"{k}.jpg").write_bytes((files / "photos" / f"{k:02}.jpg").read_bytes())
    # a plan binds nobody, a run that was begun does
    ready = prepare(few, tmp_path / "mine", teacher=files / "teacher.safetensors", **SIZE)
    kept = json.loads((tmp_path / "mine" / KEPT_BACK).read_text())["names"]
    assert kept == [ready.photographs.name_of(int(i)) for i in ready.split.kept]
    (tmp_path / "mine" / "runs" / ready.plan.config.hash()).mkdir(parents=True)
    with pytest.raises(ConfigError, match="other photographs were kept back here"):
        settings(files, tmp_path)
    with pytest.raises(ConfigError, match="only is for adapt itself to say"):
        prepare(f"photos:{few}?only=x", tmp_path / "n", teacher=files / "teacher.safetensors")


def test_the_plan_alone(files, tmp_path, capsys):
    assert main(words(files, tmp_path / "mine", "--plan")) == 0
    told = capsys.readouterr().out
    assert re.search(r"photos +60: \d+ to learn from, \d+ kept back for the report", told)
    assert "is given  teacher" in told
    assert not (tmp_path / "mine" / "student.safetensors").exists()


# what is there already


def student_of(run, out):
    """A network that says which run made it, as `adapt` leaves it before its report."""
    out.mkdir(exist_ok=True)
    save(build("lite0", seed=3), out / STUDENT, about={"trained": {"run": run, "code": "c"}})


def test_a_student_without_its_report_is_gone_on_with(files, tmp_path):
    """Killed in the comparison, which comes after the student is written."""
    own = settings(files, tmp_path).plan.config.hash()
    out = tmp_path / "mine"
    student_of(own, out)
    settings(files, tmp_path)
    # the report before it was of other settings, and --overwrite was said then
    (out / REPORT).write_text(json.dumps({"trained": {"run": "other"}}))
    settings(files, tmp_path)


@pytest.mark.slow
def test_a_report_of_the_student_before_is_not_taken_for_ones_own(files, tmp_path):
    """One is whole, another is written over it and killed before its report: the first, called
    again, makes both of its files anew."""
    out = tmp_path / "mine"
    assert main(words(files, out, steps=2)) == 0
    trained = json.loads((out / REPORT).read_text())["trained"]
    right = load(out / STUDENT).about
    student_of("other", out)
    assert main([*words(files, out, steps=2), "--overwrite"]) == 0
    assert load(out / STUDENT).about == right
    assert json.loads((out / REPORT).read_text())["trained"]["run"] == trained["run"]

    # a report of the same run, which older code wrote, is none of this student either
    told = json.loads((out / REPORT).read_text())
    told["trained"]["code"] = "older"
    (out / REPORT).write_text(json.dumps(told))
    assert main([*words(files, out, steps=2), "--overwrite"]) == 0
    assert json.loads((out / REPORT).read_text())["trained"]["code"] == trained["code"]


@pytest.mark.parametrize("name", [STUDENT, REPORT, "report.html"])
def test_files_of_others_are_not_written_over(files, tmp_path, name):
    out = tmp_path / "mine"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(ConfigError, match=f"{name}: is there already"):
        settings(files, tmp_path)
    settings(files, tmp_path, overwrite=True)
    assert (out / name).read_text() == "mine"  # until there is something to put in its place


@pytest.mark.slow
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_student_is_never_written_over_what_it_is_made_from(files, tmp_path, role):
    out = tmp_path / "mine"
    out.mkdir()
    own = out / STUDENT
    own.write_bytes((files / "small.safetensors").read_bytes())
    with pytest.raises(ConfigError, match="is where the student will be written"):
        settings(files, tmp_path, overwrite=True, **{role: own})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tars:x", r"write \./tars:x"),
        ("photos:x", r"write \./photos:x"),
        ("what?", "a question mark begins the options"),
        ("\udcff", "is not UTF-8"),
    ],
)
def test_folders_that_no_setting_can_name(files, tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    try:
        (tmp_path / name).symlink_to(files / "photos")
    except OSError:
        pytest.skip("this file system takes no such name")
    given = {"teacher": files / "teacher.safetensors", **SIZE}
    with pytest.raises(ConfigError, match=message):
        prepare(name, tmp_path / "mine", **given)
    if ":" in name:
        assert len(prepare(f"./{name}", tmp_path / "mine", **given).photographs) == 60


def test_damaged_photographs_are_named_at_once_and_may_be_left_out(files, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in (files / "photos").iterdir():
        (photos / path.name).write_bytes(path.read_bytes())
    for name in ("07.jpg", "31.jpg"):
        (photos / name).write_bytes((photos / name).read_bytes()[:200])
    given = {"teacher": files / "teacher.safetensors", **SIZE}
    with pytest.raises(DataError, match=r"(?s)07\.jpg.*1 more of 60.*31\.jpg"):
        prepare(photos, tmp_path / "mine", **given)
    share = {"damaged_share": 0.05}
    ready = prepare(photos, tmp_path / "mine", **given, changes=share)
    assert not {7, 31} & set(ready.split.kept.tolist())
    assert {7, 31} <= set(ready.split.training.tolist())
