"""The answer of ``POST /v1/route``, and the words in which a decision is told."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["base", "named", "auto", "task", "mixture", "none-fits", "fallback"]
Cause = Literal[
    "", "none-fits", "no-text", "encoder", "catalogue", "adapter", "task", "deadline", "failure"
]  # fmt: skip
"""Why the base model answers where a choice was asked for: a fixed word for metrics, empty where none was needed.

``no-text``: nothing to read, as with token ids; ``task``: the task's record or its learnware is gone;
``failure``: something unforeseen, which the log names.
"""


class RouteCandidate(BaseModel):
    """A learnware that was looked at. ``model`` can be sent as ``model``; ``why`` is for people."""

    model_config = ConfigDict(frozen=True)

    learnware: str
    model: str
    version: int
    base_model: str
    fit: float
    p_value: float
    chosen: bool
    why: str


class RouteAnswer(BaseModel):
    """Who would answer a request, and why.

    ``kind`` says how it was decided, ``cause`` why the base model answers where it does instead of a learnware.
    ``fit`` and ``p_value`` are None where nothing was compared; ``seconds`` is what deciding took. ``candidates``
    are the best learnwares for the newest user turn, best first; empty unless the dock chose by the text.
    """

    model_config = ConfigDict(frozen=True)

    kind: Kind
    cause: Cause
    model: str
    base_model: str
    learnware: str | None
    version: int | None
    fit: float | None
    p_value: float | None
    reason: str
    seconds: float
    candidates: list[RouteCandidate]
