"""Values, bars and sparklines."""

import os
import re

from rich.console import Console

from redismetrics.cli.printing import bars, cell, plain, sample_line, sparkline
from redismetrics.model.sample import Sample
from redismetrics.model.time import to_datetime


def test_numbers_are_formatted_for_people_and_for_programs() -> None:
    assert [cell(value) for value in (None, 1234567, 0.123456, 12.0, 1e300, True)] == [
        "",
        "1,234,567",
        "0.1235",
        "12",
        "1e+300",
        "True",
    ]
    assert plain(0.1 + 0.2) == "0.30000000000000004"
    assert sparkline([0, None, 7, 3.5, 8]) == "▁ █▄█"
    assert sparkline([-4, 4, 0], blocks=False) == "_#="
    assert sparkline([None, 0, 0]) == " ▁▁"


def test_bars_of_negative_and_missing_values() -> None:
    class Utf:
        encoding = "utf-8"

    rows = [
        {"timestamp": to_datetime(60_000 * at), "last": value}
        for at, value in enumerate((-3.0, None, 2.0))
    ]
    assert bars(Utf(), rows, "last") == [  # type: ignore[arg-type]
        f"  00:00:00  {'':40}  {'-3':>10}",
        "  00:01:00",
        f"  00:02:00  {'█' * 40}  {'2':>10}",
    ]


def test_a_sample_is_shown_with_its_time_tags_and_count() -> None:
    sample = Sample(
        "jobs", "counter", 1.0, 3521, {"queue": "[mail]"}, to_datetime(1_700_000_000_042)
    )
    assert re.split(" {2,}", sample_line(sample)) == [
        "22:13:20.042",
        "jobs",
        "queue=[mail]",
        "1 x 3,521",
    ]


def test_bars_are_drawn_to_the_largest() -> None:
    rows = [
        {"timestamp": to_datetime(1000 * at), "sum": count} for at, count in enumerate((80, 0, 31))
    ]
    console = Console(file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    full, none, less = (line.split() for line in bars(console, rows, "sum"))
    assert full == ["00:00:00", "█" * 40, "80"]
    assert none == ["00:00:01", "0"]
    assert less == ["00:00:02", "█" * 15 + "▌", "31"]
    console.file.close()
