"""What `--rules` and the options beside it say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from redismetrics.errors import InvalidSetting, shown


@dataclass(frozen=True, slots=True)
class AlertOptions:
    """How rules are evaluated and alerts are sent. Times are in seconds.

    Attributes:
        rules: Patterns of rule files.
        alertmanagers: URLs of Alertmanagers; all get all alerts.
        webhook: URL that gets Alertmanager's webhook payload; a secret.
        notify_config: Path of a file with routes and receivers.
        notify: Called with the webhook payload of each notification, in a thread.
        resend_delay: Alertmanagers get an alert that still fires again after it.
        external_url: Of the page that links in notifications lead to.
        external_labels: Added to alerts that are sent to Alertmanagers.
        lease: A process that evaluates a group and is gone is replaced after it.
        send_timeout: Of one request to a receiver.
        heartbeat_url: Gets a request after each whole pass, unless one failed: alerts cannot say
            that Redis is away, but a service that misses these requests can.
        default_interval: Of groups that give none.
    """

    rules: tuple[str, ...]
    alertmanagers: tuple[str, ...] = ()
    webhook: str = field(default="", repr=False)
    notify_config: str = ""
    notify: Callable[[dict[str, Any]], None] | None = None
    resend_delay: float = 60.0
    external_url: str = ""
    external_labels: Mapping[str, str] = field(default_factory=dict)
    lease: float = 15.0
    send_timeout: float = 10.0
    heartbeat_url: str = field(default="", repr=False)
    default_interval: float = 60.0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("resend_delay", 1, 86_400),
            ("lease", 1, 600),
            ("send_timeout", 0.1, 600),
            ("default_interval", 1, 86_400),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise InvalidSetting(
                    f"{name} must be from {least:g} to {most:g} seconds, got {shown(value)}"
                )
        if self.notify_config and (self.webhook or self.notify):
            raise InvalidSetting(
                "notify_config and webhook or notify must not be given together; name the webhook "
                "in the file"
            )
        for name, url in (
            *(("alertmanagers", url) for url in self.alertmanagers),
            ("webhook", self.webhook),
            ("heartbeat_url", self.heartbeat_url),
        ):
            if url and not url.startswith(("http://", "https://")):
                raise InvalidSetting(f"{name} must begin with http:// or https://")
