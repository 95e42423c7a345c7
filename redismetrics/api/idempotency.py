"""The Idempotency-Key header: a request repeated with the same key counts only once.

As in draft-ietf-httpapi-idempotency-key-header-07: 409 while the first request is being processed,
422 if the key was used for another request. Keys are stored in Redis, so that any server process of
the namespace recognises a repeat, even after a restart.
"""

import hashlib
import json
import secrets
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request

from redismetrics.client.metrics import Metrics
from redismetrics.errors import FormatMismatch, shown
from redismetrics.model.time import HOUR, monotonic
from redismetrics.store import requests

if TYPE_CHECKING:
    from .unsettled import UnsettledRequests

HEADER = "Idempotency-Key"
# How long a request is remembered after it was recorded.
REMEMBERED_MS = HOUR
# How long it is claimed before that: if its process dies, a repeat gets 409 for this time.
_LEASE_MS = 60_000
_MAX_KEY_LENGTH = 255
# A stored value has 150 bytes; we never write longer ones.
_MAX_VALUE_BYTES = 2_000
# Status codes of replies.
_STATUSES = {200: 200, 202: 202}
# The keys of the last hour are counted in slices of this length, in seconds.
_SLICE_SECONDS = 60.0
_SLICES = 60


class Reply(NamedTuple):
    """The response to a request that was recorded."""

    status: int
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that this process may record: the hashes of its key and its contents."""

    request: str
    fingerprint: str


def read_key(request: Request) -> str | None:
    """Return the key of a request, without quotation marks; None if it has none.

    Raises:
        HTTPException: 400 if the key is invalid.
    """
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    key = given[0].strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    valid = 0 < len(key) <= _MAX_KEY_LENGTH and key.isascii() and key.isprintable()
    if len(given) > 1 or not valid:
        raise HTTPException(
            400,
            f"{HEADER} must be one value of 1 to {_MAX_KEY_LENGTH} visible ASCII characters, "
            f"got {shown(', '.join(given), 80)}",
        )
    return key


class IdempotencyKeys:
    """The keys of requests, in Redis. Thread-safe; blocks.

    One process remembers at most *max_keys* per hour, so that callers cannot fill Redis.
    """

    def __init__(self, metrics: Metrics, max_keys: int) -> None:
        self._metrics = metrics
        self._max_keys = max_keys
        self._lock = threading.Lock()
        # Start of a time slice, and the number of new keys in it.
        self._new: deque[list[float]] = deque()

    def find(self, key: str, sent: bytes, unsettled: "UnsettledRequests") -> Claim | Reply:
        """Return the reply to the first request with *key*, or a `Claim` if this is the first.

        *sent* is what must be the same in a repeat; *unsettled* are the requests of this process
        that are not stored in Redis yet.

        Raises:
            HTTPException: 409 if the first request is not settled yet, 422 if it was a different
                one.
            StoreError: If Redis does not answer.
        """
        claim = Claim(
            hashlib.sha256(key.encode()).hexdigest()[:32], hashlib.sha256(sent).hexdigest()[:32]
        )
        reply = unsettled.find(claim)
        if reply is not None:
            return reply
        found = self._run(requests.find(self._namespace, claim.request))
        return claim if found is None else _reply(found, claim)

    def claim(self, claim: Claim) -> Reply | None:
        """Claim a request before it is recorded; return the reply if another process was faster.

        Raises:
            HTTPException: As for `find`, and 503 if there are too many keys.
            StoreError: If Redis does not answer.
        """
        self._count()
        value = _value(claim, nonce=secrets.token_hex(8))
        now_ms = round(self._metrics.internals.clock() * 1000)
        found = self._run(requests.claim(self._namespace, claim.request, value, _LEASE_MS, now_ms))
        return None if found is None else _reply(found, claim)

    def remember(self, claim: Claim, reply: Reply | None) -> None:
        """Remember that a request was recorded, and its reply (None if it is not settled yet).

        Raises:
            StoreError: If Redis does not answer.
        """
        value = _value(claim) if reply is None else _value(claim, reply=list(reply))
        self._run(requests.remember(self._namespace, claim.request, value, REMEMBERED_MS))

    @property
    def _namespace(self) -> str:
        return self._metrics.settings.namespace

    def _run(self, operation: Any) -> Any:
        return self._metrics.internals.run(operation)

    def _count(self) -> None:
        now = monotonic()
        with self._lock:
            while self._new and self._new[0][0] <= now - _SLICES * _SLICE_SECONDS:
                self._new.popleft()
            if sum(count for _, count in self._new) >= self._max_keys:
                raise HTTPException(
                    503,
                    f"this process remembers at most {self._max_keys} keys per hour (limit "
                    f"max_idempotency_keys); send requests without {HEADER}, or later",
                )
            if not self._new or self._new[-1][0] <= now - _SLICE_SECONDS:
                self._new.append([now, 0])
            self._new[-1][1] += 1


def conflict() -> HTTPException:
    """Return the error for repeating a request that is not settled yet."""
    return HTTPException(
        409,
        f"the first request with this {HEADER} is not settled yet; repeat it later with the same "
        "key to get its result",
        {"Retry-After": "1"},
    )


def check_same(claim: Claim, fingerprint: object) -> None:
    """Raise 422 unless a repeat has the same contents as the first request."""
    if claim.fingerprint != fingerprint:
        raise HTTPException(
            422,
            f"{HEADER} must be new for another request: it was used for one with another body or "
            "another wait",
        )


def _value(claim: Claim, **more: Any) -> bytes:
    return json.dumps({"sent": claim.fingerprint, **more}, separators=(",", ":")).encode()


def _reply(found: bytes, claim: Claim) -> Reply:
    """Return the reply in a stored value; raises like `IdempotencyKeys.find`."""
    try:
        if len(found) > _MAX_VALUE_BYTES:
            raise ValueError("it is too long")
        value = json.loads(found)
        fingerprint, reply = value["sent"], value.get("reply")
        reply = None if reply is None else Reply(_STATUSES[reply[0]], dict(reply[1]))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise FormatMismatch(
            f"the stored state of a request cannot be read: {shown(found, 80)}"
        ) from error
    check_same(claim, fingerprint)
    if reply is None:
        raise conflict()
    return reply
