"""A dock that is reached through its gateway, with the methods of a dock in this process.

The command line uses it while another process holds the catalogue's folder.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import httpx

from catalogue import EVERYTHING, Card, Filter, Learnware, Page
from indexer.adapter import check_folder
from indexer.store import CONFIG_FILE, WEIGHTS_FILE
from retriever import Ranking
from serving.tasks import Task
from serving.wire import PAGE, RANKING, error_code, filter_text
from specification import Specification
from specification.errors import DockError, EngineError

TIMEOUT = httpx.Timeout(600.0, connect=5.0)


class DockClient:
    """Speaks to a gateway. Every method raises the same DockErrors as the dock behind it would."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.Client(base_url=self.url, timeout=TIMEOUT, transport=transport, trust_env=False)

    def health(self) -> bool:
        """Tells whether a gateway answers there."""
        try:
            return self._client.get("/health", timeout=5.0).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def search(self, task: Specification, limit: int = 10, where: Filter = EVERYTHING) -> Ranking:
        """See ``Retriever.search``."""
        return RANKING.validate_json(self._send("/search", task, limit=limit, where=filter_text(where)).content)

    def find(self, text: str, limit: int = 10, where: Filter = EVERYTHING) -> list[Learnware]:
        """See ``Retriever.find``."""
        found = self._get("/learnwares", query=text, limit=limit, where=filter_text(where))
        return list(PAGE.validate_json(found.content).learnwares)

    def learnwares(self, where: Filter = EVERYTHING, limit: int = 100, after: str | None = None) -> Page:
        """See ``Catalogue.scroll``."""
        paging = {"after": after} if after else {}
        return PAGE.validate_json(
            self._get("/learnwares", limit=limit, where=filter_text(where), **paging).content
        )

    def learnware(self, name: str) -> Learnware:
        """Returns a learnware by id or name; raises NotFound if there is none."""
        return Learnware.model_validate_json(self._get(f"/learnwares/{_quoted(name)}").content)

    def specification_file(self, name: str) -> bytes:
        """Returns the specification file of a learnware by id or name."""
        return self._get(f"/learnwares/{_quoted(name)}/specification").content

    def facets(self, field: str, where: Filter = EVERYTHING, limit: int = 100) -> dict[str, int]:
        """See ``Catalogue.facets``."""
        found = self._get("/learnwares/facets", field=field, where=filter_text(where), limit=limit)
        values: dict[str, int] = found.json()["values"]
        return values

    def submit(self, adapter: Path, specification: Specification, card: Card) -> Learnware:
        """See ``Indexer.submit``; sends the adapter's two files."""
        check_folder(adapter)
        with ExitStack() as files:
            form: dict[str, Any] = {
                "card": card.model_dump_json(),
                "specification": specification.to_bytes(),
            }
            for name, file in (("adapter_config", CONFIG_FILE), ("adapter_model", WEIGHTS_FILE)):
                form[name] = files.enter_context((adapter / file).open("rb"))
            return Learnware.model_validate_json(self._request("POST", "/learnwares", files=form).content)

    def register_task(self, task: Specification) -> Task:
        """Registers a task; its id can be sent as ``model="task:<id>"``."""
        return Task.model_validate_json(self._send("/v1/tasks", task).content)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _get(self, path: str, **query: str | int) -> httpx.Response:
        return self._request("GET", path, params=query)

    def _send(self, path: str, task: Specification, **query: str | int) -> httpx.Response:
        return self._request("POST", path, params=query, content=task.to_bytes())

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = self._client.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise EngineError(f"the dock at {self.url} does not answer: {error}") from None
        if response.is_error:
            raise _error_in(response)
        return response


def _error_in(response: httpx.Response) -> DockError:
    """Returns the error of the tree that the gateway reports."""
    try:
        fields: Mapping[str, Any] = response.json()["error"]
        return _CLASSES.get(fields["code"], DockError)(fields["message"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return DockError(f"{response.url}: status {response.status_code}, and no error in the answer")


def _tree(error: type[DockError]) -> Iterator[type[DockError]]:
    yield error
    for child in error.__subclasses__():
        yield from _tree(child)


_CLASSES = {error_code(error): error for error in _tree(DockError)}


def _quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")
