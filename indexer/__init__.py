"""From a provider's folder to a point in the catalogue: checks, the adapter store, bulk ingest."""

from indexer.adapter import Adapter, base_by_folder, read_adapter
from indexer.base_models import BaseModels, KnownBase
from indexer.bulk import Report, Submission, cached_specification, ingest, submit_all
from indexer.evaluations import lm_eval_signals, model_card_signals
from indexer.export import ExportReport, export
from indexer.history import Change, History
from indexer.hub import Hub
from indexer.indexer import Indexer, make_entry
from indexer.life_cycle import LifeCycle
from indexer.manifest import is_ready_manifest
from indexer.measured_tasks import MeasuredTasks
from indexer.package import read_package
from indexer.ready import ReadyCheck, ReadyIngest, ReadyReport
from indexer.store import AdapterStore

__all__ = [
    "Adapter",
    "AdapterStore",
    "BaseModels",
    "Change",
    "ExportReport",
    "History",
    "Hub",
    "Indexer",
    "KnownBase",
    "LifeCycle",
    "MeasuredTasks",
    "ReadyCheck",
    "ReadyIngest",
    "ReadyReport",
    "Report",
    "Submission",
    "base_by_folder",
    "cached_specification",
    "export",
    "ingest",
    "is_ready_manifest",
    "lm_eval_signals",
    "make_entry",
    "model_card_signals",
    "read_adapter",
    "read_package",
    "submit_all",
]
