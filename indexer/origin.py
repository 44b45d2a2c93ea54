"""What an adapter's folder says of the base model it was trained on, held against the one that the dock knows.

Each file is optional, and says nothing where it is missing.
"""

from pathlib import Path

from indexer.base_models import BaseModels, KnownBase
from indexer.bulk import MAX_MANIFEST_LINE, RECORD_FILE
from indexer.fingerprint import differences, vocabulary_digests
from indexer.folders import read_object
from indexer.model_card import MODEL_CARD_FILE, stated_bases
from specification.errors import InvalidAdapter

FINGERPRINT_FIELD = "base_fingerprint"


def check_origin(folder: Path, base: KnownBase, bases: BaseModels | None) -> None:
    """Checks the tokenizer, the model card and the record of an export that lie beside an adapter.

    A model card may call the base model by a name that docks do not know, so only the name of another base model
    that this one knows, one of ``bases``, is a contradiction. Without them the model card is not asked: whoever
    submits has said which is meant.

    Raises:
        InvalidAdapter: one of them says that the adapter stood on another base model.
        InvalidInput, TooLarge: one of them cannot be read.
    """
    _check_tokenizer(folder, base)
    if bases is not None:
        _check_model_card(folder / MODEL_CARD_FILE, base, bases)
    _check_record(folder / RECORD_FILE, base)


def stated_fingerprint(folder: Path) -> dict[str, str]:
    """Returns the parts of a base model's fingerprint that a folder states: by a record, or by a tokenizer.

    Raises:
        InvalidInput, TooLarge: see ``check_origin``.
    """
    return _recorded(folder / RECORD_FILE) | vocabulary_digests(folder)


def _check_tokenizer(folder: Path, base: KnownBase) -> None:
    found = vocabulary_digests(folder, base.tokenizer_sha256)
    if another := differences(found, base.tokenizer_sha256):
        raise InvalidAdapter(
            f"{folder}: its tokenizer has another vocabulary than base model {base.name} ({another}), so the "
            "adapter was trained on another one: name that one in adapter_config.json; if only tokens were added "
            "that it needs not, remove the tokenizer's files"
        )


def _check_model_card(file: Path, base: KnownBase, bases: BaseModels) -> None:
    stated = stated_bases(file)
    if not stated or base.name in stated:
        return
    if others := sorted(set(stated) & set(bases.names())):
        raise InvalidAdapter(
            f"{file}: field 'base_model' names {others[0]}, adapter_config.json names {base.name}, and both are "
            "known to this dock; correct the one that is wrong"
        )


def _recorded(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    stated = read_object(file, MAX_MANIFEST_LINE).get(FINGERPRINT_FIELD, {})
    if not isinstance(stated, dict) or not all(isinstance(digest, str) for digest in stated.values()):
        raise InvalidAdapter(
            f"{file}: field '{FINGERPRINT_FIELD}' does not map parts to digests; remove the field"
        )
    return stated


def _check_record(file: Path, base: KnownBase) -> None:
    if another := differences(base.fingerprint, _recorded(file)):
        raise InvalidAdapter(
            f"{file}: the adapter stood on another base model {base.name} than this dock's ({another}); add "
            "that one under a name of its own, and name it in adapter_config.json"
        )
