"""What the gateway is made of, and how its endpoints get at it."""

import asyncio
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from fastapi import Depends, Request

from catalogue import PUBLISHED, Catalogue, Filter, Learnware, Match
from catalogue.filters import Range
from catalogue.learnware import WHOLE_MODEL
from indexer import Indexer
from retriever import Retriever
from retriever.live_map import LiveMap
from serving.decisions import DecisionLimits, Decisions
from serving.engine import Engine
from serving.keys import KeyStore
from serving.limits import Limits
from serving.look_ups import LookUps, State
from serving.tasks import Task, TaskStore
from serving.telemetry import Telemetry
from serving.verification_queue import QUEUE_FILE, VerificationQueue
from serving.whole_models import WholeModels


@dataclass(frozen=True)
class Registered:
    """A task and the records of the learnwares that answer it; those that are gone are missing."""

    task: Task
    learnwares: tuple[Learnware, ...]


@dataclass(frozen=True)
class GatewayParts:
    """The dock behind a gateway. ``writing`` lets one writer in, ``encoding`` one user of the encoder, and
    ``sketching`` one sketch, which takes seconds: a decision must not wait for it.

    ``keys`` None means a gateway that lets everybody in who reaches it, which it therefore listens to on loopback.
    ``engines`` holds one engine a base model; the first is the default, which answers where nothing fits.
    ``whole`` serves the learnwares that are whole models; None means that this dock does not. ``verifying`` says
    whether learnwares are verified beside it. ``named`` and ``registered`` are the latest look-ups.
    """

    catalogue: Catalogue
    retriever: Retriever
    indexer: Indexer
    engines: tuple[Engine, ...]
    tasks: TaskStore
    telemetry: Telemetry = field(default_factory=Telemetry)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    encoding: asyncio.Lock = field(default_factory=asyncio.Lock)
    sketching: asyncio.Lock = field(default_factory=asyncio.Lock)
    keys: KeyStore | None = None
    limits: Limits = Limits()  # noqa: RUF009 - it is frozen
    deciding: DecisionLimits = field(default_factory=DecisionLimits)
    whole: WholeModels | None = None
    verifying: bool = False
    named: LookUps[Learnware] = field(default_factory=LookUps)
    registered: LookUps[Registered] = field(default_factory=LookUps)

    @property
    def state(self) -> State:
        """Changes with each write that look-ups depend on."""
        return self.catalogue.revision, self.tasks.revision

    @cached_property
    def decisions(self) -> Decisions:
        """What ``auto`` decides by."""
        return Decisions(self.retriever, self.encoding, self.deciding)

    @cached_property
    def map(self) -> LiveMap:
        """The catalogue in two dimensions."""
        return LiveMap(self.catalogue)

    @cached_property
    def verifications(self) -> VerificationQueue:
        """What is to be verified, and what came of it."""
        return VerificationQueue(self.indexer.store.root.parent / QUEUE_FILE)

    @property
    def engine(self) -> Engine:
        """The default engine."""
        return self.engines[0]

    def engine_of(self, base_model: str) -> Engine | None:
        """The engine of a base model, None if this dock does not serve it."""
        return next((engine for engine in self.engines if engine.base_model == base_model), None)

    def engine_for(self, base_model: str, model: str) -> Engine | None:
        """The engine that answers as ``model``, a base model or a learnware's engine name on that base model.

        Raises:
            LearnwareUnavailable, InvalidInput: it is a whole model that cannot run, see ``WholeModels``.
        """
        if base_model == WHOLE_MODEL:
            return self.whole.engine_of(model) if self.whole else None
        return self.engine_of(base_model)

    @property
    def servable(self) -> Filter:
        """The learnwares that can answer here, but for ranks that only another engine can and too large models."""
        return self._servable(self.engines)

    @property
    def servable_by_default(self) -> Filter:
        """The learnwares that the default engine can answer with, and whole models."""
        return self._servable(self.engines[:1])

    def _servable(self, engines: tuple[Engine, ...]) -> Filter:
        names = [engine.base_model for engine in engines] + ([WHOLE_MODEL] if self.whole else [])
        bases = Match(field="base_model", values=tuple(names))
        servable = PUBLISHED & Filter(conditions=(bases,))
        limits = [engine.max_lora_rank for engine in engines if engine.max_lora_rank is not None]
        if len(limits) < len(engines):
            return servable
        return servable & Filter(conditions=(Range(field="rank", at_most=max(limits)),))


# Async, since FastAPI sends plain functions through a thread at each request.
async def _parts_of(request: Request) -> GatewayParts:
    parts: GatewayParts = request.app.state.parts
    return parts


Parts = Annotated[GatewayParts, Depends(_parts_of)]
