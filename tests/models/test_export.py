"""Out again: folders that `transformers` loads and runs, ONNX under onnxruntime, torch.export; each
beside the network itself."""

import os
import resource
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from dalib.__main__ import main
from dalib.errors import CheckpointError, ConfigError
from dalib.models import build, export, load, save
from dalib.models.export import export_official, export_onnx, export_program, export_transformers
from dalib.models.lively import enliven


def network(**options):
    return enliven(
        build("vitt", pretrained=False, **({"position": "transformers", "layers": "v2"} | options))
    ).eval()


def rgb(height, width, count=2):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height))


def expected(model, images):
    with torch.inference_mode():
        out = model(model.normalise(images))[0]
    assert out.std() > 0.01 * (out.max() - out.min()) > 0
    return out


def close(found, reference):
    assert found.shape == reference.shape
    assert float((found - reference).abs().max()) < 1e-4 * float(reference.max() - reference.min())


@pytest.mark.parametrize("max_depth", [None, 20.0])
def test_transformers_runs_what_we_export(max_depth, tmp_path):
    from transformers import AutoModelForDepthEstimation

    model = network(max_depth=max_depth)
    export_transformers(model, tmp_path)
    theirs = AutoModelForDepthEstimation.from_pretrained(tmp_path).eval()
    images = rgb(70, 98)
    with torch.inference_mode():
        found = theirs(model.normalise(images)).predicted_depth
    close(found, expected(model, images))


@pytest.mark.slow
def test_the_pipeline_of_transformers(tmp_path):
    """Image in, map of the image's size out, by the preprocessing that we wrote: short side 518,
    aspect kept, multiples of 14."""
    from transformers import pipeline

    model = network()
    export_transformers(model, tmp_path)
    estimate = pipeline("depth-estimation", model=str(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    seen = estimate.image_processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    # 640 / 480 * 518 = 690.7, whose nearest multiple of 14 is 686
    assert seen.shape == (1, 3, 518, 686)
    found = estimate(Image.fromarray(pixels))
    assert found["depth"].size == (640, 480)
    with torch.inference_mode():
        own = model(seen)[0]
    resized = torch.nn.functional.interpolate(
        own[None], (480, 640), mode="bicubic", align_corners=False
    )[0, 0]
    close(found["predicted_depth"].squeeze(), resized)


@pytest.mark.slow
def test_what_cannot_be_exported_says_so(tmp_path):
    for name in ("lite0", "lite2"):
        cnn = build(name, pretrained=False)
        for write in (export_transformers, export_official):
            with pytest.raises(
                ConfigError, match=rf"know vitt, vits, vitb, vitl, vitg, and {name} is none"
            ):
                write(cnn, tmp_path / "x")
    with pytest.raises(ConfigError, match="whole metres"):
        export_transformers(network(max_depth=12.5), tmp_path / "x")
    with pytest.warns(UserWarning, match=r"differ at sizes other than 518 x 518"):
        export_transformers(network(position="official"), tmp_path / "x")


@pytest.mark.slow
def test_torch_export():
    """One program for any batch and size, the grid's own among them in rows or columns."""
    model = network(position="transformers")
    program = export_program(model).module()
    for images in (rgb(70, 98), rgb(42, 518, 1), rgb(98, 56, 3)):
        with torch.inference_mode():
            close(program(images), expected(model, images))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "sizes"),
    [
        ("vitt", ((70, 98, 2), (42, 518, 1), (112, 42, 3))),
        ("lite0", ((64, 96, 2), (128, 160, 1), (96, 96, 3))),
        ("lite2", ((64, 96, 2), (96, 128, 1))),
    ],
)
def test_onnx(encoder, sizes, tmp_path):
    """A ViT with the other way of resampling, and the CNN that `make book` trains, whose "same"
    padding depends on the size."""
    import onnxruntime

    model = network(position="official") if encoder == "vitt" else build(encoder, seed=0).eval()
    export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    assert [i.name for i in session.get_inputs()] == ["images"]
    assert [o.name for o in session.get_outputs()] == ["disparity"]
    for images in (rgb(*size) for size in sizes):
        (found,) = session.run(None, {"images": images.numpy()})
        close(torch.from_numpy(found), expected(model, images))
    onnxruntime.set_default_logger_severity(4)
    m = model.multiple
    for height, width in ((3 * m + 1, 4 * m), (3 * m, 4 * m - 1), (m // 2, 4 * m), (100, 130)):
        with pytest.raises(Exception, match=r"sides_are_multiples_of_\d+|Invalid input shape"):
            session.run(None, {"images": rgb(height, width).numpy()})


# what is there already stays


WRITERS = {"official": export_official, "onnx": export_onnx}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save(build("vitt", pretrained=False, position="transformers", seed=0), path)
    return path


@pytest.fixture
def instant(monkeypatch):
    """An ONNX export that takes no time: what is tested is where it goes."""

    class Program:
        model = SimpleNamespace(graph=None)

        @staticmethod
        def save(path, **_):
            Path(path).write_bytes(b"graph")

    monkeypatch.setattr(export, "export_program", lambda model: None)
    monkeypatch.setattr(export, "refuse_other_sides", lambda graph, multiple: None)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: Program)


def words(source, out, to, *more):
    return ["export", str(source), str(out), "--to", to, *more]


def names(folder):
    return sorted(p.name for p in folder.iterdir())


NAMES = {"official": "mine.pth", "onnx": "mine.onnx"}


@pytest.mark.parametrize("to", WRITERS)
def test_a_file_is_not_written_over_unless_asked_for(to, small, instant, tmp_path, capsys):
    out = tmp_path / NAMES[to]
    out.write_bytes(b"my own weights")
    assert main(words(small, out, to)) == 1
    assert f"{out.name}: is there already" in capsys.readouterr().err
    assert out.read_bytes() == b"my own weights"
    assert main(words(small, out, to, "--overwrite")) == 0
    assert out.read_bytes() != b"my own weights"
    assert names(tmp_path) == [out.name]


@pytest.mark.parametrize(
    "present", ["config.json", "model.safetensors", "preprocessor_config.json"]
)
def test_a_folder_is_not_written_over_unless_asked_for(present, small, tmp_path, capsys):
    out = tmp_path / "mine"
    out.mkdir()
    (out / present).write_bytes(b"my own")
    (out / "notes.txt").write_text("stay")
    assert main(words(small, out, "transformers")) == 1
    assert f"{present}: is there already" in capsys.readouterr().err
    assert names(out) == sorted([present, "notes.txt"])
    assert main(words(small, out, "transformers", "--overwrite")) == 0
    assert load(out).kind == "disparity"
    assert (out / "notes.txt").read_text() == "stay"
    assert names(tmp_path) == ["mine"]


@pytest.mark.parametrize("to", WRITERS)
@pytest.mark.parametrize("way", ["same", "symbolic link", "hard link", "dots"])
def test_the_source_is_never_written_over(to, way, small, instant, tmp_path, capsys):
    source = tmp_path / "small.safetensors"
    source.write_bytes(small.read_bytes())
    out = {"same": source, "dots": tmp_path / "x" / ".." / source.name}.get(way, tmp_path / "other")
    (tmp_path / "x").mkdir()
    if way == "symbolic link":
        out.symlink_to(source)
    elif way == "hard link":
        out.hardlink_to(source)
    assert main(words(source, out, to, "--overwrite")) == 1
    assert "these are the weights that are being exported" in capsys.readouterr().err
    assert source.read_bytes() == small.read_bytes()
    assert os.path.samefile(out, source)


@pytest.mark.parametrize("way", ["same", "symbolic link"])
def test_a_source_folder_is_never_written_over(way, small, tmp_path, capsys):
    folder = tmp_path / "folder"
    assert main(words(small, folder, "transformers")) == 0
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    out = folder
    if way == "symbolic link":
        (out := tmp_path / "link").symlink_to(folder)
    assert main(words(folder, out, "transformers", "--overwrite")) == 1
    assert (
        main(words(folder, out / "model.safetensors", "official", "--layers", "v1", "--overwrite"))
        == 1
    )
    assert capsys.readouterr().err.count("these are the weights that are being exported") == 2
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("out", "to", "said"),
    [
        ("notes.txt", "transformers", "notes.txt: a file where a folder is to be written"),
        ("folder", "official", "folder: a folder where a file is to be written"),
        ("folder", "onnx", "folder: a folder where a file is to be written"),
        ("notes.txt/x.pth", "official", "notes.txt: a file where a folder is to be written"),
        ("notes.txt/x", "transformers", "notes.txt: a file where a folder is to be written"),
        ("a" * 300 + "/x.pth", "official", "cannot be written (File name too long)"),
        ("", "transformers", "out: an empty name"),
        ("", "official", "out: an empty name"),
        ("a.safetensors", "official", "a.safetensors: the file would not be what its name says"),
        ("a.onnx", "official", "end it in .pth or .pt"),
        ("a.pth", "onnx", "end it in .onnx"),
    ],
)
def test_a_place_that_will_not_do(out, to, said, small, instant, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("measured on site")
    assert main(words(small, out, to)) == 1
    assert said in capsys.readouterr().err
    assert names(tmp_path) == ["folder", "notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "measured on site"


@pytest.fixture
def full():
    """A disk on which no file grows beyond 100 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing_and_names_the_file(small, tmp_path, request):
    model = load(small)
    request.getfixturevalue("full")
    for name, write in (
        ("a.safetensors", save),
        ("a.pth", export_official),
        ("folder", export_transformers),
    ):
        with pytest.raises(CheckpointError, match=rf"{name}.*: could not be written"):
            write(model, tmp_path / name)
        assert names(tmp_path) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_written_weights_have_the_permissions_of_the_umask(umask, mode, small, tmp_path):
    model, before = load(small), os.umask(umask)
    try:
        save(model, tmp_path / "a.safetensors")
        export_official(model, tmp_path / "a.pth")
        export_transformers(model, tmp_path / "folder")
    finally:
        os.umask(before)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) == 6
    assert {p.stat().st_mode & 0o777 for p in files} == {mode}


def test_a_released_name_of_another_kind_of_network_is_refused(tmp_path):
    """Read back, it would be taken for what its name says: metres for disparity."""
    model = build("vitt", pretrained=False, layers="v2", max_depth=20.0)
    with pytest.raises(
        ConfigError, match=r"says v2 and relative, and the network is v2 and metric to 20 m"
    ):
        export_official(model, tmp_path / "depth_anything_v2_vits.pth")
    export_official(model, tmp_path / "depth_anything_v2_metric_hypersim_vits.pth")
    assert load(tmp_path / "depth_anything_v2_metric_hypersim_vits.pth").max_depth == 20
