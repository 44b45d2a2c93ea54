"""SLM Dock: the command line, the clients of a gateway, and the demo that shows the rooms together."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving import AsyncDockClient as AsyncClient
    from serving import DockClient as Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    # On first use, because the command line imports this package too and answers --help without them.
    if name not in __all__:
        raise AttributeError(f"module 'slmdock' has no attribute {name!r}")
    import serving

    return {"AsyncClient": serving.AsyncDockClient, "Client": serving.DockClient}[name]
