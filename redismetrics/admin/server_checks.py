"""Checks of a server or of one primary: version, memory, eviction, persistence, clock."""

from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from redismetrics.errors import ScriptFailed, StoreError, StoreUnavailable
from redismetrics.model.time import Clock
from redismetrics.store import urls
from redismetrics.store.driver import Client, Operation, run
from redismetrics.store.server import configured, now
from redismetrics.store.server import info as server_info
from redismetrics.store.urls import parse_multi_host_url

from .findings import Finding, Status, readable_size

T = TypeVar("T")

OLDEST_SERVER = (6, 2)
# Difference between two clocks that deserves a warning.
SKEW_SECONDS = 2.0
# Shares of a limit that are a failure and a warning.
FULL, ALMOST_FULL = 0.95, 0.8


@dataclass(slots=True)
class Node:
    """A server, or one primary of a cluster. *name* is '' if there is only one node.

    INFO is read once. A node that did not answer is not contacted again.
    """

    name: str
    client: Client
    _info: dict[str, str] | None = None
    _error: StoreError | None = None

    def run(self, operation: Operation[T]) -> T:
        """Run *operation* on this node."""
        if isinstance(self._error, StoreUnavailable):
            raise self._error
        try:
            return run(self.client, operation)
        except StoreError as error:
            self._error = error
            raise

    def answers(self) -> bool:
        """Return whether the node answers."""
        try:
            self.run(now())
        except StoreUnavailable:
            return False
        return True

    @property
    def info(self) -> dict[str, str]:
        """The fields of INFO that the checks need."""
        if self._info is None:
            sections = ("server", "memory", "persistence", "replication", "stats")
            self._info = self.run(server_info(*sections))
        return self._info


def is_password_exposed(url: str) -> bool:
    """Return whether the password in *url* crosses the network without TLS."""
    parts = urlsplit(url)
    has_password = parts.password is not None or "password=" in parts.query.lower()
    if parts.scheme.partition("+")[0] != "redis" or not has_password:
        return False
    hosts = (
        [host for host, _ in parse_multi_host_url(url).hosts]
        if "+" in parts.scheme
        else [parts.hostname or "localhost"]
    )
    return not all(map(urls.is_loopback, hosts))


def check_version(node: Node) -> Finding:
    """Check the version and the role of the server."""
    info = node.info
    valkey = info.get("valkey_version")
    version = valkey or info.get("redis_version", "")
    role = info.get("role", "")
    details = {"name": "valkey" if valkey else "redis", "version": version, "role": role}
    shown_role = "a replica" if role == "slave" else role or "no role"
    found = f"{'Valkey' if valkey else 'Redis'} {version}, {shown_role}"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST_SERVER:
        return Finding("server", "failure", found, "Use Redis 6.2 or newer, or Valkey.", details)
    if role == "slave":
        advice = "Record and run workers on the primary: a replica only answers queries."
        return Finding("server", "warning", found, advice, details)
    return Finding("server", "ok", found, details=details)


def check_memory(node: Node) -> Finding:
    """Check the used memory against `maxmemory`, or against the machine's memory."""
    info = node.info
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    machine = int(info.get("total_system_memory", 0))
    details = {"used_bytes": used, "maxmemory_bytes": limit, "machine_bytes": machine}
    total = limit or machine
    share = used / total if total else 0.0
    found = f"{readable_size(used)} used"
    if total:
        kind = "maxmemory" if limit else "the memory of the machine, without maxmemory"
        found += f", {share:.0%} of {readable_size(total)}, {kind}"
    if share >= FULL:
        advice = "Add memory or delete metrics: a full server rejects new samples."
        return Finding("memory", "failure", found, advice, details)
    if share >= ALMOST_FULL:
        advice = "Add memory, shorten the retentions or delete metrics, before it is full."
        return Finding("memory", "warning", found, advice, details)
    return Finding("memory", "ok", found, details=details)


def check_eviction(node: Node) -> Finding:
    """Check that the server does not evict keys."""
    info = node.info
    policy, evicted = info.get("maxmemory_policy", "unknown"), int(info.get("evicted_keys", 0))
    limit = int(info.get("maxmemory", 0))
    details = {"policy": policy, "evicted_keys": evicted}
    found = f"{policy}, {evicted:,} keys evicted since its start"
    if policy != "noeviction":
        advice = (
            "CONFIG SET maxmemory-policy noeviction: any other policy deletes metrics silently."
        )
        status: Status = "failure" if limit or evicted else "warning"
        return Finding("eviction", status, found, advice, details)
    if evicted:
        advice = (
            "Metrics may lack data that was evicted under an earlier policy; nothing to do now."
        )
        return Finding("eviction", "warning", found, advice, details)
    return Finding("eviction", "ok", found, details=details)


def check_persistence(node: Node) -> Finding:
    """Check that the server writes its data to disk."""
    info = node.info
    if info.get("loading") == "1":
        return Finding(
            "persistence", "failure", "the server is loading its data", "Wait until it is done."
        )
    appends = info.get("aof_enabled") == "1"
    try:
        saves: str | None = node.run(configured("save"))
    except ScriptFailed:
        # Many users with permission for INFO have none for CONFIG.
        saves = None
    details = {
        "aof": appends,
        "save": saves,
        "last_save": int(info.get("rdb_last_save_time", 0)),
        "changes_since": int(info.get("rdb_changes_since_last_save", 0)),
    }
    if appends:
        kind = "append-only file"
    elif saves is None:
        kind = "unknown"
    else:
        kind = "snapshots" if saves else "none"
    statuses = ("rdb_last_bgsave_status", "aof_last_bgrewrite_status", "aof_last_write_status")
    failed = [f"{name} {info[name]}" for name in statuses if info.get(name, "ok") != "ok"]
    if failed:
        advice = "See the server's log: it cannot write to its disk, and may reject samples."
        return Finding("persistence", "failure", f"{kind}; {', '.join(failed)}", advice, details)
    if kind == "none":
        advice = "CONFIG SET appendonly yes; otherwise a restart loses all metrics."
        return Finding("persistence", "warning", "none", advice, details)
    if kind == "unknown":
        advice = "Grant the user +config|get to check snapshots, or use another user."
        found = "no append-only file; snapshots unknown"
        return Finding("persistence", "warning", found, advice, details)
    return Finding("persistence", "ok", kind, details=details)


def check_clock(node: Node, clock: Clock, max_future: float) -> Finding:
    """Compare the server's clock with this machine's *clock*."""
    before = clock()
    server = node.run(now()) / 1000
    after = clock()
    # The uncertainty is half of the round trip.
    skew = max(abs(server - (before + after) / 2) - abs(after - before) / 2, 0.0)
    if server < (before + after) / 2:
        skew = -skew
    details = {"skew_seconds": skew}
    direction = "ahead of" if skew >= 0 else "behind"
    found = f"the clock of the server is {abs(skew):.3f} s {direction} that of this machine"
    if abs(skew) >= max_future:
        advice = "Synchronise both clocks with NTP: samples with timestamps are rejected."
        return Finding("clock", "failure", found, advice, details)
    if abs(skew) >= SKEW_SECONDS:
        advice = "Synchronise both clocks with NTP: samples may be stored in the wrong minutes."
        return Finding("clock", "warning", found, advice, details)
    return Finding("clock", "ok", found, details=details)
