"""The small against the large: sizes counted by hand and by others, and rows that cost what their
labels say."""

import re
from html import unescape

import pytest
import timm
import torch

from dabook.analysis.budget import image_passes
from dabook.pages import small_large
from dabook.runs.experiments import expand
from dalib.config import TEACHER_SEEDS
from dalib.models import build
from dalib.training.costs import measure

PLAN = expand("small_large", profile="study", seeds=1)
LONG = expand("small_large_long", profile="study", seeds=1)


def text(html) -> str:
    return " ".join(unescape(re.sub("<[^>]*>", " ", html.text)).split())


@pytest.mark.parametrize(
    ("name", "side", "millions", "billions"),
    [("lite0", 224, 4.652, 0.385), ("lite2", 260, 6.092, 0.860)],
)
def test_the_count_is_that_of_others(name, side, millions, billions):
    """Of the whole classifiers, weights and multiply-adds as another implementation prints them
    (d-li14/efficientnet-lite.pytorch, README.md)."""
    with torch.device("meta"):
        net = timm.create_model(f"tf_efficientnet_{name}").eval()
        image = torch.empty(1, 3, side, side)
        with torch.no_grad():
            flops, _ = measure(lambda: net(image))
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 3) == millions
    assert flops / 2e9 == pytest.approx(billions, rel=0.01)


def by_hand(model, height: int, width: int) -> int:
    """Multiply-adds of all convolutions, from the shapes that pass through hooks."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        products = module.weight[0].numel()  # of one value of the output
        total += output.numel() * products

    hooks = [
        m.register_forward_hook(count) for m in model.modules() if isinstance(m, torch.nn.Conv2d)
    ]
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, height, width))
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize("name", ["lite0", "lite2"])
def test_weights_and_multiply_adds(name):
    model = build(name, pretrained=False, seed=0)
    assert small_large.parameters(name) == sum(p.numel() for p in model.parameters())
    assert small_large.parameters(name, encoder=True) == sum(
        p.numel() for p in model.encoder.parameters()
    )
    assert small_large.multiply_adds(name, 64, 96, encoder=True) == by_hand(model.encoder, 64, 96)


@pytest.mark.slow
def test_the_large_one_is_larger_and_the_table_says_by_how_much():
    table = text(small_large.sizes())
    factor = small_large.parameters("lite2") / small_large.parameters("lite0")
    assert factor > 1.2
    assert f"× {factor:.2f}" in table
    assert f"{factor:.2f} times as many weights" in small_large.ratio()


@pytest.mark.slow
def test_long_rows_cost_what_their_labels_say():
    """Equal image passes with a student, equal operations with the taught student and its
    teacher."""
    rows = {row.name: row.configs[0] for row in (*PLAN.rows, *LONG.rows)}
    assert image_passes(rows["large_long"]) == image_passes(rows["small_full"])
    asked = sum(small_large.operations(rows["small_taught"]))
    assert sum(small_large.operations(rows["large_compute"])) == pytest.approx(asked, rel=0.005)
    own, before = small_large.operations(rows["small_taught"])
    assert before == small_large.operations(rows["large_labelled_only"])[0]
    assert own > before
    assert small_large.operations(rows["large_long"]) == pytest.approx((3 * before, 0), rel=1e-9)


def test_the_taught_student_is_taught_by_the_large_network():
    rows = {row.name: row.configs[0] for row in PLAN.rows}
    own = {"seed": TEACHER_SEEDS, "draw": 0}
    large, small = (rows[f"{size}_labelled_only"].replace(**own) for size in ("large", "small"))
    assert rows["small_taught"].teacher_run() == large
    assert rows["small_full"].teacher_run() == small
    assert rows["large_full"].teacher_run() == large


def test_the_two_questions_share_their_runs():
    """Rows of one name are one run, and are called alike; the long trainings alone are extra."""
    short, long = ({row.name: row for row in plan.rows} for plan in (PLAN, LONG))
    assert short.keys() & long.keys() == {"large_labelled_only", "small_taught"}
    for name in short.keys() & long.keys():
        assert short[name].configs[0].hash() == long[name].configs[0].hash()
        assert short[name].label == long[name].label


def test_the_book_trains_what_fits_into_minutes():
    """No row that the book trains takes more steps than the profile gives any row; those that do
    are the question that it does not train."""
    usual = expand("main_table", profile="quick").rows[0].configs[0].steps
    quick = {name: expand(name, profile="quick") for name in ("small_large", "small_large_long")}
    assert quick["small_large"].trained_in_book
    assert {row.configs[0].steps for row in quick["small_large"].rows} == {usual}
    assert not quick["small_large_long"].trained_in_book
    assert max(row.configs[0].steps for row in quick["small_large_long"].rows) > 3 * usual


@pytest.mark.slow
@pytest.mark.parametrize("plan", [PLAN, LONG], ids=lambda plan: plan.name)
def test_budgets_of_all_rows(plan):
    table = text(small_large.budgets(plan))
    assert all(row.label in table for row in plan.rows)
    assert "× 1.00" in table
    assert ("× 3.00" in table) == (plan is LONG)


def test_the_paper_by_its_printed_numbers():
    """Table 2: KITTI .080 below .127, Sintel .464 below .587, DDAD .247 below .251, ETH3D .127
    below .139; NYUv2 .053 above .048, DIODE .076 above .075."""
    said = small_large.in_the_paper()
    assert "on 4 of 6 sets (KITTI, Sintel, DDAD, ETH3D)" in said
    assert "a higher one on 2 (NYUv2, DIODE)" in said
    assert said.endswith("the means are 0.175 and 0.205.")
