"""Where a Qdrant server is, how it is reached, and how a new collection is spread over its nodes."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from catalogue.schema import COLLECTION
from specification.errors import InvalidInput
from specification.files import read_file

MAX_RETRIES = 20
MAX_TIMEOUT_SECONDS = 3600
MAX_KEY_FILE_BYTES = 4096
KEY_VARIABLE = "SLMDOCK_QDRANT_API_KEY"


def key_in(environment: Mapping[str, str]) -> str | None:
    """Returns the key in ``SLMDOCK_QDRANT_API_KEY`` or in the file that ``SLMDOCK_QDRANT_API_KEY_FILE`` names.

    Raises:
        InvalidInput: both are set, or the file cannot be read or holds no key. TooLarge: it is no key's file.
    """
    file_variable = f"{KEY_VARIABLE}_FILE"
    key, file = environment.get(KEY_VARIABLE) or None, environment.get(file_variable)
    if not file:
        return key
    if key is not None:
        raise InvalidInput(f"{KEY_VARIABLE} and {file_variable} are both set; keep one")
    key = read_file(Path(file), MAX_KEY_FILE_BYTES).decode("ascii", "replace").strip()
    if not key:
        raise InvalidInput(f"{file_variable}: {file} holds no key")
    return key


@dataclass(frozen=True)
class Sharding:
    """How a collection is spread when it is made; None leaves a number to the server's own configuration.

    The collection is cut into ``shard_number`` shards, each is kept ``replication_factor`` times, and a write is
    acknowledged when ``write_consistency_factor`` replicas have it.

    Raises:
        InvalidInput: a number is below 1, or a write would wait for more replicas than there are.
    """

    shard_number: int | None = None
    replication_factor: int | None = None
    write_consistency_factor: int | None = None

    def __post_init__(self) -> None:
        for name in ("shard_number", "replication_factor", "write_consistency_factor"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InvalidInput(f"Qdrant's {name} is {number}, at least 1 is needed")
        replicas = self.replication_factor or 1
        if self.write_consistency_factor is not None and self.write_consistency_factor > replicas:
            raise InvalidInput(
                f"Qdrant's write_consistency_factor {self.write_consistency_factor} exceeds replication_factor "
                f"{replicas}: no write would ever be acknowledged"
            )


@dataclass(frozen=True)
class ServerAddress:
    """Where a Qdrant server is: ``https`` in the URL means TLS; the key is never shown or logged.

    ``ca_certificate`` is a PEM file with the authorities to trust instead of the system's. A request that is not
    answered within ``timeout_seconds`` is asked again up to ``retries`` times, with growing pauses.
    ``key_variable`` is the environment variable that the key comes from, which messages name.

    Raises:
        InvalidInput: a URL that is none, a key that no header can hold, or a number out of bounds.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    timeout_seconds: int = 30
    collection: str = COLLECTION
    retries: int = 4
    ca_certificate: Path | None = None
    sharding: Sharding = Sharding()
    key_variable: str = KEY_VARIABLE

    def __post_init__(self) -> None:
        self._check_url()
        key = self.api_key
        if key is not None and not (key and key.isascii() and key.isprintable() and " " not in key):
            raise InvalidInput(
                f"{self.key_variable} is empty, or holds spaces or line ends; set it to the key alone"
            )
        if not 1 <= self.timeout_seconds <= MAX_TIMEOUT_SECONDS:
            raise InvalidInput(
                f"Qdrant's timeout {self.timeout_seconds} s: 1 to {MAX_TIMEOUT_SECONDS} is possible"
            )
        if not 0 <= self.retries <= MAX_RETRIES:
            raise InvalidInput(f"Qdrant's retries {self.retries}: 0 to {MAX_RETRIES} are possible")
        if self.ca_certificate is not None and not self.url.startswith("https"):
            raise InvalidInput(f"a CA certificate needs TLS: write https:// in {self.url}")

    def _check_url(self) -> None:
        try:
            parts = urlsplit(self.url)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            sound = False
        if not sound:
            raise InvalidInput(f"{self.url[:200]!r} is no Qdrant URL; write http://host:6333 or https://host:6333")
        if "@" in parts.netloc:
            raise InvalidInput(
                f"a Qdrant URL must not hold a user or password; give the key by {self.key_variable}"
            )

    @property
    def on_this_machine(self) -> bool:
        """Tells whether requests never leave this machine, so that a key needs no TLS."""
        host = urlsplit(self.url).hostname or ""
        try:
            return host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            return False

    def trust(self) -> ssl.SSLContext | bool:
        """Returns what httpx checks the server's certificate with.

        Raises:
            InvalidInput: the file of authorities cannot be read or holds none.
        """
        if self.ca_certificate is None:
            return True
        try:
            return ssl.create_default_context(cafile=self.ca_certificate)
        except OSError as error:
            reason = "no certificate in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
            raise InvalidInput(f"CA certificate {self.ca_certificate}: {reason}") from None
