"""Bulk ingest: a folder of adapters or a JSON Lines manifest; the good go in, the rest are reported.

An interrupted ingest is resumed by running it again: what is in already is recognised by its content, and
specifications made from examples are kept in a cache on the provider's side.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from catalogue import Card, Learnware, parse_card
from catalogue.learnware import short
from indexer.model_card import completed
from indexer.store import CONFIG_FILE
from indexer.whole_model import is_whole_model
from specification import SKETCH_VERSION, Encoder, Progress, Specification, no_progress, read_examples, specify
from specification.errors import InvalidInput
from specification.files import read_file

CARD_FILE = "learnware.json"
RECORD_FILE = "record.json"
EXAMPLES_FILE = "examples.jsonl"
SPECIFICATION_FILE = "specification.safetensors"
SOURCE_FIELDS = ("adapter", "examples", "specification")
MAX_MANIFEST_LINE = 2**20
MAX_MANIFEST_BYTES = 2**30

Submit = Callable[[Path, Specification, Card], Learnware]
Item = tuple[str, Path, object]
"""A label for the report, the folder that paths are relative to, and the fields as parsed."""


@dataclass(frozen=True)
class Submission:
    """One learnware to take in: folder of the adapter or whole model, card, and the specification's source."""

    adapter: Path
    card: Card
    examples: Path | None
    specification: Path | None


Pending = tuple[str, Callable[[], Submission]]
"""A label for the report, and what makes the submission."""


@dataclass
class Report:
    """What became of each item: learnwares that are in, and refused items with their reasons."""

    accepted: list[Learnware] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


def ingest(
    source: Path, encoder: Encoder, cache: Path, submit: Submit, progress: Progress = no_progress
) -> Report:
    """Takes in every learnware that ``source`` (a folder or a manifest) names.

    ``submit`` takes one in, here or over HTTP. Errors of single items are reported, not raised.

    Raises:
        InvalidInput: ``source`` is neither a folder nor a file, or names nothing.
        CatalogueError: the catalogue fails; what is in stays in, and the ingest can be run again.
    """
    items = _manifest(source) if source.is_file() else _folder(source)
    pending = [(label, partial(_submission, fields, root)) for label, root, fields in items]
    return submit_all(pending, encoder, cache, submit, progress)


def submit_all(
    pending: Sequence[Pending], encoder: Encoder, cache: Path, submit: Submit, progress: Progress = no_progress
) -> Report:
    """Takes each in, see ``ingest``. What makes a submission raises InvalidInput or OSError where it cannot.

    Raises:
        CatalogueError: the catalogue fails.
    """
    report = Report()
    for done, (label, prepare) in enumerate(pending):
        progress(done, len(pending))
        try:
            submission = prepare()
            specification = specification_of(submission, encoder, cache)
            report.accepted.append(submit(submission.adapter, specification, submission.card))
        except (InvalidInput, OSError) as error:
            report.refused.append((label, str(error)))
    progress(len(pending), len(pending))
    return report


def specification_of(submission: Submission, encoder: Encoder, cache: Path) -> Specification:
    """Returns a submission's specification: its file, or one made from its examples and kept in ``cache``."""
    if submission.specification is not None:
        return Specification.load(submission.specification)
    if submission.examples is None:
        raise InvalidInput(f"{submission.adapter}: no examples and no specification; give one of them")
    return cached_specification(submission.examples, encoder, cache)


def cached_specification(
    examples: Path, encoder: Encoder, cache: Path, progress: Progress = no_progress, calibrated: bool = True
) -> Specification:
    """Makes the specification of an examples file, or reads it if the same file was specified before.

    A task's needs not be ``calibrated``, see ``specify``.
    """
    texts = [example.text for example in read_examples(examples)]
    key = hashlib.sha256(f"{SKETCH_VERSION} {calibrated} {encoder.identity.model_dump_json()}".encode())
    for text in texts:
        key.update(hashlib.sha256(text.encode()).digest())
    file = cache / f"{key.hexdigest()}.safetensors"
    if file.exists():
        try:
            return Specification.load(file)
        except InvalidInput:
            file.unlink()
    specification = specify(texts, encoder, progress=progress, calibrated=calibrated)
    # Without a place for the cache the next run encodes again, that is all.
    with contextlib.suppress(OSError):
        specification.save(file)
    return specification


def _manifest(source: Path) -> Sequence[Item]:
    items: list[Item] = []
    for number, line in enumerate(read_file(source, MAX_MANIFEST_BYTES).splitlines(), 1):
        if line.strip():
            items.append((f"{source.name}, line {number}", source.parent, _parsed(line)))
    if not items:
        raise InvalidInput(f"{source}: the manifest names no learnware; write one JSON object a line")
    return items


def _parsed(text: bytes) -> object:
    """The JSON value in ``text``; None, which is refused later, for anything else."""
    try:
        return json.loads(text) if len(text) <= MAX_MANIFEST_LINE else None
    except (ValueError, RecursionError):
        return None


def _folder(source: Path) -> Sequence[Item]:
    if not source.is_dir():
        raise InvalidInput(f"{source}: no such folder or manifest")
    source = source.absolute()
    folders = [path for path in sorted(source.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    if (source / CONFIG_FILE).exists() or is_whole_model(source):
        folders = [source]
    if not folders:
        raise InvalidInput(f"{source}: no folders in it; give one for each adapter or whole model")
    # Of one name, the newest of what was exported goes in last, and so is the newest again.
    folders.sort(key=lambda folder: (_exported_version(folder), folder.name))
    return [(folder.name, folder, _folder_fields(folder)) for folder in folders]


def _folder_fields(folder: Path) -> object:
    """What a manifest line for this folder would say: its card file, and the files found beside it."""
    fields = _content(folder / CARD_FILE)
    if not isinstance(fields, dict):
        return None
    found: dict[str, object] = {"name": folder.name, **fields, "adapter": str(folder)}
    for name, file in (("specification", SPECIFICATION_FILE), ("examples", EXAMPLES_FILE)):
        if not {"specification", "examples"} & found.keys() and (folder / file).is_file():
            found[name] = file
    return found


def _exported_version(folder: Path) -> int:
    record = _content(folder / RECORD_FILE)
    version = record.get("version") if isinstance(record, dict) else None
    return version if isinstance(version, int) else 0


def _content(file: Path) -> object:
    """The JSON value in a file, an empty object if there is none, see ``_parsed``."""
    if not file.is_file():
        return {}
    with file.open("rb") as opened:
        return _parsed(opened.read(MAX_MANIFEST_LINE + 1))


def _submission(fields: object, root: Path) -> Submission:
    if not isinstance(fields, dict):
        raise InvalidInput('not a JSON object of at most 1 MiB; write {"name": …, "adapter": …, "examples": …}')
    paths: dict[str, Path | None] = {}
    for name in SOURCE_FIELDS:
        value = fields.get(name)
        if value is not None and (not isinstance(value, str) or not value):
            raise InvalidInput(f"field '{name}' must be a path (got {short(value)})")
        paths[name] = root / value if value else None
    if paths["adapter"] is None:
        raise InvalidInput("field 'adapter' is missing; give the adapter's folder")
    if "id" in fields:
        raise InvalidInput("field 'id' in a manifest of adapters; give ready learnwares a manifest of their own")
    said = {name: value for name, value in fields.items() if name not in SOURCE_FIELDS}
    card = parse_card(completed(said, paths["adapter"]))
    return Submission(paths["adapter"], card, paths["examples"], paths["specification"])
