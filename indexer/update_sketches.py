"""Sketches of what adapters change, by which near-duplicates are found however their matrices are factored.

A LoRA adapter adds ΔW = BA, times a constant, to the weights of some modules. Its sketch is s_k = Σ u_kᵀ(BA)v_k
over the modules, k = 1 … 64, with random signs in u_k and v_k that only the module's name decides. E[s_k s'_k] is
then ⟨ΔW, ΔW'⟩, so the cosine of two sketches estimates that of the updates: to about 1/8 where they have nothing
in common, and the closer the more alike they are. Sources: Alon, Matias, Szegedy, "The Space Complexity of
Approximating the Frequency Moments" (STOC 1996); for matrices Indyk, McGregor, "Declaring Independence via the
Sketching of Sketches" (SODA 2008).
"""

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from heapq import nlargest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

SKETCHES_FILE = "update_sketches.sqlite"
SIZE = 64
LARGEST = 127
"""A sketch is kept as whole numbers up to this one: converting float16 took twice as long as all the rest."""
PART = 1024
"""Sketches that are kept in one row; reading a million rows would take seconds."""
ID_BYTES = 32
WAIT_SECONDS = 10.0
ROOT = "base_model.model."
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
SCHEMA = """CREATE TABLE IF NOT EXISTS part (
    number INTEGER PRIMARY KEY, base_model TEXT NOT NULL, sketches BLOB NOT NULL, ids BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS base_models ON part (base_model);"""

Sketch = NDArray[np.float32]


def sketch_update(tensors: "Mapping[str, Tensor]", scales: Mapping[str, float] | None = None) -> Sketch | None:
    """Returns the sketch of LoRA matrices, by their names in PEFT's files: float32 [SIZE], of length 1.

    ``scales`` are the constants of the modules, by their names in the base model; without them all are the same.
    None where the products of all matrices are zero.
    """
    import torch

    total = torch.zeros(SIZE, dtype=torch.float64)
    for name in tensors:
        if name.endswith(DOWN):
            module = name.removesuffix(DOWN)
            down, up = tensors[name].double(), tensors[module + UP].double()
            signs = torch.from_numpy(_signs(module, len(up) + down.shape[1]))
            scale = 1.0 if scales is None else scales[module.removeprefix(ROOT)]
            total += scale * ((up.T @ signs[: len(up)]) * (down @ signs[len(up) :])).sum(dim=0)
    length = float(total.norm())
    return (total / length).float().numpy() if length > 0 else None


def _signs(module: str, rows: int) -> NDArray[np.float64]:
    """Returns -1 and 1, float64 [rows, SIZE]: the bits of SHAKE-128, which are the same on every machine."""
    bits = hashlib.shake_128(module.encode()).digest(rows * SIZE // 8)
    return np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(rows, SIZE).astype(np.float64) * 2 - 1


class UpdateSketches:
    """The sketches of a dock's adapters in one SQLite file.

    Methods raise sqlite3.Error where the file fails, and ValueError where it is damaged.
    """

    def __init__(self, path: Path) -> None:
        """Opens nothing yet; the file is made on first use."""
        self.path = path

    def nearest(self, base_model: str, sketch: Sketch, least: float, limit: int) -> dict[str, float]:
        """Returns by id the ``limit`` greatest cosines of adapters on a base model, from ``least`` on.

        Adapters that left the catalogue since are among them.
        """
        with self._opened() as connection:
            parts = connection.execute("SELECT number, sketches FROM part WHERE base_model = ?", (base_model,))
            near = (
                (cosine, number, place)
                for number, sketches in parts
                for cosine, place in _near(sketches, sketch, least)
            )
            best = nlargest(limit, near)
            return {_id_at(connection, number, place): cosine for cosine, number, place in best}

    def add(self, id: str, base_model: str, sketch: Sketch) -> None:
        """Keeps the sketch of an adapter; when it returns, it is durable."""
        numbers = np.rint(sketch * (LARGEST / np.abs(sketch).max())).astype(np.int8)
        new = numbers.tobytes(), bytes.fromhex(id)
        with self._opened() as connection:
            connection.execute("BEGIN IMMEDIATE")
            last = connection.execute(
                "SELECT number, sketches, ids FROM part WHERE base_model = ? ORDER BY number DESC LIMIT 1",
                (base_model,),
            ).fetchone()
            number, *old = last if last and len(last[2]) < PART * ID_BYTES else (None, b"", b"")
            joined = (before + after for before, after in zip(old, new, strict=True))
            connection.execute("REPLACE INTO part VALUES (?, ?, ?, ?)", (number, base_model, *joined))
            connection.execute("COMMIT")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None)) as connection:
            connection.executescript(SCHEMA)
            yield connection


def _near(sketches: bytes, sketch: Sketch, least: float) -> Iterator[tuple[float, int]]:
    """Yields the cosines that are at least ``least``, with their places."""
    known = np.frombuffer(sketches, np.int8).reshape(-1, SIZE).astype(np.float32)
    products = known @ sketch
    # Each has LARGEST in it and is no shorter; to measure the length of all would double the time.
    places = np.flatnonzero(products >= least * LARGEST)
    cosines = products[places] / np.linalg.norm(known[places], axis=1)
    yield from (
        (float(cosine), int(place)) for cosine, place in zip(cosines, places, strict=True) if cosine >= least
    )


def _id_at(connection: sqlite3.Connection, number: int, place: int) -> str:
    query = "SELECT hex(substr(ids, ?, ?)) FROM part WHERE number = ?"
    ((found,),) = connection.execute(query, (1 + place * ID_BYTES, ID_BYTES, number))
    return str(found).lower()
