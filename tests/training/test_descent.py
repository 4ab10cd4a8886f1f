"""What weights are made from, as the settings beside them say."""

import json

import pytest
from safetensors.torch import save_file

from dalib.config import RunConfig
from dalib.models import build, save
from dalib.models.export import export_official
from dalib.training.descent import about_run, parents

STUDENT = {"labelled": [], "pseudo_labels": True, "height": 28, "width": 28}


def names(**settings) -> list[tuple[str, str]]:
    config = RunConfig.from_dict(STUDENT | settings)
    return [(terms.name, terms.licence) for terms in parents(config)]


LARGE = ("Depth Anything V2 Large", "CC-BY-NC-4.0")
DINO = ("DINOv2 ViT-S/14 (timm)", "Apache-2.0")
LITE0 = ("EfficientNet-Lite0, ImageNet", "Apache-2.0")


def test_a_given_teacher_and_the_encoder_that_a_student_begins_with():
    """The teacher's file is gone; its name is left."""
    given = {"teacher": "gone/depth_anything_v2_vitl.pth"}
    assert names(**given, encoder="vits") == [LARGE, DINO]
    assert names(**given) == [LARGE, LITE0]
    assert names(**given, encoder="vitt", pretrained=False) == [LARGE]
    assert names(**given, align="unlabelled", frozen_encoder="vits") == [LARGE, LITE0, DINO]
    other = {"encoder": "vits", "encoder_weights": "my/dinov2_vits14_pretrain.pth"}
    assert names(**given, **other) == [LARGE, ("DINOv2 ViT-S/14", "Apache-2.0")]
    unknown = names(**given, encoder="vits", encoder_weights="mine.pth")
    assert unknown[1] == ("encoder mine.pth", "unknown: ask whoever made them")


def test_weights_that_say_of_themselves_what_they_are(tmp_path):
    """Under whatever name they lie."""
    file = tmp_path / "depth_anything_v2_vitl.safetensors"
    save(build("vitt", pretrained=False), file, about={"name": "ours", "licence": "MIT"})
    assert names(teacher=str(file), start=str(file), encoder="vitt") == [("ours", "MIT")] * 2


def test_a_teacher_that_is_trained_here_hands_on_what_it_is_made_from():
    twice = {"labelled": ["scenes:labelled"], "teacher": {"encoder": "vits", "seed": 3}}
    assert names(**twice) == [DINO, LITE0]
    assert names(labelled=["scenes:labelled"], pseudo_labels=False) == [LITE0]
    begun = {"start": "gone/depth_anything_vits14.pth", "encoder": "vits", "rounds": 2}
    found = names(labelled=["scenes:labelled"], **begun)
    # its teacher begins with the encoder
    assert set(found) == {DINO, ("Depth Anything V1 Small", "Apache-2.0")}


@pytest.fixture
def run(tmp_path):
    """The folder of a run that was taught by released weights."""
    export_official(
        build("vitt", pretrained=False, layers="v2"), tmp_path / "depth_anything_v2_vitl.pth"
    )
    settings = STUDENT | {"teacher": str(tmp_path / "depth_anything_v2_vitl.pth"), "steps": 7}
    out = tmp_path / "0123456789ab"
    out.mkdir()
    (out / "job.json").write_text(json.dumps({"config": RunConfig.from_dict(settings).to_dict()}))
    save_file({}, out / "model.safetensors")
    return out


def test_what_is_said_of_a_run_s_weights(run):
    about = about_run(run / "model.safetensors")
    assert about["licence"] == "CC-BY-NC-4.0"
    assert [t["name"] for t in about["derived_from"]] == [LARGE[0], LITE0[0]]
    assert about["trained"]["run"] == "0123456789ab"
    assert about["trained"]["short_side"] == 28
    assert about["trained"]["settings"]["steps"] == 7
    assert "seed" not in about["trained"]["settings"]
    json.dumps(about)


def test_nothing_is_said_where_nothing_is_known(run, tmp_path):
    assert about_run(tmp_path / "elsewhere.pth") == {}
    (run / "job.json").write_text('{"config": {"steps": 7, "unheard_of": 1}}')
    assert about_run(run / "model.safetensors") == {}
    (run / "job.json").write_text('{"config": [1]}')
    assert about_run(run / "model.safetensors") == {}
    plain = RunConfig(pretrained=False).to_dict()
    (run / "job.json").write_text(json.dumps({"config": plain}))
    assert about_run(run / "model.safetensors") == {}
