"""How far our networks are from `transformers` and from the official code: same random lively
weights, same input, float32.

python benchmarks/parity.py                                     against transformers (pip install -e '.[peers]')
python benchmarks/parity.py --official PATH                     and against a checkout of the official V1 or V2 code
python benchmarks/parity.py --encoders vits vitb --sizes 518x518 350x476

Differences are the largest of any pixel, in per cent of the range of the reference's output. The
last column is the difference between the two ways of resampling position embeddings: what
`position` changes, and no error of anyone.
"""

import argparse
import contextlib
import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

import torch
from torch import Tensor

from dalib.models import DepthAnything, build
from dalib.models.export import export_official, export_transformers
from dalib.models.lively import enliven

TOLERANCE = 1e-4  # of the range
SIZES = ("518x518", "518x686", "350x476", "1036x518")


def official(path: Path, model: DepthAnything) -> Callable[[Tensor], Tensor]:
    """The official code's network of our network's shape and weights."""
    spec, encoder = model.encoder.spec, model.architecture["encoder"]
    options = {
        "encoder": encoder,
        "features": spec.features,
        "out_channels": list(spec.out_channels),
    }
    sys.modules.setdefault("cv2", MagicMock())  # it reads pictures, which nobody does here
    sys.path.insert(0, str(path))
    with contextlib.chdir(path):  # V1 looks for its DINOv2 in the working directory
        if version(path) == "v1":
            network = importlib.import_module("depth_anything.dpt").DPT_DINOv2(**options)
        else:
            network = importlib.import_module("depth_anything_v2.dpt").DepthAnythingV2(**options)
    with tempfile.TemporaryDirectory() as folder:
        export_official(model, Path(folder) / "weights.pth")
        network.load_state_dict(torch.load(Path(folder) / "weights.pth", weights_only=True))
    return network.eval()


def version(path: Path) -> str:
    """Of an official checkout."""
    for name, folder in (("v1", "depth_anything"), ("v2", "depth_anything_v2")):
        if (path / folder / "dpt.py").exists():
            return name
    raise SystemExit(
        f"{path}: neither a checkout of LiheYoung/Depth-Anything nor of "
        "DepthAnything/Depth-Anything-V2"
    )


def peer(model: DepthAnything) -> Callable[[Tensor], Tensor]:
    """The network of `transformers`, by way of a folder that we write."""
    from transformers import AutoModelForDepthEstimation

    with tempfile.TemporaryDirectory() as folder:
        export_transformers(model, Path(folder))
        network = AutoModelForDepthEstimation.from_pretrained(folder).eval()
    return lambda images: network(images).predicted_depth


def distance(found: Tensor, reference: Tensor) -> float:
    """Largest difference as a share of the reference's range, which has to be one."""
    span = reference.max() - reference.min()
    assert reference.std() > 0.01 * span > 0, "the reference's output does not vary"
    return float((found - reference).abs().max() / span)


@torch.inference_mode()
def compare(encoder: str, layers: str, sizes: list[str], checkout: Path | None) -> bool:
    """Print a line for each size; whether all are within the tolerance."""
    ours = enliven(build(encoder, pretrained=False, layers=layers), seed=0).eval()
    other = build(encoder, pretrained=False, layers=layers, position="transformers").eval()
    other.load_state_dict(ours.state_dict())
    theirs = peer(other)
    reference = official(checkout, ours) if checkout and version(checkout) == layers else None
    fine = True
    for size in sizes:
        images = torch.randn(
            1, 3, *map(int, size.split("x")), generator=torch.Generator().manual_seed(1)
        )
        mine, second = ours(images)[0], other(images)[0]
        found = [distance(second, theirs(images))] + (
            [distance(mine, reference(images))] if reference else []
        )
        fine &= max(found) < TOLERANCE
        cells = [f"{100 * d:12.5f}" for d in found] + ["           -"] * (reference is None)
        print(
            f"{encoder:6}{layers:8}{size:10}{''.join(cells)}{100 * distance(second, mine):12.3f}",
            flush=True,
        )
    return fine


def main() -> int:
    """Compare what is asked for; 1 where anything is out of tolerance."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--official", type=Path, help="checkout of the official V1 or V2 repository"
    )
    parser.add_argument("--encoders", nargs="+", default=["vits", "vitb"])
    parser.add_argument("--layers", nargs="+", default=["v1", "v2"], choices=("v1", "v2"))
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="HEIGHTxWIDTH, multiples of 14")
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.simplefilter("ignore")
    checkout = args.official.resolve() if args.official else None
    print("% of range            size      transformers    official    position")
    results = [compare(e, v, args.sizes, checkout) for e in args.encoders for v in args.layers]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
