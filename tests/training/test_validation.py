"""Validation while a run learns: the numbers of the evaluation afterwards, the same bits with and
without it, the same file for a killed run, and refusals before anything is trained."""

import json

import numpy as np
import pytest
import torch
from helpers.training import Interruption, Smooth, interrupt_at, pairs, quiet
from numpy.testing import assert_allclose

from dalib.data.schema import Source
from dalib.errors import ConfigError, DataError, Stopped
from dalib.evaluation import scores as evaluation
from dalib.evaluation.protocols import PROTOCOLS
from dalib.models import build, load
from dalib.stopping import Stop
from dalib.training import launch, validation
from dalib.training.journal import Journal
from dalib.training.train import train
from dalib.training.validation import Part, Validation, check_validation


def lines(out):
    return [json.loads(line) for line in (out / "validation.jsonl").read_text().splitlines()]


@pytest.fixture
def folder(tmp_path):
    return pairs(tmp_path / "pairs")


def watched(config, out, *, report=quiet, **more):
    """Train on `Smooth` images with the validation of the settings; the weights as bytes."""
    given = {"labelled": Smooth(), "validation": Validation(config), "report": report}
    return train(config, out=out, **given | more).read_bytes()


# what comes out


@pytest.mark.slow
def test_the_last_scores_are_those_of_the_evaluation_afterwards(tmp_path, tiny, folder):
    """Of the weights that the run ended with, averaged or not, by `dalib.evaluate`, to the bit."""
    for ema in (0.0, 0.8):
        out = tmp_path / str(ema)
        name = f"depth:{folder}"
        config = tiny.replace(steps=3, validate_every=2, validation=(name,), ema=ema)
        watched(config, out)
        found = lines(out)
        assert [line["step"] for line in found] == [2, 3]
        after = evaluation.evaluate(load(out / "model.safetensors"), name, short_side=64)
        last = found[-1]
        assert {k: last[f"{name}/{k}"] for k in after.means} == after.means
        assert last[f"{name}/inverted"] == after.inverted
        assert last["abs_rel"] == after.means["abs_rel"]
        best = min(found, key=lambda line: line["abs_rel"])
        assert last["best_step"] == best["step"]
        assert found[0]["best_step"] == 2


def test_several_sources_and_only_so_many_images(tmp_path, tiny, folder):
    """Two of five images of the one, spread evenly, and Motorcycle by its own protocol; `abs_rel` is
    the mean over both sources."""
    pairs(folder, count=5)
    names = (f"depth:{folder}", "skimage:motorcycle")
    config = tiny.replace(
        steps=1, validate_every=9, validation=names, validation_images=2, encoder_lr=1e-30
    )
    watched(config, tmp_path / "run")
    (line,) = lines(tmp_path / "run")
    model = load(tmp_path / "run" / "model.safetensors")
    all_five = evaluation.evaluate(model, names[0], short_side=64)
    two = np.mean([all_five.images["abs_rel"][k] for k in (0, 2)])
    motorcycle = evaluation.evaluate(model, names[1], protocol="indoor", short_side=64)
    assert_allclose(line[f"{names[0]}/abs_rel"], two, rtol=1e-4)
    assert_allclose(line[f"{names[1]}/abs_rel"], motorcycle.means["abs_rel"], rtol=1e-4)
    assert_allclose(line["abs_rel"], (two + motorcycle.means["abs_rel"]) / 2, rtol=1e-4)


def test_each_data_set_of_a_manifest_by_its_own_protocol(tmp_path, tiny):
    """Declared in a column or beside it; rows of an unknown offset are left out."""
    columns = {"dataset": "a", "offset_known": "yes", "scale_known": "yes"}
    folder = pairs(tmp_path / "sets", more=tuple(columns), entries=tuple(columns.values()))
    text = (folder / "manifest.csv").read_text().splitlines()
    text[2] = text[2].replace(",a,", ",b,")
    text[3] = text[3].replace(",a,yes", ",b,no")
    (folder / "manifest.csv").write_text("\n".join(text))
    (folder / "protocols.yaml").write_text("b: {protocol: indoor, half: table}\n")
    config = tiny.replace(validate_every=1, validation=(f"depth:{folder}",))
    parts = Validation(config).parts
    found = {part.name: (part.protocol.name, len(part.source)) for part in parts}
    assert found == {f"depth:{folder} a": ("relative", 1), f"depth:{folder} b": ("indoor", 1)}
    one = config.replace(validation=(f"depth:{folder}?dataset=b",))
    (part,) = Validation(one).parts
    assert (part.name, part.protocol.name) == (f"depth:{folder}?dataset=b", "indoor")


def test_drawn_scenes_by_their_protocol(tiny, monkeypatch):
    """At the run's size, and no more of them than are scored."""
    asked = []

    def opened(name, **options):
        asked.append((name, options))
        return Smooth()

    monkeypatch.setattr(validation, "open_source", opened)
    (part,) = Validation(tiny.replace(validate_every=1, validation_images=2)).parts
    assert part.protocol.name == "scenes"
    assert asked == [("scenes:validation", {"count": 2, "height": 64, "width": 96})]


# nothing depends on it


@pytest.mark.slow
@pytest.mark.parametrize("student", [False, True])
def test_the_bits_are_those_of_a_run_without(student, tmp_path, tiny, tiny_student, folder):
    """Weights, snapshots, metrics.jsonl and checkpoints; global generators stand where they would,
    and the network is in training mode in each step, with gradients of its own."""
    config = (tiny_student if student else tiny).replace(steps=4)
    config = config.replace(start="encoder", labelling="oracle") if student else config
    given = {"unlabelled": Smooth(count=10, seed=1)} if student else {}
    ends = []
    for every in (0, 1):
        torch.manual_seed(7)
        chosen = config.replace(validate_every=every, validation=(f"depth:{folder}",))
        out = tmp_path / str(every)
        more = {"validation": Validation(chosen) if every else None}
        train(chosen, out=out, labelled=Smooth(), report=quiet, **given, **more)
        files = [*sorted(out.glob("*.safetensors")), out / "metrics.jsonl"]
        state = torch.load(out / "checkpoint" / "step-000000002.pt", weights_only=True)
        ends.append(
            {
                "files": {file.name: file.read_bytes() for file in files},
                "model": state["model"],
                "random": torch.get_rng_state(),
            }
        )
    without, with_it = ends
    assert without["files"] == with_it["files"]
    assert torch.equal(without["random"], with_it["random"])
    for name, tensor in without["model"].items():
        assert torch.equal(tensor, with_it["model"][name]), name
    assert len(lines(tmp_path / "1")) == 4


def test_the_network_itself_is_left_alone(tiny, folder):
    """Its mode, its gradients, its hooks: only a copy is run."""
    config = tiny.replace(validate_every=1, validation=(f"depth:{folder}",))
    network = build("lite0", pretrained=False, seed=1).train()
    ran = []
    network.register_forward_hook(lambda *_: ran.append(1))
    first = next(network.parameters())
    first.grad = torch.ones_like(first)
    scores = Validation(config)(network, network.state_dict())
    assert scores["abs_rel"] > 0
    assert ran == []
    assert network.training
    assert torch.equal(first.grad, torch.ones_like(first))


def test_processes_share_the_images(tiny, folder, monkeypatch):
    """Three processes of seven images, one after the other here: the same numbers as one."""
    pairs(folder, count=7)
    config = tiny.replace(validate_every=1, validation=(f"depth:{folder}",))
    network = build("lite0", pretrained=False, seed=1)
    validate = Validation(config)
    alone = validate(network, network.state_dict())
    shares = []
    monkeypatch.setattr(validation, "gather_object", lambda own: shares.extend(own) or shares)
    for rank in range(3):
        together = validate(network, network.state_dict(), rank=rank, world=3)
    assert [len(share[0]["names"]) for share in shares] == [3, 2, 2]
    assert together.keys() == alone.keys()
    assert_allclose(list(together.values()), list(alone.values()), rtol=1e-4)


def test_shares_come_back_in_order():
    assert validation._interleaved([[0, 3, 6], [1, 4], [2, 5]]) == list(range(7))
    assert validation._interleaved([[0], []]) == [0]


# a run that is cut short


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 4, 5])
def test_a_killed_run_has_the_same_scores(step, tmp_path, tiny, folder):
    config = tiny.replace(validate_every=2, validation=(f"depth:{folder}",))
    whole = watched(config, tmp_path / "whole")
    with pytest.raises(Interruption):
        watched(config, tmp_path / "cut", report=interrupt_at(step))
    assert watched(config, tmp_path / "cut") == whole
    files = [(tmp_path / each / "validation.jsonl").read_bytes() for each in ("whole", "cut")]
    assert files[0] == files[1]


@pytest.mark.slow
def test_killed_between_a_checkpoint_and_its_scores(tmp_path, tiny, folder, monkeypatch):
    """Which are made up for when the run goes on."""
    config = tiny.replace(validate_every=2, validation=(f"depth:{folder}",))
    watched(config, tmp_path / "whole")

    def killed(*_):
        raise Interruption

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "validated", killed)
        with pytest.raises(Interruption):
            watched(config, tmp_path / "cut")
    seen = []
    watched(config, tmp_path / "cut", report=seen.append)
    assert seen[0].startswith("validation after step 2: AbsRel ")
    assert seen[1].startswith("step 3/")
    files = [(tmp_path / each / "validation.jsonl").read_bytes() for each in ("whole", "cut")]
    assert files[0] == files[1]


class Asked(Stop):
    """Asks to stop from the moment when the validation has begun."""

    def __init__(self):
        super().__init__()
        self.yes = False

    def reason(self):
        return "a test" if self.yes else None


class Asking(Source):
    """Asks to stop as soon as a sample is read."""

    domain = "asking"
    fingerprint = "0"

    def __init__(self, stop):
        self.stop = stop

    def __len__(self):
        return 18

    def _sample(self, index):
        self.stop.yes = True
        return Smooth()[index] | {"name": str(index)}


@pytest.mark.slow
def test_a_request_to_stop_cuts_it_short(tmp_path, tiny, folder):
    """After one batch of 16 of its 18 images, with the state of that very step saved, though no
    checkpoint was due; what is missing is made up for."""
    config = tiny.replace(validate_every=3, checkpoint_every=100)
    stop = Asked()
    source = Asking(stop)
    validate = Validation(config.replace(validation=(f"depth:{folder}",)))
    validate.parts = [Part(name="x", source=source, protocol=PROTOCOLS["relative"])]
    with pytest.raises(Stopped, match="the state after step 3 of 6 is saved"):
        watched(config, tmp_path, validation=validate, stop=stop)
    assert lines_or_none(tmp_path) == []
    seen = []
    watched(config, tmp_path, validation=validate, report=seen.append)
    assert seen[0].startswith("validation after step 3: ")
    assert [line["step"] for line in lines(tmp_path)] == [3, 6]


def lines_or_none(out):
    return lines(out) if (out / "validation.jsonl").exists() else []


def test_one_that_fails_is_told_of_and_ends_nothing(tmp_path, tiny, folder):
    """An image that is gone by then."""
    config = tiny.replace(steps=2, validate_every=1, validation=(f"depth:{folder}",))
    plain = train(config, out=tmp_path / "plain", labelled=Smooth(), report=quiet).read_bytes()
    given = Validation(config)
    (folder / "1.png").unlink()
    seen = []
    out = tmp_path / "run"
    assert watched(config, out, validation=given, report=seen.append) == plain
    failed = [line for line in seen if line.startswith("validation failed (DataError: ")]
    assert len(failed) == 2
    assert "1.png" in failed[0]
    assert lines_or_none(out) == []


# before anything is trained


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("depth:{folder}/nowhere", DataError, r"nowhere"),
        ("depth:{folder}?dataset=x", DataError, r"missing column dataset"),
        ("photos:{folder}", DataError, r"validation: photos:.*: .*no ground truth"),
        ("skimage:photos", DataError, r"validation: skimage:photos: .*no ground truth"),
        ("scenes:valid", ConfigError, r"unknown name in source 'scenes:valid'"),
        ("nothing", ConfigError, r"unknown kind of source"),
    ],
)
def test_what_cannot_be_validated_on_is_refused_first(
    name, error, message, tiny_student, launched, folder
):
    """Before the teacher is trained."""
    chosen = ("scenes:validation", name.format(folder=folder))
    config = tiny_student.replace(validate_every=1, validation=chosen)
    with pytest.raises(error, match=message):
        launch.ensure_weights(config, report=quiet)
    assert launched == []


def test_a_file_that_is_gone_is_named_first(tiny, folder, launched):
    (folder / "2.npy").unlink()
    config = tiny.replace(validate_every=1, validation=(f"depth:{folder}",))
    with pytest.raises(DataError, match=r"no such file: .*2\.npy"):
        launch.ensure_weights(config, report=quiet)
    assert launched == []


def test_nothing_is_looked_at_where_nothing_is_validated(tiny):
    check_validation(tiny.replace(validation=("depth:nowhere",)))
    assert validation.validation_of(tiny) is None


def test_a_validation_without_sources_is_refused(tiny):
    with pytest.raises(ConfigError, match="validation: empty"):
        tiny.replace(validate_every=5, validation=())


def test_when_it_is_due(tiny, folder):
    validate = Validation(tiny.replace(steps=7, validate_every=3, validation=(f"depth:{folder}",)))
    assert [k for k in range(8) if validate.due(k)] == [3, 6, 7]


def test_launch_validates_and_says_which_step_was_best(tiny, folder, launched):
    """Through `ensure_weights`; and the best step stands in train.json."""
    config = tiny.replace(steps=2, validate_every=1, validation=(f"depth:{folder}",))
    path = launch.ensure_weights(config, report=quiet)
    found = lines(path.parent)
    done = json.loads((path.parent / "train.json").read_text())
    errors = [line["abs_rel"] for line in found]
    assert len(errors) == 2
    assert done["best_abs_rel"] == min(errors)
    assert done["best_step"] == 1 + errors.index(min(errors))
