"""The one pub/sub connection of a client, shared by its feeds, without I/O.

Redis sends each message once per connection, and compares it with each pattern of each connection.
So feeds don't subscribe themselves: they join the relay of their client, which subscribes to
everything that any of them wants, and puts each message into the inboxes that want it. It never
waits for a feed.

A relay lives as long as its connection and its feeds. If the connection is lost, all inboxes fail;
their feeds join a new relay.
"""

import threading
from collections import deque

from redismetrics.errors import ScriptFailed, StoreError, StoreUnavailable
from redismetrics.model.time import monotonic

from .inbox import Inbox
from .messages import DecodedBlocks, Message
from .steps import (
    Connect,
    Disconnect,
    Ping,
    Read,
    Subscribe,
    Unsubscribe,
    WireMessage,
    WireSteps,
)

# Timeout in seconds for Redis to confirm a subscription.
PATIENCE = 10.0

# Timeout of one read in seconds.
_POLL = 0.2

# Maximum number of channels whose subscribers are cached. Anybody who may publish can invent
# channels.
_MAX_ROUTES = 4096


class Relay:
    """Subscribes for several inboxes over one connection, and distributes messages to them.

    `join` and `leave` may be called from any thread; then the driver must be woken.
    """

    def __init__(self, blocks: DecodedBlocks) -> None:
        self._blocks = blocks
        self._lock = threading.Lock()
        self._inboxes: list[Inbox] = []
        # Subscriptions that are neither requested nor confirmed yet, in order of arrival.
        self._new: deque[Inbox] = deque()
        # The one requested from Redis, the names not confirmed yet, and the deadline.
        self._asker: Inbox | None = None
        self._unconfirmed: set[bytes] = set()
        self._confirm_until = 0.0
        self._ended = False
        # The channels (False) and patterns (True) that the connection is subscribed to, and whether
        # inboxes have been added or removed since then.
        self._subscribed: dict[bool, set[bytes]] = {False: set(), True: set()}
        self._is_stale = False
        # The inboxes for messages of a channel, by the pattern that they matched, or None.
        self._routes: dict[tuple[bytes | None, bytes], list[Inbox]] = {}
        # When the last message arrived, and when an unanswered ping was sent, or 0.
        self._last_message = self._pinged = 0.0

    @property
    def ended(self) -> bool:
        """Whether the relay has ended, so that no inbox can join."""
        return self._ended

    def join(self, inbox: Inbox) -> bool:
        """Subscribe for *inbox* and return True; return False if the relay has ended."""
        with self._lock:
            if self._ended:
                return False
            self._inboxes.append(inbox)
            self._new.append(inbox)
            self._changed()
            return True

    def leave(self, inbox: Inbox) -> None:
        """Stop delivering to *inbox*. The relay ends with the last one."""
        with self._lock:
            if inbox in self._inboxes:
                self._inboxes.remove(inbox)
                self._ended |= not self._inboxes
                self._changed()

    def _changed(self) -> None:
        self._is_stale = True
        self._routes = {}

    def run(self) -> WireSteps[None]:
        """Connect, and pass on messages until the connection is lost or the last feed leaves."""
        failure: StoreError = StoreUnavailable("the connection of the stream was closed")
        try:
            yield Connect(PATIENCE)
            self._last_message = monotonic()
            while not self._ended:
                if self._is_stale or (self._new and self._asker is None):
                    yield from self._subscribe()
                    continue
                try:
                    message = yield Read(_POLL)
                except ScriptFailed as error:
                    self._refuse(error)
                    continue
                if message is None:
                    yield from self._test_connection()
                else:
                    self._last_message, self._pinged = monotonic(), 0.0
                    self._pass_on(message)
        except StoreError as error:
            failure = error
        finally:
            with self._lock:
                self._ended = True
                inboxes, self._inboxes = self._inboxes, []
                self._routes = {}
            for inbox in inboxes:
                inbox.fail(failure)
            yield Disconnect()

    # -- subscribing ------------------------------------------------------------------------------

    def _subscribe(self) -> WireSteps[None]:
        """Subscribe for the next new inbox, and unsubscribe from what is no longer wanted.

        One inbox at a time, because an error from Redis does not say which command it belongs to.
        """
        missing: set[bytes] = set()
        with self._lock:
            self._is_stale = False
            while self._new and self._asker is None:
                inbox = self._new.popleft()
                if inbox not in self._inboxes:
                    continue
                missing = set(inbox.interest.names - self._subscribed[inbox.interest.is_pattern])
                if missing:
                    self._asker, self._unconfirmed = inbox, set(missing)
                else:
                    inbox.confirm()
            interests = [inbox.interest for inbox in self._inboxes]
        if self._asker is not None:
            interests.append(self._asker.interest)
            if missing:
                is_pattern = self._asker.interest.is_pattern
                self._subscribed[is_pattern] |= missing
                self._confirm_until = monotonic() + PATIENCE
                yield Subscribe(sorted(missing), is_pattern)
        for is_pattern, subscribed in self._subscribed.items():
            wanted = (each.names for each in interests if each.is_pattern == is_pattern)
            if unwanted := subscribed.difference(*wanted):
                self._subscribed[is_pattern] = subscribed - unwanted
                yield Unsubscribe(sorted(unwanted), is_pattern)

    def _confirm(self, name: bytes) -> None:
        self._unconfirmed.discard(name)
        if self._asker is not None and not self._unconfirmed:
            self._asker.confirm()
            self._asker = None

    def _refuse(self, error: ScriptFailed) -> None:
        """Fail the inbox whose subscription Redis rejected; it rejects all names or none."""
        inbox, self._asker = self._asker, None
        if inbox is None:
            raise error
        self._subscribed[inbox.interest.is_pattern] -= self._unconfirmed
        self._unconfirmed = set()
        inbox.fail(error)
        self.leave(inbox)

    # -- messages ---------------------------------------------------------------------------------

    def _pass_on(self, message: WireMessage) -> None:
        kind, channel, data = message["type"], message["channel"], message["data"]
        if kind in ("subscribe", "psubscribe"):
            self._confirm(channel)
        # On old servers, record.lua tests its permissions with an empty message.
        elif kind in ("message", "pmessage") and data:
            route = self._route(message["pattern"], channel)
            if route:
                passed = Message(channel, data, self._blocks)
                for inbox in route:
                    inbox.put(passed)

    def _route(self, pattern: bytes | None, channel: bytes) -> list[Inbox]:
        """Return the inboxes that want a message."""
        route = self._routes.get((pattern, channel))
        if route is None:
            with self._lock:
                route = [inbox for inbox in self._inboxes if inbox.interest.has(pattern, channel)]
                if len(self._routes) >= _MAX_ROUTES:
                    self._routes = {}
                self._routes[pattern, channel] = route
        return route

    def _test_connection(self) -> WireSteps[None]:
        """Send a ping after a period of silence: a connection can die without any error."""
        now = monotonic()
        if self._asker is not None and now > self._confirm_until:
            raise StoreUnavailable(f"Redis did not confirm a subscription within {PATIENCE:g} s")
        with self._lock:
            ping_after = min((inbox.ping_after for inbox in self._inboxes), default=PATIENCE)
        if self._pinged and now - self._pinged > ping_after:
            raise StoreUnavailable(f"Redis did not answer a ping within {ping_after:g} s")
        if not self._pinged and now - self._last_message > ping_after:
            yield Ping()
            self._pinged = now
