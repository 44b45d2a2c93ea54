"""A conversation's learnware: chosen by its first turn, kept until the topic truly changes.

Nothing is remembered between requests. Every request carries its conversation, and the decision is drawn from the
user's turns, oldest first, so that the same history always comes to the same learnware:

1. The first turn is decided like a single prompt; "none fits" leaves the base model to answer.
2. A short turn, of fewer than SHORT letters, changes nothing: "and the second one?" says nothing of a topic.
3. While the base model answers, the first turn that a learnware fits hands the conversation to it.
4. A learnware keeps the conversation unless the turn, read by itself, clearly belongs to another: the other one
   fits (its p-value reaches the retriever's threshold), the one that holds it does not, and the other's p-value is
   at least EVIDENCE times as large. So what fits nothing ("thanks, and now in other words, please") stays, as does
   what fits both.

A p-value is the share of a learnware's genuine prompts that fit it no better (``specification.calibration``).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from retriever import Ranked, Ranking

SHORT = 24
EVIDENCE = 10.0

Rank = Callable[[str, str], Awaitable[Ranking]]
"""Ranks learnwares for a text; the learnware with the id that comes second is judged too."""
Pick = Callable[[Ranking], Ranked | None]
"""Returns the learnware that should answer by a ranking, None for the base model."""


@dataclass(frozen=True)
class Held:
    """Who holds a conversation: ``holder``, None for the base model, since user turn ``since``, from 1.

    ``decided`` is the ranking that brought the holder, ``latest`` the one of the newest turn that was not short.
    """

    holder: Ranked | None
    since: int
    decided: Ranking
    latest: Ranking


async def follow(turns: Sequence[str], rank: Rank, pick: Pick) -> Held:
    """Decides who holds a conversation of at least one turn; raises what ``rank`` raises."""
    first = await rank(turns[0], "")
    held = Held(pick(first), 1, first, first)
    for number, turn in enumerate(turns[1:], 2):
        if is_short(turn):
            continue
        holder = held.holder
        latest = await rank(turn, holder.learnware.id if holder else "")
        rival = pick(latest)
        moved = rival is not None and (holder is None or _clearly(rival, holder, latest))
        # While none fits, the newest turn's ranking is the one that says so.
        if moved or holder is None:
            held = Held(rival, number, latest, latest)
        else:
            held = Held(holder, held.since, held.decided, latest)
    return held


def is_short(turn: str) -> bool:
    """Tells whether a turn is too short to speak of a topic."""
    return sum(map(str.isalpha, turn)) < SHORT


def _clearly(rival: Ranked, holder: Ranked, ranking: Ranking) -> bool:
    """Tells whether a turn belongs to the rival, which fits it, and not to the holder."""
    if rival.learnware.id == holder.learnware.id:
        return False
    if rival.learnware.name == holder.learnware.name:
        return True  # another version of it
    own = next((one for one in ranking.ranked if one.learnware.id == holder.learnware.id), None)
    p_value = own.p_value if own is not None else 0.0
    return p_value < ranking.decision.threshold and rival.p_value >= EVIDENCE * p_value
