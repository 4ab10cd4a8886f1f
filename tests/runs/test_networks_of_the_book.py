"""Which network a page shows: the one that a reader names, the shipped student, your own run."""

import pytest
from torch import nn

from dabook.runs import networks
from dalib import paths
from dalib.models import build, save
from dalib.training import launch


class Own(nn.Module):
    """Stands for the student that `make book` trained."""


@pytest.fixture
def own(monkeypatch):
    """Runs that were asked to be there, which are trained at once."""
    asked = []
    monkeypatch.setattr(networks, "network", lambda config: asked.append(config) or Own())
    return asked


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("package") / "student.safetensors"
    network = build("lite0", pretrained=False, seed=2)
    save(network, path, about={"trained": {"short_side": 192}}, half=True)
    return path


def test_without_a_shipped_student_your_own_run(own, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "shipped_weights", lambda: tmp_path / "none")
    (only,) = networks.of_the_book("smoke")
    assert (only.label, only.short_side) == ("your own run", 64)
    assert len(own) == 1  # trained where nobody has
    model, side = networks.chosen("", "smoke")
    assert isinstance(model, Own)
    assert side == 64


@pytest.mark.parametrize("trained", [True, False])
def test_the_shipped_student_comes_first(own, saved, monkeypatch, trained):
    monkeypatch.setattr(paths, "shipped_weights", lambda: saved)
    monkeypatch.setattr(launch, "trained", lambda _: trained)
    found = networks.of_the_book("smoke")
    # your own run beside it where it is there; it is not trained for that
    assert [n.label for n in found] == ["shipped student", "your own run"][: 1 + trained]
    assert len(own) == trained
    assert found[0].short_side == 192
    model, side = networks.chosen("", "smoke")
    assert not isinstance(model, Own)
    assert side == 192
    assert networks.file_of_the_book("smoke") == saved


def test_a_network_that_a_reader_names_stands_alone(own, saved, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "shipped_weights", lambda: tmp_path / "none")
    (mine,) = networks.shown(str(saved), "smoke")
    assert (mine.label, mine.short_side) == ("yours", 192)
    assert own == []
