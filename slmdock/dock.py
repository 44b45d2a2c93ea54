"""A dock: one folder with everything in it, opened for one process.

catalogue/   the embedded catalogue (or a Qdrant server, by URL)
store/       the adapters and whole models, by content
tasks/       the tasks registered with the gateway
whitening.safetensors  the metric for single prompts, made anew as the catalogue grows
bases.json   the base models the dock knows
keys.json    who may use the gateway; without it everybody on this machine
history.sqlite  what happened to each learnware, who did it, when and why
verification.sqlite  what is to be verified, with the examples for it, and what came of it
update_sketches.sqlite  what adapters change, in short, by which near-duplicates are found
serving.json where the gateway listens, while it does
"""

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from catalogue import (
    Card,
    Catalogue,
    CatalogueSettings,
    Filter,
    Learnware,
    Page,
    ServerAddress,
    Signal,
    State,
    find_learnware,
    open_catalogue,
)
from indexer import AdapterStore, BaseModels, Change, Indexer, LifeCycle, MeasuredTasks
from indexer.history import system_user
from indexer.indexer import TakenAs
from indexer.measured_tasks import FOLDER
from retriever import LiveWhitening, Ranking, Retriever
from serving.keys import KEYS_FILE, KeyStore
from serving.tasks import TaskStore
from serving.verification_queue import QUEUE_FILE, Job, VerificationQueue, require_verifiable, required_job
from specification import DEFAULT_ENCODER, Encoder, Example, SentenceEncoder, Specification
from specification.errors import CatalogueError, NotFound
from specification.files import write_atomically

SERVING_FILE = "serving.json"
WHITENING_FILE = "whitening.safetensors"
TASKS_FOLDER = "tasks"


def default_folder() -> Path:
    """Returns ``$XDG_DATA_HOME/slmdock`` or its usual place in the home folder."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "slmdock"


def cache_folder() -> Path:
    """Returns ``$XDG_CACHE_HOME/slmdock`` or its usual place in the home folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slmdock"


def specification_cache() -> Path:
    """Returns where specifications made from examples are kept on the user's or provider's side."""
    return cache_folder() / "specifications"


@dataclass(frozen=True)
class DockConfig:
    """Where a dock lies and what it uses. ``qdrant`` None means the embedded catalogue."""

    folder: Path
    encoder: str = DEFAULT_ENCODER
    qdrant: ServerAddress | None = None


class Dock:
    """The dock in this process. Parts are made on first use, so that a listing loads no encoder."""

    def __init__(self, config: DockConfig) -> None:
        self.config = config

    @cached_property
    def encoder(self) -> Encoder:
        return SentenceEncoder(self.config.encoder)

    @cached_property
    def bases(self) -> BaseModels:
        return BaseModels(self.config.folder / "bases.json")

    @cached_property
    def store(self) -> AdapterStore:
        try:
            (self.config.folder / "store").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CatalogueError(
                f"dock folder {self.config.folder} cannot be written ({error.strerror}); choose another: --dock"
            ) from None
        return AdapterStore(self.config.folder / "store")

    @cached_property
    def catalogue(self) -> Catalogue:
        """The catalogue, if there is one already."""
        return open_catalogue(self.place)

    @cached_property
    def indexer(self) -> Indexer:
        """The indexer; makes the catalogue if there is none, and sweeps what a crash left in the store."""
        store = self.store
        if "catalogue" in self.__dict__:
            self.catalogue.settings.encoder.require(self.encoder.identity)
        else:
            self.catalogue = open_catalogue(self.place, CatalogueSettings.of(self.encoder.identity))
        store.sweep()
        return Indexer(self.catalogue, store, self.bases, self.encoder)

    @cached_property
    def life_cycle(self) -> LifeCycle:
        """What the indexer does without an encoder, so that none need be loaded."""
        return LifeCycle(self.catalogue, self.store)

    @cached_property
    def retriever(self) -> Retriever:
        measured = MeasuredTasks(self.config.folder / "store" / FOLDER)
        retriever = Retriever(self.catalogue, self.encoder, measured=measured.get)
        retriever.whitening = LiveWhitening(self.catalogue, self.config.folder / WHITENING_FILE)
        return retriever

    @cached_property
    def keys(self) -> KeyStore:
        return KeyStore(self.config.folder / KEYS_FILE)

    @cached_property
    def verification_queue(self) -> VerificationQueue:
        return VerificationQueue(self.config.folder / QUEUE_FILE)

    @property
    def place(self) -> Path | ServerAddress:
        """Where its catalogue is."""
        return self.config.qdrant or self.config.folder / "catalogue"

    def close(self) -> None:
        """Lets go of the catalogue's folder."""
        if "catalogue" in self.__dict__:
            self.catalogue.close()

    def submit(
        self,
        folder: Path,
        specification: Specification,
        card: Card,
        state: TakenAs = "published",
        *,
        base: str | None = None,
        rename: bool = False,
    ) -> Learnware:
        """See ``Indexer.submit``."""
        return self.indexer.submit(folder, specification, card, state, base=base, rename=rename)

    def move(self, name: str, state: State, why: str = "") -> Learnware:
        """Gives a learnware another state, see ``LifeCycle.move``."""
        return self.life_cycle.move(self.learnware(name), state, system_user(), why)

    def delete(self, name: str, force: bool = False, why: str = "") -> Learnware:
        """Removes a learnware and returns what it was, see ``LifeCycle.delete``.

        Raises:
            Conflict: a registered task is answered by it, and ``force`` is not given.
        """
        learnware = self.learnware(name)
        if not force:
            TaskStore(self.config.folder / TASKS_FOLDER).require_unused(learnware)
        self.life_cycle.delete(learnware, system_user(), why)
        return learnware

    def history(self, reference: str = "", limit: int = 100) -> list[Change]:
        """See ``History.changes``."""
        return self.life_cycle.history.changes(reference, limit)

    def verify(
        self, name: str, examples: Sequence[Example], chat: bool | None = None, publish: bool = False
    ) -> Job:
        """Puts a learnware into the queue of what is to be verified, with examples as ``choose`` gave them."""
        learnware = self.learnware(name)
        require_verifiable(learnware)
        who = system_user()
        return self.verification_queue.add(learnware.id, learnware.reference, examples, who, chat, publish)

    def verification(self, name: str) -> Job:
        """Returns the last verification of a learnware; raises NotFound if there was none."""
        return required_job(self.verification_queue, self.learnware(name))

    def verifications(self) -> list[Job]:
        """Returns the last verifications of all learnwares, newest first."""
        return self.verification_queue.jobs()

    def measure(self, task: Specification) -> str:
        """See ``Indexer.measure``."""
        return self.indexer.measure(task)

    def attach(self, name: str, signals: Sequence[Signal]) -> Learnware:
        """Adds quality signals to a learnware by id or name, see ``Indexer.attach``."""
        return self.indexer.attach(self.learnware(name), signals)

    def search(self, task: Specification, limit: int, where: Filter) -> Ranking:
        """See ``Retriever.search``."""
        return self.retriever.search(task, limit, where)

    def find(self, text: str, limit: int, where: Filter) -> list[Learnware]:
        """See ``Retriever.find``."""
        return self.retriever.find(text, limit, where)

    def learnwares(self, where: Filter, limit: int, after: str | None = None) -> Page:
        """Returns a page of the listing, in order of id."""
        return self.catalogue.scroll(where, limit, after)

    def specification_file(self, name: str) -> bytes:
        """Returns the specification file of a learnware, see ``learnware``."""
        return self.catalogue.specification_file(self.learnware(name))

    def learnware(self, name: str) -> Learnware:
        """Returns a learnware, see ``find_learnware``.

        Raises:
            NotFound: there is none.
        """
        found = find_learnware(self.catalogue, name)
        if found is None:
            raise NotFound(f"no learnware {name!r}; 'slmdock list' shows those that are there")
        return found


def announce(folder: Path, url: str) -> None:
    """Notes where this process's gateway listens, so that other commands find it."""
    write_atomically(folder / SERVING_FILE, json.dumps({"url": url, "process": os.getpid()}).encode())


def withdraw(folder: Path) -> None:
    """Takes the note back, if it is this process's."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads((folder / SERVING_FILE).read_text())["process"] == os.getpid():
            (folder / SERVING_FILE).unlink()


def announced(folder: Path) -> str | None:
    """Returns the URL of the gateway that holds the dock, if its process still lives."""
    try:
        note = json.loads((folder / SERVING_FILE).read_text())
        os.kill(int(note["process"]), 0)
        return str(note["url"])
    except (OSError, OverflowError, ValueError, KeyError, TypeError):
        return None
