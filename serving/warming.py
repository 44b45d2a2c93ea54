"""Loading learnwares as soon as a decision names them, ahead of their first request."""

import logging

from starlette.concurrency import run_in_threadpool

from catalogue import Learnware
from serving.auto import obstacle
from serving.parts import GatewayParts
from serving.tasks import Task
from specification.errors import DockError

log = logging.getLogger(__name__)


async def warm_task(parts: GatewayParts, task: Task) -> None:
    """Asks the engines to load those who will answer a task; returns before they have. Never fails."""
    try:
        found = await run_in_threadpool(parts.catalogue.get, task.learnwares) if task.learnwares else []
    except DockError as error:
        log.warning("task %s is not loaded ahead: %s", task.id, error)
        return
    for learnware in found:
        if obstacle(parts, learnware) is None:
            _warm(parts, learnware)


def _warm(parts: GatewayParts, learnware: Learnware) -> None:
    try:
        engine = parts.engine_for(learnware.base_model, learnware.engine_name)
    except DockError as error:
        log.warning("%s is not loaded ahead: %s", learnware.engine_name, error)
        return
    if engine is not None:
        engine.warm(learnware.engine_name)
