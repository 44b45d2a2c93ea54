"""The specification's section for single prompts: a few averages of the texts' joined views.

Each point is the plain average of a random group of at least two texts, so none is one user's text. Together they
give the mean, and their differences, scaled by the group's size, estimate without bias how the texts of the task
scatter, which the catalogue pools into its whitening. What they reveal beside the text section: the average
length and layout of the texts and the average of their hashed words; who guesses an instruction that all texts
share can confirm it, and with groups of two or three texts also rare words (docs/privacy.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from specification.errors import InvalidSpecification
from specification.kernel import Floats
from specification.views import VIEWS, views_dimension

PROMPT_POINTS = 4
MAX_POINTS = 64
LARGEST = 4.0
SEED = 0

Doubles = NDArray[np.float64]


class PromptSection(BaseModel):
    """What is known of the prompt points: the version of the views, and how many texts were averaged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["prompt_points"] = "prompt_points"
    views: Annotated[str, Field(min_length=1, max_length=64)] = VIEWS
    sample_size: Annotated[int, Field(ge=2, le=10**9)]


@dataclass(frozen=True, eq=False)
class PromptSketch:
    """Averages of disjoint groups of texts, float32 [m, d] with exact float16 values, and their section."""

    points: Floats
    section: PromptSection

    @property
    def sizes(self) -> Doubles:
        """How many texts each point averages, float64 [m]: as even as can be, larger groups first."""
        count, more = divmod(self.section.sample_size, len(self.points))
        return np.where(np.arange(len(self.points)) < more, count + 1.0, count)

    @property
    def mean(self) -> Floats:
        """The average of all texts, float32 [d]."""
        result: Floats = (self.sizes @ self.points / self.section.sample_size).astype(np.float32)
        return result

    @property
    def scatter(self) -> Doubles:
        """Rows whose outer products sum to m - 1 times the texts' covariance, in expectation: float64 [m, d]."""
        rows: Doubles = (self.points - self.mean) * np.sqrt(self.sizes)[:, None]
        return rows

    @classmethod
    def of(cls, views: Floats, points: int = PROMPT_POINTS) -> Self:
        """Averages joined views, float32 [n, d], in min(``points``, n // 2) groups drawn by a fixed seed."""
        order = np.random.Generator(np.random.PCG64(SEED)).permutation(len(views))
        groups = np.array_split(order, min(points, len(views) // 2))
        averages = np.stack([views[group].mean(axis=0) for group in groups])
        section = PromptSection(sample_size=len(views))
        return cls(averages.astype(np.float16).astype(np.float32), section)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Returns what the file holds."""
        return {"points": self.points.astype("<f2")}

    @classmethod
    def read(cls, section: PromptSection, tensors: Mapping[str, NDArray[Any]], dimension: int) -> Self:
        """Checks what a file holds, made by an encoder of ``dimension``.

        Raises:
            InvalidSpecification: a wrong shape, too many points for the texts, NaN, Inf or large numbers.
        """
        points = tensors["points"].astype(np.float32)
        width = views_dimension(dimension) if section.views == VIEWS else max((1, *points.shape[1:]))
        most = min(MAX_POINTS, section.sample_size // 2)
        if points.ndim != 2 or points.shape[1] != width or not 1 <= len(points) <= most:
            raise InvalidSpecification(
                f"specification: 'prompt.points' {points.shape} != [m, {width}] with m from 1 to {most}"
            )
        # NaN is within no limit.
        if not float(np.abs(points).max()) <= LARGEST:
            raise InvalidSpecification(f"specification: 'prompt.points' holds NaN, Inf or numbers over {LARGEST}")
        return cls(points, section)
