"""The road from folders to the hub, walked as its page says: every command of book/your_student.md is
taken out of the page and run, in its order, on tiny stand-ins.

`PLACES`, `SETTINGS` and `ADDED` say what stands in for what. A command that is not run here says so
on the page, and stands in `NOT_RUN` with the reason.
"""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers import ROOT, published
from helpers.commands import main
from PIL import Image

from dalib.__main__ import commands as library
from dalib.config import RunConfig
from dalib.data.pools.facts import Pool, Repository, Row
from dalib.data.pools.fingerprint import blob_id
from dalib.models import build, load
from dalib.models.export import export_official
from dalib.models.lively import enliven

PAGE = (ROOT / "book" / "your_student.md").read_text(encoding="utf-8")
NOTE = "# not run by the test"

PLACES = {
    "/data/": "data/",
    "/weights/": "weights/",
    "configs/": f"{ROOT}/configs/",
}
"""Folders of the page: below the test's own, and the checkout's."""
SETTINGS = {
    "encoder: vits": "encoder: vitt\npretrained: false",
    "encoder: vitl, steps: 937500": "encoder: vitt, steps: 1",
    "align: unlabelled": "align: none",
    "518": "28",
    "batch: 96": "batch: 2",
    "batch: 32": "batch: 2",
    "steps: 480000": "steps: 2",
    "steps: 968750": "steps: 3",
    "compile: true": "compile: false",
    "workers: 8": "workers: 0",
    "log_every: 100": "log_every: 1",
    "margin: 0.85\n": "",
}
"""Of the page's YAML: networks that a CPU can train, and steps for seconds."""
ADDED = {
    "train v2.yaml --accelerate": ["--processes", "2"],
    "fetch photos": ["--from", "clones"],
    "finetune": ["--steps", "2", "--height", "28", "--width", "42"],
    "calibrate": ["--count", "10"],
    "adapt": ["--steps", "2", "--height", "28", "--width", "42", "--set", "teacher.short_side=28"],
}
"""Options, by the words that a command begins with."""
WORDS = {
    "--student vits": "--student vitt",
    "--processes 8": "--processes 2",
    "calibrate depth:/data/hypersim": "calibrate scenes:validation",
    "validate_every=5000": "validate_every=1",
}
NOT_RUN = {
    "hf download": "the hub, which tests do not ask",
    "hf upload": "an account at the hub",
    "tensorboard": "a server that does not end",
    "python -m dalib train v2.yaml --accelerate configs/two_machines.yaml": "two machines",
}
SLOW = {"--processes": "processes of their own", "--accelerate": "processes of their own"}


@dataclass(frozen=True)
class Block:
    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        """Commands, each in one line, behind the comment above it."""
        text = re.sub(r"\\\n +", "", self.text)
        text = re.sub(rf"^({NOTE}\b.*)\n", "", text, flags=re.M)
        return [line for line in text.splitlines() if line.strip()]

    def noted(self, line: str) -> bool:
        """Whether the block says that this command is not run."""
        text = re.sub(r"\\\n +", "", self.text)
        return re.search(rf"^{NOTE}\b.*\n{re.escape(line)}$", text, re.M) is not None


def blocks() -> list[Block]:
    found = re.findall(r"^```(bash|yaml)\n(.*?)^```$", PAGE, flags=re.S | re.M)
    return [Block(language, text) for language, text in found]


def commands() -> list[str]:
    return [line for block in blocks() if block.language == "bash" for line in block.lines]


def replaced(text: str, table: dict[str, str]) -> str:
    for word, stand_in in table.items():
        text = text.replace(word, stand_in)
    return text


def is_run(line: str) -> bool:
    return not any(line.startswith(word) for word in NOT_RUN)


def is_slow(line: str) -> bool:
    return any(word in line for word in SLOW)


# the stand-ins


def picture(seed: int, *, size=(64, 48)) -> Image.Image:
    """Smooth noise, which no other seed's is near to."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def pool(clones: Path) -> Pool:
    """A public pool of twelve photographs in one bare repository."""
    stream, files = b"commit refs/heads/main\ncommitter t <t@t> 0 +0000\ndata 0\n", {}
    for k in range(12):
        picture(50 + k).save(clones / "x.jpg")
        files[f"{k}.jpg"] = content = (clones / "x.jpg").read_bytes()
        stream += f'M 100644 inline "{k}.jpg"\ndata {len(content)}\n'.encode() + content + b"\n"
    (clones / "x.jpg").unlink()
    git = ["git", "--git-dir", str(clones / "ann+one")]
    subprocess.run(["git", "init", "-q", "--bare", git[-1]], check=True)
    subprocess.run([*git, "fast-import", "--quiet"], input=stream, check=True)
    head = subprocess.run([*git, "rev-parse", "main"], capture_output=True, text=True, check=True)
    origin = Repository(
        source="one",
        repository="ann/one",
        commit=head.stdout.strip(),
        dataset="made up",
        licence="none stated",
        ship="unclear",
        coding={},
        notes="",
    )

    def facts(name: str) -> dict[str, str]:
        return {"key": name.removesuffix(".jpg"), "place": "indoor"}

    rows = [
        Row(
            name.removesuffix(".jpg"), origin, name, blob_id(content), "", "", (64, 48), facts(name)
        )
        for name, content in files.items()
    ]
    return Pool(name="photos", rows=tuple(rows))


def hypersim(folder: Path) -> None:
    """Ten frames of a scene in Hypersim's form: the brighter, the nearer."""
    frames = []
    for k in range(10):
        image = picture(20 + k)
        name = f"frame.{k:04}"
        images = folder / "ai_001_001" / "images"
        preview = images / "scene_cam_00_final_preview" / f"{name}.tonemap.jpg"
        preview.parent.mkdir(parents=True, exist_ok=True)
        image.save(preview, quality=95)
        metres = 6 - np.asarray(image.convert("L"), np.float32) / 60
        depth = images / "scene_cam_00_geometry_hdf5" / f"{name}.depth_meters.hdf5"
        published.hdf5(depth, "dataset", metres)
        frames.append(
            {
                "scene_name": "ai_001_001",
                "camera_name": "cam_00",
                "frame_id": k,
                "included_in_public_release": True,
                "exclude_reason": "",
                "split_partition_name": "train",
            }
        )
    published.table(folder / "metadata_images_split_scene_v1.csv", frames)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with everything that the page takes for granted."""
    pytest.importorskip("h5py")
    (tmp_path / "data" / "photos").mkdir(parents=True)
    for k in range(12):
        picture(k).save(tmp_path / "data" / "photos" / f"{k}.jpg", quality=95)
    hypersim(tmp_path / "data" / "hypersim")
    published.nyuv2(tmp_path / "data" / "nyuv2")
    (tmp_path / "weights").mkdir()
    teacher = enliven(build("vitt", pretrained=False, layers="v2"), seed=0)
    export_official(teacher, tmp_path / "weights" / "depth_anything_v2_vitl.pth")
    (tmp_path / "clones").mkdir()
    made = pool(tmp_path / "clones")
    monkeypatch.setattr("dalib.data.pools.facts.read_pool", lambda name: made)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DALIB_RUNS", "runs")
    return tmp_path


# walking


class Ears(io.StringIO):
    """Takes what a command prints, and asks the process to end at a line that begins so."""

    def __init__(self, until: str = ""):
        super().__init__()
        self.until = until

    def write(self, text: str) -> int:
        if self.until and text.startswith(self.until):
            os.kill(os.getpid(), signal.SIGTERM)
        return super().write(text)


def call(line: str, *, until: str = "") -> tuple[int, str]:
    """Run a command of the page on its stand-ins: its exit code, and what it prints."""
    words = shlex.split(replaced(line, WORDS | PLACES))
    assert words[:3] == ["python", "-m", "dalib"], line
    words = words[3:]
    for begins, more in ADDED.items():
        if words[: len(begins.split())] == begins.split() and "--list" not in words:
            words += more
    ears, before = Ears(until), sys.stdout
    sys.stdout = ears
    try:
        code = main(words)
    finally:
        sys.stdout = before
    return code, ears.getvalue()


def write_settings(block: Block) -> None:
    """A YAML block as the file that its first line names; a few lines to put into a file name none."""
    named = re.match(r"# (\w+\.yaml)", block.text)
    if named is None:
        assert set(yaml.safe_load(block.text)) <= {f.name for f in fields(RunConfig)}
        return
    Path(named[1]).write_text(replaced(block.text, PLACES | SETTINGS), encoding="utf-8")


def left(said: str) -> Path:
    """The folder that a plan names."""
    return Path(re.search(r"^leaves +(\S+)", said, re.M)[1])


RUN = "runs/0123456789ab"
"""A run's folder on the page; here that of the run that is stopped."""
STOPPED = "python -m dalib train paper.yaml"
"""What is stopped in the middle, and gone on with by the command `resume`."""


def walk() -> dict[str, str]:
    """The whole page, in its order: what each command printed."""
    said = {}
    for block in blocks():
        if block.language == "yaml":
            write_settings(block)
            continue
        for line in block.lines:
            if not is_run(line) or is_slow(line):
                continue
            real = line
            if RUN in line:
                real = line.replace(RUN, str(left(said[STOPPED])))
            code, said[line] = call(real, until="step 1/3" if line == STOPPED else "")
            assert code == (75 if line == STOPPED else 0), (line, said[line])
    return said


@pytest.mark.slow
def test_the_road_is_walked(place):
    said = walk()
    student = load("mine/student.safetensors")

    # what a plan says comes before anything is done, and a second call finds the same run
    planned, done = (said[line] for line in said if "v2.yaml" in line and "--set" not in line)
    assert "labels" not in planned
    assert left(planned) == left(done)
    assert str(left(done) / "model.safetensors") in done.splitlines()

    # labels that were made before are not made again
    labels, trained = (said[line] for line in said if "labelling=stored" in line)
    assert "labelling 24 images" in labels
    assert "labelling 24 images" not in trained

    # a run that was stopped, and the teacher before it, are whole after `resume`
    stopped, resumed = said[STOPPED], next(said[line] for line in said if "resume" in line)
    assert "teacher: " in stopped
    assert "step 3/3" not in stopped
    assert "step 3/3" in resumed
    assert (left(stopped) / "train.json").is_file()

    # the report, the licence that the student carries, the card
    report = json.loads(Path("mine/report.json").read_text())
    assert report["split"] == {"kept": 5, "all": 12, "seed": 0, "doubles": 0, "checked": True}
    assert report["licence"] == student.about["licence"] == "CC-BY-NC-4.0"
    assert "license: cc-by-nc-4.0" in Path("my-student/README.md").read_text()
    again = load("my-student").state_dict()
    assert all(torch.equal(v, again[k]) for k, v in student.state_dict().items())

    # the card of a run without a pre-trained encoder names no weights; that of the other its teacher
    assert "license: unknown" in Path("my-run/README.md").read_text()
    code, _ = call(f"python -m dalib export {left(done)}/model.safetensors v2 --to transformers")
    assert code == 0
    card = Path("v2/README.md").read_text()
    assert "license: cc-by-nc-4.0" in card
    assert "Depth Anything V2 Large" in card

    # the maps, and what was looked at
    maps = {p.name.partition(".")[0] for p in Path("maps").glob("*.png")}
    assert maps >= {str(k) for k in range(12)}
    assert Path("looked/sheet.png").is_file()

    # shards instead of a folder
    words = "--teacher /weights/depth_anything_v2_vitl.pth --student vits --plan"
    code, planned = call(f'python -m dalib adapt "tars:/data/pool/*.tar" other {words}')
    assert code == 0
    assert "photos    12: 7 to learn from, 5 kept back" in planned


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in commands() if is_slow(line) and is_run(line)])
def test_several_processes_are_the_same_run(line, place):
    if (os.cpu_count() or 1) < 2 and not torch.cuda.is_available():
        pytest.skip("one core alone")
    for block in blocks():
        if block.language == "yaml":
            write_settings(block)
    assert call("python -m dalib fetch photos /data/pool")[0] == 0
    code, said = call(line)
    assert code == 0, said
    weights = left(said) / "model.safetensors"
    assert json.loads((left(said) / "train.json").read_text())["processes"] == 2
    assert load(weights).kind == "disparity"


# the page


@pytest.mark.parametrize("line", commands())
def test_a_command_is_run_or_says_that_it_is_not(line):
    noted = any(block.noted(line) for block in blocks() if block.language == "bash")
    assert noted == (not is_run(line))
    assert is_run(line) <= line.startswith("python -m dalib ")


def test_what_the_table_of_adapt_says_can_be_said():
    table = PAGE.partition("| to | say |")[2].partition("\n\n")[0]
    rows = [re.findall(r"`(--[^`]+)`", line) for line in table.splitlines()]
    said = [words for row in rows for words in row]
    assert len(said) >= 6
    for words in said:
        library().parser.parse_args(["adapt", "in", "out", "--teacher", "x", *words.split()])


def test_no_stand_in_is_for_nothing():
    text = "\n".join(block.text for block in blocks())
    text += "\n".join(commands())
    for word in (*PLACES, *SETTINGS, *WORDS, *NOT_RUN, *SLOW):
        assert word in text, word


@pytest.mark.parametrize(
    "block", [b for b in blocks() if b.language == "yaml"], ids=lambda b: b.text[2:8]
)
def test_the_settings_are_a_run_as_they_stand(block):
    config = RunConfig.from_dict(yaml.safe_load(block.text))
    if "encoder" in block.text:  # else a few lines of settings
        assert config.pool_batch == {"v2": 192, "pa": 64}[block.text[2:4]]
        assert config.encoder == "vits"


def test_the_commands_stand_in_the_order_of_help():
    """Each where it is first needed; `label` and `resume` belong to `train`, and the last three look at
    numbers and code of others, and at what lies on disk, which the road does not meet."""
    beside = {"label", "resume"}
    first = list(dict.fromkeys(line.split()[3] for line in commands() if is_run(line)))
    *known, explain, conform, cache = library().names
    assert (explain, conform, cache) == ("explain", "conform", "cache")
    assert set(first) == set(known)
    assert [n for n in first if n not in beside] == [n for n in known if n not in beside]
