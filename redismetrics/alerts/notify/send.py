"""Send a notification by one way of a receiver."""

import logging
from collections.abc import Callable
from typing import Any

from redismetrics.errors import MissingExtra

from .config import Apprise, Callback, NotifyConfig, Webhook
from .groups import Notification
from .http import SendingFailed, post_json
from .texts import message, webhook_payload

log = logging.getLogger("redismetrics")

# Sends a notification, or raises SendingFailed.
Send = Callable[[Notification], None]


def sender(config: NotifyConfig, external_url: str) -> Send:
    """Return a function that sends a notification by the way that it names.

    Raises:
        MissingExtra: If a receiver needs the package apprise, which is not installed.
    """
    ways = {
        (receiver.name, name): way
        for receiver in config.receivers.values()
        for name, way in receiver.ways
    }
    if any(isinstance(way, Apprise) for way in ways.values()):
        import_apprise()

    def send(notification: Notification) -> None:
        way = ways[notification.receiver.name, notification.way]
        if isinstance(way, Webhook):
            payload = webhook_payload(notification, external_url, way.max_alerts)
            post_json(way.url, payload, way.timeout_s, way.token)
        elif isinstance(way, Callback):
            way.call(webhook_payload(notification, external_url))
        else:
            title, body = message(notification, way.title, way.body, config.templates, external_url)
            _send_by_apprise(way.url, title, body, is_firing=notification.is_firing)

    return send


def import_apprise() -> Any:
    """Return the package apprise.

    Raises:
        MissingExtra: If it is not installed.
    """
    try:
        import apprise
    except ImportError as error:
        raise MissingExtra(
            "apprise_configs need apprise: pip install 'redismetrics[alerts]'"
        ) from error
    # It logs URLs at a level below.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    return apprise


def _send_by_apprise(url: str, title: str, body: str, *, is_firing: bool) -> None:
    apprise = import_apprise()
    services = apprise.Apprise()
    if not services.add(url):
        raise SendingFailed("apprise does not recognise its URL", may_retry=False)
    kind = apprise.NotifyType.FAILURE if is_firing else apprise.NotifyType.SUCCESS
    # As text: apprise escapes what the service would take for markup.
    text = apprise.NotifyFormat.TEXT
    if not services.notify(title=title, body=body, notify_type=kind, body_format=text):
        raise SendingFailed("apprise could not deliver it")
