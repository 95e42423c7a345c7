"""The command declare changes options of a metric."""

import pytest

from redismetrics import Metrics
from tests.fixtures.shell import Shell


def test_options_are_changed_and_printed(shell: Shell, filled: Metrics) -> None:
    status, out, _ = shell("declare", "queue_depth", "--exact-samples", "--retention", "30d")
    assert (status, out) == (0, "queue_depth: exact_samples=True retention=2592000.0\n")
    status, out, _ = shell("declare", "queue_depth", "--no-exact-samples", "--max-series", "50")
    assert (status, out) == (
        0,
        "queue_depth: exact_samples=False retention=2592000.0 max_series=50\n",
    )
    (found,) = [row for row in filled.list_metrics() if row["name"] == "queue_depth"]
    assert found["options"] == {"exact_samples": False, "retention": 2_592_000, "max_series": 50}
    # What is recorded from then on follows them.
    filled.gauge("queue_depth", 5)
    assert filled.flush().stored == 1
    known = filled.internals.definition("queue_depth")
    assert known is not None
    assert known.options.max_series == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("queue_depth",), "declare needs an option to change, such as --retention 30d"),
        (("queue_depth", "--retention", "30"), "--retention must be a duration such as 12h or 30d"),
        (("queue_depth", "--retention", "1s"), "retention must be a number of seconds from 3600"),
        (("orders", "--exact-samples"), "exact_samples is for gauge, histogram"),
        (("nothing", "--max-series", "5"), "no metric 'nothing' in namespace"),
    ],
)
def test_wrong_commands_are_errors(
    shell: Shell, filled: Metrics, arguments: tuple[str, ...], message: str
) -> None:
    status, out, error = shell("declare", *arguments)
    assert status != 0
    assert out == ""
    assert message in error
    assert all(row["options"] == {} for row in filled.list_metrics())
