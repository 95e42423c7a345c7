"""Push targets, from the URLs on the command line."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Literal
from urllib.parse import unquote, urlsplit

from redismetrics.errors import InvalidSetting
from redismetrics.model.validation import did_you_mean

from .credentials import Credentials

Protocol = Literal["remote-write", "otlp"]

# The path of a URL that has none.
_DEFAULT_PATHS: dict[Protocol, str] = {"remote-write": "/api/v1/write", "otlp": "/v1/metrics"}
# Path suffixes by which a URL without a protocol is recognised.
_ENDS: dict[str, Protocol] = {
    "/v1/metrics": "otlp",
    "/write": "remote-write",
    "/push": "remote-write",
    "/receive": "remote-write",
}
# Options after the # of a URL, and their fields.
_OPTIONS = {
    "token-file": "token_file",
    "basic-auth-file": "basic_file",
    "headers-file": "headers_file",
}


@dataclass(frozen=True, slots=True)
class TargetAddress:
    """A receiver of totals.

    Attributes:
        url: Where to post requests; its query may contain a secret, so it is never shown.
        name: The URL without its query, for messages and labels.
    """

    protocol: Protocol
    url: str = field(repr=False)
    name: str
    credentials: Credentials = field(default_factory=Credentials)

    @property
    def lease_name(self) -> str:
        """A unique name of this target that does not reveal any part of the URL."""
        return blake2b(f"{self.protocol} {self.url}".encode(), digest_size=16).hexdigest()


def parse_targets(texts: Sequence[str], common: Credentials) -> list[TargetAddress]:
    """Return the targets of these URLs; *common* are credentials not tied to a URL.

    Raises:
        InvalidSetting: If a URL is not valid or given twice, or if *common* could belong to several
            targets: credentials are never sent to more than one.
    """
    targets = [_parse(text) for text in texts]
    if len({target.lease_name for target in targets}) < len(targets):
        raise InvalidSetting(
            "--to must be given once for each target, got the same one twice; leave one out"
        )
    if not common:
        return targets
    if len(targets) > 1:
        raise InvalidSetting(
            "credentials must belong to one target, got several targets; write them after each "
            "URL: https://host/path#token-file=FILE"
        )
    if targets[0].credentials:
        raise InvalidSetting(
            "credentials must be given after the URL or by an option, got both; leave one out"
        )
    return [replace(targets[0], credentials=common)]


def _parse(text: str) -> TargetAddress:
    # Without parts that may contain a secret.
    shown = text.partition("?")[0].partition("#")[0]
    if "@" in text.partition("#")[0].partition("?")[0]:
        raise InvalidSetting(
            "a URL of --to must have no user and password, which other users could read; use "
            "#basic-auth-file=FILE"
        )
    scheme, separator, rest = text.partition("://")
    given, plus, scheme = scheme.rpartition("+")
    if not separator or scheme not in ("http", "https") or (plus and given not in _DEFAULT_PATHS):
        raise InvalidSetting(
            "a URL of --to must begin with http://, https://, remote-write+https:// or "
            f"otlp+https://, got {shown!r}"
        )
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidSetting(f"a URL of --to must be valid: {error}") from error
    if not host or not parts.netloc.isascii() or any(char <= " " for char in text):
        raise InvalidSetting(f"a URL of --to must have a host and no spaces, got {shown!r}")
    protocol = next((each for each in _DEFAULT_PATHS if each == given), None) or next(
        (each for end, each in _ENDS.items() if parts.path.endswith(end)), None
    )
    if protocol is None:
        raise InvalidSetting(
            f"the protocol of {shown!r} must be clear: write remote-write+{shown} or otlp+{shown}"
        )
    path = parts.path if parts.path.strip("/") else _DEFAULT_PATHS[protocol]
    name = f"{parts.scheme}://{parts.netloc}{path}"
    url = f"{name}?{parts.query}" if parts.query else name
    return TargetAddress(protocol, url, name, _credentials(parts.fragment))


def _credentials(fragment: str) -> Credentials:
    found = {}
    for option in fragment.split("&") if fragment else ():
        name, equals, value = option.partition("=")
        if name not in _OPTIONS or not equals or not value:
            raise InvalidSetting(
                "options after the # of a URL must be token-file=FILE, basic-auth-file=FILE or "
                f"headers-file=FILE, got {name!r}{did_you_mean(name, list(_OPTIONS))}"
            )
        found[_OPTIONS[name]] = unquote(value)
    return Credentials(**found)
