"""What a network learns from: sky in the ground truth, and the image that a teacher labels."""

import pytest
import torch
from helpers.training import Smooth, quiet
from numpy.testing import assert_allclose

from dalib import losses
from dalib.config import RunConfig
from dalib.data import perturb
from dalib.data.mixture import Mixture, with_sky
from dalib.training import launch
from dalib.training.pseudo import unit_range
from dalib.training.step import label_now
from dalib.training.teacher import Teacher

torch.set_num_threads(1)

DISPARITY = torch.tensor([[[0.0, 0.5], [0.25, 0.0]], [[0.0, 0.0], [0.0, 0.125]]])
VALID = torch.tensor([[[True, True], [True, False]], [[True, True], [True, False]]])
"""Sky, near, far and a hole; and an image of sky alone, whose far pixel is a hole."""


@pytest.mark.parametrize(
    ("sky", "disparity", "valid"),
    [
        ("zero", DISPARITY.tolist(), VALID.tolist()),
        (
            "ignore",
            DISPARITY.tolist(),
            [[[False, True], [True, False]], [[False, False], [False, False]]],
        ),
        (
            "farthest",
            [[[0.25, 0.5], [0.25, 0.0]], [[0.0, 0.0], [0.0, 0.125]]],
            VALID.tolist(),
        ),
    ],
)
def test_sky_by_hand(sky, disparity, valid):
    image = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    found = with_sky({"image": image, "disparity": DISPARITY, "valid": VALID}, sky)
    assert found["disparity"].tolist() == disparity
    assert found["valid"].tolist() == valid
    assert torch.equal(found["image"], image)
    assert with_sky({"semantics": image}, sky).keys() == {"semantics"}


def test_ignored_sky_costs_nothing():
    maps = with_sky({"disparity": DISPARITY, "valid": VALID}, "ignore")
    pred = torch.tensor([[[9.0, 2.0], [1.0, 5.0]], [[1.0, 2.0], [3.0, 4.0]]], requires_grad=True)
    loss = losses.affine_invariant(pred, maps["disparity"], maps["valid"])
    assert loss.tolist() == [0, 0]
    loss.sum().backward()
    assert pred.grad.isfinite().all()


class Sky(Smooth):
    """`Smooth` with two rows of sky at the bottom, where nothing is unknown."""

    def _sample(self, index: int) -> dict:
        sample = super()._sample(index)
        sample["disparity"][-2:] = 0
        return sample


def half(mixture: Mixture, prefix: str) -> tuple[torch.Tensor, torch.Tensor]:
    batch = mixture[0]
    return batch[f"{prefix}disparity"], batch[f"{prefix}valid"]


@pytest.mark.parametrize("prefix", ["", "pool_"])
def test_labelled_images_and_an_oracles_have_it(tiny_student, prefix):
    config = tiny_student.replace(labelling="oracle")
    sources = {"labelled": Sky(), "unlabelled": Sky(count=10, seed=1)}
    of = {
        sky: half(Mixture(config=config.replace(sky=sky), **sources), prefix)
        for sky in ("zero", "ignore", "farthest")
    }
    plain, valid = of["zero"]
    assert (plain[:, -2:] == 0).all()
    assert valid[:, -2:].all()
    assert torch.equal(of["ignore"][0], plain)
    assert not of["ignore"][1][:, -2:].any()
    assert torch.equal(of["ignore"][1][:, :-2], valid[:, :-2])
    least = torch.stack([d[v & (d > 0)].min() for d, v in zip(plain, valid, strict=True)])
    assert torch.equal(of["farthest"][0][:, -2:], least[:, None, None].expand(-1, 2, 96))
    assert torch.equal(of["farthest"][0][:, :-2], plain[:, :-2])
    assert torch.equal(of["farthest"][1], valid)


def test_a_teacher_that_is_trained_here_has_its_students_sky():
    student = RunConfig(pseudo_labels=True, sky="farthest")
    assert student.teacher_run().sky == "farthest"
    alone = {"labelled": [], "teacher": {"labelled": ["scenes:labelled"]}}
    values = {"pseudo_labels": True, "sky": "ignore"} | alone
    assert RunConfig.from_dict(values).teacher_run().sky == "ignore"
    begins = RunConfig.from_dict({"sky": "ignore", "start": {"trained": {}}})
    assert begins.start_run().sky == "zero"


# the image that the teacher sees


class Brightness(torch.nn.Module):
    """A teacher whose disparity is what it sees: the mean over the channels, at 0..1."""

    kind = "disparity"

    def predict(self, images):
        self.images = images
        scale = 255 if images.dtype == torch.uint8 else 1
        return images.float().mean(1) / scale


@pytest.fixture
def online(tiny_student):
    return tiny_student.replace(labelling="online", align="none", teacher_sees="perturbed")


def batch_of(config, **options):
    pool = Smooth(count=10, seed=1, labelled=False)
    return Mixture(config=config, labelled=Smooth(), unlabelled=pool, **options)[1]


def test_the_teacher_labels_what_its_student_sees(online):
    """Colour and blur, and no CutMix: at the student's size the label is what the student's own
    image shows, mirrored like it."""
    batch = batch_of(online)
    assert 0 < int(batch["pool_flip"].sum()) < len(batch["pool_flip"])
    network = Brightness()
    found = label_now(Teacher(network, height=64, width=96), batch, online)
    keys = [(online.seed, 7, int(p)) for p in batch["pool_position"]]
    drawn = perturb.draw(keys, online.perturb, height=64, width=96)
    seen = perturb.distort(batch["pool_image"].float() / 255, drawn)
    assert_allclose(found["pool_disparity"], unit_range(seen.mean(1)), atol=1e-5)
    assert network.images.is_floating_point()

    # and the paper's teacher does not
    for config in (None, online.replace(teacher_sees="clean")):
        clean = label_now(Teacher(network, height=64, width=96), batch, config)
        own = unit_range(batch["pool_image"].float().mean(1))
        assert_allclose(clean["pool_disparity"], own, atol=1e-5)
        assert network.images.dtype == torch.uint8


def test_blur_is_as_wide_in_proportion_at_another_size(online, monkeypatch):
    config = online.replace(perturb=("blur",))
    batch = batch_of(config, seen=(128, 192))
    assert batch["pool_seen"].shape[-2:] == (128, 192)
    sigmas = []
    blur = perturb.gaussian_blur
    monkeypatch.setattr(
        perturb, "gaussian_blur", lambda images, s: sigmas.append(s) or blur(images, s)
    )
    teacher = Teacher(Brightness(), height=64, width=96, seen=(128, 192))
    label_now(teacher, batch, config)
    keys = [(config.seed, 7, int(p)) for p in batch["pool_position"]]
    own = perturb.draw(keys, config.perturb, height=64, width=96).sigma
    assert own.max() > 0
    assert_allclose(sigmas[0], 2 * own)


@pytest.mark.slow
def test_a_run_whose_teacher_sees_perturbed_images(online, launched, runs):
    """From the settings to the weights, and another network than the paper's teacher makes."""
    # so slow that two steps leave a teacher whose labels are no constants
    config = online.replace(steps=2, encoder_lr=1e-6)
    paths = [
        launch.ensure_weights(config.replace(teacher_sees=sees), report=quiet)
        for sees in ("perturbed", "clean")
    ]
    first, second = (path.read_bytes() for path in paths)
    assert first != second
