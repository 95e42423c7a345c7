"""The commands that record."""

import json
import time

import pytest

from redismetrics import Metrics
from tests.fixtures.shell import Shell


@pytest.mark.slow
def test_a_sample_is_stored_when_the_command_ends(shell: Shell, metrics: Metrics) -> None:
    assert shell.process("increment", "orders", "3", "--tag", "shop=de", "-t", "paid=yes") == (
        0,
        "",
        "",
    )
    assert shell("increment", "orders") == (0, "", "")
    assert metrics.query("orders", aggregation="sum", group_by=("shop", "paid")) == [
        {"shop": None, "paid": None, "sum": 1},
        {"shop": "de", "paid": "yes", "sum": 3},
    ]
    assert shell("gauge", "temperature", "-7.5") == (0, "", "")
    assert metrics.query("temperature", aggregation="last") == -7.5
    assert shell("record", "loss", "0.25", "--metadata", '{"epoch": 3}', "--timestamp", "2h") == (
        0,
        "",
        "",
    )
    (loss,) = metrics.query("loss")
    assert (loss.type, loss.value, loss.metadata) == ("histogram", 0.25, {"epoch": 3})
    assert abs(time.time() - 7200 - loss.timestamp.timestamp()) < 60
    assert shell("record", "seen", "--type", "gauge") == (0, "", "")
    (seen,) = metrics.query("seen")
    assert (seen.type, seen.value) == ("gauge", 1.0)


@pytest.mark.slow
def test_numbers_can_come_from_standard_input(shell: Shell, metrics: Metrics) -> None:
    given = "".join(f"{value / 2}\n\n" for value in range(1000))
    assert shell.process("histogram", "sizes", "-", "--tag", "disk=a", given=given) == (0, "", "")
    found = metrics.rollup("sizes", aggregations=("count", "sum", "max"))[""]
    assert found == {"count": 1000, "sum": 249750.0, "max": 499.5}
    status, out, err = shell("increment", "lines", "-", given="1\n2\nthree\n4\n")
    assert (status, out) == (2, "")
    assert err.startswith("redismetrics: line 3 of standard input: value must be a number")
    assert err.endswith("got 'three'; the 2 values before it were recorded\n")
    assert metrics.query("lines", aggregation="sum") == 3


def test_recording_as_another_type_fails(shell: Shell, metrics: Metrics) -> None:
    metrics.increment("orders")
    metrics.flush()
    assert shell("gauge", "orders", "3") == (
        2,
        "",
        "redismetrics: 'orders' is a counter; got a gauge\n",
    )
    assert metrics.query("orders", aggregation="sum") == 1


@pytest.mark.slow
def test_infos_states_and_summaries_are_recorded(shell: Shell, metrics: Metrics) -> None:
    info = ("record", "build", "--type", "info", "--tag", "app=shop")
    assert shell(*info, '{"version": "1.2"}') == (0, "", "")
    assert shell("record", "door", "open", "--type", "stateset") == (0, "", "")
    assert shell("record", "took", "0.5", "--type", "summary") == (0, "", "")
    shown = {
        name: [(each.tags, each.value) for each in metrics.live(name)[0].series]
        for name in ("build", "door", "took")
    }
    assert shown == {
        "build": [({"app": "shop", "version": "1.2"}, 1)],
        "door": [({"door": "open"}, 1)],
        "took": [({}, 0.5)],
    }
    took = ("record", "took_ms", "12.5", "--exemplar", "trace_id=5b8a", "--exemplar", "n=1")
    assert shell(*took) == (0, "", "")
    (exemplar,) = metrics.exemplars("took_ms")
    assert (exemplar.labels, exemplar.le) == ({"trace_id": "5b8a", "n": "1"}, 25)
    status, out, _ = shell("exemplars", "took_ms", "--json")
    assert (status, json.loads(out)) == (0, [exemplar.to_dict()])
    status, out, _ = shell("exemplars", "took_ms")
    assert out.splitlines()[1].split("\t")[1:3] == ['{"trace_id": "5b8a", "n": "1"}', "12.5"]
    status, _, err = shell(*info, "1.2")
    assert (status, err) == (2, "redismetrics: value must be a JSON object, got '1.2'\n")
