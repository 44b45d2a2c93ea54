"""Hostile submissions: what a stranger could hand in to break, fool or fill a dock, and how it answers.

Each spoils a parcel of good parts (``Parcel``) and has a pattern of the message it must be refused with.
The parts are real: an adapter that PEFT wrote, a whole model that transformers saved, a specification of texts.
"""

import json
import resource
import shutil
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from catalogue import CatalogueSettings, EdgeCatalogue, IndexPlan, parse_card
from indexer import AdapterStore, BaseModels, Indexer, ReadyCheck, ReadyIngest, ingest, read_package, submit_all
from serving.wire import parse_object
from specification import Encoder, FeatureMap, Specification
from specification.errors import InvalidInput
from specification.record import METADATA_KEY

CARD = {"name": "harmless", "description": "Does no harm", "domain": "peace"}


class Good(NamedTuple):
    """Good parts to spoil: folders of an adapter and of a whole model, and a specification."""

    adapter: Path
    model: Path
    specification: Specification


@dataclass
class Parcel:
    """What a stranger hands in: a folder of theirs, what in it they submit, a specification's bytes and a card."""

    root: Path
    folder: Path
    specification: bytes
    card: bytes


Spoil = Callable[[Parcel], object]
Submit = Callable[[Parcel, Indexer], object]


class Hostile(NamedTuple):
    """A hostile submission: its name, how it is made, a pattern of its refusal, and which way it is handed in."""

    name: str
    spoil: Spoil
    words: str
    submit: Submit
    whole: bool = False


class Outcome(NamedTuple):
    """What became of one: the error, paths that came or went outside the store, and bytes of memory taken."""

    error: BaseException | None
    strays: Sequence[str]
    grown: int


@contextmanager
def open_indexer(folder: Path, encoder: Encoder, bases: BaseModels) -> Iterator[Indexer]:
    """Gives an indexer over an embedded catalogue and a store in ``folder``."""
    settings = CatalogueSettings(
        encoder=encoder.identity, text_dimension=384, plan=IndexPlan(feature_map=FeatureMap(input_dimension=384))
    )
    (folder / "store").mkdir()
    with EdgeCatalogue.open(folder / "catalogue", settings) as catalogue:
        yield Indexer(catalogue, AdapterStore(folder / "store"), bases, encoder)


def attempt(hostile: Hostile, good: Good, indexer: Indexer, place: Path) -> Outcome:
    """Makes a hostile submission in the folder ``place``, beside the dock's, hands it in and clears it away."""
    parcel = Parcel(place, place / "submitted", good.specification.to_bytes(), json.dumps(CARD).encode())
    place.mkdir()
    shutil.copytree(good.model if hostile.whole else good.adapter, parcel.folder)
    hostile.spoil(parcel)
    there, memory = _listing(place), _most_memory()
    error: BaseException | None = None
    try:
        hostile.submit(parcel, indexer)
    except Exception as caught:
        error = caught
    outcome = Outcome(error, sorted(there ^ _listing(place)), _most_memory() - memory)
    shutil.rmtree(place)
    return outcome


def _listing(place: Path) -> set[str]:
    """Every path beside the store and the catalogue, without following links."""
    kept = ("store", "catalogue", "history.sqlite")
    beside = {path for path in place.parent.iterdir() if not path.name.startswith(kept)}
    return {str(path) for path in (*beside, *place.rglob("*"))}


def _most_memory() -> int:
    """The most bytes that this process ever held in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def submit_parcel(parcel: Parcel, indexer: Indexer) -> object:
    """As the gateway does."""
    card = parse_card(parse_object(parcel.card))
    return indexer.submit(parcel.folder, Specification.from_bytes(parcel.specification), card)


def submit_manifest(parcel: Parcel, indexer: Indexer) -> None:
    """As 'slmdock ingest' does with a manifest of adapters; raises what is reported first."""
    report = ingest(parcel.root / "manifest.jsonl", indexer.encoder, parcel.root / "cache", indexer.submit)
    _raise_first(report.refused)


def submit_rows(parcel: Parcel, indexer: Indexer) -> None:
    """As 'slmdock ingest' does with a manifest of ready learnwares; raises what is reported first."""
    check = ReadyCheck(indexer.encoder.identity, frozenset(indexer.bases.names()), indexer.store)
    (manifest,) = parcel.root.glob("rows.*")
    _raise_first(ReadyIngest(indexer.catalogue, check).run(manifest).reasons)


def submit_package(parcel: Parcel, indexer: Indexer) -> None:
    """As 'slmdock ingest-package' does; raises what is reported."""
    with TemporaryDirectory(dir=parcel.root) as place:
        pending = [(parcel.folder.name, partial(read_package, parcel.folder, Path(place)))]
        report = submit_all(pending, indexer.encoder, parcel.root / "cache", indexer.submit)
    _raise_first(report.refused)


def _raise_first(refused: Sequence[tuple[str, str]]) -> None:
    for label, reason in refused:
        raise InvalidInput(f"{label}: {reason}")


def safetensors_file(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header (an object, or the bytes themselves), which may lie about its length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def with_header(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The same file with another header."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    change(header)
    return safetensors_file(header, data[8 + length :])


def with_document(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The same specification file with another document."""

    def spoil(header: dict[str, Any]) -> None:
        document = json.loads(header["__metadata__"][METADATA_KEY])
        change(document)
        header["__metadata__"][METADATA_KEY] = json.dumps(document)

    return with_header(data, spoil)


def nested(depth: int) -> str:
    """A JSON list in a list in a list."""
    return "[" * depth + "]" * depth
