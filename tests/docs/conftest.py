"""A folder as the pages suppose it, with a dock in it, and a gateway of another dock with the same learnwares."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import pytest

from catalogue import Card
from serving import GatewayParts, TransformersConfig, TransformersEngine
from specification import SentenceEncoder, specify
from tests.serving import tiny
from tests.serving.conftest import Sketch, TinyDock, adapters, base, dock, open_dock, sentences, serving

__all__ = ["adapters", "base", "dock", "serving"]


@pytest.fixture(scope="session")
def sketch(encoder: SentenceEncoder) -> Sketch:
    """Makes a topic's specification, once."""
    return cache(lambda topic: specify(sentences(topic), encoder))


@pytest.fixture(scope="session")
def gateway_url(dock: TinyDock, serving: Callable[[GatewayParts], AbstractContextManager[str]]) -> Iterator[str]:
    engine = TransformersEngine(TransformersConfig(dock.base, tiny.BASE_NAME, dock.store))
    with serving(dock.parts(engine)) as url:
        yield url


@pytest.fixture
def place(
    tmp_path: Path,
    base: Path,
    encoder: SentenceEncoder,
    adapters: dict[str, Path],
    sketch: Sketch,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The present folder, with the session's encoder for whoever loads one.

    Made anew each time: the engine's files have holes, which a copy of a dock would fill.
    """
    (tmp_path / "dock").mkdir()
    with open_dock(tmp_path / "dock", base, encoder) as dock:
        for topic in ("law", "space"):
            dock.indexer.submit(adapters[topic], sketch(topic), Card(name=topic, domain=topic))
    lines = "".join(json.dumps({"text": text, "answer": "yes"}) + "\n" for text in sentences("law")[:24])
    for name in ("my-task.jsonl", "good-at.jsonl"):
        (tmp_path / name).write_text(lines)
    (tmp_path / "path" / "to").mkdir(parents=True)
    shutil.copytree(adapters["cooking"], tmp_path / "path" / "to" / "adapter")
    # Another model than tiny-base, so that it may have a name of its own.
    tiny.build_base(tmp_path / "path" / "to" / "base-model", seed=8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLMDOCK_HOME", str(tmp_path / "dock"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for module in ("specification", "slmdock.context"):
        monkeypatch.setattr(f"{module}.SentenceEncoder", lambda *_: encoder)
    return tmp_path
