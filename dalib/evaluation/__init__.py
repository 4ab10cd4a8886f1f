"""Scale and shift, AbsRel and delta, caps and crops per data set."""

from dalib.evaluation.align import ALIGNMENTS, Alignment, least_squares
from dalib.evaluation.floors import FLOORS, mean_map, mean_map_floor
from dalib.evaluation.metrics import ALL_METRICS, METRICS, depth_metrics, summarise
from dalib.evaluation.protocols import PROTOCOLS, Protocol, RealSet, inverted, real_sets, score
from dalib.evaluation.run import evaluate_source, floor, mean_over_images, predict_images
from dalib.models.sizes import network_size

__all__ = [
    "ALIGNMENTS",
    "ALL_METRICS",
    "FLOORS",
    "METRICS",
    "PROTOCOLS",
    "Alignment",
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
    "summarise",
]
