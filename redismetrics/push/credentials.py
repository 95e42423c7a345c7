"""Credentials of a target: headers from files and the environment. Their values are never shown.

Files are read for each request, so that a new token is used at once.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from redismetrics.errors import RedisMetricsError, one_line

TOKEN_VARIABLE = "REDISMETRICS_PUSH_TOKEN"
BASIC_VARIABLE = "REDISMETRICS_PUSH_BASIC_AUTH"

# What HTTP allows (RFC 9110, 5.5); a line break would begin another header.
_VALUE = re.compile(r"[\x20-\x7e]+\Z")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_MAX_BYTES = 65_536


class BadCredentials(RedisMetricsError):
    """A file or variable with credentials cannot be read, or has an invalid form."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The sources of one target's credentials; empty if it needs none.

    Attributes:
        token_file: A file with a bearer token.
        basic_file: A file with USER:PASSWORD.
        headers_file: A file with one `Name: value` per line.
        token, basic: The same, from the environment.
    """

    token_file: str = ""
    basic_file: str = ""
    headers_file: str = ""
    token: str = field(default="", repr=False)
    basic: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return any((self.token_file, self.basic_file, self.headers_file, self.token, self.basic))

    def headers(self) -> dict[str, str]:
        """Return the current headers.

        Raises:
            BadCredentials: If a file cannot be read, or its text has an invalid form.
        """
        found = {}
        for line in _read(self.headers_file).splitlines() if self.headers_file else ():
            name, colon, value = line.partition(":")
            if line.strip():
                if not colon or not _NAME.match(name):
                    raise BadCredentials(f"{self.headers_file}: each line must be NAME: VALUE")
                found[name] = _checked(value.strip(), self.headers_file)
        token = _read(self.token_file) if self.token_file else self.token
        if token:
            where = self.token_file or TOKEN_VARIABLE
            found["Authorization"] = f"Bearer {_checked(token.strip(), where)}"
        basic = _read(self.basic_file) if self.basic_file else self.basic
        if basic:
            where = self.basic_file or BASIC_VARIABLE
            login = basic.strip("\r\n")
            if ":" not in login or "\n" in login:
                raise BadCredentials(f"{where}: must be USER:PASSWORD on one line")
            encoded = base64.b64encode(login.encode()).decode()
            found["Authorization"] = f"Basic {encoded}"
        return found


def from_environment(environ: Mapping[str, str]) -> Credentials:
    """Return the credentials in the environment."""
    return Credentials(token=environ.get(TOKEN_VARIABLE, ""), basic=environ.get(BASIC_VARIABLE, ""))


def secrets_of(headers: Mapping[str, str]) -> set[str]:
    """Return the texts of *headers* that must not be shown: words of values, and of a login."""
    found = {word for value in headers.values() for word in value.split()} - {"Basic", "Bearer"}
    scheme, _, encoded = headers.get("Authorization", "").partition(" ")
    if scheme == "Basic":
        login = base64.b64decode(encoded).decode()
        found |= {login, login.partition(":")[2]}
    return found


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MAX_BYTES).decode()
    except (OSError, ValueError) as error:
        # An OSError contains the path; no message contains the contents of a file.
        reason = one_line(error) if isinstance(error, OSError) else f"{path}: must be text in UTF-8"
        raise BadCredentials(f"cannot read credentials: {reason}") from None
    if not text.strip():
        raise BadCredentials(f"{path}: must hold credentials, got an empty file")
    return text


def _checked(value: str, where: str) -> str:
    if not _VALUE.match(value):
        raise BadCredentials(f"{where}: must hold printable ASCII on one line")
    return value
