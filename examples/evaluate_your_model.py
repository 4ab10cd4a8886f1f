"""Any function from images to disparity under the protocols, with the floors beside it.

    python examples/evaluate_your_model.py FOLDER

FOLDER holds a `manifest.csv` of images and depth maps (see `train_on_your_data.py`); each of its
data sets is scored by the protocol that is declared for it. Without it: a bundled stereo pair with
measured depth, and a few drawn scenes. Change `your_model`, and nothing else.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from dalib import evaluate, evaluate_folder, open_source
from dalib.evaluation import FLOORS, floor


def your_model(images: list[Tensor]) -> list[Tensor]:
    """Images, uint8 (3, H, W) of any sizes -> a disparity map (h, w) each, larger where nearer.

    Scale and shift do not matter: they are fitted to each image. A network that gives depth returns
    1 / depth here. A map may be smaller than its image; it is resized. This one guesses: low in the
    picture is near, and so is what is bright and of strong colour. Only the first half of that is
    of use on the stereo pair, as the floor called vertical ramp shows.
    """
    maps = []
    for image in images:
        pixels = image.float() / 255
        low = torch.linspace(0, 1, image.shape[1])[:, None]  # (H, 1)
        colour = pixels.amax(0) - pixels.amin(0)  # (H, W)
        maps.append(low + 0.3 * colour + 0.2 * pixels.mean(0))
    return maps


# A network as `dalib.load` reads it can be given in place of a function.
MODELS = {"your model": your_model} | {f"floor, {k}": floor(kind) for k, kind in FLOORS.items()}


def main(folder: Path | None, scenes: int) -> None:
    if folder is not None:
        for name, model in MODELS.items():
            for data, scores in evaluate_folder(model, folder).items():
                print(f"{data}, {name}: {scores}")
        return

    # A source has a name (`open_source`), or is any sequence of samples: a dictionary with `image`,
    # `disparity` (1 / metres), `valid` and `domain`. The protocol says which pixels count.
    drawn = open_source("scenes:night_street", count=scenes, height=96, width=128)
    for data, source, protocol in (
        ("motorcycle", "skimage:motorcycle", "indoor"),
        ("night street", drawn, "scenes"),
    ):
        for name, model in MODELS.items():
            print(f"{data}, {name}: {evaluate(model, source, protocol=protocol)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="with a manifest.csv")
    parser.add_argument("--scenes", type=int, default=8, help="drawn scenes to score")
    args = parser.parse_args()
    main(args.folder, args.scenes)
