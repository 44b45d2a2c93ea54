"""The command line as a stranger uses it: its output and its exit codes.

Commands run in this process with the session's encoder, since each new process would load one; one test at the
end starts real processes.
"""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from serving import GatewayParts, TaskStore, TransformersConfig, TransformersEngine
from serving.trial_run import TrialRun
from slmdock import cli as command_line
from slmdock.dock import Dock, DockConfig
from specification import SentenceEncoder, Specification, specify
from tests.conftest import make_specification
from tests.serving import tiny
from tests.serving.conftest import running

TOPICS = {"farming": "the harvest of wheat", "medicine": "a broken arm", "numbers": "a prime number"}


def sentences(topic: str, verb: str) -> list[str]:
    return [f"{verb} {TOPICS[topic]}, case {number}." for number in range(24)]


@dataclass(frozen=True)
class Done:
    """What a finished command printed."""

    stdout: str
    stderr: str


class CommandLine:
    """Runs ``slmdock`` on a dock of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            "SLMDOCK_HOME": str(home / "dock"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "COLUMNS": "160",
        }

    def __call__(self, *words: object, code: int = 0) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.chdir(self.home):
            for name, value in self.environment.items():
                patch.setenv(name, value)
            patch.setattr("sys.argv", ["slmdock", *map(str, words)])
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                pytest.raises(SystemExit) as end,
            ):
                command_line.main()
        assert (end.value.code or 0) == code, out.getvalue() + err.getvalue()
        return Done(out.getvalue(), err.getvalue())

    def fails(self, *words: object) -> str:
        """Runs a command that must fail with exit code 2 and one line of error; returns the line."""
        done = self(*words, code=2)
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        return done.stderr


def write_examples(file: Path, texts: list[str]) -> Path:
    file.write_text("".join(json.dumps({"text": text, "answer": "yes"}) + "\n" for text in texts))
    return file


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory, encoder: SentenceEncoder) -> Iterator[CommandLine]:
    """A dock with three learnwares, taken in by the command line itself."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for module in ("context", "dock", "doctor"):
            patch.setattr(f"slmdock.{module}.SentenceEncoder", lambda name: _encoder(name, encoder))
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield _filled(home)


def _encoder(name: str, loaded: SentenceEncoder) -> SentenceEncoder:
    return loaded if name == loaded.name else SentenceEncoder(name)


def _filled(home: Path) -> CommandLine:
    run = CommandLine(home)
    base = tiny.build_base(home / "base")
    run("base", "add", tiny.BASE_NAME, base)
    lines = []
    for seed, topic in enumerate(TOPICS):
        adapter = tiny.build_adapter(base, home / f"adapter-{topic}", seed)
        examples = write_examples(home / f"{topic}.jsonl", sentences(topic, "Tell me about"))
        lines.append({"name": topic, "adapter": adapter.name, "examples": examples.name, "domain": topic})
    lines.append({"name": "lost", "adapter": "nowhere", "examples": "farming.jsonl"})
    (home / "learnwares.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = run("ingest", home / "learnwares.jsonl", "--json", code=2)
    report = json.loads(done.stdout)
    assert [item["name"] for item in report["accepted"]] == list(TOPICS)
    assert [item["item"] for item in report["refused"]] == ["learnwares.jsonl, line 4"]
    return run


def test_spec_makes_a_file_that_can_be_searched_with(cli: CommandLine) -> None:
    task = write_examples(cli.home / "task.jsonl", sentences("medicine", "What do I do with"))
    done = cli("spec", task, "--out", cli.home / "task.safetensors", "--json")
    document = json.loads(done.stdout)
    assert document["sample_size"] == 24
    assert 1 <= document["points"] <= 12
    found = json.loads(cli("search", cli.home / "task.safetensors", "--json").stdout)
    assert found["decision"]["learnware"]["name"] == "medicine"
    assert found["ranked"][0]["learnware"]["name"] == "medicine"
    filtered = json.loads(cli("search", task, "--where", "domain=farming", "--json").stdout)
    assert [item["learnware"]["name"] for item in filtered["ranked"]] == ["farming"]
    shown = cli("search", task).stdout
    assert "medicine" in shown
    assert "chosen: medicine" in shown


def test_a_private_specification_says_so_and_finds_its_learnware(cli: CommandLine, tmp_path: Path) -> None:
    task = write_examples(tmp_path / "task.jsonl", sentences("farming", "Explain") * 20)
    done = cli("spec", task, "--epsilon", "8", "--out", tmp_path / "private.safetensors")
    assert "one point for 480 texts, (8, 1e-05)-differentially private" in done.stdout
    assert done.stderr == ""
    found = json.loads(cli("search", tmp_path / "private.safetensors", "--json").stdout)
    assert found["decision"]["learnware"]["name"] == "farming"
    loose = cli("spec", task, "--epsilon", "8", "--delta", "0.01", "--json")
    assert "warning: delta 0.01 is not under 1/480" in loose.stderr
    assert json.loads(loose.stdout)["privacy"]["delta"] == 0.01


def test_a_task_s_specification_leaves_out_what_only_learnwares_need(cli: CommandLine, tmp_path: Path) -> None:
    task = write_examples(tmp_path / "task.jsonl", sentences("farming", "Explain"))
    cli("spec", task, "--task", "--out", tmp_path / "task.safetensors")
    made = Specification.load(tmp_path / "task.safetensors")
    assert made.prompt is None
    assert made.section.calibration is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--epsilon", "0"), "epsilon 0 is not in 0.01 … 100"),
        (("--epsilon=-1",), "epsilon -1 is not in"),
        (("--epsilon", "nan"), "epsilon nan is not in"),
        (("--epsilon", "1", "--delta", "0"), "delta 0 is not in"),
        (("--delta", "1e-5"), "--delta without --epsilon"),
        (("--epsilon", "1"), "give at least 74 texts"),
        (("--epsilon", "8", "--size", "4"), "leave the size out"),
    ],
)
def test_impossible_privacy_is_refused(
    cli: CommandLine, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    task = write_examples(tmp_path / "task.jsonl", sentences("farming", "Explain"))
    assert message in cli.fails("spec", task, *options)


def test_spec_adds_a_parameter_vector(cli: CommandLine) -> None:
    task = write_examples(cli.home / "vector.jsonl", sentences("medicine", "What do I do with"))
    proxy = ("--proxy", cli.home / "base")
    for form in (("--proxy-form", "tuned", "--proxy-steps", "2"), ("--proxy-form", "gradient"), ()):
        document = json.loads(cli("spec", task, *proxy, *form, "--json").stdout)
        assert document["parameters"]["proxy"]["name"] == "base"
        assert document["parameters"]["recipe"]["form"] == (form[1] if form else "adaptive")
    found = json.loads(cli("search", cli.home / "vector.specification.safetensors", "--json").stdout)
    assert found["ranked"][0]["learnware"]["name"] == "medicine"
    assert found["ranked"][0]["parameters"] is None
    assert "not private" in cli.fails("spec", task, *proxy, "--epsilon", "4")
    assert "without --proxy" in cli.fails("spec", task, "--proxy-form", "tuned")
    assert "takes no steps" in cli.fails("spec", task, *proxy, "--proxy-steps", "5")
    assert "could not be fetched" in cli.fails("spec", task, "--proxy", "no/such-model")


def test_search_says_none_fits(cli: CommandLine) -> None:
    texts = [f"Translate line {number} of the sea shanty into French." for number in range(20)]
    done = cli("search", write_examples(cli.home / "other.jsonl", texts))
    chosen, reason = done.stdout.splitlines()[-2:]
    assert re.fullmatch(r"chosen: the base model \(3 candidates, \d+ ms\)", chosen)
    assert re.fullmatch(
        r"none fits: the nearest, \w+, has fit 0\.\d{3}; only \d\.\d\d% of the genuine tasks of \w+ lie at least "
        r"as far from it, and 5\.00% are needed",
        reason,
    )


def test_list_and_show(cli: CommandLine) -> None:
    assert all(topic in cli("list").stdout for topic in TOPICS)
    found = json.loads(cli("list", "--where", "domain=numbers|farming", "--json").stdout)
    assert sorted(item["name"] for item in found["learnwares"]) == ["farming", "numbers"]
    found = json.loads(cli("list", "--query", "medicine", "--limit", "1", "--json").stdout)
    assert [item["name"] for item in found["learnwares"]] == ["medicine"]
    one = json.loads(cli("show", "medicine", "--json").stdout)
    assert json.loads(cli("show", one["id"], "--json").stdout) == one
    assert one["id"] in cli("show", "medicine").stdout


def test_doctor_names_what_is_there(cli: CommandLine) -> None:
    findings = {item["name"]: item for item in json.loads(cli("doctor", "--json").stdout)}
    assert findings["encoder"]["ok"]
    assert "learnwares, EdgeCatalogue" in findings["catalogue"]["detail"]
    assert findings["resolver plugin"]["ok"]
    assert findings["base models"]["detail"] == tiny.BASE_NAME
    assert "ok" in cli("doctor").stdout
    broken = cli("--encoder", "no-such/encoder", "doctor", code=1)
    assert "MISSING" in broken.stdout


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no examples"),
        (b'{"text": "a"}\n', "at least 2"),
        (b'{"text": "a"}\nnope\n', "line 2: not JSON"),
        (b'{"text": "a"}\n{"question": "b"}\n', "line 2: no field 'text'"),
        (b'{"text": "a"}\n{"text": "' + b"x" * 10_000_000 + b'"}\n', "line 2: 10000013 bytes, the limit"),
        (b'{"text": "a"}\n{"text": "\xe9"}\n', "line 2: not UTF-8"),
    ],
)
def test_bad_examples_are_named(cli: CommandLine, data: bytes, message: str) -> None:
    (cli.home / "bad.jsonl").write_bytes(data)
    assert message in cli.fails("spec", "bad.jsonl", "--out", "bad.safetensors")
    assert not (cli.home / "bad.safetensors").exists()


def test_bad_specifications_are_named_and_change_nothing(cli: CommandLine, encoder: SentenceEncoder) -> None:
    before = cli("list", "--json").stdout
    good = specify(sentences("farming", "Ask"), encoder).to_bytes()
    foreign = make_specification(1).to_bytes()
    adapter = cli.home / "adapter-farming"
    for data, message in [
        (good[: len(good) // 2], "truncated"),
        (good[:-1] + bytes([good[-1] ^ 1]), "field 'digest'"),
        (foreign, "made by encoder sixteen"),
    ]:
        (cli.home / "bad.safetensors").write_bytes(data)
        assert message in cli.fails("search", "bad.safetensors")
        assert message in cli.fails("submit", adapter, "--specification", "bad.safetensors")
    assert Specification.from_bytes(good).digest
    assert cli("list", "--json").stdout == before


def test_other_mistakes_are_named(cli: CommandLine) -> None:
    adapter = cli.home / "adapter-farming"
    assert "no such folder" in cli.fails("submit", "nowhere", "--examples", "farming.jsonl")
    assert "either --examples or" in cli.fails("submit", adapter)
    assert "field 'name'" in cli.fails("submit", adapter, "--examples", "farming.jsonl", "--name", "a/b")
    assert "no learnware 'nobody'" in cli.fails("show", "nobody")
    assert "filter 'colour=red'" in cli.fails("list", "--where", "colour=red")
    assert "no catalogue in" in cli.fails("--dock", "elsewhere", "list")
    assert "cannot be written" in cli.fails("spec", "farming.jsonl", "--out", "base/config.json/x.safetensors")
    assert "no config.json" in cli.fails("base", "add", "other", cli.home / "cache")
    assert "no such folder" in cli.fails("base", "add", "other", "nowhere")
    assert "adapters may name its folder" in cli.fails("base", "add", cli.home / "base", cli.home / "base")
    assert "--engine 'magic'" in cli.fails("serve", "--engine", "magic")
    assert "does not answer" in cli.fails("--url", "http://127.0.0.1:9", "list")


def test_base_models_are_listed_with_their_fingerprints(cli: CommandLine) -> None:
    (base,) = json.loads(cli("base", "list", "--json").stdout)
    assert len(base["weights_sha256"]) == 64
    known = {"config.json": base["config_sha256"], **base["tokenizer_sha256"], "weights": base["weights_sha256"]}
    parts = ", ".join(f"{part} {digest[:12]}" for part, digest in known.items())
    assert cli("base", "list").stdout == f"{tiny.BASE_NAME}: {base['folder']}; {parts}\n"
    (cli.home / "bare").mkdir()
    (cli.home / "bare" / "config.json").write_bytes((cli.home / "base" / "config.json").read_bytes())
    added = cli("--dock", "other-dock", "base", "add", "bare", "bare").stdout
    assert added.endswith("; weights not known, add it again with its weights\n")


def test_odd_inputs_are_named(cli: CommandLine) -> None:
    adapter = cli.home / "adapter-farming"
    assert "'zzz' is no learnware id" in cli.fails("list", "--after", "zzz")
    assert "filter of" in cli.fails("list", "--where", ",".join(["rank>=1"] * 51))
    assert "not a regular file" in cli.fails("submit", adapter, "--specification", ".")
    assert "not a regular file" in cli.fails("submit", adapter, "--examples", "farming.jsonl", "--card", ".")
    assert "no such file" in cli.fails("search", ".")
    assert "no such folder or manifest" in cli.fails("ingest", "nowhere")
    assert "own machine" in cli.fails("--url", "http://127.0.0.1:9", "base", "add", "x", cli.home / "base")
    assert "File name too long" in cli.fails("--dock", "x" * 300, "list")
    assert "\\x1b" in cli.fails("show", "\x1b[31m")


def test_spec_writes_beside_its_input(cli: CommandLine) -> None:
    (cli.home / "sub").mkdir()
    write_examples(cli.home / "sub" / "wheat.jsonl", sentences("farming", "Ask about"))
    cli("spec", "sub/wheat.jsonl")
    assert (cli.home / "sub" / "wheat.specification.safetensors").is_file()


def test_a_cache_that_cannot_be_written_is_done_without(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.environment, "XDG_CACHE_HOME", "/dev/null")
    assert "chosen: farming" in cli("search", cli.home / "farming.jsonl").stdout


def test_a_dock_that_cannot_be_written_is_named(cli: CommandLine) -> None:
    (cli.home / "file").write_text("in the way")
    error = cli.fails("--dock", "file/dock", "submit", "adapter-farming", "--examples", "farming.jsonl")
    assert "cannot be written" in error


@pytest.fixture
def gateway(cli: CommandLine) -> Iterator[str]:
    """The URL of a gateway over the command line's dock, with the exact engine behind it."""
    dock = Dock(DockConfig(cli.home / "dock"))
    engine = TransformersEngine(TransformersConfig(cli.home / "base", tiny.BASE_NAME, dock.store.root))
    parts = GatewayParts(dock.catalogue, dock.retriever, dock.indexer, (engine,), TaskStore(cli.home / "tasks"))
    try:
        with running(parts) as url:
            yield url
    finally:
        dock.close()


def test_doctor_looks_at_one_dock_alone(cli: CommandLine, gateway: str) -> None:
    def findings(*words: object) -> dict[str, dict[str, object]]:
        return {item["name"]: item for item in json.loads(cli(*words, "doctor", "--json").stdout)}

    there = findings("--dock", "elsewhere", "--url", gateway)
    assert "dock folder" not in there
    count = len(json.loads(cli("--url", gateway, "list", "--json").stdout)["learnwares"])
    assert there["catalogue"]["detail"] == f"{count} learnwares"
    assert there["base models"]["detail"] == f"{tiny.BASE_NAME} (served)"
    here = findings("--dock", "elsewhere")
    assert here["base models"]["detail"] == "none known yet"
    assert not here["catalogue"]["ok"]
    assert all(item["cure"] for item in here.values() if not item["ok"])
    cli("--url", "http://127.0.0.1:9", "doctor", code=1)


def test_a_task_gets_an_id_to_ask_by(cli: CommandLine, gateway: str) -> None:
    assert "start 'slmdock serve'" in cli.fails("task", "farming.jsonl")
    done = cli("--url", gateway, "task", "farming.jsonl").stdout.splitlines()
    assert re.fullmatch("task:[0-9a-f]{16}", done[0])
    assert done[1].startswith("farming fits: your texts look like those it was made for (fit 1.000; ")
    assert f"base URL {gateway}/v1" in done[2]
    cli("spec", "farming.jsonl", "--task", "--out", "farming.safetensors")
    same = json.loads(cli("--url", gateway, "task", "farming.safetensors", "--json").stdout)
    assert f"task:{same['id']}" == done[0]
    assert "slmdock task farming.jsonl" in cli("--url", gateway, "search", "farming.jsonl").stdout.splitlines()[-1]


def test_base_models_of_a_gateway_are_listed_by_name(cli: CommandLine, gateway: str) -> None:
    assert cli("--url", gateway, "base", "list").stdout == f"{tiny.BASE_NAME}: served at {gateway}\n"
    assert json.loads(cli("--url", gateway, "base", "list", "--json").stdout) == [{"name": tiny.BASE_NAME}]
    assert cli("--dock", "empty-dock", "base", "list").stdout.endswith(
        "; 'slmdock base add NAME FOLDER' makes one known\n"
    )


def test_what_is_missing_is_told_before_a_sketch_is_made(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, gateway: str
) -> None:
    def sketch(*_: object) -> None:
        pytest.fail("the encoder was asked")

    monkeypatch.setattr("slmdock.context.SentenceEncoder", sketch)
    assert "no catalogue in" in cli.fails("--dock", "elsewhere", "search", "farming.jsonl")
    for command in ("search", "task"):
        assert "does not answer" in cli.fails("--url", "http://127.0.0.1:9", command, "farming.jsonl")
    assert "no such folder" in cli.fails("submit", "nowhere", "--examples", "farming.jsonl")


def test_try_finds_and_keeps_a_winner(cli: CommandLine, gateway: str) -> None:
    words = ("--url", gateway, "try", "farming.jsonl", "--examples", "6", "--top", "2", "--max-tokens", "2")
    done = json.loads(cli(*words, "--score", "f1", "--keep", "--share", "--json").stdout)
    assert done["kept"]
    assert done["winner"] == done["standings"][0]
    assert len(done["standings"]) == 3
    assert done["answers"] == sum(each["examples"] for each in done["standings"])
    tried = next(name["name"] for each in done["standings"] if (name := each["candidate"])["learnware"])
    kept = json.loads(cli("--url", gateway, "quality", tried, "--json").stdout)
    assert {(signal["kind"], signal["subject"]) for signal in kept} >= {("trial", "learnware"), ("trial", "base")}
    shown = cli(*words).stdout
    for part in ("(base model)", "winner: ", "tokens, ", "P(best)"):
        assert part in shown
    assert "from now on" not in shown


def test_try_tells_what_is_known_after_ctrl_c(
    cli: CommandLine, gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(run: TrialRun, start: int, stop: int, candidates: Sequence[int]) -> object:
        if start:
            raise KeyboardInterrupt
        return np.eye(stop)[:, : len(candidates)]

    monkeypatch.setattr(TrialRun, "_ask", interrupt)
    words = ("--url", gateway, "try", "farming.jsonl", "--score", "f1", "--max-tokens", "2", "--keep", "--json")
    report = json.loads(cli(*words, code=130).stdout)
    assert (report["stopped"], report["kept"], report["examples"]) == ("interrupted", False, 8)


def test_try_names_mistakes(cli: CommandLine, gateway: str) -> None:
    assert "start 'slmdock serve'" in cli.fails("try", "farming.jsonl")
    assert "--score 'best'" in cli.fails("--url", gateway, "try", "farming.jsonl", "--score", "best")
    (cli.home / "bare.jsonl").write_text("".join(f'{{"text": "{letter}"}}\n' for letter in "abcd"))
    assert "4 of 4 examples have no 'answer'" in cli.fails("--url", gateway, "try", "bare.jsonl")


def test_real_processes_print_help_and_errors_without_a_traceback(cli: CommandLine) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "slmdock", *words],
            env=os.environ | cli.environment, cwd=cli.home, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    shown = run("--help")
    assert shown.returncode == 0
    for command in (
        "spec",
        "submit",
        "ingest",
        "list",
        "show",
        "search",
        "try",
        "serve",
        "demo",
        "doctor",
        "base",
    ):
        assert command in shown.stdout
    refused = run("spec", "no-such-file.jsonl")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "error: no-such-file.jsonl: no such file; "
        "give a JSON Lines file with a field 'text' (or 'prompt') per line\n"
    )
    assert run("no-such-command").returncode == 2
