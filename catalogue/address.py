"""Where a Qdrant server is."""

from dataclasses import dataclass, field

from catalogue.schema import COLLECTION


@dataclass(frozen=True)
class ServerAddress:
    """Where a Qdrant server is: ``https`` in the URL means TLS; the key is never shown or logged."""

    url: str
    api_key: str | None = field(default=None, repr=False)
    timeout_seconds: int = 30
    collection: str = COLLECTION
