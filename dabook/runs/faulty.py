"""Bugs of public code, each as a faulty twin of one function of `dalib`, and what it takes to price
one.

The library stays as it is: `switched_on` puts twins in the place of what they imitate while a block
runs, and puts everything back, whatever happens in it. A digest of this file stands in every record
made with it.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F

from dalib import alternatives, losses, paths
from dalib.config import RunConfig, check_names
from dalib.data import perturb
from dalib.data.files import digest as digest_words
from dalib.data.perturb import draw
from dalib.data.schema import Source
from dalib.evaluation import protocols, run, suite
from dalib.evaluation.align import least_squares
from dalib.evaluation.metrics import depth_metrics
from dalib.evaluation.protocols import Protocol, scored
from dalib.evaluation.run import evaluate_source
from dalib.losses import affine_invariant
from dalib.models.depth_anything import restore
from dalib.training import launch
from dalib.training.folder import JOB, read_json, set_aside
from dalib.training.launch import sources
from dalib.writing import write_text

TRIM = 0.2  # the worst share that MiDaS's trimmed loss leaves out
HIDDEN = 0.6  # of an image's labels at most; the mean is half of it


def mean_for_median(d, valid):
    """`losses.median_scale` with a mean where a median is meant."""
    t = d.masked_fill(~valid, 0).sum((1, 2), keepdim=True) / valid.sum(
        (1, 2), keepdim=True
    ).clamp_min(1)
    return t, losses._scale((d - t).masked_fill(~valid, 0), valid)


def zeros_in_median(d, valid):
    """`losses.median_scale` with the median of mask x map (isl-org/MiDaS#33): every invalid pixel
    enters as a 0."""
    t = d.masked_fill(~valid, 0).flatten(1).median(1).values[:, None, None]
    return t, losses._scale((d - t).masked_fill(~valid, 0), valid)


def all_pixels(pred, target, valid):
    """`losses.affine_invariant` with the sum over valid pixels divided by the number of all
    pixels."""
    valid = valid & torch.isfinite(target)
    return alternatives.residual(pred, target, valid).abs().flatten(1).mean(1)


def int_zero(pred, target, valid):
    """`losses.affine_invariant` that returns the integer 0 when no pixel of the batch is valid."""
    return affine_invariant(pred, target, valid) if valid.any() else 0


def trimmed(pred, target, valid):
    """No bug: the mean over the pixels that are left when the worst `TRIM` of each image is
    dropped, as MiDaS means it."""
    valid = valid & torch.isfinite(target)
    return alternatives.map_loss(alternatives.residual(pred, target, valid), valid, drop=TRIM)


def untrimmed(pred, target, valid):
    """`trimmed` as several copies have it: the slice meets the pair (values, indices) of a sort,
    and cuts nothing."""
    valid = valid & torch.isfinite(target)
    error = alternatives.residual(pred, target, valid).abs().flatten(1)
    kept, _ = torch.sort(error, dim=1)[: int((1 - TRIM) * error.shape[1])]
    return kept.sum(1) / valid.flatten(1).sum(1).clamp_min(1)


def batch_margin(student, frozen, *, margin=0.85):
    """`losses.feature_alignment` with the margin held against the mean of the batch: all tokens
    count, or none does."""
    cosine = F.cosine_similarity(student.float(), frozen.detach().float(), dim=1, eps=losses.EPS)
    return torch.where(cosine.mean() < margin, (1 - cosine).flatten(1).mean(1), 0)


def fixed_box(keys, kinds, *, height, width, strength=1.0):
    """`perturb.draw` with one rectangle for all: the middle half of rows and columns, for as many
    images as before."""
    drawn = draw(keys, kinds, height=height, width=width, strength=strength)
    if drawn.box is None:
        return drawn
    middle = torch.tensor([height // 4, width // 4, height - height // 4, width - width // 4])
    return replace(
        drawn,
        box=torch.where((drawn.box[:, 2:] > drawn.box[:, :2]).all(1, keepdim=True), middle, 0),
    )


def wrong_space(pred_disparity, target_disparity, valid, protocol):
    """`protocols.score` with the disparity that was predicted fitted to depth by least squares, and
    taken for depth."""
    valid = scored(target_disparity, valid, protocol)
    depth = 1 / target_disparity.double().masked_fill(~valid, 1)
    scale, shift = least_squares(pred_disparity, depth, valid)
    aligned = scale[:, None, None] * pred_disparity.double() + shift[:, None, None]
    aligned = aligned.clamp(
        max(protocol.min_depth, 1e-3),
        protocol.max_depth or float(torch.where(valid, depth, 0).max()),
    )
    return depth_metrics(torch.where(valid, aligned, 1), depth, valid)


def unguarded(pred, target, valid, *, dtype=torch.float32):
    """`align.least_squares` by the textbook determinant, in the precision of the maps, with nothing
    to catch a zero."""
    n, p, t = (
        torch.where(valid, x, 0).flatten(1).to(dtype) for x in (torch.ones_like(pred), pred, target)
    )
    a00, a01, a11, b0, b1 = ((x * y).sum(1) for x, y in ((p, p), (p, n), (n, n), (p, t), (t, n)))
    determinant = a00 * a11 - a01 * a01
    return ((a11 * b0 - a01 * b1) / determinant).double(), (
        (a00 * b1 - a01 * b0) / determinant
    ).double()


def pooled(predict, source, protocol, **options):
    """`run.evaluate_source` with means over the pixels of all images: each score is weighted by its
    image's share of pixels.

    The mean of the list is the pooled score, exactly, of all that are means over pixels; RMSE is
    left as it was.
    """
    scores = evaluate_source(predict, source, protocol, **options)
    counts = torch.stack(
        [scored(s["disparity"][None], s["valid"][None], protocol).sum().double() for s in source]
    )
    weights = (counts / counts[counts > 0].mean()).tolist()
    means = ("abs_rel", "delta1", "delta2", "delta3")
    return scores | {m: [w * x for w, x in zip(weights, scores[m], strict=True)] for m in means}


def whole_image(self, height, width):
    """`Protocol.crop_mask` of code that computes a crop and forgets to use it."""
    return torch.ones(height, width, dtype=torch.bool)


class Holes(Source):
    """No bug: labels with holes, as sensors have them. Smooth blobs hide 0 to `HIDDEN` of an image,
    fixed by its index."""

    def __init__(self, source: Source):
        self.source, self.domain = source, getattr(source, "domain", "holes")
        self.height, self.width, self.parts = source.height, source.width, source.parts
        self.fingerprint = digest_words(["holes", source.fingerprint])

    def __len__(self) -> int:
        return len(self.source)

    def _sample(self, index: int) -> dict:
        return {k: v if k == "domain" else v[0] for k, v in self.get_batch([index]).items()}

    def get_batch(self, indices: Sequence[int]) -> dict:
        """Samples whose hidden pixels are invalid and hold 0, the value of nothing in a depth
        file."""
        batch = self.source.get_batch(indices)
        valid = batch["valid"] & ~torch.stack(
            [hidden(int(i), *batch["valid"].shape[1:]) for i in indices]
        )
        return batch | {"valid": valid, "disparity": batch["disparity"].masked_fill(~valid, 0)}


def hidden(index: int, height: int, width: int) -> torch.Tensor:
    """The pixels (h, w) that the label of image `index` lacks."""
    generator = torch.Generator().manual_seed(index)
    share, coarse = (
        HIDDEN * torch.rand((), generator=generator),
        torch.rand(1, 1, 6, 8, generator=generator),
    )
    field = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)[0, 0]
    return field < field.flatten().quantile(share)


def with_holes(config: RunConfig):
    """`launch.sources` with holes in the labelled images."""
    labelled, unlabelled = sources(config)
    return Holes(labelled), unlabelled


CROPPED = suite.PROTOCOLS | {"scenes": replace(suite.PROTOCOLS["scenes"], crop="garg")}
SWITCHES = {
    "mean_for_median": (losses, "median_scale", mean_for_median),
    "zeros_in_median": (losses, "median_scale", zeros_in_median),
    "all_pixels": (losses, "affine_invariant", all_pixels),
    "int_zero": (losses, "affine_invariant", int_zero),
    "trimmed": (losses, "affine_invariant", trimmed),
    "untrimmed": (losses, "affine_invariant", untrimmed),
    "batch_margin": (losses, "feature_alignment", batch_margin),
    "fixed_box": (perturb, "draw", fixed_box),
    "holes": (launch, "sources", with_holes),
    "wrong_space": (run, "score", wrong_space),
    "unguarded": (protocols, "least_squares", unguarded),
    "pooled": (suite, "evaluate_source", pooled),
    "cropped": (suite, "PROTOCOLS", CROPPED),
    "crop_unused": (Protocol, "crop_mask", whole_image),
}
"""Name -> whose attribute, which, and what takes its place."""


@contextmanager
def switched_on(*names: str) -> Iterator[None]:
    """Run a block with some of `SWITCHES` on. An unknown name is a `ConfigError` that lists the
    known ones."""
    check_names(names, SWITCHES, what="switch")
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch.object(*SWITCHES[name]))
        yield


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One thing to price, or a correct variant that a bug is compared with.

    Args:
        row: of the main table, whose settings, seeds and teacher it has.
        switches: what is on in training, or for one that is not trained, in scoring.
        against: the variant it is compared with; the row itself by default.
        rate: "encoder" or "decoder", whose learning rate both have.
        trained: False: the row's own network is scored.
        bug: False for what is correct and only there to be compared with.
    """

    row: str = "labelled_only"
    switches: tuple[str, ...] = ()
    against: str = ""
    rate: str = ""
    trained: bool = True
    bug: bool = True


VARIANTS = {
    "mean_for_median": Variant(switches=("mean_for_median",)),
    "one_rate_encoder": Variant(rate="encoder"),
    "one_rate_decoder": Variant(rate="decoder"),
    "zeros_in_median_regions": Variant(row="perturbed", switches=("zeros_in_median",)),
    "holes": Variant(switches=("holes",), bug=False),
    "zeros_in_median": Variant(switches=("holes", "zeros_in_median"), against="holes"),
    "all_pixels": Variant(switches=("holes", "all_pixels"), against="holes"),
    "trimmed": Variant(switches=("trimmed",), bug=False),
    "untrimmed": Variant(switches=("untrimmed",), against="trimmed"),
    "fixed_box": Variant(row="perturbed", switches=("fixed_box",)),
    "batch_margin": Variant(row="full", switches=("batch_margin",)),
    "all_pixels_regions": Variant(row="perturbed", switches=("all_pixels",)),
    "wrong_space": Variant(row="full", switches=("wrong_space",), trained=False),
    "pooled": Variant(row="full", switches=("pooled",), trained=False),
    "unguarded": Variant(row="full", switches=("unguarded",), trained=False),
    "cropped": Variant(row="full", switches=("cropped",), trained=False, bug=False),
    "crop_unused": Variant(
        row="full", switches=("cropped", "crop_unused"), against="cropped", trained=False
    ),
}
"""In the order in which they are run."""


def settings(variant: Variant, config: RunConfig) -> RunConfig:
    """The row's config, with one learning rate where that is the bug."""
    rates = {"": {}, "encoder": {"decoder_lr_factor": 1.0}}
    rates["decoder"] = {
        "encoder_lr": config.encoder_lr * config.decoder_lr_factor,
        "decoder_lr_factor": 1.0,
    }
    return config.replace(**rates[variant.rate])


def folder(name: str, config: RunConfig) -> Path:
    """Where a variant is trained: below `bugs`, where no true run is looked for (their folders bear
    hashes)."""
    return paths.runs() / "bugs" / name / config.hash()


def learn(name: str, config: RunConfig, *, stamp: str, report=print) -> dict:
    """Train a variant in its `folder`, from the true teacher's labels; returns what `train.json`
    says of it.

    Args:
        name: of the variant.
        config: of the true run.
        stamp: of the code. A killed run of the same stamp goes on; one of another is set aside.
        report: receives lines of progress.
    """
    variant, out = VARIANTS[name], folder(name, config)
    job = {"config": settings(variant, config).to_dict(), "out": str(out), "processes": 1}
    job |= {"stamp": f"bug {name} {stamp}"}  # no code hash, so that nobody takes it for a true run
    if out.exists() and read_json(out / JOB) != job:
        set_aside(out, "other", report)
    write_text(out / JOB, json.dumps(job))
    if not (out / launch.DONE).exists():
        with switched_on(*variant.switches):
            launch.execute(job, report=report)
    return json.loads((out / launch.DONE).read_text())


def score(name: str, config: RunConfig) -> dict:
    """Scores as of `suite.evaluate`: of the trained variant by the true evaluation, or of the true
    network by the faulty one."""
    variant = VARIANTS[name]
    weights = (folder(name, config) if variant.trained else launch.folder(config)) / launch.WEIGHTS
    with switched_on(*(() if variant.trained else variant.switches)):
        return suite.evaluate(restore(weights, expect=config.encoder), config)
