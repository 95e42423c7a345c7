"""Gzip for clients that accept it."""

import gzip

import pytest

from redismetrics.exposition.compression import accepts_gzip, compress


@pytest.mark.parametrize(
    ("header", "accepts"),
    [
        (None, False),
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip;q=0.1", True),
        ("gzip ; Q=1.0", True),
        ("gzip;q=nonsense", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("br, *;q=0.5", True),
        ("gzipped", False),
    ],
)
def test_accept_encoding(header: str | None, accepts: bool) -> None:
    assert accepts_gzip(header) is accepts


def test_small_bodies_are_not_compressed() -> None:
    assert compress(b"x" * 999, "gzip") is None
    found = compress(b"x" * 1_000, "gzip")
    assert found is not None
    assert gzip.decompress(found) == b"x" * 1_000
