"""The limits of an application."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")


from redismetrics import InvalidSetting
from redismetrics.api.limits import Limits


def test_limits_must_be_numbers_above_0() -> None:
    with pytest.raises(InvalidSetting, match="max_rows must be a whole number above 0, got 0"):
        Limits(max_rows=0)


def test_the_page_names_each_limit_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
    units = {"": 1, "s": 1, "days": 86_400, "MiB": 1 << 20}
    table = page.partition("| limit | default | meaning |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) ?(\w*) \|", table, re.MULTILINE)
    described = {name: int(number.replace(",", "")) * units[unit] for name, number, unit in rows}
    assert described == {each.name: each.default for each in fields(Limits)}
