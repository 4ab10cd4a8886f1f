"""Runs to depth in metres: the loss by hand and against a float64 reference, what counts of the
labels, what makes sparse labels stall, resuming to the same bits, scores without alignment."""

import json
import math

import numpy as np
import pytest
import torch
from helpers.training import Interruption, Smooth, interrupt_at, pairs, quiet
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch.nn import DataParallel

from dalib.alternatives import LAMBDA, scale_invariant_log
from dalib.blocks import GivenNetwork
from dalib.config import RunConfig
from dalib.data import scenes
from dalib.data.catalogue import check_sources
from dalib.data.mixture import Concat, Mixture
from dalib.data.schema import resize_and_crop
from dalib.data.sources import DepthManifest
from dalib.errors import ConfigError, DataError
from dalib.evaluation import robustness, suite
from dalib.evaluation.metrics import ALL_METRICS
from dalib.evaluation.protocols import PROTOCOLS, in_metres
from dalib.evaluation.run import evaluate_source, predict_images
from dalib.evaluation.scores import evaluate, evaluate_folder
from dalib.models import build, load, save
from dalib.training import launch, tasks
from dalib.training.given import first_weights, pin
from dalib.training.recipe import label
from dalib.training.step import step_losses
from dalib.training.teacher import Teacher
from dalib.training.train import new_student, train
from dalib.training.validation import Validation


@pytest.fixture
def metric(tiny) -> RunConfig:
    """A metric run of six steps."""
    return tiny.replace(task="metric", max_depth=10.0)


# the loss


def one_row(*values):
    return torch.tensor([[list(values)]])


def test_silog_by_hand():
    """d = ln 2, ln 2, 0: mean(d^2) = 2/3 ln^2 2 and mean(d)^2 = 4/9 ln^2 2."""
    pred = one_row(2.0, 4.0, 3.0)
    target = one_row(1.0, 2.0, 3.0)
    valid = torch.ones(1, 1, 3, dtype=torch.bool)
    two = math.log(2)
    for share, expected in ((0, math.sqrt(2 / 3)), (0.5, math.sqrt(4 / 9)), (1, math.sqrt(2 / 9))):
        loss = scale_invariant_log(pred, target, valid, share=share)
        assert_allclose(loss, [two * expected], rtol=1e-6)
    # a wrong scale alone: sqrt(1 - lambda) times its logarithm
    loss = scale_invariant_log(3 * target, target, valid)
    assert_allclose(loss, [math.sqrt(1 - LAMBDA) * math.log(3)], rtol=1e-6)
    assert_allclose(scale_invariant_log(3 * target, target, valid, share=1), [0], atol=1e-6)


def reference(pred, target, valid, share):
    """Eigen et al. 2014, eq. 4, each image by itself, in float64."""
    found = []
    for p, t, v in zip(pred, target, valid, strict=True):
        d = np.log(p[v].astype(np.float64)) - np.log(t[v].astype(np.float64))
        value = (d**2).sum() / len(d) - share * d.sum() ** 2 / len(d) ** 2 if len(d) else 0
        found.append(math.sqrt(max(value, 0)))
    return found


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_silog_is_the_papers_formula(seed, density, share):
    rng = np.random.default_rng(seed)
    pred = rng.uniform(0.1, 80, (3, 4, 5)).astype(np.float32)
    target = rng.uniform(0.1, 80, (3, 4, 5)).astype(np.float32)
    valid = rng.random((3, 4, 5)) < density
    holes = np.where(valid, target, rng.choice([np.nan, 0, -1, np.inf], target.shape))
    args = torch.from_numpy(pred), torch.from_numpy(holes.astype(np.float32))
    loss = scale_invariant_log(*args, torch.from_numpy(valid), share=share)
    assert_allclose(loss, reference(pred, target, valid, share), rtol=2e-4, atol=2e-4)


def test_what_stands_in_holes_never_matters_and_no_hole_gets_a_gradient():
    pred = torch.rand(2, 6, 7) + 0.5
    target = torch.rand(2, 6, 7) + 0.5
    valid = torch.rand(2, 6, 7) < 0.3
    clean = scale_invariant_log(pred, target, valid)
    for hole in (torch.nan, 0.0, -3.0, torch.inf, 1e-30):
        own = pred.clone().requires_grad_()
        loss = scale_invariant_log(own, target.masked_fill(~valid, hole), valid)
        assert torch.equal(loss, clean)
        (grad,) = torch.autograd.grad(loss.sum(), own)
        assert torch.isfinite(grad).all()
        assert (grad[~valid] == 0).all()
        assert (grad[valid] != 0).any()
    # a valid pixel whose target is no depth is a hole as well
    target[0, 0, 0] = torch.nan
    assert torch.isfinite(scale_invariant_log(pred, target, valid | True)).all()


def test_an_image_without_labels_costs_nothing_and_leaves_the_others_alone():
    pred = (torch.rand(3, 4, 4) + 0.5).requires_grad_()
    target = torch.rand(3, 4, 4) + 0.5
    valid = torch.ones(3, 4, 4, dtype=torch.bool)
    valid[1] = False
    loss = scale_invariant_log(pred, target, valid)
    assert loss[1] == 0
    (grad,) = torch.autograd.grad(loss.mean(), pred)
    assert torch.isfinite(grad).all()
    assert (grad[1] == 0).all()
    alone = scale_invariant_log(pred[[0, 2]], target[[0, 2]], valid[[0, 2]])
    assert torch.equal(loss[[0, 2]], alone)


def test_a_sparse_image_weighs_as_much_as_a_dense_one():
    """By the error of each image, whatever the number of its pixels."""
    target = torch.ones(2, 10, 10)
    pred = torch.stack([torch.full((10, 10), 2.0), torch.full((10, 10), 3.0)])
    valid = torch.ones(2, 10, 10, dtype=torch.bool)
    dense = scale_invariant_log(pred, target, valid)
    valid[0] = False
    valid[0, 3, 3] = valid[0, 7, 1] = True
    assert_allclose(scale_invariant_log(pred, target, valid), dense, rtol=1e-6)


def test_a_perfect_prediction_costs_nothing_and_has_a_finite_gradient():
    target = torch.rand(2, 4, 4) + 0.5
    for near in (0, 1e-7, 1e-5):
        pred = (target * (1 + near)).requires_grad_()
        loss = scale_invariant_log(pred, target, torch.ones(2, 4, 4, dtype=torch.bool))
        (grad,) = torch.autograd.grad(loss.sum(), pred)
        assert torch.isfinite(grad).all()
        assert (loss <= 2 * near + 1e-6).all()
    exact = scale_invariant_log(target, target, torch.ones(2, 4, 4, dtype=torch.bool))
    assert (exact == 0).all()


@pytest.mark.parametrize("share", [-0.1, 1.5, math.nan])
def test_an_impossible_share_is_refused(share):
    x = torch.ones(1, 2, 2)
    with pytest.raises(ConfigError, match="share"):
        scale_invariant_log(x, x, x > 0, share=share)


# what counts of the labels


def test_labels_beyond_reach_do_not_count(metric):
    """At the edge they do; sky never does."""
    task = tasks.of(metric)
    disparity = one_row(1.0, 0.1, 0.0999, 0.01, 0.0)
    batch = {"disparity": disparity, "valid": torch.ones_like(disparity, dtype=torch.bool)}
    pred = one_row(2.0, 5.0, 1.0, 1.0, 1.0).requires_grad_()
    loss = task.loss(pred, batch)
    d = math.log(2), math.log(0.5)
    assert_allclose(loss.item(), math.sqrt((d[0] ** 2 + d[1] ** 2) / 2), rtol=1e-6)
    (grad,) = torch.autograd.grad(loss, pred)
    assert (grad[0, 0] != 0).tolist() == [True, True, False, False, False]
    far = {"disparity": one_row(0.01, 0.0), "valid": torch.ones(1, 1, 2, dtype=torch.bool)}
    pred = one_row(2.0, 5.0).requires_grad_()
    loss = task.loss(pred, far)
    (grad,) = torch.autograd.grad(loss, pred)
    assert loss == 0
    assert (grad == 0).all()


class Sparse(Smooth):
    """`Smooth` with labels on a share of the pixels; some images have none.

    Args:
        share: of the pixels.
        without: every so many-th image has no label.
    """

    def __init__(self, *, share: float, without: int = 0, **options):
        super().__init__(**options)
        self.share, self.without = share, without
        self.fingerprint += f"{share}{without}"

    def _sample(self, index: int) -> dict:
        sample = super()._sample(index)
        generator = torch.Generator().manual_seed(index)
        kept = torch.rand(self.shape, generator=generator) < self.share
        if self.without and index % self.without == 0:
            kept[:] = False
        sample["valid"] &= kept
        sample["disparity"] = sample["disparity"].masked_fill(~sample["valid"], 0)
        return sample


def test_resizing_mixes_no_label_with_a_hole():
    """A sparse map that is resized bilinearly has hardly a true value left."""
    sample = Sparse(share=0.05)[3]
    for size in ((48, 64), (120, 200), (64, 96)):
        resized = resize_and_crop(sample, height=size[0], width=size[1])
        values = resized["disparity"][resized["valid"]]
        assert len(values) > 10
        assert torch.isin(values, sample["disparity"][sample["valid"]]).all()


@pytest.mark.slow
def test_a_metric_run_on_sparse_labels_learns(metric, tmp_path):
    """With images in every batch that have no label at all, as the mean over images has it."""
    config = metric.replace(steps=20, encoder_lr=1e-4, batch=4)
    source = Sparse(share=0.02, without=2, count=16)
    path = train(config, out=tmp_path, labelled=source, report=quiet)
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["labelled"] for line in lines]
    assert all(math.isfinite(x) for x in losses)
    network = tasks.of(config).restore(path)
    dense = Smooth(count=8)
    sample = [dense[i] for i in range(8)]
    z = [1 / s["disparity"][s["valid"]] for s in sample]
    maps = network.predict(torch.stack([s["image"] for s in sample]))
    fresh = tasks.of(config).build(encoder_weights=None)
    before = fresh.predict(torch.stack([s["image"] for s in sample]))

    def error(pred):
        return np.mean(
            [
                ((p[s["valid"]] - t).abs() / t).mean()
                for p, s, t in zip(pred, sample, z, strict=True)
            ]
        )

    assert error(maps) < 0.5 * error(before)


# what makes a training stall


def relative(tmp_path, *, bias=12.0):
    """A network of disparity whose values reach far above 1, as those of released ones do."""
    network = build("lite0", seed=5)
    with torch.no_grad():
        network.decoder.head[-2].bias.fill_(bias)
    path = tmp_path / "relative.safetensors"
    save(network, path)
    return network, path


def slope(network, config):
    """The gradient of the loss by the values under the sigmoid, for one step."""
    batch = Mixture(config=config, labelled=Smooth())[0]
    images = network.normalise(batch["image"])
    pred = network(images)[0]
    inner = torch.logit((pred / network.max_depth).double().clamp(1e-12, 1 - 1e-12)).detach()
    inner.requires_grad_()
    loss = tasks.of(config).loss((torch.sigmoid(inner) * network.max_depth).float(), batch)
    (grad,) = torch.autograd.grad(loss, inner)
    return grad.abs().sum().item()


@pytest.mark.slow
def test_the_last_layer_of_a_relative_network_would_stall(metric, tmp_path):
    """A disparity of 12 under a sigmoid leaves a slope of 6e-6, so that the last layer stays behind:
    the twin that takes it has next to no gradient, and ours as much as a network with a new
    decoder."""
    given_network, path = relative(tmp_path)
    config = pin(metric.replace(start=GivenNetwork(weights=str(path))))
    ours = new_student(config, first_weights(config, config.start))
    twin = tasks.of(config).build(encoder_weights=None)
    twin.load_state_dict(given_network.state_dict())
    fresh = tasks.of(metric).build(encoder_weights=None)
    assert slope(twin, config) < 1e-3 * slope(fresh, config)
    assert slope(ours, config) > 0.3 * slope(fresh, config)
    same = ours.state_dict()
    for name, value in given_network.state_dict().items():
        assert torch.equal(same[name], value) == (not name.startswith("decoder.head.2."))


def test_a_metric_network_goes_on_with_its_last_layer(metric, tmp_path):
    path = tmp_path / "metric.safetensors"
    save(build("lite0", seed=5, max_depth=20.0), path)
    config = pin(metric.replace(start=GivenNetwork(weights=str(path))))
    network = new_student(config, first_weights(config, config.start))
    assert torch.equal(network.decoder.head[-2].weight, load(path).decoder.head[-2].weight)


# the run


def test_the_step_has_the_loss_of_metres(metric):
    network = tasks.of(metric).build(encoder_weights=None)
    batch = Mixture(config=metric, labelled=Smooth())[0]
    parts = step_losses(metric, network, network, None, batch)
    assert list(parts) == ["labelled"]
    pred = network(network.normalise(batch["image"]))[0]
    truth = torch.where(batch["disparity"] > 0, 1 / batch["disparity"], torch.nan)
    expected = reference(pred.detach().numpy(), truth.numpy(), batch["valid"].numpy(), LAMBDA)
    assert_allclose(parts["labelled"].item(), np.mean(expected), rtol=1e-4)


@pytest.mark.slow
def test_a_metric_run_goes_on_to_the_same_bits(metric, tmp_path):
    source = Sparse(share=0.05, without=3)
    whole = train(metric, out=tmp_path / "whole", labelled=source, report=quiet).read_bytes()
    with pytest.raises(Interruption):
        train(metric, out=tmp_path / "cut", labelled=source, report=interrupt_at(5))
    again = train(metric, out=tmp_path / "cut", labelled=source, report=quiet).read_bytes()
    assert again == whole
    network = load(tmp_path / "cut" / "model.safetensors")
    assert (network.kind, network.max_depth) == ("depth_m", 10.0)


def test_feature_alignment_beside_metres(metric, tmp_path):
    """On labelled images, as for disparity."""
    config = metric.replace(align="labelled", steps=2)
    train(config, out=tmp_path, labelled=Smooth(), report=quiet)
    (first, *_) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert {"labelled", "feat"} <= json.loads(first).keys()


def test_both_rates_are_read(metric, tmp_path):
    """An encoder of a rate so small that it stays, under a decoder that learns."""
    config = metric.replace(encoder_lr=1e-12, decoder_lr_factor=1e9, steps=2, weight_decay=0.0)
    path = train(config, out=tmp_path, labelled=Smooth(), report=quiet)
    network, fresh = tasks.of(config).restore(path), tasks.of(config).build(encoder_weights=None)
    moved = [
        max(
            (a - b).abs().max().item()
            for a, b in zip(part(network).parameters(), part(fresh).parameters(), strict=True)
        )
        for part in (lambda n: n.encoder, lambda n: n.decoder)
    ]
    assert moved[0] < 1e-9
    assert moved[1] > 1e-4


# labels that are no metres


def depth_folder(folder, *, kind="depth_m", known="yes", offset="yes"):
    pairs(folder, more=("scale_known", "offset_known"), entries=(known, offset))
    text = (folder / "manifest.csv").read_text()
    (folder / "manifest.csv").write_text(text.replace(",disparity,", f",{kind},"))
    return folder


@pytest.mark.parametrize(("known", "offset"), [("no", "yes"), ("yes", "no")])
def test_relative_labels_are_refused(metric, tmp_path, known, offset):
    folder = depth_folder(tmp_path / "rel", kind="disparity", known=known, offset=offset)
    config = metric.replace(labelled=(f"depth:{folder}",))
    with pytest.raises(DataError, match="the labels of rel are not in metres"):
        check_sources(config)
    check_sources(RunConfig(labelled=config.labelled))  # to which they are welcome
    # and while training, where a source says it of each sample
    with pytest.raises(DataError, match="the labels of rel are not in metres"):
        Mixture(config=config.replace(height=32, width=48), labelled=DepthManifest(folder))[0]


def test_kinds_that_are_in_metres_may_be_mixed(metric, tmp_path):
    metres = depth_folder(tmp_path / "metres")
    inverse = depth_folder(tmp_path / "inverse", kind="disparity")
    names = (f"depth:{metres}", f"depth:{inverse}", "scenes:labelled_room")
    check_sources(metric.replace(labelled=names))
    both = Concat(DepthManifest(metres), DepthManifest(inverse))
    batch = Mixture(config=metric.replace(batch=6), labelled=both)[0]
    assert len(batch["disparity"]) == 6
    # one relative source among them is one too many, and named
    wrong = depth_folder(tmp_path / "wrong", known="no")
    with pytest.raises(DataError, match=f"{wrong}.*the labels of wrong are not in metres"):
        check_sources(metric.replace(labelled=(*names, f"depth:{wrong}")))


def test_labels_out_of_reach_are_refused_before_training(metric, tmp_path):
    """Disparity of about 0.6 1/m is nearer than two metres, and never within half a metre."""
    folder = depth_folder(tmp_path / "near", kind="disparity")
    config = metric.replace(labelled=(f"depth:{folder}",))
    check_sources(config)
    with pytest.raises(DataError, match="of 3 images looked at, none has a label within max_depth"):
        check_sources(config.replace(max_depth=0.5))


def test_photographs_have_no_metres(metric, tmp_path):
    folder = pairs(tmp_path / "photos")
    (folder / "manifest.csv").unlink()
    with pytest.raises(DataError, match="has no ground truth"):
        check_sources(metric.replace(labelled=(f"photos:{folder}",)))


# scores


def test_metres_are_scored_as_they_are(metric):
    """A perfect network of metres scores 0 and 1, one that is twice too far scores 1: nothing is
    fitted."""
    source = Smooth(count=3)
    protocol = in_metres(PROTOCOLS["scenes"], reach=10.0)
    truth = [1 / s["disparity"].clamp_min(1e-6) for s in source]
    for factor, abs_rel, delta1 in ((1.0, 0.0, 1.0), (2.0, 1.0, 0.0), (0.5, 0.5, 0.0)):
        found = evaluate_source(
            lambda images, f=factor: [f * z for z in truth],
            source,
            protocol,
            kind="depth",
            names=ALL_METRICS,
        )
        assert_allclose(found["abs_rel"], [abs_rel] * 3, atol=1e-6)
        assert_allclose(found["delta1"], [delta1] * 3, atol=1e-6)
        assert_allclose(found["silog"], [0] * 3, atol=1e-3)


def test_a_protocol_in_metres():
    kitti = in_metres(PROTOCOLS["kitti"], reach=50.0)
    assert (kitti.max_depth, kitti.align, kitti.crop) == (50.0, "none", "garg")
    assert in_metres(PROTOCOLS["nyuv2"], reach=80.0).max_depth == 10.0
    relative_one = in_metres(PROTOCOLS["relative"], reach=20.0)
    assert (relative_one.max_depth, relative_one.min_depth) == (20.0, 1e-3)
    assert kitti.hash != PROTOCOLS["kitti"].hash


@pytest.mark.slow
def test_the_suite_of_a_metric_run(monkeypatch):
    """In-domain, the test domains and what the network reaches of the real sets; a network of the
    other kind is refused on both sides, before anything is drawn."""
    drawn = []

    def materialise(*, split, count, height, width):
        drawn.append(getattr(split, "name", split))
        return Smooth(count=2, height=height, width=width)

    config = RunConfig(
        task="metric", max_depth=10.0, height=32, width=48, test_images=2, labelled_images=4
    )
    near = ("near", "table", Smooth(count=2, height=20, width=30), PROTOCOLS["nyuv2"])
    far = ("far", "table", Smooth(count=2, height=20, width=30), PROTOCOLS["driving"])
    unknown = ("unknown", "table", Smooth(count=2), PROTOCOLS["relative"])
    monkeypatch.setattr(suite, "real_domains", lambda: [near, far, unknown])
    monkeypatch.setattr(scenes, "materialise", materialise)
    with pytest.raises(ConfigError, match="predicts disparity up to scale and shift"):
        suite.evaluate(build("lite0", seed=0), config)
    with pytest.raises(ConfigError, match="predicts depth in metres"):
        suite.evaluate(build("lite0", seed=0, max_depth=10.0), RunConfig())
    assert drawn == []
    found = suite.evaluate(build("lite0", seed=0, max_depth=10.0), config)
    assert list(found["images"]) == ["room", "street", *scenes.TEST_DOMAINS]
    assert drawn == ["unseen_room", "unseen_street", *scenes.TEST_DOMAINS]
    assert list(found["real"]) == ["near"]
    assert found["real"]["near"].keys() == {"half", "names", *ALL_METRICS}
    assert found["images"]["room"].keys() == set(ALL_METRICS)
    assert suite.scoring(config).metrics == ALL_METRICS
    farther = suite.evaluate(build("lite0", seed=0, max_depth=80.0), config)
    assert list(farther["real"]) == ["near", "far"]


def test_the_unseen_scenes_are_none_that_are_learnt():
    seeds = {split.seed for split in scenes.SPLITS.values()}
    for name, split in suite.IN_DOMAIN.items():
        assert split.seed not in seeds
        assert list(split.kinds) == [name]
        assert split.styles == scenes.SPLITS[f"labelled_{name}"].styles


def test_validation_of_a_metric_run_is_in_metres(metric, monkeypatch):
    """A network that gives five metres everywhere is scored by that, not by what a fit would make of
    it."""
    config = metric.replace(validate_every=1, validation_images=2)
    monkeypatch.setattr("dalib.training.validation.open_source", lambda name, **_: Smooth(count=2))
    validation = Validation(config)
    network = tasks.of(config).build(encoder_weights=None)
    with torch.no_grad():
        for parameter in network.decoder.head[-2].parameters():
            parameter.zero_()
    scores = validation(network, network.state_dict(), report=quiet)
    truth = [1 / s["disparity"][s["valid"]] for s in Smooth(count=2)]
    expected = np.mean([((5 - z).abs() / z).mean().item() for z in truth])
    assert_allclose(scores["abs_rel"], expected, rtol=1e-5)


def test_a_metric_run_leaves_a_network_that_only_metres_read(metric, launched):
    path = launch.ensure_weights(metric, report=quiet)
    network = load(path)
    assert (network.kind, network.max_depth) == ("depth_m", 10.0)
    # as a start of a disparity run it is refused, as a whole
    config = pin(RunConfig(start=GivenNetwork(weights=str(path))))
    with pytest.raises(ConfigError, match="predicts depth in metres"):
        first_weights(config, config.start)


# never as disparity


def scored_by_evaluate(network, folder):
    evaluate(network, Smooth(count=2))


def scored_by_folder(network, folder):
    evaluate_folder(network, depth_folder(folder / "set"), report=quiet)


def scored_by_the_suite(network, folder):
    suite.evaluate(network, RunConfig(test_images=1))


def scored_under_corruption(network, folder):
    robustness.measure(network, RunConfig(), domains={"smooth": Smooth(count=1)}, report=quiet)


def predicted_for_a_score(network, folder):
    predict_images(network, [Smooth()[0]["image"]], short_side=64)


def labelled_by(network, folder):
    label(network, Smooth(count=2), out=folder / "labels", height=64, width=96, report=quiet)


def begun_with(network, folder):
    save(network.module if isinstance(network, DataParallel) else network, folder / "w.safetensors")
    config = pin(RunConfig(start=GivenNetwork(weights=str(folder / "w.safetensors"))))
    new_student(config, first_weights(config, config.start))


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    "path",
    [
        scored_by_evaluate,
        scored_by_folder,
        scored_by_the_suite,
        scored_under_corruption,
        predicted_for_a_score,
        begun_with,
    ],
)
def test_metres_are_never_taken_for_disparity(path, wrapped, tmp_path):
    """By whatever road they come: a wrapper says nothing of its kind, and the network in it does."""
    network = build("lite0", seed=0, max_depth=10.0)
    if wrapped and path is not scored_by_the_suite:  # which takes no wrapper
        network = DataParallel(network)
        network.mean, network.std = network.module.mean, network.module.std
        network.multiple = network.module.multiple
    with pytest.raises(ConfigError, match=r"predicts depth in metres"):
        path(network, tmp_path)


def test_metres_make_no_labels_as_they_are(tmp_path):
    network = build("lite0", seed=0, max_depth=10.0)
    with pytest.raises(ConfigError, match="predicts depth in metres"):
        labelled_by(network, tmp_path)
    # as the teacher of a run they are turned round first
    teacher = Teacher(network, height=64, width=96)
    images = Smooth()[0]["image"][None]
    assert_allclose(teacher.predict(images), 1 / network.predict(images), rtol=1e-6)


def test_a_function_that_gives_metres_is_told():
    """Nothing says what a function gives, but what comes out of it is the wrong way round."""
    source = Smooth(count=4)
    truth = {s["image"].numpy().tobytes(): 1 / s["disparity"].clamp_min(0.1) for s in source}
    scores = evaluate(lambda images: [truth[i.numpy().tobytes()] for i in images], source)
    assert scores.inverted == 4
    assert "near and far the wrong way round in 4" in str(scores)
