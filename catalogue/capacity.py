"""What a catalogue of N learnwares takes: bytes, nodes, fan-out and time. Arithmetic alone, it opens no catalogue.

A copy of the catalogue is cut into shards and lies on as many nodes as its memory and disk need; a query goes to
every shard of one copy, so its time is that of the slowest shard. Copies (replicas) add throughput and survive
lost nodes.
"""

from dataclasses import dataclass
from math import ceil, gcd, log

from specification import PROJECTED, views_dimension
from specification.errors import InvalidInput
from specification.prompt_sketch import PROMPT_POINTS

MAX_LEARNWARES = 10**12
COUNTS = {"dimension": 1, "encoder_dimension": 1, "points": 1, "replicas": 1, "node_cores": 1, "parameters": 0}
MAX_COUNT = 2**22
GIB = 2**30


@dataclass(frozen=True)
class Measurements:
    """What was measured of the engine, and how: the one table to change when it is measured anew.

    Qdrant Edge 0.9.0 on two cores, 10^6 drawn learnwares of one vector (``benchmarks/catalogue.py``), int8 in
    memory beside float16 on disk, m 16, ef_construct 100: ``disk_bytes`` and ``resident_bytes`` a point with its
    payload, ``load_points`` a second that one writing process loads, ``index_core_seconds`` to load and optimise
    all of it (747 s on both cores, beside other work), ``query_core_seconds`` for 100 candidates at recall .997
    after their rerank (ef 256, not rescored). ``dimension`` is the searched vector's, loading and indexing are in
    proportion to ``all_dimensions``, those of all vectors of a point.
    """

    points: int = 1_000_000
    dimension: int = 512
    all_dimensions: int = 512
    disk_bytes: int = 2800
    resident_bytes: int = 1650
    load_points: float = 13_088
    index_core_seconds: float = 1_494
    query_core_seconds: float = 0.001


MEASURED = Measurements()

# HNSW keeps 2M links of a point in its lowest layer and M in each of 1 / ln M more, four bytes each (Malkov &
# Yashunin, TPAMI 2018, section 4.2.3); the engine's M is 16.
GRAPH_BYTES = ceil(4 * (2 * 16 + 16 / log(16)))
# A specification file without its points: names, section, calibration. Measured on one of 200 texts.
FILE_BYTES = 1200
# A record as JSON with its payload indexes, resident for the indexes alone. Estimated.
RECORD_BYTES, RECORD_RESIDENT_BYTES = 1000, 200
# A server keeps specification files in the payload, as base64.
BASE64 = 4 / 3
# Qdrant advises to keep resident memory under 80 % of a node's, the rest is the page cache's.
MEMORY_SHARE = 0.8
DISK_SHARE = 0.9
# Above half of the cores' time queries wait for each other.
CORE_SHARE = 0.5
# A cluster of two cannot elect a leader when one is lost (Raft).
LEAST_CLUSTER = 3


@dataclass(frozen=True)
class Wanted:
    """What is asked of a catalogue, and what its nodes are.

    ``dimension`` is the feature map's, ``points`` are a reduced set's, ``encoder_dimension`` is theirs.
    ``prompts`` tells whether learnwares have a section for prompts, ``parameters`` how many numbers their
    parameter vectors have (0: they have none). ``shards`` None takes the fewest that fit.

    Raises:
        InvalidInput: a number is out of bounds.
    """

    learnwares: int
    dimension: int
    encoder_dimension: int
    points: int
    queries_a_second: float = 1.0
    replicas: int = 1
    shards: int | None = None
    prompts: bool = True
    parameters: int = 0
    node_memory_gib: float = 64.0
    node_disk_gib: float = 1000.0
    node_cores: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.learnwares <= MAX_LEARNWARES:
            raise InvalidInput(f"{self.learnwares} learnwares: 1 to {MAX_LEARNWARES} can be planned")
        for name, least in COUNTS.items():
            if not least <= getattr(self, name) <= MAX_COUNT:
                raise InvalidInput(f"{name} is {getattr(self, name)}, {least} to {MAX_COUNT} can be planned")
        for name in ("node_memory_gib", "node_disk_gib"):
            if not 0 < getattr(self, name) < 1e9:
                raise InvalidInput(f"{name} is {getattr(self, name)}, a positive number is needed")
        if not 0 <= self.queries_a_second < 1e9:
            raise InvalidInput(f"{self.queries_a_second} queries a second: a number from 0 is needed")


@dataclass(frozen=True)
class Part:
    """Bytes of one learnware in one copy of the catalogue; ``rebuilt`` with a new version of the feature map."""

    name: str
    disk: int
    resident: int
    rebuilt: bool = True


@dataclass(frozen=True)
class Layout:
    """How copies of a catalogue lie on nodes: ``shards`` of ``shard_points`` each, ``replicas`` of each shard.

    A node holds up to ``held`` shards. Every query goes to all ``shards``, to one replica of each (the fan-out);
    ``queries_a_second`` is what the nodes answer with ``CORE_SHARE`` of their cores.
    """

    nodes: int
    replicas: int
    shards: int
    held: int
    shard_points: int
    queries_a_second: float


@dataclass(frozen=True)
class CatalogueNeeds:
    """The plan. Bytes are of one copy, times are in seconds.

    ``nodes_by_memory`` and ``nodes_by_disk`` hold one copy, the disk two versions of its index, since a new one is
    built beside the old; ``replicas_by_queries`` copies answer the queries. ``query_seconds`` is one shard's,
    without waiting. ``slowest_percentile`` is the percentile of one shard's time that 99 % of queries stay under
    (Dean & Barroso, "The Tail at Scale", CACM 2013: each of s shards must be fast, so it is 100 * .99^(1/s)).
    ``load_seconds`` and ``index_seconds`` make a new version; until the switch it takes ``reindex_nodes``.
    """

    parts: tuple[Part, ...]
    disk_bytes: int
    resident_bytes: int
    nodes_by_memory: int
    nodes_by_disk: int
    replicas_by_queries: int
    layout: Layout
    limit: str
    query_seconds: float
    query_core_seconds: float
    slowest_percentile: float
    load_seconds: float
    index_seconds: float
    reindex_disk_bytes: int
    reindex_resident_bytes: int
    reindex_nodes: int


def plan_catalogue(wanted: Wanted, measured: Measurements = MEASURED) -> CatalogueNeeds:
    """Returns what a catalogue takes.

    Raises:
        InvalidInput: ``shards`` are so few that one of them would not fit a node.
    """
    count = wanted.learnwares
    parts = parts_of(wanted, measured)
    disk, resident = count * sum(part.disk for part in parts), count * sum(part.resident for part in parts)
    rebuilt = [part for part in parts if part.rebuilt]
    both_disk = disk + count * sum(part.disk for part in rebuilt)
    both_resident = resident + count * sum(part.resident for part in rebuilt)
    by_memory = _nodes(resident, MEMORY_SHARE * wanted.node_memory_gib, wanted.shards)
    by_disk = _nodes(both_disk, DISK_SHARE * wanted.node_disk_gib, wanted.shards)
    span = max(by_memory, by_disk)
    by_queries = _replicas_for(span, wanted, measured)
    layout = _spread(span, max(wanted.replicas, by_queries), wanted, measured)
    if layout.queries_a_second < wanted.queries_a_second:
        layout = _spread(span, layout.replicas + 1, wanted, measured)
    one = query_seconds(layout.shard_points, wanted.dimension, measured)
    return CatalogueNeeds(
        parts=parts,
        disk_bytes=disk,
        resident_bytes=resident,
        nodes_by_memory=by_memory,
        nodes_by_disk=by_disk,
        replicas_by_queries=by_queries,
        layout=layout,
        limit=_limit(by_memory, by_disk, by_queries, wanted.replicas, layout),
        query_seconds=one,
        query_core_seconds=layout.shards * one,
        slowest_percentile=100 * 0.99 ** (1 / layout.shards),
        load_seconds=count * _width(wanted, measured) / measured.load_points,
        index_seconds=layout.held * _index_core_seconds(layout.shard_points, wanted, measured) / wanted.node_cores,
        reindex_disk_bytes=both_disk,
        reindex_resident_bytes=both_resident,
        reindex_nodes=max(
            layout.nodes, _nodes(layout.replicas * both_resident, MEMORY_SHARE * wanted.node_memory_gib)
        ),
    )


def _replicas_for(span: int, wanted: Wanted, measured: Measurements) -> int:
    """Returns how many copies answer the queries, each on ``span`` nodes."""
    shards = wanted.shards or span
    one = query_seconds(ceil(wanted.learnwares / shards), wanted.dimension, measured)
    cores = CORE_SHARE * wanted.node_cores
    return max(1, ceil(wanted.queries_a_second * ceil(shards / span) * one / cores))


def _spread(span: int, replicas: int, wanted: Wanted, measured: Measurements) -> Layout:
    """Spreads copies over nodes. Where a cluster has more nodes than copies need, more shards use them all."""
    nodes = span * replicas if span * replicas == 1 else max(LEAST_CLUSTER, span * replicas)
    fewest = span if nodes == span * replicas else nodes // gcd(nodes, replicas)
    shards = wanted.shards or fewest
    held = ceil(shards * replicas / nodes)
    shard_points = ceil(wanted.learnwares / shards)
    one = query_seconds(shard_points, wanted.dimension, measured)
    # A shard's copy gets its share of the queries, and the fullest node has `held` of them.
    queries = CORE_SHARE * wanted.node_cores * replicas / (held * one)
    return Layout(nodes, replicas, shards, held, shard_points, queries)


def parts_of(wanted: Wanted, measured: Measurements = MEASURED) -> tuple[Part, ...]:
    """Returns the bytes of a learnware by part.

    A vector of d dimensions takes 4d bytes on disk, d in memory and on disk (int8), and its place in the graph;
    what a point takes besides was measured with the first. A reduced set of m points takes m (2d + 4) bytes.
    """
    point_disk = measured.disk_bytes - 5 * measured.dimension
    point_resident = measured.resident_bytes - measured.dimension
    views = views_dimension(wanted.encoder_dimension)
    file = FILE_BYTES + wanted.points * (2 * wanted.encoder_dimension + 4)
    first = Part("specification vector", 5 * wanted.dimension + point_disk, wanted.dimension + point_resident)
    found = [first, _vector("description vector", wanted.encoder_dimension)]
    if wanted.prompts:
        found.append(_vector("prompt vector", views))
        file += PROMPT_POINTS * 2 * views
    if wanted.parameters:
        found.append(_vector("parameter vector", PROJECTED))
        file += 2 * wanted.parameters
    found.append(Part("specification file", ceil(BASE64 * file), 0, rebuilt=False))
    found.append(Part("record and its indexes", RECORD_BYTES, RECORD_RESIDENT_BYTES, rebuilt=False))
    return tuple(found)


def query_seconds(points: int, dimension: int, measured: Measurements = MEASURED) -> float:
    """Returns the time of one query to one shard: HNSW visits a number of points that grows as ln n (Malkov &
    Yashunin, section 4.2.1), each at a cost that grows with the dimension."""
    return measured.query_core_seconds * _log_ratio(points, measured) * dimension / measured.dimension


def _index_core_seconds(points: int, wanted: Wanted, measured: Measurements) -> float:
    """Building HNSW is one search a point: n ln n (Malkov & Yashunin, section 4.2.2)."""
    share = points / measured.points * _log_ratio(points, measured)
    return measured.index_core_seconds * share * _width(wanted, measured)


def _log_ratio(points: int, measured: Measurements) -> float:
    return log(max(points, 2)) / log(measured.points)


def _width(wanted: Wanted, measured: Measurements) -> float:
    """How many dimensions all vectors of a learnware have, as a multiple of those that were measured."""
    sections = [wanted.dimension, wanted.encoder_dimension]
    sections += [views_dimension(wanted.encoder_dimension)] if wanted.prompts else []
    sections += [PROJECTED] if wanted.parameters else []
    return sum(sections) / measured.all_dimensions


def _vector(name: str, dimension: int) -> Part:
    return Part(name, 5 * dimension + GRAPH_BYTES, dimension + GRAPH_BYTES)


def _nodes(size: int, gib: float, shards: int | None = None) -> int:
    """Returns how many nodes with ``gib`` GiB for it hold one copy of ``size`` bytes, cut into whole shards."""
    fewest = max(1, ceil(size / (gib * GIB)))
    if shards is None:
        return fewest
    if shards < fewest:
        raise InvalidInput(f"{shards} shards: one would not fit a node; {fewest} or more are needed")
    return ceil(shards / max(1, int(shards * gib * GIB / size)))


def _limit(by_memory: int, by_disk: int, by_queries: int, replicas: int, layout: Layout) -> str:
    """Names what makes the nodes as many as they are, nothing where one does."""
    found = ["memory" if by_memory >= by_disk else "disk"] if max(by_memory, by_disk) > 1 else []
    if by_queries > replicas:
        found.append("queries")
    elif replicas > 1:
        found.append("the copies wished for")
    if layout.nodes > max(by_memory, by_disk) * max(by_queries, replicas):
        found.append(f"a cluster's least, {LEAST_CLUSTER}")
    return " and ".join(found)
