"""API keys: who may do what with a dock. One JSON file, which the command line and the gateway both change."""

import fcntl
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from catalogue.learnware import describe
from specification.errors import DockError, InvalidApiKey, InvalidInput, KeysUnavailable, NotFound
from specification.files import make_folder, read_file, write_atomically

Role = Literal["search", "serve", "publish", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

KEYS_FILE = "keys.json"
MAX_FILE_BYTES = 2**20
MAX_KEYS = 1000
TOKEN = re.compile(r"sk-dock-([0-9a-f]{16})-[A-Za-z0-9_-]{43}")
SHOWN_CHARACTERS = 4

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}$")]
Roles = Annotated[tuple[Role, ...], Field(min_length=1, max_length=len(ROLES))]
Seconds = Annotated[int, Field(ge=1, le=100 * 366 * 86_400)]


class Key(BaseModel):
    """What may be shown of a key: ``id`` is public, ``last`` the end of the secret. Times are Unix seconds."""

    model_config = ConfigDict(frozen=True)

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    name: Name
    roles: Roles
    last: Annotated[str, Field(max_length=SHOWN_CHARACTERS)]
    created: int
    expires: int | None = None

    @property
    def expired(self) -> bool:
        return self.expires is not None and time.time() >= self.expires

    def may(self, roles: Collection[Role]) -> bool:
        """Tells whether the key has one of the roles; ``admin`` has all."""
        return "admin" in self.roles or any(role in roles for role in self.roles)


class NewKey(Key):
    """A key just made, the one time that its secret is known."""

    secret: Annotated[str, Field(repr=False)]


class KeyRequest(BaseModel):
    """A key to be made; ``expires_in`` is in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    roles: Roles
    expires_in: Seconds | None = None


def key_request(document: object) -> KeyRequest:
    """Returns a checked request for a key; raises InvalidInput that names the field at fault."""
    try:
        return KeyRequest.model_validate(document)
    except ValidationError as error:
        raise InvalidInput(f"key: {describe(error)}; roles are {', '.join(ROLES)}") from None


class _StoredKey(Key):
    # The secret is 256 random bits, which no dictionary guesses: a plain SHA-256 hides it as well as a slow hash.
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False)]

    @property
    def shown(self) -> Key:
        return Key.model_validate(self.model_dump(exclude={"sha256"}))


class _KeysFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    keys: Annotated[tuple[_StoredKey, ...], Field(max_length=MAX_KEYS)] = ()


class KeyStore:
    """The keys of one dock. Changes by other processes are seen at the next request."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] | None = None
        self._keys: dict[str, _StoredKey] = {}

    @property
    def required(self) -> bool:
        """Whether requests need a key: once one was made, and for good, also when the last one was revoked.

        Raises:
            KeysUnavailable: that cannot be told.
        """
        return self._signature() is not None

    def authenticate(self, token: str) -> Key:
        """Returns the key whose secret was sent.

        Raises:
            InvalidApiKey: there is none, or it has expired. KeysUnavailable: the file cannot be read.
        """
        self._refresh()
        match = TOKEN.fullmatch(token)
        stored = self._keys.get(match.group(1)) if match else None
        if stored is None or not hmac.compare_digest(_digest(token), stored.sha256):
            raise InvalidApiKey("the API key is not known here: mistyped, revoked, or of another dock")
        if stored.expired:
            raise InvalidApiKey(f"the API key {stored.name!r} expired on {day_of(stored.expires)}")
        return stored.shown

    def create_key(self, wanted: KeyRequest) -> NewKey:
        """Makes a key and returns it with its secret, which is not kept.

        Raises:
            InvalidInput: there are too many keys. KeysUnavailable: the file cannot be read.
        """
        now = int(time.time())
        id = secrets.token_hex(8)
        secret = f"sk-dock-{id}-{secrets.token_urlsafe(32)}"
        key = NewKey(
            id=id, name=wanted.name, roles=tuple(sorted(set(wanted.roles), key=ROLES.index)), created=now,
            last=secret[-SHOWN_CHARACTERS:], secret=secret,
            expires=None if wanted.expires_in is None else now + wanted.expires_in,
        )  # fmt: skip
        stored = _StoredKey(**key.model_dump(exclude={"secret"}), sha256=_digest(secret))
        with self._writing():
            keys = self._read()
            if len(keys) >= MAX_KEYS:
                raise InvalidInput(f"the dock has {len(keys)} keys, the most there can be; revoke some first")
            self._write([*keys, stored])
        return key

    def list_keys(self) -> list[Key]:
        """Returns all keys, oldest first; raises KeysUnavailable if the file cannot be read."""
        return [stored.shown for stored in self._read()]

    def revoke_key(self, id: str) -> Key:
        """Removes a key and returns what it was.

        Raises:
            NotFound: there is no key of that id. KeysUnavailable: the file cannot be read.
        """
        with self._writing():
            keys = self._read()
            found = next((stored for stored in keys if stored.id == id), None)
            if found is None:
                # What was given may be a whole secret, so it is not repeated.
                raise NotFound("no key of that id; 'slmdock key list' shows the ids, 16 hex digits each")
            self._write([stored for stored in keys if stored is not found])
        return found.shown

    def _refresh(self) -> None:
        signature = self._signature()
        if signature is None or signature != self._seen:
            self._keys = {stored.id: stored for stored in self._read()}
            self._seen = signature

    def _signature(self) -> tuple[int, ...] | None:
        """Returns what differs whenever the file was written anew, None where there is no file."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            if not self.path.is_symlink():
                return None
            raise KeysUnavailable(f"{self.path}: a link that leads nowhere") from None
        except OSError as error:
            raise KeysUnavailable(f"{self.path}: cannot be read ({error.strerror})") from None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _read(self) -> tuple[_StoredKey, ...]:
        if self._signature() is None:
            return ()
        try:
            return _KeysFile.model_validate_json(read_file(self.path, MAX_FILE_BYTES)).keys
        except ValidationError:
            reason = "damaged; restore it from a copy, or remove it and make new keys"
        except DockError as error:
            reason = str(error)
        raise KeysUnavailable(f"{self.path}: {reason}")

    def _write(self, keys: Collection[_StoredKey]) -> None:
        """Writes a file that only its owner can read, as temporary files are made."""
        write_atomically(self.path, _KeysFile(keys=tuple(keys)).model_dump_json(indent=1).encode())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Lets one writer in, of all processes and threads; the lock's file is another, since ours is replaced."""
        make_folder(self.path.parent)
        with self.path.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def day_of(moment: int | None) -> str:
    """Returns the day of a Unix time, in UTC."""
    return "" if moment is None else f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
