"""Scale and shift, AbsRel and delta, caps and crops per data set."""

from dalib.evaluation.align import least_squares
from dalib.evaluation.metrics import METRICS, depth_metrics
from dalib.evaluation.protocols import FLOORS, PROTOCOLS, Protocol, RealSet, real_sets, score
from dalib.evaluation.run import evaluate_source, floor, mean_over_images, network_size, predict_images

__all__ = [
    "FLOORS",
    "METRICS",
    "PROTOCOLS",
    "Protocol",
    "RealSet",
    "depth_metrics",
    "evaluate_source",
    "floor",
    "least_squares",
    "mean_over_images",
    "network_size",
    "predict_images",
    "real_sets",
    "score",
]
