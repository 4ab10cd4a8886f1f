"""Tiny data sets in the forms in which the real ones are published, written byte by byte from their
descriptions and not with what reads them.

Every map is 2 rows of 3; what is known of it is worked out by hand in `TREES`.
"""

import csv
import json
import shutil
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

NO = None
"""No ground truth at this pixel."""
NAN, INF = float("nan"), float("inf")


# ---- files


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def photo(path: Path, *, size: tuple[int, int] = (3, 2)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 100, 50)).save(path)


def png(rows: list[list], *, bits: int, channels: int = 1) -> bytes:
    """PNG of 8 or 16 bits: grey, or RGBA of 4-tuples."""
    form = {8: "B", 16: "H"}[bits]
    height, width = len(rows), len(rows[0])
    flat = [[value for pixel in row for value in np.atleast_1d(pixel).tolist()] for row in rows]
    body = b"".join(b"\0" + struct.pack(f">{len(row)}{form}", *row) for row in flat)
    header = struct.pack(">IIBBBBB", width, height, bits, {1: 0, 4: 6}[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + word + data + struct.pack(">I", zlib.crc32(word + data))
        for word, data in chunks
    )


def float_png(rows: list[list[float]]) -> bytes:
    """TartanAir V2: the bytes of a little-endian float32 are blue, green, red and alpha."""
    pixels = []
    for row in rows:
        quads = [struct.pack("<f", value) for value in row]
        pixels.append([(q[2], q[1], q[0], q[3]) for q in quads])
    return png(pixels, bits=8, channels=4)


def floats(rows: list[list[float]]) -> bytes:
    return b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)


def pfm(rows: list[list[float]]) -> bytes:
    """The last row comes first; a negative scale says that it is little-endian."""
    return b"Pf\n%d %d\n-1.0\n" % (len(rows[0]), len(rows)) + floats(rows[::-1])


def dpt(rows: list[list[float]]) -> bytes:
    return struct.pack("<fii", 202021.25, len(rows[0]), len(rows)) + floats(rows)


def exr(rows: list[list[float]], *, names: tuple[str, ...] = ("G",)) -> bytes:
    """OpenEXR without compression, line by line; each channel holds `rows` times its place + 1, but
    G holds `rows`."""
    height, width = len(rows), len(rows[0])
    channels = b"".join(
        name.encode() + b"\0" + struct.pack("<iB3xii", 2, 0, 1, 1) for name in names
    )
    box = struct.pack("<iiii", 0, 0, width - 1, height - 1)
    attributes = (
        (b"channels", b"chlist", channels + b"\0"),
        (b"compression", b"compression", b"\0"),
        (b"dataWindow", b"box2i", box),
        (b"displayWindow", b"box2i", box),
        (b"lineOrder", b"lineOrder", b"\0"),
        (b"pixelAspectRatio", b"float", struct.pack("<f", 1)),
        (b"screenWindowCenter", b"v2f", struct.pack("<ff", 0, 0)),
        (b"screenWindowWidth", b"float", struct.pack("<f", 1)),
    )
    head = struct.pack("<ii", 20000630, 2)
    for name, kind, value in attributes:
        head += name + b"\0" + kind + b"\0" + struct.pack("<i", len(value)) + value
    head += b"\0"
    size = 4 * width * len(names)
    start = len(head) + 8 * height
    table = b"".join(struct.pack("<Q", start + y * (8 + size)) for y in range(height))
    lines = b""
    for y, row in enumerate(rows):
        lines += struct.pack("<ii", y, size)
        for place, name in enumerate(names):
            lines += floats([[v * (1 if name == "G" else place + 2) for v in row]])
    return head + table + lines


def npy(array: np.ndarray) -> bytes:
    """Version 1.0 of the format."""
    words = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}, }}"
    words += " " * (-(len(words) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(words)) + words.encode() + array.tobytes()


def hdf5(path: Path, name: str, rows: list[list[float]]) -> None:
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file[name] = np.array(rows, np.float32)


def table(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


# ---- trees


@dataclass
class Truth:
    """What a tree holds: for each id, disparity by rows, `NO` where nothing is known."""

    samples: dict[str, list[list]]
    scale_known: bool = True
    offset_known: bool = True
    #: lines of the report, as far as they are not the same for all
    apart: dict[str, int] = field(default_factory=dict)


def blendedmvs(root: Path) -> Truth:
    """PFM, bottom row first; 0 is none; an empty map is left out; masked images are passed over."""
    scene = root / "5bfe5ae0fe0ea555e6a969ca"
    for k in range(3):
        photo(scene / f"blended_images/{k:08d}.jpg")
        photo(scene / f"blended_images/{k:08d}_masked.jpg")
    put(scene / "rendered_depth_maps/00000000.pfm", pfm([[2, 4, 0], [8, 0.5, 1]]))
    put(scene / "rendered_depth_maps/00000001.pfm", pfm([[0, 0, 0], [0, 0, 0]]))
    put(scene / "cams/pair.txt", b"3\n")
    return Truth(
        {f"{scene.name}/blended_images/00000000": [[0.5, 0.25, NO], [0.125, 2, 1]]},
        scale_known=False,
        apart={"images without their map or mask": 1, "left out (no valid value": 1},
    )


def diml_indoor(root: Path) -> Truth:
    photo(root / "office1/color/in_k_01_c.png")
    depth = png([[1000, 2000, 0], [4000, 65535, 8000]], bits=16)
    put(root / "office1/depth_filled/in_k_01_depth_filled.png", depth)
    return Truth({"office1/color/in_k_01_c": [[1, 0.5, NO], [0.25, NO, 0.125]]})


def diml_outdoor(root: Path) -> Truth:
    photo(root / "street/outleft/out_1.png")
    photo(root / "street/outright/out_1.png")
    put(root / "street/depthmap/out_1.png", png([[5000, 65535, 0], [10000] * 3], bits=16))
    return Truth({"street/outleft/out_1": [[0.2, NO, NO], [0.1, 0.1, 0.1]]})


def hrwsi(root: Path) -> Truth:
    """The left column is a masked border though it holds values; 0 inside is the sky."""
    for part in ("train", "val"):
        photo(root / part / "imgs/a.jpg")
        put(root / part / "gts/a.png", png([[90, 0, 0], [90, 51, 255]], bits=8))
        put(root / part / "valid_masks/a.png", png([[0, 255, 255], [0, 255, 255]], bits=8))
    truth = [[NO, 0, 0], [NO, 0.2, 1]]
    return Truth(
        {"train/imgs/a": truth, "val/imgs/a": truth}, scale_known=False, offset_known=False
    )


def irs(root: Path) -> Truth:
    """24 px are 0.5 / m, by 480 px x 0.1 m; one file of one channel, one of three."""
    scene = root / "Home/ArchVizInterior03Data"
    for k, names in ((1, ("G",)), (57, ("B", "G", "R"))):
        for side in "lr":
            photo(scene / f"{side}_{k:05d}.png")
        put(scene / f"d_{k:05d}.exr", exr([[24, 48, 0], [12, 96, 4.8]], names=names))
        put(scene / f"n_{k:05d}.exr", b"normals")
    truth = [[0.5, 1, NO], [0.25, 2, 0.1]]
    return Truth({f"Home/{scene.name}/l_00001": truth, f"Home/{scene.name}/l_00057": truth})


def megadepth(root: Path) -> Truth:
    """The second map is ordinal, which its negative values say, and is left out."""
    model = root / "0001/dense0"
    for name in ("1_o.jpg", "2_o.jpg"):
        photo(model / "imgs" / name)
    hdf5(model / "depths/1_o.h5", "depth", [[2, 0, 5], [4, 0.25, 10]])
    hdf5(model / "depths/2_o.h5", "depth", [[-1, -1, 0], [-2, -2, 0]])
    return Truth(
        {"0001/dense0/imgs/1_o": [[0.5, NO, 0.2], [0.25, 4, 0.1]]},
        scale_known=False,
        apart={"left out (N negative values": 1},
    )


def tartanair(root: Path) -> Truth:
    track = root / "abandonedfactory/Easy/P000"
    for side in ("left", "right"):
        photo(track / f"image_{side}/000000_{side}.png")
    depth = np.array([[2, 4, 10000], [5, 500, 1000]], np.float32)
    put(track / "depth_left/000000_left_depth.npy", npy(depth))
    return Truth(
        {"abandonedfactory/Easy/P000/image_left/000000_left": [[0.5, 0.25, 0], [0.2, 0.002, 0]]},
        apart={"images without their map or mask": 1},
    )


def tartanair_v2(root: Path) -> Truth:
    track = root / "ForestEnv/Data_easy/P001"
    photo(track / "image_lcam_front/000007_lcam_front.png")
    depth = float_png([[2, 3.2, 1e6], [0.1, 50, 12345.678]])
    put(track / "depth_lcam_front/000007_lcam_front_depth.png", depth)
    return Truth(
        {
            "ForestEnv/Data_easy/P001/image_lcam_front/000007_lcam_front": [
                [0.5, 0.3125, 0],
                [10, 0.02, 0],
            ]
        }
    )


def hypersim(root: Path) -> Truth:
    """A wall at z = 2 m, whose distances along the rays are longer towards the sides.

    The first scene has the usual camera, the second one a shifted camera, whose rays the published
    table gives: 1.5 u + 1, 2 v + 1, -1 with u = -2/3, 0, 2/3 and v = 1/2, -1/2 from the top. So they
    point 0, 1, 2 to the right and 2 up in the first row, 0 up in the second; the distances are
    2 sqrt 5, 2 sqrt 6, 2 x 3 there and 2, 2 sqrt 2, 2 sqrt 5 here.

    60 degrees over 3 pixels: the focal length is 1.5 / tan 30 = 1.5 x sqrt(3) px, its square 6.75.
    Pixel centres lie at x = -1, 0, 1 and y = -0.5, 0.5: distance = 2 sqrt(1 + (x x + y y) / 6.75).
    """
    side = 2 * (1 + 1.25 / 6.75) ** 0.5
    middle = 2 * (1 + 0.25 / 6.75) ** 0.5
    usual = [[side, middle, side], [side, middle, NAN]]
    shifted = [[2 * 5**0.5, 2 * 6**0.5, 6], [2, 2 * 2**0.5, NAN]]
    for scene, rows in (("ai_001_001", usual), ("ai_001_002", shifted)):
        images = root / scene / "images"
        photo(images / "scene_cam_00_final_preview/frame.0000.tonemap.jpg")
        photo(images / "scene_cam_00_final_preview/frame.0000.color.jpg")
        hdf5(
            images / "scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5",
            "dataset",
            rows,
        )
    lens = {"scene_name": "ai_001_002", "settings_units_info_meters_scale": 0.01}
    matrix = ((1.5, 0, 1), (0, 2, 1), (0, 0, -1))
    lens |= {f"M_cam_from_uv_{i}{j}": matrix[i][j] for i in range(3) for j in range(3)}
    table(root / "metadata_camera_parameters.csv", [lens])
    rows = [
        {
            "scene_name": scene,
            "camera_name": "cam_00",
            "frame_id": 0,
            "included_in_public_release": True,
            "exclude_reason": "",
            "split_partition_name": part,
        }
        for scene, part in (("ai_001_001", "train"), ("ai_001_002", "test"))
    ]
    table(root / "metadata_images_split_scene_v1.csv", rows)
    truth = [[0.5, 0.5, 0.5], [0.5, 0.5, NO]]
    names = (f"ai_001_00{k}/images/scene_cam_00_final_preview/frame.0000.tonemap" for k in (1, 2))
    return Truth(dict.fromkeys(names, truth))


def vkitti2(root: Path) -> Truth:
    frames = root / "Scene01/clone/frames"
    photo(frames / "rgb/Camera_0/rgb_00000.jpg")
    depth = png([[200, 65535, 65535], [1000, 400, 50000]], bits=16)
    put(frames / "depth/Camera_0/depth_00000.png", depth)
    return Truth({"Scene01/clone/frames/rgb/Camera_0/rgb_00000": [[0.5, 0, 0], [0.1, 0.25, 0.002]]})


def nyuv2(root: Path) -> Truth:
    """MATLAB 7.3: H x W x N of doubles, columns first, so that HDF5 sees N x W x H, behind a head
    of 512 bytes. Images 1 and 3 are the test."""
    import h5py
    from scipy.io import savemat

    depths = np.zeros((2, 3, 3))  # H x W x N
    depths[:, :, 0] = [[1, 2, 4], [5, 8, 10]]
    depths[:, :, 1] = 3
    depths[:, :, 2] = [[10, 8, 5], [4, 2, 1]]
    images = np.zeros((2, 3, 3, 3), np.uint8)  # H x W x 3 x N
    images[0, 2, 1, 2] = 77  # first row, last column, green, third image
    path = root / "nyu_depth_v2_labeled.mat"
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        file["depths"] = depths.T.astype(np.float32)
        file["images"] = images.T
        file["rawDepths"] = np.zeros((3, 3, 2), np.float32)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    savemat(root / "splits.mat", {"testNdxs": [[1], [3]], "trainNdxs": [[2]]})
    name = "nyu_depth_v2_labeled.mat#images/{}"
    return Truth(
        {
            name.format(0): [[1, 0.5, 0.25], [0.2, 0.125, 0.1]],
            name.format(1): [[1 / 3] * 3] * 2,
            name.format(2): [[0.1, 0.125, 0.2], [0.25, 0.5, 1]],
        }
    )


DRIVE = "2011_09_26/2011_09_26_drive_0002_sync"


def kitti_eigen(root: Path) -> Truth:
    """Value / 256 is metres. The first frame has no map, as in the published data."""
    for k in (0, 5, 69):
        photo(root / DRIVE / f"image_02/data/{k:010d}.png")
    photo(root / DRIVE / f"image_00/data/{5:010d}.png")  # grey cameras have no map
    place = "{}/2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/{:010d}.png"
    put(root / place.format("val", 5), png([[512, 0, 0], [1024, 0, 2560]], bits=16))
    put(root / place.format("val", 69), png([[256, 0, 0], [0, 0, 0]], bits=16))
    return Truth(
        {
            f"{DRIVE}/image_02/data/{5:010d}": [[0.5, NO, NO], [0.25, NO, 0.1]],
            f"{DRIVE}/image_02/data/{69:010d}": [[1, NO, NO], [NO, NO, NO]],
        },
        apart={"images without their map or mask": 1},
    )


def kitti_eigen_raw(root: Path) -> Truth:
    """Laser: x ahead, y to the left, z up; camera: x to the right, y down, z ahead, 1 m ahead of
    the laser. P has the focal length 10 and the centre (2, 1), and moves points by 0.5 in x
    (fx x baseline = 5).

    (3, 0, 0) has z = 2: u = 10 x 0 / 2 + 2 + 5 / 2 = 4.5, rounded to the even 4, less one: column 3,
    outside. (6, 1, 0): z = 5, u = (-10 + 5) / 5 + 2 = 1 -> 0; v = 1 -> 0: row 0, column 0, z = 5.
    (11, 0, 0): z = 10, u = 0.5 + 2 = 2.5 -> 2 -> 1; v = 1 -> 0. (11, -1, -1): z = 10, u = 1.5 + 2 =
    3.5 -> 4 -> 3, outside. (21, 1, -2): z = 20, u = -0.25 + 2 = 1.75 -> 2 -> 1; v = 1 + 1 = 2 -> 1: row
    1, column 1. (41, 2, -4): z = 40, u = -0.375 + 2 -> 2 -> 1, v = 2 -> 1: the same pixel, farther.
    (-9, 0, 0) lies behind.
    """
    date = root / "2011_09_26"
    motion = "R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 -1\ndelta_f: 0 0\n"
    put(date / "calib_velo_to_cam.txt", b"calib_time: 15-Mar-2012 11:37:16\n" + motion.encode())
    lens = "corner_dist: 9.95e-02\nR_rect_00: 1 0 0 0 1 0 0 0 1\nP_rect_02: 10 0 2 5 0 10 1 0 0 0 1 0\n"
    put(date / "calib_cam_to_cam.txt", lens.encode())
    points = [
        (3, 0, 0),
        (6, 1, 0),
        (11, 0, 0),
        (11, -1, -1),
        (21, 1, -2),
        (41, 2, -4),
        (-9, 0, 0),
    ]
    photo(root / DRIVE / f"image_02/data/{69:010d}.png")
    scan = b"".join(struct.pack("<4f", *point, 0.3) for point in points)
    put(root / DRIVE / f"velodyne_points/data/{69:010d}.bin", scan)
    return Truth({f"{DRIVE}/image_02/data/{69:010d}": [[0.2, 0.1, NO], [NO, 0.05, NO]]})


def sintel(root: Path) -> Truth:
    training = root / "training"
    for place in ("clean", "final"):
        photo(training / place / "alley_1/frame_0001.png")
    put(training / "depth/alley_1/frame_0001.dpt", dpt([[2, 4, 1e11], [0.5, 10, 1]]))
    return Truth({"training/final/alley_1/frame_0001": [[0.5, 0.25, 0], [2, 0.1, 1]]}, False)


def ddad(root: Path) -> Truth:
    photo(root / "000150/rgb/CAMERA_01/15616458249936530.png")
    depth = np.array([[0, 2, 0], [4, 0, 200]], np.float64)
    path = root / "000150/depth/lidar/CAMERA_01/15616458249936530.npz"
    path.parent.mkdir(parents=True)
    np.savez_compressed(path, depth=depth)
    truth = [[NO, 0.5, NO], [0.25, NO, 0.005]]
    shutil.copytree(root / "000150", root / "000000")
    splits = {"0": ["000000/scene_a.json"], "1": ["000150/scene_b.json"]}
    splits = {split: {"filenames": names} for split, names in splits.items()}
    put(root / "ddad.json", json.dumps({"scene_splits": splits}).encode())
    return Truth(
        {f"000{k}/rgb/CAMERA_01/15616458249936530": truth for k in ("000", "150")},
    )


def eth3d(root: Path) -> Truth:
    photo(root / "courtyard/images/dslr_images/DSC_0286.JPG")
    depth = floats([[2, INF, 4], [INF, 8, 0.5]])
    put(root / "courtyard/ground_truth_depth/dslr_images/DSC_0286.JPG", depth)
    truth = [[0.5, NO, 0.25], [NO, 0.125, 2]]
    return Truth({"courtyard/images/dslr_images/DSC_0286": truth})


def diode(root: Path) -> Truth:
    """(H, W, 1); the mask is of float, 1 for a valid return."""
    samples = {}
    for part, place in (("val", "outdoor"), ("train", "indoors")):
        name = f"{part}/{place}/scene_00022/scan_00193/00022_00193_{place}_000_010"
        photo(root / f"{name}.png")
        depth = np.array([[[2.0], [0.0], [300.0]], [[4.0], [1.0], [0.0]]])
        put(root / f"{name}_depth.npy", npy(depth))
        mask = np.array([[1, 0, 0], [1, 1, 0]], np.float64)
        put(root / f"{name}_depth_mask.npy", npy(mask))
        samples[name] = [[0.5, NO, NO], [0.25, 1, NO]]
    return Truth(samples)


TREES = {
    write.__name__: write
    for write in (
        *(blendedmvs, diml_indoor, diml_outdoor, hrwsi, irs, megadepth, tartanair, tartanair_v2),
        *(hypersim, vkitti2, nyuv2, kitti_eigen, kitti_eigen_raw, sintel, ddad, eth3d, diode),
    )
}
