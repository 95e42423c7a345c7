"""The readers' cache: bounded in bytes, forgets exactly what was touched, and never answers for another version."""

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
from redismetrics.queries.cache import Cache, PageKey, Part

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


def keep(cache: Cache, name: str, key: PageKey, parts: dict[str, Part]) -> None:
    """Put *parts* into a cache that is at whatever version."""
    if cache.version(name) is None:
        cache.advance(name, None, b"1.a", None)
    cache.put(name, cache.version(name), key, parts)


def held(cache: Cache, name: str, key: PageKey) -> dict[str, Part]:
    return cache.parts(name, cache.version(name), key)


# -- room ---------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b"])
KEYS = st.sampled_from([("minute", 0, 0), ("minute", 0, 1), ("hour", 0, 0), ("raw", 3_600_000, 0)])
PARTS = st.dictionaries(
    st.sampled_from(["segment/0", "60/0", "120/0"]),
    st.none() | st.integers(0, 60).map(rows),
    min_size=1,
)


@settings(max_examples=100)
@given(st.integers(0, 8000), st.lists(st.tuples(NAMES, KEYS, PARTS | st.none()), max_size=25))
def test_the_longest_unused_pages_go_until_all_fits(
    limit: int, steps: list[tuple[str, PageKey, dict[str, Part] | None]]
) -> None:
    """Each step keeps parts of a page, or, with none, looks at it; *pages* is the oracle, the longest unused first."""
    cache, pages = Cache(limit), dict[tuple[str, PageKey], dict[str, Part]]()

    def size() -> int:
        return sum(
            200 + sum(100 + (part.nbytes if part else 0) for part in page.values())
            for page in pages.values()
        )

    for name, key, parts in steps:
        page = pages.pop((name, key), {})
        if parts is None:
            assert held(cache, name, key) == page
        else:
            keep(cache, name, key, parts)
        if page or parts:
            pages[name, key] = page | (parts or {})
        while size() > limit:
            pages.pop(next(iter(pages)))
        assert cache.nbytes == size() <= limit
    for (name, key), page in pages.items():
        assert held(cache, name, key) == page
    for name in ("a", "b"):
        cache.advance(name, cache.version(name), b"2.b", None)
    assert cache.nbytes == 0


def test_a_page_larger_than_all_the_room_is_not_kept_and_drives_out_the_others() -> None:
    cache = Cache(5_000)
    keep(cache, NAME, KEY, {"60/0": rows(10)})
    keep(cache, NAME, ("hour", 0, 0), {"0/0": rows(1000)})
    assert cache.nbytes == 0
    assert not held(cache, NAME, KEY)


def test_metadata_counts_as_room() -> None:
    bare, told = Cache(1 << 20), Cache(1 << 20)
    keep(bare, NAME, KEY, {"60/0": rows(3)})
    keep(told, NAME, KEY, {"60/0": rows(3, {1: b"x" * 4000})})
    assert told.nbytes >= bare.nbytes + 4000


def test_a_cache_without_room_keeps_nothing() -> None:
    cache = Cache(0)
    keep(cache, NAME, KEY, {"60/0": None})
    assert held(cache, NAME, KEY) == {}
    assert cache.nbytes == 0


def test_the_size_stays_right_when_a_part_is_kept_again_larger_or_smaller() -> None:
    cache = Cache(1 << 20)
    sizes = []
    for count in (5, 50, 0, 5):
        keep(cache, NAME, KEY, {"60/0": rows(count)})
        sizes.append(cache.nbytes)
    assert sizes[0] == sizes[3]
    assert sizes[1] - sizes[2] == rows(50).nbytes


# -- forgetting ---------------------------------------------------------------------------------------------------


def test_what_was_touched_is_forgotten_and_nothing_else() -> None:
    cache = Cache(1 << 20)
    pages: list[PageKey] = [
        ("minute", 0, 0),
        ("minute", 0, 1),
        ("minute", 3_600_000, 0),
        ("raw", 0, 0),
    ]
    parts: dict[str, Part] = {"segment/0": rows(1), "60/0": rows(2), "120/0": None}
    for key in pages:
        keep(cache, NAME, key, parts)
    keep(cache, "other", KEY, parts)
    before = cache.nbytes
    cache.advance(NAME, b"1.a", b"2.b", [(KEY, "60/0"), (KEY, "180/0"), (("day", 0, 0), "60/0")])
    assert held(cache, NAME, KEY) == {"segment/0": parts["segment/0"], "120/0": None}
    assert all(held(cache, NAME, key) == parts for key in pages[1:])
    assert held(cache, "other", KEY) == parts
    assert cache.nbytes == before - 100 - rows(2).nbytes
    cache.advance(
        NAME, b"2.b", b"3.c", [(KEY, "120/0")]
    )  # None is remembered too, and must be forgotten
    assert held(cache, NAME, KEY) == {"segment/0": parts["segment/0"]}


def test_a_page_can_be_forgotten_whole() -> None:
    cache = Cache(1 << 20)
    keep(cache, NAME, ("hour", 0, 0), {"segment/0": rows(1)})
    before = cache.nbytes
    keep(cache, NAME, KEY, {"segment/0": rows(1), "60/0": rows(2)})
    cache.advance(NAME, b"1.a", b"2.b", [(KEY, None)])
    assert held(cache, NAME, KEY) == {}
    assert held(cache, NAME, ("hour", 0, 0))
    assert cache.nbytes == before


def test_what_was_put_together_is_kept_for_just_those_slots_until_the_page_is_touched() -> None:
    cache = Cache(1 << 20)
    keep(cache, NAME, KEY, {"60/0": rows(2), "120/0": rows(2)})
    bare, table = cache.nbytes, uniform(50)
    cache.put_whole(
        NAME, b"0.z", KEY, [60, 120], table
    )  # read at a version that is not the cache's
    assert cache.whole(NAME, b"1.a", KEY, [60, 120]) is None
    cache.put_whole(NAME, b"1.a", KEY, [60, 120], table)
    cache.put_whole(NAME, b"1.a", ("hour", 0, 0), [60, 120], table)  # of a page that has left
    assert cache.nbytes == bare + table.nbytes
    assert cache.whole(NAME, b"1.a", KEY, [60, 120]) is table
    assert cache.whole(NAME, b"1.a", KEY, [60]) is None
    assert cache.whole(NAME, b"1.b", KEY, [60, 120]) is None
    cache.advance(NAME, b"1.a", b"2.b", [(("hour", 0, 0), "60/0")])
    assert cache.whole(NAME, b"2.b", KEY, [60, 120]) is table
    cache.advance(NAME, b"2.b", b"3.c", [(KEY, "180/0")])
    assert cache.whole(NAME, b"3.c", KEY, [60, 120]) is None
    assert cache.nbytes == bare


def test_where_what_was_touched_is_not_known_all_of_the_metric_is_forgotten() -> None:
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


def test_a_cache_answers_for_its_own_version_alone() -> None:
    cache = Cache(1 << 20)
    assert cache.parts(NAME, None, KEY) == {}
    cache.put(
        NAME, None, KEY, {"60/0": None}
    )  # of a metric without a version nothing was sealed: there is nothing to keep
    assert cache.nbytes == 0
    keep(cache, NAME, KEY, {"60/0": None})
    assert cache.parts(NAME, b"1.a", KEY) == {"60/0": None}
    assert cache.parts(NAME, b"1.b", KEY) == {}
    assert cache.parts(NAME, None, KEY) == {}
    cache.put(NAME, b"0.z", KEY, {"120/0": None})
    cache.advance(NAME, b"0.z", b"5.e", None)  # another thread's, which began before
    assert cache.version(NAME) == b"1.a"
    assert cache.parts(NAME, b"1.a", KEY) == {"60/0": None}


# -- races --------------------------------------------------------------------------------------------------------


class Node:
    """A server with one metric of two parts: the version of each commit, and what it touched."""

    def __init__(self) -> None:
        self.commits: list[tuple[bytes, str]] = [(b"1.a", "")]
        self.content: dict[str, Part] = {"x": rows(1), "y": rows(1)}

    @property
    def version(self) -> bytes:
        return self.commits[-1][0]

    def commit(self, part: str, token: str) -> None:
        self.commits.append((f"{len(self.commits) + 1}.{token}".encode(), part))
        self.content = {**self.content, part: rows(1)}

    def look(self, asked: bytes | None) -> tuple[bytes, list[tuple[PageKey, str | None]] | None]:
        versions = [version for version, _ in self.commits]
        if asked not in versions:
            return self.version, None
        return self.version, [(KEY, part) for _, part in self.commits[versions.index(asked) + 1 :]]


Content = dict[str, Part]


@dataclass
class Shop:
    """A cache, what the store held at each version, and what each table was put together of."""

    nodes: list[Node]
    cache: Cache = field(default_factory=lambda: Cache(1 << 20))
    contents: dict[bytes, Content] = field(default_factory=dict)
    tables: list[tuple[Table, Content]] = field(default_factory=list)

    def of(self, table: Table) -> Content:
        return next(content for each, content in self.tables if each is table)

    def check(self) -> None:
        """What the cache holds is what the store held at the cache's version."""
        self.contents.update({node.version: node.content for node in self.nodes})
        version = self.cache.version(NAME)
        if version is None:
            return
        for part, value in self.cache.parts(NAME, version, KEY).items():
            assert self.contents[version][part] is value, f"{part} is not that of {version!r}"
        for slots in ([0], [1], [0, 1]):
            table = self.cache.whole(NAME, version, KEY, slots)
            if table is not None:
                wanted = {
                    part: self.contents[version][part] for part in map("xy".__getitem__, slots)
                }
                assert _same(self.of(table), wanted), f"a table that is not of {version!r}"


def _same(found: Content, wanted: Content) -> bool:
    return found.keys() == wanted.keys() and all(found[part] is wanted[part] for part in found)


def question(shop: Shop, node: Node, wanted: str = "xy") -> Generator[None]:
    """A question of one thread for some parts, as gather does it: at each yield any other thread may run."""
    cache, slots = shop.cache, ["xy".index(part) for part in wanted]
    while True:
        asked = cache.version(NAME)
        yield
        version, touched = node.look(asked)
        yield
        cache.advance(NAME, asked, version, touched)
        yield
        table = cache.whole(NAME, version, KEY, slots)
        parts = cache.parts(NAME, version, KEY) if table is None else shop.of(table)
        yield
        if node.version != version:
            continue
        new = {part: node.content[part] for part in wanted if part not in parts}
        found = {part: (parts | new)[part] for part in wanted}
        assert _same(found, {part: node.content[part] for part in wanted}), (
            "an answer that mixes versions"
        )
        yield
        if table is None:
            cache.put(NAME, version, KEY, new)
            yield
            table = rollup_table.empty()
            shop.tables.append((table, found))
            cache.put_whole(NAME, version, KEY, slots, table)
        return


def drive_out(shop: Shop) -> Generator[None]:
    """All pages leave for one that is larger than all the room."""
    keep(shop.cache, "large", KEY, {"60/0": rows(1 << 16)})
    yield


def commits(nodes: list[Node], touched: str) -> Generator[None]:
    for number, part in enumerate(touched):
        for node in nodes:
            node.commit(part, f"t{number}")
        yield


def interleave(shop: Shop, runs: list[Generator[None]], order: tuple[int, ...]) -> None:
    shop.check()
    for number in order:
        next(runs[number], None)
        shop.check()
    for run in runs:
        for _ in run:
            shop.check()


def orders(sizes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Every order of so many steps of each."""
    if not any(sizes):
        yield ()
    for number, size in enumerate(sizes):
        if size:
            for rest in orders((*sizes[:number], size - 1, *sizes[number + 1 :])):
                yield number, *rest


STEPS = 6  # of a question that is not asked again


def test_two_threads_and_a_commit_in_every_order_never_leave_a_wrong_part() -> None:
    for order in orders((STEPS, STEPS - 1, 1)):
        shop = Shop([Node()])
        runs = [
            question(shop, shop.nodes[0]),
            question(shop, shop.nodes[0]),
            commits(shop.nodes, "x"),
        ]
        interleave(shop, runs, order)


def test_a_thread_that_asks_a_replica_that_lags_behind_is_not_answered_from_what_is_newer() -> None:
    for order in orders((STEPS - 1, STEPS, 1)):
        node, replica = Node(), Node()
        replica.content = node.content
        shop = Shop([node, replica])
        interleave(
            shop, [question(shop, node), question(shop, replica), commits([node], "x")], order
        )


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, 6), max_size=50), st.text("xy", max_size=3), st.text("xy", max_size=2),
    st.lists(st.sampled_from(["x", "y", "xy"]), min_size=4, max_size=4),
)  # fmt: skip
def test_many_threads_commits_a_failover_and_want_of_room_in_any_order_never_leave_a_wrong_part(
    order: list[int], touched: str, lost: str, wanted: list[str]
) -> None:
    """The replica takes over without what it lacks, and goes on under versions of its own."""
    node, replica = Node(), Node()
    replica.content = node.content
    shop = Shop([node])

    def fail_over() -> Generator[None]:
        yield
        node.commits, node.content = replica.commits, replica.content
        node.commit("y", "f")
        yield

    runs = [question(shop, node, each) for each in wanted]
    interleave(
        shop, [*runs, commits([node], touched + lost), fail_over(), drive_out(shop)], tuple(order)
    )


def test_threads_that_keep_look_and_forget_at_once_leave_the_size_right() -> None:
    cache = Cache(20_000)
    versions = (b"1.t", b"2.t")

    def work(seed: int) -> None:
        for number in range(300):
            key = ("minute", (seed + number) % 7 * 3_600_000, 0)
            asked = cache.version(NAME)
            cache.advance(
                NAME, asked, versions[number % 2], [(key, "60/0")] if number % 5 else None
            )
            cache.put(
                NAME, versions[number % 2], key, {"60/0": rows(number % 90), "segment/0": None}
            )
            cache.parts(NAME, versions[number % 2], key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 <= cache.nbytes <= cache.limit
    cache.advance(NAME, cache.version(NAME), b"3.t", None)
    assert cache.nbytes == 0


@pytest.mark.parametrize("asked", [None, b"1.a"])
def test_of_two_threads_that_asked_at_one_version_the_first_to_come_brings_the_cache_on(
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
