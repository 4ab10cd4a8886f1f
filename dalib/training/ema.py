"""An exponential moving average of a network's weights, which is smoother than the last step's."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def decay_at(step: int, *, decay: float | int) -> float | int:
    """The decay after `step` steps, from 1: min(decay, 1 - 1 / (step + 1)).

    While the second term is the smaller one, the average is the plain mean of the first weights and
    those after each step; that a short run is not held back by its first weights. As in the code of
    Mean Teacher (arXiv:1703.01780, `pytorch/main.py` of github.com/CuriousAI/mean-teacher); their
    paper has the decay alone.
    """
    return min(decay, 1 - 1 / (step + 1))


class Average:
    """The moving average a of a network's weights w: a = w at first, and after each step
    a <- d a + (1 - d) w, where d is `decay_at` that step.

    What is no floating-point number (a count) is taken over as it is. The average is a function of
    the weights after each step alone, so that it resumes to the same bits, and is the same in every
    process that has the same weights.

    Args:
        model: with its first weights, where it will stay.
        decay: of the average, 0 to below 1.
    """

    def __init__(self, model: nn.Module, *, decay: float | int):
        self.decay = decay
        self.tensors = {name: t.detach().clone() for name, t in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, *, step: int) -> None:
        """Take the weights after step number `step`, from 1, into the average."""
        now = model.state_dict()
        floats = [name for name, t in self.tensors.items() if t.is_floating_point()]
        move = get_ema_multi_avg_fn(decay_at(step, decay=self.decay))
        move([self.tensors[name] for name in floats], [now[name] for name in floats], step)
        for name in self.tensors.keys() - set(floats):
            self.tensors[name].copy_(now[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights, under the names that they have in the network."""
        return self.tensors

    @torch.no_grad()
    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Take the average of an earlier leg. Raises `KeyError` where a tensor is missing."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @contextmanager
    def worn_by(self, model: nn.Module) -> Iterator[None]:
        """The network has the averaged weights while a block runs, and its own again behind it."""
        own = {name: t.detach().clone() for name, t in model.state_dict().items()}
        model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            model.load_state_dict(own)
