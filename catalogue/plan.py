"""How a catalogue's index is made and searched: one dial for users, the rest derived from it."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from specification import FeatureMap

Dial = Literal["recall", "speed"]


class IndexPlan(BaseModel):
    """What an index is made with and searched with; stored with it.

    ``feature_map`` turns reduced sets into the vectors of the index. ``ef`` is how many points HNSW keeps in view,
    ``oversampling`` how many times more int8 vectors than asked for are scored again by the whole ones (0: none),
    ``candidates`` how many learnwares are reranked by their exact MMD.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dial: Dial = "recall"
    feature_map: FeatureMap
    ef: Annotated[int, Field(ge=1, le=10_000)] = 256
    oversampling: Annotated[float, Field(ge=0, le=100)] = 0.0
    candidates: Annotated[int, Field(ge=1, le=10_000)] = 100

    @classmethod
    def of(cls, dial: Dial, feature_map: FeatureMap) -> Self:
        """Derives the rest of a plan."""
        if dial == "speed":
            return cls(dial=dial, feature_map=feature_map, ef=128, candidates=50)
        return cls(dial=dial, feature_map=feature_map)
