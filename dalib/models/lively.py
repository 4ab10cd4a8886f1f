"""Random weights under which two networks can be compared: behind default ones nearly everything is
zero, in any two of them."""

import torch
from torch import nn

TOKENS = ("cls_token", "mask_token", "pos_embed", "position_embeddings")
SCALES = ("gamma", "lambda1")  # LayerScale, here and in transformers


@torch.no_grad()
def enliven(network: nn.Module, *, seed: int = 0) -> nn.Module:
    """Give a network of ours, of the official code or of `transformers` seeded weights whose output
    varies, and return it.

    Matrices keep the size of what passes through them; position embeddings, tokens and LayerScale
    count.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith(SCALES):
            noise = 0.5 + 0.1 * noise
        elif name.endswith(TOKENS):
            noise = 0.5 * noise
        elif (
            len(parameter) == 1
        ):  # the last convolution, of what a ReLU left: the one behind it stays open
            noise = noise.abs() / parameter.numel() ** 0.5
        elif parameter.ndim > 1:
            noise = noise / parameter[0].numel() ** 0.5
        else:
            noise = 0.1 * noise + ("norm" in name and name.endswith("weight"))
        parameter.copy_(noise)
    return network
