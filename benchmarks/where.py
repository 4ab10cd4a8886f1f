"""Where the time of our network goes at inference, and what each precision costs on this processor.

python benchmarks/where.py            ViT-S, 518x518; writes data/benchmarks/where.json, which the book shows
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from unittest import mock

import torch
from inference import SEED, SIDE, images
from timing import keep, medians
from torch.autograd.profiler_util import FunctionEvent
from torch.utils.flop_counter import FlopCounterMode

from dalib.models import DepthAnything, build, packed
from dalib.models.inference import Inference, has_bfloat16, optimise
from dalib.models.lively import enliven
from dalib.training.costs import COUNTED

ENCODER = "vits"
ROUNDS = 7
KINDS = {  # of work, and the names of PyTorch's operations that do it on a CPU
    "linear layers": ("aten::addmm", "aten::mkldnn_linear", "mkldnn::_linear_pointwise"),
    # and all that is called within `dalib.models.packed.attention`, which `times` gives a name
    "attention": ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
    "convolutions": (
        *("aten::mkldnn_convolution", "aten::_slow_conv2d_forward", "aten::thnn_conv2d"),
        "aten::_convolution",  # its own time is that of transposed ones
    ),
    "interpolation": (
        "aten::upsample_bilinear2d",
        "aten::upsample_bicubic2d",
        "aten::lerp",
        "aten::index",
    ),
    # packed linear layers have their GELU inside
    "GELU and norms": ("aten::gelu", "aten::native_layer_norm"),
}


def named(name: str, function: Callable) -> Callable:
    """The function, as an event of its own in a profile."""

    def call(*args):
        with torch.profiler.record_function(name):
            return function(*args)

    return call


def kind_of(event: FunctionEvent) -> str:
    """The kind of work that an event of a profile belongs to: the outermost that has one."""
    kinds = []
    while event is not None:
        kinds += [kind for kind, names in KINDS.items() if event.name in names]
        event = event.cpu_parent
    return kinds[-1] if kinds else "the rest"


def times(network: Inference) -> dict[str, float]:
    """Milliseconds of one image that each kind of work takes: its share of a profile, after a run
    to warm up, times the median of unprofiled runs."""
    x = images(1)
    network(x)
    attention = mock.patch.object(packed, "attention", named("attention", packed.attention))
    with attention, torch.profiler.profile() as profile:
        network(x)
    spent: Counter[str] = Counter()
    for event in profile.events():
        spent[kind_of(event)] += event.self_cpu_time_total
    found = {kind: spent[kind] / spent.total() for kind in KINDS}
    whole = 1e3 * medians({"whole": partial(network, x)}, rounds=ROUNDS)["whole"]
    return {
        kind: round(whole * share, 1)
        for kind, share in (found | {"the rest": 1 - sum(found.values())}).items()
    }


@torch.no_grad()
def products(model: DepthAnything) -> dict[str, float]:
    """GFLOP of one image in the three kinds of work that are products of matrices."""
    with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter:
        model(images(1))
    counts = counter.get_flop_counts()["Global"]
    kinds = {
        "addmm": "linear layers",
        "_scaled_dot_product_flash_attention_for_cpu": "attention",
        "convolution": "convolutions",
    }
    return {kinds[operation.__name__]: round(count / 1e9, 1) for operation, count in counts.items()}


@torch.inference_mode()
def linear_speed() -> dict[str, float]:
    """GFLOP/s of the widest linear layer of ViT-S (384 to 1536, the 1,370 tokens of one image) in
    each precision."""
    calls = {}
    for dtype in (torch.float32, torch.bfloat16):
        layer, tokens = torch.nn.Linear(384, 1536, dtype=dtype), torch.rand(1370, 384, dtype=dtype)
        calls[str(dtype).removeprefix("torch.")] = partial(layer, tokens)
    return {
        name: round(2 * 1370 * 384 * 1536 / s / 1e9, 1)
        for name, s in medians(calls, rounds=2 * ROUNDS + 1).items()
    }


def main() -> None:
    """Measure, print, and write the record."""
    model = enliven(build(ENCODER, pretrained=False, layers="v2"), seed=SEED)
    facts = {
        "encoder": ENCODER,
        "side": SIDE,
        "seed": SEED,
        "rounds": ROUNDS,
        "ms": {"float32": times(optimise(model))},
    }
    if has_bfloat16(torch.device("cpu")):
        facts["ms"]["bfloat16"] = times(optimise(model, dtype=torch.bfloat16))
    facts["GFLOP"] = products(model.eval())
    facts["linear layer, GFLOP/s"] = linear_speed()
    keep("where", facts)
    print(facts)


if __name__ == "__main__":
    main()
