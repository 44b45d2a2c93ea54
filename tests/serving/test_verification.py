"""Verification by running: real adapters, good and spoilt, in the exact engine; the queue; what a verdict does."""

import asyncio
import itertools
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import numpy as np
import pytest

from catalogue import Card, Learnware, State
from indexer import KnownBase
from serving import DockClient, Engine, GatewayParts, TransformersConfig, TransformersEngine
from serving import verification_queue as queue_module
from serving.engine import EngineAnswer, Route
from serving.examination import Interval, Verdict, choose, examine, rendered
from serving.verification_api import MAX_REQUEST_BYTES
from serving.verification_queue import Job, VerificationQueue
from serving.verifier import Verifier, VerifierLimits, deliver_to
from specification import Example
from specification.errors import CatalogueError, EngineError, InvalidInput, NotFound, TooLarge
from tests.serving import taught, tiny
from tests.serving.conftest import Sketch, TinyDock, open_dock
from tests.serving.doubles import EngineDouble
from tests.serving.tiny import BASE_NAME

Serving = Callable[[GatewayParts], AbstractContextManager[str]]
HELD_OUT = taught.examples(32, 99)
GAIN = Interval(mean=0.5, low=0.4, high=0.6)
PASSED = Verdict(examples=40, gain=GAIN, reading=GAIN, reading_gain=GAIN, asked=16)
WEAK = PASSED.model_copy(update={"complaints": ("it does not beat its base model",)})
BROKEN = Verdict(complaints=("its output is NaN or infinite",), broken=True, examples=40)
KINDS = ("good", "shuffled", "random", "inert", "overflows")


@pytest.fixture(scope="module")
def own(
    tmp_path_factory: pytest.TempPathFactory, base: Path, encoder: object, sketch: Sketch
) -> Iterator[TinyDock]:
    """A dock with a learnware of each kind, held back."""
    folder = tmp_path_factory.mktemp("verification")
    made = {"good": taught.good(base, folder / "good"), "shuffled": taught.shuffled(base, folder / "shuffled")}
    made["random"] = tiny.build_adapter(base, folder / "random", 5)
    made["inert"] = taught.changed(made["good"], folder / "inert", lambda one: one * 1e-9)
    made["overflows"] = taught.changed(made["good"], folder / "overflows", lambda one: one * 1e36)
    (folder / "dock").mkdir()
    with open_dock(folder / "dock", base, encoder) as dock:  # type: ignore[arg-type]
        for name, adapter in made.items():
            dock.indexer.submit(adapter, sketch("law"), Card(name=name), "checked")
        yield dock


@pytest.fixture(scope="module")
def records(own: TinyDock) -> dict[str, Learnware]:
    return {one.name: one for one in own.indexer.catalogue.scroll().learnwares}


@pytest.fixture
def queue(tmp_path: Path) -> VerificationQueue:
    return VerificationQueue(tmp_path / "verification.sqlite")


def exact(dock: TinyDock) -> Engine:
    return TransformersEngine(TransformersConfig(dock.base, BASE_NAME, dock.store))


async def test_good_ones_are_told_from_spoilt_ones(own: TinyDock, records: dict[str, Learnware]) -> None:
    engine, steps = exact(own), list[tuple[int, int]]()
    await engine.start()
    try:
        prompts = taught.as_prompts(choose(HELD_OUT))
        found = {kind: await examine(engine, records[kind], prompts) for kind in KINDS}
        again = await examine(engine, records["good"], prompts, lambda done, total: steps.append((done, total)))
    finally:
        await engine.stop()
    assert found["good"].passed, found["good"].complaints
    assert found["good"] == again
    assert steps == [(done, 6) for done in range(1, 7)]
    assert found["good"].gain is not None
    assert found["good"].gain.low > 0.5
    # It gains as much by knowing the answers alone; only that it does not read gives it away.
    assert found["shuffled"].gain is not None
    assert found["shuffled"].gain.low > 0.5
    assert not found["shuffled"].broken
    assert len(found["shuffled"].complaints) == 1
    assert any(words in found["shuffled"].complaints[0] for words in ("follow from the prompts", "tells prompts"))
    assert any("does not beat its base model" in said for said in found["random"].complaints)
    assert found["random"].asked == 16
    assert found["random"].endless > 8
    assert f"{found['random'].endless} of 16 answers do not end" in found["random"].complaints
    assert found["inert"].complaints == ("it changes nothing: its output is its base model's",)
    assert found["overflows"].complaints == ("its output is NaN or infinite",)
    assert found["inert"].broken
    assert found["overflows"].broken


async def test_what_the_engine_cannot_load_is_broken(own: TinyDock, records: dict[str, Learnware]) -> None:
    engine = exact(own)
    await engine.start()
    try:
        lost = records["good"].model_copy(update={"id": "0" * 64})
        verdict = await examine(engine, lost, taught.as_prompts(HELD_OUT))
    finally:
        await engine.stop()
    assert verdict.broken
    assert "does not load in the engine" in verdict.complaints[0]
    assert verdict.signal() is None


def test_intervals_hold_the_mean() -> None:
    values = np.random.default_rng(3).normal(1.0, 2.0, 64)
    found = Interval.of(values)
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx(values.mean(), abs=1e-6)
    # The textbook interval of a mean is 1.96 standard errors to each side.
    assert found.high - found.low == pytest.approx(2 * 1.96 * 2.0 / 8, rel=0.25)
    assert Interval.of(values) == found


def test_a_measured_gain_becomes_a_signal() -> None:
    signal = PASSED.signal()
    assert signal is not None
    assert (signal.kind, signal.value, signal.examples, signal.subject) == ("gain", 0.5, 40, "learnware")
    assert "+0.400 to +0.600" in signal.source


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        (taught.examples(15, 1), "15 examples; to verify takes 16"),
        ([Example("a question", "yes")] * 20, "same answer"),
        ([*taught.examples(19, 1), Example("a question")], "1 of 20 examples have no 'answer'"),
    ],
)
def test_examples_that_decide_nothing_are_refused(examples: list[Example], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        choose(examples)


def test_of_many_examples_the_same_ones_are_taken() -> None:
    many = [Example(f"{number} {one.text}", one.answer) for number, one in enumerate(taught.examples(500, 4))]
    assert len(choose(many)) == 64
    assert choose(many) == choose(many)
    assert set(choose(many)) < set(many)


def test_prompts_are_rendered_by_the_template(base: Path, tmp_path: Path) -> None:
    asked = [Example("a fox", "jumps")]
    assert rendered(base, asked) == [Example("user: a fox\nassistant:", "jumps")]
    assert rendered(base, asked, chat=False) == asked
    bare = tiny.build_base(tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    assert rendered(bare, asked) == asked
    with pytest.raises(InvalidInput, match="has no chat template"):
        rendered(bare, asked, chat=True)


def test_jobs_wait_in_order_and_examples_are_forgotten(queue: VerificationQueue) -> None:
    assert queue.take() is None
    assert queue.jobs() == []
    first = queue.add("a" * 64, "wheat@1", HELD_OUT, "someone", chat=False, publish=True)
    queue.add("b" * 64, "rice@1", HELD_OUT[:20], "someone")
    assert stat.S_IMODE(queue.path.stat().st_mode) == 0o600
    taken = queue.take()
    assert taken is not None
    job, examples = taken
    assert (job.number, job.reference, job.chat, job.publish) == (first.number, "wheat@1", False, True)
    assert (job.state, job.attempts, examples) == ("running", 1, HELD_OUT)
    queue.advance(job, 2, 6)
    assert [(one.done, one.total) for one in queue.jobs("a" * 64)] == [(2, 6)]
    queue.finish(job, PASSED)
    (done,) = queue.jobs("a" * 64)
    assert (done.state, done.verdict, done.over) == ("passed", PASSED, True)
    with sqlite3.connect(queue.path) as connection:
        rows = connection.execute("SELECT examples IS NULL FROM job ORDER BY number").fetchall()
    connection.close()
    assert rows == [(1,), (0,)]
    assert [one.reference for one in queue.jobs()] == ["rice@1", "wheat@1"]


def test_whoever_is_gone_leaves_its_job_to_others(
    queue: VerificationQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.add("a" * 64, "wheat@1", HELD_OUT, "someone")
    assert queue.take() is not None
    assert queue.take() is None
    later = time.time() + queue_module.ABANDONED_SECONDS + 1
    monkeypatch.setattr("time.time", lambda: later)
    taken = queue.take()
    assert taken is not None
    assert taken[0].attempts == 2
    queue.give_back(taken[0], tried=False)
    assert [(one.state, one.attempts) for one in queue.jobs()] == [("waiting", 1)]


def test_what_waits_is_asked_for_once_and_bounded(
    queue: VerificationQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "MAX_WAITING", 2)
    queue.add("a" * 64, "wheat@1", HELD_OUT, "someone")
    queue.add("a" * 64, "wheat@1", HELD_OUT[:20], "someone else")
    assert [one.who for one in queue.jobs()] == ["someone else"]
    queue.add("b" * 64, "rice@1", HELD_OUT, "someone")
    with pytest.raises(TooLarge, match="2 learnwares wait to be verified"):
        queue.add("c" * 64, "oats@1", HELD_OUT, "someone")


def test_a_damaged_queue_is_named(queue: VerificationQueue) -> None:
    queue.path.write_bytes(b"no database at all, and long enough to be looked at" * 40)
    with pytest.raises(CatalogueError, match="cannot be read or written"):
        queue.add("a" * 64, "wheat@1", HELD_OUT, "someone")


class DyingEngine(EngineDouble):
    """A double of an engine that answers nothing any more."""

    async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
        raise EngineError("the double died")


class SlowEngine(EngineDouble):
    """A double of an engine that never answers."""

    async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
        await asyncio.sleep(3600)
        raise AssertionError


def a_verifier(
    dock: TinyDock, queue: VerificationQueue, engines: Iterator[Engine], limits: VerifierLimits
) -> tuple[Verifier, list[Verdict]]:
    verdicts = list[Verdict]()

    async def deliver(job: Job, learnware: Learnware, verdict: Verdict) -> None:
        verdicts.append(verdict)

    def make(base: KnownBase, rank: int) -> Engine:
        return next(engines)

    bases = dock.indexer.bases.get
    return Verifier(queue, dock.indexer.catalogue, bases, make, deliver, limits), verdicts


async def test_a_learnware_whose_engine_dies_twice_is_blamed(
    own: TinyDock, records: dict[str, Learnware], queue: VerificationQueue
) -> None:
    queue.add(records["good"].id, "good@1", HELD_OUT, "someone", chat=False)
    engines: list[Engine] = [DyingEngine(BASE_NAME), DyingEngine(BASE_NAME)]
    verifier, verdicts = a_verifier(own, queue, iter(engines), VerifierLimits())
    await verifier.work_off()
    (verdict,) = verdicts
    assert verdict.broken
    assert "the double died" in str(verdict)
    assert [(one.state, one.attempts) for one in queue.jobs()] == [("failed", 2)]


async def test_one_engine_serves_what_waits_and_a_slow_learnware_is_stopped(
    own: TinyDock, records: dict[str, Learnware], queue: VerificationQueue
) -> None:
    for name in ("shuffled", "inert", "good"):
        queue.add(records[name].id, f"{name}@1", HELD_OUT, "someone", chat=False)
    queue.add("f" * 64, "gone@1", HELD_OUT, "someone")
    made = itertools.chain([SlowEngine(BASE_NAME)], iter([exact(own)]))
    limits = VerifierLimits(seconds=600)
    verifier, verdicts = a_verifier(own, queue, made, limits)
    verifier.limits = VerifierLimits(seconds=0.01)
    told = list[Job]()

    def hear(job: Job) -> None:
        told.append(job)
        # The first one was too slow; the others get the time they need.
        if job.over:
            verifier.limits = limits

    await verifier.work_off(hear)
    assert [verdict.passed for verdict in verdicts] == [False, False, False]
    assert "it took longer than 0.01 s" in str(verdicts[0])
    assert "changes nothing" in str(verdicts[1])
    assert {one.reference: one.state for one in queue.jobs()} == {
        "shuffled@1": "failed", "inert@1": "failed", "good@1": "failed", "gone@1": "error",
    }  # fmt: skip
    assert "removed meanwhile" in queue.jobs()[0].error
    assert (told[0].reference, told[0].state) == ("shuffled@1", "running")


async def test_what_ended_its_process_again_and_again_is_left_alone(
    own: TinyDock, records: dict[str, Learnware], queue: VerificationQueue
) -> None:
    queue.reclaim()
    queue.add(records["good"].id, "good@1", HELD_OUT, "someone")
    for attempt in range(1, 5):
        taken = queue.take()
        assert taken is not None
        assert taken[0].attempts == attempt
        assert queue.take() is None
        queue.reclaim()
    verifier, verdicts = a_verifier(own, queue, iter([]), VerifierLimits())
    await verifier.work_off()
    assert verdicts == []
    assert [(one.state, one.error) for one in queue.jobs()] == [
        ("error", "it was broken off 4 times; is memory short?")
    ]


async def test_an_engine_that_does_not_start_leaves_the_queue_as_it_was(
    own: TinyDock, records: dict[str, Learnware], queue: VerificationQueue
) -> None:
    queue.add(records["good"].id, "good@1", HELD_OUT, "someone")
    dead = EngineDouble(BASE_NAME)
    dead.mode = "dead"
    verifier, verdicts = a_verifier(own, queue, iter([dead]), VerifierLimits())
    with pytest.raises(EngineError, match="told not to start"):
        await verifier.work_off()
    assert verdicts == []
    assert [(one.state, one.attempts) for one in queue.jobs()] == [("waiting", 0)]


async def test_a_verdict_that_cannot_be_kept_does_not_hold_up_the_others(
    own: TinyDock, records: dict[str, Learnware], queue: VerificationQueue
) -> None:
    for name in ("inert", "overflows"):
        queue.add(records[name].id, f"{name}@1", HELD_OUT, "someone", chat=False)
    verifier, verdicts = a_verifier(own, queue, iter([exact(own)]), VerifierLimits())
    keep = verifier._deliver

    async def deliver(job: Job, learnware: Learnware, verdict: Verdict) -> None:
        await keep(job, learnware, verdict)
        if learnware.name == "inert":
            raise CatalogueError("the disk is full")

    verifier._deliver = deliver
    await verifier.work_off()
    assert [one.state for one in queue.jobs()] == ["failed", "error"]
    assert queue.jobs()[1].error == "its verdict could not be kept: the disk is full"
    assert len(verdicts) == 2


async def test_no_more_than_so_many_an_hour(
    own: TinyDock, records: dict[str, Learnware], queue: VerificationQueue
) -> None:
    for name in ("good", "inert"):
        queue.add(records[name].id, f"{name}@1", HELD_OUT, "someone", chat=False)
    verifier, verdicts = a_verifier(own, queue, iter([exact(own)]), VerifierLimits(per_hour=1))
    working = asyncio.create_task(verifier.work_off())
    while not verdicts:
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert sorted(one.state for one in queue.jobs()) == ["failed", "waiting"]


@pytest.mark.parametrize(
    ("taken_as", "verdict", "publish", "state"),
    [
        ("checked", PASSED, False, "verified"),
        ("checked", PASSED, True, "published"),
        ("checked", WEAK, True, "quarantined"),
        ("checked", BROKEN, True, "quarantined"),
        ("published", PASSED, False, "published"),
        ("published", WEAK, False, "published"),
        ("published", BROKEN, False, "quarantined"),
        ("quarantined", PASSED, True, "quarantined"),
    ],
)
def test_what_a_verdict_makes_of_a_learnware(
    empty_dock: TinyDock, sketch: Sketch, adapters: dict[str, Path],
    taken_as: State, verdict: Verdict, publish: bool, state: State,
) -> None:  # fmt: skip
    indexer = empty_dock.indexer
    learnware = indexer.submit(
        adapters["law"], sketch("law"), Card(name="law"), "published" if taken_as == "published" else "checked"
    )
    if taken_as == "quarantined":
        learnware = indexer.move(learnware, "quarantined", "an admin", "looks odd")
    job = Job(number=1, learnware=learnware.id, reference="law@1", who="someone", publish=publish, added=0)
    judged = deliver_to(indexer, job, learnware, verdict)
    assert judged.status == state
    assert indexer.catalogue.get([learnware.id]) == [judged]
    assert [signal.value for signal in judged.quality] == ([] if verdict.broken else [0.5])
    last = indexer.history.changes("law")[0]
    assert (last.who, last.why[:13]) == ("someone", "verification:")


def test_verification_is_asked_for_through_the_gateway(own: TinyDock, serving: Serving, sketch: Sketch) -> None:
    with serving(own.parts(EngineDouble(BASE_NAME))) as url, DockClient(url) as client:
        with pytest.raises(NotFound, match="nobody asked for good@1"):
            client.verification("good")
        job = client.verify("good", HELD_OUT, chat=False, publish=True)
        assert (job.reference, job.state, job.who, job.chat, job.publish) == (
            "good@1",
            "waiting",
            "local",
            False,
            True,
        )
        assert client.verification("good") == job
        assert client.verifications() == [job]
        assert not client.verifying()
        with pytest.raises(InvalidInput, match="3 examples; to verify takes 16"):
            client.verify("good", HELD_OUT[:3])
        with pytest.raises(NotFound, match="no learnware"):
            client.verify("nobody", HELD_OUT)
        odd = httpx.post(f"{url}/learnwares/good/verification", json={"examples": [{"prompt": "x"}]})
        assert odd.status_code == 400
        assert "field 'examples.0" in odd.json()["error"]["message"]
        with pytest.raises(TooLarge):
            client.verify("good", [*HELD_OUT, Example("x" * MAX_REQUEST_BYTES, "y")])
