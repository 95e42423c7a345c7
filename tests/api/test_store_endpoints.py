"""What the store's page shows: the doctor's findings and the metrics with the most series."""

from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")

from redismetrics import Metrics
from redismetrics.admin import examine
from tests.fixtures.webserver import error_message


def test_the_doctor_answers_as_the_command(web: Any, metrics: Metrics) -> None:
    metrics.increment("jobs")
    metrics.flush()
    expected = examine(metrics.settings.url, namespace=metrics.settings.namespace).to_dict()
    found = web.get("/api/doctor").json()
    assert found["healthy"] is expected["healthy"] is True

    def checks(report: Any) -> Any:
        return [(each["check"], each["status"]) for each in report["findings"]]

    assert checks(found) == checks(expected)
    # Kept for ten seconds: it tries scripts.
    assert web.get("/api/doctor").json() == found


def test_cardinality_answers_as_the_client(web: Any, metrics: Metrics) -> None:
    for number in range(3):
        metrics.increment("jobs", tags={"queue": f"q{number}"})
    metrics.gauge("depth", 1)
    metrics.flush()
    assert web.get("/api/cardinality").json() == {"metrics": metrics.cardinality()}
    assert [row["name"] for row in web.get("/api/cardinality?limit=1").json()["metrics"]] == [
        "jobs"
    ]
    message = error_message(web.get("/api/cardinality?limit=0"), 400)
    assert message == "limit must be a whole number from 1 to 1000, got '0'"
