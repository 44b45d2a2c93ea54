"""What tells base models of the same configuration apart: their vocabularies, and a cheap look at their weights.

A fine-tune has its base's configuration and mostly its vocabulary too, so only the weights give it away.
"""

import hashlib
import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from indexer.folders import check_header, unreadable
from indexer.whole_model import SHARD_NAME, TOKENIZER_CONFIG_FILE, TOKENIZER_FILES, WEIGHTS_FILE
from specification.errors import InvalidAdapter
from specification.files import parse_json, read_file

TOKENIZER_FILE = "tokenizer.json"
VOCABULARY_FILES = sorted(TOKENIZER_FILES)
MAX_VOCABULARY_BYTES = 2**26
SLICE_BYTES = 4096
SHOWN = 12

Fingerprint = Mapping[str, str]
"""SHA-256 by the part of a base model that it is of. A part that is missing was not there to be looked at."""


def differences(fingerprint: Fingerprint, other: Fingerprint) -> str:
    """Returns the parts in which two fingerprints differ, each with both values, or nothing."""
    return ", ".join(
        f"{part} {digest[:SHOWN]} != {other[part][:SHOWN]}"
        for part, digest in fingerprint.items()
        if other.get(part, digest) != digest
    )


def vocabulary_digests(folder: Path, names: Container[str] = VOCABULARY_FILES) -> dict[str, str]:
    """Returns a SHA-256 of each file with a vocabulary that is in a folder, and one of ``names``.

    Of tokenizer.json it is that of tokens and their numbers, whatever else the file says: merges, a chat template,
    padding, or what a newer library writes otherwise. Other files are digested as they are.

    Raises:
        InvalidInput: a file cannot be read, or holds no vocabulary. TooLarge: one has more than 64 MiB.
    """
    digests = {}
    for name in VOCABULARY_FILES:
        if name in names and (folder / name).exists():
            data = read_file(folder / name, MAX_VOCABULARY_BYTES)
            if name == TOKENIZER_FILE:
                data = json.dumps(_tokens(folder, data), sort_keys=True).encode()
            digests[name] = hashlib.sha256(data).hexdigest()
    return digests


def _tokens(folder: Path, data: bytes) -> dict[str, Any]:
    """Tokens and their numbers. Added ones may stand in either file, as the library's version has it."""
    try:
        document = parse_json(data)
        vocabulary = document["model"]["vocab"]
        # A unigram model lists its pieces with their scores.
        pieces = (
            vocabulary if isinstance(vocabulary, dict) else {piece: at for at, (piece, _) in enumerate(vocabulary)}
        )
        tokens = pieces | {each["content"]: each["id"] for each in document.get("added_tokens") or ()}
        if (folder / TOKENIZER_CONFIG_FILE).exists():
            config = parse_json(read_file(folder / TOKENIZER_CONFIG_FILE, MAX_VOCABULARY_BYTES))
            added = config.get("added_tokens_decoder") or {}
            tokens |= {each["content"]: int(number) for number, each in added.items()}
        if not all(isinstance(number, int) for number in tokens.values()):
            raise ValueError("a token without a number")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidAdapter(
            f"{folder / TOKENIZER_FILE}: no tokenizer that transformers saved ({type(error).__name__}: "
            f"{str(error)[:80]})"
        ) from None
    return tokens


def weights_digest(folder: Path) -> str:
    """Returns a SHA-256 of a model's weights, or nothing where there are none as safetensors.

    It is of each tensor's name, type and shape, and of 4 KiB in its middle, however the tensors are spread over
    files: a megabyte of 16 GB. A fine-tune that changed whole matrices is noticed, merged LoRA too, and so is
    another precision. One that changed other places alone, as of a few tokens, is not, nor is a forgery.

    Raises:
        InvalidAdapter: a file is no readable safetensors file.
    """
    parts: dict[str, bytes] = {}
    for file in sorted(folder.iterdir()):
        if file.name == WEIGHTS_FILE or SHARD_NAME.fullmatch(file.name):
            parts |= _parts(file)
    total = hashlib.sha256()
    for name in sorted(parts):
        total.update(f"\n{name} ".encode() + parts[name])
    return total.hexdigest() if parts else ""


def _parts(file: Path) -> dict[str, bytes]:
    """Type, shape and middle of each tensor. The safetensors library would have the system read the whole file."""
    parts = {}
    try:
        check_header(file)
        with file.open("rb", buffering=0) as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = parse_json(opened.read(length))
            header.pop("__metadata__", None)
            for name, entry in header.items():
                start, end = entry["data_offsets"]
                middle = (start + end) // 2
                opened.seek(8 + length + middle)
                piece = opened.read(max(0, min(SLICE_BYTES, end - middle)))
                parts[name] = f"{entry['dtype']} {entry['shape']} ".encode() + piece
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise unreadable(file, error) from None
    return parts
