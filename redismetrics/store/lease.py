"""Leases: only one process at a time does a piece of work, among any number of candidates.

A lease is valid for a limited time, by the server's clock. Its *fence* grows with every new holder:
scripts that write for the holder compare it (see lua/include/lease.lua), so a process that was
paused for longer than its lease cannot change anything afterwards. (Gray and Cheriton, Leases, SOSP
1989; the fence: Kleppmann, How to do distributed locking, 2016.)
"""

from typing import NamedTuple

import msgpack

from . import scripts
from .driver import Operation
from .replies import reading


class Lease(NamedTuple):
    """The state of a lease when the server answered.

    Attributes:
        holder: Id of the process that has it; empty if nobody does.
        fence: Fencing token of the holder.
        valid_ms: How long it is still valid; 0 if it has expired.
    """

    holder: str
    fence: int
    valid_ms: int


def take(key: str, name: str, holder: str, ttl_ms: int) -> Operation[Lease]:
    """Take or renew the lease *name* in the hash *key*; return its resulting state.

    Check whether the result names *holder*. Renew after a third of *ttl_ms*.
    """
    return (yield from _call(key, name, holder, ttl_ms))


def release(key: str, name: str, holder: str) -> Operation[Lease]:
    """Release the lease if *holder* has it, so that another process need not wait."""
    return (yield from _call(key, name, holder, 0))


def _call(key: str, name: str, holder: str, ttl_ms: int) -> Operation[Lease]:
    sha = scripts.script("lease").sha
    (reply,) = yield [("EVALSHA", sha, 1, key, name, holder, ttl_ms * 1000)]
    with reading("leases"):
        found, fence, valid_us = msgpack.unpackb(reply)
        return Lease(str(found), int(fence), int(valid_us) // 1000)
