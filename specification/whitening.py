"""The catalogue's whitening: how a task's own texts scatter, pooled over learnwares, and the metric it makes.

The covariance within learnwares is S = Σ scatter / ν, with ν degrees of freedom. It is shrunk as by an
inverse-Wishart prior worth d observations at the sphere of the same trace: A = (νS + d·(tr S / d)·I) / (ν + d).
So a catalogue of a few learnwares compares nearly as no whitening would, and one of thousands nearly by S. A
prompt x is judged by the Gaussian predictive density log N(x; mean, (1 + 1/n)·A) of a learnware whose mean comes
from n texts: a linear discriminant (Fisher 1936) that does not punish means of few texts for their own noise.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from specification.encoder import EncoderIdentity
from specification.kernel import Floats
from specification.prompt_sketch import PromptSketch
from specification.views import VIEWS, views_dimension

METADATA_KEY = "whitening"
USUAL_TRACE = 1.5
"""The trace of S where no learnware has two points to estimate it from (docs/log.md)."""
LARGEST_TRACE = 6.0

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Whitening:
    """A linear map of prompts after which a task's own texts scatter about alike in all directions.

    ``transform`` is float32 [d, d], W with WWᵀ = A⁻¹; ``space`` names views and encoder; ``learnwares`` says
    how many there were in the catalogue, ``freedom`` is ν.
    """

    transform: Floats
    space: str
    learnwares: int
    freedom: int

    @cached_property
    def version(self) -> str:
        """SHA-256 over the transform, what it is for and the counts, in hex."""
        counts = f"{self.space} {self.learnwares} {self.freedom} {self.transform.shape}"
        return hashlib.sha256(counts.encode() + self.transform.tobytes()).hexdigest()

    @classmethod
    def estimate(cls, sketches: Iterable[PromptSketch], encoder: EncoderIdentity, learnwares: int) -> Self:
        """Pools the scatter of an encoder's sketches; none at all give a plain metric."""
        dimension = views_dimension(encoder.dimension)
        total, freedom = np.zeros((dimension, dimension)), 0
        for sketch in sketches:
            scatter, own = sketch.scatter, len(sketch.points) - 1
            # No single learnware, whatever its file claims, outweighs the others.
            scatter *= min(1.0, np.sqrt(LARGEST_TRACE * own / max(float((scatter**2).sum()), 1e-12)))
            total += scatter.T @ scatter
            freedom += own
        trace = float(np.trace(total)) / freedom if freedom else USUAL_TRACE
        shrunk = (total + max(trace, 1e-6) * np.eye(dimension)) / (freedom + dimension)
        lower = np.linalg.cholesky(np.linalg.inv(shrunk))
        return cls(lower.astype(np.float32), _space(encoder), learnwares, freedom)

    def log_likelihoods(self, prompts: Floats, means: Floats, sizes: Doubles) -> Doubles:
        """Returns float64 [n, c]: the log density of n prompts under c learnwares, up to a shared constant.

        ``prompts`` is float32 [n, d], ``means`` [c, d], ``sizes`` [c] the number of texts behind each.
        """
        return self.log_likelihoods_of(prompts, means @ self.transform, sizes)

    def log_likelihoods_of(self, prompts: Floats, whitened: Floats, sizes: Doubles) -> Doubles:
        """As ``log_likelihoods``, from means that are whitened already: ``means @ transform``, [c, d]."""
        squared = cdist(prompts @ self.transform, whitened, "sqeuclidean")
        wider = 1 + 1 / sizes
        result: Doubles = -0.5 * (squared / wider + prompts.shape[1] * np.log(wider))
        return result

    def to_bytes(self) -> bytes:
        """Returns a safetensors file."""
        document = {name: getattr(self, name) for name in ("version", "space", "learnwares", "freedom")}
        return safetensors.numpy.save({"transform": self.transform}, {METADATA_KEY: json.dumps(document)})

    @classmethod
    def from_bytes(cls, data: bytes, encoder: EncoderIdentity) -> Self | None:
        """Reads a file; None if it is damaged or made for other views or another encoder."""
        try:
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            document = json.loads(header["__metadata__"][METADATA_KEY])
            transform = safetensors.numpy.load(data)["transform"]
            made = cls(transform, str(document["space"]), int(document["learnwares"]), int(document["freedom"]))
            whole = document["version"] == made.version and made.space == _space(encoder)
        except (ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError):
            return None
        return made if whole else None


def _space(encoder: EncoderIdentity) -> str:
    return f"{VIEWS} {encoder.weights_sha256}"
