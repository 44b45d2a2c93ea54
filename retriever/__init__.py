"""From a task's specification, or a prompt, to the learnware that should answer, or to "none fits"."""

from retriever.decision import Decision, Ranked, Ranking
from retriever.retriever import Retriever, Thresholds, decide

__all__ = ["Decision", "Ranked", "Ranking", "Retriever", "Thresholds", "decide"]
