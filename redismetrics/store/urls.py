"""Store URLs: parse, check, and show them without passwords."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redismetrics.errors import InvalidSetting

from . import embedded

LOCAL_URL = "redis://localhost:6379/0"
SEVERAL = ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
SCHEMES = ("redis", "rediss", "unix", *SEVERAL, "embedded", "none")


def check_url(url: str) -> str:
    """Return *url*, or raise `InvalidSetting`."""
    scheme, slashes, _ = url.partition("://")
    if not slashes or scheme not in SCHEMES:
        wanted = ", ".join(f"{each}://" for each in SCHEMES)
        raise InvalidSetting(f"url: wanted one that starts with {wanted}, got {safe_url(url)!r}")
    if scheme in SEVERAL:
        several(url)
        return url
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


@dataclass(frozen=True, slots=True)
class Several:
    """A URL that names several servers: the nodes of a cluster, or the sentinels that know where *service* is."""

    kind: str
    servers: list[tuple[str, int]]
    service: str
    sentinel_login: dict[str, str]
    _scheme: str
    _login: str
    _rest: str

    def url(self, host: str, port: int) -> str:
        """Of one server, with what the whole URL says of users, databases and TLS."""
        return f"{self._scheme}://{self._login}{f'[{host}]' if ':' in host else host}:{port}{self._rest}"


def several(url: str) -> Several:
    """Read ``redis+cluster://`` or ``redis+sentinel://``; raises `InvalidSetting`."""
    shown = safe_url(url)
    scheme, _, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    place, question, query = rest.partition("?")
    netloc, _, path = place.partition("/")
    login, at, hosts = netloc.rpartition("@")
    if "@" in login:
        raise InvalidSetting(
            f"url: wanted one login, before the first host, with its signs escaped, got {shown!r}"
        )
    servers = []
    for host in hosts.split(","):
        try:
            parts = urlsplit(f"//{host}")
            port = parts.port or (26379 if kind == "sentinel" else 6379)
        except ValueError as error:
            raise InvalidSetting(
                f"url: wanted host:port,host:port, each port from 1 to 65535, got {shown!r}"
            ) from error
        if not parts.hostname or parts.path or parts.query or parts.fragment or parts.username:
            raise InvalidSetting(
                f"url: wanted host:port,host:port and a login with its signs escaped, got {shown!r}"
            )
        servers.append((parts.hostname, port))
    first, _, database = path.partition("/")
    service = unquote(first) if kind == "sentinel" else ""
    if kind == "sentinel" and not service:
        raise InvalidSetting(
            f"url: wanted redis+sentinel://host:port,host:port/service, got {shown!r}"
        )
    if kind == "cluster":
        database = path
        if database not in ("", "0"):
            raise InvalidSetting(f"url: a cluster has no database but 0, got {shown!r}")
    elif database and not database.isdecimal():
        raise InvalidSetting(
            f"url: wanted the number of a database after the service, got {shown!r}"
        )
    options = parse_qsl(query, keep_blank_values=True)
    of_sentinels = {
        key.removeprefix("sentinel_"): value
        for key, value in options
        if key.startswith("sentinel_")
    }
    if not of_sentinels.keys() <= {"username", "password"} or (of_sentinels and kind != "sentinel"):
        raise InvalidSetting(
            f"url: of sentinels it can tell sentinel_username and sentinel_password, got {shown!r}"
        )
    query = urlencode([(key, value) for key, value in options if not key.startswith("sentinel_")])
    tail = f"/{database}" + (question and f"?{query}")
    return Several(kind, servers, service, of_sentinels, base, login + at, tail)


def shown(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Does only this machine reach *host*?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
