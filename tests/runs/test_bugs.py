"""The bugs beside their notebook: by hand, switched on and off again, and never where a true run is
looked for."""

import json
import subprocess
import sys

import pytest
import torch
from helpers.fabricated import record, root
from helpers.training import quiet

from dabook.pages import bug_prices
from dabook.runs import bugs, faulty, records
from dabook.runs.experiments import expand
from dalib import losses, provenance
from dalib.config import RunConfig
from dalib.data import perturb
from dalib.data.scenes import Scenes
from dalib.errors import ConfigError, DataError
from dalib.evaluation import protocols, run, suite
from dalib.evaluation.protocols import PROTOCOLS
from dalib.training import launch
from dalib.writing import write_text


def row(*values) -> torch.Tensor:
    """One map (1, 1, w)."""
    return torch.tensor([[list(values)]], dtype=torch.float32)


def test_a_mean_for_the_median():
    """0, 0, 0, 10 and a hole: mean 2.5, mean deviation (3 x 2.5 + 7.5) / 4 = 3.75; the median is 0,
    its scale 2.5."""
    d, valid = row(0, 0, 0, 10, 99), row(1, 1, 1, 1, 0).bool()
    assert [x.item() for x in faulty.mean_for_median(d, valid)] == [2.5, 3.75]
    assert [x.item() for x in losses.median_scale(d, valid)] == [0, 2.5]


def test_zeros_in_the_median():
    """5, 6, 7 and four holes: with their zeros the median is 0, and the scale 6; without, 6 and
    2/3."""
    d, valid = row(5, 6, 7, 9, 9, 9, 9), row(1, 1, 1, 0, 0, 0, 0).bool()
    assert [x.item() for x in faulty.zeros_in_median(d, valid)] == [0, 6]
    assert [x.item() for x in losses.median_scale(d, valid)] == pytest.approx([6, 2 / 3])


def test_divided_by_all_pixels():
    """Normalised, 0 1 5 is -1/(5/3) 0 4/(5/3) and 0 1 2 is -1.5 0 1.5: errors 0.9, 0, 0.9. Over
    three 0.6; over six 0.3."""
    pred, target, valid = row(0, 1, 5, 0, 0, 0), row(0, 1, 2, 0, 0, 0), row(1, 1, 1, 0, 0, 0).bool()
    assert losses.affine_invariant(pred, target, valid).item() == pytest.approx(0.6)
    assert faulty.all_pixels(pred, target, valid).item() == pytest.approx(0.3)


def test_a_trimmed_loss_that_trims_nothing():
    """Of five errors the worst is left out by the one, and by the other nothing is."""
    target, valid = row(-2, -1, 0, 1, 2), row(1, 1, 1, 1, 1).bool()
    pred = row(-2, -1, 0, 1, 32)  # shift 0, scale 7.2 against 1.2
    errors = sorted(
        abs(p / 7.2 - t / 1.2) for p, t in zip((-2, -1, 0, 1, 32), (-2, -1, 0, 1, 2), strict=True)
    )
    assert faulty.trimmed(pred, target, valid).item() == pytest.approx(sum(errors[:4]) / 4)
    assert faulty.untrimmed(pred, target, valid).item() == pytest.approx(sum(errors) / 5)


def test_the_untrimmed_loss_is_the_one_that_never_trims():
    pred, target = torch.rand(2, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    valid = torch.rand(3, 9, 11, generator=torch.Generator().manual_seed(1)) < 0.7
    torch.testing.assert_close(
        faulty.untrimmed(pred, target, valid),
        losses.affine_invariant(pred, target, valid),
        rtol=1e-5,
        atol=1e-6,
    )


def test_an_integer_for_empty_masks_ends_the_run():
    pred, valid = torch.ones(2, 3, 3, requires_grad=True), torch.ones(2, 3, 3, dtype=torch.bool)
    assert faulty.int_zero(pred, pred.detach(), valid).shape == (2,)
    with pytest.raises(AttributeError, match="'int' object"):
        faulty.int_zero(pred, pred.detach(), ~valid).mean()


@pytest.mark.parametrize(
    ("margin", "true", "wrong"), [(0.4, 0.5, 0.0), (0.6, 0.5, 0.5), (1.1, 0.5, 0.5)]
)
def test_the_margin_on_the_mean_of_the_batch(margin, true, wrong):
    """Cosines 1 and 0, mean 0.5: below the margin all count, above it none does; token by token it
    is the second alone."""
    student = torch.tensor([[[[1.0, 1.0]], [[0.0, 0.0]]]], requires_grad=True)
    frozen = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    assert losses.feature_alignment(student, frozen, margin=margin).item() == pytest.approx(true)
    loss = faulty.batch_margin(student, frozen, margin=margin)
    assert loss.tolist() == pytest.approx([wrong])
    loss.sum().backward()
    assert bool(student.grad.any()) == (wrong > 0)


def test_one_box_for_all_and_for_as_many():
    keys = [(0, 7, i) for i in range(200)]
    true, fixed = (
        f(keys, ("blur", "cutmix"), height=8, width=12) for f in (perturb.draw, faulty.fixed_box)
    )
    mixed = (true.box[:, 2] > true.box[:, 0]).tolist()
    assert fixed.box.tolist() == [[2, 3, 6, 9] if m else [0, 0, 0, 0] for m in mixed]
    assert len({tuple(b) for b in true.box.tolist()}) > 20
    assert torch.equal(fixed.sigma, true.sigma)
    assert faulty.fixed_box(keys, ("blur",), height=8, width=12).box is None


def test_disparity_fitted_to_depth():
    """Disparities 1, 1/2, 1/4 (depths 1, 2, 4), predicted without fault, still miss a line in
    depth: its slope is cov / var."""
    t = row(1, 0.5, 0.25)
    valid, protocol = torch.ones_like(t, dtype=torch.bool), PROTOCOLS["scenes"]
    assert protocols.score(t, t, valid, protocol)["abs_rel"].item() == pytest.approx(0, abs=1e-9)
    p, z = (1, 0.5, 0.25), (1, 2, 4)
    mp, mz = sum(p) / 3, sum(z) / 3
    slope = sum((a - mp) * (b - mz) for a, b in zip(p, z, strict=True)) / sum(
        (a - mp) ** 2 for a in p
    )
    wrong = sum(abs(slope * (a - mp) + mz - b) / b for a, b in zip(p, z, strict=True)) / 3
    assert wrong > 0.1
    assert faulty.wrong_space(t, t, valid, protocol)["abs_rel"].item() == pytest.approx(wrong)


def test_a_solve_without_a_guard():
    """Right where the map varies, and a rounding error, infinite or not a number where it does not;
    half sums overflow."""
    p, valid = row(1, 2, 3, 4), row(1, 1, 1, 0).bool()
    scale, shift = faulty.unguarded(p, row(3, 5, 7, 0), valid)
    assert (scale.item(), shift.item()) == pytest.approx((2, 1))
    flat, ramp = (
        torch.full((1, 64, 64), 0.1),
        torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0)),
    )
    whole = torch.ones(1, 64, 64, dtype=torch.bool)
    assert protocols.least_squares(flat, ramp, whole)[0].item() == 0
    assert not abs(faulty.unguarded(flat, ramp, whole)[0].item()) < 1e-3
    whole = torch.ones(1, 518, 518, dtype=torch.bool)
    assert not torch.isfinite(
        faulty.unguarded(whole.float(), whole.float(), whole, dtype=torch.half)[0]
    ).any()


class Two:
    """Two images, scored on 1 and on 3 pixels; the rest is sky."""

    domain = "two"

    def __len__(self):
        return 2

    def __getitem__(self, i):
        if i > 1:
            raise IndexError
        disparity = row(1, 0, 0, 0) if i == 0 else row(1, 0.5, 0.25, 0)
        return {
            "image": torch.zeros(3, 1, 4),
            "disparity": disparity[0],
            "valid": torch.ones(1, 4).bool(),
            "domain": "two",
        }


def test_pixels_pooled_over_images():
    """A constant scores 0 on the image of one pixel. Pooled, the other one has 3 of 4 pixels, and
    not half of the mean."""

    def constant(images):
        return [torch.ones(1, 4) for _ in images]

    true, wrong = (
        f(constant, Two(), PROTOCOLS["scenes"])["abs_rel"]
        for f in (run.evaluate_source, faulty.pooled)
    )
    assert true[0] == pytest.approx(0)
    assert true[1] > 0.1
    assert sum(wrong) / 2 == pytest.approx(3 / 4 * true[1])


def test_a_crop_that_is_never_used():
    with faulty.switched_on("cropped"):
        cropped = suite.PROTOCOLS["scenes"]
        assert (cropped.crop, cropped.max_depth) == ("garg", 80)
        assert not cropped.crop_mask(96, 128).all()
        with faulty.switched_on("crop_unused"):
            assert cropped.crop_mask(96, 128).all()
    assert suite.PROTOCOLS["scenes"].crop is None


def test_holes_hide_up_to_three_fifths_of_a_label_and_nothing_else(monkeypatch):
    shares = torch.stack([faulty.hidden(i, 24, 32).float().mean() for i in range(100)])
    assert shares.min() < 0.03
    assert 0.5 < shares.max() <= 0.61
    assert shares.mean().item() == pytest.approx(0.3, abs=0.05)
    true = Scenes(split="labelled", count=6, height=32, width=48)
    monkeypatch.setattr(faulty, "sources", lambda config: (true, "pool"))
    holed, pool = faulty.with_holes(RunConfig())
    assert pool == "pool"
    plain, batch = true.get_batch([4, 1]), holed.get_batch([4, 1])
    assert torch.equal(batch["valid"], ~torch.stack([faulty.hidden(i, 32, 48) for i in (4, 1)]))
    assert torch.equal(batch["disparity"], torch.where(batch["valid"], plain["disparity"], 0))
    assert torch.equal(batch["image"], plain["image"])
    assert torch.equal(holed[1]["valid"], batch["valid"][1])
    assert holed.fingerprint != true.fingerprint


def test_the_learning_rates_that_are_one():
    config = RunConfig(encoder_lr=1e-4, decoder_lr_factor=10.0)
    rates = {
        n: faulty.settings(faulty.VARIANTS[f"one_rate_{n}"], config) for n in ("encoder", "decoder")
    }
    assert {n: (c.encoder_lr, c.decoder_lr_factor) for n, c in rates.items()} == {
        "encoder": (1e-4, 1),
        "decoder": (1e-3, 1),
    }
    assert faulty.settings(faulty.VARIANTS["fixed_box"], config) == config


@pytest.mark.parametrize("name", faulty.SWITCHES)
def test_a_switch_is_off_again_whatever_happens(name):
    owner, attribute, twin = faulty.SWITCHES[name]
    true = getattr(owner, attribute)
    assert true is not twin
    seen = []

    def fail():
        with faulty.switched_on(name):
            seen.append(getattr(owner, attribute))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == [twin]
    assert getattr(owner, attribute) is true


def test_unknown_names_are_refused_with_the_known_ones():
    with (
        pytest.raises(ConfigError, match=r"unknown switch 'holse'. Did you mean 'holes'"),
        faulty.switched_on("holse"),
    ):
        pass
    with pytest.raises(
        ConfigError,
        match=r"unknown bug 'fixed_bxo'. Did you mean 'fixed_box'.*Known: mean_for_median",
    ):
        bugs.run(profile="smoke", bug="fixed_bxo")


def test_the_command_line_says_what_is_wrong(capsys):
    assert bugs.main(["--profile", "smoke", "--bug", "pooled", "--seed", "0"]) == 1
    assert (
        "python -m dabook row main_table full --profile smoke --seed 0" in capsys.readouterr().err
    )
    assert bugs.main(["--profile", "smoke", "--bug", "fixed_box"]) == 1
    assert "python -m dabook row main_table perturbed --profile smoke" in capsys.readouterr().err
    assert bugs.main(["--seeds", "0"]) == 1
    assert bugs.main(["--profile", "smoke", "--list"]) == 0
    assert "missing mean_for_median seed 0" in capsys.readouterr().out


def test_variants_make_sense():
    for name, variant in faulty.VARIANTS.items():
        assert variant.row in ("labelled_only", "perturbed", "full")
        assert set(variant.switches) <= faulty.SWITCHES.keys()
        if variant.against:
            other = faulty.VARIANTS[variant.against]
            assert not other.bug
            assert (other.row, other.trained) == (variant.row, variant.trained), name
    assert faulty.VARIANTS.keys() == bug_prices.WORDS.keys()
    assert sorted(n for names in bug_prices.GROUPS.values() for n in names) == sorted(
        bug_prices.TRAINED
    )


@pytest.mark.slow
def test_a_run_under_a_bug_is_never_taken_for_a_true_one(launched, tiny, runs):
    """It lands in a folder and under a stamp of its own, differs from the true run, and leaves that
    one's files alone."""
    launch.ensure_weights(tiny, report=quiet)
    before = {p: p.read_bytes() for p in launch.folder(tiny).rglob("*") if p.is_file()}
    training = faulty.learn("mean_for_median", tiny, stamp="c0de", report=quiet)
    out = faulty.folder("mean_for_median", tiny)
    assert out.is_relative_to(runs / "bugs")
    assert training["stamp"] == "bug mean_for_median c0de" != provenance.code_hash("training")
    assert before == {p: p.read_bytes() for p in launch.folder(tiny).rglob("*") if p.is_file()}
    assert (out / launch.WEIGHTS).read_bytes() != (
        launch.folder(tiny) / launch.WEIGHTS
    ).read_bytes()
    assert launched == [tiny.hash()] * 2
    faulty.learn("mean_for_median", tiny, stamp="c0de", report=quiet)
    assert len(launched) == 2, "what is trained is not trained again"
    faulty.learn("mean_for_median", tiny, stamp="other", report=quiet)
    assert len(launched) == 3
    assert not {c.hash() for c in (tiny, tiny.replace(seed=1))} & {
        p.name for p in (runs / "bugs").iterdir()
    }


@pytest.mark.slow
def test_a_bug_that_is_off_trains_the_true_network(launched, tiny, monkeypatch):
    launch.ensure_weights(tiny, report=quiet)
    monkeypatch.setitem(faulty.VARIANTS, "nothing", faulty.Variant())
    faulty.learn("nothing", tiny, stamp="c0de", report=quiet)
    true, ours = (f / launch.WEIGHTS for f in (launch.folder(tiny), faulty.folder("nothing", tiny)))
    assert true.read_bytes() == ours.read_bytes()


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Records under a temporary root: level of the error by variant or row, and its change from
    seed to seed."""
    monkeypatch.setenv("DALIB_ROOT", str(root(tmp_path / "checkout")))

    def write(levels: dict[str, float], *, code: str | None = None) -> None:
        table = expand("main_table", profile="study", seeds=3)
        for name, level in levels.items():
            true = table[faulty.VARIANTS[name].row if name in faulty.VARIANTS else name]
            for config in true.configs:
                made = record(true, config, level=level + 0.001 * config.seed, code=code)
                if name not in faulty.VARIANTS:
                    records.write(made, committed=True)
                    continue
                variant = faulty.VARIANTS[name]
                own = {
                    "experiment": "bugs",
                    "row": name,
                    "hash": f"{name}-{config.hash()}",
                    "bugs_hash": bugs.bugs_hash(),
                    "switches": list(variant.switches),
                    "against": variant.against or variant.row,
                    "true_run": config.hash(),
                    "weights": None,
                }
                made = records.compose(bugs.KIND, made | own)
                write_text(bugs.path(name, config, committed=True), records.dump(made))

    return write


@pytest.mark.slow
def test_records_and_their_states(study):
    study({"fixed_box": 0.3})
    found = {(e.row.name, e.config.seed): e.status for e in bugs.entries()}
    assert found["fixed_box", 2] == "fresh"
    assert found["pooled", 0] == "missing"
    assert len(found) == 3 * len(faulty.VARIANTS)
    study({"fixed_box": 0.3}, code="0ld")
    entry = next(e for e in bugs.entries() if e.row.name == "fixed_box")
    assert entry.status == "stale"
    file = bugs.path("fixed_box", entry.config, committed=True)
    assert not records.entries(expand("main_table", profile="study"))[0].record
    file.write_text(json.dumps({k: v for k, v in entry.record.items() if k != "bugs_hash"}))
    with pytest.raises(DataError, match=r"fixed_box-\w+\.json.*bugs_hash"):
        bugs.entries()


def test_another_version_of_the_bugs_makes_a_record_stale(study, monkeypatch):
    study({"pooled": 0.3})
    monkeypatch.setattr(bugs, "bugs_hash", lambda: "0ther")
    assert {e.status for e in bugs.entries() if e.row.name == "pooled"} == {"stale"}


LEVELS = {
    "labelled_only": 0.2,
    "perturbed": 0.2,
    "full": 0.2,
    "holes": 0.25,
    "cropped": 0.1,
    "trimmed": 0.2,
}
PRICES = {
    "mean_for_median": 0.21,
    "zeros_in_median": 0.3,
    "fixed_box": 0.2,
    "untrimmed": 0.19,
    "wrong_space": 0.3,
}


@pytest.mark.slow
def test_prices_by_hand(study):
    """In percent of what each is compared with, whose mean over the three seeds is 0.001 above the
    level."""
    study(LEVELS | PRICES)
    found = bug_prices.Bugs()
    assert found.change("mean_for_median").mean == pytest.approx(100 * 0.01 / 0.201, rel=1e-3)
    assert found.change("zeros_in_median").mean == pytest.approx(100 * 0.05 / 0.251, rel=1e-3)
    verdicts = {n: bug_prices.price(found.change(n)) for n in (*PRICES, "pooled")}
    assert verdicts == {
        "mean_for_median": "raises the error",
        "zeros_in_median": "raises the error",
        "fixed_box": "changes nothing",
        "untrimmed": "lowers the error",
        "wrong_space": "raises the error",
        "pooled": "not yet recorded",
    }
    text = bug_prices.answer(found)
    dearest = "“zeros in the median, labels with holes”, raises the error by 19.9 %"
    assert text.startswith(
        f"Of 4 bugs in training, 2 can be seen to raise the error: the dearest, {dearest}"
    )
    assert "“aligned in the wrong space”, +49.8 %" in text
    study({"unguarded": 0.2})
    assert "“a solve without a guard”, +0.0 %, which changes nothing." in bug_prices.answer(
        bug_prices.Bugs()
    )
    assert "So far 0 to 3 of 3 seeds per row are recorded." in text
    assert "raises the error by 24.9 %" in bug_prices.holes(found)


@pytest.mark.slow
def test_the_tables_link_each_price_to_its_records(study):
    study(LEVELS | PRICES)
    found = bug_prices.Bugs()
    shown = bug_prices.table(found, bug_prices.TRAINED).text
    assert "a mean for the median" in shown
    assert '<a href="../notebooks/bugs.html#records-study-mean-for-median">+5.0</a>' in shown
    assert "python -m dabook.runs.bugs --profile study" in shown
    study({"pooled": 0.25})
    on_real = bug_prices.real(bug_prices.Bugs()).text
    assert "pixels pooled over images" in on_real
    assert ">+22.6<" in on_real  # 0.05 / (0.2 + 0.001 + 0.02), in percent


def test_nothing_recorded_is_said_so(study):
    found = bug_prices.Bugs()
    assert bug_prices.answer(found) == "These runs are not yet recorded."
    assert "not yet recorded" in bug_prices.real(found).text
    assert ">nan" not in bug_prices.table(found, bug_prices.SCORED).text


def test_what_has_no_price_is_shown():
    shown = bug_prices.demonstrations().text
    assert "AttributeError" in shown
    assert "scale nan" in shown
    assert "loss 0, gradient 0" in shown


@pytest.mark.slow
def test_two_bugs_are_priced_on_scenes_and_only_once(runs):
    """One in training and one in the score, as from a command line; the true networks are read and
    nothing else."""

    def python(*words) -> str:
        """Without the tests' type checks, under which no cache of scenes can be read."""
        done = subprocess.run(
            [sys.executable, *words, "--profile", "smoke"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    python("-m", "dabook", "row", "main_table", "full")
    true = [p for p in runs.rglob("*") if p.is_file() and "cache" not in p.parts]
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in true}
    for name in ("zeros_in_median", "pooled", "pooled"):
        said = python("-m", "dabook.runs.bugs", "--bug", name)
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in true}
    assert said == "2 of 17 are recorded\n", "a fresh record is not made again"
    found = {e.row.name: e for e in bugs.entries(profile="smoke") if e.record}
    for name, entry in found.items():
        assert (entry.status, entry.record["true_run"]) == ("fresh", entry.config.hash())
        assert entry.record["switches"] == list(faulty.VARIANTS[name].switches)
        assert (entry.record["weights"] is None) == (name != "pooled")
        assert len(entry.record["images"]["validation"]["abs_rel"]) == 4
    kept = list((runs / "bugs").rglob("model.safetensors"))
    # the other one only scores
    assert [p.relative_to(runs / "bugs").parts[0] for p in kept] == ["zeros_in_median"]
    whole = json.loads(
        (runs / "records" / "main_table" / f"{found['pooled'].config.hash()}.json").read_text()
    )
    assert found["pooled"].record["images"]["night_street"] != whole["images"]["night_street"]
    assert (
        found["pooled"].record["images"]["drawn_room"] == whole["images"]["drawn_room"]
    )  # no sky: all images count alike
