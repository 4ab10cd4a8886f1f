"""The folders in which public data sets with depth are published, as one table: where images and
maps lie, and what the numbers in the maps mean.

`dalib.data.published` finds the pairs by it and writes the manifest that `depth:` reads. Each entry
names where its facts were read; what was not found there is said under `unstated`, with what is
assumed instead.

A pattern is a path below the data set's folder. `{scene}` stands for one name of any characters,
`{split:train|val}` for one that the expression matches; the depth map's pattern is filled with what
the image's pattern found. What follows `#` is a part of the file (`dalib.data.readers`).
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Split:
    """How a data set says which images belong together."""

    #: what `--split` may be
    values: tuple[str, ...]
    #: the name in the image's pattern that holds the split, or what the file lists; "" where the
    #: file lists images
    field: str = ""
    #: the published file that says it, looked for in the folder or given by `--list`
    file: str = ""
    #: how that file is read: "hypersim", "nyuv2" or "ddad" (see `dalib.data.published`)
    form: str = ""
    #: where the file is to be had
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One data set in its published form."""

    #: its name in full
    title: str
    #: as the column `dataset` calls it
    dataset: str
    #: "training" or "test" in the recipe
    role: str
    #: what the folder holds
    expects: str
    #: pattern of the images
    image: str
    #: patterns of the maps; the first file that is there is taken
    depth: tuple[str, ...]
    #: pattern of the masks, not 0 where there is ground truth
    mask: str = ""
    #: further files that a map cannot be read without
    needs: tuple[str, ...] = ()
    #: one of `dalib.data.readers.READERS`; "" for pictures and .npy
    reader: str = ""
    #: "depth_m" or "disparity"
    kind: str = "depth_m"
    #: value = stored / scale
    scale: float | int = 1
    #: what is stored
    unit: str
    #: stored values without ground truth, as the column `invalid`
    invalid: str = ""
    #: as the column `sky`
    sky: str = ""
    #: how the sky is known, in words
    sky_words: str
    #: as the column `rays`, where the values are distances along the rays
    rays: str = ""
    #: a published table in the folder that knows the rays of each scene better (columns `scene_name`
    #: and `M_cam_from_uv_00` to `_22`)
    cameras: str = ""
    #: whether disparity is in 1/m
    scale_known: bool = True
    #: whether disparity is proportional to 1/z, without an unknown offset
    offset_known: bool = True
    #: how to choose a part
    split: Split | None = None
    #: whether the published maps hold some that are none, so that each is read and such are left out
    check: bool = False
    #: where a published list of images is to be had, which is given by `--list`
    lists: str = ""
    #: of the data
    licence: str
    #: where the data are
    url: str
    #: where the facts above stand, and what is said there
    source: str
    #: what was not found there, and what is assumed
    unstated: str = ""


_KITTI_IMAGE = "{date}/{drive}/{camera:image_0[23]}/data/{frame}.{end:png|jpg}"
_KITTI_LICENCE = "CC BY-NC-SA 3.0"
_EIGEN = "test_files.txt in splits/{} of github.com/nianticlabs/monodepth2 (DRIVE FRAME l|r)"

LAYOUTS: dict[str, Layout] = {
    "blendedmvs": Layout(
        title="BlendedMVS, BlendedMVG",
        dataset="blendedmvs",
        role="training",
        expects="the project folders PID, each with blended_images and rendered_depth_maps",
        image="{scene}/blended_images/{frame:[0-9]+}.jpg",
        depth=("{scene}/rendered_depth_maps/{frame}.pfm",),
        unit="PFM, depth in a unit of each scene's own; 0 where there is none",
        invalid="0",
        sky_words="not marked: 0, like any pixel that the mesh does not cover",
        scale_known=False,
        check=True,
        licence="CC BY 4.0",
        url="https://github.com/YoYo000/BlendedMVS",
        source="README, Dataset Structure and Note: the folders; images also come masked "
        "(_masked.jpg, passed over here); depth maps and images may be empty where the mesh has "
        "holes, so that each pair is read and such are left out.",
        unstated="unit, and that 0 means none (as MVSNet's format, to which the README refers)",
    ),
    "diml_indoor": Layout(
        title="DIML/CVL RGB-D, indoor",
        dataset="diml",
        role="training",
        expects="HR or LR of a part: scene folders, each with color and depth_filled",
        image="{scene}/color/{frame}_c.png",
        depth=("{scene}/depth_filled/{frame}_depth_filled.png",),
        unit="16-bit PNG, millimetres; holes of the Kinect v2 are filled by colorization",
        scale=1000,
        invalid="65535",
        sky_words="none: indoor",
        licence="not stated on the page; research (ask the authors)",
        url="https://dimlrgbd.github.io",
        source="The page, Indoor Data: filled depth and raw depth in millimetres as 16-bit PNG, "
        "colour as 8-bit PNG. Folders and endings: ZoeDepth's loader diml_indoor_test.py.",
        unstated="what 0 and 65535 mean: taken as no depth; where the colour images are larger than "
        "the maps, as some downloads have it, the pair is refused",
    ),
    "diml_outdoor": Layout(
        title="DIML/CVL RGB-D, outdoor",
        dataset="diml",
        role="training",
        expects="HR or LR of a part: scene folders, each with outleft and depthmap",
        image="{scene}/outleft/{frame}.png",
        depth=("{scene}/depthmap/{frame}.png",),
        unit="16-bit PNG, millimetres, from stereo matching",
        scale=1000,
        invalid="65535",
        sky_words="not marked; what is farther than 65.5 m cannot be stored",
        licence="not stated on the page; research (ask the authors)",
        url="https://dimlrgbd.github.io",
        source="The page, Overview and Outdoor Data: disparity of a ZED camera turned into depth in "
        "millimetres, 16-bit PNG. Folders: ZoeDepth's loader diml_outdoor_test.py.",
        unstated="what 0 and 65535 mean: taken as no depth; below which confidence a depth is wrong: "
        "the confidence maps are not used",
    ),
    "hrwsi": Layout(
        title="HR-WSI (HRWSI)",
        dataset="hrwsi",
        role="training",
        expects="train and val, each with imgs, gts and valid_masks",
        image="{split:train|val}/imgs/{frame}.jpg",
        depth=("{split}/gts/{frame}.png",),
        mask="{split}/valid_masks/{frame}.png",
        kind="disparity",
        scale=255,
        unit="8-bit PNG, disparity of web stereo images, from 0 (far) to 255 (near)",
        invalid="none",
        sky_words="disparity 0 inside the mask; the masked border stays without ground truth",
        scale_known=False,
        offset_known=False,
        split=Split(values=("train", "val"), field="split"),
        licence="research only",
        url="https://github.com/KexianHust/Structure-Guided-Ranking-Loss",
        source="README, Dataset: for research only; the paper (CVPR 2020): disparity by optical flow, "
        "unreliable pixels masked. Folders and endings: hr_wsi.py of github.com/julilien/PLDepth.",
        unstated="bits and direction of the values: as the paper's pictures, near is bright",
    ),
    "irs": Layout(
        title="IRS, indoor robotics stereo",
        dataset="irs",
        role="training",
        expects="Home, Office, Restaurant and Store, each with scene folders",
        image="{room}/{scene}/l_{frame:[0-9]+}.png",
        depth=("{room}/{scene}/d_{frame}.exr#G",),
        reader="exr",
        kind="disparity",
        scale=48,
        unit="OpenEXR, disparity in pixels; 480 px x 0.1 m = 48, so that disparity / 48 is 1/m",
        invalid="nan inf -inf 0",
        sky_words="none: indoor; 0 is taken as no ground truth",
        licence="not stated",
        url="https://github.com/HKBU-HPML/IRS",
        source="README (folders), lists/*.list (l_, r_, d_ and n_ of a frame), EXRloader.py (the only "
        "channel, or G of three), disp2pcd.py (focal length 480 px, baseline 0.1 m).",
        unstated="what stands for no ground truth: not finite or 0",
    ),
    "megadepth": Layout(
        title="MegaDepth v1",
        dataset="megadepth",
        role="training",
        expects="MegaDepth_v1: scene folders, each with dense0, dense1, ... of imgs and depths",
        image="{scene}/{model:dense[0-9]+}/imgs/{frame}.{end:jpg|JPG|png|PNG|jpeg|JPEG}",
        depth=("{scene}/{model}/depths/{frame}.h5#depth",),
        reader="hdf5",
        unit="HDF5, data set depth, in a unit of each model's own; 0 where there is none",
        invalid="0",
        sky_words="not marked: 0",
        scale_known=False,
        check=True,
        licence="CC BY 4.0 by its page (not checked here)",
        url="http://www.cs.cornell.edu/projects/megadepth/",
        source="Repository zhengqili/MegaDepth (paths SCENE/denseN/imgs and depths, data set depth); "
        "prepare_data.md of COTR: some of the .h5 are ordinal, not depth, and these hold negative "
        "values. Each map is read, and one with negative values is left out.",
        unstated="that 0 means none",
    ),
    "tartanair": Layout(
        title="TartanAir",
        dataset="tartanair",
        role="training",
        expects="environment folders, each with Easy and Hard of P000, P001, ...",
        image="{scene}/{level:Easy|Hard}/{track:P[0-9]+}/image_{side:left|right}/{frame}_{side}.png",
        depth=("{scene}/{level}/{track}/depth_{side}/{frame}_{side}_depth.npy",),
        unit="npy (H, W), metres",
        sky="farther 1000",
        sky_words="1000 m and more: the sphere of the sky is far away, its distance no infinite number",
        licence="CC BY 4.0 by its page (not checked here); the tools BSD",
        url="https://theairlab.org/tartanair-dataset/",
        source="README of castacks/tartanair_tools (folders, names) and data_type.md: numpy arrays; "
        "the sky has a large value, such as 10000, for want of an infinite one.",
        unstated="from which depth on it is sky: 1000 m, since a sphere seen at an angle has less "
        "depth than radius, and no scene is that large",
    ),
    "tartanair_v2": Layout(
        title="TartanAir V2",
        dataset="tartanair",
        role="training",
        expects="environment folders, each with Data_easy and Data_hard of P000, P001, ...",
        image="{scene}/{level:Data_easy|Data_hard}/{track:P[0-9]+}/image_{side:[lr]cam_[a-z]+}/"
        "{frame}_{side}.png",
        depth=("{scene}/{level}/{track}/depth_{side}/{frame}_{side}_depth.png",),
        reader="png-float32",
        unit="RGBA PNG whose four channels are the bytes of a float32, metres",
        sky="farther 1000",
        sky_words="1000 m and more: far pixels of the sky hold a very large value",
        licence="CC BY 4.0 by its page (not checked here); the tools BSD",
        url="https://tartanair.org",
        source="docs/modalities.rst of castacks/tartanairpy: float32 packed losslessly into the "
        "channels of an H x W x 4 PNG (order as OpenCV reads them, little-endian).",
        unstated="folders: as its tools lay them; from which depth on it is sky: as for TartanAir",
    ),
    "hypersim": Layout(
        title="Hypersim",
        dataset="hypersim",
        role="training",
        expects="scene folders ai_VVV_NNN, each with images; and metadata_camera_parameters.csv",
        image="{scene:ai_[0-9]+_[0-9]+}/images/scene_{camera:cam_[0-9]+}_final_preview/"
        "frame.{frame:[0-9]+}.tonemap.jpg",
        depth=(
            "{scene}/images/scene_{camera}_geometry_hdf5/frame.{frame}.depth_meters.hdf5#dataset",
        ),
        reader="hdf5",
        unit="HDF5, data set dataset, metres along the ray, turned into z-depth as it is read",
        invalid="nan inf 0",
        sky_words="not marked: NaN where a ray meets nothing, taken as no ground truth",
        rays="60",
        cameras="metadata_camera_parameters.csv",
        split=Split(
            values=("train", "val", "test"),
            file="metadata_images_split_scene_v1.csv",
            form="hypersim",
            url="evermotion_dataset/analysis in github.com/apple/ml-hypersim",
        ),
        licence="CC BY-SA 3.0",
        url="https://github.com/apple/ml-hypersim",
        source="README: the layout; depth_meters are Euclidean distances to the optical centre, not "
        "planar depth; a pinhole camera of 60 degrees across with square pixels; the split v1 by "
        "scenes. contrib/mikeroberts3000: 276 of 482 scenes have a shifted or tilted camera; the "
        "table there gives each scene's M_cam_from_uv, and is used where it lies in the folder "
        "(without it z-depth is off by up to 18 %, by more than 1 % in 148 scenes).",
        unstated="what NaN means",
    ),
    "vkitti2": Layout(
        title="Virtual KITTI 2",
        dataset="vkitti2",
        role="training",
        expects="the archives rgb and depth, unpacked to the same Scene01, Scene02, ...",
        image="{scene:Scene[0-9]+}/{variation}/frames/rgb/{camera:Camera_[01]}/rgb_{frame}.jpg",
        depth=("{scene}/{variation}/frames/depth/{camera}/depth_{frame}.png",),
        scale=100,
        unit="16-bit PNG, centimetres",
        sky="value 65535",
        sky_words="65535, the far plane at 655.35 m",
        licence="CC BY-NC-SA 3.0",
        url="https://europe.naverlabs.com/research/computer-vision/proxy-virtual-worlds-vkitti-2/",
        source="The page's description: 16-bit PNG, 1 is one centimetre to the camera's plane; what is "
        "infinitely far, such as the sky, is clipped at the far plane of 655.35 m. Folders: "
        "ZoeDepth's loader vkitti2.py.",
    ),
    "nyuv2": Layout(
        title="NYU Depth V2, the 1449 labelled images",
        dataset="nyuv2",
        role="test",
        expects="nyu_depth_v2_labeled.mat, and splits.mat for --split",
        image="nyu_depth_v2_labeled.mat#images/{frame}",
        depth=("nyu_depth_v2_labeled.mat#depths/{frame}",),
        reader="matlab",
        unit="MATLAB 7.3, H x W x N, metres; holes of the Kinect are filled",
        sky_words="none: indoor",
        split=Split(
            values=("train", "test"),
            file="splits.mat",
            form="nyuv2",
            url="http://horatio.cs.nyu.edu/mit/silberman/indoor_seg_sup/splits.mat",
        ),
        licence="not stated; research",
        url="https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html",
        source="The page: images H x W x 3 x N, depths H x W x N in metres, in-painted, rawDepths "
        "beside them. splits.mat: trainNdxs (795) and testNdxs (654), counted from 1, as public "
        "scripts that read it have them.",
    ),
    "kitti_eigen": Layout(
        title="KITTI, improved depth (Eigen 652 with its list)",
        dataset="kitti",
        role="test",
        expects="the dates of the raw data (2011_09_26, ...), and train and val of data_depth_annotated",
        image=_KITTI_IMAGE,
        depth=(
            "train/{drive}/proj_depth/groundtruth/{camera}/{frame}.png",
            "val/{drive}/proj_depth/groundtruth/{camera}/{frame}.png",
            "data_depth_annotated/train/{drive}/proj_depth/groundtruth/{camera}/{frame}.png",
            "data_depth_annotated/val/{drive}/proj_depth/groundtruth/{camera}/{frame}.png",
            "{date}/{drive}/proj_depth/groundtruth/{camera}/{frame}.png",
        ),
        scale=256,
        unit="16-bit PNG, metres x 256; 0 where there is none",
        sky_words="not seen by the laser",
        lists=_EIGEN.format("eigen_benchmark"),
        licence=_KITTI_LICENCE,
        url="http://www.cvlibs.net/datasets/kitti/eval_depth.php?benchmark=depth_prediction",
        source="Development kit of the depth benchmark: 16-bit PNG, depth in metres is value / 256, 0 "
        "is not valid. 652 of the 697 images of Eigen et al. have such a map (monodepth2, "
        "splits/eigen_benchmark).",
    ),
    "kitti_eigen_raw": Layout(
        title="KITTI, laser scans projected (Eigen 697 with its list)",
        dataset="kitti",
        role="test",
        expects="the dates of the raw data (2011_09_26, ...) with calib_*.txt and velodyne_points",
        image=_KITTI_IMAGE,
        depth=("{date}/{drive}/velodyne_points/data/{frame}.bin#{camera}",),
        needs=("{date}/calib_velo_to_cam.txt", "{date}/calib_cam_to_cam.txt"),
        reader="velodyne",
        unit="float32 x, y, z, reflectance in metres, projected into the camera; 0 elsewhere",
        invalid="0",
        sky_words="not seen by the laser",
        lists=_EIGEN.format("eigen"),
        licence=_KITTI_LICENCE,
        url="http://www.cvlibs.net/datasets/kitti/raw_data.php",
        source="monodepth2's generate_depth_map: P_rect x R_rect_00 x T_velo_to_cam takes a point to "
        "the picture, then rounding, minus one and the nearest point. The development kit of the "
        "raw data, on which it rests, was not looked up here.",
    ),
    "sintel": Layout(
        title="MPI Sintel, depth",
        dataset="sintel",
        role="test",
        expects="training, with final (of MPI-Sintel-complete) and depth",
        image="training/final/{scene}/{frame}.png",
        depth=("training/depth/{scene}/{frame}.dpt",),
        reader="dpt",
        unit=".dpt: PIEH, width and height as int32, float32 by rows; metres of the film",
        invalid="nan inf 0",
        sky="farther 10000",
        sky_words="10000 m and more",
        scale_known=False,
        licence="not checked here; the film CC BY 3.0",
        url="http://sintel.is.tue.mpg.de/depth",
        source="The archive's sintel_io.py, as public copies of it have it: the mark 202021.25, which "
        "reads PIEH, then width, height and float32 row by row. The page itself was not looked up.",
        unstated="unit (the scale counts as unknown) and the depth of the sky: far above 10000, as "
        "Blender writes where a ray meets nothing; a sky painted on something near stays near",
    ),
    "ddad": Layout(
        title="DDAD",
        dataset="ddad",
        role="test",
        expects="scene folders 000000, ..., each with rgb and the depth/lidar that PackNet-SfM writes",
        image="{scene:[0-9]+}/rgb/{camera}/{frame}.png",
        depth=(
            "{scene}/depth/lidar/{camera}/{frame}.npz#depth",
            "{scene}/depth/LIDAR/{camera}/{frame}.npz#depth",
        ),
        reader="npz",
        unit="npz, array depth, metres from laser points; 0 where there is none",
        invalid="0",
        sky_words="not seen by the laser",
        split=Split(
            values=("train", "val"),
            field="scene",
            file="ddad.json",
            form="ddad",
            url="the archive of the data, beside the scenes",
        ),
        licence="CC BY-NC-SA 4.0",
        url="https://github.com/TRI-ML/DDAD",
        source="README: the point clouds are projected by TRI's own code (DGP). PackNet-SfM's "
        "dgp_dataset.py keeps each map as SCENE/depth/lidar/CAMERA/TIME.npz, array depth. ddad.json "
        "lists the scenes of each split, which DGP numbers 0 for train, 1 for val.",
        unstated="that 0 means none (as the code projects points into zeros)",
    ),
    "eth3d": Layout(
        title="ETH3D, high-resolution multi-view, training",
        dataset="eth3d",
        role="test",
        expects="scene folders, each with images/dslr_images and ground_truth_depth/dslr_images",
        image="{scene}/images/dslr_images/{frame}.JPG",
        depth=("{scene}/ground_truth_depth/dslr_images/{frame}.JPG",),
        reader="raw-float32",
        unit="float32 row by row without a header, of the photograph's size, though it is called .JPG",
        invalid="inf nan 0",
        sky_words="not seen by the laser: infinite, as all that has no depth",
        licence="CC BY-NC-SA 4.0 by its page (not checked here)",
        url="https://www.eth3d.net/documentation",
        source="Documentation, Format of multi-view data, Training data: depth of the original, "
        "distorted images as 4-byte floats, row by row, infinite where there is none. Also issue 3 "
        "of ETH3D/multi-view-evaluation: the files are no JPEG.",
    ),
    "diode": Layout(
        title="DIODE",
        dataset="diode",
        role="test",
        expects="train and val, each with indoors and outdoor",
        image="{split:train|val}/{place:indoors|outdoor}/{scene}/{scan}/{frame}.png",
        depth=("{split}/{place}/{scene}/{scan}/{frame}_depth.npy",),
        mask="{split}/{place}/{scene}/{scan}/{frame}_depth_mask.npy",
        unit="npy (H, W, 1), metres",
        invalid="0",
        sky_words="not seen by the laser: outside the mask",
        split=Split(values=("train", "val"), field="split"),
        licence="MIT by its page (not checked here)",
        url="https://github.com/diode-dataset/diode-devkit",
        source="README, File Naming Conventions: _depth.npy, _depth_mask.npy with 1 for a valid "
        "return; diode.py: SPLIT/PLACE/SCENE/SCAN, a last axis of one.",
        unstated="z-depth or distance: taken as z-depth, as in the published evaluations",
    ),
}
"""By the names that `python -m dalib manifest` takes: those of training first, then those of tests.
`python -m dalib manifest --list` prints them.

:meta hide-value:
"""


def markdown() -> str:
    """The table as the book prints it, one row for each layout."""
    heads = ("name", "the folder holds", "stored", "sky", "splits", "licence of the data")
    rows = [
        (
            f"[`{name}`]({layout.url})",
            layout.expects,
            layout.unit,
            layout.sky_words,
            ", ".join(layout.split.values) if layout.split else "–",
            layout.licence,
        )
        for name, layout in LAYOUTS.items()
    ]
    lines = [" | ".join(row) for row in (heads, ["---"] * len(heads), *rows)]
    return "".join(f"| {line} |\n" for line in lines)
