"""Quality signals from files that others wrote: results of lm-evaluation-harness, and model cards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from huggingface_hub.repocard_data import EvalResult, model_index_to_eval_results
from pydantic import ValidationError

from catalogue import Signal
from catalogue.learnware import describe
from indexer.model_card import read_model_card
from specification.errors import InvalidInput
from specification.files import parse_json, read_file

MAX_RESULTS_BYTES = 64 * 2**20
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
        InvalidInput: no such file, no readable front matter, or no model-index with numbers in it.
        TooLarge: over 1 MiB.
    """
    index = read_model_card(file, str(file)).fields.get("model-index")
    try:
        results = model_index_to_eval_results(index)[1] if index else []  # type: ignore[arg-type]
    except Exception as error:
        # What is no index, or half of one, makes the library raise whatever its look-ups do.
        said = " ".join(f"{type(error).__name__} {error}".split())[:200]
        raise InvalidInput(f"{file}: the model-index of its model card cannot be read ({said})") from None
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


def _higher(metric: object) -> bool:
    return not any(part in str(metric).lower() for part in LOWER_IS_BETTER)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
