"""Other people's evaluation code beside ours: the same maps, and the largest difference of each
number.

python benchmarks/evaluators.py --peer prs-eth/Marigold=PATH --peer microsoft/MoGe=PATH ...

PATH is a git directory, a clone or a bare one. Its newest commit's Python files are written to a
temporary folder and imported from there; nothing of them comes into this repository. Modules that
only read pictures or draw are stood in for. Known peers: prs-eth/Marigold, microsoft/MoGe,
kmatzen/plumbline, nianticlabs/monodepth2, DepthAnything/Depth-Anything-V2, apple/ml-depth-pro,
DepthAnything/Video-Depth-Anything. What is compared with which of ours, and why some differ, stands
in `PEERS` below. The maps are random ones, and made-up predictions of the real pairs in
`../shared/realdepth` where they are (elsewhere, of scikit-image's stereo pair). The table goes to
data/benchmarks/evaluators.json with the peers' commits.
"""

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dalib import paths
from dalib.data.sources import DepthManifest, Motorcycle
from dalib.evaluation.align import ALIGNMENTS, fit
from dalib.evaluation.boundary import boundary_f1
from dalib.evaluation.measure import measure
from dalib.evaluation.metrics import ALL_METRICS, depth_metrics, silog
from dalib.evaluation.protocols import Protocol
from dalib.evaluation.temporal import temporal_alignment_error
from dalib.writing import write_text

AIM = 1e-6
"""Of the larger of 1 and the peer's number."""
LEFT_OUT = ("cv2", "matplotlib", "matplotlib.pyplot", "tqdm", "scipy.ndimage", "trimesh")
"""What a peer imports to read, to draw or to count, and no number here needs."""
RANGE = Protocol(name="0.001 to 80", max_depth=80.0, bounds="open", clamp="range")
ALL = Protocol(name="all", min_depth=0.0)


@dataclass(frozen=True)
class Maps:
    """A prediction and its truth: depth in metres, above 0 everywhere, float64 (H, W), and where it
    is valid; and disparity up to scale and shift, above 0."""

    name: str
    pred: Tensor
    target: Tensor
    valid: Tensor
    disparity: Tensor

    def ours(self, protocol: Protocol, *, kind: str, alignment: str) -> dict[str, float]:
        pred = self.disparity if kind == "disparity" else self.pred
        found = measure(
            pred[None],
            1 / self.target[None],
            self.valid[None],
            protocol,
            kind=kind,
            alignment=alignment,
        )
        return {key: value.item() for key, value in found.items()}

    def metrics(self) -> dict[str, float]:
        """Of the prediction as it is."""
        found = depth_metrics(
            self.pred[None], self.target[None], self.valid[None], names=ALL_METRICS
        )
        return {key: value.item() for key, value in found.items()}


Numbers = Iterator[tuple[str, float, float]]
"""What is compared, our number, theirs."""


# The maps


def maps(images: int) -> list[Maps]:
    """Random maps of three sizes, then real ones."""
    found = []
    for seed, (height, width) in enumerate([(24, 32), (37, 53), (120, 160)]):
        generator = torch.Generator().manual_seed(seed)
        target = 0.5 + 40 * torch.rand(height, width, generator=generator).double() ** 3
        found.append(_pair(f"random {height}x{width}", 1 / target, generator, holes=0.3))
    folder = paths.realdepth()
    source = DepthManifest(folder) if folder.is_dir() else Motorcycle()
    for index in range(min(images, len(source))):
        sample = source[index]
        disparity = sample["disparity"].double().where(sample["valid"], torch.nan)
        if sample.get("offset_known", True):
            generator = torch.Generator().manual_seed(100 + index)
            found.append(_pair(f"{sample['domain']} {index}", disparity, generator, holes=0.0))
    return found


def _pair(name: str, disparity: Tensor, generator: torch.Generator, *, holes: float) -> Maps:
    """A truth and a smooth, wrong prediction of it."""
    valid = torch.isfinite(disparity) & (disparity > 0)
    valid &= torch.rand(disparity.shape, generator=generator) >= holes
    true = disparity.where(valid, disparity[valid].median())
    true = true / true.median() / 4  # the middle lies at 4 m, whatever the unit
    blurred = F.avg_pool2d(true[None, None], 5, 1, 2, count_include_pad=False)[0, 0]
    noise = 1 + 0.2 * torch.rand(true.shape, generator=generator).double()
    ramp = 0.1 * torch.linspace(0, 1, len(true)).double()[:, None]
    pred = blurred * noise + ramp
    return Maps(name=name, pred=1 / pred, target=1 / true, valid=valid, disparity=3 * pred + 0.2)


# The peers: each gives what is to be compared on one pair of maps


def marigold(at: Path, m: Maps) -> Numbers:
    metric, align = load(at, "src/util/metric.py"), load(at, "src/util/alignment.py")
    theirs = {
        "abs_rel": metric.abs_relative_difference,
        "sq_rel": metric.squared_relative_difference,
        "rmse": metric.rmse_linear,
        "rmse_log": metric.rmse_log,
        "silog": metric.silog_rmse,
        "log10": metric.log10,
        "delta1": metric.delta1_acc,
        "delta2": metric.delta2_acc,
        "delta3": metric.delta3_acc,
    }

    def rows(label: str, ours: dict[str, float], depth: Tensor, valid: Tensor) -> Numbers:
        for name, function in theirs.items():
            yield f"{label}{name}", ours[name], float(function(depth, m.target, valid))

    yield from rows("", m.metrics(), m.pred, m.valid)
    valid = m.valid & (m.target > RANGE.min_depth) & (m.target < RANGE.max_depth)
    arrays = {"gt_arr": m.target.numpy(), "pred_arr": m.pred.numpy()}
    fitted = align.align_depth_least_square(valid_mask_arr=valid.numpy(), **arrays)[0]
    depth = torch.from_numpy(np.clip(fitted, RANGE.min_depth, RANGE.max_depth))
    ours = m.ours(RANGE, kind="depth", alignment="depth")
    yield from rows("fit in depth, ", ours, depth, valid)
    arrays = {"gt_arr": 1 / m.target.numpy(), "pred_arr": m.disparity.numpy()}
    fitted = align.align_depth_least_square(valid_mask_arr=valid.numpy(), **arrays)[0]
    depth = align.disparity2depth(np.clip(fitted, 1e-3, None))
    depth = torch.from_numpy(np.clip(depth, RANGE.min_depth, RANGE.max_depth))
    ours = m.ours(RANGE, kind="disparity", alignment="disparity")
    yield from rows("fit in disparity, ", ours, depth, valid)


def moge(at: Path, m: Maps) -> Numbers:
    sys.modules["utils3d"] = _utils3d()
    sys.path.insert(0, str(at))
    metrics = importlib.import_module("moge.test.metrics")
    truth = {"depth": m.target, "depth_mask": m.valid, "points": None}
    truth |= {"is_metric": True, "has_sharp_boundary": False}
    found = metrics.compute_metrics({"disparity_affine_invariant": m.disparity}, truth)[0]
    ours = m.ours(ALL, kind="disparity", alignment="disparity")
    theirs = found["disparity_affine_invariant"]
    yield "fit in disparity, abs_rel", ours["abs_rel"], theirs["rel"]
    yield "fit in disparity, delta1", ours["delta1"], theirs["delta1"]
    found = metrics.compute_metrics({"depth_metric": m.pred}, truth)[0]
    plain = m.metrics()
    yield "abs_rel", plain["abs_rel"], found["depth_metric"]["rel"]
    yield "delta1", plain["delta1"], found["depth_metric"]["delta1"]
    for key, name, alignment in (
        ("depth_scale_invariant", "their scale", "scale"),
        ("depth_affine_invariant", "their scale and shift in depth", "depth"),
    ):
        ours = m.ours(ALL, kind="depth", alignment=alignment)
        yield f"{name}, abs_rel", ours["abs_rel"], found[key]["rel"]
    maps = m.pred[None], m.target[None], m.valid[None]
    for radius in (1, 2, 3):
        ours = boundary_f1(*maps, definition="moge", radius=radius, published=True).item()
        theirs = metrics.boundary_f1(m.pred, m.target, m.valid, radius=radius)
        yield f"boundary F1, radius {radius}", ours, theirs


def plumbline(at: Path, m: Maps) -> Numbers:
    # the package's own __init__ imports networks; its metrics are plain NumPy
    for name in ("plumbline", "plumbline.metrics"):
        package = ModuleType(name)
        package.__path__ = [str(at / "src" / name.replace(".", "/"))]
        sys.modules[name] = package
    align = importlib.import_module("plumbline.metrics.alignment")
    metric = importlib.import_module("plumbline.metrics.depth")
    theirs: dict[str, Callable] = {
        "abs_rel": metric.abs_rel,
        "sq_rel": metric.sq_rel,
        "rmse": metric.rmse,
        "rmse_log": metric.rmse_log,
        "silog": metric.silog,
        "log10": metric.log10_error,
    }
    for name, power in (("delta05", 0.5), ("delta1", 1), ("delta2", 2), ("delta3", 3)):
        theirs[name] = lambda *a, power=power: metric.delta_threshold(*a, threshold=1.25**power)
    arrays = m.pred.numpy(), m.target.numpy(), m.valid.numpy()

    def rows(label: str, ours: dict[str, float], depth: np.ndarray) -> Numbers:
        for name, function in theirs.items():
            yield f"{label}{name}", ours[name], function(depth, m.target.numpy(), m.valid.numpy())

    yield from rows("", m.metrics(), arrays[0])
    for mode, alignment in (("lstsq", "scale"), ("median_lineage", "median")):
        ours = m.ours(ALL, kind="depth", alignment=alignment)
        yield from rows(f"{mode}, unclamped, ", ours, align.align_depth(*arrays, mode=mode))
        fitted = fit(m.pred[None], m.target[None], m.valid[None], ALIGNMENTS[alignment])[0].item()
        scale = align.align_scale_lstsq if mode == "lstsq" else align.align_scale_ratio_of_medians
        yield f"{mode}, scale", fitted, scale(*arrays)
    ours = m.ours(ALL, kind="depth", alignment="disparity")
    found = align.align_depth(*arrays, mode="scale_shift_clamped")
    yield from rows("scale_shift_clamped, ", ours, found)
    for space, name in (("inv_depth", "disparity"), ("depth", "depth"), ("log", "log_depth")):
        ours = m.ours(ALL, kind="depth", alignment=name)
        scale, shift = align.align_scale_and_shift(*arrays, space=space)
        yield f"scale in {space}", ours["scale"], scale
        yield f"shift in {space}", ours["shift"], shift
    ours = m.ours(ALL, kind="depth", alignment="median")
    scale = align.align_scale_median(*arrays)
    yield "median (of ratios), scale", ours["scale"], scale
    ours = m.ours(ALL, kind="depth", alignment="robust")
    scale = align.align_scale_and_shift_robust(*arrays)[0]
    yield "scale_shift_robust, scale", ours["scale"], scale


def monodepth2(at: Path, m: Maps) -> Numbers:
    for name in ("layers", "utils", "options", "datasets", "networks"):
        sys.modules[name] = MagicMock()
    errors = load(at, "evaluate_depth.py").compute_errors
    found = errors(m.target[m.valid].numpy(), m.pred[m.valid].numpy())
    names = ("abs_rel", "sq_rel", "rmse", "rmse_log", "delta1", "delta2", "delta3")
    ours = m.metrics()
    for name, theirs in zip(names, found, strict=True):
        yield name, ours[name], float(theirs)


def depth_anything(at: Path, m: Maps) -> Numbers:
    found = load(at, "metric_depth/util/metric.py").eval_depth(m.pred[m.valid], m.target[m.valid])
    ours = m.metrics()
    maps = m.pred[None], m.target[None], m.valid[None]
    ours["silog, lam 0.5, factor 1"] = silog(*maps, lam=0.5, factor=1).item()
    their_names = {"d1": "delta1", "d2": "delta2", "d3": "delta3"}
    their_names["silog"] = "silog, lam 0.5, factor 1"
    for key, theirs in found.items():
        name = their_names.get(key, key)
        yield name, ours[name], theirs
    yield "silog as BTS has it", ours["silog"], found["silog"]


def depth_pro(at: Path, m: Maps) -> Numbers:
    theirs = load(at, "src/depth_pro/eval/boundary_metrics.py").SI_boundary_F1
    every = torch.ones_like(m.valid)[None]  # it knows no mask
    maps = m.pred[None], m.target[None], every
    ours = boundary_f1(*maps, definition="depth_pro", published=True).item()
    yield "boundary F1", ours, float(theirs(m.pred.numpy(), m.target.numpy()))


def video_depth_anything(at: Path, m: Maps) -> Numbers:
    module = load(at, "benchmark/eval/eval_tae.py")
    film = torch.stack([m.pred, m.pred * 1.05, m.target])
    still, intrinsics = torch.eye(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    nowhere, every = torch.zeros(3, dtype=torch.float64), torch.ones_like(m.valid)
    total = 0.0
    for one, two in ((0, 1), (1, 2)):
        for first, second in ((one, two), (two, one)):
            total += float(
                module.tae_torch(film[first], film[second], still, nowhere, intrinsics, every)
            )
    yield "TAE of a camera at rest", temporal_alignment_error(film).mean().item(), 100 * total / 4


PEERS: dict[str, Callable[[Path, Maps], Numbers]] = {
    "prs-eth/Marigold": marigold,
    "microsoft/MoGe": moge,
    "kmatzen/plumbline": plumbline,
    "nianticlabs/monodepth2": monodepth2,
    "DepthAnything/Depth-Anything-V2": depth_anything,
    "apple/ml-depth-pro": depth_pro,
    "DepthAnything/Video-Depth-Anything": video_depth_anything,
}
WHY = {
    ("microsoft/MoGe", "abs_rel"): "divides by the truth plus 1e-6",
    ("microsoft/MoGe", "fit in disparity, abs_rel"): "divides by the truth plus 1e-6",
    ("microsoft/MoGe", "their scale, abs_rel"): (
        "least absolute error weighted by 1 / truth, at 64 x 64; ours: least squares, all pixels"
    ),
    ("microsoft/MoGe", "their scale and shift in depth, abs_rel"): (
        "least absolute error weighted by 1 / truth, at 64 x 64; ours: least squares, all pixels"
    ),
    ("kmatzen/plumbline", "median (of ratios), scale"): (
        "median of the ratios; ours: ratio of the medians, its median_lineage"
    ),
    ("kmatzen/plumbline", "scale_shift_robust, scale"): (
        "Huber weights; ours: least trimmed squares"
    ),
    ("DepthAnything/Depth-Anything-V2", "silog as BTS has it"): (
        "lambda 0.5 and no factor, as in the training loss; ours: lambda 1, per cent"
    ),
}
"""Why a number differs, where the convention does."""
UNCLAMPED = "keeps what lies beyond the nearest and the farthest truth; ours clamps it"


def why(peer: str, name: str) -> str | None:
    if ", unclamped, " in name:
        return UNCLAMPED
    return WHY.get((peer, name))


def _utils3d() -> ModuleType:
    """What MoGe's metrics use of the library utils3d, by what its names say."""
    module, pt = ModuleType("utils3d"), ModuleType("utils3d.pt")

    def sliding_window_2d(x: Tensor, *, window_size: int, stride: int, dim: tuple) -> Tensor:
        first, second = (axis % x.ndim for axis in dim)
        return x.unfold(first, window_size, stride).unfold(second, window_size, stride)

    def masked_nearest_resize(*, mask: Tensor, size: tuple[int, int], return_index: bool):
        index = tuple(
            ((torch.arange(new) + 0.5) * old / new).long()
            for new, old in zip(size, mask.shape, strict=True)
        )
        index = torch.meshgrid(*index, indexing="ij")
        return mask[index], index

    pt.sliding_window_2d = sliding_window_2d
    pt.masked_nearest_resize = masked_nearest_resize
    module.pt = pt
    module.np = MagicMock()
    return module


# Checkouts and the table


def checkout(git: Path, folder: Path) -> str:
    """Write the Python files of a git directory's newest commit to a folder; its commit."""

    def run(*words: str) -> bytes:
        return subprocess.run(["git", "-C", git, *words], capture_output=True, check=True).stdout

    commit = run("rev-parse", "HEAD").decode().strip()
    for name in run("ls-tree", "-r", "-z", "--name-only", commit).decode().split("\0"):
        if name.endswith(".py"):
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(run("show", f"{commit}:{name}"))
    return commit


def load(at: Path, path: str) -> ModuleType:
    """One file of a checkout as a module, with its folder to import from."""
    file = at / path
    name = "peer_" + file.as_posix().replace("/", "_").removesuffix(".py")
    if name not in sys.modules:
        sys.path.insert(0, str(file.parent))
        spec = importlib.util.spec_from_file_location(name, file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        sys.path.remove(str(file.parent))
    return sys.modules[name]


def compare(peer: str, at: Path, pairs: list[Maps]) -> list[dict]:
    """The largest difference of each number over all maps, as a share of the larger of 1 and the
    peer's."""
    found: dict[str, dict] = {}
    for each in pairs:
        for name, ours, theirs in PEERS[peer](at, each):
            difference = abs(ours - theirs) / max(1.0, abs(theirs))
            row = found.setdefault(name, {"number": name, "difference": -1.0})
            if not difference <= row["difference"]:  # a NaN is the largest
                row |= {"difference": difference, "ours": ours, "theirs": theirs, "on": each.name}
    for row in found.values():
        row["why"] = why(peer, row["number"]) if not row["difference"] <= AIM else None
    return list(found.values())


def main() -> int:
    """Compare with what is given; 1 where a number differs and nobody knows why."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", action="append", required=True, metavar="OWNER/NAME=PATH")
    parser.add_argument("--images", type=int, default=12, help="real pairs, at most")
    parser.add_argument("--no-record", action="store_true", help="print, and write no file")
    args = parser.parse_args()
    given = dict(each.split("=", 1) for each in args.peer)
    if unknown := given.keys() - PEERS.keys():
        parser.error(f"unknown peer {', '.join(unknown)}; known: {', '.join(PEERS)}")
    for name in LEFT_OUT:
        if importlib.util.find_spec(name.split(".")[0]) is None:
            sys.modules[name] = MagicMock()
    pairs = maps(args.images)
    record = {"aim": AIM, "maps": [each.name for each in pairs], "peers": []}
    unexplained = 0
    with tempfile.TemporaryDirectory() as folder:
        for peer, git in given.items():
            at = Path(folder) / peer.replace("/", "+")
            commit = checkout(Path(git), at)
            rows = compare(peer, at, pairs)
            record["peers"].append({"repository": peer, "commit": commit, "numbers": rows})
            print(f"\n{peer} {commit[:12]}")
            for row in rows:
                fine = row["difference"] <= AIM
                unexplained += not fine and row["why"] is None
                note = "" if fine else f"  {row['why'] or 'UNEXPLAINED'}, on {row['on']}"
                print(f"  {row['number']:44} {row['difference']:9.1e}{note}")
    if not args.no_record:
        write_text(paths.benchmarks() / "evaluators.json", json.dumps(record, indent=1) + "\n")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
