"""A student on your own data: pairs of image and depth, and photographs without depth.

    python examples/train_on_your_data.py PAIRS PHOTOGRAPHS MAPS

PAIRS holds `image/NAME.png` beside `depth/NAME.png` (16 bits, millimetres, 0 where unknown), and
PHOTOGRAPHS any pictures. Without them tiny ones are made up. Change `write_manifest` to where your
depth lies, and `config` to your size of images, encoder and time.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from dalib import Predictor, RunConfig, load, predict, train


def write_manifest(pairs: Path) -> None:
    """List the pairs in a `manifest.csv`: the kind of depth, and what one metre is in the file."""
    rows = [
        f"image/{image.name},depth/{image.stem}.png,depth_m,1000"
        for image in sorted((pairs / "image").iterdir())
    ]
    (pairs / "manifest.csv").write_text("\n".join(["image,depth,kind,depth_scale", *rows]) + "\n")


def make_up(folder: Path, *, count: int, with_depth: bool) -> Path:
    """Pictures of a floor with a box on it, brighter where they are nearer."""
    for name in ("image", "depth") if with_depth else (".",):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        depth = np.repeat(np.linspace(9, 2, 72)[:, None], 108, axis=1)  # metres
        depth[20:50, 10 + 8 * index % 60 :][:, :30] = 1.5 + index % 3
        light = np.array([1, 0.9 - 0.05 * (index % 5), 0.8])
        picture = Image.fromarray((255 * light * (1.2 / depth[..., None])).astype(np.uint8))
        picture.save(folder / ("image" if with_depth else ".") / f"{index}.png")
        if with_depth:
            millimetres = (1000 * depth).astype(np.uint16)
            Image.fromarray(millimetres).save(folder / "depth" / f"{index}.png")
    return folder


def main(pairs: Path, photographs: Path, maps: Path, steps: int) -> None:
    write_manifest(pairs)
    config = RunConfig(
        labelled=(f"depth:{pairs}",),
        unlabelled=(f"photos:{photographs}",),
        # The recipe: pseudo labels, strong perturbation, feature alignment.
        pseudo_labels=True,
        perturb=("colour", "blur", "cutmix"),
        align="unlabelled",
        # Small, to run in seconds on a CPU. The paper: encoder="vits" to "vitl" of DINOv2, 518 x
        # 518, encoder_lr=5e-6, and as many steps as you have time for.
        encoder="lite0",
        height=64,
        width=96,
        steps=steps,
        batch=2,
    )

    # Teacher, pseudo labels, student. Called again, it goes on where it was stopped, and what is
    # whole is not trained again. Everything lies in ./runs, or where DALIB_RUNS says.
    weights = train(config)
    print(f"weights: {weights}")

    # Maps of the photographs as files; in memory: predict.predict(photograph, model=model).
    run = Predictor(model=load(weights), short_side=min(config.height, config.width))
    report = predict.write_folder(photographs, maps, run=run)
    print(f"{len(report.written)} maps: {maps}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, help="PAIRS PHOTOGRAPHS MAPS")
    parser.add_argument("--steps", type=int, default=6, help="of teacher and student each")
    args = parser.parse_args()
    if args.folders and len(args.folders) != 3:
        parser.error("give all three folders, or none")
    if not args.folders:
        place = Path(tempfile.mkdtemp(prefix="train_on_your_data-"))
        os.environ.setdefault("DALIB_RUNS", str(place / "runs"))
        make_up(place / "pairs", count=6, with_depth=True)
        make_up(place / "photographs", count=8, with_depth=False)
        args.folders = [place / name for name in ("pairs", "photographs", "maps")]
    main(*args.folders, args.steps)
