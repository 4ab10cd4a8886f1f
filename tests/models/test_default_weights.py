"""Weights in half precision, and the student that is used where no weights are named."""

import copy
import pickle
import re

import pytest
import torch
from PIL import Image

from dalib import load, paths
from dalib.__main__ import main
from dalib.errors import CheckpointError, ConfigError
from dalib.models import build, save
from dalib.models.depth_anything import restore
from dalib.models.files import read_safetensors
from dalib.models.sizes import default_short_side
from dalib.predict import read_png16


@pytest.fixture(scope="module")
def network():
    return build("lite0", pretrained=False, seed=3).eval()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where the student of the library would lie."""
    path = tmp_path / "package" / "student.safetensors"
    monkeypatch.setattr(paths, "shipped_weights", lambda: path)
    return path


@pytest.fixture
def photograph(tmp_path):
    torch.manual_seed(0)
    picture = torch.randint(0, 256, (60, 90, 3), dtype=torch.uint8)
    Image.fromarray(picture.numpy()).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_half_the_size_and_read_as_float32(network, tmp_path):
    save(network, tmp_path / "whole.safetensors")
    save(network, tmp_path / "half.safetensors", half=True)
    sizes = [(tmp_path / f"{n}.safetensors").stat().st_size for n in ("half", "whole")]
    assert 0.49 < sizes[0] / sizes[1] < 0.51
    stored, _ = read_safetensors(tmp_path / "half.safetensors")
    read = load(tmp_path / "half.safetensors").state_dict()
    for name, tensor in network.state_dict().items():
        assert read[name].dtype == tensor.dtype
        assert stored[name].dtype == torch.float16
        assert torch.equal(read[name], tensor.half().float())


@pytest.mark.slow
def test_what_half_precision_cannot_hold_is_refused(network, tmp_path):
    large = copy.deepcopy(network)
    name, weight = next((n, p) for n, p in large.named_parameters() if p.ndim > 1)
    with torch.no_grad():
        weight.view(-1)[0] = 70_000.0
    with pytest.raises(ConfigError, match=re.escape(name)):
        save(large, tmp_path / "half.safetensors", half=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_without_weights_the_student_of_the_library(network, place, photograph, tmp_path):
    save(network, place, about={"trained": {"short_side": 64}}, half=True)
    found = load()
    other = restore(place).state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in found.state_dict().items())
    assert default_short_side(found) == 64
    out = tmp_path / "out"
    assert main(["predict", str(photograph), str(out)]) == 0
    named = tmp_path / "named"
    assert main(["predict", str(photograph), str(named), "--weights", str(place)]) == 0
    maps = [read_png16(folder / "photo.png") for folder in (out, named)]
    assert torch.equal(*(torch.as_tensor(m[0] if isinstance(m, tuple) else m) for m in maps))


def test_without_weights_and_without_a_student(place, photograph, tmp_path, capsys):
    for words in ("python -m dabook ship shipped", "--weights", re.escape(str(place))):
        with pytest.raises(CheckpointError, match=words):
            load()
    assert main(["predict", str(photograph), str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "name a file, a folder or a hub id (--weights)" in said
    assert "python -m dabook ship shipped" in said
    assert not (tmp_path / "out").exists()


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_no_code_in_the_place_of_the_student_is_run(place, tmp_path):
    place.parent.mkdir()
    place.write_bytes(pickle.dumps({"model": Trap(tmp_path / "trapped")}))
    with pytest.raises(CheckpointError):
        load()
    assert not (tmp_path / "trapped").exists()
