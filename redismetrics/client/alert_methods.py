"""The alert methods of both clients. They need the extra ``alerts``."""

from typing import Any

from .operations import AsyncMethods, SyncMethods


class AlertMethods(SyncMethods):
    """Alert methods of `Metrics`. Rules are evaluated by workers: see docs/alerts.md."""

    def list_alerts(self) -> list[dict[str, Any]]:
        """Return the pending and firing alerts, in the form of Prometheus' `/api/v1/alerts`.

        Each has `labels`, `annotations`, `state`, `activeAt` (RFC 3339) and `value` (text).
        """
        from redismetrics.alerts.listing import list_alerts

        return self._ask(list_alerts(self._context.namespace.name))

    def list_rules(self) -> list[dict[str, Any]]:
        """Return all groups of rules with their states, in the form of `/api/v1/rules`.

        Groups not evaluated in the last seven days are left out.
        """
        from redismetrics.alerts.listing import list_rules

        return self._ask(list_rules(self._context.namespace.name))

    def alert_history(self, *, since: Any = None, limit: int = 1000) -> list[dict[str, Any]]:
        """Return at most *limit* changes of alert states, newest first.

        They are kept for 30 days. Each has `at` (aware UTC), `group`, `rule`, `before`, `after`,
        `value` and `labels`. *since* is an aware datetime or Unix seconds.

        Raises:
            InvalidQuery: If an argument is invalid.
        """
        from redismetrics.alerts import ask

        name = self._context.namespace.name
        return self._ask(ask.history(name, since, limit, self._now_ms))

    def silence_alerts(
        self, matchers: Any, *, duration: Any = "1h", comment: str, author: str
    ) -> dict[str, Any]:
        """Silence matching alerts for a time, and return the silence; its `id` is needed to end it.

        *matchers* is a mapping of labels to values, or text such as ``job=~"web.*"``; *duration* is
        text such as ``2h``, or a timedelta.

        Raises:
            InvalidQuery: If an argument is invalid, or there are 10,000 silences.
        """
        from redismetrics.alerts import ask

        now_ms = self._now_ms
        silence = ask.new_silence(matchers, duration, comment, author, now_ms)
        name = self._context.namespace.name
        return self._ask(ask.save(name, silence, now_ms))

    def list_silences(self) -> list[dict[str, Any]]:
        """Return all silences, including those of the last 5 days, as in Alertmanager's API."""
        from redismetrics.alerts import ask

        name = self._context.namespace.name
        return self._ask(ask.list_silences(name, self._now_ms))

    def expire_silence(self, id: str) -> dict[str, Any]:
        """End a silence now, and return it.

        Raises:
            InvalidQuery: If there is no silence with that id.
        """
        from redismetrics.alerts import ask

        name = self._context.namespace.name
        return self._ask(ask.expire(name, id, self._now_ms))


class AsyncAlertMethods(AsyncMethods):
    """Alert methods of `AsyncMetrics`: see `AlertMethods`."""

    async def list_alerts(self) -> list[dict[str, Any]]:
        """See `Metrics.list_alerts`."""
        from redismetrics.alerts.listing import list_alerts

        return await self._ask(list_alerts(self._context.namespace.name))

    async def list_rules(self) -> list[dict[str, Any]]:
        """See `Metrics.list_rules`."""
        from redismetrics.alerts.listing import list_rules

        return await self._ask(list_rules(self._context.namespace.name))

    async def alert_history(self, *, since: Any = None, limit: int = 1000) -> list[dict[str, Any]]:
        """See `Metrics.alert_history`."""
        from redismetrics.alerts import ask

        name = self._context.namespace.name
        return await self._ask(ask.history(name, since, limit, self._now_ms))

    async def silence_alerts(
        self, matchers: Any, *, duration: Any = "1h", comment: str, author: str
    ) -> dict[str, Any]:
        """See `Metrics.silence_alerts`."""
        from redismetrics.alerts import ask

        now_ms = self._now_ms
        silence = ask.new_silence(matchers, duration, comment, author, now_ms)
        name = self._context.namespace.name
        return await self._ask(ask.save(name, silence, now_ms))

    async def list_silences(self) -> list[dict[str, Any]]:
        """See `Metrics.list_silences`."""
        from redismetrics.alerts import ask

        name = self._context.namespace.name
        return await self._ask(ask.list_silences(name, self._now_ms))

    async def expire_silence(self, id: str) -> dict[str, Any]:
        """See `Metrics.expire_silence`."""
        from redismetrics.alerts import ask

        name = self._context.namespace.name
        return await self._ask(ask.expire(name, id, self._now_ms))
