"""The doctor's notice of metrics that programs use with two types."""

from redismetrics import Metrics
from redismetrics.admin.doctor import examine
from tests.fixtures.diagnoses import by_check
from tests.fixtures.servers import Server


def test_a_metric_with_two_types_is_a_warning(server: Server, namespace: str) -> None:
    with Metrics(server.url, namespace=namespace) as metrics:
        metrics.increment("jobs_total")
        metrics.gauge("alone:gauge", 1)
        metrics.flush()
        assert "types" not in by_check(examine(server.url, namespace=namespace))
        metrics.gauge("jobs_total:gauge", 1)
        metrics.flush()
    found = by_check(examine(server.url, namespace=namespace))["types"]
    assert found.status == "warning"
    assert found.found == "1 metric of prometheus_client with two types: jobs_total:gauge"
    assert found.advice.endswith("for example `redismetrics delete jobs_total`.")
    assert found.details == {"metrics": {"jobs_total:gauge": "gauge"}}
