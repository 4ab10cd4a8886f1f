"""The same maps from OpenVINO and ONNX Runtime as from PyTorch, one export for each network, and a
plain word where that cannot be."""

import json
import sys

import numpy as np
import pytest
import torch
from helpers.commands import main
from helpers.networks import Brightness, apart, rgb
from helpers.pictures import picture
from helpers.training import Smooth

from dalib import models, paths
from dalib.__main__ import commands
from dalib.errors import ConfigError
from dalib.models.lively import enliven
from dalib.predict import Predictor, engines, predict, write_folder
from dalib.training import pseudo

CPU = torch.device("cpu")
OTHERS = tuple(engines.PACKAGES)
for package in ("openvino", "onnxruntime", "onnxscript"):
    pytest.importorskip(package)


@pytest.fixture(scope="module", autouse=True)
def runs(tmp_path_factory):
    """One cache for this file, so that each network is exported once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("runs")
        patch.setenv("DALIB_RUNS", str(folder))
        yield folder


@pytest.fixture(scope="module")
def vit():
    """Four of the twelve blocks of the smallest ViT, for metric depth."""
    model = models.build("vitt", pretrained=False, max_depth=20.0, seed=0)
    model.encoder.net.blocks = model.encoder.net.blocks[:4]
    model.encoder.blocks = [0, 1, 2, 3]
    return enliven(model, seed=0).eval()


@pytest.fixture(scope="module")
def cnn():
    return enliven(models.build("resnet10t", pretrained=False, seed=0), seed=0).eval()


@pytest.fixture
def exports(monkeypatch):
    """The files that were exported since."""
    made, real = [], engines.export_onnx

    def spy(model, path, **options):
        made.append(path)
        return real(model, path, **options)

    monkeypatch.setattr(engines, "export_onnx", spy)
    return made


# ---- the same maps


@pytest.mark.slow
@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize("network", ["vit", "cnn"])
def test_equal_maps(engine, network, request, monkeypatch):
    """To 1e-4 of the range, at two sizes that are compiled and at one for which what serves all
    sizes is taken."""
    monkeypatch.setattr(engines, "SIZES", 2)
    model = request.getfixturevalue(network)
    run = engines.Engine(model=model, engine=engine)
    m = model.multiple
    for size in ((3 * m, 5 * m), (4 * m, 3 * m), (5 * m, 4 * m)):
        images = rgb(*size)
        found = run(images)
        assert found.dtype == torch.float32
        assert apart(found, model.predict(images)) < 1e-4
        assert torch.equal(run(images.float() / 255), found)
    if engine == "openvino":
        assert run._network.compiled.keys() == {(3 * m, 5 * m), (4 * m, 3 * m), None}
    lines = run.news()
    assert len(lines) == 1, "told once, of the first image"
    assert "differs from float32 in PyTorch" in lines[0]
    assert run.news() == []


@pytest.mark.slow
@pytest.mark.skipif(not engines.has_bfloat16(CPU), reason="no bfloat16 here")
def test_bfloat16_deviates_little_and_says_how_much(vit):
    run = engines.Engine(model=vit, engine="openvino", dtype=torch.bfloat16)
    images = rgb(70, 98, 1)
    found = apart(run(images), vit.predict(images))
    assert 1e-4 < found < 0.1
    most, mean = run.deviations[70, 98]
    assert most == pytest.approx(found, rel=0.01)
    assert 0 < mean < most
    assert f"{100 * most:.2g} %" in run.news()[0]


@pytest.mark.slow
@pytest.mark.parametrize("engine", OTHERS)
def test_small_sizes_are_pytorchs(vit, engine):
    run, images = engines.Engine(model=vit, engine=engine), rgb(28, 14)
    assert apart(run(images), vit.predict(images)) < 1e-4
    assert "28 x 14 is too small" in run.news()[0]
    assert not run.deviations


@pytest.mark.slow
def test_what_an_engine_gets_wrong_is_pytorchs(vit, monkeypatch):
    run = engines.Engine(model=vit, engine="onnxruntime")
    right = run._network.run
    monkeypatch.setattr(run._network, "run", lambda image: right(image.flip(-1)))
    images = rgb(42, 56)
    assert apart(run(images), vit.predict(images)) < 1e-4
    assert "is wrong at 42 x 56" in run.news()[1]


@pytest.mark.slow
def test_mixed_photographs(cnn):
    """Each at its own size, in the order given."""
    pictures = [picture(10 * i, size=size) for i, size in enumerate([(50, 40), (40, 60), (50, 40)])]
    options = {"model": cnn, "short_side": 96, "device": "cpu", "batch": 2}
    expected = predict(pictures, **options)
    for engine in OTHERS:
        for found, reference in zip(
            predict(pictures, engine=engine, **options), expected, strict=True
        ):
            assert found.shape == reference.shape
            assert (found - reference).abs().max() < 1e-4 * reference.max()


@pytest.mark.slow
@pytest.mark.parametrize("engine", OTHERS)
def test_pseudo_labels(cnn, tmp_path, engine):
    """What labels can be an engine: the same to the float16 in which they are kept."""
    pool, size = Smooth(count=3, labelled=False), {"height": 96, "width": 128}
    stored = {}
    for name, model in (("torch", cnn), (engine, engines.Engine(model=cnn, engine=engine))):
        pseudo.label(model, pool, out=tmp_path / name, teacher="t", **size)
        pseudo.finish(tmp_path / name, teacher="t", source=pool, **size)
        stored[name] = pseudo.PseudoLabels(tmp_path / name).get_batch(np.arange(len(pool)))
    assert stored["torch"].std() > 0.05
    assert (stored[engine] - stored["torch"]).abs().max() < 1e-3


# ---- the cache


@pytest.mark.slow
def test_one_export_for_both_engines_and_all_sizes(vit, exports):
    for engine in (*OTHERS, *OTHERS):
        run = engines.Engine(model=vit, engine=engine)
        run(rgb(42, 42, 1)), run(rgb(42, 56, 1))
    assert len(exports) <= 1, "none where a test before has it in the cache"
    again = enliven(models.build("vitt", pretrained=False, max_depth=20.0, seed=0), seed=0)
    assert engines.fingerprint(again) != engines.fingerprint(vit)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "other bits", "no note", "no file", "note"])
def test_a_damaged_file_is_made_again(cnn, damage, monkeypatch):
    file = engines.exported(cnn, digest=engines.fingerprint(cnn))
    whole, note = file.read_bytes(), file.with_suffix(".json")
    if damage == "cut":
        file.write_bytes(whole[: len(whole) // 2])
    elif damage == "other bits":
        middle = len(whole) // 2
        file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    elif damage == "note":
        note.write_text("{")
    else:
        (note if damage == "no note" else file).unlink()

    def again(model, path):
        exported_again.append(path)
        path.write_bytes(whole)

    exported_again = []
    monkeypatch.setattr(engines, "export_onnx", again)
    for _ in range(2):
        assert engines.exported(cnn, digest=engines.fingerprint(cnn)) == file
        assert len(exported_again) == 1, "once, and not again"
        assert file.read_bytes() == whole
    assert {p.suffix for p in file.parent.iterdir()} == {".onnx", ".json"}, "nothing half written"


def test_a_killed_export_leaves_nothing(cnn, monkeypatch):
    def stopped(model, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(engines, "export_onnx", stopped)
    before = sorted(paths.cache().glob("engines/*"))
    with pytest.raises(KeyboardInterrupt):
        engines.exported(cnn, digest="another")
    assert sorted(paths.cache().glob("engines/*")) == before


# ---- what cannot be


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("tensorrt", {}, "must be one of torch, openvino, onnxruntime, auto"),
        ("openvino", {"device": "cuda"}, "runs on the CPU, not on cuda"),
        ("onnxruntime", {"device": "mps"}, "runs on the CPU, not on mps"),
        ("openvino", {"dtype": torch.float16}, "in fp32 or bf16 on a CPU, not in float16"),
        ("onnxruntime", {"dtype": torch.bfloat16}, "in fp32 on a CPU, not in bfloat16"),
        ("openvino", {"compile": True}, "leave --compile out"),
    ],
)
def test_settings_that_cannot_be(engine, options, message):
    options = {"device": "cpu"} | options
    with pytest.raises(ConfigError, match=message):
        engines.choose(engine, **options | {"device": torch.device(options["device"])})


def test_emulated_bfloat16_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    with pytest.raises(ConfigError, match="has no bfloat16"):
        engines.choose("openvino", device=CPU, dtype=torch.bfloat16)


@pytest.mark.parametrize("engine", OTHERS)
def test_a_missing_package_says_what_to_install(engine, tmp_path, monkeypatch, capsys):
    """Before the weights are looked for."""
    monkeypatch.setitem(sys.modules, engine, None)
    picture().save(tmp_path / "a.png")
    words = ["predict", str(tmp_path / "a.png"), str(tmp_path / "out"), "--weights", "nowhere.pth"]
    assert main([*words, "--engine", engine]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: engine {engine}: {engine} is not installed: python -m pip")
    assert told.count("\n") == 1
    assert "[engines]" in told
    assert "install dalib" not in told


def test_networks_that_cannot_be_exported(vit, monkeypatch):
    with pytest.raises(ConfigError, match=r"takes networks of dalib\.models, and this is a Bright"):
        Predictor(model=Brightness(pair=True), engine="onnxruntime", device="cpu")

    def refuses(model, path):
        raise RuntimeError("no such operation\nand a long trace")

    monkeypatch.setattr(engines, "export_onnx", refuses)
    monkeypatch.setattr(engines, "fingerprint", lambda model: "never seen")
    with pytest.raises(
        ConfigError, match=r"encoder vitt cannot be exported \(no such operation\); take --engine"
    ):
        engines.Engine(model=vit, engine="openvino")


# ---- auto


def record(folder, kind="avx512", **seconds):
    names = {"torch": "dalib", "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}
    rows = [{"contender": names[k], "batch": 1, "seconds": v} for k, v in seconds.items()]
    rows += [{"contender": "OpenVINO, bfloat16", "batch": 1, "seconds": 0.1}]
    facts = {"processor kind": kind, "rows": rows, "created": "2026-01-01"}
    (folder / f"inference-{kind}.json").write_text(json.dumps(facts))


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "benchmarks", lambda: tmp_path)
    monkeypatch.setattr(engines, "processor_kind", lambda: "avx512")
    record(tmp_path, torch=0.5, openvino=0.4, onnxruntime=0.45)
    return tmp_path


def auto(**options):
    return engines.choose("auto", **{"device": CPU} | options)


def test_auto_is_what_the_record_says(recorded):
    (recorded / "inference-broken.json").write_text("[")
    found = auto()
    assert found.name == "openvino"
    assert "1.25 times as fast as PyTorch in float32" in found.why
    assert "AVX-512" in found.why
    record(recorded, torch=0.3, openvino=0.4)
    assert auto().name == "torch"
    record(recorded, kind="amx", torch=0.3, openvino=0.1)
    assert auto().name == "torch", "another kind of processor"


def test_auto_takes_what_is_installed(recorded, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = auto()
    assert found.name == "onnxruntime"
    assert "openvino is faster and not installed" in found.why
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert auto().name == "torch"


def test_auto_is_pytorch_where_nothing_is_known(recorded):
    assert auto(device=torch.device("cuda")).name == "torch"
    assert auto(compile=True).name == "torch"
    assert "no timings are recorded in float16" in auto(dtype=torch.float16).why
    (recorded / "inference-avx512.json").unlink()
    assert auto().why == "no timings are recorded for a processor with AVX-512"


def test_auto_falls_back_for_a_network_of_somebody_else(recorded):
    run = Predictor(model=Brightness(pair=True), short_side=16, device="cpu", engine="auto")
    assert run.engine == "torch"
    assert "takes networks of dalib.models" in run.news()[0]


# ---- the command line


@pytest.mark.slow
def test_the_command_line(cnn, tmp_path, capsys):
    """It says which engine and how far it is from PyTorch, and does not mix maps of two engines."""
    models.save(cnn, tmp_path / "net.safetensors")
    (tmp_path / "in").mkdir()
    for i, size in enumerate([(60, 40), (40, 60)]):
        picture(10 * i, size=size).save(tmp_path / "in" / f"{i}.png")
    words = ["predict", str(tmp_path / "in"), str(tmp_path / "out"), "--format", "npy"]
    words += ["--weights", str(tmp_path / "net.safetensors"), "--device", "cpu"]
    assert main([*words, "--engine", "onnxruntime"]) == 0
    told = capsys.readouterr().out
    assert "engine onnxruntime: as asked for" in told
    assert "engine onnxruntime: differs from float32 in PyTorch by" in told
    assert (
        json.loads((tmp_path / "out" / "predictions.json").read_text())["engine"] == "onnxruntime"
    )
    assert main(words) == 1
    assert "holds maps made otherwise (engine onnxruntime)" in capsys.readouterr().err
    plain = [*words[:2], str(tmp_path / "plain"), *words[3:]]
    assert main(plain) == 0
    for name in ("0.npy", "1.npy"):
        found, reference = (np.load(tmp_path / out / name) for out in ("out", "plain"))
        assert np.abs(found - reference).max() < 1e-4 * reference.max()
    assert main([*plain, "--engine", "onnxruntime"]) == 1
    assert "holds maps made otherwise (engine torch)" in capsys.readouterr().err


def test_a_device_on_the_command_line(tmp_path, capsys):
    picture().save(tmp_path / "a.png")
    words = ["predict", str(tmp_path / "a.png"), str(tmp_path / "out"), "--weights", "nowhere.pth"]
    assert main([*words, "--engine", "onnxruntime", "--dtype", "bf16"]) == 1
    assert "(--dtype)" in capsys.readouterr().err


def test_every_engine_can_be_typed():
    parser = commands()._commands.choices["predict"]
    action = next(a for a in parser._actions if a.dest == "engine")
    assert set(action.choices) == set(engines.ENGINES)
    assert action.default == "torch"


def test_folders_of_before_go_on(cnn, tmp_path):
    """Their settings name no engine."""
    (tmp_path / "in").mkdir()
    picture().save(tmp_path / "in" / "a.png")
    run = Predictor(model=cnn, device="cpu")
    quiet = {"report": lambda line: None}
    write_folder(tmp_path / "in", tmp_path / "out", run=run, **quiet)
    assert "engine" not in json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert write_folder(tmp_path / "in", tmp_path / "out", run=run, **quiet).kept == ["a"]
