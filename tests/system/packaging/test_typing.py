"""Type checkers see the types of the public API in code of users."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")

# Seconds. The check takes 7 on two cores.
PATIENCE = 390

# Code of a user that must be clean with `--strict`.
PROGRAM = """
from collections.abc import Iterator
from typing import Any, assert_type

import redismetrics as rm

orders = rm.Counter("orders")
depth = rm.Gauge("depth", per="process", merge="sum")
wait = rm.Histogram("wait_seconds")
assert_type(orders.with_tags(shop="de"), rm.Counter)
assert_type(depth.with_tags({"shop": "de"}), rm.Gauge)
assert_type(wait.with_tags(shop="de").with_tags(country="de"), rm.Histogram)


def of_shop(shop: str) -> rm.Counter:
    return orders.with_tags(shop=shop)


@rm.measure("report_seconds", outcome_tag="status")
def report(pages: int, title: str = "") -> Iterator[bytes]:
    yield b""


@wait.time()
async def fetch(url: str) -> bytes:
    return b""


async def main() -> None:
    assert_type(report(3, title="June"), Iterator[bytes])
    assert_type(await fetch("/"), bytes)
    async with rm.AsyncMetrics() as metrics:
        assert_type(await metrics.query("orders", aggregation="last"), float | None)


rm.gauge("queue_depth", 3)
assert_type(rm.query("orders", aggregation="sum", window="1h"), float)
assert_type(rm.query("wait_seconds", aggregation="p95"), float | None)
assert_type(rm.query("orders", aggregation="sum", group_by=["shop"]), list[dict[str, Any]])
assert_type(rm.query("orders"), list[rm.Sample])
assert_type(rm.gauge("in_progress", per="process"), rm.Gauge)
for sample in rm.subscribe("orders"):
    assert_type(sample, rm.Sample | rm.Gap)
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_program_of_a_user_passes_a_strict_check(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    options = ("--strict", "--cache-dir", str(tmp_path / "cache"), "--config-file", "")
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *options, program],
        # Without the checkout, so that the package's marker `py.typed` counts.
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
