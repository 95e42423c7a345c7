"""What is wrong with a store, and what to do about it: `examine` asks and judges, and changes nothing.

    connection -> server, memory, eviction, persistence, clock, scripts -> format -> workers, losses, metrics, writers

Each finding is ok, a warning or a failure; of a cluster each primary is looked at, and a finding is of the worst of them. What
this user may not ask is a warning that names the right: a reader's rights are enough for all the rest.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar
from urllib.parse import urlsplit

from redis import __version__ as client_version
from redis.exceptions import AuthenticationError, NoPermissionError

from redismetrics.errors import FormatMismatch, ScriptFailed, StoreError, StoreUnavailable
from redismetrics.model.time import Clock, system_clock
from redismetrics.settings import resolve
from redismetrics.store import catalog, keys, stats, urls
from redismetrics.store.cluster import ClusterClient
from redismetrics.store.connection import Store
from redismetrics.store.driver import Client, Operation, run, translated
from redismetrics.store.namespace import Namespace
from redismetrics.store.server import configured, now, try_scripts, who_am_i
from redismetrics.store.server import info as server_info
from redismetrics.store.stats import MetricStats
from redismetrics.store.urls import parse_multi_host_url, safe_url

from .findings import SEVERITY, Diagnosis, Finding

T = TypeVar("T")


OLDEST_SERVER = (6, 2)
SLOW_SECONDS = 0.1  # for a question that the server answers at once
SKEW_SECONDS = 2.0
FULL, ALMOST_FULL = 0.95, 0.8
LAG_SECONDS, LONG_LAG_SECONDS = 60.0, 600.0
BIGGEST = 5


def examine(
    url: str | None = None,
    *,
    namespace: str | None = None,
    socket_timeout: float | None = None,
    clock: Clock = system_clock,
) -> Diagnosis:
    """Examine a namespace and the server that it is on; settings are looked up as by `Metrics`.

    What is wrong with the store is in the report, never raised: also that it can't be reached.

    Raises:
        InvalidSetting: a setting that is not usable, such as a URL.
    """
    settings = resolve(url=url, namespace=namespace, socket_timeout=socket_timeout)
    store = Store(settings.url, settings.socket_timeout)
    try:
        return Diagnosis(
            _Examination(
                store, settings.namespace, settings.max_series, settings.max_future, clock
            ).all()
        )
    finally:
        store.close()


@dataclass(slots=True)
class _Node:
    """A server, or one primary of a cluster; what it says of itself is asked once, and so is whether it answers."""

    name: str  # '' where there is one only
    client: Client
    figures: dict[str, str] | None = None
    trouble: StoreError | None = None

    def ask(self, operation: Operation[T]) -> T:
        if isinstance(self.trouble, StoreUnavailable):
            raise self.trouble
        try:
            return run(self.client, operation)
        except StoreError as error:
            self.trouble = error
            raise

    def answers(self) -> bool:
        try:
            self.ask(now())
        except StoreUnavailable:
            return False
        return True

    @property
    def info(self) -> dict[str, str]:
        if self.figures is None:
            self.figures = self.ask(
                server_info("server", "memory", "persistence", "replication", "stats")
            )
        return self.figures


class _Examination:
    def __init__(
        self, store: Store, namespace: str, max_series: int, max_future: float, clock: Clock
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._max_series = max_series
        self._max_future = max_future
        self._clock = clock
        self._namespace_config = Namespace(namespace)
        self._nodes: list[_Node] = []
        self._stood: dict[str, MetricStats] | None = None

    def all(self) -> list[Finding]:
        try:
            findings = [self._connection()]
        except StoreError as error:
            return [self._unreachable(error)]
        for check, right, judge in (
            ("server", "+info", self._server),
            ("memory", "+info", self._memory),
            ("eviction", "+info", self._eviction),
            ("persistence", "+info", self._persistence),
            ("clock", "+time", self._skew),
        ):
            findings.append(self._on_each(check, right, judge))
        for check, right, look in (
            ("scripts", "+evalsha +script|load", self._scripts),
            ("format", "+@read", self._format),
            ("workers", "+@read +time", self._workers),
            ("metrics", "+@read +time", self._metrics),
        ):
            findings += self._looked(check, right, look)
        return findings

    def _on_each(self, check: str, right: str, judge: Callable[[_Node], Finding]) -> Finding:
        """What *judge* finds at every primary, as one finding: of the worst of them, with the details of all."""
        nodes = self._nodes
        found = [self._looked(check, right, lambda node=node: [judge(node)])[0] for node in nodes]  # type: ignore[misc]
        if len(found) == 1:
            return found[0]
        worst = max(found, key=lambda each: SEVERITY.index(each.status))
        said: dict[str, list[str]] = {}
        for node, each in zip(nodes, found, strict=True):
            if each.status == worst.status:
                said.setdefault(each.found, []).append(node.name)
        if len(said) == 1 and len(said[worst.found]) == len(nodes):
            text = f"{worst.found}, on all {len(nodes)} primaries"
        else:
            text = "; ".join(f"{', '.join(names)}: {each}" for each, names in said.items())
        details = {node.name: each.details for node, each in zip(nodes, found, strict=True)}
        return Finding(check, worst.status, text, worst.advice, {"nodes": details})

    def _looked(self, check: str, right: str, look: Callable[[], list[Finding]]) -> list[Finding]:
        try:
            return look()
        except StoreUnavailable as error:
            return [
                Finding(
                    check,
                    "failure",
                    str(error),
                    "Find out what holds the server up, and look again.",
                )
            ]
        except FormatMismatch as error:
            advice = "Use the version of redismetrics that wrote it, or another namespace."
            return [Finding(check, "failure", str(error), advice)]
        except ScriptFailed as error:
            if isinstance(error.__cause__, NoPermissionError):
                advice = f"Not looked at: grant the user {right}, or ask as another one."
                return [Finding(check, "warning", "this user may not ask", advice)]
            return [Finding(check, "failure", str(error), "Mend what the server complains of.")]

    def _ask(self, operation: Operation[T]) -> T:
        return run(self._store.client(), operation)

    # -- the server -----------------------------------------------------------------------------------------------

    def _connection(self) -> Finding:
        self._nodes = self._found_nodes()
        node = next((node for node in self._nodes if node.answers()), self._nodes[0])
        began = perf_counter()
        node.ask(now())
        seconds = perf_counter() - began
        shown = safe_url(self._store.url)
        try:
            user = node.ask(who_am_i())
        except ScriptFailed:  # it may not be asked, and nothing hangs on it
            user = None
        details = {
            "url": shown, "namespace": self._namespace, "user": user, "round_trip_seconds": seconds,
            "redis_py": client_version, "python": platform.python_version(),
        }  # fmt: skip
        found = f"{shown}, namespace {self._namespace}, {seconds * 1000:.1f} ms away, by redis-py {client_version}"
        if user is not None:
            found += f" as {user}"
        if self._is_overheard():
            advice = "Use rediss://, since the password crosses the network in the open."
            return Finding("connection", "warning", found, advice, details)
        if seconds > SLOW_SECONDS:
            advice = "Run the processes nearer to the server, or find out what keeps it busy."
            return Finding("connection", "warning", found, advice, details)
        return Finding("connection", "ok", found, details=details)

    def _found_nodes(self) -> list[_Node]:
        client = self._store.client()
        if not isinstance(client, ClusterClient):
            return [_Node("", client)]
        with translated():
            return [_Node(name, each) for name, each in client.primaries().items()]

    def _is_overheard(self) -> bool:
        parts = urlsplit(self._store.url)
        named = parts.password is not None or "password=" in parts.query.lower()
        if parts.scheme.partition("+")[0] != "redis" or not named:
            return False
        url = self._store.url
        hosts = (
            [host for host, _ in parse_multi_host_url(url).hosts]
            if "+" in parts.scheme
            else [parts.hostname or "localhost"]
        )
        return not all(map(urls.is_loopback, hosts))

    def _unreachable(self, error: StoreError) -> Finding:
        shown = safe_url(self._store.url)
        advice = "Start the server, or name another by --url or REDISMETRICS_URL."
        if isinstance(error, ScriptFailed) or isinstance(error.__cause__, AuthenticationError):
            advice = "Give a user and password that the server knows, with the rights +@read +time on ~rm:*."
        details = {"url": shown, "namespace": self._namespace, "redis_py": client_version}
        return Finding("connection", "failure", f"{shown}: {error}", advice, details)

    def _server(self, node: _Node) -> Finding:
        info = node.info
        valkey = info.get("valkey_version")
        version = valkey or info.get("redis_version", "")
        role = info.get("role", "")
        details = {"name": "valkey" if valkey else "redis", "version": version, "role": role}
        found = f"{'Valkey' if valkey else 'Redis'} {version}, {'a replica' if role == 'slave' else role or 'no role'}"
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if numbers < OLDEST_SERVER:
            return Finding(
                "server", "failure", found, "Use Redis 6.2 or newer, or Valkey.", details
            )
        if role == "slave":
            advice = "Record and run workers on the primary: a replica can only be asked."
            return Finding("server", "warning", found, advice, details)
        return Finding("server", "ok", found, details=details)

    def _memory(self, node: _Node) -> Finding:
        info = node.info
        used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
        machine = int(info.get("total_system_memory", 0))
        details = {"used_bytes": used, "maxmemory_bytes": limit, "machine_bytes": machine}
        most = limit or machine
        share = used / most if most else 0.0
        whole = "maxmemory" if limit else "the machine's memory, no maxmemory"
        found = (
            f"{_size(used)} used, {share:.0%} of {_size(most)}, {whole}"
            if most
            else f"{_size(used)} used"
        )
        if share >= FULL:
            advice = (
                "Give it more memory, or delete metrics: a full server refuses what is recorded."
            )
            return Finding("memory", "failure", found, advice, details)
        if share >= ALMOST_FULL:
            advice = (
                "Give it more memory, shorten the retentions, or delete metrics, before it is full."
            )
            return Finding("memory", "warning", found, advice, details)
        return Finding("memory", "ok", found, details=details)

    def _eviction(self, node: _Node) -> Finding:
        info = node.info
        policy, evicted = info.get("maxmemory_policy", "unknown"), int(info.get("evicted_keys", 0))
        limit = int(info.get("maxmemory", 0))
        details = {"policy": policy, "evicted_keys": evicted}
        found = f"{policy}, {evicted:,} keys evicted since its start"
        if policy != "noeviction":
            advice = "CONFIG SET maxmemory-policy noeviction: any other policy deletes metrics without a word."
            return Finding(
                "eviction", "failure" if limit or evicted else "warning", found, advice, details
            )
        if evicted:
            advice = "Metrics may lack what was evicted under an earlier policy; nothing is to be done now."
            return Finding("eviction", "warning", found, advice, details)
        return Finding("eviction", "ok", found, details=details)

    def _persistence(self, node: _Node) -> Finding:
        info = node.info
        if info.get("loading") == "1":
            return Finding(
                "persistence", "failure", "the server is loading its data", "Wait until it has."
            )
        appends = info.get("aof_enabled") == "1"
        try:
            saves: str | None = node.ask(configured("save"))
        except ScriptFailed:
            saves = None  # of those who may ask for INFO many may not ask for this
        details = {
            "aof": appends, "save": saves, "last_save": int(info.get("rdb_last_save_time", 0)),
            "changes_since": int(info.get("rdb_changes_since_last_save", 0)),
        }  # fmt: skip
        how = (
            "append-only file"
            if appends
            else "snapshots"
            if saves
            else "unknown"
            if saves is None
            else "none"
        )
        broken = [
            name
            for name in (
                "rdb_last_bgsave_status",
                "aof_last_bgrewrite_status",
                "aof_last_write_status",
            )
            if info.get(name, "ok") != "ok"
        ]
        if broken:
            found = f"{how}; {', '.join(f'{name} {info[name]}' for name in broken)}"
            advice = (
                "See the server's log: it can't write to its disk, and may refuse what is recorded."
            )
            return Finding("persistence", "failure", found, advice, details)
        if how == "none":
            advice = "CONFIG SET appendonly yes, or a restart loses all metrics."
            return Finding("persistence", "warning", "none", advice, details)
        if how == "unknown":
            advice = "Grant the user +config|get to be told of snapshots, or ask as another one."
            return Finding(
                "persistence", "warning", "no append-only file; snapshots unknown", advice, details
            )
        return Finding("persistence", "ok", how, details=details)

    def _skew(self, node: _Node) -> Finding:
        before = self._clock()
        server = node.ask(now()) / 1000
        after = self._clock()
        # A little uncertain, by half of the round trip.
        skew = max(abs(server - (before + after) / 2) - abs(after - before) / 2, 0.0)
        if server < (before + after) / 2:
            skew = -skew
        details = {"skew_seconds": skew}
        found = f"the server's clock is {abs(skew):.3f} s {'ahead of' if skew >= 0 else 'behind'} this machine's"
        if abs(skew) >= self._max_future:
            advice = "Set both clocks by NTP: samples with a time of their own are refused."
            return Finding("clock", "failure", found, advice, details)
        if abs(skew) >= SKEW_SECONDS:
            advice = (
                "Set both clocks by NTP: samples of several machines stand in the wrong minutes."
            )
            return Finding("clock", "warning", found, advice, details)
        return Finding("clock", "ok", found, details=details)

    def _scripts(self) -> list[Finding]:
        ran = self._ask(try_scripts(self._namespace, 0))
        return [
            Finding(
                "scripts", "ok", f"all load, {ran} tried to no effect ran", details={"ran": ran}
            )
        ]

    # -- the namespace --------------------------------------------------------------------------------------------

    def _format(self) -> list[Finding]:
        config = self._ask(self._namespace_config.config())
        details = {
            "format": keys.FORMAT,
            "shards": config.shards,
            "retentions": config.retention.describe(),
        }
        found = f"format {keys.FORMAT}, {config.shards} shard{'s' * (config.shards != 1)}"
        return [
            Finding(
                "format",
                "ok",
                f"{found}; kept for (s) {config.retention.describe()}",
                details=details,
            )
        ]

    def _standings(self) -> dict[str, MetricStats]:
        if self._stood is None:
            config = self._ask(self._namespace_config.config())
            known = self._ask(catalog.catalogue(self._namespace, config.shards))
            self._stood = self._ask(stats.metric_stats(self._namespace, config, list(known)))
        return self._stood

    def _workers(self) -> list[Finding]:
        config = self._ask(self._namespace_config.config())
        there = self._ask(stats.presence(self._namespace, config.shards))
        standings = self._standings()
        waiting = {name: each.waiting_ms / 1000 for name, each in standings.items()}
        name = max(waiting, key=waiting.__getitem__, default="")
        lag = waiting.get(name, 0.0)
        details = {
            "workers": there.workers,
            "silent": there.silent_workers,
            "lag_seconds": lag,
            "writers": there.writers,
        }
        found = f"{there.workers} at work, {there.writers} writers known, "
        found += f"{name} waits longest, {lag:.0f} s" if lag else "nothing waits"
        if there.workers == 0 and standings:
            advice = "Run `redismetrics worker`, or use Metrics(worker=True): what isn't sealed is cut after a day."
            return [
                Finding(
                    "workers",
                    "failure" if lag > LONG_LAG_SECONDS else "warning",
                    found,
                    advice,
                    details,
                )
            ]
        if lag > LAG_SECONDS:
            advice = "See the workers' logs, and run more of them where they are busy."
            return [
                Finding(
                    "workers",
                    "failure" if lag > LONG_LAG_SECONDS else "warning",
                    found,
                    advice,
                    details,
                )
            ]
        return [Finding("workers", "ok", found, details=details)]

    def _metrics(self) -> list[Finding]:
        standings = self._standings()
        return [self._losses(standings), *self._biggest(standings)]

    def _losses(self, standings: dict[str, MetricStats]) -> Finding:
        lost = {
            reason: {n: getattr(s, reason) for n, s in standings.items()}
            for reason in ("never_sealed", "late")
        }
        totals = {reason: sum(of.values()) for reason, of in lost.items()}
        if not any(totals.values()):
            return Finding("losses", "ok", "no sample was lost in the store", details=totals)
        reason = max(totals, key=totals.__getitem__)
        name = max(lost[reason], key=lost[reason].__getitem__)
        found = ", ".join(
            f"{count:,} samples {reason}" for reason, count in totals.items() if count
        )
        advice = (
            "Keep a worker running, or raise log_bytes: logs were cut before they were sealed."
            if reason == "never_sealed"
            else "Send samples sooner, or raise minute_retention: they came when their minute was gone."
        )
        return Finding(
            "losses", "warning", f"{found}; most of {name}", advice, {**totals, "metric": name}
        )

    def _biggest(self, standings: dict[str, MetricStats]) -> list[Finding]:
        sizes = {
            name: each.log_bytes + sum(each.level_bytes.values())
            for name, each in standings.items()
        }
        by_bytes = sorted(sizes, key=lambda name: (-sizes[name], name))[:BIGGEST]
        by_series = sorted(standings, key=lambda name: (-standings[name].series, name))[:BIGGEST]
        details = {
            "metrics": len(standings),
            "series": sum(each.series for each in standings.values()),
            "bytes": sum(sizes.values()),
            "most_bytes": [{"metric": name, "bytes": sizes[name]} for name in by_bytes],
            "most_series": [
                {"metric": name, "series": standings[name].series} for name in by_series
            ],
        }
        found = f"{details['metrics']:,} metrics, {details['series']:,} series, {_size(sum(sizes.values()))}"
        if by_bytes:
            largest = ", ".join(f"{name} {_size(sizes[name])}" for name in by_bytes[:3])
            most = ", ".join(f"{name} {standings[name].series:,}" for name in by_series[:3])
            found += f"; largest {largest}; most series {most}"
        many = by_series and standings[by_series[0]].series
        if many and many >= ALMOST_FULL * self._max_series:
            advice = f"Take a tag with many values off {by_series[0]}: beyond max_series={self._max_series:,} series share one."
            return [Finding("metrics", "warning", found, advice, details)]
        return [Finding("metrics", "ok", found, details=details)]


def _size(count: float) -> str:
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.{0 if units[0] == 'B' else 1}f} {units[0]}"
