"""A dock that is reached through its gateway, with the methods of a dock in this process.

The command line uses it while another process holds the catalogue's folder.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from catalogue import EVERYTHING, Card, Filter, Learnware, Page, Signal, State
from indexer import Change
from indexer.adapter import check_folder
from indexer.indexer import TakenAs
from indexer.origin import FINGERPRINT_FIELD, stated_fingerprint
from indexer.store import CONFIG_FILE, WEIGHTS_FILE, AdapterStore
from indexer.whole_model import is_whole_model, take_in
from retriever import Ranking
from serving.keys import Key, KeyRequest, NewKey
from serving.live import LiveSnapshot
from serving.tasks import TASK_ID_LENGTH, Task
from serving.trial_wire import Answers, CandidateField, Questions, TrialOutcome
from serving.verification_queue import Job
from serving.wire import (
    PAGE,
    RANKING,
    SIGNALS,
    ChangeList,
    ErrorAnswer,
    FacetCounts,
    KeyList,
    MeasuredTask,
    Verification,
    VerificationList,
    VerificationRequest,
    encodable,
    error_code,
    filter_text,
)
from specification import Example, Specification
from specification.errors import DockError, EngineError, InvalidInput, NotFound

KEY_VARIABLE = "SLMDOCK_KEY"
MAX_KEY_LENGTH = 1000
TIMEOUT = httpx.Timeout(600.0, connect=5.0)
# What ids, names and engine names are made of. Anything else is no learnware, and could be another path.
REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")

Result = TypeVar("Result")


class DockClient:
    """Speaks to a gateway. Every method raises the same DockErrors as the dock behind it would."""

    def __init__(
        self,
        url: str,
        transport: httpx.BaseTransport | None = None,
        key: str | None = None,
        store: AdapterStore | None = None,
    ) -> None:
        """Asks nobody yet. ``key`` is an API key; the default is the environment's SLMDOCK_KEY.

        ``store`` is the dock's own, where this process can write to it; whole models go in through it.

        Raises:
            InvalidInput: ``url`` is no URL, or the key can be none.
        """
        self.url = url.rstrip("/")
        self._store = store
        headers = _headers(key or os.environ.get(KEY_VARIABLE, ""))
        try:
            self._client = httpx.Client(
                base_url=self.url, headers=headers, timeout=TIMEOUT, transport=transport, trust_env=False
            )
        except (httpx.InvalidURL, UnicodeError) as error:
            raise InvalidInput(f"dock URL {url[:200]!r}: {error}; write http://host:port") from None

    def health(self) -> bool:
        """Tells whether a gateway answers there."""
        try:
            return self._client.get("/health", timeout=5.0).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def search(self, task: Specification, limit: int = 10, where: Filter = EVERYTHING) -> Ranking:
        """See ``Retriever.search``."""
        return self._send("/search", RANKING.validate_json, task, limit=limit, where=filter_text(where))

    def find(self, text: str, limit: int = 10, where: Filter = EVERYTHING) -> list[Learnware]:
        """See ``Retriever.find``."""
        found = self._get("/learnwares", PAGE.validate_json, query=text, limit=limit, where=filter_text(where))
        return list(found.learnwares)

    def learnwares(self, where: Filter = EVERYTHING, limit: int = 100, after: str | None = None) -> Page:
        """See ``Catalogue.scroll``."""
        paging = {"after": after} if after else {}
        return self._get("/learnwares", PAGE.validate_json, limit=limit, where=filter_text(where), **paging)

    def learnware(self, name: str) -> Learnware:
        """Returns a learnware by id, name@version or name; raises NotFound if there is none."""
        return self._get(_path_of(name), Learnware.model_validate_json)

    def specification_file(self, name: str) -> bytes:
        """Returns the specification file of a learnware, see ``learnware``."""
        return self._get(f"{_path_of(name)}/specification", bytes)

    def facets(self, field: str, where: Filter = EVERYTHING, limit: int = 100) -> dict[str, int]:
        """See ``Catalogue.facets``."""
        asked: dict[str, str | int] = {"field": field, "where": filter_text(where), "limit": limit}
        return self._get("/learnwares/facets", FacetCounts.model_validate_json, **asked).values

    def submit(
        self, folder: Path, specification: Specification, card: Card, state: TakenAs = "published"
    ) -> Learnware:
        """See ``Indexer.submit``; sends an adapter's two files and what is stated beside them of its base model's
        fingerprint, or a whole model's id once it lies in the store.

        Raises:
            InvalidInput: a whole model, and this process does not know the dock's store.
        """
        form: dict[str, Any] = {"card": card.model_dump_json(), "specification": specification.to_bytes()}
        read, asked = Learnware.model_validate_json, {"state": state}
        if is_whole_model(folder):
            form["whole_model"] = self._stored(folder)
            return self._request("POST", "/learnwares", read, files=form, params=asked)
        check_folder(folder)
        if stated := stated_fingerprint(folder):
            form["record"] = json.dumps({FINGERPRINT_FIELD: stated})
        with ExitStack() as files:
            for name, file in (("adapter_config", CONFIG_FILE), ("adapter_model", WEIGHTS_FILE)):
                form[name] = files.enter_context((folder / file).open("rb"))
            return self._request("POST", "/learnwares", read, files=form, params=asked)

    def move(self, name: str, state: State, why: str = "") -> Learnware:
        """Publishes, retires or quarantines a learnware; see ``LifeCycle.move``."""
        body = {"state": state, "why": why}
        return self._request("POST", f"{_path_of(name)}/state", Learnware.model_validate_json, json=body)

    def delete(self, name: str, force: bool = False, why: str = "") -> Learnware:
        """Removes a learnware and returns what it was; see ``LifeCycle.delete``.

        Raises:
            Conflict: a registered task is answered by it, and ``force`` is not given.
        """
        asked = {"force": force, "why": why}
        return self._request("DELETE", _path_of(name), Learnware.model_validate_json, params=asked)

    def history(self, reference: str = "", limit: int = 100) -> list[Change]:
        """See ``History.changes``."""
        return self._get("/history", ChangeList.model_validate_json, learnware=reference, limit=limit).data

    def verify(
        self, name: str, examples: Sequence[Example], chat: bool | None = None, publish: bool = False
    ) -> Job:
        """Asks for a learnware to be run on held-out examples; see ``Verifier``."""
        asked = VerificationRequest(examples=list(examples), chat=chat, publish=publish).model_dump_json()
        read = Verification.model_validate_json
        return self._request("POST", f"{_path_of(name)}/verification", read, content=asked).job

    def verification(self, name: str) -> Job:
        """Returns the last verification of a learnware; raises NotFound if there was none."""
        return self._get(f"{_path_of(name)}/verification", Verification.model_validate_json).job

    def verifications(self) -> list[Job]:
        """Returns the last verifications of all learnwares, newest first."""
        return self._get("/verifications", VerificationList.model_validate_json).data

    def verifying(self) -> bool:
        """Tells whether the gateway works off what is to be verified."""
        return self._get("/verifications", VerificationList.model_validate_json, limit=1).verifying

    def measure(self, task: Specification) -> str:
        """See ``Indexer.measure``."""
        return self._send("/measured-tasks", MeasuredTask.model_validate_json, task).digest

    def attach(self, name: str, signals: Sequence[Signal]) -> Learnware:
        """Adds quality signals to a learnware by id or name, see ``Indexer.attach``."""
        body = SIGNALS.dump_json(tuple(signals))
        return self._request("POST", f"{_path_of(name)}/quality", Learnware.model_validate_json, content=body)

    def live(self) -> LiveSnapshot:
        """Returns the gateway's last minute and the state of its engines."""
        return self._get("/v1/live", LiveSnapshot.model_validate_json)

    def register_task(self, task: Specification) -> Task:
        """Registers a task; its id can be sent as ``model="task:<id>"``."""
        return self._send("/v1/tasks", Task.model_validate_json, task)

    def trial_candidates(self, task: Specification, top: int = 10, where: Filter = EVERYTHING) -> CandidateField:
        """Returns who is worth trying for a registered task, with the base model as the last."""
        path = f"/v1/tasks/{task.digest[:TASK_ID_LENGTH]}/trial/candidates"
        return self._send(path, CandidateField.model_validate_json, task, top=top, where=filter_text(where))

    def trial_answers(self, task: str, asked: Questions) -> Answers:
        """Returns what every model of a trial answers to every prompt."""
        return self._request(
            "POST", f"/v1/tasks/{task}/trial", Answers.model_validate_json, json=asked.model_dump()
        )

    def keep_outcome(self, task: str, outcome: TrialOutcome) -> Task:
        """Makes a trial's winner the one who answers the task."""
        body = outcome.model_dump()
        return self._request("POST", f"/v1/tasks/{task}/trial/outcome", Task.model_validate_json, json=body)

    def create_key(self, wanted: KeyRequest) -> NewKey:
        """See ``KeyStore.create_key``."""
        body = wanted.model_dump_json()
        return self._request("POST", "/v1/keys", NewKey.model_validate_json, content=body)

    def list_keys(self) -> list[Key]:
        """See ``KeyStore.list_keys``."""
        return self._get("/v1/keys", KeyList.model_validate_json).data

    def revoke_key(self, id: str) -> Key:
        """See ``KeyStore.revoke_key``."""
        return self._request("DELETE", f"/v1/keys/{quote(id, safe='')}", Key.model_validate_json)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stored(self, folder: Path) -> str:
        if self._store is None:
            raise InvalidInput(
                f"{folder}: a whole model is too large to send; submit it on the dock's own machine, with --dock"
            )
        return take_in(folder, self._store)

    def _get(self, path: str, read: Callable[[bytes], Result], **query: str | int) -> Result:
        return self._request("GET", path, read, params=query)

    def _send(self, path: str, read: Callable[[bytes], Result], task: Specification, **query: str | int) -> Result:
        return self._request("POST", path, read, params=query, content=task.to_bytes())

    def _request(self, method: str, path: str, read: Callable[[bytes], Result], **arguments: Any) -> Result:
        """Returns what ``read``, which raises ValueError for anything but a dock's answer, makes of the answer."""
        for name, value in arguments.get("params", {}).items():
            encodable(name, str(value))
        try:
            response = self._client.request(method, path, **arguments)
        except httpx.InvalidURL as error:
            raise InvalidInput(f"{method} {path} cannot be asked: {error}") from None
        except httpx.HTTPError as error:
            raise EngineError(f"the dock at {self.url} does not answer: {error}") from None
        if not response.is_success:
            raise self._error_in(response)
        try:
            return read(response.content)
        except ValueError as error:
            reason = str(error).partition("\n")[0]
            raise EngineError(f"what answers at {self.url} is no dock: {method} {path}: {reason}") from None

    def _error_in(self, response: httpx.Response) -> DockError:
        """Returns the error of the tree that the gateway reports."""
        try:
            error = ErrorAnswer.model_validate_json(response.content).error
        except ValidationError:
            status = f"status {response.status_code} without a dock's error"
            return EngineError(f"what answers at {self.url} is no dock: {response.url.path}: {status}")
        return _CLASSES.get(str(error.code), DockError)(error.message)


def _tree(error: type[DockError]) -> Iterator[type[DockError]]:
    yield error
    for child in error.__subclasses__():
        yield from _tree(child)


_CLASSES = {error_code(error): error for error in _tree(DockError)}


def _headers(key: str) -> dict[str, str]:
    key = key.strip()
    if not (key.isascii() and key.isprintable()) or len(key) > MAX_KEY_LENGTH:
        raise InvalidInput(f"the API key ({KEY_VARIABLE}, or a key file) is not one line of ASCII text")
    return {"authorization": f"Bearer {key}"} if key else {}


def _path_of(name: str) -> str:
    if REFERENCE.fullmatch(name) is None:
        raise NotFound(f"no learnware {name[:200]!r}")
    return f"/learnwares/{name}"
