"""Schemathesis over every route of the gateway: no 5xx, no traceback, answers as the OpenAPI document says."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import schemathesis
import schemathesis.generation.body_overrides  # late, it meets CPython 3.11's recursion limit for syntax trees
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from catalogue import Card
from serving import GatewayParts, Task, create_app
from serving.engine import EngineAnswer, Route
from serving.limits import Limits
from serving.telemetry import Telemetry
from specification import SentenceEncoder
from tests.serving.conftest import Sketch, TinyDock, open_dock
from tests.serving.doubles import EngineDouble
from tests.serving.tiny import BASE_NAME

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
TASK = "0123456789abcdef"
EXAMPLES = 20


class AnsweringDouble(EngineDouble):
    """Answers with everything that the gateway itself reads of an answer."""

    async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
        if body.get("stream"):
            return await super().post(route, body)
        choice = {"text": "x", "message": {"content": "x"}, "prompt_token_ids": [1, 2]}
        scored = {"logprobs": {"token_logprobs": [-1.0]}}
        answer = {"choices": [choice | scored], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
        return EngineAnswer(200, "application/json", _once(json.dumps(answer).encode()))


async def _once(data: bytes) -> Any:
    yield data


# The routes depend on no other part; a fixture puts them all in place before the first request.
APP = create_app(cast(GatewayParts, SimpleNamespace(limits=Limits(), keys=None, telemetry=Telemetry())))
schema = schemathesis.openapi.from_asgi("/openapi.json", APP)


@pytest.fixture(scope="module")
def own_dock(tmp_path_factory: pytest.TempPathFactory, base: Path, encoder: SentenceEncoder) -> Iterator[TinyDock]:
    """A dock of its own, since some requests write."""
    with open_dock(tmp_path_factory.mktemp("openapi"), base, encoder) as dock:
        parts = dock.parts(AnsweringDouble(BASE_NAME))
        parts.tasks.put(Task(id=TASK, learnware=None, fit=0, threshold=1, reason="", created=0))
        APP.state.parts = parts
        yield dock


@pytest.fixture
def known(own_dock: TinyDock, adapters: dict[str, Path], sketch: Sketch) -> dict[str, str]:
    """The names that paths need, by parameter, of what is there, whatever other requests made of it."""
    law = own_dock.indexer.submit(adapters["law"], sketch("law"), Card(name="law"))
    if law.status != "published":
        own_dock.indexer.move(law, "published", "the test")
    return {"reference": "law", "model": "law", "id": TASK}


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_route_keeps_its_word(case: Any, known: dict[str, str]) -> None:
    # Every second path names something that is there; the others are Schemathesis's own.
    if len(repr(case.body)) % 2:
        case.path_parameters = {name: known.get(name, value) for name, value in case.path_parameters.items()}
    response = case.call()
    assert b"Traceback" not in response.content
    case.validate_response(response, checks=CHECKS)


def test_every_route_is_described() -> None:
    for path, methods in APP.openapi()["paths"].items():
        for method, operation in methods.items():
            label = f"{method} {path}"
            assert operation["tags"], label
            assert operation["summary"], label
            assert operation["description"], label
            assert {"4XX", "5XX"} <= set(operation["responses"]), label
            assert method != "post" or "requestBody" in operation, label
