"""A training step of a CNN at the study's size, with and without what `dalib.models.quick` changes,
in one thread: seconds on the processor, which other work on the machine disturbs least.

python benchmarks/depthwise.py        writes data/benchmarks/depthwise.json
"""

import copy
from functools import partial

import torch
from timing import both_medians, keep, report
from torch import nn

from dalib import losses
from dalib.config import RunConfig
from dalib.data.catalogue import open_source
from dalib.data.mixture import Concat, Mixture
from dalib.models import build
from dalib.training.step import step_losses

ROUNDS, SEED, IMAGES = 15, 0, 256
SIZE = {"height": 64, "width": 96}
CONFIGS = {
    "8 labelled images": RunConfig(**SIZE),
    "8 labelled and 16 perturbed images": RunConfig(
        pseudo_labels=True, labelling="oracle", perturb=("colour", "blur", "cutmix"), **SIZE
    ),
}


def slow(network: nn.Module) -> nn.Module:
    """A copy whose depthwise convolutions have PyTorch's own gradients, and whose ReLU6 acts in
    place in training too."""
    network = copy.deepcopy(network)
    for module in network.modules():
        vars(module).pop("forward", None)
        if isinstance(module, nn.ReLU6):
            module.inplace = True
    return network


def steps(config: RunConfig) -> dict[str, float]:
    """Seconds on the processor for one step, interleaved."""
    labelled = Concat(open_source("scenes:labelled", count=IMAGES, **SIZE))
    pool = None
    if config.pseudo_labels:
        pool = Concat(open_source("scenes:unlabelled", count=IMAGES, **SIZE))
    mixture = Mixture(config=config, labelled=labelled, unlabelled=pool)
    number = iter(range(10**6))

    def step(network, optimiser):
        batch = mixture[next(number)]
        losses.total(step_losses(config, network, network, None, batch)).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    network = build(config.encoder, seed=SEED).to(memory_format=torch.channels_last).train()
    calls = {
        name: partial(step, each, torch.optim.AdamW(each.parameters(), lr=1e-4, fused=True))
        for name, each in (("PyTorch's gradients", slow(network)), ("as it is", network))
    }
    return both_medians(calls, rounds=ROUNDS)[1]


def main() -> None:
    """Measure, print, and write the record."""
    torch.set_num_threads(1)
    found = {title: steps(config) for title, config in CONFIGS.items()}
    for title, seconds in found.items():
        report(title, seconds, against="PyTorch's gradients")
    rounded = {t: {name: round(s, 5) for name, s in each.items()} for t, each in found.items()}
    facts = {"encoder": RunConfig().encoder, "weights": "ImageNet", **SIZE, "seed": SEED}
    keep("depthwise", facts | {"rounds": ROUNDS, "processor_seconds": rounded})


if __name__ == "__main__":
    main()
