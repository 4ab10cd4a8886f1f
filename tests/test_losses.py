"""Losses: hand-worked values, float64 NumPy references, properties, extreme input, and one test per
peer bug in paper.md."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from dalib.data import perturb
from dalib.errors import ConfigError
from dalib.losses import (
    affine_invariant,
    cutmix_unlabelled,
    feature_alignment,
    median_scale,
    normalise,
    region_weights,
    total,
)

JUNK = [float("nan"), float("inf"), -float("inf"), 3e38, -1e30, 0.0]
seeds = st.integers(0, 10**6)


def draw(*, seed, images=3, height=7, width=9, valid=0.7):
    generator = torch.Generator().manual_seed(seed)
    pred, target = torch.rand(2, images, height, width, generator=generator) * 3 + 0.1
    return pred, target, torch.rand(images, height, width, generator=generator) < valid


def rectangles(images=3, height=7, width=9):
    """One rectangle per image; the last one is empty."""
    inside = torch.zeros(images, height, width, dtype=torch.bool)
    for i in range(images - 1):
        inside[i, i : i + 3, 2 : 7 - i] = True
    return inside


def reference_normalised(values):
    """Eq. 2 and 3 on a vector, float64: the lower of the two middle values where their number is
    even."""
    values = values.astype(np.float64)
    shift = np.sort(values)[(len(values) - 1) // 2]
    return (values - shift) / max(np.abs(values - shift).mean(), 1e-5)


def reference_loss(pred, target, valid):
    """Eq. 1 of one image, by its vectors of valid pixels."""
    if not valid.any():
        return 0.0
    return np.abs(reference_normalised(pred[valid]) - reference_normalised(target[valid])).mean()


def per_image(function, *maps):
    return [function(*(m.numpy() for m in image)) for image in zip(*maps, strict=True)]


# affine-invariant loss, eq. 1-3


def test_median_scale_by_hand():
    """Valid 1, 2, 4, 10, 100: median 4, deviations 3, 2, 0, 6, 96, mean 21.4. The junk in the
    invalid pixel is not seen."""
    d = torch.tensor([[[4.0, 100, 1], [10, 2, -1e9]]])
    valid = torch.tensor([[[True, True, True], [True, True, False]]])
    t, s = median_scale(d, valid)
    assert (t.item(), s.item()) == pytest.approx((4, 21.4))


@pytest.mark.parametrize("junk", [float("nan"), float("inf")])
def test_median_scale_never_reads_invalid_pixels(junk):
    d = torch.tensor([[[4.0, 100, 1], [10, 2, junk]]])
    t, s = median_scale(d, torch.tensor([[[True, True, True], [True, True, False]]]))
    assert (t.item(), s.item()) == pytest.approx((4, 21.4))


def test_even_count_takes_the_lower_middle():
    """1, 2, 3, 9: median 2, not 2.5; deviations 1, 0, 1, 7, mean 2.25."""
    t, s = median_scale(torch.tensor([[[3.0, 9, 1, 2]]]), torch.ones(1, 1, 4, dtype=torch.bool))
    assert (t.item(), s.item()) == pytest.approx((2, 2.25))


def test_affine_invariant_by_hand():
    """pred 0, 1, 5 -> shift 1, scale 5/3 -> -0.6, 0, 2.4; target 0, 1, 2 -> shift 1, scale 2/3 ->
    -1.5, 0, 1.5.

    Errors 0.9, 0, 0.9: loss 0.6.
    """
    pred, target = torch.tensor([[[0.0, 1, 5, 77]]]), torch.tensor([[[0.0, 1, 2, -5]]])
    valid = torch.tensor([[[True, True, True, False]]])
    assert affine_invariant(pred, target, valid).item() == pytest.approx(0.6)
    assert normalise(pred, valid).flatten().tolist() == pytest.approx([-0.6, 0, 2.4, 0])


@settings(max_examples=40)
@given(seeds, st.integers(1, 8), st.integers(1, 11), st.floats(0.05, 1))
def test_affine_invariant_reference(seed, height, width, share):
    pred, target, valid = draw(seed=seed, height=height, width=width, valid=share)
    expected = per_image(reference_loss, pred, target, valid)
    assert_allclose(affine_invariant(pred, target, valid), expected, rtol=1e-4, atol=1e-5)


def test_affine_invariant_gradient_reference():
    """Against central differences of the float64 reference, at pixels away from the kinks."""
    pred, target, valid = draw(seed=5, images=1)
    pred.requires_grad_()
    affine_invariant(pred, target, valid).sum().backward()
    p, t, v = (
        x.detach().numpy()[0].astype(dtype)
        for x, dtype in ((pred, float), (target, float), (valid, bool))
    )
    numeric = np.zeros_like(p)
    for index in np.ndindex(p.shape):
        up, down = p.copy(), p.copy()
        up[index] += 1e-6
        down[index] -= 1e-6
        numeric[index] = (reference_loss(up, t, v) - reference_loss(down, t, v)) / 2e-6
    assert_allclose(pred.grad[0], numeric, rtol=2e-3, atol=2e-5)


@settings(max_examples=50)
@given(seeds, st.floats(0.05, 50), st.floats(-20, 20), st.floats(0.05, 50), st.floats(-20, 20))
def test_affine_invariant_is_invariant(seed, scale, shift, scale_t, shift_t):
    pred, target, valid = draw(seed=seed)
    moved = affine_invariant(scale * pred + shift, scale_t * target + shift_t, valid)
    assert_allclose(moved, affine_invariant(pred, target, valid), rtol=5e-3, atol=1e-3)


@settings(max_examples=25)
@given(seeds)
def test_affine_invariant_sees_the_sign(seed):
    """Invariance holds for scale > 0 only: an inverted map is not a good one."""
    pred, _, valid = draw(seed=seed)
    assert (affine_invariant(-pred, pred, valid) > 0.5).all()
    assert_allclose(affine_invariant(pred, pred, valid), 0, atol=1e-6)


@settings(max_examples=40)
@given(seeds, st.sampled_from(JUNK), st.sampled_from(JUNK))
def test_invalid_pixels_never_matter(seed, junk, other):
    pred, target, valid = draw(seed=seed)
    valid[0] = False
    results = []
    for p, t in (
        (pred, target),
        (torch.where(valid, pred, junk), torch.where(valid, target, other)),
    ):
        p = p.clone().requires_grad_()
        loss = affine_invariant(p, t, valid)
        loss.sum().backward()
        results.append((loss.detach(), p.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not results[1][1][~valid].any()


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -float("inf")])
def test_targets_that_are_not_finite_are_left_out(junk):
    pred, target, valid = draw(seed=2)
    hole = draw(seed=3)[2] & valid
    expected = affine_invariant(pred, target, valid & ~hole)
    assert torch.equal(affine_invariant(pred, torch.where(hole, junk, target), valid), expected)


@settings(max_examples=25)
@given(seeds, st.permutations(range(4)))
def test_images_are_independent(seed, order):
    pred, target, valid = draw(seed=seed, images=4)
    inside = rectangles(images=4)
    order = list(order)

    def under_cutmix(pred, target, target_inside, inside, valid):
        return cutmix_unlabelled(
            pred, target, target_inside=target_inside, inside=inside, valid=valid
        )

    for function, maps in (
        (affine_invariant, (pred, target, valid)),
        (under_cutmix, (pred, target, target.flip(0), inside, valid)),
        (feature_alignment, (pred.view(4, 7, 3, 3), target.view(4, 7, 3, 3))),
    ):
        expected = function(*maps)[order]
        assert torch.equal(function(*(m[order] for m in maps)), expected)


# the unlabelled loss under CutMix, eq. 6-8


def test_region_weights_by_hand():
    """3 of 8 pixels are inside, one of them and one outside invalid: 2 of 6."""
    inside = torch.tensor([[[True, True, True, False], [False] * 4]])
    valid = torch.tensor([[[False, True, True, True], [True, True, True, False]]])
    assert region_weights(inside, valid).item() == pytest.approx(2 / 6)


def test_cutmix_by_hand():
    """Inside 0, 1, 5 against 0, 1, 2: 0.6, as above. Outside 1, 2, 3, 4, 5 against 5, 4, 3, 2, 1:
    scale 1.2, errors 4, 2, 0, 2, 4 over 1.2, mean 2. So 3/8 of 0.6 and 5/8 of 2.
    """
    pred = torch.tensor([[[0.0, 1, 5, 1], [2, 3, 4, 5]]])
    a, b = (
        torch.tensor([[[0.0, 1, 2, 9], [9, 9, 9, 9]]]),
        torch.tensor([[[9.0, 9, 9, 5], [4, 3, 2, 1]]]),
    )
    inside = torch.tensor([[[True, True, True, False], [False] * 4]])
    assert cutmix_unlabelled(pred, b, target_inside=a, inside=inside).item() == pytest.approx(
        3 / 8 * 0.6 + 5 / 8 * 2
    )


def reference_cutmix(pred, a, b, inside, valid):
    parts = [(a, inside & valid), (b, ~inside & valid)]
    shares = [region.sum() / max(valid.sum(), 1) for _, region in parts]
    return sum(
        w * reference_loss(pred, t, region) for w, (t, region) in zip(shares, parts, strict=True)
    )


@settings(max_examples=40)
@given(seeds, st.floats(0.1, 1))
def test_cutmix_reference(seed, share):
    pred, a, valid = draw(seed=seed, valid=share)
    b, inside = draw(seed=seed + 1)[0], rectangles()
    expected = per_image(reference_cutmix, pred, a, b, inside, valid)
    assert_allclose(
        cutmix_unlabelled(pred, b, target_inside=a, inside=inside, valid=valid),
        expected,
        rtol=1e-4,
        atol=1e-5,
    )


def test_cutmix_without_rectangle_is_the_affine_invariant_loss():
    pred, a, valid = draw(seed=0)
    b, nowhere = draw(seed=1)[0], torch.zeros_like(valid)
    assert torch.equal(
        cutmix_unlabelled(pred, b, target_inside=a, inside=nowhere, valid=valid),
        affine_invariant(pred, b, valid),
    )
    assert torch.equal(
        cutmix_unlabelled(pred, b, target_inside=a, inside=~nowhere, valid=valid),
        affine_invariant(pred, a, valid),
    )


def test_without_cutmix_the_unlabelled_loss_is_the_affine_invariant_one():
    pred, target, valid = draw(seed=0)
    assert torch.equal(
        cutmix_unlabelled(pred, target, valid=valid), affine_invariant(pred, target, valid)
    )
    holes = torch.where(valid, target, torch.nan)
    assert torch.equal(cutmix_unlabelled(pred, holes), affine_invariant(pred, target, valid))


@pytest.mark.parametrize(
    ("given_one", "missing"), [("target_inside", "inside"), ("inside", "target_inside")]
)
def test_half_a_cutmix_is_refused(given_one, missing):
    pred, target, _ = draw(seed=0)
    half = {"target_inside": target, "inside": rectangles()}[given_one]
    with pytest.raises(ConfigError, match=f"^{missing}: missing; under CutMix give both"):
        cutmix_unlabelled(pred, target, **{given_one: half})


def test_the_partner_is_found_as_the_docstring_says():
    """Two images that swap boxes: a student who says of each pixel what its owner's label says is
    right, whoever's pixel it is."""
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    box = torch.tensor([[1, 1, 4, 6], [2, 3, 7, 8]])
    mixed, inside = perturb.cutmix(images, perturb.Perturbation(colour=None, sigma=None, box=box))
    target = images.mean(1)
    own = {"target_inside": target[perturb.partner(2)], "inside": inside}
    assert_allclose(cutmix_unlabelled(mixed.mean(1), target, **own), [0, 0], atol=1e-6)
    wrong = own | {"target_inside": target}
    assert (cutmix_unlabelled(mixed.mean(1), target, **wrong) > 0.1).all()


@settings(max_examples=30)
@given(seeds, st.floats(0.1, 30), st.floats(-9, 9), st.floats(0.1, 30), st.floats(-9, 9))
def test_cutmix_regions_are_normalised_separately(seed, scale, shift, scale_b, shift_b):
    """Each region may have a scale and shift of its own, in the prediction as in the label."""
    pred, a, valid = draw(seed=seed)
    b, inside = draw(seed=seed + 1)[0], rectangles()
    expected = cutmix_unlabelled(pred, b, target_inside=a, inside=inside, valid=valid)
    moved = torch.where(inside, scale * pred + shift, pred)
    assert_allclose(
        cutmix_unlabelled(moved, b, target_inside=a, inside=inside, valid=valid),
        expected,
        rtol=5e-3,
        atol=1e-3,
    )
    got = cutmix_unlabelled(
        pred, scale_b * b + shift_b, target_inside=scale * a + shift, inside=inside, valid=valid
    )
    assert_allclose(got, expected, rtol=5e-3, atol=1e-3)


@settings(max_examples=50)
@given(seeds, st.floats(0, 1), st.floats(0, 1))
def test_region_weights_sum_to_one(seed, share, inside_share):
    valid = draw(seed=seed, valid=share)[2]
    inside = draw(seed=seed + 1, valid=inside_share)[2]
    both = region_weights(inside, valid) + region_weights(~inside, valid)
    # an image without valid pixels has no regions
    assert_allclose(both, valid.flatten(1).any(1).float(), atol=1e-6)
    expected = [
        (i & v).sum() / max(v.sum(), 1) for i, v in zip(inside.numpy(), valid.numpy(), strict=True)
    ]
    assert_allclose(region_weights(inside, valid), expected, rtol=1e-6)


@settings(max_examples=25)
@given(seeds, st.sampled_from(JUNK))
def test_cutmix_ignores_what_does_not_show(seed, junk):
    """Label a outside the rectangle, label b inside it, and everything in invalid pixels."""
    pred, a, valid = draw(seed=seed)
    b, inside = draw(seed=seed + 1)[0], rectangles()
    expected = cutmix_unlabelled(pred, b, target_inside=a, inside=inside, valid=valid)
    a, b = torch.where(inside & valid, a, junk), torch.where(~inside & valid, b, junk)
    assert torch.equal(
        cutmix_unlabelled(
            torch.where(valid, pred, junk), b, target_inside=a, inside=inside, valid=valid
        ),
        expected,
    )


def test_cutmix_leaves_out_labels_that_are_not_finite():
    """They weigh nothing either: the same as if the caller had called them invalid."""
    pred, a, valid = draw(seed=0)
    b, inside, hole = draw(seed=1)[0], rectangles(), draw(seed=2, valid=0.3)[2]
    expected = cutmix_unlabelled(
        pred, b, target_inside=a, inside=inside, valid=valid & ~(inside & hole)
    )
    assert torch.equal(
        cutmix_unlabelled(
            pred, b, target_inside=torch.where(hole, torch.nan, a), inside=inside, valid=valid
        ),
        expected,
    )


# feature alignment, eq. 9


def test_feature_alignment_by_hand():
    """Tokens with cosines 0.6, 1, 0 and 0.96: 1 and 0.96 have passed the margin; (0.4 + 1) / 4."""
    student = torch.tensor([[[[3.0, 2, 1, 24]], [[4.0, 0, 0, 7]]]])
    frozen = torch.tensor([[[[1.0, 5, 0, 1]], [[0.0, 0, 3, 0]]]])
    assert feature_alignment(student, frozen, margin=0.85).item() == pytest.approx(1.4 / 4)
    assert feature_alignment(student, frozen, margin=1.0).item() == pytest.approx(1.44 / 4)
    assert feature_alignment(student, frozen, margin=0.5).item() == pytest.approx(1 / 4)


def features(seed, closeness=0.0, shape=(2, 5, 3, 4)):
    generator = torch.Generator().manual_seed(seed)
    frozen = torch.randn(shape, generator=generator)
    return frozen * closeness + torch.randn(shape, generator=generator), frozen


@settings(max_examples=40)
@given(seeds, st.floats(0, 4), st.floats(0.1, 1))
def test_feature_alignment_reference(seed, closeness, margin):
    student, frozen = features(seed, closeness)
    s, f = student.double().numpy(), frozen.double().numpy()
    cosine = (s * f).sum(1) / np.linalg.norm(s, axis=1) / np.linalg.norm(f, axis=1)
    if np.abs(cosine - margin).min() < 1e-5:
        return  # float32 may fall on the other side
    expected = np.where(cosine < margin, 1 - cosine, 0).mean((1, 2))
    assert_allclose(
        feature_alignment(student, frozen, margin=margin), expected, rtol=1e-4, atol=1e-6
    )


@settings(max_examples=40)
@given(seeds, st.floats(0, 4), st.floats(0.1, 0.99))
def test_no_gradient_above_the_margin(seed, closeness, margin):
    student, frozen = features(seed, closeness)
    student.requires_grad_()
    frozen.requires_grad_()
    feature_alignment(student, frozen, margin=margin).sum().backward()
    cosine = torch.cosine_similarity(student.detach(), frozen.detach(), dim=1)
    clear = (cosine - margin).abs() > 1e-5
    moved = student.grad.abs().amax(1) > 0
    assert torch.equal(moved[clear], (cosine < margin)[clear])
    assert frozen.grad is None


@settings(max_examples=25)
@given(seeds, st.floats(0.01, 100), st.floats(0.01, 100))
def test_feature_alignment_ignores_length(seed, one, other):
    student, frozen = features(seed, 0.5)
    expected = feature_alignment(student, frozen, margin=1.0)
    assert_allclose(
        feature_alignment(one * student, other * frozen, margin=1.0), expected, rtol=1e-4, atol=1e-5
    )


# the average


def test_total_by_hand():
    """The average, not the sum; with weight 2 on one of three, a weighted average: (1 + 2 + 2 * 6)
    / 4."""
    parts = {
        "labelled": torch.tensor(1.0),
        "unlabelled": torch.tensor(2.0),
        "feat": torch.tensor(6.0),
    }
    assert total(parts).item() == pytest.approx(3)
    assert total(parts, {"feat": 2.0}).item() == pytest.approx(15 / 4)
    assert total(parts, {"feat": 0.0}).item() == pytest.approx(1.5)
    assert total({"labelled": torch.tensor(1.0)}, {"feat": 2.0}).item() == 1


# extreme input


MAPS = {
    "zero": torch.zeros(2, 6, 8),
    "constant": torch.full((2, 6, 8), 0.3),
    "lively": torch.linspace(0, 1, 96).view(2, 6, 8) ** 2,
    "large": torch.linspace(0, 6e4, 96).view(2, 6, 8),
    "one outlier": torch.zeros(2, 6, 8).index_fill(2, torch.tensor(3), 1.0),
}
MASKS = {
    "all": torch.ones(2, 6, 8, dtype=torch.bool),
    "none": torch.zeros(2, 6, 8, dtype=torch.bool),
    "one image": torch.arange(2).view(2, 1, 1).expand(2, 6, 8) == 1,
    "one pixel": torch.arange(96).view(2, 6, 8) == 60,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("target", MAPS)
@pytest.mark.parametrize("pred", MAPS)
def test_maps_stay_finite(pred, target, mask, dtype):
    p, t, valid = MAPS[pred].to(dtype).clone().requires_grad_(), MAPS[target].to(dtype), MASKS[mask]
    inside = torch.zeros_like(valid)
    inside[0, 1:4, 2:5] = True
    for loss in (
        affine_invariant(p, t, valid),
        cutmix_unlabelled(p, t.flip(0), target_inside=t, inside=inside, valid=valid),
    ):
        (gradient,) = torch.autograd.grad(loss.sum(), p)
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss).all()
        assert (loss >= 0).all()
        assert torch.isfinite(gradient).all()
        assert not loss[~valid.flatten(1).any(1)].any()
        assert not gradient[~valid].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    """Equal to the float64 reference of the rounded maps; a sum of 6,000 values of 40,000 overflows
    float16."""
    pred, target, valid = draw(seed=4, images=2, height=60, width=100)
    pred, target = (2e4 * pred.clamp(max=3)).to(dtype), target.to(dtype)
    expected = per_image(reference_loss, pred.float(), target.float(), valid)
    assert_allclose(affine_invariant(pred, target, valid), expected, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0, 200.0])
def test_features_stay_finite(scale, dtype):
    student, frozen = ((scale * x).to(dtype) for x in features(0))
    student[:, :, 0] = 0
    frozen[:, :, 1] = 0
    student.requires_grad_()
    loss = feature_alignment(student, frozen, margin=0.85)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(student.grad).all()
    assert (loss <= 2).all()


def test_a_constant_prediction_costs_the_targets_own_spread():
    """Its normalised map is 0 everywhere, and the mean |normalised target| is 1 by definition."""
    _, target, valid = draw(seed=8)
    assert_allclose(affine_invariant(torch.zeros_like(target), target, valid), 1, rtol=1e-5)


def test_a_prediction_that_is_not_finite_shows():
    """NaN in a valid pixel of the prediction must not be taken for a missing label: training has to
    stop."""
    pred, target, valid = draw(seed=0)
    for junk in (float("nan"), float("inf")):
        broken = pred.clone()
        broken[1][valid[1].nonzero()[0].unbind()] = junk
        loss = affine_invariant(broken, target, valid)
        assert torch.isfinite(loss).tolist() == [True, False, True]


def test_shapes_that_would_broadcast_are_refused():
    pred, target, valid = draw(seed=0)
    with pytest.raises(ConfigError, match=r"\(3, 7, 9\).*one shape"):
        inspect.unwrap(affine_invariant)(pred, target[:1], valid)
    with pytest.raises(ConfigError, match="one shape"):
        inspect.unwrap(feature_alignment)(torch.zeros(1, 4, 2, 2), torch.zeros(1, 5, 2, 2))


# where peers went wrong (paper.md)


def test_peer_bug_median_over_mask_times_target():
    """MiDaS#33: zeros of the invalid pixels entered the median. Valid 5, 6, 7; their median is 6,
    with zeros it is 0."""
    d, valid = torch.tensor([[[5.0, 6, 7, 0, 0, 0, 0]]]), torch.tensor([[[True] * 3 + [False] * 4]])
    assert median_scale(d, valid)[0].item() == 6


def test_peer_bug_median_is_a_mean():
    """0, 0, 0, 0, 10 has median 0 and mean 2; its scale is 2 about the median, 3.2 about the
    mean."""
    t, s = median_scale(torch.tensor([[[0.0, 0, 0, 0, 10]]]), torch.ones(1, 1, 5, dtype=torch.bool))
    assert (t.item(), s.item()) == pytest.approx((0, 2))


def test_peer_bug_mean_divided_by_all_pixels():
    """The same three pixels alone, or among a hundred invalid ones, cost the same."""
    pred, target = torch.tensor([[[0.0, 1, 5]]]), torch.tensor([[[0.0, 1, 2]]])
    valid = torch.ones(1, 1, 3, dtype=torch.bool)
    alone = affine_invariant(pred, target, valid)
    padded = affine_invariant(
        *(torch.nn.functional.pad(x, (0, 100)) for x in (pred, target, valid))
    )
    assert alone.item() == pytest.approx(0.6)
    assert padded.item() == pytest.approx(0.6)


def test_peer_bug_int_zero_when_all_masks_are_empty():
    """The loss of empty masks is a tensor with a gradient, of the usual type and one entry per
    image."""
    pred, target, valid = draw(seed=0)
    pred.requires_grad_()
    for loss in (
        affine_invariant(pred, target, valid & False),
        cutmix_unlabelled(
            pred, target, target_inside=target, inside=rectangles(), valid=valid & False
        ),
    ):
        assert loss.shape == (3,)
        assert loss.dtype == torch.float32
        assert not loss.any()
        (gradient,) = torch.autograd.grad(loss.sum(), pred)
        assert not gradient.any()


def test_peer_bug_trimmed_loss_trims_a_tuple():
    """Several copies slice the (values, indices) pair of a sort, so that nothing is trimmed and one
    outlier is lost in the noise. Our loss does not trim at all: every valid pixel counts, and each
    error enters with the same weight.
    """
    pred, target, valid = (
        torch.zeros(1, 1, 5),
        torch.tensor([[[-2.0, -1, 0, 1, 2]]]),
        torch.ones(1, 1, 5, dtype=torch.bool),
    )
    pred = target + torch.tensor([[[0.0, 0, 0, 0, 30]]])  # shift 0, scale 7.2 against 1.2
    errors = [
        abs(p / 7.2 - t / 1.2) for p, t in zip([-2, -1, 0, 1, 32], [-2, -1, 0, 1, 2], strict=True)
    ]
    assert affine_invariant(pred, target, valid).item() == pytest.approx(sum(errors) / 5)


def test_peer_bug_half_precision_sums_overflow():
    """4,000 deviations of 100 sum to 400,000; float16 ends at 65,504."""
    d = torch.tensor([0.0, 200.0] * 2000, dtype=torch.float16).view(1, 50, 80)
    loss = affine_invariant(d, -d, torch.ones(1, 50, 80, dtype=torch.bool))
    assert loss.item() == pytest.approx(2)


def test_peer_bug_margin_on_the_batch_mean():
    """One token at cosine 1 and one at 0 have the mean 0.5; with margin 0.4 a test of the mean
    would drop both or keep both."""
    student = torch.tensor([[[[1.0, 1.0]], [[0.0, 0.0]]]])
    frozen = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    student.requires_grad_()
    loss = feature_alignment(student, frozen, margin=0.4)
    loss.sum().backward()
    assert loss.item() == pytest.approx(0.5)
    assert not student.grad[0, :, 0, 0].any()
    assert student.grad[0, :, 0, 1].any()


def test_peer_bug_pixels_pooled_over_images():
    """Two images of unlike scale: each is normalised by its own, so the large one does not drown
    the small one."""
    small, large = torch.tensor([[[0.0, 1, 5]]]), torch.tensor([[[0.0, 1000, 5000]]])
    target, valid = torch.tensor([[[0.0, 1, 2]]]), torch.ones(1, 1, 3, dtype=torch.bool)
    both = affine_invariant(
        torch.cat([small, large]), torch.cat([target, target]), torch.cat([valid, valid])
    )
    assert both.tolist() == pytest.approx([0.6, 0.6])
