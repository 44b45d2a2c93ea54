"""``slmdock top``: one frame of a live gateway, at the widths of terminals, and what is said without one."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import cast

import httpx
import pytest
from rich.console import Console

from catalogue import CatalogueSettings, open_catalogue
from indexer import AdapterStore, BaseModels, Indexer
from retriever import Retriever
from serving import DockClient, GatewayParts, TaskStore
from serving.live import (
    DockState,
    EngineState,
    LastMinute,
    LiveSnapshot,
    Quantiles,
    ReplicaLoad,
    Used,
    WholeModelsState,
    WholeModelState,
)
from slmdock import cli, top_command, top_view
from specification import SentenceEncoder
from specification.errors import EngineError
from tests.serving.conftest import running
from tests.serving.doubles import EngineDouble

LONG = "a-name-that-is-as-long-as-names-may-be-" * 2


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, encoder: SentenceEncoder) -> Iterator[str]:
    """The URL of a gateway without learnwares."""
    folder = tmp_path_factory.mktemp("dock")
    (folder / "store").mkdir()
    with open_catalogue(folder / "catalogue", CatalogueSettings.of(encoder.identity)) as catalogue:
        indexer = Indexer(catalogue, AdapterStore(folder / "store"), BaseModels(folder / "bases.json"), encoder)
        tasks = TaskStore(folder / "tasks")
        parts = GatewayParts(catalogue, Retriever(catalogue, encoder), indexer, (EngineDouble("tiny"),), tasks)
        with running(parts) as url:
            yield url


def run(*words: str, code: int = 0) -> str:
    """What the command prints, and on which of the streams for errors."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr("sys.argv", ["slmdock", *words])
        patch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert (ended.value.code or 0) == code, out.getvalue() + err.getvalue()
    return out.getvalue() + err.getvalue()


def test_one_frame(gateway: str) -> None:
    body = {"model": "tiny", "prompt": "x", "stream": True}
    with httpx.Client(trust_env=False) as client:
        assert client.post(f"{gateway}/v1/completions", json=body).status_code == 200
    printed = run("--url", gateway, "top", "--once")
    for words in (gateway, "0 learnwares", "requests/s", "base", "first token", "tiny", "up"):
        assert words in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert "\x1b" not in printed


def test_a_pipe_gets_one_frame(gateway: str) -> None:
    assert "slmdock top" in run("--url", gateway, "top")


def test_json_for_programs(gateway: str) -> None:
    document = json.loads(run("--url", gateway, "top", "--json"))
    assert document["dock"]["engines"] == [{"base_model": "tiny", "healthy": True, "replicas": []}]


def test_no_gateway_answers(unused_tcp_port: int) -> None:
    free_url = f"http://127.0.0.1:{unused_tcp_port}"
    printed = run("--url", free_url, "top", code=2)
    assert printed.startswith(f"error: the dock at {free_url} does not answer")
    assert "Traceback" not in printed


def test_no_gateway_is_known(tmp_path: Path) -> None:
    assert "start 'slmdock serve'" in run("--dock", str(tmp_path), "top", "--once", code=2)


REPLICAS = tuple(ReplicaLoad(replica=f"org/first/{one}", up=True, in_flight=7, residents=12) for one in "01")
SNAPSHOT = LiveSnapshot(
    uptime_seconds=7503,
    in_flight={"deciding": 1, "waiting": 3, "answering": 10},
    last_minute=LastMinute(
        window_seconds=60, requests=12.34, refused=0.2, failed=1, prompt_tokens=3210, completion_tokens=1_010_240,
        first_token=Quantiles(p50=0.0812, p95=0.4), decision=Quantiles(p50=0.0004, p95=0.0093), whole=None,
        decisions={"auto": 1512, "none-fits": 20, "fallback": 3},
        most_used=tuple(
            Used(model=f"{name}@0123456789abcdef", learnware="0" * 64, requests=1000, completion_tokens=99_999)
            for name in ("law", LONG, "[bold]no markup[/bold]")
        ),
    ),
    dock=DockState(
        engines=(
            EngineState(base_model="org/first", healthy=True, replicas=REPLICAS),
            EngineState(base_model="org/" + LONG, healthy=False),
        ),
        learnwares=None,
    ),
)  # fmt: skip


@pytest.mark.parametrize("width", [70, 100])
def test_a_frame_of_an_idle_gateway_is_not_cut(width: int) -> None:
    idle = SNAPSHOT.last_minute.model_copy(update={"decisions": {}, "most_used": ()})
    drawn = Console(width=width, file=io.StringIO())
    drawn.print(top_view.frame(SNAPSHOT.model_copy(update={"last_minute": idle}), "http://127.0.0.1:8000"))
    lines = cast(io.StringIO, drawn.file).getvalue().splitlines()
    assert any(re.search(r"p95 +decision +requests *$", line) for line in lines)
    assert sum("none yet" in line for line in lines) == 2


def test_whole_models_in_a_frame() -> None:
    names = {"law@0123456789abcdef": True, LONG + "@0123456789abcdef": False}
    models = tuple(
        WholeModelState(model=name, up=up, bytes=3 * 2**30, in_flight=0, idle_seconds=63 if up else 0)
        for name, up in names.items()
    )
    whole = WholeModelsState(budget=8 * 2**30, used=3 * 2**30, models=models)
    snapshot = SNAPSHOT.model_copy(update={"dock": SNAPSHOT.dock.model_copy(update={"whole": whole})})
    console = Console(width=80, file=io.StringIO(), highlight=False)
    with console.capture() as captured:
        console.print(top_view.frame(snapshot, "http://127.0.0.1:8000"))
    frame = captured.get()
    assert max(map(len, frame.splitlines())) <= 80
    for words in ("whole model", "law@0123456789abcdef", "3.00 of 8.00", "1 min 03 s", "starting"):
        assert words in frame, words


@pytest.mark.parametrize("width", [80, 120])
def test_frames_fit(width: int) -> None:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    with console.capture() as captured:
        console.print(top_view.frame(SNAPSHOT, "http://127.0.0.1:8000"))
    frame = captured.get()
    assert max(map(len, frame.splitlines())) <= width
    assert len(frame.splitlines()) <= 24
    for words in (
        "catalogue does not answer", "2 h 05 min", "1,010,240 out", "1.0 failed", "400 µs", "9.3 ms", "1,512",
        "law@01234567", "99,999",
         "[bold]no markup[/bold]", "org/first/1", "DOWN", "14 (0 queued, 1 deciding, 3 waiting",
    ):  # fmt: skip
        assert words in frame, words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.00085, "850 µs"), (0.0041, "4.1 ms"), (0.99, "990 ms"), (3.44, "3.4 s"), (63, "1 min 03 s"),
     (7500, "2 h 05 min"), (273_600, "3 d 4 h")],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert top_view.duration(seconds) == words


class Flaky:
    """A gateway that answers, then does not, then answers again."""

    url = "http://dock"

    def __init__(self) -> None:
        self.asked = 0

    def live(self) -> LiveSnapshot:
        self.asked += 1
        if self.asked == 2:
            raise EngineError("the dock at http://dock does not answer")
        return SNAPSHOT


def test_watching_goes_on_while_the_gateway_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, naps = io.StringIO(), iter([None, None, KeyboardInterrupt])

    def sleep(seconds: float) -> None:
        if next(naps) is not None:
            raise KeyboardInterrupt

    terminal = Console(file=screen, force_terminal=True, width=80, height=24)
    monkeypatch.setattr(top_command, "console", lambda: terminal)
    monkeypatch.setattr("slmdock.top_command.time.sleep", sleep)
    top_command._watch(cast(DockClient, Flaky()), 1.0)
    frames = screen.getvalue()
    assert frames.index("requests/s") < frames.index("trying again") < frames.rindex("requests/s")
