"""Inference for people: images of any kind in, maps out, in memory (`predict`) or as files (`write_folder`, `write_video`)."""

from dalib.predict.folder import Report, write_folder, write_images
from dalib.predict.outputs import read_png16
from dalib.predict.run import Predictor, default_short_side, predict
from dalib.predict.video import is_video, write_video

__all__ = [
    "Predictor",
    "Report",
    "default_short_side",
    "is_video",
    "predict",
    "read_png16",
    "write_folder",
    "write_images",
    "write_video",
]
