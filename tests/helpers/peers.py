"""What a comparison with `transformers` or with the official code needs: inputs, its network, and a
distance."""

import torch
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

from dalib.models.encoder import PRESETS
from dalib.models.lively import enliven

BLOCKS = {"v1": (8, 9, 10, 11), "v2": (2, 5, 8, 11)}  # of twelve
HEADS = {"vitt": 3, "vits": 6, "vitb": 12}


def distance(found, reference):
    """Largest difference as a share of the range of a reference that varies."""
    span = reference.max() - reference.min()
    assert reference.std() > 0.01 * span > 0
    assert (reference > 0).float().mean() > 0.5
    return float((found - reference).abs().max() / span)


def images(height, width, count=1):
    return torch.randn(
        count, 3, height, width, generator=torch.Generator().manual_seed(height + width)
    )


def peer(encoder, layers, **changes):
    """transformers' network by its own configuration, with lively weights."""
    width = {"vitt": 192, "vits": 384, "vitb": 768}[encoder]
    config = DepthAnythingConfig(
        backbone_config={
            "model_type": "dinov2",
            "image_size": 518,
            "hidden_size": width,
            "num_attention_heads": HEADS[encoder],
            "out_indices": [block + 1 for block in BLOCKS[layers]],
            "reshape_hidden_states": False,
        },
        reassemble_hidden_size=width,
        neck_hidden_sizes=list(PRESETS[encoder].out_channels),
        fusion_hidden_size=PRESETS[encoder].features,
        **changes,
    )
    return enliven(DepthAnythingForDepthEstimation(config)).eval()
