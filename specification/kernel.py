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
    known = squared_lengths(right) if squares is None else squares
    values: NDArray[Real] = left @ right.swapaxes(-1, -2)
    values *= -2
    values += squared_lengths(left)[..., :, None] + known[..., None, :]
    np.maximum(values, 0, out=values)
    values *= -gamma
    return np.exp(values, out=values)


def squared_lengths(rows: NDArray[Real]) -> NDArray[Real]:
    """Returns ‖x‖² of rows [..., d]: [...]."""
    lengths: NDArray[Real] = np.einsum("...d,...d->...", rows, rows)
    return lengths
