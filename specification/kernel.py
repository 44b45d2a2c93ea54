"""The Gaussian kernel between rows of two arrays."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

DEFAULT_GAMMA = 2.0

Floats = NDArray[np.float32]
Real = TypeVar("Real", np.float32, np.float64)


def gaussian(
    left: NDArray[Real], right: NDArray[Real], gamma: float, squares: NDArray[Real] | None = None
) -> NDArray[Real]:
    """Returns k(x,y) = exp(-γ‖x-y‖²) for rows of ``left`` [..., a, d] and ``right`` [..., b, d]: [..., a, b].

    ``squares`` is ‖y‖² of the rows of ``right``, [..., b], if it is known already. All are of one dtype.
    """
    known = (right**2).sum(axis=-1) if squares is None else squares
    products = left @ right.swapaxes(-1, -2)
    squared = (left**2).sum(axis=-1)[..., :, None] + known[..., None, :] - 2 * products
    result: NDArray[Real] = np.exp(-gamma * np.maximum(squared, 0))
    return result
