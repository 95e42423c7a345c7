"""A warning if the server may evict what is stored."""

import logging

from redismetrics.errors import ScriptFailed
from redismetrics.store.driver import Client, run
from redismetrics.store.server import info

log = logging.getLogger("redismetrics")


def warn_if_evicting(client: Client) -> None:
    """Log a warning if the server has a memory limit and evicts keys when it is reached.

    A user without the right to INFO is not warned: `redismetrics doctor` says what it could not
    check.
    """
    try:
        memory = run(client, info("memory"))
    except ScriptFailed:
        return
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and memory.get("maxmemory", "0") != "0":
        log.warning(
            "the server deletes metrics without notice when it is full, because its "
            "maxmemory-policy is %s: use a server of its own with noeviction",
            policy,
        )
