"""A short attack on the HTTP server: its memory is bounded, and honest clients are served.

Longer: `python -m tests.system.faults.attack --help`.
"""

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("opentelemetry.proto", reason="needs redismetrics[otel]")

from tests.system.faults import attack


@pytest.mark.slow
def test_honest_clients_are_served_under_attack_in_little_memory() -> None:
    report = attack.run(8.0)
    print(report)
    assert report.wrong == [], f"{report}\n{report.log[-3_000:]}"
    assert report.recorded == report.stored == report.found > 0
    assert all(report.answers[kind] for kind in attack.HONEST)
    assert report.attacks["slow headers"] >= attack.SLOW_HEADS
    assert min(report.attacks.values()) > 0
    assert report.peak_bytes < attack.MAX_BYTES
