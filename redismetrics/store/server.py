"""What is asked of Redis, as generators: each yields the commands of one round trip, is sent their replies, returns the answer.

Nothing here loops over series in Lua, uses KEYS or SCAN, or writes while it reads.
"""

import msgpack

from redismetrics.errors import FormatMismatch

from . import keys, scripts
from .driver import Operation
from .replies import read_info, read_now_ms


def now() -> Operation[int]:
    """The server's time in ms."""
    (time,) = yield [("TIME",)]
    return read_now_ms(time)


def info(*sections: str) -> Operation[dict[str, str]]:
    """What the server says of itself in these sections of INFO, which a user must be let ask."""
    found: dict[str, str] = {}
    for text in (yield [("INFO", section) for section in sections]):
        found |= read_info(text)
    return found


def who_am_i() -> Operation[str]:
    (name,) = yield [("ACL", "WHOAMI")]
    return str(name.decode())


def configured(name: str) -> Operation[str]:
    """One setting of the server."""
    (found,) = yield [("CONFIG", "GET", name)]
    return found[1].decode() if found else ""


def try_scripts(namespace: str, shard: int) -> Operation[int]:
    """Load the scripts and run those that can be run to no effect; return how many ran.

    `forget` is told to forget nothing. `record` gets a batch that was applied before, where somebody recorded, and answers
    with the reply that it kept.
    """
    yield [("SCRIPT LOAD", scripts.script(name).text) for name in scripts.NAMES]
    of = keys.shard(namespace, shard)
    forgot, (_, entries) = yield [
        ("EVALSHA", scripts.script("forget").sha, 1, of.writers),
        ("HSCAN", of.writers, 0, "COUNT", 1),
    ]
    if forgot != 0:
        raise FormatMismatch(f"forget.lua: wanted 0 writers forgotten, got {forgot!r:.60}")
    if not entries:
        return 1
    limits = msgpack.packb([0, 0, 0, 0, 0, 0, ""])
    (reply,) = yield [("EVALSHA", scripts.script("record").sha, 4, *of, entries[0], 0, 0, limits)]
    try:
        msgpack.unpackb(reply, raw=True)
    except Exception as error:
        raise FormatMismatch(f"record.lua: its kept reply can't be read: {error}") from error
    return 2
