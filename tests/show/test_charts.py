"""Figures: what they draw is what the records say, and every kind of input gives a picture."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import fabricated
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from dabook.analysis.statistics import Results
from dabook.runs.experiments import expand
from dabook.runs.floors import read_floors
from dabook.runs.records import entries
from dabook.show import charts, pictures
from dalib.data import perturb, scenes
from dalib.evaluation.protocols import PROTOCOLS, score
from dalib.losses import region_weights

LEVELS = {
    row: [base, base + 0.01, base - 0.01]
    for row, base in zip(
        ("labelled_only", "naive", "perturbed", "full"), (0.30, 0.29, 0.28, 0.27), strict=True
    )
}


@pytest.fixture
def results(tmp_path, monkeypatch) -> Results:
    monkeypatch.setenv("DALIB_ROOT", str(fabricated.root(tmp_path / "root")))
    fabricated.write_floors()
    return Results(fabricated.write("main_table", LEVELS))


@pytest.fixture(scope="module")
def batch() -> dict:
    return scenes.render("unlabelled", range(4), height=48, width=64)


@pytest.fixture
def samples(batch) -> list[dict]:
    return [{key: values[i] for key, values in batch.items()} for i in range(2)]


def shown(figure) -> Figure:
    """Draws and checks that nothing is left open for a notebook to show twice."""
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    assert not plt.get_fignums()
    return figure


def test_the_seeds_figure_draws_every_seed_and_every_interval(results):
    left, right = shown(charts.seeds(results)).axes
    points = np.concatenate(
        [c.get_offsets()[:, 0] for c in left.collections if isinstance(c, PathCollection)]
    )
    assert sorted(np.round(points, 6)) == sorted(np.round(np.concatenate(list(LEVELS.values())), 6))
    assert next(t.get_text() for t in left.get_yticklabels()) == "Labelled images only"
    assert len(right.containers) == 3  # an interval per change; the first row has none


def test_study_figures_without_records_say_so(tmp_path, monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", str(fabricated.root(tmp_path / "root")))
    nothing = Results(entries(expand("main_table", profile="study")))
    for figure in (charts.seeds(nothing), charts.domains(nothing), charts.real(nothing, None)):
        assert shown(figure).axes[0].texts[0].get_text() == "not yet recorded"


def test_domains_and_real_images(results):
    levels, changes = shown(charts.domains(results)).axes
    assert len(levels.containers) == 4 * 8
    assert len(changes.containers) == 3 * 8
    table = shown(charts.real(results, read_floors())).axes[0]
    assert next(t.get_text() for t in table.get_yticklabels()) == "Motorcycle (4)"


def test_floors_are_strokes_beside_the_rows(results):
    for figure, count in (
        (charts.domains(results), 8),
        (charts.real(results, read_floors()), 6),
    ):
        strokes = {
            c.get_label().removeprefix("floor: "): c.get_offsets()
            for c in shown(figure).axes[0].collections
            if isinstance(c, PathCollection) and c.get_label().startswith("floor: ")
        }
        assert {name: set(np.round(xy[:, 0], 6)) for name, xy in strokes.items()} == {
            name: {at} for name, at in fabricated.FLOORS.items()
        }
        assert {len(xy) for xy in strokes.values()} == {count}


def test_one_seed_has_points_but_no_interval(results):
    single = Results(entries(expand("main_table", profile="study", seeds=1)))
    shown(charts.seeds(single))
    shown(charts.domains(single))


def test_loss_curves(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": s, "loss": 1 / s, "labelled": 1 / s, "unlabelled": 2 / s} for s in (1, 2, 3)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ax = shown(charts.losses({"student": path})).axes[0]
    assert [len(line.get_xdata()) for line in ax.get_lines()] == [3, 3, 3]


def test_plain_charts():
    shown(charts.curves([0, 1, 2], {"a": [0, 1, 4], "b": [1, 1, 1]}, x_label="x"))
    shown(charts.histograms({"a": torch.rand(100), "b": torch.rand(50)}))
    frame = pd.DataFrame(
        {"kind": ["a", "b"] * 4, "who": ["x"] * 4 + ["y"] * 4, "value": np.arange(8.0)}
    )
    shown(charts.groups(frame, "kind", "value"))
    shown(charts.groups(frame, "kind", "value", hue="who"))


def test_the_error_map_has_absrel_as_its_mean(samples):
    torch.manual_seed(0)
    for sample in samples:
        pred = sample["disparity"] + 0.05 * torch.rand_like(sample["disparity"])
        error = pictures.relative_error(pred, sample["disparity"], sample["valid"])
        want = score(
            pred[None], sample["disparity"][None], sample["valid"][None], PROTOCOLS["scenes"]
        )["abs_rel"]
        assert error.nanmean().item() == pytest.approx(want.item(), rel=1e-4)
        assert torch.isnan(error[sample["disparity"] == 0]).all()  # sky is not scored


def test_pictures(batch, samples):
    maps = [sample["disparity"] for sample in samples]
    shown(
        pictures.contact_sheet([*batch["image"], *batch["disparity"]], [""] * 8, kind="disparity")
    )
    shown(pictures.layers(batch, scenes.CLASSES))
    shown(pictures.gallery(samples, {"a": maps, "b": maps}, errors=["a"]))
    shown(pictures.gallery([{"image": s["image"]} for s in samples], {"a": maps}, truth=False))
    shown(pictures.strip([{**s, "name": "x"} for s in samples], {"a": maps, "b": maps}))


def test_the_cutmix_figure_shows_both_regions(batch):
    drawn = perturb.Perturbation(
        colour=None, sigma=None, box=torch.tensor([[8, 8, 24, 40], [0, 0, 0, 0]])
    )
    mixed, inside = perturb.apply(batch["image"][:2].float() / 255, drawn)
    weight = region_weights(inside, torch.ones_like(inside)).tolist()
    figure = shown(
        pictures.cutmix(batch["image"][:2], mixed, batch["disparity"][:2], inside, weight)
    )
    titles = [ax.get_title(loc) for ax in figure.axes for loc in ("left", "center")]
    assert any("× 0.17" in title for title in titles)  # 16 x 32 of 48 x 64


def test_alignment(batch):
    maps = {"without": torch.rand(4, 3, 4), "with": torch.rand(4, 3, 4) / 2 + 0.5}
    shown(pictures.alignment(batch["image"], maps, margin=0.85))


def test_importing_draws_nothing_and_changes_no_setting():
    assert not plt.get_fignums()
    shown(charts.curves([0, 1], {"a": [0, 1]}, x_label="x"))
    assert plt.rcParams["figure.dpi"] == plt.rcParamsDefault["figure.dpi"]
