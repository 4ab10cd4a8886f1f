"""Inference for people: images of any kind in, maps out, in memory (`predict`) or as files
(`write_folder`, `write_video`)."""

from dalib.predict.engines import ENGINES, choose
from dalib.predict.folder import Report, check_images, photographs, write_folder, write_images
from dalib.predict.frames import is_video
from dalib.predict.outputs import COLOURS, read_png16
from dalib.predict.run import (
    Predictor,
    check_numbers,
    predict,
    usable_device,
)
from dalib.predict.video import check_video, write_video

__all__ = [
    "COLOURS",
    "ENGINES",
    "Predictor",
    "Report",
    "check_images",
    "check_numbers",
    "check_video",
    "choose",
    "is_video",
    "photographs",
    "predict",
    "read_png16",
    "usable_device",
    "write_folder",
    "write_images",
    "write_video",
]
