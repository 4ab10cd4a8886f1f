"""Batched alignment against a loop of `torch.linalg.lstsq` over images: the ratio of medians,
interleaved in one run.

python benchmarks/bench_align.py
"""

import statistics
import time

import torch

from dalib.evaluation import least_squares


def loop(pred: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """(B, 2): scale and shift, image by image, float64 as `least_squares`."""
    solutions = []
    for p, t, v in zip(pred.double(), target.double(), valid, strict=True):
        columns = torch.stack([p[v], torch.ones_like(p[v])], 1)  # (pixels, 2)
        solutions.append(torch.linalg.lstsq(columns, t[v, None]).solution[:, 0])
    return torch.stack(solutions)


def batched(pred: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    return torch.stack(least_squares(pred, target, valid), 1)


def main(repeats: int = 15) -> None:
    print(f"{torch.get_num_threads()} threads, medians of {repeats}, interleaved")
    for images, height, width in ((60, 96, 128), (24, 96, 128), (8, 480, 640)):
        generator = torch.Generator().manual_seed(0)
        pred, target = torch.rand(2, images, height, width, generator=generator)
        maps = pred, target, torch.rand(images, height, width, generator=generator) > 0.2
        torch.testing.assert_close(batched(*maps), loop(*maps))
        seconds = {batched: [], loop: []}
        for _ in range(repeats):
            for solve, taken in seconds.items():
                start = time.perf_counter()
                solve(*maps)
                taken.append(time.perf_counter() - start)
        ours, theirs = (statistics.median(taken) for taken in seconds.values())
        size = f"{images} x {height} x {width}"
        print(
            f"{size}: batched {1e3 * ours:.1f} ms, loop {1e3 * theirs:.1f} ms, ratio "
            f"{ours / theirs:.2f}"
        )


if __name__ == "__main__":
    main()
