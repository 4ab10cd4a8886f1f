"""Networks that no single GPU can hold: their weights, gradients and moments of AdamW lie in parts
on all processes (FSDP2, `torch.distributed.fsdp.fully_shard`).

torch's own function is called, and not accelerate's wrapper of it, for three reasons: the wrapper
does not work without GPUs, so that no test could run it; its bf16 rounds weights to bfloat16 where
`RunConfig.precision` means autocast, which is another step; and it has no way to shard a network
that does not learn. Accelerate starts the processes here too.

What is written to disk is never in parts. A checkpoint has the same form with and without sharding,
and is gone on from with any number of processes, sharded or not.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dalib.models.encoder import Encoder
from dalib.training.machines import Sharding


def shard(network: nn.Module, how: Sharding, *, device: torch.device) -> None:
    """Share a network out over all processes, in place: each transformer block by itself, and the
    rest together.

    A block's weights are whole only while it works. All processes must call the network at the same
    time from here on, and its parameters are `DTensor`. Outside of it nothing changes: outputs are
    whole, and the gradient is the mean over the processes, as DistributedDataParallel's is.

    Args:
        network: with the same weights in all processes.
        how: see `Sharding`.
        device: of this process.
    """
    # seconds to import, which a run that is not sharded can do without
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # FSDP2 cuts weights along their first axis and takes none in another order
    network.to(device, memory_format=torch.contiguous_format)
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for encoder in network.modules():
        if isinstance(encoder, Encoder) and encoder.is_vit:
            for block in encoder.net.blocks:
                fully_shard(block, mesh=mesh, reshard_after_forward=how.reshard)
    fully_shard(network, mesh=mesh, reshard_after_forward=how.reshard)


def whole(state):
    """A state dict with every part gathered, on the CPU; one without parts comes back as it is.

    Where there are parts, all processes must call this at the same time.
    """
    if isinstance(state, Mapping):
        return type(state)((name, whole(value)) for name, value in state.items())
    if isinstance(state, list | tuple):
        return type(state)(whole(value) for value in state)
    return gathered(state).cpu() if _in_parts(state) else state


def gathered(value: Tensor) -> Tensor:
    """A tensor whole and where it lies; all processes must call this at the same time."""
    return value.full_tensor() if _in_parts(value) else value


def load(model: nn.Module, optimiser: Optimizer, state: Mapping) -> None:
    """Put the whole `model` and `optimiser` of a checkpoint into a model and its optimiser, each
    process its own parts of them where these are sharded."""
    own = model.state_dict()
    weights = {name: _like(value, own.get(name)) for name, value in state["model"].items()}
    order = [p for group in optimiser.param_groups for p in group["params"]]
    moments = {
        number: {name: _like(value, order[number]) for name, value in values.items()}
        for number, values in state["optimiser"]["state"].items()
    }
    model.load_state_dict(weights)
    groups = state["optimiser"]["param_groups"]
    optimiser.load_state_dict({"state": moments, "param_groups": groups})


def _like(value, parameter: Tensor | None):
    """A whole tensor as a parameter of its shape lies in memory, and the part of it that this
    process has where that one is sharded; anything else as it is.

    Fused AdamW walks through weights and moments in the order of memory without a look at their
    strides: moments of a channels-last weight must be channels-last, and a checkpoint's may not be.
    """
    if not isinstance(value, Tensor) or parameter is None or value.shape != parameter.shape:
        return value
    if not _in_parts(parameter):
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value)

    # every process has read the whole tensor, and none need send it
    from torch.distributed.tensor import distribute_tensor

    value = value.to(parameter.device).contiguous()
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def _in_parts(value) -> bool:
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor)


class Written:
    """A state dict under the name by which `checkpoint.keep` asks for it."""

    def __init__(self, state: Mapping):
        self.state = state

    def state_dict(self) -> Mapping:
        """What was given."""
        return self.state
