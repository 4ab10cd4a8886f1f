"""What the conformance kit says of this project's own functions, and of every faulty twin that the
page of bugs prices; and the part of `book/conform.md` that is made from it.

    python -m dabook.pages.conformance     # writes that part anew
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch

from dabook.runs.faulty import VARIANTS, settings, switched_on
from dalib import losses, paths
from dalib.config import RunConfig
from dalib.conformance import Report, check
from dalib.data import perturb
from dalib.evaluation import metrics, suite
from dalib.evaluation.protocols import PROTOCOLS, Protocol
from dalib.evaluation.run import mean_over_images
from dalib.models import DepthAnything
from dalib.training import train
from dalib.writing import write_text

START, END = "<!-- made by dabook.pages.conformance -->", "<!-- /made -->"
PAGE = "book/conform.md"


# how our functions are called as their kinds are -------------------------------------------------


def affine_invariant(pred, target, valid):
    """`losses.affine_invariant`, looked up when it is called, so that a twin can stand there."""
    return losses.affine_invariant(pred, target, valid)


def cutmix(pred, target, target_inside, inside, valid):
    """`losses.cutmix_unlabelled`."""
    return losses.cutmix_unlabelled(
        pred, target, target_inside=target_inside, inside=inside, valid=valid
    )


def trimmed(pred, target, valid):
    """The trimmed loss of the page of bugs, which stands where the affine-invariant loss did."""
    return losses.affine_invariant(pred, target, valid)


def feature_alignment(student, frozen, margin):
    """`losses.feature_alignment`."""
    return losses.feature_alignment(student, frozen, margin=margin)


def aligner(pred, target, valid):
    """`least_squares`, by the name that scoring knows it by."""
    from dalib.evaluation import protocols

    return protocols.least_squares(pred, target, valid)


def metric(pred, target, valid):
    """`metrics.depth_metrics`."""
    return metrics.depth_metrics(pred, target, valid)


class Maps:
    """Ground truth as a source, one image after the other."""

    domain = "kit"

    def __init__(self, target, valid):
        self.target, self.valid = target, valid

    def __len__(self):
        return len(self.target)

    def __getitem__(self, i):
        if i >= len(self):
            raise IndexError
        image = torch.zeros(3, *self.target.shape[1:], dtype=torch.uint8)
        return {
            "image": image,
            "disparity": self.target[i],
            "valid": self.valid[i],
            "domain": self.domain,
        }


def evaluator(pred, target, valid, max_depth):
    """`suite.evaluate_source`, as the book reports it: the mean over images."""
    predictions = iter(pred)
    scores = suite.evaluate_source(
        lambda images: [next(predictions) for _ in images],
        Maps(target, valid),
        Protocol(name="kit", min_depth=0.0, max_depth=max_depth),
    )
    return {name: mean_over_images(scores[name]) for name in ("abs_rel", "delta1")}


def cutmix_box(count, height, width):
    """`perturb.draw`."""
    keys = [(0, 0, i) for i in range(count)]
    return perturb.draw(keys, ("cutmix",), height=height, width=width).box


def garg_crop(height, width):
    """`Protocol.crop_mask` of KITTI."""
    return PROTOCOLS["kitti"].crop_mask(height, width)


def eigen_crop(height, width):
    """`Protocol.crop_mask` of NYUv2."""
    return PROTOCOLS["nyuv2"].crop_mask(height, width)


def learning_rates(encoder, decoder, encoder_lr, *, variant=None):
    """The optimiser of a run, with one rate where a variant of the page of bugs has it."""
    config = RunConfig(encoder_lr=encoder_lr)
    config = config if variant is None else settings(VARIANTS[variant], config)
    student = DepthAnything.__new__(DepthAnything)  # nothing of it but what the optimiser reads
    torch.nn.Module.__init__(student)
    student.encoder = encoder
    networks = train._Networks(
        student=student, trained=student, heads=[decoder], frozen=None, teacher=None, average=None
    )
    return train._optimiser(config, networks)


# what is checked ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One function that is checked.

    Args:
        title: what it is, for the page.
        kind: as what it is checked.
        function: the adapter above.
        switches: of `dabook.runs.faulty`, on during the check.
        fault: what the kit should find, nothing in what is right.
    """

    title: str
    kind: str
    function: Callable
    switches: tuple[str, ...] = ()
    fault: str = ""

    def report(self) -> Report:
        """What the kit says; asked once."""
        return _report(self)


@cache
def _report(subject: Subject) -> Report:
    with switched_on(*subject.switches):
        return check(subject.function, subject.kind)


def _rates(variant: str) -> Callable:
    def optimiser(encoder, decoder, encoder_lr):
        return learning_rates(encoder, decoder, encoder_lr, variant=variant)

    return optimiser


OURS = (
    Subject(title="the affine-invariant loss", kind="affine_invariant", function=affine_invariant),
    Subject(title="the unlabelled loss", kind="cutmix", function=cutmix),
    Subject(
        title="the feature alignment loss", kind="feature_alignment", function=feature_alignment
    ),
    Subject(title="scale and shift", kind="aligner", function=aligner),
    Subject(title="the metrics", kind="metric", function=metric),
    Subject(title="the evaluation", kind="evaluator", function=evaluator),
    Subject(title="the CutMix boxes", kind="cutmix_box", function=cutmix_box),
    Subject(title="the crop of KITTI", kind="garg_crop", function=garg_crop),
    Subject(title="the crop of NYUv2", kind="eigen_crop", function=eigen_crop),
    Subject(title="the optimiser", kind="learning_rates", function=learning_rates),
    Subject(
        title="the trimmed loss of the page of bugs",
        kind="trimmed",
        function=trimmed,
        switches=("trimmed",),
    ),
)
"""What is right."""


def _twin(title: str, kind: str, function: Callable, switch: str, fault: str = "") -> Subject:
    return Subject(
        title=title, kind=kind, function=function, switches=(switch,), fault=fault or switch
    )


TWINS = (
    _twin("mean for median", "affine_invariant", affine_invariant, "mean_for_median"),
    _twin("mean for median, regions", "cutmix", cutmix, "mean_for_median"),
    _twin("zeros in the median", "affine_invariant", affine_invariant, "zeros_in_median"),
    _twin("zeros in the median, regions", "cutmix", cutmix, "zeros_in_median"),
    _twin("divided by all pixels", "affine_invariant", affine_invariant, "all_pixels"),
    _twin("divided by all pixels, regions", "cutmix", cutmix, "all_pixels"),
    _twin("the integer 0 for empty masks", "affine_invariant", affine_invariant, "int_zero"),
    _twin("a trimmed loss that trims nothing", "trimmed", trimmed, "untrimmed"),
    _twin("the margin on the batch", "feature_alignment", feature_alignment, "batch_margin"),
    _twin("one CutMix box for all", "cutmix_box", cutmix_box, "fixed_box"),
    Subject(
        title="one learning rate, the encoder's",
        kind="learning_rates",
        function=_rates("one_rate_encoder"),
        fault="one_rate_encoder",
    ),
    Subject(
        title="one learning rate, the decoder's",
        kind="learning_rates",
        function=_rates("one_rate_decoder"),
        fault="one_rate_decoder",
    ),
    _twin("fitted in depth", "evaluator", evaluator, "wrong_space"),
    _twin("pixels pooled over images", "evaluator", evaluator, "pooled"),
    _twin("a solve without a guard", "aligner", aligner, "unguarded"),
    _twin("a crop that is never used", "garg_crop", garg_crop, "crop_unused"),
)
"""Every bug of the page of bugs."""


# the page ----------------------------------------------------------------------------------------


def table() -> str:
    """What the kit says, as Markdown: a table of what is right, and the words on each twin."""
    lines = ["| ours | checked as | verdict |", "|---|---|---|"]
    for subject in OURS:
        report = subject.report()
        count = len(report.passed) + len(report.failed)
        verdict = "conforms" if report else ", ".join(report.faults)
        lines.append(
            f"| {subject.title} | `{subject.kind}` | {verdict}: {len(report.passed)} of {count} |"
        )
    lines.append("")
    for subject in TWINS:
        report = replace(subject.report(), subject=subject.title)
        lines += ["```text", *_short(report), "```", ""]
    return "\n".join(lines)


def _short(report: Report) -> list[str]:
    """The first finding, and how many vectors failed."""
    found = report.findings[0]
    of = f" ({', '.join(dict.fromkeys(f.metric for f in report.findings))})" if found.metric else ""
    told = replace(found, metric="").lines()
    count = len(report.passed) + len(report.failed)
    head = f"{report.subject}, as {report.kind}{of}: {len(report.failed)} of {count} fail"
    return [head, *told]


def update(text: str) -> str:
    """A page with what stands between the marks made anew."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{table()}\n{END}{after}"


def main() -> int:
    """Write the page."""
    page = paths.root() / PAGE
    write_text(page, update(page.read_text(encoding="utf-8")))
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
