"""The settings given by `--rules` and its related options."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from redismetrics.errors import InvalidSetting, shown


@dataclass(frozen=True, slots=True)
class AlertOptions:
    """How to evaluate rules and send alerts. Times are in seconds.

    Attributes:
        rules: Patterns of rule files.
        alertmanagers: URLs of Alertmanagers; each gets all alerts.
        webhook: URL that gets Alertmanager's webhook payload; a secret.
        notify_config: Path of a file with routes and receivers.
        notify: Called with the webhook payload of each notification, in a thread.
        resend_delay: Time after which a firing alert is sent to Alertmanagers again.
        external_url: Base URL of links in notifications.
        external_labels: Labels to add to the alerts sent to Alertmanagers.
        lease: Time after which a vanished process that evaluated a group is replaced.
        send_timeout: Timeout of one request to a receiver.
        heartbeat_url: URL to request after each complete and successful pass: alerts cannot report
            that Redis is unreachable, but a service that misses these requests can.
        default_interval: Interval of groups that do not set one.
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
