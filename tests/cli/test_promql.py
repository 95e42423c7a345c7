"""The command promql, compared with the results of the API."""

import json
import time

import pytest

pytest.importorskip("promql_parser", reason="needs redismetrics[promql]")
pytest.importorskip("re2", reason="needs redismetrics[promql]")

from redismetrics import Metrics
from tests.fixtures.shell import Shell


def test_json_is_the_result_of_the_api(shell: Shell, filled: Metrics) -> None:
    at = time.time()
    query = "sum by (shop) (increase(orders_total[1h]))"
    found = filled.promql_query(query, at)
    assert shell.json("promql", query, "--at", str(at)) == json.loads(Metrics.to_json(found))
    edges = {"since": at - 600, "until": at}
    found = filled.promql_range("paid", step="5m", **edges)
    asked = ("--since", str(at - 600), "--until", str(at), "--step", "5m")
    assert shell.json("promql", "paid", *asked) == json.loads(Metrics.to_json(found))
    assert shell.json("promql", "1 + 1") == 2.0


def test_rows_have_a_column_for_each_label(shell: Shell, filled: Metrics) -> None:
    at = str(time.time())
    status, out, _ = shell("promql", "sum by (shop) (orders_total)", "--at", at)
    lines = [line.split("\t")[1:] for line in out.splitlines()]
    assert status == 0
    assert lines[0] == ["shop", "value"]
    assert sorted(lines[1:]) == [["de", "25.0"], ["f/r", "20.0"]]


def test_hints_are_printed_beside_the_result(shell: Shell, filled: Metrics) -> None:
    status, out, err = shell("promql", "orders")
    assert (status, out) == (0, "")
    assert "did you mean `orders_total`?" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sum(",), "parse error: unclosed left parenthesis"),
        (("1", "--at", "1h", "--step", "1m"), "--at cannot be used together with"),
        (("1", "--step", "soon"), "interval must be"),
        (("1", "--since", "1h", "--until", "2h"), "until must not be before since"),
        (("1", "--since", "30d", "--step", "1m"), "at most 11000 points"),
    ],
)
def test_wrong_arguments_get_a_message(
    shell: Shell, arguments: tuple[str, ...], message: str
) -> None:
    status, out, err = shell("promql", *arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_a_range_is_drawn_at_a_terminal(shell: Shell, filled: Metrics) -> None:
    asked = ("--since", "10m", "--step", "1m")
    status, out = shell.at_a_terminal("promql", "rate(orders_total[5m])", *asked)
    assert status == 0
    assert "newest" in out
    assert " times" in out
