"""The limits of an application."""

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")


from redismetrics import InvalidSetting
from redismetrics.api.limits import Limits


def test_limits_must_be_numbers_above_0() -> None:
    with pytest.raises(InvalidSetting, match="max_rows must be a whole number above 0, got 0"):
        Limits(max_rows=0)
