"""From a provider's folder to a point in the catalogue: checks, the adapter store, bulk ingest."""

from indexer.adapter import Adapter, read_adapter
from indexer.base_models import BaseModels, KnownBase
from indexer.bulk import Report, Submission, cached_specification, ingest
from indexer.indexer import Indexer, make_entry
from indexer.store import AdapterStore

__all__ = [
    "Adapter",
    "AdapterStore",
    "BaseModels",
    "Indexer",
    "KnownBase",
    "Report",
    "Submission",
    "cached_specification",
    "ingest",
    "make_entry",
    "read_adapter",
]
