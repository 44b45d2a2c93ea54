"""The plan of a catalogue: numbers worked out by hand, and what must hold for every plan."""

from dataclasses import replace
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogue.capacity import (
    CORE_SHARE,
    DISK_SHARE,
    GIB,
    MEMORY_SHARE,
    Measurements,
    Wanted,
    parts_of,
    plan_catalogue,
    query_seconds,
)
from specification.errors import InvalidInput

# Round numbers: a learnware of 2 000 bytes of disk and 1 000 of memory for its first vector.
ROUND = Measurements(
    points=10_000, dimension=100, all_dimensions=100, disk_bytes=2000, resident_bytes=1000, load_points=1000,
    index_core_seconds=100, query_core_seconds=0.001,
)  # fmt: skip
SMALL = Wanted(10_000, dimension=100, encoder_dimension=100, points=10, prompts=False, node_cores=2)


def test_bytes_by_part() -> None:
    # A vector of 100: 400 + 100 bytes, and 4 * (32 + 16 / ln 16) = 152 of graph. A file: 1 200 + 10 * 204, and a
    # third.
    sizes = {part.name: (part.disk, part.resident) for part in parts_of(SMALL, ROUND)}
    assert sizes == {
        "specification vector": (2000, 1000),
        "description vector": (652, 252),
        "specification file": (4320, 0),
        "record and its indexes": (1000, 200),
    }
    wider = parts_of(replace(SMALL, dimension=200), ROUND)[0]
    assert (wider.disk, wider.resident) == (2500, 1100)


def test_sections_are_counted() -> None:
    plain = sum(part.disk for part in parts_of(SMALL, ROUND))
    # The projection of 256, its int8, its graph, and 3 000 float16 numbers in base64.
    with_parameters = sum(part.disk for part in parts_of(replace(SMALL, parameters=3000), ROUND))
    assert with_parameters - plain == 5 * 256 + 152 + 8000
    # Joined views are 275 longer than the encoder's vector; four of float16 in the file, in base64.
    with_prompts = sum(part.disk for part in parts_of(replace(SMALL, prompts=True), ROUND))
    assert with_prompts - plain == pytest.approx(5 * 375 + 152 + 4 * 2 * 375 * 4 / 3, abs=1)


def test_one_node_does() -> None:
    needs = plan_catalogue(SMALL, ROUND)
    assert needs.disk_bytes == 10_000 * (2000 + 652 + 4320 + 1000)
    assert needs.resident_bytes == 10_000 * (1000 + 252 + 200)
    assert needs.reindex_disk_bytes == needs.disk_bytes + 10_000 * 2652
    assert needs.reindex_resident_bytes == needs.resident_bytes + 10_000 * 1252
    assert (needs.layout.nodes, needs.layout.shards, needs.layout.replicas) == (1, 1, 1)
    assert needs.limit == ""
    # 1 ms a query, two cores, half of their time: 1 000 a second.
    assert needs.layout.queries_a_second == pytest.approx(1000)
    # Two vectors as wide as the one that was measured: 10 s and 100 core seconds become twice as much.
    assert needs.load_seconds == pytest.approx(20)
    assert needs.index_seconds == pytest.approx(2 * 100 / 2)
    assert needs.slowest_percentile == pytest.approx(99)


def test_memory_sets_the_nodes_of_a_copy() -> None:
    wanted = replace(SMALL, learnwares=10**6, node_memory_gib=0.5)
    needs = plan_catalogue(wanted, ROUND)
    # 1 452 MB by .4 GiB each: 3.38, so four nodes; four shards of 250 000, each query to all of them.
    assert needs.nodes_by_memory == 4
    assert (needs.layout.nodes, needs.layout.shards, needs.layout.shard_points) == (4, 4, 250_000)
    assert needs.limit == "memory"
    one = 0.001 * log(250_000) / log(10_000)
    assert needs.query_seconds == pytest.approx(one)
    assert needs.query_core_seconds == pytest.approx(4 * one)
    # Each node works for each query, so four nodes answer no more of them than one of that size would.
    assert needs.layout.queries_a_second == pytest.approx(1 / one)
    assert needs.slowest_percentile == pytest.approx(99.749, abs=1e-3)


def test_disk_sets_the_nodes_of_a_copy() -> None:
    needs = plan_catalogue(replace(SMALL, learnwares=10**6, node_disk_gib=5), ROUND)
    # 10 624 MB with both versions, by 4.5 GiB each: 2.2.
    assert (needs.nodes_by_disk, needs.nodes_by_memory, needs.limit) == (3, 1, "disk")


def test_queries_set_the_copies() -> None:
    needs = plan_catalogue(replace(SMALL, queries_a_second=4500), ROUND)
    assert (needs.replicas_by_queries, needs.layout.replicas, needs.layout.nodes) == (5, 5, 5)
    assert needs.limit == "queries"


def test_a_cluster_has_three_nodes_and_uses_them() -> None:
    two = plan_catalogue(replace(SMALL, replicas=2), ROUND)
    assert (two.layout.nodes, two.layout.replicas, two.layout.shards, two.layout.held) == (3, 2, 3, 2)
    assert two.limit == "the copies wished for and a cluster's least, 3"
    # Two copies that the queries need: as three shards on three nodes they would answer too few.
    busy = plan_catalogue(replace(SMALL, queries_a_second=1900), ROUND)
    assert (busy.layout.nodes, busy.layout.replicas, busy.layout.shards) == (3, 3, 1)


def test_shards_may_be_more_for_growth_but_must_fit() -> None:
    wanted = replace(SMALL, learnwares=10**6, node_memory_gib=0.5)
    needs = plan_catalogue(replace(wanted, shards=12), ROUND)
    assert (needs.layout.shards, needs.layout.nodes, needs.layout.held) == (12, 4, 3)
    # Of five shards only one fits a node, so a copy takes five.
    assert plan_catalogue(replace(wanted, shards=5), ROUND).layout.nodes == 5
    with pytest.raises(InvalidInput, match="3 shards: one would not fit a node; 4 or more"):
        plan_catalogue(replace(wanted, shards=3), ROUND)


def test_a_query_grows_with_the_logarithm_and_the_dimension() -> None:
    assert query_seconds(10_000, 100, ROUND) == pytest.approx(0.001)
    assert query_seconds(10_000**2, 300, ROUND) == pytest.approx(0.006)
    assert query_seconds(1, 100, ROUND) > 0


@given(
    learnwares=st.integers(1, 10**10),
    queries=st.floats(0, 1e5),
    replicas=st.integers(1, 5),
    shards=st.none() | st.integers(1, 500),
    memory=st.floats(0.5, 1024),
    disk=st.floats(1, 10_000),
    cores=st.integers(1, 256),
)
def test_every_plan_fits_its_nodes_and_answers_the_queries(
    learnwares: int, queries: float, replicas: int, shards: int | None, memory: float, disk: float, cores: int
) -> None:
    wanted = Wanted(learnwares, 512, 384, 32, queries, replicas, shards, True, 0, memory, disk, cores)
    try:
        needs = plan_catalogue(wanted)
    except InvalidInput:
        assert shards is not None
        assert shards < max(plan_catalogue(replace(wanted, shards=None)).layout.shards, 2)
        return
    layout = needs.layout
    share = layout.held / layout.shards
    assert share * needs.resident_bytes <= MEMORY_SHARE * memory * GIB * (1 + 1e-9)
    assert share * needs.reindex_disk_bytes <= DISK_SHARE * disk * GIB * (1 + 1e-9)
    assert layout.queries_a_second >= queries * (1 - 1e-9)
    assert queries * needs.query_core_seconds <= CORE_SHARE * cores * layout.nodes * (1 + 1e-9)
    assert layout.replicas >= replicas
    assert layout.shards * layout.shard_points >= learnwares
    assert layout.nodes == 1 or layout.nodes >= 3
    assert layout.held * layout.nodes >= layout.shards * layout.replicas
    assert shards is not None or layout.shards * layout.replicas >= layout.nodes
    assert needs.reindex_nodes >= layout.nodes


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learnwares": 0}, "0 learnwares"),
        ({"replicas": 0}, "replicas is 0"),
        ({"points": 2**23}, "points is 8388608"),
        ({"node_memory_gib": float("nan")}, "node_memory_gib is nan"),
        ({"queries_a_second": -1}, "-1 queries a second"),
        ({"shards": 0}, "0 shards"),
    ],
)
def test_wishes_are_checked(fields: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        plan_catalogue(replace(SMALL, **fields), ROUND)  # type: ignore[arg-type]
