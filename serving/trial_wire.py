"""What a trial sends over the wire. Prompts and choices go to the dock, gold answers never do."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_MODELS = 32
MAX_PROMPTS = 64
MAX_CHOICES = 32
MAX_REQUESTS = 8192
MAX_PROMPT_CHARACTERS = 100_000
MAX_ANSWER_TOKENS = 1024

Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS)]
LearnwareId = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Candidate(_Message):
    """One who takes part: ``model`` is the engine's name; ``learnware`` is empty for the base model."""

    model: str
    name: str
    learnware: LearnwareId
    fit: float


class CandidateField(_Message):
    """All who take part, how alike their specifications are [c, c], and their scores on other tasks [t, c]."""

    candidates: list[Candidate]
    similarity: list[list[float]]
    capability: list[list[float | None]] = []


class Questions(_Message):
    """Every prompt for every model. With ``choices`` nothing is generated: their log-likelihoods are asked for."""

    models: Annotated[list[Text], Field(min_length=1, max_length=MAX_MODELS)]
    prompts: Annotated[list[Text], Field(min_length=1, max_length=MAX_PROMPTS)]
    choices: Annotated[list[Text], Field(min_length=2, max_length=MAX_CHOICES)] | None = None
    chat: bool = False
    max_tokens: Annotated[int, Field(ge=1, le=MAX_ANSWER_TOKENS)] = 64

    @model_validator(mode="after")
    def _limits(self) -> "Questions":
        count = len(self.models) * len(self.prompts) * len(self.choices or "1")
        if count > MAX_REQUESTS:
            raise ValueError(f"{count} answers at once, the limit is {MAX_REQUESTS}; send fewer prompts")
        if self.chat and self.choices:
            raise ValueError("'choices' cannot be scored in a chat; leave out 'chat' or 'choices'")
        return self


class CandidateAnswers(_Message):
    """One model's answers in the order of the prompts: ``texts``, or log-likelihoods [prompts, choices].

    ``error`` says why the engine cannot run this model at all; then there are no answers.
    """

    model: str
    error: str = ""
    texts: list[str] = []
    likelihoods: list[list[float]] = []
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Answers(_Message):
    """Everyone's answers, and the seconds the engine took for all of them together."""

    answers: list[CandidateAnswers]
    seconds: float


class TrialOutcome(_Message):
    """How a trial ended: the winner (empty: the base model), its score with an interval of 95 %, the probability
    that it is the best, on how many examples.
    """

    winner: LearnwareId
    fit: float
    score: Probability
    low: Probability
    high: Probability
    probability: Probability
    examples: Annotated[int, Field(ge=1, le=1_000_000)]
