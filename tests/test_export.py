"""Out again: folders that `transformers` loads and runs, ONNX under onnxruntime, torch.export; each beside the network itself."""

import numpy as np
import pytest
import torch
from PIL import Image

from dalib.errors import ConfigError
from dalib.models import build
from dalib.models.export import export_official, export_onnx, export_program, export_transformers
from dalib.models.lively import enliven


def network(**options):
    return enliven(build("vitt", pretrained=False, **({"position": "transformers", "layers": "v2"} | options))).eval()


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


def test_the_pipeline_of_transformers(tmp_path):
    """Image in, map of the image's size out, by the preprocessing that we wrote: short side 518, aspect kept, multiples of 14."""
    from transformers import pipeline

    model = network()
    export_transformers(model, tmp_path)
    estimate = pipeline("depth-estimation", model=str(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    seen = estimate.image_processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    assert seen.shape == (1, 3, 518, 686)  # 640 / 480 * 518 = 690.7, whose nearest multiple of 14 is 686
    found = estimate(Image.fromarray(pixels))
    assert found["depth"].size == (640, 480)
    with torch.inference_mode():
        own = model(seen)[0]
    resized = torch.nn.functional.interpolate(own[None], (480, 640), mode="bicubic", align_corners=False)[0, 0]
    close(found["predicted_depth"].squeeze(), resized)


def test_what_cannot_be_exported_says_so(tmp_path):
    cnn = build("lite0", pretrained=False)
    for write in (export_transformers, export_official):
        with pytest.raises(ConfigError, match=r"know vitt, vits, vitb, vitl, vitg, and lite0 is none"):
            write(cnn, tmp_path / "x")
    with pytest.raises(ConfigError, match="whole metres"):
        export_transformers(network(max_depth=12.5), tmp_path / "x")
    with pytest.warns(UserWarning, match=r"differ at sizes other than 518 x 518"):
        export_transformers(network(position="official"), tmp_path / "x")


def test_torch_export():
    """One program for any batch and size, the grid's own among them in rows or columns."""
    model = network(position="transformers")
    program = export_program(model).module()
    for images in (rgb(70, 98), rgb(42, 518, 1), rgb(98, 56, 3)):
        with torch.inference_mode():
            close(program(images), expected(model, images))


@pytest.mark.parametrize(
    ("encoder", "sizes"),
    [("vitt", ((70, 98, 2), (42, 518, 1), (112, 42, 3))), ("lite0", ((64, 96, 2), (128, 160, 1), (96, 96, 3)))],
)
def test_onnx(encoder, sizes, tmp_path):
    """A ViT with the other way of resampling, and the CNN that `make book` trains, whose "same" padding depends on the size."""
    import onnxruntime

    model = network(position="official") if encoder == "vitt" else build(encoder, seed=0).eval()
    export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["images"]
    assert [o.name for o in session.get_outputs()] == ["disparity"]
    for images in (rgb(*size) for size in sizes):
        (found,) = session.run(None, {"images": images.numpy()})
        close(torch.from_numpy(found), expected(model, images))
