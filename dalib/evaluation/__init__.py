"""Scale and shift, AbsRel and delta, caps and crops per data set."""

from dalib.evaluation.align import least_squares
from dalib.evaluation.floors import FLOORS, mean_map, mean_map_floor
from dalib.evaluation.metrics import METRICS, depth_metrics
from dalib.evaluation.protocols import PROTOCOLS, Protocol, RealSet, inverted, real_sets, score
from dalib.evaluation.run import evaluate_source, floor, mean_over_images, predict_images
from dalib.models.sizes import network_size

__all__ = [
    "FLOORS",
    "METRICS",
    "PROTOCOLS",
    "Protocol",
    "RealSet",
    "depth_metrics",
    "evaluate_source",
    "floor",
    "inverted",
    "least_squares",
    "mean_map",
    "mean_map_floor",
    "mean_over_images",
    "network_size",
    "predict_images",
    "real_sets",
    "score",
]
