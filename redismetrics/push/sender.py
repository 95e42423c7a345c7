"""Build the requests of a target, and send them."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from redismetrics.alerts.notify.http import SendingFailed, post
from redismetrics.errors import one_line

from .credentials import BadCredentials, secrets_of
from .request import PushRequest
from .snapshot import TotalsSnapshot
from .targets import TargetAddress

# OTLP: only these may be retried. Remote write: 429 and everything from 500 on.
_OTLP_RETRIES = (429, 502, 503, 504)
# Characters of a response in messages.
_MAX_REASON = 300


class PushSender:
    """Sends to one target.

    Args:
        labels: Labels to add to all series.
        timeout_s: Timeout of one request.

    Raises:
        MissingExtra: If a package that the protocol needs is missing.
        BadCredentials: If the credentials cannot be read.
    """

    def __init__(
        self, target: TargetAddress, labels: Mapping[str, str], timeout_s: float = 10.0
    ) -> None:
        self.target = target
        self._labels, self._timeout_s = dict(labels), timeout_s
        # The last pushed snapshot.
        self._before: TotalsSnapshot | None = None
        # Each protocol needs another extra.
        self._protocol: Any
        if target.protocol == "otlp":
            from . import otlp

            self._protocol = otlp
        else:
            from . import remote_write

            self._protocol = remote_write
        target.credentials.headers()

    def requests(self, snapshot: TotalsSnapshot) -> Iterator[PushRequest]:
        """Yield the requests that push *snapshot*, and the ends of missing series."""
        before, self._before = self._before, snapshot
        requests: Iterator[PushRequest] = self._protocol.make_requests(
            snapshot, self._labels, before
        )
        return requests

    def send(self, request: PushRequest) -> tuple[int, str]:
        """Send a request; return the number of samples that the target rejected, and the reason.

        Raises:
            SendingFailed: If the request must be retried.
        """
        try:
            secret = self.target.credentials.headers()
        except BadCredentials as error:
            # A file may be replaced at this moment.
            raise SendingFailed(one_line(error)) from None
        try:
            reply = post(
                self.target.url, request.body, {**self._protocol.HEADERS, **secret}, self._timeout_s
            )
        except SendingFailed as error:
            if self._may_retry(error):
                raise
            reason = self._without_secrets(" ".join(error.reply.split()), secret)[:_MAX_REASON]
            return request.samples, f"{error}: {reason}" if reason else str(error)
        if self.target.protocol == "remote-write":
            return 0, ""
        count, message = self._protocol.rejected(reply)
        return min(count, request.samples), message

    def _without_secrets(self, reply: str, headers: Mapping[str, str]) -> str:
        """Return a reply without what it repeats of credentials, and of the query of the URL."""
        query = urlsplit(self.target.url).query
        secrets = {*secrets_of(headers), query, *(value for _, value in parse_qsl(query))}
        for secret in sorted(secrets - {""}, key=len, reverse=True):
            reply = reply.replace(secret, "***")
        return reply

    def _may_retry(self, error: SendingFailed) -> bool:
        if error.status and self.target.protocol == "otlp":
            return error.status in _OTLP_RETRIES
        return error.may_retry
