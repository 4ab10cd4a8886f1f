"""Inference for people: images of any kind in, maps out, in memory (`predict`) or as files
(`write_folder`, `write_video`); and from relative maps to metres, clouds of points and confidence
without training."""

from dalib.predict.confidence import Calibration, check_relative, disagreement, observe
from dalib.predict.engines import ENGINES, choose
from dalib.predict.folder import (
    RAW,
    Report,
    check_images,
    check_wanted,
    photographs,
    write_folder,
    write_images,
)
from dalib.predict.frames import is_video
from dalib.predict.known import Known, find_sparse, parse_points, read_points
from dalib.predict.metres import ScaleShift, fit_scale_shift, known_distances, sparse_depth
from dalib.predict.outputs import CLOUDS, COLOURS, ENDS, read_png16
from dalib.predict.run import (
    Predictor,
    check_numbers,
    predict,
    usable_device,
)
from dalib.predict.solid import Solid
from dalib.predict.video import check_video, write_video

__all__ = [
    "CLOUDS",
    "COLOURS",
    "ENDS",
    "ENGINES",
    "RAW",
    "Calibration",
    "Known",
    "Predictor",
    "Report",
    "ScaleShift",
    "Solid",
    "check_images",
    "check_numbers",
    "check_relative",
    "check_video",
    "check_wanted",
    "choose",
    "disagreement",
    "find_sparse",
    "fit_scale_shift",
    "is_video",
    "known_distances",
    "observe",
    "parse_points",
    "photographs",
    "predict",
    "read_png16",
    "read_points",
    "sparse_depth",
    "usable_device",
    "write_folder",
    "write_images",
    "write_video",
]
