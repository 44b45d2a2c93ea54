"""Loading adapters as soon as a decision names them, ahead of their first request."""

import logging

from starlette.concurrency import run_in_threadpool

from serving.parts import GatewayParts
from serving.tasks import Task
from specification.errors import DockError

log = logging.getLogger(__name__)


async def warm_task(parts: GatewayParts, task: Task) -> None:
    """Asks the engines to load those who will answer a task; returns before they have. Never fails."""
    ids = [part.learnware for part in task.mixture] or [id for id in (task.learnware,) if id]
    try:
        found = await run_in_threadpool(parts.catalogue.get, ids) if ids else []
    except DockError as error:
        log.warning("task %s is not loaded ahead: %s", task.id, error)
        return
    for learnware in found:
        engine = parts.engine_of(learnware.base_model)
        if engine is not None and learnware.status == "published":
            engine.warm(learnware.engine_name)
