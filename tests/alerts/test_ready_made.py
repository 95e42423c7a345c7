"""Rule files to start from, on data where the right answer is known."""

import importlib
from pathlib import Path

import pytest

from redismetrics.alerts import ready_made
from redismetrics.alerts.unit_tests.run import run_test_file
from redismetrics.errors import InvalidQuery


def outcome(folder: Path, rules: str, interval: str, series: str, tests: str) -> list[str]:
    """Return the failures of *tests* with the rules on *series*."""
    (folder / "rules.yml").write_text(rules)
    (folder / "test.yml").write_text(
        f"rule_files: [rules.yml]\nevaluation_interval: {interval}\ntests:\n"
        f"  - interval: {interval}\n    input_series:\n{series}    alert_rule_test:\n{tests}"
    )
    return run_test_file(folder / "test.yml").failures


def fires(at: str, alert: str, *labels: str) -> str:
    """Return a test that *alert* fires with *labels*, or does not fire without any."""
    expected = "".join(f"          - exp_labels: {each}\n" for each in labels)
    return f"      - eval_time: {at}\n        alertname: {alert}\n        exp_alerts:\n{expected}"


def without_annotations(rules: str) -> str:
    lines = rules.split("\n")
    return "\n".join(
        line for line in lines if not line.strip().startswith(("annotations", "summary", "descr"))
    )


@pytest.mark.slow
def test_burn_rates(tmp_path: Path) -> None:
    rules = without_annotations(
        ready_made.slo("api", 'requests_total{status="500"}', "requests_total", 99.0)
    )
    # No errors for two hours, then 20 of 100 fail: 20 times the budget of 1 %.
    series = (
        "      - {series: 'requests_total{status=\"200\"}', values: '0+100x120 12080+80x240'}\n"
        "      - {series: 'requests_total{status=\"500\"}', values: '0x120 20+20x240'}\n"
    )
    page = "{severity: page, burn_rate: '14.4', slo: api}"
    slower = "{severity: page, burn_rate: '6', slo: api}"
    ticket = "{severity: ticket, burn_rate: '1', slo: api}"
    tests = (
        fires("1h50m", "ErrorBudgetBurns")
        # Of the last hour 15 minutes had errors: 5 %, not yet 14.4 %.
        + fires("2h15m", "ErrorBudgetBurns", ticket)
        # A whole hour of errors: 20 %, and 6.7 % of the last three.
        + fires("3h5m", "ErrorBudgetBurns", page, slower, ticket)
    )
    assert outcome(tmp_path, rules, "1m", series, tests) == []


@pytest.mark.slow
def test_an_anomaly(tmp_path: Path) -> None:
    rules = without_annotations(
        ready_made.anomaly("visitors", "visitors", "avg_over_time", window="1h", weeks=2, width=3)
    )
    # Steps of an hour: 100 and 110 in turn, for two weeks and a day; then 500.
    series = "      - {series: 'visitors', values: '" + "100 110 " * (15 * 12) + "500x10'}\n"
    tests = fires("14d12h", "FarFromUsual") + fires(
        "15d3h", "FarFromUsual", "{severity: ticket, metric: visitors}"
    )
    assert outcome(tmp_path, rules, "1h", series, tests) == []


@pytest.mark.slow
def test_nothing_is_unusual_before_there_is_history(tmp_path: Path) -> None:
    rules = ready_made.anomaly("visitors", "visitors", "avg_over_time", weeks=2)
    series = "      - {series: 'visitors', values: '1x200 900x20'}\n"
    assert outcome(tmp_path, rules, "1h", series, fires("210h", "FarFromUsual")) == []


def test_absence(tmp_path: Path) -> None:
    rules = without_annotations(ready_made.absent("jobs", "jobs_total", window="10m"))
    series = (
        "      - {series: 'jobs_total{worker=\"a\"}', values: '1x20'}\n"
        "      - {series: 'jobs_total{worker=\"b\"}', values: '1x60'}\n"
    )
    gone_a = "{severity: ticket, metric: jobs, worker: a}"
    gone_b = "{severity: ticket, metric: jobs, worker: b}"
    tests = (
        fires("25m", "SeriesIsAbsent")
        + fires("40m", "SeriesIsAbsent", gone_a)
        + fires("40m", "MetricIsAbsent")
        + fires("80m", "SeriesIsAbsent", gone_a, gone_b)
        + fires("80m", "MetricIsAbsent", "{severity: page, metric: jobs}")
    )
    assert outcome(tmp_path, rules, "1m", series, tests) == []


def test_a_forecast(tmp_path: Path) -> None:
    rules = without_annotations(
        ready_made.forecast("disk", "disk_bytes", 1000, history="1h", ahead="2h")
    )
    # 5 a minute: 600 in two hours. It reaches 1,000 after 200 minutes, and is near it after 80.
    series = (
        "      - {series: 'disk_bytes{disk=\"a\"}', values: '0+5x300'}\n"
        "      - {series: 'disk_bytes{disk=\"b\"}', values: '500x300'}\n"
    )
    near = "{severity: ticket, metric: disk, disk: a}"
    tests = (
        fires("100m", "LimitIsNear")
        + fires("115m", "LimitIsNear", near)
        + fires("190m", "LimitIsReached")
        + fires("210m", "LimitIsReached", "{severity: page, metric: disk, disk: a}")
        + fires("210m", "LimitIsNear")
    )
    assert outcome(tmp_path, rules, "1m", series, tests) == []


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: ready_made.slo("a b", "x", "y", 99), "name must be"),
        (lambda: ready_made.slo("a", "rate(x[5m])", "y", 99), "errors must be a selector"),
        (lambda: ready_made.slo("a", "x", "y", 100), "objective must be"),
        (lambda: ready_made.anomaly("a", "x", "nosuch"), "function must be"),
        (lambda: ready_made.anomaly("a", "x", "rate", weeks=1), "weeks must be"),
        (lambda: ready_made.absent("a", "x", window="soon"), "window must be a duration"),
        (lambda: ready_made.forecast("a", "x", 1, ahead="0"), "ahead must be longer"),
    ],
)
def test_rejected_inputs(call: object, problem: str) -> None:
    with pytest.raises(InvalidQuery, match=problem):
        call()  # type: ignore[operator]


@pytest.mark.slow
def test_the_picture_of_the_page_is_of_these_rules(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs redismetrics[bench]")
    pictures = importlib.import_module("benchmarks.alert_pictures")
    pictures.draw(tmp_path / "alerts.svg")
    # Labels depend on the version of matplotlib, what is drawn does not.
    assert (tmp_path / "alerts.svg").stat().st_size > 10_000
    for make in (pictures.burn_rate, pictures.anomaly, pictures.absent, pictures.forecast):
        _, times, found, _ = make()
        assert 0 < len(found) < len(times) / 2
