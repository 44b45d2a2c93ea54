"""Verification by the command line: what waits is run on a real vLLM that is alone, and told by words."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from serving import GatewayParts, TaskStore, TransformersConfig, TransformersEngine
from slmdock.dock import TASKS_FOLDER, Dock, DockConfig
from slmdock.verifying import VerifierConfig, make_verifier
from specification import Example
from tests.serving import taught, tiny
from tests.serving.conftest import running
from tests.serving.doubles import EngineDouble
from tests.slmdock.test_cli import CommandLine
from tests.slmdock.test_cli import cli as cli

KINDS = ("good", "shuffled", "inert", "overflows")


@pytest.fixture(scope="module")
def own(cli: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A command line with a dock of its own that holds a learnware of each kind back."""
    home = tmp_path_factory.mktemp("verify")
    run = CommandLine(home)
    run.environment = cli.environment | {"SLMDOCK_HOME": str(home / "dock")}
    base = cli.home / "base"
    run("base", "add", tiny.BASE_NAME, base)
    made = {"good": taught.good(base, home / "good"), "shuffled": taught.shuffled(base, home / "shuffled")}
    made["inert"] = taught.changed(made["good"], home / "inert", lambda one: one * 1e-9)
    made["overflows"] = taught.changed(made["good"], home / "overflows", lambda one: one * 1e36)
    write(home / "held-out.jsonl", taught.as_prompts(taught.examples(40, 99)))
    for name, adapter in made.items():
        run("submit", adapter, "--examples", home / "held-out.jsonl", "--name", name, "--as", "checked")
    return run


@pytest.fixture
def dock(own: CommandLine) -> Dock:
    """The same dock in this process; to be closed before a command opens it."""
    return Dock(DockConfig(Path(own.environment["SLMDOCK_HOME"])))


@pytest.fixture
def url(dock: Dock) -> Iterator[str]:
    """A gateway over that dock that verifies nothing."""
    tasks = TaskStore(dock.config.folder / TASKS_FOLDER)
    parts = GatewayParts(dock.catalogue, dock.retriever, dock.indexer, (EngineDouble(tiny.BASE_NAME),), tasks)
    try:
        with running(parts) as at:
            yield at
    finally:
        dock.close()


def write(file: Path, examples: list[Example]) -> None:
    file.write_text("".join(json.dumps(asdict(one)) + "\n" for one in examples))


async def test_beside_a_gateway_a_broken_learnware_is_taken_out_of_service(own: CommandLine, dock: Dock) -> None:
    engines = (EngineDouble(tiny.BASE_NAME),)
    tasks = TaskStore(dock.config.folder / TASKS_FOLDER)
    parts = GatewayParts(dock.catalogue, dock.retriever, dock.indexer, engines, tasks, verifying=True)
    try:
        inert = dock.move("inert", "published")
        dock.verify("inert", taught.examples(16, 3), chat=False)
        verifier = make_verifier(dock, VerifierConfig(), parts)
        verifier._make = lambda base, rank: TransformersEngine(
            TransformersConfig(Path(base.folder), base.name, dock.store.root)
        )
        await verifier.work_off()
        assert dock.learnware(inert.id).status == "quarantined"
        assert "changes nothing" in dock.history("inert", 1)[0].why
    finally:
        dock.close()


def test_what_goes_together_is_said(own: CommandLine) -> None:
    assert "name it" in own("verify", "--examples", own.home / "held-out.jsonl", code=2).stderr
    assert "--publish goes with --examples" in own("verify", "good", "--publish", code=2).stderr
    assert "nobody asked for good@1 to be verified" in own("verify", "good", code=2).stderr
    assert own("verify").stdout == "nothing waits to be verified\n"
    write(own.home / "few.jsonl", taught.examples(4, 1))
    assert (
        "4 examples; to verify takes 16"
        in own("verify", "good", "--examples", own.home / "few.jsonl", code=2).stderr
    )


def test_through_a_gateway_that_does_not_verify_it_waits(own: CommandLine, url: str) -> None:
    said = own("--url", url, "verify", "good", "--examples", own.home / "held-out.jsonl", "--plain").stdout
    assert "waiting" in said
    assert "they wait for 'slmdock serve --verify-per-hour 10'" in said


def test_what_waits_is_run_on_vllm(own: CommandLine, dock: Dock) -> None:
    examples = taught.as_prompts(taught.examples(40, 99))
    for kind in KINDS:
        dock.verify(kind, examples, chat=False, publish=kind == "good")
    dock.close()
    done = own("verify", "--json", code=2)
    found = {job["reference"]: job for job in json.loads(done.stdout)}
    assert {reference: job["state"] for reference, job in found.items()} == {
        "good@1": "passed", "shuffled@1": "failed", "inert@1": "failed", "overflows@1": "failed",
    }  # fmt: skip
    said = {reference: " ".join(job["verdict"]["complaints"]) for reference, job in found.items()}
    assert "changes nothing" in said["inert@1"]
    assert "NaN" in said["overflows@1"]
    states = {one["name"]: one["status"] for one in json.loads(own("list", "--json").stdout)["learnwares"]}
    assert states == {
        "good": "published", "shuffled": "quarantined", "inert": "quarantined", "overflows": "quarantined",
    }  # fmt: skip
    assert "verification: gains" in own("history", "good").stdout
    assert "gain" in own("show", "good").stdout
    shown = own("verify", "shuffled", code=2).stdout
    assert "failed" in shown
    assert "shuffled@1: " in shown
