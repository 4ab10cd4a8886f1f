"""Networks that show what arrives at them, and what goes in and comes out."""

import torch
from torch import nn


class Brightness(nn.Module):
    """Undoes the normalisation and returns red as disparity, to see what arrives."""

    mean, std, multiple = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), 8

    def __init__(self, pair):
        super().__init__()
        self.pair, self.seen = pair, []

    def forward(self, images):
        assert not self.training
        self.seen.append(tuple(images.shape))
        red = images[:, 0] * self.std[0] + self.mean[0]
        return (red, None) if self.pair else red


def rgb(height, width, count=2):
    """Images of noise, uint8 (count, 3, height, width): the same for the same size."""
    generator = torch.Generator().manual_seed(height + width)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator).to(torch.uint8)


def apart(found, reference):
    """The largest difference, as a share of the range of the reference, which may not be flat."""
    span = reference.max() - reference.min()
    assert reference.std() > 0.01 * span > 0
    return float((found - reference).abs().max() / span)
