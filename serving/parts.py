"""What the gateway is made of, and how its endpoints get at it."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from catalogue import PUBLISHED, Catalogue, Filter, Match
from catalogue.filters import Range
from indexer import Indexer
from retriever import Retriever
from serving.engine import Engine
from serving.tasks import TaskStore


@dataclass(frozen=True)
class GatewayParts:
    """The dock behind a gateway. ``writing`` lets one writer in, ``encoding`` one user of the encoder."""

    catalogue: Catalogue
    retriever: Retriever
    indexer: Indexer
    engine: Engine
    tasks: TaskStore
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    encoding: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def servable(self) -> Filter:
        """The learnwares that this engine can answer with."""
        base = Match(field="base_model", values=(self.engine.base_model,))
        servable = PUBLISHED & Filter(conditions=(base,))
        limit = self.engine.max_lora_rank
        return servable if limit is None else servable & Filter(conditions=(Range(field="rank", at_most=limit),))


def _parts_of(request: Request) -> GatewayParts:
    parts: GatewayParts = request.app.state.parts
    return parts


Parts = Annotated[GatewayParts, Depends(_parts_of)]
