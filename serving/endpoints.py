"""The gateway's own endpoints, each described once for the sync client and the async one."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter

from catalogue import EVERYTHING, Card, Filter, Learnware, Page, Signal, State
from catalogue.learnware import RESERVED_NAMES
from indexer import Change
from indexer.adapter import check_folder
from indexer.indexer import TakenAs
from indexer.origin import FINGERPRINT_FIELD, stated_fingerprint
from indexer.store import CONFIG_FILE, WEIGHTS_FILE, AdapterStore
from indexer.whole_model import is_whole_model, take_in
from retriever import Ranking
from retriever.live_map import MapColumns
from serving.call import Call, endpoint
from serving.keys import Key, KeyRequest, NewKey
from serving.live import LiveSnapshot
from serving.route_wire import RouteAnswer
from serving.tasks import TASK_ID_LENGTH, Task
from serving.trial_wire import Answers, CandidateField, Questions, TrialOutcome
from serving.verification_queue import Job
from serving.wire import (
    PAGE,
    RANKING,
    SIGNALS,
    ChangeList,
    FacetCounts,
    KeyList,
    MapPlace,
    MapProgress,
    MeasuredTask,
    ModelList,
    Verification,
    VerificationList,
    VerificationRequest,
    filter_text,
)
from specification import Example, Specification
from specification.errors import InvalidInput, NotFound

# What ids, names and engine names are made of. Anything else is no learnware, and could be another path.
REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")

MAP: TypeAdapter[MapColumns | MapProgress] = TypeAdapter(MapColumns | MapProgress)

Result = TypeVar("Result")


class Endpoints:
    """What can be asked of a gateway. A client's method returns what its ``Call`` reads, or an awaitable of it."""

    _store: AdapterStore | None = None

    @endpoint
    def search(self, task: Specification, limit: int = 10, where: Filter = EVERYTHING) -> Call[Ranking]:
        """See ``Retriever.search``."""
        return _send("/search", RANKING.validate_json, task, limit=limit, where=filter_text(where))

    @endpoint
    def route(self, text: str | Sequence[Mapping[str, Any]], model: str = "auto") -> Call[RouteAnswer]:
        """Returns who would answer a text, or chat messages, and why; nothing is generated."""
        body = {"model": model, "input" if isinstance(text, str) else "messages": text}
        return Call("POST", "/v1/route", RouteAnswer.model_validate_json, {"json": body})

    @endpoint
    def find(self, text: str, limit: int = 10, where: Filter = EVERYTHING) -> Call[list[Learnware]]:
        """See ``Retriever.find``."""
        asked = {"query": text, "limit": limit, "where": filter_text(where)}
        return _get("/learnwares", lambda data: list(PAGE.validate_json(data).learnwares), **asked)

    @endpoint
    def learnwares(self, where: Filter = EVERYTHING, limit: int = 100, after: str | None = None) -> Call[Page]:
        """See ``Catalogue.scroll``."""
        paging = {"after": after} if after else {}
        return _get("/learnwares", PAGE.validate_json, limit=limit, where=filter_text(where), **paging)

    @endpoint
    def learnware(self, name: str) -> Call[Learnware]:
        """Returns a learnware by id, name@version or name; raises NotFound if there is none."""
        return _get(_path_of(name), Learnware.model_validate_json)

    @endpoint
    def specification_file(self, name: str) -> Call[bytes]:
        """Returns the specification file of a learnware, see ``learnware``."""
        return _get(f"{_path_of(name)}/specification", bytes)

    @endpoint
    def facets(self, field: str, where: Filter = EVERYTHING, limit: int = 100) -> Call[dict[str, int]]:
        """See ``Catalogue.facets``."""
        asked = {"field": field, "where": filter_text(where), "limit": limit}
        return _get("/learnwares/facets", lambda data: FacetCounts.model_validate_json(data).values, **asked)

    @endpoint
    def submit(
        self,
        folder: Path,
        specification: Specification,
        card: Card,
        state: TakenAs = "published",
        *,
        base: str | None = None,
        rename: bool = False,
    ) -> Call[Learnware]:
        """See ``Indexer.submit``; sends an adapter's two files and what is stated beside them of its base model's
        fingerprint, or a whole model's id once it lies in the store.

        Raises:
            InvalidInput: a whole model, and this process does not know the dock's store.
        """
        form: dict[str, Any] = {"card": card.model_dump_json(), "specification": specification.to_bytes()}
        named = {} if base is None else {"base": base}
        arguments = {"files": form, "params": {"state": state, "rename": rename, **named}}
        submitted = Call("POST", "/learnwares", Learnware.model_validate_json, arguments)
        if is_whole_model(folder):
            if base is not None:
                raise InvalidInput(f"{folder}: a whole model stands on no base model; leave the base out")
            form["whole_model"] = _stored(folder, self._store)
            return submitted
        check_folder(folder)
        if stated := stated_fingerprint(folder):
            form["record"] = json.dumps({FINGERPRINT_FIELD: stated})
        files = {"adapter_config": folder / CONFIG_FILE, "adapter_model": folder / WEIGHTS_FILE}
        return replace(submitted, uploads=files)

    @endpoint
    def move(self, name: str, state: State, why: str = "") -> Call[Learnware]:
        """Publishes, retires or quarantines a learnware; see ``LifeCycle.move``."""
        body = {"state": state, "why": why}
        return Call("POST", f"{_path_of(name)}/state", Learnware.model_validate_json, {"json": body})

    @endpoint
    def delete(self, name: str, force: bool = False, why: str = "") -> Call[Learnware]:
        """Removes a learnware and returns what it was; see ``LifeCycle.delete``.

        Raises:
            Conflict: a registered task is answered by it, and ``force`` is not given.
        """
        asked = {"force": force, "why": why}
        return Call("DELETE", _path_of(name), Learnware.model_validate_json, {"params": asked})

    @endpoint
    def history(self, reference: str = "", limit: int = 100) -> Call[list[Change]]:
        """See ``History.changes``."""
        asked = {"learnware": reference, "limit": limit}
        return _get("/history", lambda data: ChangeList.model_validate_json(data).data, **asked)

    @endpoint
    def verify(
        self, name: str, examples: Sequence[Example], chat: bool | None = None, publish: bool = False
    ) -> Call[Job]:
        """Asks for a learnware to be run on held-out examples; see ``Verifier``."""
        asked = VerificationRequest(examples=list(examples), chat=chat, publish=publish).model_dump_json()
        return Call("POST", f"{_path_of(name)}/verification", _read_job, {"content": asked})

    @endpoint
    def verification(self, name: str) -> Call[Job]:
        """Returns the last verification of a learnware; raises NotFound if there was none."""
        return _get(f"{_path_of(name)}/verification", _read_job)

    @endpoint
    def verifications(self) -> Call[list[Job]]:
        """Returns the last verifications of all learnwares, newest first."""
        return _get("/verifications", lambda data: VerificationList.model_validate_json(data).data)

    @endpoint
    def verifying(self) -> Call[bool]:
        """Tells whether the gateway works off what is to be verified."""
        return _get("/verifications", lambda data: VerificationList.model_validate_json(data).verifying, limit=1)

    @endpoint
    def measure(self, task: Specification) -> Call[str]:
        """See ``Indexer.measure``."""
        return _send("/measured-tasks", lambda data: MeasuredTask.model_validate_json(data).digest, task)

    @endpoint
    def attach(self, name: str, signals: Sequence[Signal]) -> Call[Learnware]:
        """Adds quality signals to a learnware by id or name, see ``Indexer.attach``."""
        body = SIGNALS.dump_json(tuple(signals))
        return Call("POST", f"{_path_of(name)}/quality", Learnware.model_validate_json, {"content": body})

    @endpoint
    def base_models(self) -> Call[list[str]]:
        """Returns the names of the base models that the gateway serves."""

        def read(data: bytes) -> list[str]:
            found = ModelList.model_validate_json(data).data
            return [model.id for model in found if model.learnware is None and model.id not in RESERVED_NAMES]

        return _get("/v1/models", read, limit=1)

    @endpoint
    def live(self) -> Call[LiveSnapshot]:
        """Returns the gateway's last minute and the state of its engines."""
        return _get("/v1/live", LiveSnapshot.model_validate_json)

    @endpoint
    def map(self) -> Call[MapColumns | None]:
        """Returns where every published learnware lies on the map; None while the first map is being made."""
        return _get("/v1/map", _read_map)

    @endpoint
    def place(self, task: Specification) -> Call[tuple[int, int]]:
        """Returns where a task lies on the map, as x and y; see ``LiveMap.place``.

        Raises:
            Conflict: the first map is still being made.
        """

        def read(data: bytes) -> tuple[int, int]:
            found = MapPlace.model_validate_json(data)
            return found.x, found.y

        return _send("/v1/map", read, task)

    @endpoint
    def register_task(self, task: Specification) -> Call[Task]:
        """Registers a task; its id can be sent as ``model="task:<id>"``."""
        return _send("/v1/tasks", Task.model_validate_json, task)

    @endpoint
    def task(self, id: str) -> Call[Task]:
        """Returns a registered task; raises NotFound if there is none of that id."""
        return _get(f"/v1/tasks/{quote(id, safe='')}", Task.model_validate_json)

    @endpoint
    def trial_candidates(
        self, task: Specification, top: int = 10, where: Filter = EVERYTHING
    ) -> Call[CandidateField]:
        """Returns who is worth trying for a registered task, with the base model as the last."""
        path = f"/v1/tasks/{task.digest[:TASK_ID_LENGTH]}/trial/candidates"
        return _send(path, CandidateField.model_validate_json, task, top=top, where=filter_text(where))

    @endpoint
    def trial_answers(self, task: str, asked: Questions) -> Call[Answers]:
        """Returns what every model of a trial answers to every prompt."""
        return Call("POST", f"/v1/tasks/{task}/trial", Answers.model_validate_json, {"json": asked.model_dump()})

    @endpoint
    def keep_outcome(self, task: str, outcome: TrialOutcome) -> Call[Task]:
        """Makes a trial's winner the one who answers the task."""
        body = outcome.model_dump()
        return Call("POST", f"/v1/tasks/{task}/trial/outcome", Task.model_validate_json, {"json": body})

    @endpoint
    def create_key(self, wanted: KeyRequest) -> Call[NewKey]:
        """See ``KeyStore.create_key``."""
        return Call("POST", "/v1/keys", NewKey.model_validate_json, {"content": wanted.model_dump_json()})

    @endpoint
    def list_keys(self) -> Call[list[Key]]:
        """See ``KeyStore.list_keys``."""
        return _get("/v1/keys", lambda data: KeyList.model_validate_json(data).data)

    @endpoint
    def revoke_key(self, id: str) -> Call[Key]:
        """See ``KeyStore.revoke_key``."""
        return Call("DELETE", f"/v1/keys/{quote(id, safe='')}", Key.model_validate_json)


def _read_map(data: bytes) -> MapColumns | None:
    found = MAP.validate_json(data)
    return found if isinstance(found, MapColumns) else None


def _get(path: str, read: Callable[[bytes], Result], **query: object) -> Call[Result]:
    return Call("GET", path, read, {"params": query})


def _send(path: str, read: Callable[[bytes], Result], task: Specification, **query: object) -> Call[Result]:
    return Call("POST", path, read, {"params": query, "content": task.to_bytes()})


def _read_job(data: bytes) -> Job:
    return Verification.model_validate_json(data).job


def _stored(folder: Path, store: AdapterStore | None) -> str:
    if store is None:
        raise InvalidInput(
            f"{folder}: a whole model is too large to send; submit it on the dock's own machine, with --dock"
        )
    return take_in(folder, store)


def _path_of(name: str) -> str:
    if REFERENCE.fullmatch(name) is None:
        raise NotFound(f"no learnware {name[:200]!r}")
    return f"/learnwares/{name}"
