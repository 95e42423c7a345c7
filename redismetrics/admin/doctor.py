"""Check a server and a namespace, and suggest what to do. Read-only.

    connection -> server, memory, eviction, persistence, clock -> scripts, format, versions,
    workers, losses, metrics, samples, tags

Each finding is ok, a warning or a failure. On a cluster, each primary is checked, and the worst
finding is reported. A check without permission is a warning that names the missing permission; the
permissions of a reader are enough for most checks.
"""

import platform
from collections.abc import Callable
from functools import partial
from time import perf_counter

from redis import __version__ as client_version
from redis.exceptions import AuthenticationError, NoPermissionError

from redismetrics.errors import FormatMismatch, ScriptFailed, StoreError, StoreUnavailable
from redismetrics.model.safe_url import safe_url
from redismetrics.model.time import Clock, system_clock
from redismetrics.settings import Settings, resolve
from redismetrics.store.cluster import ClusterClient
from redismetrics.store.connection import Store
from redismetrics.store.driver import Operation, run, translated
from redismetrics.store.server import now, who_am_i

from . import server_checks
from .alert_checks import check_alerts
from .findings import Diagnosis, Finding, worst_of
from .namespace_checks import NamespaceChecks
from .server_checks import Node, is_password_exposed

# A round trip that takes longer deserves a warning.
SLOW_SECONDS = 0.1


def examine(
    url: str | None = None,
    *,
    namespace: str | None = None,
    socket_timeout: float | None = None,
    clock: Clock = system_clock,
) -> Diagnosis:
    """Check a namespace and its server; arguments have the same defaults as for `Metrics`.

    Problems with the server are reported and never raised, even if it does not answer.

    Raises:
        InvalidSetting: If an argument is invalid, such as a URL.
    """
    settings = resolve(url=url, namespace=namespace, socket_timeout=socket_timeout)
    store = Store(settings.url, settings.socket_timeout)
    try:
        return Diagnosis(_examine(store, settings, clock))
    finally:
        store.close()


def _examine(store: Store, settings: Settings, clock: Clock) -> list[Finding]:
    try:
        nodes = _nodes(store)
        findings = [_check_connection(store, nodes, settings.namespace)]
    except StoreError as error:
        return [_unreachable(store, settings.namespace, error)]
    check_clock = partial(server_checks.check_clock, clock=clock, max_future=settings.max_future)
    for check, right, of_node in (
        ("server", "+info", server_checks.check_version),
        ("memory", "+info", server_checks.check_memory),
        ("eviction", "+info", server_checks.check_eviction),
        ("persistence", "+info", server_checks.check_persistence),
        ("clock", "+time", check_clock),
    ):
        findings.append(_on_each_node(check, right, nodes, of_node))
    namespace = NamespaceChecks(settings.namespace, settings.max_series)
    for check, right, judge in (
        ("scripts", "+evalsha +script|load", namespace.check_scripts),
        ("format", "+@read", namespace.check_format),
        ("versions", "+@read", namespace.check_versions),
        ("workers", "+@read +time", namespace.check_workers),
        ("metrics", "+@read +time", namespace.check_metrics),
        ("alerts", "+@read +time", partial(check_alerts, settings.namespace)),
    ):
        findings += _on_namespace(check, right, store, judge)
    return findings


def _on_each_node(
    check: str, right: str, nodes: list[Node], judge: Callable[[Node], Finding]
) -> Finding:
    """Run a check on every node; return the worst finding, with the details of all nodes."""
    found = {}
    for node in nodes:
        try:
            found[node.name] = judge(node)
        except StoreError as error:
            found[node.name] = _from_error(check, right, error)
    return found[nodes[0].name] if len(nodes) == 1 else worst_of(check, found)


def _on_namespace(
    check: str,
    right: str,
    store: Store,
    judge: Callable[[], Operation[list[Finding]]],
) -> list[Finding]:
    try:
        return run(store.client(), judge())
    except StoreError as error:
        return [_from_error(check, right, error)]


def _from_error(check: str, right: str, error: StoreError) -> Finding:
    """Return the finding of a check that failed with *error*."""
    if isinstance(error, StoreUnavailable):
        advice = "Find out what blocks the server, and run the doctor again."
    elif isinstance(error, FormatMismatch):
        advice = "Use the version of redismetrics that wrote it, or another namespace."
    elif isinstance(error, ScriptFailed) and isinstance(error.__cause__, NoPermissionError):
        advice = f"Not checked: grant the user {right}, or use another user."
        return Finding(check, "warning", "this user has no permission", advice)
    else:
        advice = "Fix what the server reports."
    return Finding(check, "failure", str(error), advice)


def _nodes(store: Store) -> list[Node]:
    client = store.client()
    if not isinstance(client, ClusterClient):
        return [Node("", client)]
    with translated():
        return [Node(name, each) for name, each in client.primaries().items()]


def _check_connection(store: Store, nodes: list[Node], namespace: str) -> Finding:
    node = next((node for node in nodes if node.answers()), nodes[0])
    began = perf_counter()
    node.run(now())
    seconds = perf_counter() - began
    shown = safe_url(store.url)
    try:
        user = node.run(who_am_i())
    except ScriptFailed:
        # The user may lack the permission, and no check depends on it.
        user = None
    details = {
        "url": shown,
        "namespace": namespace,
        "user": user,
        "round_trip_seconds": seconds,
        "redis_py": client_version,
        "python": platform.python_version(),
    }
    found = (
        f"{shown}, namespace {namespace}, round trip {seconds * 1000:.1f} ms, "
        f"redis-py {client_version}"
    )
    if user is not None:
        found += f", user {user}"
    if is_password_exposed(store.url):
        advice = "Use rediss://: the password crosses the network without encryption."
        return Finding("connection", "warning", found, advice, details)
    if seconds > SLOW_SECONDS:
        advice = "Run the processes closer to the server, or find out what keeps it busy."
        return Finding("connection", "warning", found, advice, details)
    return Finding("connection", "ok", found, details=details)


def _unreachable(store: Store, namespace: str, error: StoreError) -> Finding:
    shown = safe_url(store.url)
    advice = "Start the server, or set another one with --url or REDISMETRICS_URL."
    if isinstance(error, ScriptFailed) or isinstance(error.__cause__, AuthenticationError):
        advice = (
            "Use a user and password that the server accepts, with the permissions +@read +time "
            "on ~rm:*."
        )
    details = {"url": shown, "namespace": namespace, "redis_py": client_version}
    return Finding("connection", "failure", f"{shown}: {error}", advice, details)
