"""Training: resuming to the same bits after a real kill, two learning rates, the composition of a
step's losses, stops and stamps."""

import inspect
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import ROOT
from helpers.training import TINY, Interruption, Plain, Smooth, interrupt_at, quiet
from numpy.testing import assert_allclose
from PIL import Image
from safetensors import SafetensorError

from dalib import certificates, paths, provenance
from dalib.config import RunConfig
from dalib.data import perturb
from dalib.data.mixture import Mixture
from dalib.errors import DataError, TrainingError, UserError
from dalib.models import build, load
from dalib.training import checkpoint, launch, pseudo
from dalib.training import train as training
from dalib.training.step import step_losses
from dalib.training.train import schedule, train


@pytest.fixture(scope="module")
def pool():
    return Smooth(count=10, seed=1, labelled=False)


@pytest.fixture(scope="module")
def labels(tmp_path_factory, pool):
    """Pseudo labels of an untrained teacher: smooth in the image, which is all that these tests
    need."""
    out = tmp_path_factory.mktemp("pseudo")
    pseudo.label(build("lite0", seed=3), pool, out=out, teacher="t", height=64, width=96)
    pseudo.finish(out, teacher="t", source=pool, height=64, width=96)
    return out


def run(config, out, *, labels=None, pool=None, report=quiet, **more):
    """Train on `Smooth` sources; a student where there are labels."""
    extra = (
        {"unlabelled": pool, "pseudo": pseudo.PseudoLabels(labels)} if config.pseudo_labels else {}
    )
    path = train(config, out=out, labelled=Smooth(), report=report, **extra, **more)
    return path.read_bytes()


def metrics(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


# the same bits


KILLED = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from helpers.training import Smooth
from dalib import certificates, paths, provenance
from dalib.config import RunConfig
from dalib.training.pseudo import PseudoLabels
from dalib.training.train import train

def report(line):
    if line.startswith("step 5/"):
        os.kill(os.getpid(), signal.SIGKILL)

train(RunConfig.from_dict(json.loads({config!r})), out=Path({out!r}), labelled=Smooth(), report=report, stamp="s",
      unlabelled=Smooth(count=10, seed=1, labelled=False), pseudo=PseudoLabels(Path({labels!r})))
"""


@pytest.mark.slow
def test_killed_run_ends_with_the_same_bits(tmp_path, tiny_student, pool, labels):
    """SIGKILL after step 5, the last checkpoint being that of step 4; then the run is started
    again."""
    whole = run(tiny_student, tmp_path / "whole", labels=labels, pool=pool, stamp="s")
    out = tmp_path / "killed"
    text = KILLED.format(
        here=str(ROOT / "tests"),
        config=json.dumps(tiny_student.to_dict()),
        out=str(out),
        labels=str(labels),
    )
    env = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.run(
        [sys.executable, "-c", text], env=env, capture_output=True, text=True, check=False
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert [m["step"] for m in metrics(out)] == [1, 2, 3, 4, 5]
    assert [p.name for p in checkpoint.found(out)] == ["step-000000004.pt", "step-000000002.pt"]
    assert not (out / "model.safetensors").exists()
    seen = []
    resumed = run(tiny_student, out, labels=labels, pool=pool, stamp="s", report=seen.append)
    assert [line.split("/")[0] for line in seen] == ["step 5", "step 6"]
    assert resumed == whole
    assert metrics(out) == metrics(tmp_path / "whole")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a tiny run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole")
    run(TINY, out)
    return out


@pytest.mark.parametrize("step", [1, 2, 3, 6])
def test_interrupted_at_any_step(step, tmp_path, tiny, whole):
    with pytest.raises(Interruption):
        run(tiny, tmp_path / "cut", report=interrupt_at(step))
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')  # half a line, as a kill may leave it
    assert run(tiny, tmp_path / "cut") == (whole / "model.safetensors").read_bytes()
    assert metrics(tmp_path / "cut") == metrics(whole)


@pytest.mark.slow
def test_only_the_config_decides(tmp_path, tiny_student, pool, labels):
    """Neither the global generators, nor loader processes, nor checkpoints, nor logging, change a
    bit; the seed does."""
    tiny_student = tiny_student.replace(steps=4)
    torch.manual_seed(1)
    one = run(tiny_student, tmp_path / "a", labels=labels, pool=pool)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002  (that is what must not matter)
    free = tiny_student.replace(workers=2, checkpoint_every=100, log_every=3)
    assert run(free, tmp_path / "b", labels=labels, pool=pool) == one
    assert run(tiny_student.replace(seed=1), tmp_path / "c", labels=labels, pool=pool) != one


def test_a_checkpoint_of_other_code_is_not_continued(tmp_path, tiny):
    tiny = tiny.replace(steps=3)
    with pytest.raises(Interruption):
        run(tiny, tmp_path, report=interrupt_at(3), stamp="old")
    seen = []
    run(tiny, tmp_path, report=seen.append, stamp="new")
    assert seen[0].startswith("step 1/")
    assert [m["step"] for m in metrics(tmp_path)] == [1, 2, 3]


def damage(path, how):
    """A checkpoint as a crash or another program may leave it."""
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        torch.save({"weights": torch.zeros(3)}, path)


@pytest.mark.parametrize("how", ["truncated", "foreign"])
def test_a_damaged_checkpoint_is_named(how, tmp_path, tiny):
    """None is readable: to start anew is for the user to decide, and nothing is removed."""
    with pytest.raises(Interruption):
        run(tiny, tmp_path, report=interrupt_at(3))
    (path,) = checkpoint.found(tmp_path)
    damage(path, how)
    with pytest.raises(
        TrainingError,
        match=r"unreadable checkpoint: .*step-000000002\.pt .* move .*checkpoint away",
    ):
        run(tiny, tmp_path)
    assert path.exists()


@pytest.mark.parametrize("how", ["truncated", "foreign"])
def test_the_checkpoint_before_a_damaged_one_serves(how, tmp_path, tiny, whole):
    with pytest.raises(Interruption):
        run(tiny, tmp_path, report=interrupt_at(5))
    damage(checkpoint.found(tmp_path)[0], how)
    seen = []
    assert run(tiny, tmp_path, report=seen.append) == (whole / "model.safetensors").read_bytes()
    assert "step-000000004.pt: unreadable" in seen[0]
    assert "step 2 of step-000000002.pt" in seen[0]
    assert seen[1].startswith("step 3/")


def test_the_last_two_checkpoints_are_kept(tmp_path, tiny):
    config = tiny.replace(steps=6, checkpoint_every=1)
    with pytest.raises(Interruption):
        run(config, tmp_path, report=interrupt_at(5))
    assert [p.name for p in checkpoint.found(tmp_path)] == [
        "step-000000004.pt",
        "step-000000003.pt",
    ]


@pytest.mark.slow
def test_images_that_changed_under_a_run_are_named(tmp_path, tiny):
    """22 for 24: the order of images would be another one, and the bits too."""
    with pytest.raises(Interruption):
        run(tiny, tmp_path, report=interrupt_at(3))
    with pytest.raises(DataError, match=r"labelled: the images changed .*24 then, 22 now"):
        train(tiny, out=tmp_path, labelled=Smooth(count=22), report=quiet)
    assert checkpoint.found(tmp_path)


# optimisation


def test_schedule_by_hand():
    assert [schedule(k, steps=4) for k in range(4)] == [1, 0.75, 0.5, 0.25]
    assert [schedule(k, steps=6, warmup=2) for k in range(6)] == [0.5, 1, 1, 0.75, 0.5, 0.25]
    assert schedule(0, steps=1) == 1


@pytest.mark.slow
def test_peer_bug_encoder_and_decoder_share_one_learning_rate(tmp_path, tiny, monkeypatch):
    """Encoder parameters at the encoder's rate, decoder parameters at ten times it, both decaying
    linearly; none left out."""
    rates, groups = [], []

    class Spy(torch.optim.AdamW):
        def step(self, closure=None):
            rates.append([g["lr"] for g in self.param_groups])
            groups[:] = [[tuple(p.shape) for p in g["params"]] for g in self.param_groups]
            assert {g["weight_decay"] for g in self.param_groups} == {0.05}
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    run(tiny.replace(weight_decay=0.05), tmp_path)
    assert_allclose(rates, [[1e-3 * f, 1e-2 * f] for f in (1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6)])
    model = build("lite0", pretrained=False)
    assert groups == [
        [tuple(p.shape) for p in part.parameters()] for part in (model.encoder, model.decoder)
    ]
    assert sum(map(len, groups)) == len(list(model.parameters()))


def test_the_gradient_is_clipped(tmp_path, tiny, monkeypatch):
    norms = []

    class Spy(torch.optim.AdamW):
        def step(self, closure=None):
            squares = [
                p.grad.square().sum()
                for g in self.param_groups
                for p in g["params"]
                if p.grad is not None
            ]
            norms.append(sum(squares).sqrt().item())
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    run(tiny.replace(clip=0.01), tmp_path)
    assert_allclose(norms, 0.01, rtol=1e-3)
    # what is logged is the norm before
    assert all(m["grad_norm"] > 0.02 for m in metrics(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("student", [False, True])
def test_training_starts_from_the_pretrained_encoder(
    student, tmp_path, tiny, tiny_student, pool, labels
):
    """Student and teacher alike; the student is never the teacher continued. A rate of 1e-30
    changes nothing."""
    config = (tiny_student if student else tiny).replace(encoder_lr=1e-30, steps=1)
    run(config, tmp_path, labels=labels, pool=pool)
    start, end = (
        build("lite0", seed=0).state_dict(),
        load(tmp_path / "model.safetensors").state_dict(),
    )
    assert all(torch.equal(start[k], end[k]) for k in start)


@pytest.mark.slow
def test_tiny_overfit(tmp_path, tiny):
    config = tiny.replace(steps=40, encoder_lr=3e-4, checkpoint_every=100)
    train(config, out=tmp_path, labelled=Smooth(count=2), report=quiet)
    loss = [m["loss"] for m in metrics(tmp_path)]
    assert np.mean(loss[-5:]) < 0.5 * np.mean(loss[:3])


def test_bf16(tmp_path, tiny):
    """A run in bfloat16 after one in float32, in the same process: close, and not the same."""
    tiny = tiny.replace(steps=2)
    run(tiny, tmp_path / "a")
    # emulated on most processors: a second a step and more
    run(tiny.replace(precision="bf16"), tmp_path / "b")
    exact, rough = (np.array([m["loss"] for m in metrics(tmp_path / x)]) for x in "ab")
    assert_allclose(rough[0], exact[0], rtol=0.05)
    assert not np.array_equal(rough, exact)
    weights = load(tmp_path / "b" / "model.safetensors").state_dict().values()
    assert all(torch.isfinite(v).all() for v in weights)
    assert {v.dtype for v in weights} <= {torch.float32, torch.int64}


# what a step consists of


losses_of = inspect.unwrap(step_losses)  # without the runtime type check, which insists on networks


def frozen(images):
    return [None, F.avg_pool2d(images, 16).flip(1)]


def reference_loss(pred, target, valid):
    p, t = (np.asarray(x, np.float64)[np.asarray(valid)] for x in (pred, target))
    if not len(p):
        return 0.0
    medians = [np.sort(x)[(len(x) - 1) // 2] for x in (p, t)]
    p, t = ((x - m) / max(np.abs(x - m).mean(), 1e-5) for x, m in zip((p, t), medians, strict=True))
    return np.abs(p - t).mean()


@pytest.fixture
def batch(tiny_student, pool, labels):
    return Mixture(
        config=tiny_student, labelled=Smooth(), unlabelled=pool, pseudo=pseudo.PseudoLabels(labels)
    )[0]


@pytest.mark.parametrize("kinds", [(), ("colour",), ("colour", "blur", "cutmix")])
@pytest.mark.parametrize("seed", range(3))
def test_step_by_hand(kinds, seed, tiny_student, batch):
    """Clean labelled images, perturbed unlabelled ones; the label of whoever shows, normalised
    region by region."""
    config = tiny_student.replace(perturb=kinds, seed=seed, align="unlabelled" if kinds else "none")
    parts = losses_of(config, Plain(), Plain(), frozen if kinds else None, batch)
    clean = batch["image"].float() / 255
    expected = [
        reference_loss(p.mean(0), d, v)
        for p, d, v in zip(clean, batch["disparity"], batch["valid"], strict=True)
    ]
    assert parts["labelled"].item() == pytest.approx(np.mean(expected), rel=1e-4)

    drawn = perturb.draw(
        [(seed, 7, int(p)) for p in batch["pool_position"]], kinds, height=64, width=96
    )
    images, _ = perturb.apply(batch["pool_image"].float() / 255, drawn)
    expected = []
    for i, image in enumerate(images):
        pred, own, other = image.mean(0), batch["pool_disparity"][i], batch["pool_disparity"][i ^ 1]
        hole = np.zeros(own.shape, bool)
        if drawn.box is not None:
            top, left, bottom, right = drawn.box[i].tolist()
            hole[top:bottom, left:right] = True
        share = hole.mean()
        expected.append(
            share * reference_loss(pred, other, hole)
            + (1 - share) * reference_loss(pred, own, ~hole)
        )
    assert parts["unlabelled"].item() == pytest.approx(np.mean(expected), rel=1e-4)

    assert ("feat" in parts) == bool(kinds)
    if kinds:  # the frozen encoder sees what the student sees
        cells = F.avg_pool2d(images, 16).double().numpy()
        other = cells[:, ::-1]
        cosine = (
            (cells * other).sum(1) / np.linalg.norm(cells, axis=1) / np.linalg.norm(other, axis=1)
        )
        expected = np.where(cosine < config.margin, 1 - cosine, 0).mean()
        assert parts["feat"].item() == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_alignment_on_each_choice_of_images(tiny_student, batch):
    """Both is the mean of labelled and unlabelled, weighted by their numbers 2 and 4."""
    config = tiny_student.replace(margin=1.0)
    feat = {
        align: losses_of(config.replace(align=align), Plain(), Plain(), frozen, batch)[
            "feat"
        ].item()
        for align in ("labelled", "unlabelled", "both")
    }
    assert feat["both"] == pytest.approx((feat["labelled"] + 2 * feat["unlabelled"]) / 3, rel=1e-5)
    assert feat["labelled"] != feat["unlabelled"]


def test_logged_losses_are_averaged(tmp_path, tiny_student, pool, labels):
    run(tiny_student.replace(align_weight=2.0, steps=2), tmp_path, labels=labels, pool=pool)
    for m in metrics(tmp_path):
        assert m["loss"] == pytest.approx(
            (m["labelled"] + m["unlabelled"] + 2 * m["feat"]) / 4, rel=1e-5
        )


# stops


def test_nan_stops_with_step_images_and_state(tmp_path, tiny):
    """A rate of 1e37 ruins the weights in step 0, so that step 1 has a loss that is no number."""
    config = tiny.replace(encoder_lr=1e37, decoder_lr_factor=1.0)
    with pytest.raises(TrainingError) as caught:
        run(config, tmp_path)
    ids = Mixture(config=config, labelled=Smooth())[1]["index"].tolist()
    for words in (
        "not finite at step 1 ",
        f"labelled images {ids}",
        str(tmp_path / "failed" / "step-000000001.pt"),
    ):
        assert words in str(caught.value)
    state = torch.load(tmp_path / "failed" / "step-000000001.pt", weights_only=True)
    assert state["step"] == 1
    assert state["optimiser"]["state"][0]["step"].item() == 1
    assert not (tmp_path / "model.safetensors").exists()


def test_a_gradient_that_is_not_finite_stops_before_it_is_applied(tmp_path, tiny, monkeypatch):
    """The loss is finite, its gradient is not: 0 * the slope of a root at 0."""
    monkeypatch.setattr(
        training.losses,
        "total",
        lambda parts, _: parts["labelled"] + (0 * parts["labelled"]).sqrt(),
    )
    with pytest.raises(TrainingError, match="gradient is not finite at step 0 "):
        run(tiny, tmp_path)
    state = torch.load(tmp_path / "failed" / "step-000000000.pt", weights_only=True)["model"]
    start = build("lite0", seed=0)
    assert all(torch.equal(v, state[k]) for k, v in start.state_dict().items())


def test_the_world_size_is_asserted(tmp_path, tiny):
    with pytest.raises(TrainingError, match="asked for 2, but 1 run"):
        run(tiny, tmp_path, processes=2)


# launch: what is trained, and what is not trained again


def test_a_whole_run_is_not_trained_again(tiny, launched, runs):
    config = tiny.replace(steps=2)
    path = launch.ensure_weights(config, report=quiet)
    assert path == runs / config.hash() / "model.safetensors"
    done = json.loads((path.parent / "train.json").read_text())
    assert (done["stamp"], done["processes"], done["threads"]) == (
        "c0de",
        1,
        torch.get_num_threads(),
    )
    assert done["wall_seconds"] > 0
    assert 100 < done["peak_memory_mb"] < 1e5
    assert RunConfig.from_dict(json.loads((path.parent / "config.json").read_text())) == config
    before = path.stat().st_mtime_ns
    assert launch.ensure_weights(config, report=quiet) == path
    assert launched == [config.hash()]
    assert path.stat().st_mtime_ns == before


def test_other_code_trains_again_and_what_it_finds_is_kept(tiny, launched, monkeypatch):
    config, lines = tiny.replace(steps=2), []
    path = launch.ensure_weights(config, report=quiet)
    before = path.read_bytes()
    (path.parent / "of the user").touch()
    monkeypatch.setattr(provenance, "code_hash", lambda part: "0ther")
    assert not launch.trained(config)
    launch.ensure_weights(config, report=lines.append)
    assert launched == [config.hash()] * 2
    assert json.loads((path.parent / "train.json").read_text())["stamp"] == "0ther"
    kept = path.parent.with_name(f"{config.hash()}-code-c0de-1")
    assert lines[0] == f"what {path.parent} held is kept as {kept.name}"
    assert (kept / path.name).read_bytes() == before
    assert {p.name for p in kept.iterdir()} >= {
        "of the user",
        "train.json",
        "config.json",
        "metrics.jsonl",
    }


def test_a_whole_run_whose_images_changed_says_so(tiny, tmp_path):
    """Its weights stay, and are handed out; a reader is told that they are of other images."""
    for k, sample in enumerate(Smooth(count=4)):
        Image.fromarray(sample["image"].permute(1, 2, 0).numpy()).save(tmp_path / f"{k}.png")
        np.save(tmp_path / f"{k}.npy", sample["disparity"].numpy())
    rows = [f"{k}.png,{k}.npy,disparity,1" for k in range(4)]
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(["image,depth,kind,depth_scale", *rows]))
    config, lines = tiny.replace(steps=2, labelled=(f"depth:{tmp_path}",)), []
    path = launch.ensure_weights(config, report=quiet)
    assert launch.ensure_weights(config, report=lines.append) == path
    assert lines == []
    manifest.write_text("\n".join(["image,depth,kind,depth_scale", *rows[:3]]))
    before = path.stat().st_mtime_ns
    assert launch.ensure_weights(config, report=lines.append) == path
    assert path.stat().st_mtime_ns == before
    assert "labelled: the images changed since this run began (4 then, 3 now" in lines[0]
    assert "move that folder away to train anew" in lines[0]


def certificate(old, new, *, equal):
    """A committed certificate that joins two codes, as `certify` writes it."""
    sides = {
        "from": dict.fromkeys(certificates.PARTS, old),
        "to": dict.fromkeys(certificates.PARTS, new),
    }
    paths.certificates().mkdir(parents=True, exist_ok=True)
    text = json.dumps({"schema": 1, "created": "2026", "equal": equal, **sides})
    (paths.certificates() / f"{old}-{new}.json").write_text(text)


@pytest.mark.slow
def test_certified_code_is_not_trained_again_and_goes_on(tiny, launched, monkeypatch, tmp_path):
    """Weights stay, and so do checkpoints: a chain of two certificates joins the code that made
    them to today's."""
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    config, other, seen = tiny.replace(steps=2), tiny.replace(steps=4), []
    path = launch.ensure_weights(config, report=quiet)
    with pytest.raises(Interruption):
        launch.ensure_weights(other, report=interrupt_at(3))
    monkeypatch.setattr(provenance, "code_hash", lambda part: "0ther")
    certificate("c0de", "between", equal=["training"])
    certificate("between", "0ther", equal=["evaluation"])
    assert not launch.trained(config)
    certificate("between", "0ther", equal=["training"])
    assert launch.ensure_weights(config, report=quiet) == path
    launch.ensure_weights(other, report=seen.append)
    assert seen[0].startswith("step 3/4")
    assert launched == [config.hash(), other.hash(), other.hash()]


@pytest.mark.slow
def test_a_damaged_job_costs_no_checkpoint(tmp_path, tiny, launched):
    """`job.json` says which code began the run; without it the checkpoint itself does."""
    tiny, seen = tiny.replace(steps=4), []
    with pytest.raises(Interruption):
        launch.ensure_weights(tiny, report=interrupt_at(3))
    (launch.folder(tiny) / "job.json").write_text('{"config": {')
    weights = launch.ensure_weights(tiny, report=seen.append)
    assert seen[0].startswith("step 3/4")
    assert weights.read_bytes() == run(tiny, tmp_path / "whole")


@pytest.mark.slow
def test_checkpoints_of_other_code_are_kept_under_another_name(tmp_path, tiny):
    with pytest.raises(Interruption):
        run(tiny, tmp_path, report=interrupt_at(5), stamp="old")
    before = {p.name: p.read_bytes() for p in checkpoint.found(tmp_path)}
    run(tiny.replace(steps=3), tmp_path, stamp="new")
    kept = {
        p.name.removeprefix("code-old-"): p.read_bytes()
        for p in (tmp_path / "checkpoint").glob("code-old-*")
    }
    assert kept == before


def test_the_time_of_all_legs_is_added_up(tiny, launched, monkeypatch):
    tiny = tiny.replace(steps=4)
    out = launch.folder(tiny)
    with pytest.raises(Interruption):
        launch.ensure_weights(tiny, report=interrupt_at(3))
    (first,) = json.loads((out / "legs.json").read_text())["seconds"]
    # as if another leg had taken long
    (out / "legs.json").write_text(json.dumps({"seconds": [first, 1000]}))
    launch.ensure_weights(tiny, report=quiet)
    done = json.loads((out / "train.json").read_text())
    assert done["legs"] == 3
    assert 1000 + first < done["wall_seconds"] < 1100 + first


@pytest.mark.parametrize("lost", ["train.json", "model.safetensors"])
def test_half_a_result_is_not_taken_for_a_whole_one(lost, tiny, launched):
    config = tiny.replace(steps=2)
    path = launch.ensure_weights(config, report=quiet)
    first = path.read_bytes()
    (path.parent / lost).unlink()
    assert not launch.trained(config)
    assert launch.ensure_weights(config, report=quiet).read_bytes() == first
    assert len(launched) == 2


def test_a_student_trains_its_teacher_once(tiny_student, launched, runs):
    naive = tiny_student.replace(steps=2, perturb=(), align="none")
    other = naive.replace(perturb=("blur",))
    lines = []
    launch.ensure_weights(naive, report=lines.append)
    launch.ensure_weights(other, report=lines.append)
    assert launched == [naive.teacher_run().hash(), naive.hash(), other.hash()]
    assert lines.count("labelling 8 images") == 1
    assert any(line.startswith("teacher: step 2/2") for line in lines)
    (manifest,) = (runs / naive.teacher_run().hash()).glob("pseudo-*/manifest.json")
    manifest = json.loads(manifest.read_text())
    assert (
        manifest["teacher"]
        == pseudo.sha256(runs / naive.teacher_run().hash() / "model.safetensors")[:16]
    )
    assert manifest["count"] == 8


def test_an_interrupted_launch_goes_on(tmp_path, tiny, launched):
    tiny, seen = tiny.replace(steps=4), []
    with pytest.raises(Interruption):
        launch.ensure_weights(tiny, report=interrupt_at(3))
    weights = launch.ensure_weights(tiny, report=seen.append)
    assert seen[0].startswith("step 3/4")
    assert [m["step"] for m in metrics(weights.parent)] == [1, 2, 3, 4]
    assert weights.read_bytes() == run(tiny, tmp_path / "whole")


def test_an_interrupted_launch_of_other_code_starts_afresh(tiny, launched, monkeypatch):
    tiny, seen = tiny.replace(steps=3), []
    with pytest.raises(Interruption):
        launch.ensure_weights(tiny, report=interrupt_at(3))
    monkeypatch.setattr(provenance, "code_hash", lambda part: "0ther")
    launch.ensure_weights(tiny, report=seen.append)
    assert "is kept as" in seen[0]
    assert seen[1].startswith("step 1/3")


# a disk that refuses


FULL = {
    "checkpoint": (
        "torch.save",
        RuntimeError("[enforce fail at inline_container.cc] . unexpected pos 64 vs 0"),
    ),
    "shard": (
        "dalib.training.pseudo.save_file",
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ),
    "weights": (
        "dalib.models.depth_anything.save_file",
        SafetensorError("I/O error: No space left on device"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", FULL)
def test_a_full_disk_is_one_line_that_names_the_file(what, tiny_student, launched, monkeypatch):
    """In training and in labelling; what was whole before stays, and the run goes on from it once
    there is space."""
    config = tiny_student.replace(steps=4, align="none")
    with monkeypatch.context() as patch:
        place, error = FULL[what]

        def refuse(*args, **options):
            raise error

        patch.setattr(place, refuse)
        with pytest.raises(
            UserError, match=r"could not be written .*free some space|Free some space"
        ) as caught:
            launch.ensure_weights(config, report=quiet)
    named = {
        "checkpoint": "step-000000002.pt",
        "shard": "000000000.safetensors",
        "weights": ".safetensors",
    }[what]
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert launch.ensure_weights(config, report=quiet).is_file()
    assert not list(paths.runs().rglob("*.partial"))


def test_weights_have_the_permissions_of_the_umask(tmp_path, tiny):
    before = os.umask(0o027)
    try:
        run(tiny.replace(steps=2), tmp_path)
    finally:
        os.umask(before)
    assert {p.name: oct(p.stat().st_mode & 0o777) for p in tmp_path.glob("*.safetensors")} == {
        "model.safetensors": "0o640",
        "at_two_thirds.safetensors": "0o640",
    }
