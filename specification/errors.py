"""Every error that SLM Dock raises on purpose, in one tree.

DockError
├── InvalidInput             the caller sent something unusable; HTTP 400
│   ├── InvalidExamples      a file of task examples cannot be read
│   ├── InvalidSpecification a specification file is broken or makes no sense
│   ├── Incomparable         two specifications come from different encoders or proxies
│   ├── InvalidAdapter       the folder of an adapter or a whole model fails a check at the door
│   ├── TooLarge             an input exceeds its size limit; HTTP 413
│   ├── ContextLengthExceeded a prompt cannot fit into the model's context
│   ├── InvalidApiKey        no key, or one that the dock does not know; HTTP 401
│   ├── PermissionDenied     the key lacks the role, or the dock is not open to this caller; HTTP 403
│   ├── Conflict             the thing's state does not allow what was asked; HTTP 409
│   ├── RateLimitExceeded    too many requests at once; HTTP 429
│   └── NotFound             the named thing does not exist; HTTP 404
│       └── ModelNotFound    a request's ``model`` names nothing that can answer
├── CatalogueError           the catalogue cannot do what was asked; HTTP 503
│   ├── CatalogueLocked      another process holds the catalogue's folder
│   └── CatalogueFormat      the catalogue was written by another format version
├── HistoryUnavailable       the file of the history is damaged or cannot be read or written; HTTP 503
├── EncoderError             the sentence encoder cannot be loaded or run; HTTP 503
├── KeysUnavailable          the file of API keys is damaged or cannot be read; HTTP 503
├── DeadlineExceeded         a request took longer than its deadline; HTTP 504
├── ProxyError               the proxy model cannot be loaded or run; HTTP 503
└── EngineError              the serving engine cannot be started or does not answer; HTTP 503

A message names the thing, both values or the cure; on the command line the exit code is 2.
"None fits" is a result and not in this tree.
"""


class DockError(Exception):
    """Base of all errors below; ``str(error)`` is meant for people.

    ``retry_after`` is in how many seconds it is worth trying again, None where nobody knows.
    """

    status = 500
    kind = "internal_error"
    retry_after: int | None = None


class InvalidInput(DockError):
    """The caller sent something unusable. Nothing was changed. The message is one line, whatever it quotes."""

    status = 400
    kind = "invalid_request_error"

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())


class InvalidExamples(InvalidInput):
    """A file of task examples cannot be read or holds too little."""


class InvalidSpecification(InvalidInput):
    """A specification is truncated, altered, non-finite or contradicts itself."""


class Incomparable(InvalidInput):
    """Two specifications were made by different encoders, or two parameter vectors in different ways."""


class InvalidAdapter(InvalidInput):
    """The folder of an adapter, or of a whole model, fails a check at the door."""


class TooLarge(InvalidInput):
    """An input exceeds its size limit."""

    status = 413


class ContextLengthExceeded(InvalidInput):
    """A prompt cannot fit into the model's context."""


class InvalidApiKey(InvalidInput):
    """No API key was sent, or one that the dock does not know. The message never repeats what was sent."""

    status = 401


class PermissionDenied(InvalidInput):
    """The key lacks the role that the request needs, or a dock without keys is not open to this caller."""

    status = 403
    kind = "permission_error"


class Conflict(InvalidInput):
    """What was asked does not go with the state that the thing is in; the message says what does."""

    status = 409


class RateLimitExceeded(InvalidInput):
    """Too many requests at once; ``retry_after`` is the number of seconds after which another try makes sense."""

    status = 429
    kind = "requests"
    retry_after = 1


class NotFound(InvalidInput):
    """The named learnware, task, base model or file does not exist."""

    status = 404
    kind = "not_found_error"


class ModelNotFound(NotFound):
    """A request's ``model`` names nothing that can answer."""


class CatalogueError(DockError):
    """The catalogue cannot do what was asked."""

    status = 503
    kind = "catalogue_unavailable"


class CatalogueLocked(CatalogueError):
    """Another process holds the catalogue's folder."""


class CatalogueFormat(CatalogueError):
    """The catalogue was written by another format version."""


class KeysUnavailable(DockError):
    """The file of API keys is damaged or cannot be read, so nobody is let in."""

    status = 503
    kind = "keys_unavailable"


class HistoryUnavailable(DockError):
    """The file of the history is damaged, or cannot be read or written. Learnwares are served all the same."""

    status = 503
    kind = "history_unavailable"


class DeadlineExceeded(DockError):
    """A request took longer than its deadline, and was ended."""

    status = 504
    kind = "timeout_error"


class EncoderError(DockError):
    """The sentence encoder cannot be loaded or does not run."""

    status = 503
    kind = "encoder_unavailable"


class ProxyError(DockError):
    """The proxy model that parameter vectors are made with cannot be loaded or does not run."""

    status = 503
    kind = "proxy_unavailable"


class EngineError(DockError):
    """The serving engine cannot be started, died, or does not answer."""

    status = 503
    kind = "engine_unavailable"
