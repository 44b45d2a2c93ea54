"""From a task's specification, or a prompt, to the learnware that should answer, or to "none fits"."""

from retriever.candidates import TrialCandidates, match_prior, part_of, trial_candidates, with_base
from retriever.decision import Decision, Mixture, Pruned, Ranked, Ranking, Share
from retriever.halving import HalvingRule, Round, Stopped, Trial
from retriever.live_whitening import LiveWhitening
from retriever.retriever import DEFAULT_THRESHOLD, Retriever, decide
from retriever.scoring import SCORES, Score, choices_of, choose_score, score
from retriever.trial import Posterior, TrialPrior, posterior, shortlist

__all__ = [
    "DEFAULT_THRESHOLD",
    "SCORES",
    "Decision",
    "HalvingRule",
    "LiveWhitening",
    "Mixture",
    "Posterior",
    "Pruned",
    "Ranked",
    "Ranking",
    "Retriever",
    "Round",
    "Score",
    "Share",
    "Stopped",
    "Trial",
    "TrialCandidates",
    "TrialPrior",
    "choices_of",
    "choose_score",
    "decide",
    "match_prior",
    "part_of",
    "posterior",
    "score",
    "shortlist",
    "trial_candidates",
    "with_base",
]
