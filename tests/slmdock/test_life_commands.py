"""The life of a learnware by the command line, in the dock's folder and through its gateway."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from indexer.history import system_user
from serving import GatewayParts, Task, TaskStore
from serving.access import KEYLESS
from slmdock.dock import TASKS_FOLDER, Dock, DockConfig
from tests.serving import tiny
from tests.serving.conftest import running
from tests.serving.doubles import EngineDouble
from tests.slmdock.test_cli import CommandLine
from tests.slmdock.test_cli import cli as cli


@pytest.fixture(scope="module")
def adapters(cli: CommandLine) -> list[Path]:
    return [tiny.build_adapter(cli.home / "base", cli.home / f"life-{seed}", seed) for seed in (11, 12)]


@pytest.fixture
def own(cli: CommandLine, tmp_path: Path) -> CommandLine:
    """A command line with a dock of its own, without learnwares."""
    run = CommandLine(cli.home)
    run.environment = cli.environment | {"SLMDOCK_HOME": str(tmp_path / "dock")}
    run("base", "add", tiny.BASE_NAME, cli.home / "base")
    return run


@pytest.fixture
def url(own: CommandLine, adapters: list[Path]) -> Iterator[str]:
    """A gateway over that dock."""
    dock = Dock(DockConfig(Path(own.environment["SLMDOCK_HOME"])))
    indexer = dock.indexer
    tasks = TaskStore(dock.config.folder / TASKS_FOLDER)
    parts = GatewayParts(dock.catalogue, dock.retriever, indexer, (EngineDouble(tiny.BASE_NAME),), tasks)
    try:
        with running(parts) as at:
            yield at
    finally:
        dock.close()


def read(done: str) -> Any:
    return json.loads(done)


def live(run: CommandLine, adapters: list[Path], who: str, *url: object) -> None:
    """Leads a learnware of two versions through its life."""

    def submit(adapter: Path, *words: object) -> str:
        examples = ("--examples", run.home / "farming.jsonl", "--name", "wheat")
        return run(*url, "submit", adapter, *examples, *words).stdout

    assert "wheat version 1 is in, published, as " in submit(adapters[0])
    assert "wheat version 2 is in, checked, as " in submit(adapters[1], "--as", "checked")
    states = read(run(*url, "status", "wheat", "--json").stdout)
    assert [(one["version"], one["status"], one["who"]) for one in states] == [
        (2, "checked", who), (1, "published", who),
    ]  # fmt: skip
    assert all(one["when"] > 1e9 for one in states)
    assert "wheat@2" in run(*url, "status", "wheat@2").stdout
    assert "wheat@1" not in run(*url, "status", "wheat@2").stdout
    assert run(*url, "publish", "wheat@2").stdout == "wheat@2: checked, now published\n"
    assert "cannot become published" in run.fails(*url, "publish", "wheat@2")
    assert run(*url, "retire", "wheat@1", "--why", "too old").stdout == "wheat@1: published, now retired\n"
    assert "too old" in run(*url, "status", "wheat").stdout
    moved = read(run(*url, "quarantine", "wheat", "--why", "it lies", "--json").stdout)
    assert (moved["version"], moved["status"]) == (2, "quarantined")
    found = read(run(*url, "search", run.home / "farming.jsonl", "--json").stdout)
    assert found["ranked"] == []
    assert run(*url, "publish", "wheat@2").stdout == "wheat@2: quarantined, now published\n"
    assert run(*url, "delete", "wheat@1").stdout.startswith("wheat@1 is deleted (")
    events = read(run(*url, "history", "wheat", "--json").stdout)
    assert [(one["version"], one["state"]) for one in events] == [
        (1, "submitted"), (1, "checked"), (1, "published"), (2, "submitted"), (2, "checked"), (2, "published"),
        (1, "retired"), (2, "quarantined"), (2, "published"), (1, "deleted"),
    ]  # fmt: skip
    assert {one["who"] for one in events} == {who}
    shown = run(*url, "history", "wheat@2", "--limit", "2").stdout
    assert ("it lies" in shown, "checked" in shown) == (True, False)
    assert "nothing is recorded of nobody" in run(*url, "history", "nobody").stdout


def test_a_life_in_the_dock_s_folder(own: CommandLine, adapters: list[Path]) -> None:
    live(own, adapters, system_user())


def test_a_life_through_the_gateway(own: CommandLine, adapters: list[Path], url: str) -> None:
    live(own, adapters, KEYLESS, "--url", url)


def test_diff_shows_what_differs(own: CommandLine, adapters: list[Path], tmp_path: Path, url: str) -> None:
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"description": "Newer", "tags": ["crops"]}))
    for adapter, examples, more in (
        (adapters[0], "farming.jsonl", ()), (adapters[1], "numbers.jsonl", ("--card", card)),
    ):  # fmt: skip
        own("--url", url, "submit", adapter, "--examples", own.home / examples, "--name", "wheat", *more)
    own("--url", url, "quality", "wheat@2", "--feedback", 1)
    found = read(own("--url", url, "diff", "wheat@1", "wheat@2", "--json").stdout)
    assert found["learnwares"] == ["wheat@1", "wheat@2"]
    tags = found["fields"].pop("tags")
    assert ("lora" in tags[0], tags[1]) == (True, ["crops"])  # PEFT's own model card says so.
    assert found["fields"] == {"description": ["", "Newer"], "version": [1, 2]}
    assert [len(signals) for signals in found["signals"]] == [0, 1]
    assert 0 < found["mmd"] < 2
    assert 0 <= found["overlap"] < 1
    same = read(own("--url", url, "diff", "wheat@1", "wheat@1", "--json").stdout)
    assert (same["fields"], same["overlap"]) == ({}, pytest.approx(1))
    assert same["mmd"] == pytest.approx(0, abs=1e-3)
    shown = own("--url", url, "diff", "wheat@1", "wheat@2").stdout
    assert all(word in shown for word in ("Newer", "crops", "MMD", "feedback in general: 1 (user)"))
    assert "no learnware 'wheat@3'" in own.fails("--url", url, "diff", "wheat@1", "wheat@3")


def test_what_a_task_uses_is_deleted_by_force_alone(own: CommandLine, adapters: list[Path]) -> None:
    examples = ("--examples", own.home / "farming.jsonl", "--name", "wheat")
    learnware = read(own("submit", adapters[0], *examples, "--json").stdout)
    tasks = TaskStore(Path(own.environment["SLMDOCK_HOME"]) / TASKS_FOLDER)
    tasks.put(Task(id="0" * 16, learnware=learnware["id"], fit=1, threshold=0, reason="", created=0))
    assert "wheat@1 answers registered tasks" in own.fails("delete", "wheat")
    assert read(own("delete", "wheat", "--force", "--json").stdout) == learnware
    assert read(own("list", "--json").stdout)["learnwares"] == []
    assert read(own("history", "wheat", "--json").stdout)[-1]["state"] == "deleted"


def test_mistakes_are_named(
    own: CommandLine, adapters: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "no catalogue in" in own.fails("history")
    broken = shutil.copytree(adapters[0], tmp_path / "broken")
    (broken / "adapter_config.json").unlink()
    examples = ("--examples", own.home / "farming.jsonl")
    assert "adapter_config.json" in own.fails("submit", broken, *examples)
    (refused,) = read(own("history", "--json").stdout)
    assert (refused["name"], refused["state"], refused["version"]) == ("broken", "refused", None)
    assert "refused" in own("history", "broken").stdout
    for command in ("status", "publish", "retire", "delete"):
        assert "no learnware 'nobody'" in own.fails(command, "nobody")
    assert "is no learnware's name" in own.fails("history", "a/b")
    assert "--why" in own("quarantine", "nobody", code=2).stderr
    assert "'verified'" in own("submit", adapters[0], *examples, "--as", "verified", code=2).stderr
    own("submit", adapters[0], *examples, "--name", "wheat")
    assert "why: " in own.fails("retire", "wheat", "--why", "x" * 2001)
    history = Path(own.environment["SLMDOCK_HOME"]) / "history.sqlite"
    history.write_bytes(b"damaged")
    assert "move it away" in own.fails("history")
    assert own("retire", "wheat").stdout == "wheat@1: published, now retired\n"
    assert "done, but not recorded in the history (wheat retired)" in caplog.text
