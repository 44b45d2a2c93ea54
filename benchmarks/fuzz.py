"""Fuzzes the readers of specifications and adapters: spoilt files are taken or refused, and nothing else happens.

Inputs are valid files with bytes flipped, cut, spliced or inserted, with other header lengths, with values of
their JSON exchanged for nasty ones, and plain noise. Half of the spoilt specifications get a digest that fits
them, so that the checks behind it are reached. A failure is any warning, any exception that is no DockError, a
message of several lines or without end, or a specification that is taken but that the catalogue's own reader reads
otherwise. Failures are printed with the beginning of their input.

    python -m benchmarks.fuzz --inputs 100000 --seed 0
"""

import json
import struct
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import safetensors.numpy
from pydantic import ValidationError
from safetensors.torch import load_file, save

from benchmarks.report import arguments, finish, progress_bar, resident, table
from indexer import BaseModels, read_adapter
from indexer.store import CONFIG_FILE, WEIGHTS_FILE
from specification import Specification, StoredSpecification
from specification.errors import DockError
from specification.record import DTYPES, METADATA_KEY, Document, _digest
from tests.conftest import make_specification
from tests.serving import tiny

NASTY: tuple[object, ...] = (
    None, True, False, -1, 0, 1, 2, 4, 7, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, 10**400, -(10**400), 0.5, 1e308,
    -0.0, float("nan"), float("inf"), "", "a", "F16", "F32", "I64", "x" * 5000, "\x1b[2J\r\n", "\x00", "\ud800",
    "..", "/etc/passwd", "0" * 64, [], {}, [2**63, 0], [0], [1] * 100, [[[[[]]]]], {"a": {"b": {}}}, "others",
)  # fmt: skip
MAX_MESSAGE = 1500
SHOWN_FAILURES = 20
PREFIX = 64

Mutation = Callable[[bytes, Random], bytes]


def flip(data: bytes, random: Random) -> bytes:
    """Other bits in up to eight bytes."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 8) if changed else 0):
        changed[random.randrange(len(changed))] ^= random.randint(1, 255)
    return bytes(changed)


def cut(data: bytes, random: Random) -> bytes:
    """The beginning, or without a piece in the middle."""
    start, end = sorted(random.randint(0, len(data)) for _ in range(2))
    return data[:start] + random.choice([b"", data[end:]])


def splice(data: bytes, random: Random) -> bytes:
    """A piece of it copied to another place, or noise inserted there."""
    start, end = sorted(random.randint(0, len(data)) for _ in range(2))
    place = random.randint(0, len(data))
    return (
        data[:place]
        + random.choice([data[start:end][:4096], random.randbytes(random.randint(1, 64))])
        + data[place:]
    )


def lie(data: bytes, random: Random) -> bytes:
    """Another length of the header."""
    length = random.choice([0, 1, len(data), 2**16, 2**24 + 1, 2**31, 2**63, 2**64 - 1, random.getrandbits(12)])
    return struct.pack("<Q", length) + data[8:]


def noise(data: bytes, random: Random) -> bytes:
    """Random bytes, half of them behind a header length that could be."""
    body = random.randbytes(random.randint(0, 400))
    return random.choice([body, struct.pack("<Q", random.randint(0, len(body))) + body])


def exchange(data: bytes, random: Random) -> bytes:
    """The same header but for a nasty value, a missing field, or one with another's name."""
    header, rest = _parted(data)
    if header is None:
        return flip(data, random)
    return _joined(_with_nasty(header, random), rest)


def exchange_document(data: bytes, random: Random) -> bytes:
    """The same for the document inside a specification's header, half of them under a digest that fits."""
    header, rest = _parted(data)
    try:
        document = json.loads(header["__metadata__"][METADATA_KEY])
    except (ValueError, KeyError, TypeError, RecursionError):
        return flip(data, random)
    header["__metadata__"][METADATA_KEY] = json.dumps(_with_nasty(document, random))
    return _joined(header, rest)


def reseal(data: bytes, random: Random) -> bytes:
    """The same with a digest that fits, where there is a document that could have one."""
    try:
        found = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call]
        header, _ = _parted(data)
        document = Document.model_validate_json(header["__metadata__"][METADATA_KEY])
        tensors = {
            name: np.frombuffer(tensor["data"], DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
            for name, tensor in found.items()
        }
        sealed = document.model_copy(update={"digest": _digest(document, tensors)})
        text = sealed.model_dump_json(exclude_none=True)
        return safetensors.numpy.save(tensors, {METADATA_KEY: text})
    except (safetensors.SafetensorError, ValidationError, ValueError, KeyError, TypeError, OverflowError):
        return data


def exchange_fields(data: bytes, random: Random) -> bytes:
    """A JSON document but for a nasty value."""
    try:
        return json.dumps(_with_nasty(json.loads(data), random)).encode()
    except (ValueError, RecursionError):
        return flip(data, random)


def _with_nasty(document: Any, random: Random) -> Any:
    """The document with one value, at a random place, exchanged, removed, renamed, or nested deep."""
    place: Any = document
    while isinstance(place, (dict, list)) and place:
        key = random.choice(list(place)) if isinstance(place, dict) else random.randrange(len(place))
        if not isinstance(place[key], (dict, list)) or not place[key] or random.random() < 0.25:
            break
        place = place[key]
    else:
        return random.choice(NASTY)
    deed = random.randrange(10)
    if deed == 0:
        del place[key]
    elif deed == 1 and isinstance(place, dict):
        place[str(random.choice(NASTY))] = place.pop(key)
    elif deed == 2:
        place[key] = json.loads("[" * 200 + "]" * 200)
    elif deed == 3 and isinstance(place[key], (int, float)) and abs(place[key]) < 1e300:
        place[key] += random.choice([-1, 1, 0.5])
    else:
        place[key] = random.choice(NASTY)
    return document


def _parted(data: bytes) -> tuple[Any, bytes]:
    """The header, None where there is none, and what follows."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        return json.loads(data[8 : 8 + length]), data[8 + length :]
    except (struct.error, ValueError, RecursionError, OverflowError):
        return None, data


def _joined(header: Any, rest: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


BYTES: tuple[Mutation, ...] = (flip, cut, splice, lie, noise)


class SpecificationFuzz:
    """Specifications with and without further sections."""

    name = "specification"

    def __init__(self) -> None:
        self._good = [
            make_specification(seed, prompt=bool(seed & 1), parameters=bool(seed & 2)).to_bytes()
            for seed in range(4)
        ]

    def make(self, random: Random) -> bytes:
        data = random.choice(self._good)
        for _ in range(random.randint(1, 3)):
            data = random.choice((*BYTES, exchange, exchange, exchange_document, exchange_document))(data, random)
        return reseal(data, random) if random.random() < 0.5 else data

    def read(self, data: bytes) -> None:
        reduced = Specification.from_bytes(data).reduced_set
        stored = StoredSpecification(data).reduced_set
        assert np.array_equal(reduced.points, stored.points), "the catalogue reads other points"
        assert np.array_equal(reduced.weights, stored.weights), "the catalogue reads other weights"


class AdapterFuzz:
    """Adapters of one module; configuration and weights are spoilt, alone or together."""

    name = "adapter"

    def __init__(self, folder: Path) -> None:
        base = tiny.build_base(folder / "base")
        self._bases = BaseModels(folder / "bases.json")
        self._bases.add(tiny.BASE_NAME, base)
        whole = tiny.build_adapter(base, folder / "whole", 0)
        tensors = load_file(whole / WEIGHTS_FILE)
        self._weights = save({name: tensors[name] for name in sorted(tensors)[:2]})
        self._config = (whole / CONFIG_FILE).read_bytes()
        self._folder = folder / "adapter"
        self._folder.mkdir()

    def make(self, random: Random) -> bytes:
        """The length of the configuration, the configuration, the weights."""
        config, weights = self._config, self._weights
        which = random.randint(1, 3)
        for _ in range(random.randint(1, 2)):
            if which & 1:
                config = random.choice((flip, cut, splice, noise, *[exchange_fields] * 6))(config, random)
            if which & 2:
                weights = random.choice((*BYTES, *[exchange] * 3))(weights, random)
        return struct.pack("<I", len(config)) + config + weights

    def read(self, data: bytes) -> None:
        (length,) = struct.unpack_from("<I", data)
        (self._folder / CONFIG_FILE).write_bytes(data[4 : 4 + length])
        (self._folder / WEIGHTS_FILE).write_bytes(data[4 + length :])
        assert len(read_adapter(self._folder, self._bases).id) == 64


def outcome(read: Callable[[bytes], None], data: bytes) -> tuple[str, str]:
    """Reads an input; returns what became of it, and what is wrong with that."""
    try:
        read(data)
    except DockError as error:
        message = str(error)
        wrong = len(message) > MAX_MESSAGE or len(message.splitlines()) != 1
        return type(error).__name__, f"message: {message[:200]!r}" if wrong else ""
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # A panic of a library in Rust is no Exception.
        return "failure", f"{type(error).__name__}: {str(error)[:200]}"
    return "accepted", ""


def main() -> None:
    parser = arguments(__doc__, data=False)
    parser.add_argument("--inputs", type=int, default=100_000, help="in all, half for each reader")
    options = parser.parse_args()
    warnings.simplefilter("error")
    counts: Counter[tuple[str, str]] = Counter()
    failures: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as name, progress_bar("inputs") as progress:
        targets: tuple[SpecificationFuzz | AdapterFuzz, ...] = (SpecificationFuzz(), AdapterFuzz(Path(name)))
        random = Random(options.seed)
        for done in range(options.inputs):
            target = targets[done % 2]
            data = target.make(random)
            what, wrong = outcome(target.read, data)
            counts[target.name, what] += 1
            if wrong:
                failures[target.name, wrong] += 1
                if failures.total() <= SHOWN_FAILURES:
                    print(f"FAILURE {target.name}: {wrong}; {len(data)} bytes, {data[:PREFIX].hex()}")
            progress(done + 1, options.inputs)
    rows = [(reader, what, count) for (reader, what), count in sorted(counts.items())]
    table(f"{options.inputs} inputs, seed {options.seed}", ("reader", "outcome", "inputs"), rows)
    results = {f"{reader}: {what}": count for reader, what, count in rows}
    finish(
        "fuzz",
        {
            "inputs": options.inputs,
            "seed": options.seed,
            "outcomes": results,
            "failures": failures.total(),
            "resident_gigabytes": resident(),
        },
    )
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
