"""Operations on the Redis server itself: its time, its settings, its scripts."""

import msgpack

from redismetrics.errors import FormatMismatch, shown

from . import keys, scripts
from .driver import Operation
from .replies import read_info, read_now_ms


def now() -> Operation[int]:
    """Return the server's time in ms."""
    (time,) = yield [("TIME",)]
    return read_now_ms(time)


def info(*sections: str) -> Operation[dict[str, str]]:
    """Return the fields of these sections of INFO. Needs permission for INFO."""
    found: dict[str, str] = {}
    for text in (yield [("INFO", section) for section in sections]):
        found |= read_info(text)
    return found


def who_am_i() -> Operation[str]:
    """Return the name of the user."""
    (name,) = yield [("ACL", "WHOAMI")]
    return str(name.decode())


def configured(name: str) -> Operation[str]:
    """Return one setting of the server; '' if it does not exist."""
    (found,) = yield [("CONFIG", "GET", name)]
    return found[1].decode() if found else ""


def try_scripts(namespace: str, shard: int) -> Operation[int]:
    """Load the scripts, and run those that can run without side effects; return how many ran.

    `forget` gets no writers to forget. If anything has been recorded, `record` gets a batch that
    was already applied, and returns the stored reply.
    """
    yield [("SCRIPT LOAD", scripts.script(name).text) for name in scripts.NAMES]
    shard_keys = keys.shard(namespace, shard)
    forgotten, (_, entries) = yield [
        ("EVALSHA", scripts.script("forget").sha, 1, shard_keys.writers),
        ("HSCAN", shard_keys.writers, 0, "COUNT", 1),
    ]
    if forgotten != 0:
        raise FormatMismatch(f"forget.lua must forget 0 writers, got {shown(forgotten)}")
    if not entries:
        return 1
    limits = msgpack.packb([0, 0, 0, 0, 0, 0, "", []])
    (reply,) = yield [
        ("EVALSHA", scripts.script("record").sha, 5, *shard_keys, entries[0], 0, 0, limits)
    ]
    try:
        msgpack.unpackb(reply, raw=True)
    except Exception as error:
        raise FormatMismatch(f"cannot read the stored reply of record.lua: {error}") from error
    return 2
