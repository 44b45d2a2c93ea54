"""From a decision to tokens: engines, the resolver inside vLLM, and the OpenAI-compatible gateway.

Names are loaded on first use: importing ``serving`` imports neither torch nor vLLM nor FastAPI.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.client import AsyncDockClient, DockClient
    from serving.engine import Engine, EngineAnswer
    from serving.gateway import GatewayParts, create_app
    from serving.pool import Pool
    from serving.remote import RemoteConfig, RemoteEngine
    from serving.replica import PoolConfig
    from serving.server import serve
    from serving.tasks import Task, TaskStore
    from serving.transformers_engine import TransformersConfig, TransformersEngine
    from serving.vllm_options import VllmConfig
    from serving.vllm_process import VllmProcess

_HOMES = {
    "AsyncDockClient": "client",
    "DockClient": "client",
    "Engine": "engine",
    "EngineAnswer": "engine",
    "GatewayParts": "gateway",
    "Pool": "pool",
    "PoolConfig": "replica",
    "RemoteConfig": "remote",
    "RemoteEngine": "remote",
    "Task": "tasks",
    "TaskStore": "tasks",
    "TransformersConfig": "transformers_engine",
    "TransformersEngine": "transformers_engine",
    "VllmConfig": "vllm_options",
    "VllmProcess": "vllm_process",
    "create_app": "gateway",
    "serve": "server",
}

__all__ = [
    "AsyncDockClient",
    "DockClient",
    "Engine",
    "EngineAnswer",
    "GatewayParts",
    "Pool",
    "PoolConfig",
    "RemoteConfig",
    "RemoteEngine",
    "Task",
    "TaskStore",
    "TransformersConfig",
    "TransformersEngine",
    "VllmConfig",
    "VllmProcess",
    "create_app",
    "serve",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'serving' has no attribute {name!r}")
    return getattr(import_module(f"serving.{_HOMES[name]}"), name)
