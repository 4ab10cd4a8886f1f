"""Teachers that are given or of another kind, first weights that are given, and a frozen encoder of
another width."""

import json
import shutil
from inspect import unwrap

import pytest
import torch
from helpers.training import Smooth, quiet
from numpy.testing import assert_allclose
from safetensors.torch import load_file
from torch import nn

from dalib.blocks import GivenNetwork, GivenTeacher, TrainedTeacher, WeightFile
from dalib.config import RunConfig
from dalib.data.mixture import Mixture, fetch, pool_crop
from dalib.errors import CheckpointError, ConfigError, DataError
from dalib.models import build, save
from dalib.models.lively import enliven
from dalib.training import launch
from dalib.training.folder import folder
from dalib.training.given import digest, first_weights, load_given, pin
from dalib.training.labelling import teacher_of
from dalib.training.pseudo import unit_range
from dalib.training.step import label_now, step_losses
from dalib.training.teacher import Teacher, size_seen


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Lively networks as files: a ViT, one of metric depth, and a small CNN."""
    out = tmp_path_factory.mktemp("weights")
    vit = enliven(build("vitt", pretrained=False))
    metric = enliven(build("vitt", pretrained=False, max_depth=20.0), seed=1)
    small = build("lite0", seed=7)
    for name, network in {"vit": vit, "metric": metric, "small": small}.items():
        save(network, out / f"{name}.safetensors")
    return {p.stem: p for p in out.iterdir()}


def student(tiny, teacher, **changes):
    return tiny.replace(pseudo_labels=True, teacher=GivenTeacher(weights=str(teacher)), **changes)


class Constant(nn.Module):
    """Predicts what it is told, of any image."""

    def __init__(self, maps, kind):
        super().__init__()
        self.maps, self.kind, self.seen = maps, kind, []

    def predict(self, images):
        self.seen.append(tuple(images.shape))
        return self.maps


# who it is


def test_depth_becomes_disparity_by_hand():
    depth_m = torch.tensor([[[0.5, 1.0], [4.0, 0.0]]])
    teacher = Teacher(Constant(depth_m, "depth_m"), height=2, width=2)
    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    assert_allclose(teacher.predict(images), [[[2, 1], [0.25, 1000]]])
    same = Teacher(Constant(depth_m, "disparity"), height=2, width=2)
    assert torch.equal(same.predict(images), depth_m)


def test_maps_come_in_the_students_size_by_hand():
    wide = torch.tensor([[[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]])
    teacher = Teacher(Constant(wide, "disparity"), height=1, width=2, seen=(2, 4))
    # half the size: each pixel is the mean of the four that it covers
    assert teacher.predict(torch.zeros(1, 3, 2, 4, dtype=torch.uint8)).tolist() == [[[2.5, 4.5]]]


@pytest.mark.parametrize(
    ("short_side", "expected"), [(None, (70, 98)), (64, (70, 98)), (518, (518, 784))]
)
def test_the_size_that_a_vit_sees(weights, short_side, expected):
    given = GivenTeacher(weights=str(weights["vit"]), short_side=short_side)
    network = build("vitt", pretrained=False)
    assert size_seen(given, network, height=64, width=96) == expected


def test_weights_are_known_by_their_content(tiny, weights, tmp_path):
    config = student(tiny, weights["vit"])
    with pytest.raises(ConfigError, match=r"vit\.safetensors is not known by its content yet"):
        config.hash()
    pinned = pin(config)
    elsewhere = shutil.copy(weights["vit"], tmp_path / "other.safetensors")
    moved = pin(student(tiny, elsewhere))
    assert pinned.hash() == moved.hash() == pin(pinned).hash()
    assert pinned.teacher.weights != moved.teacher.weights  # which a record names
    assert pin(student(tiny, weights["metric"])).hash() != pinned.hash()
    read_otherwise = GivenTeacher(weights=str(weights["vit"]), short_side=518)
    assert pin(config.replace(teacher=read_otherwise)).hash() != pinned.hash()
    assert RunConfig.from_dict(json.loads(json.dumps(pinned.to_dict()))) == pinned

    # gone, it is still the same run; changed, it is not
    elsewhere.unlink()
    assert pin(moved) == moved
    shutil.copy(weights["small"], elsewhere)
    with pytest.raises(DataError, match=r"teacher: .*holds other weights \(\w{16}\) than the sett"):
        pin(moved)
    with pytest.raises(DataError, match=r"changed since this run began; put them back"):
        load_given(moved.teacher, role="teacher")


def test_a_folder_is_known_by_its_files_and_their_names(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    first = digest(str(tmp_path))
    (tmp_path / "README.md").write_text("no weights")
    assert digest(str(tmp_path)) == first
    (tmp_path / "config.json").rename(tmp_path / "other.json")
    assert digest(str(tmp_path)) != first
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file of weights in this folder"):
        digest(str(tmp_path / "empty"))
    with pytest.raises(CheckpointError, match=r"absent\.pth: no such file"):
        digest(str(tmp_path / "absent.pth"))


# what it is asked


@pytest.mark.slow
def test_stored_and_online_labels_of_a_larger_teacher(tiny, weights, launched):
    """Both are what the teacher says of the same crop at its own size, brought to the student's."""
    pool = Smooth(count=8, seed=1, labelled=False, height=100, width=200)
    config = pin(
        student(tiny, weights["vit"]).replace(
            teacher=GivenTeacher(weights=str(weights["vit"]), short_side=98)
        )
    )
    teacher = teacher_of(config)
    assert teacher.seen == (98, 140)
    batch = Mixture(config=config, labelled=Smooth(), unlabelled=pool, seen=teacher.seen)[0]
    made = label_now(teacher, batch)["pool_disparity"]

    indices = batch["pool_index"].numpy()
    large = fetch(pool, indices, height=98, width=140, crop=pool_crop(indices))["image"]
    assert torch.equal(batch["pool_seen"], large)
    direct = nn.functional.interpolate(
        teacher.network.predict(large)[:, None], (64, 96), mode="bilinear"
    )[:, 0]
    expected = unit_range(direct)
    flip = batch["pool_flip"]
    assert 0 < flip.sum() < len(flip)
    expected[flip] = expected[flip].flip(-1)
    assert expected.std() > 0.05
    assert_allclose(made, expected, atol=1e-6)

    # stored, in the folder that all students of these weights share
    student_weights = launch.ensure_weights(config, report=quiet)
    assert launched == [config.hash()]  # no other run came first
    labels = launched.given[config.hash()]["pseudo"]
    assert labels.path.parent.name == f"teacher-{config.teacher.digest}"
    smooth = Smooth(count=8, seed=1, labelled=False)  # what `launched` has for a pool
    images = fetch(smooth, indices, height=98, width=140, crop=pool_crop(indices))["image"]
    again = unit_range(teacher.predict(images))
    assert (labels.get_batch(indices) - again).abs().max() < 2**-11 + 1e-5
    assert student_weights.parent == folder(config)


@pytest.mark.slow
def test_a_metric_teacher_is_turned_into_disparity(tiny, weights, launched):
    config = pin(student(tiny, weights["metric"], steps=1))
    launch.ensure_weights(config, report=quiet)
    labels = launched.given[config.hash()]["pseudo"]
    network = load_given(config.teacher, role="teacher")
    pool = Smooth(count=8, seed=1, labelled=False)
    images = fetch(pool, torch.arange(4).numpy(), height=70, width=98)["image"]
    depth_m = network.predict(images)
    own = labels.get_batch(torch.arange(4).numpy())
    near = nn.functional.interpolate(depth_m[:, None], (64, 96), mode="bilinear")[:, 0]
    for mine, far in zip(own, near, strict=True):
        both = torch.stack([mine.flatten(), far.flatten()])
        assert torch.corrcoef(both)[0, 1] < -0.5  # near is large now


@pytest.mark.slow
def test_a_teacher_that_is_trained_here_first_may_be_larger(tiny, launched, runs):
    teacher = TrainedTeacher(
        encoder="vitt", pretrained=False, height=70, width=98, steps=3, seed=5, batch=1
    )
    config = tiny.replace(pseudo_labels=True, teacher=teacher)
    launch.ensure_weights(config, report=quiet)
    run = config.teacher_run()
    assert launched == [run.hash(), config.hash()]
    assert (run.encoder, run.steps, run.seed, run.size) == (
        "vitt",
        3,
        5,
        {"height": 70, "width": 98},
    )
    labels = launched.given[config.hash()]["pseudo"]
    assert labels.path.parent == runs / run.hash()
    assert labels.path.name.endswith("-64x96")
    assert labels.get_batch(torch.arange(2).numpy()).shape == (2, 64, 96)


@pytest.mark.slow
def test_pseudo_labels_alone(tiny, weights, launched, runs):
    """V2's last stage: no image with ground truth is read."""
    config = pin(student(tiny, weights["vit"], labelled=(), perturb=("cutmix",)))
    batch = Mixture(config=config, labelled=None, unlabelled=Smooth(), seen=(70, 98))[0]
    assert {name for name in batch if not name.startswith("pool_")} == set()
    launch.ensure_weights(config, report=quiet)
    lines = (runs / config.hash() / "metrics.jsonl").read_text().splitlines()
    rates = {"lr_encoder", "lr_decoder"}
    assert json.loads(lines[-1]).keys() == {"step", "loss", "unlabelled", "grad_norm"} | rates
    noted = json.loads((runs / config.hash() / "data.json").read_text())
    assert list(noted) == ["unlabelled"]


@pytest.mark.slow
@pytest.mark.parametrize("labelling", ["stored", "online"])
def test_a_run_with_a_given_teacher_resumes_to_the_same_bits(
    tiny, weights, launched, labelling, tmp_path, monkeypatch
):
    config = student(tiny, weights["vit"], labelled=(), labelling=labelling)
    whole = launch.ensure_weights(config, report=quiet).read_bytes()

    def stop_after_four(line):
        if line.startswith("step 4/"):
            raise InterruptedError

    monkeypatch.setenv("DALIB_RUNS", str(tmp_path / "again"))
    with pytest.raises(InterruptedError):
        launch.ensure_weights(config, report=stop_after_four)
    assert launch.ensure_weights(config, report=quiet).read_bytes() == whole


# what a student begins with


@pytest.mark.slow
def test_a_student_begins_with_given_weights(tiny, weights, launched):
    config = tiny.replace(
        start=GivenNetwork(weights=str(weights["small"])),
        steps=1,
        encoder_lr=1e-20,
        weight_decay=0.0,
    )
    trained = load_file(launch.ensure_weights(config, report=quiet))
    given = load_file(weights["small"])
    assert trained.keys() == given.keys()
    for name, value in trained.items():
        assert_allclose(value, given[name], atol=1e-7)
    fresh = build("lite0", seed=0).state_dict()
    assert not torch.equal(given["decoder.head.0.weight"], fresh["decoder.head.0.weight"])


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("vit", {}, "has encoder vitt, and the student has lite0; set encoder: vitt"),
        (
            "vit",
            {"encoder": "vitt", "pretrained": False, "layers": "v2", "height": 70, "width": 98},
            "has layers v1, and the student has v2",
        ),
        ("metric", {}, "predicts depth in metres, and a student begins and ends with disparity"),
    ],
)
def test_first_weights_of_another_kind_are_refused(tiny, weights, name, changes, message):
    config = pin(tiny.replace(start=GivenNetwork(weights=str(weights[name])), **changes))
    with pytest.raises(ConfigError, match=message):
        first_weights(config, config.start)


def test_an_encoder_alone_is_no_teacher(tiny, weights, tmp_path):
    from safetensors.torch import save_file

    encoder = build("vitt", pretrained=False).encoder.net.state_dict()
    save_file(encoder, tmp_path / "dinov2.safetensors")
    config = pin(student(tiny, tmp_path / "dinov2.safetensors"))
    with pytest.raises(ConfigError, match="holds an encoder alone, which predicts nothing"):
        teacher_of(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"teacher": "x.pth"}, "teacher: only a student has one; set pseudo_labels: true"),
        (
            {"pseudo_labels": True, "teacher": "x.pth", "labelling": "oracle"},
            "teacher: an oracle labels; leave out one of the two",
        ),
        (
            {"pseudo_labels": True, "teacher": "x.pth", "selection": "stable"},
            "selection: 'stable' needs the teacher's own training, and this one is given",
        ),
        (
            {"pseudo_labels": True, "teacher": {"weights": "x.pth", "short_side": 0}},
            "teacher, short_side: 0 is not above 0",
        ),
        (
            {"pseudo_labels": True, "teacher": {"encoder": "resnet18"}, "start": "teacher"},
            "cannot begin with the weights of a teacher with encoder resnet18",
        ),
        ({"pseudo_labels": True, "teacher": {}}, "teacher: says nothing"),
        (
            {"pseudo_labels": True, "teacher": {"wieghts": "x"}},
            r"unknown setting of teacher 'wieghts'\. Did you mean",
        ),
        (
            {"pseudo_labels": True, "teacher": {"encoder": "vits"}},
            "teacher: height, width: encoder vits takes multiples of 14 pixels",
        ),
        ({"labelled": []}, "labelled: empty; name at least one source"),
        (
            {"labelled": [], "pseudo_labels": True},
            r"labelled: empty, and nothing says who makes the pseudo labels; give teacher",
        ),
        (
            {"labelled": [], "pseudo_labels": True, "teacher": "x.pth", "align": "both"},
            "labelled: empty, but align or perturb_labelled asks for labelled images",
        ),
        ({"start": ""}, "start: empty; write encoder, teacher or a file of weights"),
        ({"start": "teacher"}, "start: nothing would read 'teacher'; it needs pseudo_labels"),
        ({"start": {"weights": "x", "short_side": 3}}, "unknown setting of start 'short_side'"),
        ({"frozen_encoder": "resnet18"}, "nothing would read 'resnet18'; it needs align"),
    ],
)
def test_settings_that_cannot_be_meant(values, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig.from_dict(values)


def test_a_name_alone_stands_for_weights():
    short = RunConfig.from_dict(
        {"pseudo_labels": True, "teacher": "x.pth", "start": "y.pth", "encoder": "lite0"}
    )
    assert short.teacher == GivenTeacher(weights="x.pth")
    assert short.start == GivenNetwork(weights="y.pth")
    assert RunConfig.from_dict({"encoder_weights": "z"}).encoder_weights == WeightFile(weights="z")
    assert RunConfig.from_dict({"encoder_weights": ""}).encoder_weights is None


# a frozen encoder of another kind


@pytest.mark.slow
def test_features_of_another_width_are_compared_behind_a_linear_layer(tiny_student, launched):
    """A CNN's 320 channels on its 2 x 3 grid against a ResNet's 512: both at the frozen one's
    places."""
    config = tiny_student.replace(frozen_encoder="resnet18", pretrained=False, steps=2, margin=1.0)
    launch.ensure_weights(config, report=quiet)
    trained = load_file(folder(config) / "model.safetensors")
    assert not [name for name in trained if "projection" in name]  # it was for training only


def test_the_linear_layer_by_hand():
    """An identity in place of the layer, and a frozen encoder that says what the student says."""
    from helpers.training import Plain

    from dalib.training.auxiliary import on_grid_of

    grid = torch.arange(8.0).view(1, 1, 2, 4)
    coarse = torch.tensor([[[[2.5, 4.5]]]])
    assert on_grid_of(coarse, grid).tolist() == coarse.tolist()
    assert on_grid_of(grid, grid) is grid

    class Frozen:
        def __init__(self):
            self.seen = []

        def normalise(self, images):
            self.seen.append("its own")
            return images

        def __call__(self, images):
            return (nn.functional.avg_pool2d(images, 32),)

    config = RunConfig(
        pseudo_labels=True, align="unlabelled", frozen_encoder="resnet18", pretrained=False
    )
    images = torch.randint(0, 255, (4, 3, 64, 96), dtype=torch.uint8)
    maps = torch.rand(4, 64, 96)
    batch = {
        "pool_image": images,
        "pool_disparity": maps,
        "pool_valid": torch.ones_like(maps, dtype=torch.bool),
        "pool_position": torch.arange(4),
    }
    frozen = Frozen()
    parts = unwrap(step_losses)(config, Plain(), Plain(), frozen, batch)
    # cells of 16 pixels averaged to cells of 32 are cells of 32: every cosine is 1
    assert parts["feat"].item() == 0
    assert frozen.seen == ["its own"]
