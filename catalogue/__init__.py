"""The one place that speaks Qdrant: learnwares as points, embedded in a folder or on a server.

``open_catalogue`` chooses the engine by configuration; everything else goes through the contract.
"""

from pathlib import Path

from catalogue.address import ServerAddress, Sharding
from catalogue.contract import Catalogue, CatalogueSettings, Hit, Page, Status
from catalogue.edge import EdgeCatalogue
from catalogue.filters import EVERYTHING, PUBLISHED, Filter, Match, Range, parse_filter
from catalogue.learnware import Card, Learnware, State, is_id, parse_card
from catalogue.plan import IndexPlan
from catalogue.quality import Signal, join_signals
from catalogue.references import find_learnware, versions_of
from catalogue.row import Entry, Row
from catalogue.schema import description_of

__all__ = [
    "EVERYTHING",
    "PUBLISHED",
    "Card",
    "Catalogue",
    "CatalogueSettings",
    "EdgeCatalogue",
    "Entry",
    "Filter",
    "Hit",
    "IndexPlan",
    "Learnware",
    "Match",
    "Page",
    "Range",
    "Row",
    "ServerAddress",
    "Sharding",
    "Signal",
    "State",
    "Status",
    "description_of",
    "find_learnware",
    "is_id",
    "join_signals",
    "open_catalogue",
    "parse_card",
    "parse_filter",
    "versions_of",
]


def open_catalogue(where: Path | ServerAddress, settings: CatalogueSettings | None = None) -> Catalogue:
    """Opens the catalogue in a folder (Qdrant Edge) or on a server; ``settings`` apply if it is new.

    Raises:
        NotFound: there is none yet and no ``settings`` to make it with.
        CatalogueError: see the engines.
    """
    if isinstance(where, ServerAddress):
        # qdrant-client takes a second to import, which only those who use a server should pay.
        from catalogue.server import ServerCatalogue

        return ServerCatalogue.open(where, settings)
    return EdgeCatalogue.open(where, settings)
