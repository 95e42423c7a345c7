"""Patterns of metric names match what Redis' own patterns match."""

import itertools
import re
import time
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics.stream.patterns import glob_to_regex
from tests.fixtures.servers import Server

SIGNS = "ab-^]*?[.9"


NAMES = ["".join(each) for size in (1, 2, 3) for each in itertools.product("ab-.9", repeat=size)]


@pytest.fixture(scope="module")
def names(server: Server) -> Any:
    with server.client(decode_responses=True) as client:
        client.mset(dict.fromkeys(NAMES, ""))
        yield client
        client.delete(*NAMES)


@pytest.mark.parametrize(
    "pattern",
    [
        "[",
        "[]",
        "[^",
        "[^]",
        "[a",
        "[^a",
        "[a-",
        "[a-]",
        "[b-a]",
        "a[]b",
        "[]a]",
        "[.-9]",
        "*[^ab]",
        "[-a]",
    ],
)
def test_a_pattern_matches_what_redis_matches(names: redis.Redis, pattern: str) -> None:
    assert matched(pattern) == set(names.keys(pattern)) & set(NAMES)


@settings(max_examples=300)
@given(pattern=st.text(SIGNS, min_size=1, max_size=6))
def test_any_pattern_matches_what_redis_matches(names: redis.Redis, pattern: str) -> None:
    assert matched(pattern) == set(names.keys(pattern)) & set(NAMES)


def matched(pattern: str) -> set[str]:
    return {name for name in NAMES if re.fullmatch(glob_to_regex(pattern), name)}


def test_name_patterns_match_in_linear_time() -> None:
    fits = re.compile(glob_to_regex("*a" * 99 + "*b"), re.DOTALL)
    began = time.process_time()
    assert fits.fullmatch("a" * 200) is None
    assert fits.fullmatch("a" * 199 + "b")
    assert time.process_time() - began < 1
