"""What the ablations switch: who labels, where the student starts, which images come first, what
the step sees."""

import inspect

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.training import Interruption, Plain, Smooth, interrupt_at, quiet
from numpy.testing import assert_allclose
from safetensors.torch import load_file

from dalib import alternatives, losses
from dalib.data import perturb
from dalib.data.mixture import Mixture
from dalib.data.scenes import CLASSES, KINDS, SPLITS
from dalib.data.schema import Source
from dalib.errors import DataError, TrainingError
from dalib.models import build
from dalib.training import launch, selection
from dalib.training.auxiliary import WithAuxiliary, segmentation
from dalib.training.step import mixed, step_losses
from dalib.training.teacher import Teacher
from dalib.training.train import SNAPSHOTS, train

torch.set_num_threads(1)
losses_of = inspect.unwrap(step_losses)  # without the runtime type check, which insists on networks


class Classed(Smooth):
    """With classes: the rows' number over 8."""

    def _sample(self, index):
        rows = torch.arange(self.shape[0])[:, None].expand(self.shape)
        return super()._sample(index) | {"semantics": (rows // 8).to(torch.uint8)}


# who labels


@pytest.mark.slow
def test_a_second_round_is_labelled_by_the_student_of_the_first(tiny_student, launched, runs):
    second = tiny_student.replace(steps=2, rounds=2)
    first = second.teacher_run()
    launch.ensure_weights(second, report=quiet)
    assert launched == [first.teacher_run().hash(), first.hash(), second.hash()]
    assert launched.given[first.hash()]["pseudo"].path.parent.name == first.teacher_run().hash()
    assert launched.given[second.hash()]["pseudo"].path.parent.name == first.hash()


def test_an_oracle_needs_no_teacher(tiny_student, launched):
    config = tiny_student.replace(steps=2, labelling="oracle")
    launch.ensure_weights(config, report=quiet)
    assert launched == [config.hash()]
    assert launched.given[config.hash()]["pseudo"] is None


def test_an_oracle_says_the_truth(tiny_student):
    config = tiny_student.replace(labelling="oracle")
    pool = Smooth(count=10, seed=1)
    batch = Mixture(config=config, labelled=Smooth(), unlabelled=pool)[0]
    for i, flip, disparity, valid in zip(
        batch["pool_index"],
        batch["pool_flip"],
        batch["pool_disparity"],
        batch["pool_valid"],
        strict=True,
    ):
        true = pool[int(i)]
        assert torch.equal(disparity, true["disparity"].flip(-1) if flip else true["disparity"])
        assert torch.equal(valid, true["valid"].flip(-1) if flip else true["valid"])
    with pytest.raises(
        DataError, match=r"unlabelled, labelling: oracle: no ground truth in {'smooth'}"
    ):
        Mixture(config=config, labelled=Smooth(), unlabelled=Smooth(labelled=False))[0]


def test_what_labels_is_given_once(tmp_path, tiny_student):
    sources = {"labelled": Smooth(), "unlabelled": Smooth(), "report": quiet}
    with pytest.raises(TrainingError, match="either pseudo or teacher"):
        train(tiny_student, out=tmp_path, **sources)
    with pytest.raises(TrainingError, match="neither for an oracle"):
        train(
            tiny_student.replace(labelling="oracle"),
            out=tmp_path,
            teacher=Teacher(build("lite0", seed=0), height=64, width=96),
            **sources,
        )


# where it starts


@pytest.mark.slow
def test_a_student_may_start_from_its_teacher(tiny_student, launched, runs):
    """With hardly any learning rate it still is its teacher in the end."""
    config = tiny_student.replace(steps=2, encoder_lr=1e-20, weight_decay=0.0)
    afresh, continued = (
        launch.ensure_weights(config.replace(start=s), report=quiet) for s in ("encoder", "teacher")
    )
    assert launched.given[config.hash()]["first"] is None
    teacher = load_file(runs / config.teacher_run().hash() / "model.safetensors")
    head = "decoder.head.0.weight"
    for name, value in load_file(continued).items():
        assert_allclose(value, teacher[name], atol=1e-7)
    # begun afresh, it has hardly moved from its own seed, which is not its teacher's
    own, other = (
        build("lite0", seed=seed).state_dict()[head]
        for seed in (config.seed, config.teacher_run().seed)
    )
    assert_allclose(load_file(afresh)[head], own, atol=1e-7)
    assert_allclose(teacher[head], other, atol=1e-7)
    assert (own - other).abs().max() > 0.01

    trained = build("lite0", seed=5)
    from dalib.models.depth_anything import save

    save(trained, runs / config.teacher_run().hash() / "model.safetensors")
    other = launch.ensure_weights(config.replace(start="teacher", strength=2.0), report=quiet)
    assert_allclose(load_file(other)[head], trained.state_dict()[head], atol=1e-7)


# which images come first


def test_stable_half_by_hand():
    assert selection.stable_half(torch.tensor([0.3, 0.1, 0.2, 0.1, 0.5])).tolist() == [1, 2, 3]
    assert selection.stable_half(torch.tensor([0.1, 0.1, 0.1, 0.1])).tolist() == [0, 1]


class Fixed:
    """A network that always says the same of image i, which it knows by its first pixel."""

    def __init__(self, maps):
        self.maps = maps

    def predict(self, images):
        return self.maps[images[:, 0, 0, 0].long()]


class Counted(Source):
    domain, fingerprint = "counted", "c0"

    def __len__(self):
        return 5

    def _sample(self, index):
        return {"image": torch.full((3, 8, 12), index, dtype=torch.uint8), "domain": self.domain}


class Maps:
    def __init__(self, maps):
        self.maps = maps

    def get_batch(self, indices):
        return self.maps[torch.from_numpy(np.asarray(indices))].clone()


def test_instability_is_the_mean_loss_to_the_last_labels():
    maps = torch.rand(3, 5, 8, 12, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(5, 8, 12, dtype=torch.bool)
    maps[0, 3] = 2 * maps[2, 3] + 1  # the same up to scale and shift
    found = inspect.unwrap(selection.instability)(
        [Fixed(maps[0]), Fixed(maps[1])], Counted(), Maps(maps[2]), height=8, width=12, batch=2
    )
    expected = [losses.affine_invariant(m, maps[2], valid) for m in maps[:2]]
    assert_allclose(found, torch.stack(expected).mean(0), rtol=1e-5)
    assert found[3] == found.min()


def test_relabelled_by_hand():
    first, later = (
        Maps(torch.zeros(6, 2, 2)),
        Maps(torch.arange(1.0, 7)[:, None, None].expand(6, 2, 2)),
    )
    both = selection.Relabelled(first, later, kept=np.array([1, 4]))
    assert both.get_batch(np.array([4, 0, 5, 1, 4]))[:, 0, 0].tolist() == [0, 1, 6, 0, 0]
    assert both.get_batch(np.array([0, 5]))[:, 0, 0].tolist() == [1, 6]


def test_the_stable_half_is_read_alone(tiny_student):
    config, pool = tiny_student.replace(batch=4), np.array([1, 4, 6, 9])
    whole = Mixture(
        config=config,
        labelled=Smooth(),
        unlabelled=Smooth(count=10),
        pool=pool,
        pseudo=Maps(torch.zeros(10, 64, 96)),
    )
    for step in range(3):
        assert sorted(whole[step]["pool_index"].tolist()) == sorted([*pool, *pool])


@pytest.mark.slow
def test_selective_training_step_by_step(tiny_student, launched, runs):
    """Teacher, student of the stable half, and a student of everything with the rest labelled
    anew."""
    config = tiny_student.replace(steps=3, selection="stable_first")
    stable, lines = config.first_half(), []
    path = launch.ensure_weights(config, report=lines.append)
    assert launched == [config.teacher_run().hash(), stable.hash(), config.hash()]
    assert sum("comparing the labels" in line for line in lines) == 1

    teacher = runs / config.teacher_run().hash()
    assert {p.name for p in teacher.glob("at_*")} == set(SNAPSHOTS)
    assert not list(path.parent.glob("at_*"))
    (kept,) = teacher.glob("pseudo-*/" + selection.STABILITY)
    kept = selection.stable_half(selection.read(kept))
    assert launched.given[stable.hash()]["pool"].tolist() == kept.tolist()
    assert len(kept) == 4
    assert launched.given[config.hash()]["pool"] is None
    labels, everything = launched.given[config.hash()]["pseudo"], np.arange(8)
    first = launched.given[stable.hash()]["pseudo"]
    same = (labels.get_batch(everything) == first.get_batch(everything)).flatten(1).all(1)
    assert torch.from_numpy(np.isin(everything, kept)).equal(same)


def test_damaged_stability_is_named(tmp_path):
    path = tmp_path / selection.STABILITY
    selection.write(path, torch.arange(3.0))
    assert selection.read(path).tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"instability\.safetensors: not readable .*delete it"):
        selection.read(path)


# what the step sees


@pytest.fixture
def batch(tiny_student):
    labels = Maps(torch.rand(10, 64, 96, generator=torch.Generator().manual_seed(1)))
    return Mixture(
        config=tiny_student, labelled=Smooth(), unlabelled=Smooth(count=10, seed=1), pseudo=labels
    )[1]


def step(config, batch, frozen=None):
    return losses_of(config, Plain(), Plain(), frozen, batch)


def drawn(config, batch, *, kinds=None, stream=7):
    positions = batch["pool_position" if stream == 7 else "position"]
    kinds = config.perturb if kinds is None else kinds
    return perturb.draw(
        [(config.seed, stream, int(p)) for p in positions],
        kinds,
        height=64,
        width=96,
        strength=config.strength,
    )


def test_labelled_images_are_distorted_when_asked(tiny_student, batch):
    config = tiny_student.replace(perturb_labelled=("colour", "blur"), align="none")
    seen, _ = perturb.apply(
        batch["image"].float() / 255, drawn(config, batch, kinds=("colour", "blur"), stream=8)
    )
    expected = losses.affine_invariant(seen.mean(1), batch["disparity"], batch["valid"]).mean()
    assert step(config, batch)["labelled"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert (
        step(config, batch)["labelled"]
        != step(config.replace(perturb_labelled=()), batch)["labelled"]
    )
    assert (
        step(config, batch)["unlabelled"]
        == step(config.replace(perturb_labelled=()), batch)["unlabelled"]
    )


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_strength_reaches_the_images(strength, tiny_student, batch):
    config = tiny_student.replace(strength=strength, align="none")
    seen, mask = perturb.apply(batch["pool_image"].float() / 255, drawn(config, batch))
    expected = losses.cutmix_unlabelled(
        seen.mean(1),
        batch["pool_disparity"],
        target_inside=batch["pool_disparity"][[1, 0, 3, 2]],
        inside=mask,
        valid=batch["pool_valid"],
    )
    assert step(config, batch)["unlabelled"].item() == pytest.approx(
        expected.mean().item(), rel=1e-6
    )


@pytest.mark.parametrize("align", ["unlabelled", "labelled", "both"])
def test_the_frozen_encoder_may_see_clean_images(align, tiny_student, batch):
    """Mixed like the student's, so that tokens correspond, but neither distorted nor blurred."""
    config = tiny_student.replace(
        frozen_sees="clean", perturb_labelled=("colour",), margin=1.0, align=align
    )
    labelled, pool = batch["image"].float() / 255, batch["pool_image"].float() / 255
    clean = torch.cat([labelled, perturb.cutmix(pool, drawn(config, batch))[0]])
    shown = perturb.apply(labelled, drawn(config, batch, kinds=("colour",), stream=8))[0]
    shown = torch.cat([shown, perturb.apply(pool, drawn(config, batch))[0]])
    which = {"unlabelled": slice(2, None), "labelled": slice(0, 2), "both": slice(None)}[align]
    a, b = F.avg_pool2d(shown, 16)[which], F.avg_pool2d(clean, 16)[which]
    expected = losses.feature_alignment(a, b, margin=1.0).mean()
    found = step(config, batch, lambda images: [F.avg_pool2d(images, 16)])["feat"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-7)
    assert found > 1e-4
    same = step(
        config.replace(frozen_sees="perturbed"), batch, lambda images: [F.avg_pool2d(images, 16)]
    )["feat"]
    assert same < 1e-6


@pytest.mark.parametrize(
    "change",
    [
        {"cutmix_regions": "together"},
        {"drop": 0.1},
        {"drop": 0.1, "drop_unit": "region"},
        {"gradient_weight": 2.0},
        {"cutmix_regions": "together", "drop": 0.2, "gradient_weight": 1.0},
    ],
)
def test_other_losses_of_unlabelled_images(change, tiny_student, batch):
    config = tiny_student.replace(align="none", **change)
    seen, mask = perturb.apply(batch["pool_image"].float() / 255, drawn(config, batch))
    own, valid = batch["pool_disparity"], batch["pool_valid"]
    assert mask.any()
    together = config.cutmix_regions == "together"
    error = alternatives.cutmix_residual(
        seen.mean(1),
        own,
        target_inside=own[[1, 0, 3, 2]],
        inside=mask,
        valid=valid,
        together=together,
    )
    settings = {k: v for k, v in change.items() if k != "cutmix_regions"}
    expected = alternatives.map_loss(error, valid, inside=None if together else mask, **settings)
    parts, plain = step(config, batch), step(tiny_student.replace(align="none"), batch)
    assert parts["unlabelled"].item() == pytest.approx(expected.mean().item(), rel=1e-6)
    assert parts["unlabelled"] != plain["unlabelled"]
    if "gradient_weight" not in change:
        assert parts["labelled"] == plain["labelled"]


def test_the_labelled_loss_matches_gradients_too(tiny, batch):
    labelled = {k: v for k, v in batch.items() if not k.startswith("pool_")}
    config = tiny.replace(gradient_weight=2.0)
    seen, valid = batch["image"].float().mean(1) / 255, batch["valid"]
    error = alternatives.residual(seen, batch["disparity"], valid)
    expected = losses.affine_invariant(
        seen, batch["disparity"], valid
    ) + 2 * alternatives.gradient_matching(error, valid)
    assert step(config, labelled)["labelled"].item() == pytest.approx(
        expected.mean().item(), rel=1e-5
    )


# semantic segmentation beside


def test_classes_follow_the_images(tiny_student):
    """Mirrored with them, and mixed with them."""
    config = tiny_student.replace(segmentation_weight=1.0)
    pool = Classed(count=10, seed=1)
    batch = Mixture(
        config=config, labelled=Smooth(), unlabelled=pool, pseudo=Maps(torch.zeros(10, 64, 96))
    )[0]
    assert batch["pool_semantics"].shape == (4, 64, 96)
    for i, flip, classes in zip(
        batch["pool_index"], batch["pool_flip"], batch["pool_semantics"], strict=True
    ):
        true = pool[int(i)]["semantics"]
        assert torch.equal(classes, true.flip(-1) if flip else true)
    maps, mask = (
        torch.arange(4)[:, None, None].expand(4, 2, 2),
        torch.zeros(4, 2, 2, dtype=torch.bool),
    )
    mask[0, 0, 1] = mask[3, 1, 0] = True
    assert mixed(maps, mask).flatten(1).tolist() == [[0, 1, 0, 0], [1] * 4, [2] * 4, [3, 3, 2, 3]]
    with pytest.raises(DataError, match=r"segmentation_weight: no classes in {'smooth'}"):
        Mixture(
            config=config,
            labelled=Smooth(),
            unlabelled=Smooth(),
            pseudo=Maps(torch.zeros(24, 64, 96)),
        )[0]


def test_segmentation_by_hand():
    logits = torch.zeros(1, 4, 1, 2)
    logits[0, 2, 0, 1] = np.log(3)
    found = segmentation(logits, torch.tensor([[[0, 2]]], dtype=torch.uint8))
    assert found.item() == pytest.approx((np.log(4) + np.log(2)) / 2)


def test_a_second_decoder_leaves_the_student_as_it_is():
    student = build("lite0", seed=0).eval()
    both, images = (
        WithAuxiliary(student=student, seed=0, segmentation=True),
        torch.rand(2, 3, 64, 96),
    )
    pred, features, logits = both(images)
    alone = student(images)
    assert torch.equal(pred, alone[0])
    assert torch.equal(features, alone[1])
    assert logits.shape == (2, len(CLASSES), 64, 96)
    logits.square().mean().backward()
    assert all(p.grad is not None for p in both.segmentation.parameters())
    assert all(p.grad is None for p in student.decoder.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.encoder.parameters())


@pytest.mark.slow
def test_training_with_segmentation_resumes_to_the_same_bits(tmp_path, tiny_student):
    config = tiny_student.replace(segmentation_weight=1.0, steps=4)
    given = {
        "labelled": Smooth(),
        "unlabelled": Classed(count=10, seed=1),
        "pseudo": Maps(torch.rand(10, 64, 96)),
    }
    whole = train(config, out=tmp_path / "whole", report=quiet, **given).read_bytes()
    with pytest.raises(Interruption):
        train(config, out=tmp_path / "cut", report=interrupt_at(3), **given)
    assert train(config, out=tmp_path / "cut", report=quiet, **given).read_bytes() == whole
    names = load_file(tmp_path / "whole" / "model.safetensors")
    # the second decoder is for training only
    assert not any("segmentation" in name for name in names)
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    assert all('"segmentation": ' in line for line in lines)


# labelled sets


def test_every_kind_has_a_labelled_split_of_its_own():
    for kind in KINDS:
        split = SPLITS[f"labelled_{kind}"]
        assert (list(split.kinds), list(split.styles)) == ([kind], ["plain"])
    assert len({s.seed for s in SPLITS.values()}) == len(SPLITS)
