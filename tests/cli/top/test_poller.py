"""The metrics that `top` selects."""

from redismetrics.cli.top.poller import matches


def test_patterns_are_those_of_subscribe() -> None:
    assert matches("jobs", [])
    assert matches("jobs_done", ["x", "jobs_*"])
    assert matches("jobs_1", ["jobs_[^2]"])
    assert not matches("jobs_2", ["jobs_[^2]"])
    assert not matches("Jobs", ["jobs"])
