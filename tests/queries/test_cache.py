"""The query cache: bounded in bytes, forgets exactly what was touched, returns only its version."""

import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics.columnar import rollup_table
from redismetrics.columnar.rollup_table import Table
from redismetrics.columnar.samples import Samples
from redismetrics.columnar.summaries import Summaries
from redismetrics.queries.cache import Cache, FieldData, PageKey

NAME = "m"
KEY: PageKey = ("minute", 0, 0)


def rows(count: int, metadata: dict[int, bytes] | None = None) -> Samples:
    whole = np.zeros(count, np.int64)
    return Samples(whole, whole, np.zeros(count), whole, np.zeros(count, np.uint8), metadata or {})


def uniform(count: int) -> Table:
    whole, real = np.zeros(count, np.int64), np.zeros(count)
    rolled = Summaries(whole + 1, real, real, real, real, real, whole)
    nothing = rollup_table.Points(np.zeros(0), np.zeros(0, np.int64))
    return Table(
        whole, whole, rolled, np.full(count, rollup_table.UNIFORM, np.uint8), whole, nothing
    )


def keep(cache: Cache, name: str, key: PageKey, fields: dict[str, FieldData]) -> None:
    """Put fields into a cache at its current version."""
    if cache.version(name) is None:
        cache.advance(name, None, b"1.a", None)
    cache.put_fields(name, cache.version(name), key, fields)


def held(cache: Cache, name: str, key: PageKey) -> dict[str, FieldData]:
    return cache.fields(name, cache.version(name), key)


# -- size -----------------------------------------------------------

NAMES = st.sampled_from(["a", "b"])
KEYS = st.sampled_from([("minute", 0, 0), ("minute", 0, 1), ("hour", 0, 0), ("raw", 3_600_000, 0)])
FIELDS = st.dictionaries(
    st.sampled_from(["segment/0", "60/0", "120/0"]),
    st.none() | st.integers(0, 60).map(rows),
    min_size=1,
)


@settings(max_examples=100)
@given(st.integers(0, 8000), st.lists(st.tuples(NAMES, KEYS, FIELDS | st.none()), max_size=25))
def test_least_recently_used_pages_are_dropped_until_all_fit(
    limit: int, steps: list[tuple[str, PageKey, dict[str, FieldData] | None]]
) -> None:
    """Each step puts fields into a page, or reads it; *pages* is the oracle, least recent first."""
    cache, pages = Cache(limit), dict[tuple[str, PageKey], dict[str, FieldData]]()

    def size() -> int:
        return sum(
            200 + sum(100 + (part.nbytes if part else 0) for part in page.values())
            for page in pages.values()
        )

    for name, key, fields in steps:
        page = pages.pop((name, key), {})
        if fields is None:
            assert held(cache, name, key) == page
        else:
            keep(cache, name, key, fields)
        if page or fields:
            pages[name, key] = page | (fields or {})
        while size() > limit:
            pages.pop(next(iter(pages)))
        assert cache.nbytes == size() <= limit
    for (name, key), page in pages.items():
        assert held(cache, name, key) == page
    for name in ("a", "b"):
        cache.advance(name, cache.version(name), b"2.b", None)
    assert cache.nbytes == 0


def test_page_larger_than_the_limit_is_not_kept_and_evicts_the_others() -> None:
    cache = Cache(5_000)
    keep(cache, NAME, KEY, {"60/0": rows(10)})
    keep(cache, NAME, ("hour", 0, 0), {"0/0": rows(1000)})
    assert cache.nbytes == 0
    assert not held(cache, NAME, KEY)


def test_metadata_counts_towards_the_size() -> None:
    bare, with_metadata = Cache(1 << 20), Cache(1 << 20)
    keep(bare, NAME, KEY, {"60/0": rows(3)})
    keep(with_metadata, NAME, KEY, {"60/0": rows(3, {1: b"x" * 4000})})
    assert with_metadata.nbytes >= bare.nbytes + 4000


def test_cache_with_limit_zero_keeps_nothing() -> None:
    cache = Cache(0)
    keep(cache, NAME, KEY, {"60/0": None})
    assert held(cache, NAME, KEY) == {}
    assert cache.nbytes == 0


def test_size_is_right_after_a_field_is_replaced() -> None:
    cache = Cache(1 << 20)
    sizes = []
    for count in (5, 50, 0, 5):
        keep(cache, NAME, KEY, {"60/0": rows(count)})
        sizes.append(cache.nbytes)
    assert sizes[0] == sizes[3]
    assert sizes[1] - sizes[2] == rows(50).nbytes


# -- invalidation -----------------------------------------------------------


def test_only_touched_fields_are_forgotten() -> None:
    cache = Cache(1 << 20)
    pages: list[PageKey] = [
        ("minute", 0, 0),
        ("minute", 0, 1),
        ("minute", 3_600_000, 0),
        ("raw", 0, 0),
    ]
    fields: dict[str, FieldData] = {"segment/0": rows(1), "60/0": rows(2), "120/0": None}
    for key in pages:
        keep(cache, NAME, key, fields)
    keep(cache, "other", KEY, fields)
    before = cache.nbytes
    cache.advance(NAME, b"1.a", b"2.b", [(KEY, "60/0"), (KEY, "180/0"), (("day", 0, 0), "60/0")])
    assert held(cache, NAME, KEY) == {"segment/0": fields["segment/0"], "120/0": None}
    assert all(held(cache, NAME, key) == fields for key in pages[1:])
    assert held(cache, "other", KEY) == fields
    assert cache.nbytes == before - 100 - rows(2).nbytes
    # None is cached too, and must be forgotten.
    cache.advance(NAME, b"2.b", b"3.c", [(KEY, "120/0")])
    assert held(cache, NAME, KEY) == {"segment/0": fields["segment/0"]}


def test_whole_page_can_be_forgotten() -> None:
    cache = Cache(1 << 20)
    keep(cache, NAME, ("hour", 0, 0), {"segment/0": rows(1)})
    before = cache.nbytes
    keep(cache, NAME, KEY, {"segment/0": rows(1), "60/0": rows(2)})
    cache.advance(NAME, b"1.a", b"2.b", [(KEY, None)])
    assert held(cache, NAME, KEY) == {}
    assert held(cache, NAME, ("hour", 0, 0))
    assert cache.nbytes == before


def test_assembled_table_is_kept_for_its_slots_until_the_page_is_touched() -> None:
    cache = Cache(1 << 20)
    keep(cache, NAME, KEY, {"60/0": rows(2), "120/0": rows(2)})
    bare, table = cache.nbytes, uniform(50)
    # Read at another version than that of the cache.
    cache.put_table(NAME, b"0.z", KEY, [60, 120], table)
    assert cache.table(NAME, b"1.a", KEY, [60, 120]) is None
    cache.put_table(NAME, b"1.a", KEY, [60, 120], table)
    # Of a page that is not cached any more.
    cache.put_table(NAME, b"1.a", ("hour", 0, 0), [60, 120], table)
    assert cache.nbytes == bare + table.nbytes
    assert cache.table(NAME, b"1.a", KEY, [60, 120]) is table
    assert cache.table(NAME, b"1.a", KEY, [60]) is None
    assert cache.table(NAME, b"1.b", KEY, [60, 120]) is None
    cache.advance(NAME, b"1.a", b"2.b", [(("hour", 0, 0), "60/0")])
    assert cache.table(NAME, b"2.b", KEY, [60, 120]) is table
    cache.advance(NAME, b"2.b", b"3.c", [(KEY, "180/0")])
    assert cache.table(NAME, b"3.c", KEY, [60, 120]) is None
    assert cache.nbytes == bare


def test_all_pages_of_a_metric_are_forgotten_if_touched_is_unknown() -> None:
    cache = Cache(1 << 20)
    for name in (NAME, "other"):
        for key in (KEY, ("hour", 0, 0)):
            keep(cache, name, key, {"60/0": rows(2)})
    half = cache.nbytes // 2
    cache.advance(NAME, b"1.a", b"2.b", None)
    assert not held(cache, NAME, KEY)
    assert not held(cache, NAME, ("hour", 0, 0))
    assert held(cache, "other", KEY)
    assert cache.nbytes == half


def test_cache_returns_only_fields_of_its_version() -> None:
    cache = Cache(1 << 20)
    assert cache.fields(NAME, None, KEY) == {}
    # A metric without a version was never sealed: there is nothing to cache.
    cache.put_fields(NAME, None, KEY, {"60/0": None})
    assert cache.nbytes == 0
    keep(cache, NAME, KEY, {"60/0": None})
    assert cache.fields(NAME, b"1.a", KEY) == {"60/0": None}
    assert cache.fields(NAME, b"1.b", KEY) == {}
    assert cache.fields(NAME, None, KEY) == {}
    cache.put_fields(NAME, b"0.z", KEY, {"120/0": None})
    # By another thread, which began earlier.
    cache.advance(NAME, b"0.z", b"5.e", None)
    assert cache.version(NAME) == b"1.a"
    assert cache.fields(NAME, b"1.a", KEY) == {"60/0": None}


# -- races -----------------------------------------------------------


class Node:
    """A server with one metric of two fields: the version of each commit, and what it touched."""

    def __init__(self) -> None:
        self.commits: list[tuple[bytes, str]] = [(b"1.a", "")]
        self.content: dict[str, FieldData] = {"x": rows(1), "y": rows(1)}

    @property
    def version(self) -> bytes:
        return self.commits[-1][0]

    def commit(self, part: str, token: str) -> None:
        self.commits.append((f"{len(self.commits) + 1}.{token}".encode(), part))
        self.content = {**self.content, part: rows(1)}

    def read(self, asked: bytes | None) -> tuple[bytes, list[tuple[PageKey, str | None]] | None]:
        versions = [version for version, _ in self.commits]
        if asked not in versions:
            return self.version, None
        return self.version, [(KEY, part) for _, part in self.commits[versions.index(asked) + 1 :]]


Content = dict[str, FieldData]


@dataclass
class World:
    """A cache, the stored fields at each version, and the fields each table was assembled from."""

    nodes: list[Node]
    cache: Cache = field(default_factory=lambda: Cache(1 << 20))
    contents: dict[bytes, Content] = field(default_factory=dict)
    tables: list[tuple[Table, Content]] = field(default_factory=list)

    def of(self, table: Table) -> Content:
        return next(content for each, content in self.tables if each is table)

    def check(self) -> None:
        """Assert that the cache holds what was stored at the cache's version."""
        self.contents.update({node.version: node.content for node in self.nodes})
        version = self.cache.version(NAME)
        if version is None:
            return
        for part, value in self.cache.fields(NAME, version, KEY).items():
            assert self.contents[version][part] is value, f"{part} is not that of {version!r}"
        for slots in ([0], [1], [0, 1]):
            table = self.cache.table(NAME, version, KEY, slots)
            if table is not None:
                expected = {
                    part: self.contents[version][part] for part in map("xy".__getitem__, slots)
                }
                assert _same(self.of(table), expected), f"a table that is not of {version!r}"


def _same(found: Content, expected: Content) -> bool:
    return found.keys() == expected.keys() and all(found[part] is expected[part] for part in found)


def query(world: World, node: Node, expected: str = "xy") -> Generator[None]:
    """Run a query of one thread for some fields; at each yield any other thread may run."""
    cache, slots = world.cache, ["xy".index(part) for part in expected]
    while True:
        asked = cache.version(NAME)
        yield
        version, touched = node.read(asked)
        yield
        cache.advance(NAME, asked, version, touched)
        yield
        table = cache.table(NAME, version, KEY, slots)
        parts = cache.fields(NAME, version, KEY) if table is None else world.of(table)
        yield
        if node.version != version:
            continue
        new = {part: node.content[part] for part in expected if part not in parts}
        found = {part: (parts | new)[part] for part in expected}
        assert _same(found, {part: node.content[part] for part in expected}), (
            "a result that mixes versions"
        )
        yield
        if table is None:
            cache.put_fields(NAME, version, KEY, new)
            yield
            table = rollup_table.empty()
            world.tables.append((table, found))
            cache.put_table(NAME, version, KEY, slots, table)
        return


def evict(world: World) -> Generator[None]:
    """Evict all pages by one that is larger than the limit."""
    keep(world.cache, "large", KEY, {"60/0": rows(1 << 16)})
    yield


def commits(nodes: list[Node], touched: str) -> Generator[None]:
    for number, part in enumerate(touched):
        for node in nodes:
            node.commit(part, f"t{number}")
        yield


def interleave(world: World, runs: list[Generator[None]], order: tuple[int, ...]) -> None:
    world.check()
    for number in order:
        next(runs[number], None)
        world.check()
    for run in runs:
        for _ in run:
            world.check()


def orders(sizes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Return every order of these numbers of steps."""
    if not any(sizes):
        yield ()
    for number, size in enumerate(sizes):
        if size:
            for rest in orders((*sizes[:number], size - 1, *sizes[number + 1 :])):
                yield number, *rest


# Steps of a query that is not repeated.
STEPS = 6


def test_two_threads_and_a_commit_in_any_order_leave_no_wrong_field() -> None:
    for order in orders((STEPS, STEPS - 1, 1)):
        world = World([Node()])
        runs = [
            query(world, world.nodes[0]),
            query(world, world.nodes[0]),
            commits(world.nodes, "x"),
        ]
        interleave(world, runs, order)


def test_query_of_a_lagging_replica_gets_no_newer_fields() -> None:
    for order in orders((STEPS - 1, STEPS, 1)):
        node, replica = Node(), Node()
        replica.content = node.content
        world = World([node, replica])
        interleave(world, [query(world, node), query(world, replica), commits([node], "x")], order)


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, 6), max_size=50),
    st.text("xy", max_size=3),
    st.text("xy", max_size=2),
    st.lists(st.sampled_from(["x", "y", "xy"]), min_size=4, max_size=4),
)
def test_threads_commits_failover_and_eviction_in_any_order_leave_no_wrong_field(
    order: list[int], touched: str, lost: str, expected: list[str]
) -> None:
    """The replica takes over without the commits it lacks, and continues with its own versions."""
    node, replica = Node(), Node()
    replica.content = node.content
    world = World([node])

    def fail_over() -> Generator[None]:
        yield
        node.commits, node.content = replica.commits, replica.content
        node.commit("y", "f")
        yield

    runs = [query(world, node, each) for each in expected]
    interleave(
        world, [*runs, commits([node], touched + lost), fail_over(), evict(world)], tuple(order)
    )


def test_size_is_right_after_concurrent_reads_writes_and_evictions() -> None:
    cache = Cache(20_000)
    versions = (b"1.t", b"2.t")

    def work(seed: int) -> None:
        for number in range(300):
            key = ("minute", (seed + number) % 7 * 3_600_000, 0)
            asked = cache.version(NAME)
            cache.advance(
                NAME, asked, versions[number % 2], [(key, "60/0")] if number % 5 else None
            )
            cache.put_fields(
                NAME, versions[number % 2], key, {"60/0": rows(number % 90), "segment/0": None}
            )
            cache.fields(NAME, versions[number % 2], key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 <= cache.nbytes <= cache.limit
    cache.advance(NAME, cache.version(NAME), b"3.t", None)
    assert cache.nbytes == 0


@pytest.mark.parametrize("asked", [None, b"1.a"])
def test_first_of_two_threads_at_one_version_advances_the_cache(
    asked: bytes | None,
) -> None:
    cache = Cache(1 << 20)
    if asked:
        cache.advance(NAME, None, asked, None)
        keep(cache, NAME, KEY, {"60/0": None, "120/0": None})
    cache.advance(NAME, asked, b"3.c", None if asked is None else [(KEY, "60/0")])
    cache.advance(NAME, asked, b"2.b", None if asked is None else [(KEY, "120/0")])
    assert cache.version(NAME) == b"3.c"
    assert held(cache, NAME, KEY) == ({"120/0": None} if asked else {})
