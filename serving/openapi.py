"""What the OpenAPI document says beyond what FastAPI finds by itself: raw bodies, streams, errors."""

from typing import Any

from pydantic import BaseModel

from serving.wire import ErrorAnswer

Schema = dict[str, Any]

# Every route can answer with them, so the app declares them once.
ERRORS: dict[int | str, Schema] = {
    "4XX": {"model": ErrorAnswer, "description": "The request is at fault; the message says how."},
    "5XX": {"model": ErrorAnswer, "description": "The dock is at fault, or cannot answer now."},
}
DECISION = {
    "x-slmdock-model": "The engine's name of who answers.",
    "x-slmdock-learnware": "The learnware's id; empty for the base model.",
    "x-slmdock-fit": "How well it fits, in [0, 1]; empty where nothing was compared.",
    "x-slmdock-decision": "How it was decided, for instance `named`, `auto`, `task`, `none-fits`, `fallback`.",
    "x-slmdock-reason": "Why, in words.",
}
# The engine's answer as it is: one object, or events if `stream` was asked for.
GENERATED: dict[int | str, Schema] = {
    200: {
        "description": "The engine's answer in OpenAI's format; a stream of events if `stream` is true.",
        "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in DECISION.items()},
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/event-stream": {"schema": {"type": "string"}},
        },
    }
}
BINARY: dict[int | str, Schema] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


def binary_body(description: str) -> Schema:
    """A route's extra: the body is a file."""
    return _body("application/octet-stream", {"type": "string", "format": "binary"}, description)


def json_body(schema: Schema | type[BaseModel], description: str) -> Schema:
    """A route's extra: the body is JSON of this schema. A model must not refer to other models."""
    return _body(
        "application/json", schema if isinstance(schema, dict) else schema.model_json_schema(), description
    )


def form_body(
    texts: list[str], files: list[str], more_texts: list[str], more_files: list[str], description: str
) -> Schema:
    """A route's extra: the body is a form with these parts, of which those after the first two may be missing."""
    parts: Schema = {name: {"type": "string"} for name in (*texts, *more_texts)}
    parts |= {name: {"type": "string", "format": "binary"} for name in (*files, *more_files)}
    schema = {"type": "object", "properties": parts, "required": [*texts, *files]}
    return _body("multipart/form-data", schema, description)


def generation_body(field: str, schema: Schema) -> Schema:
    """A route's extra: a request to generate. What else is in it goes to the engine untouched."""
    properties = {
        "model": {
            "type": "string",
            "minLength": 1,
            "description": "Who answers; `auto` lets the dock choose.",
        },
        field: schema,
        "stream": {"type": "boolean"},
        "max_tokens": {"type": "integer", "minimum": 1},
    }
    whole = {"type": "object", "properties": properties, "required": ["model", field]}
    return json_body(whole, "As in OpenAI's API; fields not named here are passed on to the engine.")


def _body(media_type: str, schema: Schema, description: str) -> Schema:
    content = {media_type: {"schema": schema}}
    return {"requestBody": {"required": True, "description": description, "content": content}}
