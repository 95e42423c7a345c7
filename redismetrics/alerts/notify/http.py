"""Post JSON to receivers."""

import json
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

# Of a receiver's answer, which is only read for what to log.
_MAX_REPLY = 200


class SendingFailed(Exception):
    """A notification was not taken. *may_retry* says whether sending it again may help.

    The message names no URL: it may hold a token.
    """

    def __init__(self, problem: str, *, may_retry: bool = True) -> None:
        self.may_retry = may_retry
        super().__init__(problem)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: they could send alerts and tokens elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def post_json(url: str, value: Any, timeout_s: float, token: str = "") -> None:
    """Post *value*; *token* is sent as a bearer token.

    Raises:
        SendingFailed: If it was not answered with a status from 200 to 299 within *timeout_s*.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "redismetrics"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        request = urllib.request.Request(url, json.dumps(value).encode(), headers)
        with _opener.open(request, timeout=timeout_s) as reply:
            reply.read(_MAX_REPLY)
    except urllib.error.HTTPError as error:
        with error:
            # Alertmanager retries these, and no others.
            may_retry = error.code >= 500 or error.code == 429
            raise SendingFailed(f"answered {error.code}", may_retry=may_retry) from None
    except urllib.error.URLError as error:
        raise SendingFailed(f"cannot be reached: {_reason(error.reason)}") from None
    except (OSError, HTTPException, ssl.SSLError) as error:
        raise SendingFailed(f"cannot be reached: {_reason(error)}") from None
    except ValueError:
        raise SendingFailed("its URL is not valid", may_retry=False) from None


def _reason(error: object) -> str:
    """Return the kind of an error: its text may repeat the URL."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
