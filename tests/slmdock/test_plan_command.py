"""``slmdock plan`` and the options of a Qdrant server, as a stranger uses them."""

import json
import re
import sys
from pathlib import Path

import pytest

from slmdock import cli
from tests.serving import tiny
from tests.serving.test_base_size import folder_with

DOCUMENT = Path(__file__).parents[2] / "docs" / "scale.md"
SHOWN = re.findall(r"```\n\$ slmdock (plan [^\n]*)\n(.*?)\n```", DOCUMENT.read_text(), re.DOTALL)

Printed = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def run(monkeypatch: pytest.MonkeyPatch, *words: object, code: int = 0) -> None:
    monkeypatch.setattr(sys, "argv", ["slmdock", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code


def test_a_catalogue_for_people_and_for_programs(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("plan", "--learnwares", 10**8, "--qps", 500, "--replicas", 2, "--dimension", 512)
    run(monkeypatch, *words, "--json")
    document = json.loads(capsys.readouterr().out)
    layout = document["catalogue"]["layout"]
    assert layout["nodes"] == max(document["catalogue"][by] for by in ("nodes_by_memory", "nodes_by_disk")) * 2
    bytes_by_part = [part["disk"] for part in document["catalogue"]["parts"]]
    assert sum(bytes_by_part) * 10**8 == document["catalogue"]["disk_bytes"]
    run(monkeypatch, *words)
    printed = capsys.readouterr().out
    assert "a catalogue of 100,000,000 learnwares" in printed
    first = document["catalogue"]["parts"][0]
    assert f"{first['name']} {first['disk']:,} {first['resident']:,}" in " ".join(printed.split())
    assert f"{layout['nodes']}, because of {document['catalogue']['limit']}" in printed
    assert "Extrapolated from " in printed


def test_adapters_on_a_gpu(tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    base = folder_with(tmp_path)
    words = ("plan", "--base", base, "--rank", 16, "--gpu-gib", 24, "--max-model-len", 8192)
    run(monkeypatch, *words, "--json")
    found = json.loads(capsys.readouterr().out)["gpu"]
    assert (found["max_loras"], found["max_cpu_loras"], found["kv_tokens"]) == (13, 204, 29_040)
    assert found["weights_counted"] is False
    run(monkeypatch, *words)
    printed = " ".join(capsys.readouterr().out.split())
    for part in (
        "13 take 1.12 GiB; at most 42 would fit",
        "29,040 tokens of 131,072 bytes (38,208 without adapters)",
        "--max-loras 13 --max-cpu-loras 204 --max-lora-rank 16 --max-model-len 8192 --gpu-memory-utilization=0.9",
        "--max-loras 13 --max-lora-rank 16 --adapter-gib 15.938 --max-model-len 8192 --vllm-arg=--gpu-memory",
        "counted from config.json",
    ):
        assert part in printed


def test_both_at_once(tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny.build_base(tmp_path)
    words = ("plan", "--base", base, "--gpu-gib", 4, "--learnwares", 10, "--modules", "q_proj, v_proj")
    run(monkeypatch, *words, "--json")
    document = json.loads(capsys.readouterr().out)
    # Rank 16, two layers, two modules of 64 + 64, two bytes a number.
    assert document["gpu"]["adapter_bytes"] == 16 * 2 * 2 * 128 * 2
    assert document["adapter_store_bytes"] == 10 * document["gpu"]["adapter_bytes"]
    assert document["gpu"]["max_loras"] == 14
    assert document["gpu"]["weights_counted"] is True
    run(monkeypatch, *words)
    printed = capsys.readouterr().out
    assert "a catalogue of 10 learnwares" in printed
    assert "for 10 adapters of this size" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give --learnwares for a catalogue, --base and --gpu-gib"),
        (("--base", "."), "--base without --gpu-gib"),
        (("--base", "no-such-folder", "--gpu-gib", 24), "no such folder"),
        (("--base", ".", "--gpu-gib", "nan"), "--gpu-gib nan: a positive number"),
        (("--base", ".", "--gpu-gib", 24, "--host-gib", 0), "--host-gib 0.0: a positive number"),
        (("--learnwares", 0), "0 learnwares: 1 to"),
        (("--learnwares", 9, "--qps", "nan"), "nan queries a second"),
        (("--learnwares", 10**9, "--shards", 2), "2 shards: one would not fit a node"),
    ],
)
def test_what_cannot_be_planned_ends_with_one_line(
    words: tuple[object, ...], message: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, "plan", *words, code=2)
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert message in printed
    assert printed.count("\n") == 1


def test_a_qdrant_server_is_configured_by_options_or_environment(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLMDOCK_HOME", str(tmp_path))
    monkeypatch.setenv("SLMDOCK_QDRANT_API_KEY", "a-secret")
    monkeypatch.setenv("SLMDOCK_QDRANT_RETRIES", "0")
    # The discard port: nothing listens there.
    run(monkeypatch, "--qdrant", "http://127.0.0.1:9", "list", code=2)
    printed = capsys.readouterr().err
    assert "http://127.0.0.1:9 was asked once and gave no answer" in printed
    assert "a-secret" not in printed
    numbers = ("--qdrant-replicas", 2, "--qdrant-write-replicas", 3)
    run(monkeypatch, "--qdrant", "http://127.0.0.1:9", *numbers, "list", code=2)
    assert "write_consistency_factor 3 exceeds replication_factor 2" in capsys.readouterr().err
    run(monkeypatch, "--qdrant", "https://127.0.0.1:9", "--qdrant-ca", tmp_path / "ca.pem", "list", code=2)
    assert "ca.pem: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "shown"), SHOWN)
def test_the_document_shows_what_the_command_prints(
    command: str, shown: str, tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Llama-3.1-8B").mkdir()
    folder_with(tmp_path / "Llama-3.1-8B")
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, *command.split())
    printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.rstrip().split("\n"))
    assert printed == shown, f"docs/scale.md is out of date: {command}"
