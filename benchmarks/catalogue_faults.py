"""Faults of the embedded catalogue: killed writers, a full disk, a folder that cannot be written, damaged files.

    python -m benchmarks.catalogue_faults [--kills 100]

A child process writes, loads, deletes and makes new indexes, and is killed (SIGKILL) at a random moment; what it
had acknowledged before is then looked for by a new one, in the ledger and through the index. The full disk is a
small file system in memory, where this process may mount one.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.report import finish, progress_bar, table
from catalogue import CatalogueSettings, EdgeCatalogue, Entry, IndexPlan, Learnware, edge, index_process
from specification import EncoderIdentity, FeatureMap, ReducedSet, Section, Specification
from specification.errors import CatalogueError, CatalogueLocked, DockError

DIMENSION = 32
ENCODER = EncoderIdentity(name="drawn", dimension=DIMENSION, weights_sha256="0" * 64, max_tokens=8)
PLAN = IndexPlan(feature_map=FeatureMap(input_dimension=DIMENSION, dimension=64))
SETTINGS = CatalogueSettings(encoder=ENCODER, text_dimension=DIMENSION, plan=PLAN)
FRESH = 2000
"""From so many fresh learnwares on another index is made here, which then has a process of its own."""
LONGEST_SECONDS = 3.0
CHECKED_BY_SEARCH = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    edge.FRESH = index_process.LARGE = FRESH
    if options.child is not None:
        _write_for_ever(options.child, options.seed)
    with tempfile.TemporaryDirectory() as place:
        counts = _kills(Path(place) / "killed", options.kills, options.seed)
        table("killed writers", ["what", "count"], list(counts.items()))
        others = dict(_others(Path(place)))
        table("other faults", ["fault", "what the caller sees, and what is lost"], list(others.items()))
    finish("catalogue_faults", {"kills": dict(counts), "others": others})


def entry(number: int) -> Entry:
    """Learnware ``number``, the same in every process."""
    generator = np.random.default_rng(number)
    points = generator.normal(size=(4, DIMENSION))
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)
    section = Section(encoder=ENCODER, sample_size=20, compression_error=0.1, gamma=2.0)
    made = Specification(ReducedSet(points, np.full(4, 0.25, dtype=np.float32)), section)
    return Entry(
        Learnware(
            id=f"{number:08x}".rjust(32, "a") + "0" * 32, name=f"learnware-{number}", version=1, base_model="base",
            rank=8, adapter_bytes=1, sample_size=20, created=0, specification_digest=made.digest,
        ),
        made,
    )  # fmt: skip


def _write_for_ever(folder: Path, first: int) -> None:
    """Writes from ``first`` on, and says on its output what was acknowledged: + written, - deleted."""
    draw = random.Random(first)
    catalogue = EdgeCatalogue.open(folder, SETTINGS)
    number = first
    while True:
        size = draw.choice((1, 8, 64, 256))
        entries = [entry(each) for each in range(number, number + size)]
        catalogue.upsert(entries)
        print("+", number, size, flush=True)
        if draw.random() < 0.3:
            catalogue.delete([entries[0].learnware.id])
            print("-", number, 1, flush=True)
        number += size


def _kills(folder: Path, kills: int, seed: int) -> Counter[str]:
    draw, counts = random.Random(seed), Counter[str]()
    present, number = set[int](), 0
    with progress_bar("killing", "writers") as progress:
        for done in range(kills):
            words = ["-m", "benchmarks.catalogue_faults", "--child", str(folder), "--seed", str(number)]
            child = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
            # The start is counted too: a kill may come while the catalogue is opened or brought up to date.
            time.sleep(draw.uniform(0.6, LONGEST_SECONDS))
            child.kill()
            said = child.communicate()[0].splitlines()
            for line in said:
                sign, start, size = line.split()
                changed = set(range(int(start), int(start) + int(size)))
                present = present | changed if sign == "+" else present - changed
            counts["kills"] += 1
            counts["acknowledged writes and deletes"] += len(said)
            number = max(number, max((int(line.split()[1]) for line in said), default=0)) + 1000
            counts += _checked(folder, present, draw)
            progress(done + 1, kills)
    counts["learnwares at the end"] = len(present)
    for name in ("acknowledged and lost", "deleted and there", "missed by approximate search",
                 "not found by exact search", "points without a row",
                 "would not open"):  # fmt: skip
        counts.setdefault(name, 0)
    return counts


def _checked(folder: Path, present: set[int], draw: random.Random) -> Counter[str]:
    """Opens what a killed process left and counts what is wrong; what was not acknowledged may be there or not."""
    counts = Counter[str]()
    try:
        with EdgeCatalogue.open(folder, SETTINGS) as catalogue:
            expected = [entry(number) for number in draw.sample(sorted(present), min(500, len(present)))]
            found = {row.learnware.id: row.file for row in catalogue.fetch([one.learnware.id for one in expected])}
            lost = [one for one in expected if found.get(one.learnware.id) != one.specification.to_bytes()]
            counts["acknowledged and looked for"] += len(expected)
            counts["acknowledged and lost"] += len(lost)
            for one in expected[:CHECKED_BY_SEARCH]:
                near, exact = (
                    catalogue.nearest_task(one.specification.reduced_set, 1, exact=exact)
                    for exact in (False, True)
                )
                # Drawn at random, these are as hard for a graph as can be; the exact search misses none.
                counts["missed by approximate search"] += [hit.id for hit in near] != [one.learnware.id]
                counts["not found by exact search"] += [hit.id for hit in exact] != [one.learnware.id]
            points = catalogue.count()
            counts["points without a row"] += points - sum(1 for _ in catalogue.everything())
            counts["deleted and there"] += len(catalogue.get([entry(n).learnware.id for n in _gone(present)]))
    except DockError as error:
        print(error, file=sys.stderr)
        counts["would not open"] += 1
    return counts


def _gone(present: set[int]) -> list[int]:
    """Numbers just before acknowledged ones that were deleted: not in ``present``, though the next one is."""
    return [number - 1 for number in sorted(present) if number and number - 1 not in present][-100:]


def _others(place: Path) -> Iterator[tuple[str, str]]:
    for name, fault in (
        ("full disk", _full_disk), ("folder cannot be written", _read_only), ("truncated index", _truncated_index),
        ("truncated ledger", _truncated_ledger), ("two writers", _two_writers),
    ):  # fmt: skip
        folder = place / name.replace(" ", "-")
        yield name, fault(folder)


def _filled(folder: Path, count: int = 300) -> None:
    with EdgeCatalogue.open(folder, SETTINGS) as catalogue:
        catalogue.upsert([entry(number) for number in range(count)])


def _kept(folder: Path, count: int = 300) -> str:
    """How many of the first ``count`` learnwares a catalogue still has."""
    with EdgeCatalogue.open(folder) as catalogue:
        ids = [entry(number).learnware.id for number in range(count)]
        return f"{len(catalogue.get(ids))} of {count} there afterwards"


def _full_disk(folder: Path) -> str:
    with _small_file_system(folder, "size=700m") as mounted:
        if not mounted:
            return "not tried: this process may not mount a file system"
        number, acknowledged = 0, 0
        with EdgeCatalogue.open(folder / "catalogue", SETTINGS) as catalogue:
            try:
                while True:
                    catalogue.upsert([entry(each) for each in range(number, number + 200)])
                    number = acknowledged = number + 200
            except CatalogueError as error:
                seen = str(error)
            with contextlib.suppress(CatalogueError):
                catalogue.close()
        shutil.copytree(folder / "catalogue", folder.with_name("larger"))
        return f"{seen.replace(str(folder), 'FOLDER')}; {_kept(folder.with_name('larger'), acknowledged)}"


def _read_only(folder: Path) -> str:
    with _small_file_system(folder, "size=700m") as mounted:
        if not mounted:
            return "not tried: this process may not mount a file system"
        _filled(folder / "catalogue")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        try:
            EdgeCatalogue.open(folder / "catalogue")
            return "opened all the same"
        except CatalogueError as error:
            seen = str(error)
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        return f"{seen.replace(str(folder), 'FOLDER')}; {_kept(folder / 'catalogue')}"


def _truncated_index(folder: Path) -> str:
    _filled(folder)
    for file in (each for each in folder.glob("index-*/**/*") if each.is_file()):
        os.truncate(file, file.stat().st_size // 2)
    return f"no error, the index is made anew; {_kept(folder)}"


def _truncated_ledger(folder: Path) -> str:
    _filled(folder)
    ledger = folder / "ledger.sqlite"
    whole = ledger.read_bytes()
    os.truncate(ledger, len(whole) // 2)
    try:
        with EdgeCatalogue.open(folder) as catalogue:
            seen = f"opened; {len(catalogue.get([entry(n).learnware.id for n in range(300)]))} read"
    except CatalogueError as error:
        seen = str(error)
    ledger.write_bytes(whole)
    return f"{seen.replace(str(folder), 'FOLDER')}; with the ledger restored {_kept(folder)}"


def _two_writers(folder: Path) -> str:
    _filled(folder)
    with EdgeCatalogue.open(folder):
        try:
            EdgeCatalogue.open(folder)
        except CatalogueLocked as error:
            seen = str(error)
    return f"{seen.replace(str(folder), 'FOLDER')}; {_kept(folder)}"


@contextlib.contextmanager
def _small_file_system(folder: Path, options: str) -> Iterator[bool]:
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=False)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
