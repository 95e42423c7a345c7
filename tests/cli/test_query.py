"""The commands that query and delete, compared with the results of the API."""

import json
import re
import time
from typing import Any

import pytest

from redismetrics import Metrics
from tests.fixtures.shell import Shell


def test_json_is_the_result_of_the_api(shell: Shell, filled: Metrics) -> None:
    def same(found: Any, answer: Any) -> None:
        assert found == json.loads(Metrics.to_json(answer))

    since, until = time.time() - 450, time.time() + 10
    edges = ("--since", str(since), "--until", str(until))
    ask = shell.json
    same(ask("query", "orders", "-a", "sum"), filled.query("orders", aggregation="sum"))
    same(
        ask("query", "paid", "-a", "p95", "-g", "shop,till", *edges),
        filled.query("paid", aggregation="p95", group_by=("shop", "till"), window=(since, until)),
    )
    same(ask("query", "paid", "-t", "shop=de"), filled.query("paid", tags={"shop": "de"}))
    same(ask("query", "paid", "-t", "!shop"), [])
    same(
        ask(
            "time-series",
            "paid",
            "-i",
            "5m",
            "-a",
            "mean,max",
            "-a",
            "count",
            "-g",
            "shop",
            "--window",
            "1h",
        ),
        filled.time_series(
            "paid",
            interval="5m",
            aggregations=("mean", "max", "count"),
            group_by="shop",
            window="1h",
        ),
    )
    same(
        ask("time-series", "orders", "-i", "minute", *edges, "--fill"),
        filled.time_series("orders", interval="minute", window=(since, until), fill=True),
    )
    same(ask("rollup", "paid", "-g", "shop"), filled.rollup("paid", group_by="shop"))
    assert list(ask("rollup", "paid", "-g", "shop")) == ["de", "f\\/r"]
    same(
        ask("rollup", "paid", "-g", "shop", "-g", "till", "-a", "p50", "-a", "last"),
        filled.rollup("paid", group_by=("shop", "till"), aggregations=("p50", "last")),
    )
    same(ask("list"), filled.list_metrics())
    same(ask("tag-values", "orders", "till"), ["0", "1", "2"])
    found, answer = (
        ask("get-metrics", "paid", "--limit", "3"),
        filled.get_metrics(name="paid", limit=3),
    )
    same({**found, "timestamp": ""}, {**answer, "timestamp": ""})
    assert [sample["metadata"]["order"] for sample in found["metrics"]] == [0, 1, 2]
    assert ask("get-metrics", "--type", "gauge", "--since", "1h")["count"] == 1
    found, answer = ask("stats"), filled.get_stats()
    assert found.keys() == answer.keys()
    assert found["storage"]["metrics_stored"] == answer["storage"]["metrics_stored"] == 21


@pytest.mark.slow
def test_a_pipe_gets_a_number_or_tab_separated_lines(shell: Shell, filled: Metrics) -> None:
    assert shell.process("query", "orders", "-a", "sum") == (0, "45\n", "")
    assert shell("query", "paid", "-a", "mean") == (0, "47.25\n", "")
    assert shell("query", "orders", "-a", "sum", "-g", "shop") == (
        0,
        "shop\tsum\nde\t25\nf/r\t20\n",
        "",
    )
    assert shell("rollup", "orders", "-g", "shop", "-a", "sum,max") == (
        0,
        "shop\tsum\tmax\nde\t25\t9.0\nf/r\t20\t8.0\n",
        "",
    )
    status, out, _ = shell("time-series", "orders", "-i", "minute", "-a", "sum")
    assert status == 0
    rows = [
        f"{row['timestamp'].isoformat()}\t{row['sum']}"
        for row in filled.time_series("orders", interval="minute", aggregation="sum")
    ]
    assert out.splitlines() == ["timestamp\tsum", *rows]
    status, out, _ = shell("get-metrics", "paid", "--limit", "1")
    assert out.splitlines()[0] == "timestamp\tname\ttype\tvalue\ttags\tmetadata"
    assert out.splitlines()[1].endswith(
        '\tpaid\thistogram\t0.0\t{"shop": "f/r", "till": "0"}\t{"order": 0}'
    )
    assert [line.split("\t")[:2] for line in shell("list")[1].splitlines()] == [
        ["name", "type"],
        ["orders", "counter"],
        ["paid", "histogram"],
        ["queue_depth", "gauge"],
    ]


@pytest.mark.slow
def test_a_terminal_gets_tables_bars_and_sparklines(shell: Shell, filled: Metrics) -> None:
    status, out = shell.at_a_terminal("list")
    assert status == 0
    assert re.search(
        r"^ +name +type +unit +help +series +last_seen +\n ─+ *\n +orders +counter +6 ",
        out,
        re.MULTILINE,
    ), out
    status, out = shell.at_a_terminal(
        "time-series", "orders", "-i", "minute", "-a", "sum", "--window", "30m"
    )
    assert re.search(r"^  (\S+ )?\d\d:\d\d(:\d\d)?  █+ +9$", out, re.MULTILINE), out
    status, out = shell.at_a_terminal(
        "time-series", "paid", "-i", "minute", "-a", "max", "-g", "shop", "-w", "30m"
    )
    assert re.search(r"^ +f/r +max +0 +84 +0 +█[▁▂▃▄▅▆▇█ ]+▁", out, re.MULTILINE), out


@pytest.mark.slow
def test_control_sequences_are_not_printed(shell: Shell, metrics: Metrics) -> None:
    metrics.increment("jobs", tags={"queue": "\x1b[2Jmail\n"})
    metrics.flush()
    _, out = shell.at_a_terminal("query", "jobs", "-a", "sum", "-g", "queue")
    assert "�[2Jmail�" in out
    assert shell("tag-values", "jobs", "queue") == (0, "\x1b[2Jmail \n", "")


@pytest.mark.slow
def test_delete_and_clear(shell: Shell, filled: Metrics, namespace: str) -> None:
    assert shell("delete", "paid") == (0, "Deleted paid.\n", "")
    status, out, err = shell("delete", "paid")
    assert (status, out) == (1, "")
    assert err == (
        f"redismetrics: no metric 'paid' in namespace '{namespace}'; "
        "`redismetrics list` prints all metrics\n"
    )
    status, out = shell.at_a_terminal("clear", keys="n\n")
    assert (status, len(filled.list_metrics())) == (1, 2)
    assert f"Delete all 2 metrics of namespace '{namespace}'? [y/N]" in out
    assert "nothing was deleted" in out
    assert shell.at_a_terminal("clear", keys="y\n")[0] == 0
    assert filled.list_metrics() == []
    filled.increment("orders")
    filled.flush()
    assert shell("clear", "--yes") == (0, "Deleted 1 metrics.\n", "")


@pytest.mark.parametrize(
    "command",
    [
        ("query", "nosuch"),
        ("query", "nosuch", "-a", "sum", "--json"),
        ("time-series", "nosuch", "--fill"),
        ("rollup", "nosuch", "-g", "shop", "--json"),
        ("get-metrics", "nosuch"),
        ("tag-values", "nosuch", "shop"),
        ("delete", "nosuch"),
        ("delete", "nosuch", "-t", "shop=de"),
    ],
)
def test_a_metric_that_does_not_exist_is_an_error(
    shell: Shell, filled: Metrics, command: tuple[str, ...]
) -> None:
    status, out, err = shell(*command)
    assert (status, out) == (1, "")
    assert err.startswith("redismetrics: no metric 'nosuch' in namespace ")


def test_a_metric_without_samples_in_the_window_is_not_an_error(
    shell: Shell, filled: Metrics
) -> None:
    assert shell("query", "orders", "-a", "sum", "--since", "0", "--until", "30h") == (0, "0\n", "")


@pytest.mark.parametrize(
    "time", ["2026", "20261129", "202611291200", "1790000000000", "-1", "1", "nan", "inf", "1e99"]
)
@pytest.mark.parametrize("option", ["--since", "--until", "--timestamp"])
def test_an_implausible_time_is_rejected(
    shell: Shell, filled: Metrics, option: str, time: str
) -> None:
    command = "increment" if option == "--timestamp" else "query"
    status, out, err = shell(command, "orders", f"{option}={time}")
    assert (status, out) == (2, "")
    assert f"{option} must be Unix seconds from 1000000000 (2001)" in err
