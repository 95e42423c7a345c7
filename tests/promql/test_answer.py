"""The `data` object of the HTTP API."""

import pytest

pytest.importorskip("promql_parser", reason="needs redismetrics[promql]")
pytest.importorskip("re2", reason="needs redismetrics[promql]")

from tests.promql.memory import ask, every_minute, in_memory


def test_each_type_has_its_form() -> None:
    source = in_memory(m=[1.0, 2.5])
    assert ask(source, "m", 60).data() == {
        "resultType": "vector",
        "result": [{"metric": {"__name__": "m"}, "value": [60, "2.5"]}],
    }
    assert ask(source, "m", 0, 60, 30).data() == {
        "resultType": "matrix",
        "result": [{"metric": {"__name__": "m"}, "values": [[0, "1"], [30, "1"], [60, "2.5"]]}],
    }
    assert ask(source, "m[2m]", 60).data() == {
        "resultType": "matrix",
        "result": [{"metric": {"__name__": "m"}, "values": [[0, "1"], [60, "2.5"]]}],
    }
    assert ask(source, "1 + 1", 60).data() == {"resultType": "scalar", "result": [60, "2"]}
    assert ask(source, '"text"', 60).data() == {"resultType": "string", "result": [60, "text"]}
    assert ask(source, "time()", 0, 1, 1).data() == {
        "resultType": "matrix",
        "result": [{"metric": {}, "values": [[0, "0"], [1, "1"]]}],
    }


def test_milliseconds_are_in_the_time() -> None:
    source = in_memory()
    source.add({"__name__": "m"}, [(1500, 1.0)])
    assert ask(source, "m[1m]", 2).data()["result"][0]["values"] == [[1.5, "1"]]


def test_series_of_a_range_query_are_sorted_and_limited() -> None:
    source = in_memory()
    for name in "cab":
        source.add({"__name__": "m", "i": name}, every_minute([1.0]))
    data = ask(source, "m", 0, 60, 60).data(limit=2)
    assert [row["metric"]["i"] for row in data["result"]] == ["a", "b"]
    assert len(ask(source, "m").data(limit=2)["result"]) == 2
    assert len(ask(source, "m[5m]").data(limit=1)["result"]) == 1


@pytest.mark.parametrize(
    ("expression", "order"),
    [
        ("sort(m)", "bca"),
        ("sort_desc(m)", "acb"),
        ("topk(2, m)", "ac"),
        ("bottomk(3, m)", "bca"),
        ('sort_by_label(m, "i")', "abc"),
        ('sort_by_label_desc(m, "i")', "cba"),
    ],
)
def test_an_instant_query_keeps_the_order(expression: str, order: str) -> None:
    source = in_memory()
    for name, value in [("a", 3.0), ("b", 1.0), ("c", 2.0)]:
        source.add({"__name__": "m", "i": name}, every_minute([value]))
    found = ask(source, expression).data()["result"]
    assert "".join(row["metric"]["i"] for row in found) == order


def test_labels_are_sorted_with_numbers_by_value() -> None:
    source = in_memory()
    for name in ["a10", "a2", "b", "a2b"]:
        source.add({"__name__": "m", "i": name}, every_minute([1.0]))
    found = ask(source, 'sort_by_label(m, "i")').data()["result"]
    assert [row["metric"]["i"] for row in found] == ["a2", "a2b", "a10", "b"]
