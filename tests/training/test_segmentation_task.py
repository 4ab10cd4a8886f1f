"""Semantic segmentation as the task of a run: its loss, what it begins with, what it leaves, what
it refuses."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.commands import main
from helpers.training import Interruption, Smooth, interrupt_at, pairs, quiet
from safetensors.torch import load_file

from dalib.blocks import GivenNetwork, TrainedStart
from dalib.config import RunConfig
from dalib.data.mixture import Mixture
from dalib.data.scenes import CLASSES
from dalib.data.schema import IGNORE
from dalib.errors import CheckpointError, ConfigError, DataError
from dalib.evaluation import suite
from dalib.evaluation.segmentation import Areas, predict_classes
from dalib.models import load, save
from dalib.models.segmenter import Segmenter, build_segmenter, restore_segmenter
from dalib.training import launch, tasks
from dalib.training.descent import parents
from dalib.training.given import pin
from dalib.training.launch import first_network
from dalib.training.segmentation import cross_entropy
from dalib.training.step import shares
from dalib.training.train import new_student, train

torch.set_num_threads(1)


class Classed(Smooth):
    """Whose class is the brightness of the pixel, in sixteen steps; the lowest row is unknown."""

    def _sample(self, index):
        sample = super()._sample(index)
        classes = sample["image"].float().mean(0).div(256 / len(CLASSES)).to(torch.uint8)
        classes[-1] = IGNORE
        return sample | {"semantics": classes}


@pytest.fixture
def config(tiny):
    return tiny.replace(task="segmentation", steps=4)


# the loss


def test_the_loss_by_hand():
    """Two pixels of the first image are known, one of the second: of four equal classes each costs
    ln 4; the third pixel knows its class three to one."""
    logits = torch.zeros(2, 4, 1, 2)
    logits[1, 2, 0, 1] = np.log(9)  # 9 of 12
    classes = torch.tensor([[[0, 3]], [[IGNORE, 2]]], dtype=torch.uint8)
    found = cross_entropy(logits, classes)
    assert found.item() == pytest.approx((np.log(4) + np.log(12 / 9)) / 2, abs=1e-6)


def test_the_loss_against_float64_and_where_nothing_is_known():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 4, 6, generator=generator)
    classes = torch.randint(0, 5, (3, 4, 6), generator=generator).to(torch.uint8)
    classes[0, :2] = IGNORE
    classes[2] = IGNORE
    values = []
    for image, true in zip(logits.double().numpy(), classes.numpy(), strict=True):
        logs = image - np.log(np.exp(image).sum(0))
        known = np.argwhere(true != IGNORE)
        values.append(np.mean([-logs[true[r, c], r, c] for r, c in known]) if len(known) else 0)
    leaf = logits.requires_grad_()
    found = cross_entropy(leaf, classes)
    assert found.item() == pytest.approx(np.mean(values), rel=1e-6)
    found.backward()
    assert torch.isfinite(leaf.grad).all()
    unknown = (classes == IGNORE)[:, None].expand_as(leaf)
    assert (leaf.grad[unknown] == 0).all()
    # all known: as everybody has it
    full = classes.clamp(max=4)
    assert torch.allclose(cross_entropy(leaf, full), F.cross_entropy(leaf, full.long()))


def test_parts_of_a_step_have_the_mean_of_the_whole():
    """Also where they know differently many pixels."""
    generator = torch.Generator().manual_seed(1)
    batch = {
        "logits": torch.randn(4, 5, 4, 6, generator=generator),
        "semantics": torch.randint(0, 5, (4, 4, 6), generator=generator).to(torch.uint8),
    }
    batch["semantics"][0, :3] = IGNORE
    whole = cross_entropy(batch["logits"], batch["semantics"])
    parts = [cross_entropy(p["logits"], p["semantics"]) for p in shares(batch, 2)]
    assert torch.allclose(torch.stack(parts).mean(), whole)


# training


def test_a_batch_has_classes_mirrored_with_its_images(config):
    source = Classed()
    batch = Mixture(config=config, labelled=source)[0]
    assert "disparity" not in batch
    for i, flip, image, classes in zip(
        batch["index"], batch["flip"], batch["image"], batch["semantics"], strict=True
    ):
        true = source[int(i)]
        for found, key in ((image, "image"), (classes, "semantics")):
            assert torch.equal(found, true[key].flip(-1) if flip else true[key])


@pytest.mark.slow
def test_training_learns_and_resumes_to_the_same_bits(tmp_path, config):
    config = config.replace(steps=8, ema=0.5, encoder_lr=1e-4)
    whole = train(config, out=tmp_path / "whole", labelled=Classed(), report=quiet).read_bytes()
    with pytest.raises(Interruption):
        train(config, out=tmp_path / "cut", labelled=Classed(), report=interrupt_at(3))
    again = train(config, out=tmp_path / "cut", labelled=Classed(), report=quiet)
    assert again.read_bytes() == whole
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses[0] == pytest.approx(np.log(len(CLASSES)), rel=0.5)
    assert losses[-1] < losses[0]
    network = restore_segmenter(again)
    assert network.classes == CLASSES
    with pytest.raises(CheckpointError, match="network of semantic segmentation"):
        load(again)


@pytest.mark.slow
def test_an_encoder_is_taken_and_the_decoder_is_new(tiny, launched):
    """The same decoder whatever is begun with, so that rows differ in their encoder alone."""
    run = {**vars(tiny), "start": "encoder", "seed": 4}
    config = tiny.replace(task="segmentation", start=TrainedStart(trained=run, part="encoder"))
    first = config.start_run()
    launch.ensure_weights(first, report=quiet)
    network = new_student(config, launch.first_network(config))
    plain = new_student(config.replace(start="encoder"))
    trained = load_file(launch.folder(first) / launch.WEIGHTS)
    assert isinstance(network, Segmenter)
    changed = 0
    for name, value in network.state_dict().items():
        if name.startswith("encoder."):
            assert torch.equal(value, trained[name]), name
            changed += not torch.equal(value, plain.state_dict()[name])
        else:
            assert torch.equal(value, plain.state_dict()[name]), name
    assert changed > 50


@pytest.mark.slow
def test_depth_can_begin_with_an_encoder_of_classes(tiny, config, tmp_path, monkeypatch):
    """What a run of segmentation left is a run like any other."""
    start = TrainedStart(trained={**vars(config), "start": "encoder"}, part="encoder")
    back = tiny.replace(start=start)
    run = back.start_run()
    train(run, out=launch.folder(run), labelled=Classed(), report=quiet)
    network = new_student(back, launch.first_network(back))
    assert network.kind == "disparity"
    assert tasks.of(run).restore(launch.folder(run) / launch.WEIGHTS).kind == "classes"


# scores


def test_the_scores_of_a_run_are_areas_on_every_drawn_domain(config, monkeypatch):
    names = ("floating", "validation")
    drawn = suite.scene_domains(config.replace(test_images=2), names)
    monkeypatch.setattr(suite, "scene_domains", lambda config: drawn)
    network = build_segmenter("lite0", classes=CLASSES, seed=0)
    found = suite.evaluate(network, config)
    assert found["real"] == {}
    assert tuple(found["images"]) == names
    for name, scores in found["images"].items():
        kept = json.loads(json.dumps(scores))
        areas = Areas.from_dict(kept)
        assert (len(areas), areas.truth.sum()) == (2, 2 * 64 * 96)
        assert set(areas.classes) | set(areas.absent) == set(CLASSES)
        # worked out again, from the maps of single images
        hits = [
            int((network.predict(s["image"][None])[0] == s["semantics"]).sum()) for s in drawn[name]
        ]
        assert kept["accuracy"] == [hit / (64 * 96) for hit in hits]


def test_images_of_any_size_are_predicted_at_their_own():
    network = build_segmenter("lite0", classes=("a", "b"), seed=0).train()
    images = [torch.zeros(3, h, w, dtype=torch.uint8) for h, w in ((40, 50), (33, 70), (40, 50))]
    found = predict_classes(network, images, short_side=32, batch_size=1)
    assert [tuple(m.shape) for m in found] == [(40, 50), (33, 70), (40, 50)]
    assert network.training
    assert torch.equal(found[0], found[2])


# what is refused


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pseudo_labels": True}, "task segmentation learns from labelled images alone"),
        ({"gradient_weight": 1.0}, "gradient_weight: nothing would read 1.0"),
        ({"max_depth": 10.0}, "max_depth: nothing would read 10.0"),
        ({"segmentation_weight": 1.0}, "segmentation_weight: nothing would read 1.0"),
        ({"validate_every": 10}, "validate_every: task segmentation is not validated"),
        ({"start": {"trained": {}}}, "take its encoder alone"),
    ],
)
def test_settings_that_do_not_go_with_it_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig.from_dict({"task": "segmentation"} | values)


def test_images_without_classes_are_refused_in_a_batch(config):
    with pytest.raises(DataError, match=r"labelled, task: no classes in {'smooth'}"):
        Mixture(config=config, labelled=Smooth())[0]


@pytest.mark.parametrize("command", [["train"], ["train", "--plan"]])
def test_a_users_own_pairs_are_refused_in_words_before_training(command, tmp_path, capsys):
    """There is no reader of class maps."""
    folder = pairs(tmp_path / "pairs")
    file = tmp_path / "run.yaml"
    file.write_text(
        f"task: segmentation\nlabelled: ['depth:{folder}']\nheight: 64\nwidth: 96\nsteps: 2\n"
    )
    assert main([command[0], str(file), *command[1:]]) == 1
    said = capsys.readouterr().err
    assert "has no classes, which task: segmentation needs" in said
    assert "scenes" in said


def plan_of(tmp_path, capsys, settings):
    """Exit code and words of `train --plan` with these settings."""
    file = tmp_path / "run.yaml"
    file.write_text(f"steps: 2\nheight: 64\nwidth: 96\n{settings}\n")
    code = main(["train", str(file), "--plan"])
    said = capsys.readouterr()
    return code, said.err if code else said.out


@pytest.mark.slow
def test_a_file_of_classes_is_a_start_where_it_fits(tmp_path, config, capsys, monkeypatch):
    """The whole for a run of the same classes, the encoder for every other; never a teacher, never
    other classes, and nothing else is asked of the file than what it says."""
    monkeypatch.setenv("DALIB_RUNS", str(tmp_path / "runs"))
    path = tmp_path / "classes.safetensors"
    whole = build_segmenter("lite0", classes=CLASSES, pretrained=False, seed=3)
    save(whole, path, about={"licence": "CC-BY-NC-4.0"})
    part = f"start: {{weights: {path}, part: encoder}}"
    code, said = plan_of(tmp_path, capsys, f"task: segmentation\nstart: {path}")
    assert code == 0
    assert "3.2 M weights, classes" in said
    code, said = plan_of(tmp_path, capsys, f"task: disparity\nstart: {path}")
    assert code == 1
    assert "take its encoder alone (part: encoder)" in said
    for more in ("", "task: metric\nmax_depth: 10\n"):
        assert plan_of(tmp_path, capsys, more + part)[0] == 0
    code, said = plan_of(tmp_path, capsys, f"pseudo_labels: true\nteacher: {{weights: {path}}}")
    assert code == 1
    assert "predicts classes, and a teacher disparity or depth" in said
    code, said = plan_of(tmp_path, capsys, part.replace("part:", "layers: v1, part:"))
    assert "holds a network of classes, which says all of itself" in said
    save(build_segmenter("lite0", classes=("a", "b"), pretrained=False), path)
    code, said = plan_of(tmp_path, capsys, f"task: segmentation\nstart: {path}")
    assert code == 1
    assert "has 2 other classes than this run learns" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_what_begins_with_a_file_of_classes_has_its_weights_and_licence(tmp_path, config, tiny):
    path = tmp_path / "classes.safetensors"
    whole = build_segmenter("lite0", classes=CLASSES, pretrained=False, seed=3)
    save(whole, path, about={"licence": "CC-BY-NC-4.0"})
    for task, part in ((config, "network"), (tiny, "encoder")):
        run = pin(task.replace(start=GivenNetwork(weights=str(path), part=part), pretrained=False))
        network = new_student(run, first_network(run))
        shared = whole if part == "network" else whole.encoder
        found = network if part == "network" else network.encoder
        for name, weights in shared.state_dict().items():
            assert torch.equal(found.state_dict()[name], weights), name
        (terms,) = parents(run)
        assert terms.licence == "CC-BY-NC-4.0"
