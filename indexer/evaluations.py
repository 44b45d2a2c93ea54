"""Quality signals from files that others wrote: results of lm-evaluation-harness, and model cards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import EvalResult
from pydantic import ValidationError

from catalogue import Signal
from catalogue.learnware import describe
from specification.errors import InvalidInput
from specification.files import parse_json, read_file

MAX_RESULTS_BYTES = 64 * 2**20
MAX_CARD_BYTES = 2**20
LOWER_IS_BETTER = ("perplexity", "bits_per_byte", "loss", "brier", "wer", "cer")
"""Parts of the names of metrics that are better when lower, where the file does not say."""

Subject = Literal["learnware", "base"]


def lm_eval_signals(file: Path, subject: Subject = "learnware") -> list[Signal]:
    """Returns the scores in a results file of lm-evaluation-harness (``results_<date>.json``).

    Its ``results`` hold ``<metric>,<filter>`` by task; ``higher_is_better`` and ``n-samples`` are used if there.
    Standard errors, and values that are no numbers, are passed over.

    Raises:
        InvalidInput: no such file, not JSON, or without results. TooLarge: over 64 MiB.
    """
    try:
        content = parse_json(read_file(file, MAX_RESULTS_BYTES))
    except ValueError as error:
        raise InvalidInput(f"{file}: not JSON ({error})") from None
    results = _mapping(_mapping(content).get("results"))
    source = f"lm-eval {file.name} {_date(content)}".strip()[:200]
    found = [
        _signal(file, str(task), metric, value, source, subject=subject, **_facts(_mapping(content), task, metric))
        for task, row in results.items()
        for metric, value in _scores(_mapping(row))
    ]
    if not found:
        raise InvalidInput(f"{file}: no results; expected a file that lm-evaluation-harness wrote")
    return found


def model_card_signals(file: Path, subject: Subject = "learnware") -> list[Signal]:
    """Returns the metrics in the ``model-index`` of a model card (README.md).

    Raises:
        InvalidInput: no such file, or no model-index with numbers in it. TooLarge: over 1 MiB.
    """
    text = read_file(file, MAX_CARD_BYTES)
    try:
        results: list[EvalResult] = ModelCard(text.decode("utf-8")).data.get("eval_results") or []
    except Exception as error:
        # YAML of strangers makes the library raise whatever its parsers do.
        raise InvalidInput(f"{file}: no readable model card ({str(error).splitlines()[0]})") from None
    found = [
        _signal(
            file, _dataset(result), result.metric_name or result.metric_type, result.metric_value,
            f"model card {file.name}"[:200], subject=subject, higher_is_better=_higher(result.metric_type),
        )
        for result in results
        if _is_number(result.metric_value)
    ]  # fmt: skip
    if not found:
        raise InvalidInput(f"{file}: its model card has no model-index with numbers in it")
    return found


def _signal(file: Path, task: str, metric: str, value: object, source: str, **more: object) -> Signal:
    fields = {"kind": "capability", "task": task, "metric": metric, "value": value, "source": source, **more}
    try:
        return Signal.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput(f"{file}: task {task[:80]!r}: {describe(error)}") from None


def _date(content: object) -> object:
    date = _mapping(content).get("date", "")
    return date if isinstance(date, (str, float, int)) else ""


def _scores(row: dict[str, object]) -> Iterator[tuple[str, object]]:
    for metric, value in row.items():
        if "_stderr" not in metric and metric not in ("alias", "sample_len") and _is_number(value):
            yield metric, value


def _facts(content: dict[str, object], task: str, metric: str) -> dict[str, object]:
    """What the file says of a task besides its score."""
    plain = metric.partition(",")[0]
    direction = _mapping(_mapping(content.get("higher_is_better")).get(task)).get(plain)
    counts = _mapping(_mapping(content.get("n-samples")).get(task))
    examples = counts.get("effective")
    return {
        "higher_is_better": direction if isinstance(direction, bool) else _higher(plain),
        "examples": examples if isinstance(examples, int) and examples > 0 else None,
    }


def _dataset(result: EvalResult) -> str:
    parts = (result.dataset_type, result.dataset_config, result.dataset_split)
    return " ".join(str(part) for part in parts if part)


def _higher(metric: str) -> bool:
    return not any(part in metric.lower() for part in LOWER_IS_BETTER)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
