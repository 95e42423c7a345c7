"""Why a peer is cheaper: a sentence for each kind of row whose ratio is below 1.

A test fails for each row below 1 that has no sentence here: improve the row, or explain it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import before
from benchmarks.results import TopicResult
from benchmarks.rows import Row, few


@dataclass(frozen=True)
class Explanation:
    """*text* explains the rows of a question beside *peer* whose case has *part* in it."""

    topic: str
    peer: str
    text: str
    part: str = ""

    def explains(self, topic: str, row: Row) -> bool:
        return (self.topic, self.peer) == (topic, row.peer) and self.part in row.case


# The first that fits a row explains it.
EXPLANATIONS = (
    Explanation(
        "flush",
        "totals only",
        "it sends one number per series and keeps no times, samples or percentiles, and a batch "
        "that is sent twice counts twice",
    ),
    Explanation(
        "flush",
        "one command per sample",
        "a sorted set per series only keeps the values; our script also keeps totals with buckets "
        "for Prometheus, and stores a repeated batch only once",
    ),
    Explanation(
        "flush",
        "RedisTimeSeries TS.MADD",
        "it looks up one key per sample and only keeps the time and the value, in a module that "
        "many hosted servers do not offer",
    ),
    Explanation(
        "beside",
        "the same without queries",
        "queries and recording share two cores and the server's one thread",
    ),
    Explanation(
        "compat",
        "prometheus_client, one process",
        "it adds to a number in memory; ours does too, and also appends the amount for Redis",
        "()",
    ),
    Explanation(
        "compat",
        "prometheus_client, one process",
        "it reads the memory of its own process; ours sends unsent counts and reads Redis",
        "page",
    ),
    Explanation(
        "compat",
        "prometheus_client, multi-process mode",
        "reading a few small files on one host is faster than reading all processes from Redis",
        "page after 4 processes",
    ),
    Explanation(
        "cluster", "one node", "four processes and three nodes share two cores, too few to gain"
    ),
    Explanation(
        "network",
        "redis-py pipeline",
        "ours first reads names, definitions and state from Redis, and sends a large flush as "
        "several batches, each confirmed before the next; a program that knows its keys needs one "
        "round trip",
    ),
    Explanation(
        "query",
        "numpy over sorted sets",
        "ZREVRANGE reads ten members of one key; ours reads and decodes whole blocks, each of "
        "which holds the samples of many series in one flush",
        part="newest 10",
    ),
    Explanation(
        "query",
        "the same without queries",
        "the queries and the flush share two cores and the server's one thread",
    ),
    Explanation(
        "rollup",
        "numpy over sorted sets",
        "ours processes each minute in every pass and keeps a digest that can be merged further; "
        "the peer reads a minute once, when it is over, and keeps three percentiles",
    ),
    Explanation(
        "storage",
        "hash per series, text",
        "our minute contains a digest for any percentile, or the columns of many series; the peer "
        "keeps six numbers as text",
    ),
    Explanation(
        "stream",
        "redis-py PUBLISH",
        "our samples wait for the flush, so that a recording call makes no round trip",
    ),
    Explanation(
        "promql",
        "Prometheus 2.42",
        "it holds the series and their latest samples in its own process; ours reads names, series "
        "and slots from Redis for each query, in three round trips regardless of the range",
        part="one moment",
    ),
    Explanation(
        "promql",
        "Prometheus 2.42",
        "most of the time is spent writing 61,000 numbers as text, which is slower in Python",
        part="rates of 1,000 series, 1 h by",
    ),
    Explanation(
        "promql",
        "Prometheus 2.42",
        "it reads only 240 samples per series for an hour; our work per series, for its labels and "
        "matchers, is the same for an hour as for a day",
        part="1 h by",
    ),
    Explanation(
        "promql",
        "Prometheus 2.42",
        "a compiled server handles a request in one thread; ours hands it from Python's event loop "
        "to a thread and back",
        part="over HTTP",
    ),
    Explanation(
        "promql",
        "Prometheus 2.42",
        "it interpolates in fixed buckets; ours merges digests, which is as exact as "
        'query(aggregation="p95")',
        part="p95",
    ),
    Explanation(
        "promql",
        "Prometheus 2.42",
        "Python must import numpy, the client and the web framework; no data has to be loaded",
        part="start to",
    ),
    Explanation(
        "promql",
        "Prometheus 2.42",
        "Python and its libraries take 70 MB before the first query, and Redis holds its data in "
        "memory; Prometheus reads blocks from mapped files, which do not count",
        part="memory",
    ),
    Explanation(
        "server_cpu",
        before.PEER,
        "the worker now folds the totals in its commits; before, record.lua did so in each batch",
        part="commands",
    ),
    Explanation(
        "small_metrics",
        before.PEER,
        "a pass now also folds the totals; before, record.lua added them up in each batch",
        part="pass, server CPU",
    ),
)


def find(topic: str, row: Row) -> Explanation | None:
    return next((each for each in EXPLANATIONS if each.explains(topic, row)), None)


def is_below(row: Row) -> bool:
    return row.ratio is not None and row.ratio < 1


def lines(topic: str, result: TopicResult) -> Iterator[str]:
    """Yield a sentence for each explanation that rows of this question need."""
    cases_of: dict[Explanation, list[str]] = {}
    for row in result.rows:
        found = find(topic, row) if is_below(row) else None
        if found is not None:
            cases_of.setdefault(found, []).append(row.case)
    for found, cases in cases_of.items():
        named = few(list(dict.fromkeys(cases)))
        yield f"ratio below 1 against {found.peer} ({named}): {found.text}"
