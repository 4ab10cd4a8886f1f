"""Somebody else's function, called as its kind is: scikit-image's mean squared error as the metric
RMSE.

    python -m dalib conform examples/conform/adapter.py:rmse --as metric --metric rmse --numpy
"""

import numpy as np
from skimage.metrics import mean_squared_error


def rmse(pred, target, valid):
    """Root of the mean squared error over the valid pixels of each image, NaN where there is
    none."""
    images = zip(pred, target, valid, strict=True)
    return np.array(
        [mean_squared_error(t[v], p[v]) ** 0.5 if v.any() else np.nan for p, t, v in images]
    )
