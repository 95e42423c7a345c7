"""The service that evaluates rules and sends alerts, in threads of a worker or on its own."""

import logging
import secrets
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from redismetrics.errors import InvalidSetting, StoreError, one_line
from redismetrics.store.connection import Store
from redismetrics.store.driver import Client, run
from redismetrics.store.server import now

from .engine import Engine
from .evaluate import Surroundings
from .files import WatchedFiles, empty_patterns, load_files
from .notify.alertmanager import Alertmanagers
from .notify.config import Callback, NotifyConfig, NotifyReceiver, Route, Webhook, load_config
from .notify.http import post_json
from .notify.notifier import Notifier
from .notify.outbox import Outbox
from .notify.send import sender
from .options import AlertOptions
from .rules import Group
from .runner import Runner
from .yaml_nodes import InvalidFile

log = logging.getLogger("redismetrics")

# Seconds between checks of the files, of the leases, and of due notifications.
_LOOK = 5.0
_TICK = 1.0
# After Redis was unreachable.
_PAUSE = 1.0


@dataclass(slots=True)
class ServiceStatus:
    """The status of the service. *bad_files* says why the files on disk are not used, if so.

    Attributes:
        empty_patterns: Patterns of rule files that name no file.
        errors: Why threads cannot continue, by thread. Usually Redis is unreachable.
        passed_at: `time.monotonic` of the last complete pass.
    """

    bad_files: str = ""
    empty_patterns: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    passed_at: float = 0.0


class AlertService:
    """Evaluates rules and sends alerts until it is stopped.

    Args:
        engine: Creates the engine that evaluates expressions.

    Raises:
        InvalidSetting: If a rule file or the notification file is not valid.
        MissingExtra: If a package that the files need is missing.
    """

    def __init__(
        self,
        namespace: str,
        store: Store,
        options: AlertOptions,
        engine: Callable[[], Engine],
    ) -> None:
        self.namespace, self.store, self.options = namespace, store, options
        self.status = ServiceStatus(passed_at=monotonic())
        self.stop = threading.Event()
        # Set by SIGHUP.
        self.reload = threading.Event()
        self._holder = secrets.token_hex(8)
        self._engine = engine
        self._alertmanagers = Alertmanagers(options.alertmanagers, options.send_timeout)
        self._heartbeat: Outbox[str] = Outbox("heartbeat", self._send_heartbeat, size=1)
        self.notifier: Notifier | None = None
        groups = self._load()
        self._watched = WatchedFiles(options.rules)
        self.runner = Runner(
            namespace,
            groups,
            self._holder,
            around=Surroundings(options.external_labels, options.external_url),
            default_interval_ms=round(1000 * options.default_interval),
            lease_ms=round(1000 * options.lease),
            resend_delay_ms=round(1000 * options.resend_delay),
            send=self._alertmanagers.send,
            problems=self.problems,
        )
        config = self._notify_config()
        if config is not None:
            send = sender(config, options.external_url)
            lease_ms = round(1000 * options.lease)
            self.notifier = Notifier(namespace, config, send, self._holder, lease_ms)

    def _load(self) -> list[Group]:
        try:
            groups = load_files(self.options.rules)
        except InvalidFile as error:
            raise InvalidSetting(f"rules must be valid rule files: {error.one_line()}") from error
        self._report_loaded(groups)
        return groups

    def _report_loaded(self, groups: list[Group]) -> None:
        rules = sum(len(group.rules) for group in groups)
        log.info("read %d rules in %d groups", rules, len(groups))
        self.status.empty_patterns = empty_patterns(self.options.rules)
        for pattern in self.status.empty_patterns:
            log.warning("no rule file matches %s; new files are read within seconds", pattern)

    def _notify_config(self) -> NotifyConfig | None:
        options = self.options
        if options.notify_config:
            try:
                return load_config(Path(options.notify_config))
            except InvalidFile as error:
                problems = error.one_line()
                raise InvalidSetting(f"notify_config must be a valid file: {problems}") from error
            except OSError as error:
                raise InvalidSetting(f"notify_config must be a valid file: {error}") from error
        if not options.webhook and options.notify is None:
            return None
        webhooks = [Webhook(options.webhook, timeout_s=options.send_timeout)]
        receiver = NotifyReceiver(
            "default",
            tuple(webhooks if options.webhook else ()),
            functions=() if options.notify is None else (Callback(options.notify),),
        )
        return NotifyConfig(
            Route("{}", receiver.name, ("alertname",), group_wait=0), {receiver.name: receiver}
        )

    def run(self) -> None:
        """Evaluate and notify until `stop` is set; then release the leases."""
        notifying = threading.Thread(
            target=self._notify, name="redismetrics-alerts-notifier", daemon=True
        )
        if self.notifier is not None:
            notifying.start()
        with closing(self.store.connect(retries=0)) as client:
            self._until_stopped("alerts", self._evaluating(client))
            with suppress(StoreError):
                self.runner.release(client)
        if self.notifier is not None:
            notifying.join(self.options.send_timeout + _TICK)
        self._alertmanagers.stop(self.options.send_timeout)

    def _until_stopped(self, what: str, step: Callable[[], float]) -> None:
        """Repeat *step*, which returns the seconds to wait; while Redis is down, keep retrying."""
        while not self.stop.is_set():
            try:
                wait = step()
            # If the thread ended, all alerts would stop silently.
            except Exception as error:  # noqa: BLE001
                self._failed(what, error)
                wait = _PAUSE
            self.stop.wait(wait)

    def _failed(self, what: str, error: Exception) -> None:
        """Log the first error of an outage."""
        if what not in self.status.errors:
            if isinstance(error, StoreError):
                log.warning("%s are waiting for Redis: %s", what, error)
            else:
                log.error("BUG: %s failed; retrying", what, exc_info=error)
        self.status.errors[what] = one_line(error)

    def _note_recovery(self, what: str) -> None:
        """Note that a thread is working again."""
        if self.status.errors.pop(what, None) is not None:
            log.warning("%s are running again", what)

    def _evaluating(self, client: Client) -> Callable[[], float]:
        engine = self._engine()
        lease = self.options.lease
        renew_at = look_at = 0.0

        def step() -> float:
            nonlocal renew_at, look_at
            if monotonic() >= look_at or self.reload.is_set():
                self.reload_if_changed()
                look_at = monotonic() + _LOOK
            if monotonic() >= renew_at:
                self.runner.take_leases(client, server_ms(client))
                renew_at = monotonic() + lease / 3
            at = server_ms(client)
            if self.runner.evaluate_next(client, engine, at):
                return 0.0
            self._passed()
            due = (self.runner.next_due(at) - at) / 1000
            return max(min(due, renew_at - monotonic(), look_at - monotonic()), 0.01)

        return step

    def _passed(self) -> None:
        """Note that everything due was evaluated."""
        self._note_recovery("alerts")
        before, self.status.passed_at = self.status.passed_at, monotonic()
        url = self.options.heartbeat_url
        if url and self.status.passed_at - before >= 1 and not self.status.errors:
            self._heartbeat.put("heartbeat", url)

    def reload_if_changed(self) -> None:
        """Read the files again if they changed, or on SIGHUP; keep the old rules if one is bad."""
        asked = self.reload.is_set()
        self.reload.clear()
        if not self._watched.changed() and not asked:
            return
        try:
            groups = load_files(self.options.rules)
        except InvalidFile as error:
            self.status.bad_files = error.one_line()
            problem = self.status.bad_files
            log.error("rules are unchanged, because a file is not valid: %s", problem)
            return
        self.status.bad_files = ""
        self.runner.replace(groups)
        self._report_loaded(groups)

    def _notify(self) -> None:
        notifier = self.notifier
        assert notifier is not None
        with closing(self.store.connect(retries=0)) as client:

            def step() -> float:
                notifier.step(client, server_ms(client))
                self._note_recovery("notifications")
                return _TICK

            self._until_stopped("notifications", step)
            with suppress(StoreError):
                notifier.stop(client, self.options.send_timeout)

    def outboxes(self) -> dict[str, Outbox[Any]]:
        """Return the outboxes by name of the receiver."""
        found: dict[str, Outbox[Any]] = {box.name: box for box in self._alertmanagers.outboxes}
        if self.notifier is not None:
            found |= {box.name: box for box in self.notifier.outboxes.values()}
        return found

    def problems(self) -> list[str]:
        """Return the problems with files and receivers, for the doctor and the service's page."""
        found = [self.status.bad_files] if self.status.bad_files else []
        found += [f"no rule file matches {pattern}" for pattern in self.status.empty_patterns]
        found += [
            f"receiver {name} fails: {box.last_error}"
            for name, box in self.outboxes().items()
            if box.last_error
        ]
        return found

    def _send_heartbeat(self, url: str) -> None:
        post_json(url, {}, self.options.send_timeout)


def server_ms(client: Client) -> int:
    """Return the server's time, which all processes use, in Unix ms."""
    return run(client, now())
