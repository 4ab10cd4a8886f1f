"""The training recipe of Depth Anything (arXiv:2401.10891): data, networks, losses, training,
evaluation and the study around them."""

__version__ = "0.1.0"
