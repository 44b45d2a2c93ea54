"""``slmdock catalogue``: copies, moves, index and status, as a stranger uses them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from catalogue import CatalogueSettings, EdgeCatalogue, Entry
from slmdock.transfer_commands import TARGET_KEY_VARIABLE
from tests.catalogue.fake_qdrant import KEY, FakeQdrant, serving
from tests.conftest import make_specification
from tests.slmdock.test_cli import CommandLine

MakeEntry = Callable[..., Entry]
COUNT = 12


@pytest.fixture
def cli(tmp_path: Path, settings: CatalogueSettings, make_entry: MakeEntry) -> CommandLine:
    """A command line whose dock has a filled catalogue."""
    with EdgeCatalogue.open(tmp_path / "dock" / "catalogue", settings) as catalogue:
        catalogue.upsert([make_entry(seed) for seed in range(COUNT)])
    return CommandLine(tmp_path)


def status(cli: CommandLine, dock: str = "dock") -> dict[str, object]:
    document: dict[str, object] = json.loads(
        cli("--dock", cli.home / dock, "catalogue", "status", "--json").stdout
    )
    return document


def test_a_catalogue_goes_into_a_file_and_into_another_dock(cli: CommandLine) -> None:
    done = cli("catalogue", "snapshot", "backup")
    assert done.stdout.startswith(f"{COUNT} learnwares are in backup (0.")
    assert "is there already" in cli.fails("catalogue", "snapshot", "backup")
    done = cli("--dock", cli.home / "other", "catalogue", "restore", "backup")
    assert done.stdout == f"{COUNT} restored, 0 refused\n"
    own, other = status(cli), status(cli, "other")
    assert (other["learnwares"], other["engine"]) == (COUNT, "Qdrant Edge")
    assert other["index"] == own["index"]
    assert other["encoder"] == own["encoder"]
    assert isinstance(own["bytes"], int)
    assert own["bytes"] > 0
    assert own["fresh"] == COUNT


def test_a_damaged_row_is_named_and_ends_with_exit_code_2(cli: CommandLine) -> None:
    cli("catalogue", "snapshot", "backup")
    file = cli.home / "backup"
    file.write_bytes(
        file.read_bytes().replace(b'"description":""', b'"description":"\x1b"', 1)[: file.stat().st_size]
    )
    done = cli("--dock", cli.home / "other", "catalogue", "restore", "backup", code=2)
    assert "\x1b" not in done.stdout + done.stderr


def test_a_catalogue_moves_into_another_dock_s_folder_and_the_old_one_stays(cli: CommandLine) -> None:
    done = cli("catalogue", "move", "--to-folder", "other")
    assert f"moved: {COUNT} of {COUNT} learnwares; {COUNT} sample searches, all answered alike" in done.stdout
    assert "use it with --dock other; the old catalogue is still there" in done.stdout
    assert f"adapters are not moved: copy store, tasks and bases.json from {cli.home / 'dock'}" in done.stdout
    assert status(cli)["learnwares"] == status(cli, "other")["learnwares"] == COUNT


def test_where_a_catalogue_is_moved_must_be_said_and_be_elsewhere(cli: CommandLine) -> None:
    assert "either --to-qdrant URL or --to-folder DOCK" in cli.fails("catalogue", "move")
    assert "is there already" in cli.fails("catalogue", "move", "--to-folder", "dock")
    server = ("--qdrant", "http://127.0.0.1:1", "catalogue", "move", "--to-qdrant", "http://127.0.0.1:1/")
    assert "is there already" in cli.fails(*server)
    assert "is no Qdrant URL" in cli.fails("catalogue", "move", "--to-qdrant", "nowhere")


def test_the_target_s_key_has_a_variable_of_its_own(cli: CommandLine) -> None:
    with serving(FakeQdrant()) as server:
        cli.environment |= {"SLMDOCK_QDRANT_API_KEY": KEY, TARGET_KEY_VARIABLE: "wrong"}
        complaint = cli.fails("--qdrant-retries", 0, "catalogue", "move", "--to-qdrant", server.url)
    assert f"403 (Forbidden); set {TARGET_KEY_VARIABLE} to its key" in complaint
    assert KEY not in complaint


def test_the_dial_and_the_dimension_are_changed_and_searched_by(cli: CommandLine) -> None:
    done = cli("catalogue", "rebuild", "--dial", "speed", "--dimension", 64)
    assert done.stdout == f"in use: dial speed, 64 dimensions, {COUNT} learnwares\n"
    index = status(cli)["index"]
    assert isinstance(index, dict)
    assert (index["dial"], index["ef"], index["candidates"], index["feature_map"]["dimension"]) == (
        "speed", 128, 50, 64,
    )  # fmt: skip
    shown = cli("catalogue", "status").stdout
    assert "index: dial speed; HNSW keeps 128 in view, 50 are compared exactly" in shown
    assert "64 dimensions" in shown
    assert "GiB on disk" in shown
    with EdgeCatalogue.open(cli.home / "dock" / "catalogue") as catalogue:
        assert catalogue.near_task(make_specification(5).reduced_set, 1)[0].learnware.name == "learnware-5"
    assert "--dimension 3" in cli.fails("catalogue", "rebuild", "--dimension", 3)


@pytest.mark.parametrize(
    "words", [("snapshot", "x"), ("restore", "x"), ("move", "--to-folder", "x"), ("rebuild",), ("status",)]
)
def test_through_a_gateway_they_are_refused_and_while_it_serves_they_say_who_holds_the_folder(
    cli: CommandLine, words: tuple[str, ...]
) -> None:
    complaint = cli.fails("--url", "http://127.0.0.1:1", "catalogue", *words)
    assert "on the dock's own machine" in complaint
    if words[0] != "restore":
        with EdgeCatalogue.open(cli.home / "dock" / "catalogue"):
            assert "is held by process" in cli.fails("catalogue", *words)
