"""A DockError as an HTTP answer in OpenAI's shape."""

from starlette.responses import JSONResponse

from serving.wire import error_body, error_code
from specification.errors import DockError


def error_response(error: DockError, param: str | None = None) -> JSONResponse:
    """Returns the answer; an error with ``retry_after`` (seconds) tells the client when to come again."""
    headers = {"www-authenticate": "Bearer"} if error.status == 401 else {}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    return JSONResponse(error_body(str(error), error.kind, error_code(type(error)), param), error.status, headers)
