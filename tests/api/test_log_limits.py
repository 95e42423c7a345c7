"""The log that requests cannot fill."""

import logging

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")

from redismetrics.api.log_limits import RepeatFilter


def test_repeated_messages_are_counted_instead_of_logged() -> None:
    now = [0.0]
    limit = RepeatFilter(lambda: now[0])

    def logged(message: str, *arguments: object) -> str | None:
        record = logging.LogRecord("x", logging.WARNING, "", 0, message, arguments, None)
        return record.getMessage() if limit.filter(record) else None

    texts = [logged("bad request %d", number) for number in range(500)]
    assert texts == [*(f"bad request {number}" for number in range(10)), *[None] * 490]
    assert logged("another") == "another"
    now[0] = 60.0
    assert logged("bad request %d", 500) == "bad request 500 (and 490 more like it before)"
    assert logged("bad request %d", 501) == "bad request 501"
