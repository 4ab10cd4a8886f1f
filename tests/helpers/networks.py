"""Networks that show what arrives at them."""

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
