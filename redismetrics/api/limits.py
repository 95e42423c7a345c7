"""The limits of one application."""

from dataclasses import dataclass, fields

from redismetrics.errors import InvalidSetting, shown
from redismetrics.integrations.limits import CardinalityLimit


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may query or send. Errors name the limit that was exceeded.

    Attributes:
        window_seconds: Maximum window of a query.
        max_series: Series that one query may read.
        max_rows: Rows of a result, and intervals of a window.
        max_samples: Samples of `/api/metrics`.
        max_repeats: How often a parameter may be repeated.
        max_concurrent: Queries that run at the same time; likewise requests that record.
        max_queued: Queries that wait for their turn; likewise requests that record.
        max_streams: Open streams.
        stream_queue: Events buffered for a slow client of a stream.
        heartbeat_seconds: Idle time on a stream before a comment is sent.
        body_bytes: Size of a body, before and after decompression.
        body_seconds: Time for a body to arrive.
        body_buffer_bytes: Bytes of all bodies that are being read or waiting.
        max_bodies: Bodies that are read at the same time; beyond that, the oldest is given up.
        send_seconds: Time for a client to read a piece of a response (32 KiB) or an event.
        unsent_bytes: Bytes of all unsent query results.
        max_batch: Samples in one request.
        wait_seconds: Time for the samples of a request with ``wait=true`` to be stored.
        max_idempotency_keys: Idempotency keys that this process remembers per hour.
        max_recorded_names: Metrics that this process may hold; beyond that, requests with new ones
            are rejected.
        max_recorded_series: Series, likewise.
        max_recorded_bytes: Bytes of their tags, likewise.
        max_otlp_streams: OpenTelemetry streams whose state is remembered.
        promql_seconds: Time for the evaluation of a PromQL expression, including reading.
        promql_points: Points of each series of a PromQL range query.
        promql_samples: Samples that a PromQL expression may read, and values that it may hold.
        promql_series: Series that a PromQL selector may return.
        remote_write_bytes: Size of a decompressed body of remote write.

    Raises:
        InvalidSetting: If a limit is not a number above 0, or not whole if it is a count.
    """

    window_seconds: float = 366 * 86_400.0
    max_series: int = 20_000
    max_rows: int = 50_000
    max_samples: int = 10_000
    max_repeats: int = 32
    max_concurrent: int = 8
    max_queued: int = 64
    max_streams: int = 100
    stream_queue: int = 1_000
    heartbeat_seconds: float = 15.0
    body_bytes: int = 4 << 20
    body_seconds: float = 30.0
    body_buffer_bytes: int = 40 << 20
    max_bodies: int = 1_000
    send_seconds: float = 30.0
    unsent_bytes: int = 48 << 20
    max_batch: int = 10_000
    wait_seconds: float = 5.0
    max_idempotency_keys: int = 100_000
    max_recorded_names: int = 10_000
    max_recorded_series: int = 200_000
    max_recorded_bytes: int = 16 << 20
    max_otlp_streams: int = 100_000
    promql_seconds: float = 120.0
    promql_points: int = 11_000
    promql_samples: int = 10_000_000
    promql_series: int = 100_000
    remote_write_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            is_whole = limit.type is int
            allowed = int if is_whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, allowed) or not value > 0:
                kind = "a whole number" if is_whole else "a number"
                raise InvalidSetting(f"{limit.name} must be {kind} above 0, got {shown(value)}")

    @property
    def cardinality(self) -> CardinalityLimit:
        """How much this process may hold from requests that record."""
        return CardinalityLimit(
            self.max_recorded_names, self.max_recorded_series, self.max_recorded_bytes
        )
