"""Options after the ? in a server URL: those allowed for redis-py, and checks of their values.

redis-py passes any option to its connections. Some would change replies, retries or timeouts that
this package depends on, and an invalid value would only be noticed by the first connection.
"""

import re
from collections.abc import Callable, Collection
from typing import NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from redismetrics.errors import InvalidSetting
from redismetrics.model.safe_url import safe_url
from redismetrics.model.validation import did_you_mean

_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")


def _is_whole(text: str) -> bool:
    return _WHOLE_NUMBER.fullmatch(text) is not None


def _is_boolean(text: str) -> bool:
    # redis-py interprets any other text, such as "off", as true.
    return text.lower() in ("1", "true", "yes", "0", "false", "no")


def _is_client_name(text: str) -> bool:
    # CLIENT SETNAME rejects others.
    return text.isascii() and text.isprintable() and " " not in text


def _is_requirement(text: str) -> bool:
    return text in ("none", "optional", "required")


def _is_text(text: str) -> bool:
    return "\0" not in text


_Check = tuple[Callable[[str], bool], str]
_TEXT: _Check = (_is_text, "text")
_WHOLE: _Check = (_is_whole, "a whole number")
_BOOLEAN: _Check = (_is_boolean, "true or false")

# Options for all kinds of servers, with checks of their values.
_OPTIONS: dict[str, _Check] = {
    "db": _WHOLE,
    "username": _TEXT,
    "password": _TEXT,
    "client_name": (_is_client_name, "ASCII text without spaces"),
    "health_check_interval": _WHOLE,
}
_TCP_OPTIONS: dict[str, _Check] = {"socket_keepalive": _BOOLEAN}
_TLS_OPTIONS: dict[str, _Check] = {
    "ssl_ca_certs": _TEXT,
    "ssl_ca_path": _TEXT,
    "ssl_ca_data": _TEXT,
    "ssl_certfile": _TEXT,
    "ssl_keyfile": _TEXT,
    "ssl_password": _TEXT,
    "ssl_cert_reqs": (_is_requirement, "none, optional or required"),
    "ssl_check_hostname": _BOOLEAN,
    "ssl_ciphers": _TEXT,
}

# Options of redis-py that this package sets, and what to use instead.
_OURS = dict.fromkeys(
    ("socket_timeout", "socket_connect_timeout", "timeout"), "set socket_timeout as a setting"
) | dict.fromkeys(
    (
        "protocol",
        "legacy_responses",
        "decode_responses",
        "encoding",
        "encoding_errors",
        "retry",
        "retry_on_timeout",
        "retry_on_error",
        "max_connections",
        "single_connection_client",
    ),
    "redismetrics sets this itself",
)


def check_server_url(url: str) -> None:
    """Check the path and the options of a single-server URL, which redis-py will parse.

    Raises:
        InvalidSetting: If a part of the URL would be ignored, or an option is not allowed.
    """
    parts = urlsplit(url)
    if "@" in parts.path + parts.query + parts.fragment or parts.fragment:
        _fail("url must have special characters such as @ / ? # percent-encoded", url)
    database = "" if parts.scheme == "unix" else unquote(parts.path).strip("/")
    if parts.scheme == "unix" and (parts.hostname or not parts.path.strip("/")):
        _fail("url must be unix:///path/to/socket", url)
    if database and not _is_whole(database):
        _fail("url must have the number of a database after the host", url)
    names = check_options(url, parts.scheme, parts.query)
    if database and "db" in names:
        _fail("url must have one database, as path or as option db", url)


def check_options(url: str, scheme: str, query: str) -> Collection[str]:
    """Check the options *query* of a URL with servers reached via *scheme*; return their names.

    *scheme* is redis, rediss or unix.

    Raises:
        InvalidSetting: If an option is not allowed, is repeated or has an invalid value. The
            message does not show the value.
    """
    allowed = dict(_OPTIONS)
    if scheme != "unix":
        allowed |= _TCP_OPTIONS
    if scheme == "rediss":
        allowed |= _TLS_OPTIONS
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in allowed:
            _fail_unknown(name, allowed, url)
        if name in found:
            _fail(f"url must have option {name} once", url)
        is_valid, what = allowed[name]
        if not value or not is_valid(value):
            _fail(f"option {name} of url must be {what if value else 'not empty'}", url)
        found[name] = value
    if not found.keys().isdisjoint(("ssl_keyfile", "ssl_password")) and "ssl_certfile" not in found:
        _fail("url must have option ssl_certfile if it has ssl_keyfile or ssl_password", url)
    checks_name = found.get("ssl_check_hostname", "no").lower() in ("1", "true", "yes")
    if found.get("ssl_cert_reqs") == "none" and checks_name:
        _fail("url must not have ssl_check_hostname=true if it has ssl_cert_reqs=none", url)
    return found.keys()


def _fail_unknown(name: str, allowed: Collection[str], url: str) -> NoReturn:
    if name in _TLS_OPTIONS:
        _fail(f"option {name} of url needs TLS: a URL that begins with rediss", url)
    if name in _OURS:
        _fail(f"url must not have option {name}: {_OURS[name]}", url)
    # Anything but a plain name may be a part of a password.
    shown = f" {name}" if re.fullmatch(r"[a-z][a-z_]{1,40}", name) else ""
    hint = did_you_mean(name, allowed) or f"; known are {', '.join(sorted(allowed))}"
    raise InvalidSetting(f"url {safe_url(url)!r} has an unknown option{shown}{hint}")


def _fail(text: str, url: str) -> NoReturn:
    raise InvalidSetting(f"{text}, got {safe_url(url)!r}")
