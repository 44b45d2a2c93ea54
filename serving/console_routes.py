"""The web console at ``/``: files of this package, read once at start, and what only its pages ask.

Pages reach the dock by its ordinary endpoints. Nothing here renders anything, and no file is looked up by a path.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from serving.access import is_loopback, names_this_machine
from serving.openapi import BINARY, binary_body
from serving.parts import Parts
from serving.requests import read_body
from specification import check_examples, parse_examples, specify
from specification.errors import NotFound, PermissionDenied, TooLarge

FOLDER = Path(__file__).parent / "console"
INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}
SECURITY = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""Headers of proxies: behind one, the peer is the proxy, which may well stand on this machine."""
MAX_EXAMPLES_BYTES = 4 * 2**20
MAX_EXAMPLES = 2000

EXAMPLES = binary_body("Examples as JSON Lines, an object with a field `text` a line.")

Purpose = Literal["task", "learnware"]

router = APIRouter()


@dataclass(frozen=True)
class ConsoleFile:
    """A file of the console as it is sent."""

    data: bytes
    media_type: str
    etag: str


def read_console(folder: Path = FOLDER) -> Mapping[str, ConsoleFile]:
    """Returns the console's files by their names below ``folder``, those of a type in ``TYPES``."""
    files = (file for file in sorted(folder.rglob("*")) if file.suffix in TYPES)
    return {file.relative_to(folder).as_posix(): _read(file) for file in files}


def _read(file: Path) -> ConsoleFile:
    data = file.read_bytes()
    return ConsoleFile(data, TYPES[file.suffix], f'"{hashlib.sha256(data).hexdigest()[:32]}"')


FILES = read_console()


class ConsoleState(BaseModel):
    """What the pages must know before anybody has a key.

    ``keys`` tells whether one is needed, ``local`` whether this request came from the gateway's own machine, so
    that examples may be sketched by the gateway; the rest are the limits of that.
    """

    model_config = ConfigDict(frozen=True)

    keys: bool
    local: bool
    max_examples: int = MAX_EXAMPLES
    max_examples_bytes: int = MAX_EXAMPLES_BYTES


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
async def get_console(request: Request) -> Response:
    """Returns the console's page."""
    return _answer(request, FILES[INDEX])


@router.api_route("/console/{file:path}", methods=["GET", "HEAD"], include_in_schema=False)
async def get_console_file(request: Request, file: str) -> Response:
    """Returns one of the console's files by its name."""
    found = FILES.get(file)
    if found is None:
        raise NotFound(f"the console has no file {file[:80]!r}")
    return _answer(request, found)


@router.get("/v1/console", tags=["Console"])
def get_console_state(request: Request, parts: Parts) -> ConsoleState:
    """Tells the console's pages what they may offer."""
    return ConsoleState(keys=parts.keys is not None and parts.keys.required, local=not _stranger(request))


@router.post("/v1/sketch", tags=["Console"], response_class=Response, responses=BINARY, openapi_extra=EXAMPLES)
async def sketch(request: Request, parts: Parts, purpose: Purpose = "task") -> Response:
    """Makes a specification file of examples, JSON Lines, for callers on the gateway's own machine alone.

    As 'slmdock spec' does. Nothing is kept of the texts, nothing registered. A sketch for a ``task`` leaves out
    what only a learnware's needs.
    """
    stranger = _stranger(request)
    if stranger:
        raise PermissionDenied(
            f"examples are sketched for callers on the gateway's own machine only, and {stranger}; make the "
            "sketch on yours: slmdock spec my-task.jsonl --task"
        )
    data = await read_body(request, MAX_EXAMPLES_BYTES)
    texts = await run_in_threadpool(_texts, data)
    async with parts.sketching:
        made = await run_in_threadpool(specify, texts, parts.retriever.encoder, calibrated=purpose == "learnware")
    return Response(made.to_bytes(), media_type="application/octet-stream")


def _texts(data: bytes) -> list[str]:
    texts = [each.text for each in check_examples(parse_examples(io.BytesIO(data), "examples"), "examples")]
    if len(texts) > MAX_EXAMPLES:
        raise TooLarge(f"examples: {len(texts)}, the limit here is {MAX_EXAMPLES}; 'slmdock spec' takes more")
    return texts


def _answer(request: Request, file: ConsoleFile) -> Response:
    headers = SECURITY | {"etag": file.etag, "cache-control": "no-cache"}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.data, media_type=file.media_type, headers=headers)


def _stranger(request: Request) -> str:
    """Returns why the caller does not count as one on this machine, empty if it does.

    Headers are believed only where they speak against it.
    """
    if request.client is None or not is_loopback(request.client.host):
        return "this request came over the network"
    if any(name in request.headers for name in FORWARDED):
        return "this request came through a proxy"
    origin = request.headers.get("origin")
    if origin is not None and not names_this_machine(origin):
        return "the page that sent this is known under another name than this machine's own"
    return ""
