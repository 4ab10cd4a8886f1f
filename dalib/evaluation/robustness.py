"""A trained network under corruption: AbsRel and ordinal accuracy of each image, clean and at every
corruption and strength."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import torch
from torch import nn

from dalib.config import RunConfig
from dalib.data.scenes import TEST_DOMAINS
from dalib.data.schema import Source
from dalib.evaluation.corruptions import STRENGTHS, corrupt
from dalib.evaluation.ordinal import ordinal_accuracy
from dalib.evaluation.protocols import PROTOCOLS, score, scored
from dalib.evaluation.run import predict_images
from dalib.evaluation.suite import DIGITS, scene_domains
from dalib.provenance import files_hash

IMAGES = 30
"""The first so many images of each test domain are scored, or all where a run has fewer."""
METRICS = ("abs_rel", "ordinal")
CLEAN = ("clean", 0)
CONDITIONS = (CLEAN, *((kind, strength) for kind in STRENGTHS for strength in range(1, 6)))
"""What the images undergo: nothing, or a corruption at a strength."""
# `condition_name` -> domain -> metric -> a value per image
Scores = dict[str, dict[str, dict[str, list[float]]]]


@cache
def tools_hash() -> str:
    """Digest of the code that corrupts and measures, as it was at the first call: what changes
    these scores beside `science()`."""
    here = Path(__file__).parent
    return files_hash(
        tuple(here / f"{name}.py" for name in ("corruptions", "ordinal", "robustness"))
    )


def condition_name(kind: str, strength: int) -> str:
    """ "clean", or the corruption with its strength: "fog 3"."""
    return f"{kind} {strength}" if strength else kind


def measure(
    model: nn.Module,
    config: RunConfig,
    *,
    images: int = IMAGES,
    domains: Mapping[str, Source] | None = None,
    report: Callable[[str], None] = print,
) -> Scores:
    """Score a network on the test domains under each of `CONDITIONS`.

    Both metrics see the pixels that AbsRel counts in the tables (protocol "scenes"). Corruption
    comes at the images' own size, before the network's resizing, and is rounded to 8 bits as a file
    would be.

    Args:
        model: of the run; what `dalib.evaluation.run.predict_images` asks of it.
        config: of the run: which scenes, at which size.
        images: per domain, at most.
        domains: other sources by name, of images of one size; the six test domains by default.
        report: receives a line per domain.
    """
    found: Scores = {condition_name(*condition): {} for condition in CONDITIONS}
    if domains is None:
        domains = scene_domains(config, TEST_DOMAINS)
    for name, source in domains.items():
        samples = [source[i] for i in range(min(images, len(source)))]
        clean = torch.stack([s["image"] for s in samples])
        target = torch.stack([s["disparity"] for s in samples])
        valid = torch.stack([s["valid"] for s in samples])
        counts = scored(target, valid, PROTOCOLS["scenes"])
        for kind, strength in CONDITIONS:
            seen = clean
            if strength:
                seen = corrupt(clean, kind, strength, domain=name, disparity=target)
            maps = torch.stack(predict_images(model, list(seen), short_side=config.short_side))
            values = {
                "abs_rel": score(maps, target, valid, PROTOCOLS["scenes"])["abs_rel"],
                "ordinal": ordinal_accuracy(maps, target, counts),
            }
            found[condition_name(kind, strength)][name] = {
                k: [round(x, DIGITS) for x in v.tolist()] for k, v in values.items()
            }
        report(f"{name}: {len(samples)} images under {len(CONDITIONS)} conditions")
    return found
