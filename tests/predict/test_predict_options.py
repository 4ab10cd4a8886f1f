"""What is typed wrongly ends in one line that names the option, before a network is loaded; Ctrl-C
in one line and code 130."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from helpers.commands import main, prediction
from helpers.networks import Brightness
from helpers.pictures import picture

from dalib import models
from dalib.errors import ConfigError
from dalib.predict import Predictor, write_folder

NEVER_READ = ["--weights", "nowhere.pth"]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        picture(30 * i).save(folder / f"{i}.png")
    return folder


def refused(capsys, *words) -> str:
    assert main(["predict", *map(str, words)]) == 1
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1, "one line"
    assert not told.out
    return told.err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("--short-side", v) for v in ("0", "-1", "1000000")],
        *[("--batch", v) for v in ("0", "-1")],
        *[("--device", v) for v in ("meta", "nonsense", "", "cuda:99", "cpu:x")],
        *[("--max-depth", v) for v in ("0", "-1", "nan", "inf")],
        *[("--colours", v) for v in ("plaid", "")],
        ("--weights", ""),
    ],
)
def test_values_that_cannot_be(photos, tmp_path, capsys, option, value):
    weights = [] if option == "--weights" else NEVER_READ
    device = [] if option == "--device" else ["--device", "cpu"]
    words = [photos, tmp_path / "out", *weights, *device, f"{option}={value}"]
    assert option in refused(capsys, *words).replace("colours:", "--colours:")
    assert not (tmp_path / "out").exists()


def test_empty_and_missing_places(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(photos)
    assert "IMAGES is empty" in refused(capsys, "", "out", *NEVER_READ)
    assert "OUT is empty" in refused(capsys, photos, "", *NEVER_READ)
    assert "no such file or folder" in refused(capsys, "nowhere", "out", *NEVER_READ)
    (tmp_path / "empty").mkdir()
    assert "no photograph in this folder" in refused(capsys, tmp_path / "empty", "out", *NEVER_READ)
    assert sorted(os.listdir()) == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize(
    "out", ["file", "file/sub", "link", "/proc/nowhere", "/dev/null", "photos/0.png"]
)
def test_places_that_no_results_can_go_to(photos, tmp_path, capsys, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    told = refused(capsys, "photos", out, *NEVER_READ, "--device", "cpu")
    assert f"{out}: cannot be used as a folder for results" in told
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is closed to this user")
def test_a_place_that_is_read_only(photos, tmp_path, capsys):
    (tmp_path / "out").mkdir(mode=0o500)
    assert "cannot be used as a folder for results" in refused(
        capsys, photos, tmp_path / "out", *NEVER_READ
    )


@pytest.mark.slow
@pytest.mark.parametrize("side", [1, 7, 33])
def test_a_short_side_is_raised_to_a_multiple(photos, tmp_path, side):
    models.save(models.build("lite0", seed=0), tmp_path / "net.safetensors")
    words = [
        "--weights",
        str(tmp_path / "net.safetensors"),
        "--device",
        "cpu",
        "--short-side",
        str(side),
    ]
    assert main(["predict", str(photos), str(tmp_path / "out"), *words]) == 0


def test_memory_that_is_short_fails_by_name_and_single_images_still_go(photos, tmp_path):
    class Large(Brightness):
        def forward(self, images):
            if len(images) > 1 or images.shape[-1] > 30:
                raise torch.OutOfMemoryError(
                    "not enough memory: you tried to allocate 18 TB\nand more lines"
                )
            return super().forward(images)

    picture(size=(48, 16)).save(photos / "2.png")
    run = Predictor(model=Large(pair=False), short_side=16, device="cpu")
    result = write_folder(photos, tmp_path / "out", run=run, report=lambda line: None)
    assert result.written == ["0", "1"]
    assert result.failed["2"].startswith("2: the network failed (not enough memory")
    assert "--batch" in result.failed["2"]
    assert "\n" not in result.failed["2"]


@pytest.mark.parametrize("device", ["meta", torch.device("meta")])
def test_the_same_from_python(device):
    with pytest.raises(ConfigError, match="device 'meta' cannot be used"):
        Predictor(model=Brightness(pair=True), device=device)
    with pytest.raises(ConfigError, match="short_side 0"):
        Predictor(model=Brightness(pair=True), short_side=0)


def test_many_failures_are_counted(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for i in range(50):
        (tmp_path / "in" / f"{i:02d}.png").write_bytes(b"nothing")
    models.save(models.build("lite0", seed=0), tmp_path / "net.safetensors")
    words = ["--weights", str(tmp_path / "net.safetensors"), "--device", "cpu"]
    assert main(["predict", str(tmp_path / "in"), str(tmp_path / "out"), *words]) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 22
    assert told[-1] == "and 30 more"


def test_ctrl_c_is_one_line_and_130_for_every_command(monkeypatch, capsys):
    def interrupted(path, *args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("dabook.runs.experiments.expand", interrupted)
    assert main(["rows", "main_table"]) == 130
    told = capsys.readouterr().err
    assert told.startswith("interrupted")
    assert told.count("\n") == 1


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_a_folder(tmp_path):
    photos, out = tmp_path / "in", tmp_path / "out"
    photos.mkdir()
    for i in range(40):
        picture(i, size=(400, 300)).save(photos / f"{i}.png")
    models.save(models.build("lite0", seed=0), tmp_path / "net.safetensors")
    words = prediction(photos, out, tmp_path / "net.safetensors")
    child = subprocess.Popen(
        [sys.executable, "-m", "dalib", *words], stderr=subprocess.PIPE, text=True
    )
    while child.poll() is None and len(list(out.glob("*.png"))) < 3:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    told = child.communicate()[1]
    assert child.returncode == 130, told
    assert told.count("\n") == 1
    assert "interrupted" in told
    there = len(list(out.glob("*.png")))
    assert {p.name for p in out.iterdir()} == {
        "predictions.json",
        *(p.name for p in out.glob("*.png")),
    }
    run = Predictor(model=models.load(tmp_path / "net.safetensors"), device="cpu")
    result = write_folder(photos, out, run=run, report=lambda line: None)
    assert (len(result.kept), len(result.written)) == (there, 40 - there)
