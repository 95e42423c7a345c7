"""URLs of servers: parse them, check them, and show them without passwords."""

import ipaddress
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redismetrics.errors import InvalidSetting
from redismetrics.model.safe_url import safe_url

from .embedded_paths import folder_of
from .url_options import check_options, check_server_url

LOCAL_URL = "redis://localhost:6379/0"
MULTI_HOST_SCHEMES = ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
SCHEMES = ("redis", "rediss", "unix", *MULTI_HOST_SCHEMES, "embedded", "none")


def check_url(url: str) -> str:
    """Return *url*, or raise `InvalidSetting`."""
    scheme, slashes, _ = url.partition("://")
    if not slashes or scheme not in SCHEMES:
        known = ", ".join(f"{each}://" for each in SCHEMES)
        raise InvalidSetting(f"url must start with one of {known}, got {safe_url(url)!r}")
    if scheme in MULTI_HOST_SCHEMES:
        parse_multi_host_url(url)
        return url
    try:
        _ = urlsplit(url).port
    except ValueError as error:
        raise InvalidSetting(
            "url must have a port from 0 to 65535, and special characters of the password "
            f"percent-encoded, got {safe_url(url)!r}"
        ) from error
    if scheme == "embedded":
        folder_of(url)
    elif scheme != "none":
        check_server_url(url)
    return url


@dataclass(frozen=True, slots=True)
class MultiHostUrl:
    """A URL with several hosts: nodes of a cluster, or sentinels that monitor *service*."""

    kind: str
    hosts: list[tuple[str, int]]
    service: str
    sentinel_login: dict[str, str] = field(repr=False)
    _scheme: str
    _login: str = field(repr=False)
    _rest: str = field(repr=False)

    def url_of(self, host: str, port: int) -> str:
        """Return the URL of one server, with the login, database and options of the whole URL."""
        return f"{self._scheme}://{self._login}{host_in_url(host)}:{port}{self._rest}"


def parse_multi_host_url(url: str) -> MultiHostUrl:
    """Parse ``redis+cluster://`` or ``redis+sentinel://``; raise `InvalidSetting` for others."""
    scheme, _, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    place, question, query = rest.partition("?")
    netloc, _, path = place.partition("/")
    login, at, hosts = netloc.rpartition("@")
    if "@" in login:
        _fail(
            "url must have one login, before the first host, with special characters "
            "percent-encoded",
            url,
        )
    service, database = _split_path(url, kind, path)
    options = parse_qsl(query, keep_blank_values=True)
    sentinel_login = {
        key.removeprefix("sentinel_"): value
        for key, value in options
        if key.startswith("sentinel_")
    }
    if kind != "sentinel" and sentinel_login:
        _fail(
            "url can have sentinel_username and sentinel_password with redis+sentinel:// only", url
        )
    if not sentinel_login.keys() <= {"username", "password"}:
        _fail("url can have sentinel_username and sentinel_password as options of sentinels", url)
    query = urlencode([(key, value) for key, value in options if not key.startswith("sentinel_")])
    given = check_options(url, base, query)
    if "db" in given and (kind == "cluster" or database):
        _fail("url must have at most one database, on a cluster only 0", url)
    return MultiHostUrl(
        kind,
        [_parse_host(url, kind, host) for host in hosts.split(",")],
        service,
        sentinel_login,
        base,
        login + at,
        f"/{database}" + (question and f"?{query}"),
    )


def _fail(text: str, url: str, cause: Exception | None = None) -> NoReturn:
    raise InvalidSetting(f"{text}, got {safe_url(url)!r}") from cause


def _parse_host(url: str, kind: str, host: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{host}")
        port = parts.port or (26379 if kind == "sentinel" else 6379)
    except ValueError as error:
        _fail("url must have host:port,host:port with ports from 1 to 65535", url, error)
    if not parts.hostname or parts.path or parts.query or parts.fragment or parts.username:
        _fail(
            "url must have host:port,host:port, and special characters of the login "
            "percent-encoded",
            url,
        )
    return parts.hostname, port


def _split_path(url: str, kind: str, path: str) -> tuple[str, str]:
    """Return the service and the database in the path of a URL."""
    if kind == "cluster":
        if path not in ("", "0"):
            _fail("url must have no database but 0, the only one of a cluster", url)
        return "", path
    first, _, database = path.partition("/")
    service = unquote(first)
    if not service:
        _fail("url must be redis+sentinel://host:port,host:port/service", url)
    if database and not database.isdecimal():
        _fail("url must have the number of a database after the service", url)
    return service, database


def host_in_url(host: str) -> str:
    """Return *host* in URL form: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Return whether *host* can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
