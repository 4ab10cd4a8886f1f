"""What a `transformers` folder says about its network, and the tensors that belong to it; each
error names the file and the field."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from dalib.errors import CheckpointError
from dalib.models.depth_anything import DepthAnything
from dalib.models.encoder import SPREAD
from dalib.models.weights import metres, read

log = logging.getLogger(__name__)

FILES = (
    "model.safetensors",
    "pytorch_model.bin",
)  # where `transformers` looks, in this order; each may be an index of several


def read_config(file: Path) -> dict:
    """A JSON object; a `CheckpointError` for anything else."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{file.parent}: no readable {file.name} ({error}); give a folder that transformers "
            "wrote"
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{file}: holds {_short(config)} where an object with fields is needed; copy it again "
            "from its source"
        )
    return config


def read_tensors(folder: Path) -> tuple[dict[str, Tensor], tuple[Path, ...]]:
    """The tensors of the folder's network and the files that they are from, by their names and not
    by what else lies there.

    Raises `CheckpointError` where none of `FILES` is there, or an index names files that are not.
    """
    for name in FILES:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            files = [folder / name]
        elif index.is_file():
            files = [folder / part for part in _parts(index)]
        else:
            continue
        others = sorted(
            p.name for end in ("*.safetensors", "*.bin") for p in folder.glob(end) if p not in files
        )
        if others:
            log.info(
                "%s: the weights are those of %s; not read: %s", folder, name, ", ".join(others)
            )
        return {k: v for file in files for k, v in read(file).items()}, tuple(files)
    there = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) or "nothing"
    raise CheckpointError(
        f"{folder}: holds neither {' nor '.join(FILES)} nor their index, but {there}; rename or "
        "fetch the weights"
    )


def _parts(index: Path) -> list[str]:
    """The files that an index of a sharded network names."""
    names = read_config(index).get("weight_map")
    if (
        not isinstance(names, dict)
        or not names
        or not all(isinstance(v, str) for v in names.values())
    ):
        raise CheckpointError(
            f"{index}: weight_map is {_short(names)} where the file of each tensor is needed"
        )
    parts = sorted(set(names.values()))
    for part in parts:
        if Path(part).name != part or not (index.parent / part).is_file():
            raise CheckpointError(
                f"{index}: names {part!r}, which is no file of this folder; fetch the folder "
                "again, whole"
            )
    return parts


def layers_of(backbone: Mapping, file: Path) -> str:
    """V1 or V2 from the blocks that a folder's backbone hands out, which `transformers` counts from
    1."""
    depth = backbone.get("num_hidden_layers", 12)
    if not _whole(depth):
        raise _wrong(file, "backbone_config.num_hidden_layers", depth, "a whole number")
    places = backbone.get("out_indices")
    names = backbone.get("out_features")
    if places is None:
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise _wrong(
                file,
                "backbone_config.out_features",
                names,
                "a list such as ['stage9', 'stage10', 'stage11', 'stage12']",
            )
        numbers = [n.removeprefix("stage") for n in names if n != "stem"]
        if not numbers or not all(n.isascii() and n.isdigit() for n in numbers):
            raise _wrong(
                file, "backbone_config.out_features", names, "names of stages such as 'stage12'"
            )
        places = [int(n) for n in numbers]
    if not isinstance(places, list) or not all(_whole(place) for place in places):
        raise _wrong(file, "backbone_config.out_indices", places, "a list such as [9, 10, 11, 12]")
    found = tuple(place - 1 for place in places)
    for layers, blocks in (("v1", tuple(range(depth - 4, depth))), ("v2", SPREAD.get(depth))):
        if found == blocks:
            return layers
    raise CheckpointError(
        f"{file}: backbone_config.out_indices reads the blocks {found} of {depth} (counted from "
        "0), which neither V1 nor V2 does"
    )


def said_depth(config: Mapping, file: Path) -> float | None:
    """Metres that a metric network reaches; None for a relative one."""
    kind = config.get("depth_estimation_type", "relative")
    if kind not in ("relative", "metric"):
        raise _wrong(file, "depth_estimation_type", kind, "'relative' or 'metric'")
    value = config.get("max_depth")
    if kind == "relative":
        return None
    if not isinstance(value, (int, float)):
        raise _wrong(file, "max_depth", value, "a depth in metres, as a number above 0")
    return metres(value, f"{file}: max_depth")


def same_network(backbone: Mapping, model: DepthAnything, file: Path) -> None:
    """Refuse a folder whose network differs from ours in what no tensor's shape shows."""
    blocks = model.encoder.net.blocks
    wanted = {
        "num_attention_heads": blocks[0].attn.num_heads,
        "num_hidden_layers": len(blocks),
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "apply_layernorm": True,
    }
    defaults = {"num_attention_heads": 12, "num_hidden_layers": 12}
    for key, value in wanted.items():
        found = backbone.get(key, defaults.get(key, value))
        if found != value:
            raise CheckpointError(
                f"{file}: backbone_config.{key} is {found!r} where Depth Anything has {value}"
            )


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _wrong(file: Path, field: str, value: object, needed: str) -> CheckpointError:
    return CheckpointError(
        f"{file}: {field} is {_short(value)} where {needed} is needed; copy the file again from "
        "its source"
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
