"""What every command needs: the options before the command's name, and the dock they lead to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from catalogue import Card, Filter, Learnware, Page, ServerAddress, Signal, State
from indexer import AdapterStore, BaseModels, Change, base_by_folder
from indexer.indexer import TakenAs
from retriever import Ranking
from serving.verification_queue import Job
from slmdock.dock import Dock, DockConfig, announced
from specification import Encoder, Example, SentenceEncoder, Specification
from specification.errors import InvalidInput
from specification.files import read_file

MAX_KEY_FILE_BYTES = 4096

if TYPE_CHECKING:
    from serving import DockClient


class DockAccess(Protocol):
    """What commands ask of a dock: the same in this process and through a gateway's HTTP interface."""

    def submit(
        self,
        folder: Path,
        specification: Specification,
        card: Card,
        state: TakenAs = "published",
        *,
        base: str | None = None,
        rename: bool = False,
    ) -> Learnware: ...

    def move(self, name: str, state: State, why: str = "") -> Learnware: ...

    def delete(self, name: str, force: bool = False, why: str = "") -> Learnware: ...

    def history(self, reference: str = "", limit: int = 100) -> list[Change]: ...

    def verify(
        self, name: str, examples: Sequence[Example], chat: bool | None = None, publish: bool = False
    ) -> Job: ...

    def verification(self, name: str) -> Job: ...

    def verifications(self) -> list[Job]: ...

    def measure(self, task: Specification) -> str: ...

    def attach(self, name: str, signals: Sequence[Signal]) -> Learnware: ...

    def search(self, task: Specification, limit: int, where: Filter) -> Ranking: ...

    def find(self, text: str, limit: int, where: Filter) -> list[Learnware]: ...

    def learnwares(self, where: Filter, limit: int, after: str | None = None) -> Page: ...

    def learnware(self, name: str) -> Learnware: ...

    def specification_file(self, name: str) -> bytes: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Context:
    """The options before the command's name."""

    config: DockConfig
    url: str | None
    key_file: Path | None = None
    server: Callable[..., ServerAddress] = ServerAddress
    """Makes a Qdrant server's address from URL, key and more; it is reached as the general options say."""

    def encoder(self) -> Encoder:
        """The encoder on this machine; texts never leave it."""
        return SentenceEncoder(self.config.encoder)

    def access(self) -> DockAccess:
        """The dock: through ``--url``, through the gateway that holds its folder, or opened here."""
        return self._gateway() or Dock(self.config)

    def bases(self) -> BaseModels:
        """The base models of the dock on this machine.

        Raises:
            InvalidInput: ``--url`` was given.
        """
        if self.url:
            raise InvalidInput(
                "base models are kept on the dock's own machine: use --dock there, not --url (nor SLMDOCK_URL)"
            )
        return Dock(self.config).bases

    def base_of(self, adapter: Path) -> str | None:
        """The base model whose folder an adapter's configuration states, see ``base_by_folder``.

        None behind ``--url``, where base models lie on another machine, or may.
        """
        return None if self.url else base_by_folder(adapter, self.bases())

    def take_in(self, access: DockAccess, folder: Path, specification: Specification, card: Card) -> Learnware:
        """Submits what lies on this machine, as ``submit`` does for each of many."""
        return access.submit(folder, specification, card, base=self.base_of(folder))

    def opened(self, work: str) -> Dock:
        """The dock in this process, for ``work`` that is not done through a gateway.

        Raises:
            InvalidInput: a gateway holds the dock's folder, or ``--url`` was given.
        """
        client = self._gateway()
        if client is None:
            return Dock(self.config)
        client.close()
        raise InvalidInput(
            f"{work} on the dock's own machine while nothing serves it: stop 'slmdock serve' there, "
            "and use --dock, not --url (nor SLMDOCK_URL)"
        )

    def gateway(self) -> "DockClient":
        """The gateway, for what needs an engine.

        Raises:
            InvalidInput: none holds the dock's folder, and no ``--url`` was given.
        """
        found = self._gateway()
        if found is None:
            raise InvalidInput("no gateway holds this dock; start 'slmdock serve', or name one with --url")
        return found

    def key(self) -> str | None:
        """The API key in ``--key-file``; without one the client looks into the environment."""
        if self.key_file is None:
            return None
        key = read_file(self.key_file, MAX_KEY_FILE_BYTES).decode("ascii", "replace").strip()
        if not key:
            raise InvalidInput(f"{self.key_file}: holds no key")
        return key

    def _gateway(self) -> "DockClient | None":
        found = None if self.url else announced(self.config.folder)
        url = self.url or found
        if url is None:
            return None
        from serving import DockClient

        # Only a gateway that was found in the dock's folder surely shares its store.
        store = AdapterStore(self.config.folder / "store") if found else None
        client = DockClient(url, key=self.key(), store=store)
        if found and not client.health():
            # A gateway that was killed left its note behind, and its process number was given away.
            client.close()
            return None
        return client
