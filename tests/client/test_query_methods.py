"""The query methods of a client: what they send, to which server, and without one."""

from collections.abc import Callable
from typing import Any

import pytest

from redismetrics import (
    Histogram,
    InvalidQuery,
    Metrics,
    ScriptFailed,
    StoreUnavailable,
)
from tests.fixtures.queries import HOUR
from tests.fixtures.servers import Server, wait_until


@pytest.mark.parametrize(
    ("ask", "arguments"),
    [
        ("query", ("m",)),
        ("time_series", ("m",)),
        ("rollup", ("m",)),
        ("digest", ("m",)),
        ("live", ()),
        ("get_metrics", ()),
        ("get_aggregation", ("m",)),
        ("get_time_series", ("m",)),
        ("get_rollups", ("m",)),
        ("get_stats", ()),
        ("list_metrics", ()),
        ("tag_values", ("m", "k")),
        ("delete_metric", ("m",)),
    ],
)
def test_query_of_an_unreachable_server_is_store_unavailable(
    nowhere: Metrics, ask: str, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(StoreUnavailable):
        getattr(nowhere, ask)(*arguments)


def test_unknown_keyword_is_a_type_error(metrics: Metrics) -> None:
    with pytest.raises(TypeError, match="time_range"):
        metrics.query("m", time_range=(1, 2))  # type: ignore[call-arg]


def test_client_without_a_store_rejects_queries() -> None:
    with Metrics("none://") as metrics:
        metrics.increment("jobs")
        with pytest.raises(InvalidQuery, match="none://"):
            metrics.query("jobs")
        assert metrics.stats()["recorded"] == 0


def run_all_queries(metrics: Metrics) -> dict[str, Any]:
    """Run every query; return the results without timestamps."""
    results = {
        "query": metrics.query("score", aggregation="p95", group_by="model"),
        "samples": metrics.query("score"),
        "time_series": metrics.time_series("score"),
        "rollup": metrics.rollup("score", group_by="model"),
        "digest": metrics.digest("score").percentile(50),
        "live": metrics.live(),
        "get_metrics": metrics.get_metrics()["metrics"],
        "get_aggregation": metrics.get_aggregation("score", aggregation="sum")["results"],
        "get_time_series": metrics.get_time_series("score")["series"],
        "get_rollups": metrics.get_rollups("score")["rollups"],
        "list_metrics": metrics.list_metrics(),
        "tag_values": metrics.tag_values("score", "model"),
        "stored": metrics.get_stats()["storage"]["metrics_stored"],
        "nobody": metrics.query("nobody", aggregation="count"),
    }
    assert len(results["query"]) == 3
    return results


def test_queries_need_only_read_rights(
    fresh_server: Callable[..., Server], grouped: Metrics
) -> None:
    server = fresh_server(port=True)
    rights = (
        "on >secret resetkeys %R~rm:{*}:* %R~rm:*:config %R~rm:*:workers resetchannels "
        "-@all +@read +time +info +hello +auth"
    )
    if server.release < (7,):
        rights = rights.replace("%R~", "~")
    with server.client() as client, Metrics(server.url, namespace="shop") as writer:
        for sample in grouped.query("score"):
            writer.gauge("score", sample.value, tags=sample.tags, timestamp=sample.timestamp)
        writer.flush()
        client.execute_command("ACL", "SETUSER", "reader", *rights.split())
        url = f"redis://reader:secret@127.0.0.1:{server.port}/0"
        with Metrics(url, namespace="shop") as reader:
            assert run_all_queries(reader) == run_all_queries(writer)
            assert reader.query("score", aggregation="sum") == 63
            logged = client.execute_command("ACL", "LOG")
            # The rights above forbid writing.
            with pytest.raises(ScriptFailed, match=r"(?i)permission"):
                reader.delete_metric("score")
        # redis-py before 8 speaks RESP2, in which an entry is a list of names and values.
        entries = [
            entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))
            for entry in logged
        ]
        refused = {entry[b"object"] for entry in entries}
        # The greeting of redis-py may fail.
        assert all(what.startswith(b"client") for what in refused), refused


@pytest.mark.slow
def test_replica_returns_the_results_of_its_master(
    fresh_server: Callable[..., Server], grouped: Metrics
) -> None:
    master = fresh_server(port=True, args=("--repl-diskless-sync-delay", "0"))
    replica = fresh_server(port=True, args=("--replicaof", "127.0.0.1", str(master.port)))
    with (
        Metrics(master.url, namespace="shop") as writer,
        Metrics(replica.url, namespace="shop") as reader,
    ):
        for sample in grouped.query("score"):
            writer.gauge("score", sample.value, tags=sample.tags, timestamp=sample.timestamp)
        writer.flush()
        with master.client() as client, replica.client() as follower:
            wait_until(
                lambda: follower.info("replication")["master_link_status"] == "up",
                "the replica has followed",
            )
            client.set("written", 1)
            wait_until(lambda: follower.get("written"), "the replica has everything")
        assert run_all_queries(reader) == run_all_queries(writer)
        with pytest.raises(ScriptFailed, match=r"(?i)read.?only"):
            reader.delete_metric("score")


def test_unsent_samples_are_sent_before_a_query(url: str, namespace: str, other: Metrics) -> None:
    with Metrics(url, namespace=namespace, flush_interval=HOUR) as metrics:
        handle = Histogram("size", metrics=metrics)
        for number in range(1, 4):
            handle.record(float(number))
            assert metrics.query("size", aggregation="count") == number
            assert metrics.stats()["pending"] == 0
        handle.record(4.0)
        # Samples of another client wait for its own flush.
        assert other.query("size", aggregation="count") == 3
