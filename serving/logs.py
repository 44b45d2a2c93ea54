"""Where the gateway's log goes, and in which form: text for people, JSON for programs, a line each."""

import contextlib
import logging
import queue
import sys
import time
from collections.abc import Iterator
from logging.handlers import QueueHandler, QueueListener, WatchedFileHandler
from pathlib import Path
from typing import Literal, get_args

from pythonjsonlogger.json import JsonFormatter

from serving.request_record import current
from specification.errors import InvalidInput

LogFormat = Literal["text", "json"]
LOG_FORMATS: tuple[LogFormat, ...] = get_args(LogFormat)

TEXT = "%(asctime)s %(levelname)-7s %(request_id)s %(message)s"
JSON = "%(levelname)s %(name)s %(request_id)s %(message)s"
# Lines that wait to be written. Past that they are dropped: a log on a full pipe must not stop the gateway.
MAX_WAITING = 10_000
BATCH_SECONDS = 0.05
# Only these are asked for what is not amiss; libraries tell of each request and of each file they read.
OURS = ("specification", "catalogue", "indexer", "retriever", "serving", "slmdock")


@contextlib.contextmanager
def logging_to(form: LogFormat, file: Path | None = None) -> Iterator[None]:
    """Writes our log from INFO, libraries' from WARNING, to ``file`` or standard error, within a with statement.

    A file that is moved away, as logrotate does, is opened anew.

    Raises:
        InvalidInput: the file cannot be written.
    """
    target = _target(file)
    target.setFormatter(_formatter(form))
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = _NeverWaiting(waiting)
    handler.addFilter(_add_request_id)
    listener = _InBatches(waiting, target)
    root = logging.getLogger()
    before = {logger: logger.level for logger in (root, *map(logging.getLogger, OURS))}
    root.addHandler(handler)
    for logger in before:
        logger.setLevel(logging.WARNING if logger is root else logging.INFO)
    listener.start()
    try:
        yield
    finally:
        root.removeHandler(handler)
        for logger, level in before.items():
            logger.setLevel(level)
        listener.stop()
        target.close()


class _NeverWaiting(QueueHandler):
    def __init__(self, waiting: "queue.SimpleQueue[logging.LogRecord]") -> None:
        super().__init__(waiting)
        self._waiting = waiting

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._waiting.qsize() < MAX_WAITING:
            self._waiting.put_nowait(record)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Returns the record itself where it holds nothing but words, which nobody changes any more."""
        return record if record.exc_info is None else super().prepare(record)


class _InBatches(QueueListener):
    def __init__(self, waiting: "queue.SimpleQueue[logging.LogRecord]", target: logging.Handler) -> None:
        super().__init__(waiting, target)
        self._waiting = waiting

    def dequeue(self, block: bool) -> logging.LogRecord:
        # Waking for each line would cost the thread that answers requests more than the line itself.
        if self._waiting.empty():
            time.sleep(BATCH_SECONDS)
        return super().dequeue(block)


def _target(file: Path | None) -> logging.Handler:
    if file is None:
        return logging.StreamHandler(sys.stderr)
    try:
        return WatchedFileHandler(file, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InvalidInput(f"log file {file} cannot be written: {error.strerror}") from None


def _formatter(form: LogFormat) -> logging.Formatter:
    if form == "text":
        return logging.Formatter(TEXT)
    return JsonFormatter(JSON, rename_fields={"levelname": "level", "name": "logger"}, timestamp="time")


def _add_request_id(record: logging.LogRecord) -> bool:
    request = current.get()
    record.request_id = request.id if request else "-"
    return True
