"""From options to pools, without starting any."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from catalogue import Card
from serving import RemoteEngine, TransformersEngine, VllmProcess
from serving.vllm_options import command
from slmdock.dock import Dock, DockConfig
from slmdock.stack import StackConfig, choose_bases, make_pools, pin_all
from specification import SentenceEncoder, specify
from specification.errors import InvalidInput, NotFound
from tests.serving import tiny


@pytest.fixture(scope="module")
def dock(tmp_path_factory: pytest.TempPathFactory) -> Dock:
    folder = tmp_path_factory.mktemp("pools")
    dock = Dock(DockConfig(folder / "dock"))
    for name in ("first", "second"):
        dock.bases.add(name, tiny.build_base(folder / name))
    return dock


def test_urls_go_to_their_base(dock: Dock) -> None:
    urls = ("http://a:1", "second=http://b:2", "http://c:3/?x=y", "second=http://d:4")
    config = StackConfig(bases=("first", "second"), engine_urls=urls)
    found = []
    for pool in make_pools(dock, config, print):
        engines = [replica.engine for replica in pool.replicas]
        found.append((pool.base_model, [one.config.url for one in engines if isinstance(one, RemoteEngine)]))
    assert found == [("first", ["http://a:1", "http://c:3/?x=y"]), ("second", ["http://b:2", "http://d:4"])]


def test_replicas_of_each_base(dock: Dock) -> None:
    config = StackConfig(bases=("second", "first"), engine="transformers", replicas=2)
    pools = make_pools(dock, config, print)
    assert [replica.name for pool in pools for replica in pool.replicas] == [
        "second/0", "second/1", "first/0", "first/1",
    ]  # fmt: skip
    assert all(isinstance(replica.engine, TransformersEngine) for pool in pools for replica in pool.replicas)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (StackConfig(), "known: first, second"),
        (StackConfig(bases=("first", "first")), "twice"),
        (StackConfig(bases=("first",), engine_urls=("third=http://a",)), "'third' is none of the bases first"),
    ],
)
def test_contradictions(config: StackConfig, words: str, dock: Dock) -> None:
    with pytest.raises(InvalidInput, match=words):
        make_pools(dock, config, print)


def test_a_base_that_is_not_known(dock: Dock) -> None:
    with pytest.raises(NotFound, match="third"):
        choose_bases(dock, ("third",))


@pytest.fixture(scope="module")
def law(tmp_path_factory: pytest.TempPathFactory, encoder: SentenceEncoder) -> Iterator[Dock]:
    """A dock with two bases and one learnware."""
    folder = tmp_path_factory.mktemp("law")
    dock = Dock(DockConfig(folder / "dock"))
    base = tiny.build_base(folder / "base")
    for name in (tiny.BASE_NAME, "second"):
        dock.bases.add(name, base)
    adapter = tiny.build_adapter(base, folder / "adapter", seed=0)
    dock.submit(adapter, specify(["a contract", "a lease"], encoder), Card(name="law"))
    yield dock
    dock.close()


def test_pins_go_to_their_base(law: Dock) -> None:
    second, first = make_pools(law, StackConfig(bases=("second", tiny.BASE_NAME), engine="transformers"), print)
    pin_all(law, ("law",), (second, first))
    assert (first.pins, second.pins) == ((law.learnware("law").engine_name,), ())
    with pytest.raises(InvalidInput, match="--pin law: its base model is 'tiny-base', served are second"):
        pin_all(law, ("law",), (second,))
    with pytest.raises(NotFound, match="nobody"):
        pin_all(law, ("nobody",), (first,))


def test_vllm_gets_what_is_meant_for_it(law: Dock) -> None:
    config = StackConfig(bases=(tiny.BASE_NAME,), vllm_args=("--tool-call-parser=hermes",))
    (pool,) = make_pools(law, config, print)
    engine = pool.replicas[0].engine
    assert isinstance(engine, VllmProcess)
    assert command(engine.config, Path("socket"))[-1] == "--tool-call-parser=hermes"
