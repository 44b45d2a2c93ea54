"""The commands for keys, on a folder and through a gateway, and the rule that ``serve`` needs them."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from serving.client import KEY_VARIABLE
from serving.keys import KEYS_FILE, KeyStore
from slmdock.dock import Dock, DockConfig
from specification import SentenceEncoder
from tests.serving import tiny
from tests.serving.conftest import open_dock, running
from tests.serving.doubles import EngineDouble
from tests.slmdock.test_cli import CommandLine


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """A command line whose dock is empty."""
    return CommandLine(tmp_path)


@pytest.fixture
def store(cli: CommandLine) -> KeyStore:
    return KeyStore(cli.home / "dock" / KEYS_FILE)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def url(cli: CommandLine, base: Path, encoder: SentenceEncoder, store: KeyStore) -> Iterator[str]:
    """A gateway to an empty catalogue, with the keys of the command line's dock."""
    folder = cli.home / "served"
    folder.mkdir()
    with open_dock(folder, base, encoder) as dock:
        parts = replace(dock.parts(EngineDouble(tiny.BASE_NAME)), keys=store)
        with running(parts) as url:
            yield url


def test_a_key_from_creation_to_revocation(cli: CommandLine, store: KeyStore) -> None:
    made = cli("key", "create", "web app", "--role", "serve", "--role", "search", "--expires", "90d")
    secret = made.stdout.strip()
    key = store.authenticate(secret)
    assert (key.name, key.roles) == ("web app", ("search", "serve"))
    assert key.expires == key.created + 90 * 86_400
    assert secret not in made.stderr
    assert "not shown again" in made.stderr
    listed = cli("key", "list").stdout
    for shown in (key.id, "web app", "search, serve", f"sk-dock-…{secret[-4:]}", "UTC"):
        assert shown in listed
    assert secret[-10:] not in listed
    document = json.loads(cli("key", "list", "--json").stdout)
    assert [item["id"] for item in document] == [key.id]
    assert "sha256" not in document[0]
    gone = cli("key", "revoke", key.id)
    assert gone.stdout == f"revoked {key.id} (web app)\n"
    assert "remove keys.json" in gone.stderr
    assert json.loads(cli("key", "list", "--json").stdout) == []


def test_json_for_programs(cli: CommandLine, store: KeyStore) -> None:
    made = json.loads(cli("key", "create", "app", "--role", "admin", "--json").stdout)
    assert store.authenticate(made["secret"]).id == made["id"]
    assert made["expires"] is None


def test_mistakes_are_named(cli: CommandLine) -> None:
    assert "roles are search, serve, publish, admin" in cli.fails("key", "create", "x", "--role", "root")
    assert "such as 90d" in cli.fails("key", "create", "x", "--role", "serve", "--expires", "soon")
    assert "expires_in" in cli.fails("key", "create", "x", "--role", "serve", "--expires", "0d")
    assert "name" in cli.fails("key", "create", "\t", "--role", "serve")
    assert "--role" in cli("key", "create", "x", code=2).stderr
    secret = cli("key", "create", "x", "--role", "serve").stdout.strip()
    assert secret not in cli.fails("key", "revoke", secret)
    (cli.home / "dock" / KEYS_FILE).write_text("{")
    for words in (("list",), ("create", "y", "--role", "serve"), ("revoke", "0" * 16)):
        assert "keys.json: damaged; restore it" in cli.fails("key", *words)


def test_through_a_gateway(cli: CommandLine, store: KeyStore, url: str) -> None:
    admin = cli("key", "create", "admin", "--role", "admin").stdout.strip()
    refused = cli.fails("--url", url, "list")
    assert "SLMDOCK_KEY or --key-file" in refused
    cli.environment[KEY_VARIABLE] = admin
    assert cli("--url", url, "list", "--json").stdout
    secret = cli("--url", url, "key", "create", "app", "--role", "search").stdout.strip()
    assert store.authenticate(secret).name == "app"
    cli.environment[KEY_VARIABLE] = ""
    file = cli.home / "key"
    file.write_text(f"{secret}\n")
    assert cli("--url", url, "--key-file", file, "list", "--json").stdout
    assert "needs a key with the role admin" in cli.fails("--url", url, "--key-file", file, "key", "list")
    file.write_text("\n")
    assert "holds no key" in cli.fails("--url", url, "--key-file", file, "list")
    file.write_text("wrong-4815162342\n")
    failed = cli.fails("--url", url, "--key-file", file, "list")
    assert "not known here" in failed
    assert "4815162342" not in failed
    assert "no such file" in cli.fails("--url", url, "--key-file", cli.home / "nowhere", "list")


@pytest.mark.parametrize("host", ["0.0.0.0", ""])
def test_serve_refuses_other_addresses_without_keys(
    host: str, cli: CommandLine, encoder: SentenceEncoder, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slmdock.dock.SentenceEncoder", lambda name: encoder)
    cli("base", "add", tiny.BASE_NAME, base)
    failed = cli.fails("serve", "--engine", "transformers", "--host", host, "--port", 0)
    assert "slmdock key create NAME --role serve" in failed


def test_serve_names_limits_that_are_none(cli: CommandLine) -> None:
    assert "--parallel" in cli("serve", "--parallel", "0", code=2).stderr
    assert "wait_seconds is inf" in cli.fails("serve", "--wait-seconds", "inf")


def test_the_dock_s_keys_lie_in_its_folder(tmp_path: Path) -> None:
    assert Dock(DockConfig(tmp_path)).keys.path == tmp_path / KEYS_FILE
