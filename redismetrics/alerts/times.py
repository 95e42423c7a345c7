"""Times in the format of Prometheus and Alertmanager: 2026-01-31T12:00:00.000Z."""

from datetime import UTC, datetime


def time_text(ms: int) -> str:
    """Return a time as RFC 3339, in UTC. 0 (never) becomes Go's zero time."""
    if not ms:
        return "0001-01-01T00:00:00Z"
    text = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
