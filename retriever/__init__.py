"""From a task's specification, or a prompt, to the learnware that should answer, or to "none fits"."""

from retriever.decision import Decision, Mixture, Pruned, Ranked, Ranking, Share
from retriever.live_whitening import LiveWhitening
from retriever.retriever import Retriever, Thresholds, decide

__all__ = [
    "Decision",
    "LiveWhitening",
    "Mixture",
    "Pruned",
    "Ranked",
    "Ranking",
    "Retriever",
    "Share",
    "Thresholds",
    "decide",
]
