"""What a benchmark prints: the hardware line, tables, and one JSON document as the last line."""

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from slmdock.output import progress_bar

__all__ = ["arguments", "finish", "hardware", "progress_bar", "resident", "table"]


def arguments(description: str | None, data: bool = True) -> argparse.ArgumentParser:
    """A parser with the options that benchmarks share: ``--data``, ``--size`` and ``--seed``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    if data:
        parser.add_argument(
            "--data", type=Path, required=True, help="folder with <domain>/train and <domain>/user"
        )
    parser.add_argument("--size", type=int, default=None, help="points of a reduced set; None: the default")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    return parser


def hardware() -> str:
    """One line on the machine a figure was measured on."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{_processor()}, {os.cpu_count()} cores, {pages / 2**30:.0f} GiB, Python {platform.python_version()}"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table; floats with two decimals, None as a dash."""
    shown = Table(*columns, box=None)
    for row in rows:
        shown.add_row(*(_shown(cell) for cell in row))
    console = Console(width=160, highlight=False)
    console.print(title, style="italic")
    console.print(shown)
    console.print()


def resident() -> float:
    """Gigabytes that this process and those it started hold in memory."""
    own = psutil.Process()
    return sum(float(process.memory_info().rss) for process in (own, *own.children(recursive=True))) / 1e9


def finish(name: str, results: Mapping[str, object]) -> None:
    """Prints the hardware and the JSON line, which ends a benchmark."""
    print(f"hardware: {hardware()}")
    print(json.dumps({"benchmark": name, "hardware": hardware(), **results}, ensure_ascii=False))


def _shown(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
