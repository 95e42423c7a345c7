"""Tools of the worker's tests."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import redis

from redismetrics import Metrics
from redismetrics.store import keys
from redismetrics.store.record_state import RecordState
from redismetrics.worker import Worker
from tests.fixtures.servers import PROCESS_PATIENCE
from tests.fixtures.workers import contents

ROOT = Path(__file__).parents[2]


MODULE, COMMAND = ("redismetrics.worker",), ("redismetrics", "worker")


# Nothing listens there.
NOWHERE = "redis://someone:secret@127.0.0.1:1/0"


# A flush interval longer than any test: only the test itself flushes.
NEVER = 3_600.0


DAY_MS, SECOND_US = 86_400_000, 1_000_000


Make = Callable[..., Worker]


def start(*args: str, how: tuple[str, ...] = MODULE, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", *how, *args],
        cwd=ROOT,
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def command(*args: str, how: tuple[str, ...] = MODULE, **environment: str) -> tuple[int, str, str]:
    """Run the worker to its end; return exit code, stdout and stderr."""
    with start(*args, how=how, **environment) as process:
        try:
            out, err = process.communicate(timeout=PROCESS_PATIENCE)
        finally:
            process.kill()
    return process.returncode, out, err


def state(admin: redis.Redis, namespace: str, name: str) -> dict[str, Any]:
    """Return the state of a metric, with numbers as int, and what recording keeps of it."""
    found = admin.hgetall(keys.rollup(namespace, 0, name).state)
    recorded = RecordState.unpack(admin.hget(keys.shard(namespace, 0).recorded, name))
    return recorded._asdict() | {
        key.decode(): value if key == b"version" else int(float(value))
        for key, value in found.items()
    }


def waiting(admin: redis.Redis, namespace: str) -> list[str]:
    """Return the metrics with unsealed blocks."""
    return [name.decode() for name in admin.zrange(keys.shard(namespace, 0).dirty, 0, -1)]


def due(admin: redis.Redis, namespace: str, name: str) -> set[str]:
    return {each.decode() for each in admin.hkeys(keys.rollup(namespace, 0, name).due)}


def of_metric(admin: redis.Redis, namespace: str, name: str) -> dict[bytes, Any]:
    return {
        key: held for key, held in contents(admin, namespace).items() if f":{name}:".encode() in key
    }


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "redismetrics-worker"]


def record_many(metrics: Metrics, count: int) -> None:
    for metric in range(count):
        metrics.increment(f"jobs_{metric}", metric + 1)
    metrics.flush()


def totals(metrics: Metrics, count: int) -> float:
    return sum(metrics.query(f"jobs_{metric}", aggregation="sum") for metric in range(count))


def set_back(admin: redis.Redis, namespace: str, writer: str, by_ms: int) -> None:
    """Move the last batch of a writer into the past."""
    key = keys.shard(namespace, 0).writers
    sequence, _, reply = msgpack.unpackb(admin.hget(key, writer), raw=True)
    seconds, micros = admin.time()
    clock = seconds * 1_000_000 + micros - by_ms * 1000
    admin.hset(key, writer, msgpack.packb([sequence, clock, reply], use_bin_type=False))
