"""The whole way in real processes: a serving dock that other commands go through, and the demo on vLLM."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from slmdock.demo.texts import USER_TASKS
from tests.serving import tiny

SUBMIT = ("submit", "adapter", "--examples", "wheat.jsonl", "--name")


def start(home: Path, *words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"SLMDOCK_HOME": str(home / "dock"), "XDG_CACHE_HOME": str(home / "cache")}
    return subprocess.Popen(
        [sys.executable, "-m", "slmdock", *words],
        env=environment, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(home: Path, *words: str, code: int = 0) -> tuple[str, str]:
    process = start(home, *words)
    out, err = process.communicate(timeout=550)
    assert process.returncode == code, out + err
    return out, err


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dock with one learnware, a second adapter beside it, and examples."""
    folder = tmp_path_factory.mktemp("home")
    base = tiny.build_base(folder / "base")
    tiny.build_adapter(base, folder / "adapter", 1)
    tiny.build_adapter(base, folder / "second", 2)
    for topic in ("wheat", "bones"):
        lines = [json.dumps({"text": f"Tell me about {topic}, part {part}."}) for part in range(20)]
        (folder / f"{topic}.jsonl").write_text("\n".join(lines))
    run(folder, "base", "add", tiny.BASE_NAME, "base")
    run(folder, *SUBMIT, "wheat")
    return folder


@pytest.fixture(scope="module")
def gateway(home: Path) -> Iterator[str]:
    """``slmdock serve`` with the transformers engine, which starts at once."""
    process = start(home, "serve", "--engine", "transformers", "--port", "0")
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    found = re.match(r"serving at (http://127\.0\.0\.1:\d+)$", line.strip())
    assert found, line + process.stderr.read()
    yield found[1]
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    # The folder is free again and everything that went in through the gateway is there.
    assert {item["name"] for item in json.loads(run(home, "list", "--json")[0])["learnwares"]} == {
        "wheat",
        "bones",
    }


def test_other_commands_go_through_the_serving_dock(home: Path, gateway: str) -> None:
    assert "held by the running gateway" in run(home, "doctor")[0]
    run(home, "submit", "second", "--examples", "bones.jsonl", "--name", "bones")
    found = json.loads(run(home, "search", "bones.jsonl", "--json")[0])
    assert found["decision"]["learnware"]["name"] == "bones"
    assert json.loads(run(home, "show", "bones", "--json")[0])["version"] == 1
    assert "no learnware 'nobody'" in run(home, "show", "nobody", code=2)[1]
    assert "only adapter_model.bin" in _submit_pickle(home)


def _submit_pickle(home: Path) -> str:
    folder = home / "pickled"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.bin").write_bytes(b"")
    return run(home, "submit", "pickled", "--examples", "wheat.jsonl", code=2)[1]


def test_the_ten_lines_of_the_readme_run(home: Path, gateway: str) -> None:
    readme = Path(__file__).parents[2].joinpath("README.md").read_text()
    code = readme.split("```python\n")[1].split("```")[0]
    assert "http://127.0.0.1:8000" in code
    code = code.replace("http://127.0.0.1:8000", gateway).replace("my-task.jsonl", "wheat.jsonl")
    code = code.replace("stream=True", "stream=True, max_tokens=8")
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    reason, answer = done.stdout.split("\n", 1)
    assert reason.startswith("wheat fits: your text")
    assert answer


def test_examples_become_a_streamed_answer(gateway: str) -> None:
    with OpenAI(base_url=f"{gateway}/v1", api_key="unused", max_retries=0) as client:
        stream = client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "Tell me about wheat, part 7."}],
            max_tokens=6, temperature=0, stream=True,
        )  # fmt: skip
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        assert len([piece for piece in pieces if piece]) > 1
        whole = client.chat.completions.with_raw_response.create(
            model="auto", messages=[{"role": "user", "content": "Tell me about wheat, part 7."}],
            max_tokens=6, temperature=0,
        )  # fmt: skip
        assert whole.parse().choices[0].message.content == "".join(pieces)
        assert whole.headers["x-slmdock-model"].startswith("wheat@")
        assert whole.headers["x-slmdock-decision"] == "auto"
    answer = httpx.get(f"{gateway}/ready", trust_env=False)
    assert answer.json() == {"ready": True, "engine": True, "catalogue": True}


def _chosen(row: dict[str, str]) -> set[str]:
    """The learnwares in a row; those of a mixture stand there with their weights."""
    return {re.sub(r"^\d+% ", "", part) for part in row["chosen"].split(" + ")}


@pytest.mark.timeout(600)
def test_the_demo_runs_the_whole_way_on_vllm(tmp_path: Path) -> None:
    out, _ = run(tmp_path, "demo", "--scale", "tiny", "--folder", str(tmp_path / "demo"))
    document = json.loads(out.splitlines()[-1])
    rows = {row["task"]: row for row in document["rows"]}
    assert set(rows) == set(USER_TASKS)
    mixtures = {name: task for name, task in USER_TASKS.items() if len(task.sources) > 1}
    assert [len(_chosen(rows[name])) for name in mixtures] == [2, 2]
    right = [_chosen(rows[name]) <= set(task.sources) for name, task in USER_TASKS.items() if task.sources]
    assert sum(right) >= 13
    assert [rows[name]["chosen"] for name, task in USER_TASKS.items() if not task.sources] == [None] * 3
    for row in rows.values():
        assert 0 <= row["score"] <= 1
        assert row["tokens"] > 0
        assert row["task"] in out
    assert (tmp_path / "demo" / "models" / "manifest.json").is_file()
