"""Post bodies and JSON to receivers."""

import json
import re
import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

# Bytes of a receiver's response to read, because it says what was rejected.
_MAX_REPLY = 2_000


class SendingFailed(Exception):
    """A request was not accepted. *may_retry* says whether a retry may help.

    The message does not contain the URL, which may contain a token.

    Attributes:
        status: Status of the response; 0 if there was none.
        retry_after: Seconds that the receiver asks us to wait; 0 if it does not.
        reply: The beginning of the response.
    """

    def __init__(
        self,
        problem: str,
        *,
        may_retry: bool = True,
        status: int = 0,
        retry_after: float = 0.0,
        reply: str = "",
    ) -> None:
        self.may_retry, self.status = may_retry, status
        self.retry_after, self.reply = retry_after, reply
        super().__init__(problem)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Rejects redirects, which could send alerts and tokens elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def post_json(url: str, value: Any, timeout_s: float, token: str = "") -> None:
    """Post *value* as JSON; *token* is sent as a bearer token.

    Raises:
        SendingFailed: If it was not answered with a status from 200 to 299 within *timeout_s*.
    """
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    post(url, json.dumps(value).encode(), headers, timeout_s)


def post(url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> bytes:
    """Post *body*; return the beginning of the response.

    Raises:
        SendingFailed: If it was not answered with a status from 200 to 299 within *timeout_s*.
    """
    try:
        url, login = _split_login(url)
        every = {"User-Agent": "redismetrics", **login, **headers}
        request = urllib.request.Request(url, body, every)
        with _opener.open(request, timeout=timeout_s) as reply:
            return bytes(reply.read(_MAX_REPLY))
    except urllib.error.HTTPError as error:
        with error:
            # Alertmanager retries these, and no others.
            may_retry = error.code >= 500 or error.code == 429
            raise SendingFailed(
                f"answered {error.code}",
                may_retry=may_retry,
                status=error.code,
                retry_after=_seconds(error.headers.get("Retry-After", "")),
                reply=_text_of(error),
            ) from None
    except urllib.error.URLError as error:
        raise SendingFailed(f"cannot be reached: {_reason(error.reason)}") from None
    except (OSError, HTTPException, ssl.SSLError) as error:
        raise SendingFailed(f"cannot be reached: {_reason(error)}") from None
    except ValueError:
        raise SendingFailed("its URL is not valid", may_retry=False) from None


def _split_login(url: str) -> tuple[str, dict[str, str]]:
    """Return *url* without user and password, and a header that contains them."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, {}
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    host = parts.netloc.rpartition("@")[2]
    header = f"Basic {b64encode(login).decode()}"
    return urlunsplit(parts._replace(netloc=host)), {"Authorization": header}


def _seconds(retry_after: str) -> float:
    """Return the seconds of a Retry-After header; 0 if it is a date, or missing."""
    return float(retry_after) if re.fullmatch(r"\d{1,6}", retry_after, re.ASCII) else 0.0


def _text_of(error: urllib.error.HTTPError) -> str:
    try:
        return error.read(_MAX_REPLY).decode("utf-8", "replace")
    except (OSError, HTTPException):
        return ""


def _reason(error: object) -> str:
    """Return the kind of an error, because its text may contain the URL."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
