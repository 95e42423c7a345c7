"""The namespace's configuration as known to a sender, and when to read it again."""

from dataclasses import replace

from redismetrics.model.time import HOUR, SECOND
from redismetrics.settings import Settings, retention_policy
from redismetrics.store import namespace
from redismetrics.store.connection import Store
from redismetrics.store.driver import Operation
from redismetrics.store.namespace import Config

from .recorder import Recorder

# Seconds until the configuration is read again. In a cluster, it is on a different node than most
# of the data, so nothing else shows that it is lost.
CHECK_INTERVAL = 10.0


class KnownNamespace:
    """The configuration of one namespace, which is restored if Redis has lost it.

    Without it, new readers would look for all metrics in one shard.
    """

    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store, self._recorder = store, recorder
        self._config: Config | None = None
        self._checked_at = 0.0
        self._doubtful = True

    @property
    def shards(self) -> int:
        assert self._config is not None, "BUG: the namespace was not opened"
        return self._config.shards

    @property
    def is_open(self) -> bool:
        return self._config is not None

    def doubt(self) -> None:
        """Note that Redis may have lost data: the configuration must be read again."""
        self._doubtful = True

    def needs_check(self) -> bool:
        return self._doubtful or (
            self._recorder.steady_clock() - self._checked_at >= CHECK_INTERVAL
        )

    def open(self, settings: Settings) -> Operation[Settings]:
        """Read the configuration, or write it; warn where it differs from *settings*.

        Return the settings with a *max_age* that the namespace allows.

        Raises:
            StoreError: If Redis is unreachable, or the configuration is of another format.
        """
        known = self._config or Config(self._store.shards, retention_policy(settings))
        name, warn = settings.namespace, self._recorder.warn_once
        self._config = config = yield from namespace.open_namespace(
            name, known.retention, known.shards, warn
        )
        self._checked_at, self._doubtful = self._recorder.steady_clock(), False
        minutes = config.retention.finest.retention
        # Redis remembers a writer only as long as it keeps minutes.
        oldest = (minutes - HOUR) / SECOND
        if settings.max_age <= oldest:
            return settings
        warn(
            "namespace %s keeps minutes for %d hours: "
            "samples older than %g s are dropped, although max_age allows older ones",
            name,
            minutes // HOUR,
            oldest,
        )
        return replace(settings, max_age=oldest)
