"""The Gaussian kernel between rows of two arrays."""

import numpy as np
from numpy.typing import NDArray

DEFAULT_GAMMA = 2.0

Floats = NDArray[np.float32]


def gaussian(left: Floats, right: Floats, gamma: float) -> Floats:
    """Returns k(x,y) = exp(-γ‖x-y‖²) for rows of ``left`` [a, d] and ``right`` [b, d], float32 [a, b]."""
    squared = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2 * (left @ right.T)
    result: Floats = np.exp(-gamma * np.maximum(squared, 0))
    return result
