"""The feature map from reduced sets to dense vectors, so that a vector index can search by MMD.

Orthogonal random Fourier features: φ(x) = √(1/h)·[cos(Ωx), sin(Ωx)] with h rows in Ω, made of orthogonal
blocks (Yu et al., "Orthogonal Random Features", NeurIPS 2016, eq. 4), so that ⟨φ(x),φ(y)⟩ ≈ exp(-γ‖x-y‖²)
(Rahimi & Recht, NeurIPS 2007). Then ψ = Σβ_jφ(z_j) and ‖ψ_P - ψ_Q‖ ≈ MMD(P,Q).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from specification.kernel import DEFAULT_GAMMA, Floats
from specification.reduced_set import ReducedSet

BATCH = 256


class FeatureMap(BaseModel):
    """Parameters that determine the map completely; ``version`` changes when the code's answer would."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["orthogonal_random"] = "orthogonal_random"
    version: Literal[1] = 1
    input_dimension: Annotated[int, Field(ge=1, le=65_535)]
    dimension: Annotated[int, Field(ge=2, le=65_534, multiple_of=2)] = 512
    gamma: Annotated[float, Field(gt=0)] = DEFAULT_GAMMA
    seed: Annotated[int, Field(ge=0)] = 0

    def embed(self, sets: Sequence[ReducedSet]) -> Floats:
        """Returns ψ of c reduced sets, whose weights may be any numbers: float32 [c, dimension]."""
        vectors = np.empty((len(sets), self.dimension), dtype=np.float32)
        for start in range(0, len(sets), BATCH):
            part = sets[start : start + BATCH]
            phase = np.concatenate([each.points for each in part]) @ _frequencies(self).T
            phase_weights = np.concatenate([each.weights for each in part])[:, None] * self._scale
            starts = np.cumsum([0] + [len(each) for each in part[:-1]])
            half = self.dimension // 2
            for place, wave in ((0, np.cos), (half, np.sin)):
                weighted = wave(phase) * phase_weights
                vectors[start : start + len(part), place : place + half] = np.add.reduceat(weighted, starts)
        return vectors

    @property
    def _scale(self) -> np.float32:
        return np.float32(1 / np.sqrt(self.dimension // 2))


@lru_cache(maxsize=8)
def _frequencies(feature_map: FeatureMap) -> Floats:
    """Ω, float32 [dimension / 2, input_dimension]: orthogonal rows with the lengths of Gaussian ones."""
    width, rows = feature_map.input_dimension, feature_map.dimension // 2
    generator = np.random.Generator(np.random.PCG64(feature_map.seed))
    blocks = []
    for _ in range(-(-rows // width)):
        gaussian = generator.standard_normal((width, width))
        orthogonal, upper = np.linalg.qr(gaussian)
        # The signs of R's diagonal make the rotation uniform and independent of the LAPACK in use.
        orthogonal *= np.sign(np.diag(upper))
        lengths = np.sqrt(generator.chisquare(width, width))
        blocks.append(orthogonal.T * lengths[:, None])
    scale = np.sqrt(2 * feature_map.gamma)
    result: Floats = (scale * np.concatenate(blocks)[:rows]).astype(np.float32)
    return result
