"""Kill an archiver at each of its steps, and let another one go on.

    python -m tests.archive.killed_passes URL NAMESPACE TO

Each pass has an archive of its own, in a folder of TO or with tables of its own, and is killed one
step later than the one before. Prints the number of passes; the last one was not killed.
"""

import os
import pathlib
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import redis
from clickhouse_connect.driver._backend.http_sync import HttpSyncBackend
from pyarrow.parquet import ParquetWriter

from redismetrics.archive import clickhouse, parquet, parquet_files, postgres
from redismetrics.archive.archiver import Archiver
from redismetrics.archive.target import Target, open_target
from redismetrics.settings import resolve
from redismetrics.store import keys
from redismetrics.store.connection import Store

LEVELS = ("hour", "day")
# What a pass imports: children that import it themselves take ten times as long.
LOADED = (clickhouse, parquet, postgres)


def target_of(to: str, number: int) -> Target:
    """Return the archive of a pass."""
    if not to.startswith("file"):
        return open_target(to, prefix=f"k{number}_")
    return open_target(f"{to}/{number}")


def steps() -> list[tuple[Any, str]]:
    """Return what changes an archive: functions by owner and name."""
    return [
        (psycopg.Cursor, "execute"),
        (psycopg.Transaction, "__exit__"),
        (ParquetWriter, "write_table"),
        (ParquetWriter, "close"),
        (pathlib.Path, "replace"),
        (parquet_files, "fsync"),
        (os, "fsync"),
        (HttpSyncBackend, "request"),
    ]


def kill_before(number: int) -> None:
    """Let this process kill itself before step *number*, from 0 on."""
    left = [number]

    def counted(whole: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return whole(*args, **options)

    for owner, name in steps():
        whole = getattr(owner, name)
        # A method needs a function, which a partial is not.
        if isinstance(owner, type):
            setattr(owner, name, lambda *args, whole=whole, **more: counted(whole, *args, **more))
        else:
            setattr(owner, name, partial(counted, whole))


def run_pass(url: str, namespace: str, to: str, number: int, *, is_killed: bool) -> int:
    """Run a pass in a child; return its status as of `os.waitpid`."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    status = 1
    try:
        store = Store(resolve({}, url=url).url, 60.0)
        with redis.Redis.from_url(store.url) as client:
            # Those of a child that was killed are still valid.
            client.delete(keys.archive_leases(namespace))
        target = target_of(to, number)
        if is_killed:
            kill_before(number)
        Archiver(store.client, namespace, target, LEVELS, str(os.getpid())).pass_once()
        status = 0
    except Exception:  # noqa: BLE001
        traceback.print_exc()
    finally:
        os._exit(status)


def main(url: str, namespace: str, to: str) -> int:
    number = 0
    while True:
        status = run_pass(url, namespace, to, number, is_killed=True)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            status = run_pass(url, namespace, to, number, is_killed=False)
            number += 1
        elif status == 0:
            print(number + 1)
            return 0
        if status:
            return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
