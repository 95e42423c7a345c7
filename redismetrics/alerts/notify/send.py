"""Send a notification through one channel of a receiver."""

import logging
from collections.abc import Callable, Iterable
from typing import Any

from redismetrics.alerts.templates.errors import TemplateError
from redismetrics.alerts.templates.parser import parse
from redismetrics.errors import InvalidSetting, MissingExtra

from .config import Apprise, Callback, NotifyConfig, Webhook
from .groups import Notification
from .http import SendingFailed, post_json
from .texts import NAMES, message, webhook_payload

log = logging.getLogger("redismetrics")

# Sends a notification, or raises SendingFailed.
Send = Callable[[Notification], None]


def sender(config: NotifyConfig, external_url: str) -> Send:
    """Return a function that sends a notification through the channel that it names.

    Raises:
        InvalidSetting: If a template or a URL for apprise is not valid.
        MissingExtra: If a receiver needs the package apprise and it is not installed.
    """
    ways = {
        (receiver.name, name): way
        for receiver in config.receivers.values()
        for name, way in receiver.ways
    }
    services = {
        key: _service(f"{key[0]}/{key[1]}", way, config.templates)
        for key, way in ways.items()
        if isinstance(way, Apprise)
    }

    def send(notification: Notification) -> None:
        key = notification.receiver.name, notification.way
        way = ways[key]
        if isinstance(way, Webhook):
            payload = webhook_payload(notification, external_url, way.max_alerts)
            post_json(way.url, payload, way.timeout_s, way.token)
        elif isinstance(way, Callback):
            way.call(webhook_payload(notification, external_url))
        else:
            title, body = message(notification, way.title, way.body, config.templates, external_url)
            _send_by_apprise(services[key], title, body, is_firing=notification.is_firing)

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
    # It logs URLs at a lower level.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    return apprise


def _service(name: str, way: Apprise, templates: Iterable[str]) -> Any:
    """Return apprise for a URL; the error shows the name of the receiver, not the URL."""
    for text in (*templates, way.title, way.body):
        try:
            parse(text, NAMES)
        except TemplateError as error:
            raise InvalidSetting(f"templates of {name} must be valid: {error}") from error
    service = import_apprise().Apprise()
    if not service.add(way.url):
        raise InvalidSetting(f"url of {name} must be one that apprise recognises")
    return service


def _send_by_apprise(service: Any, title: str, body: str, *, is_firing: bool) -> None:
    apprise = import_apprise()
    kind = apprise.NotifyType.FAILURE if is_firing else apprise.NotifyType.SUCCESS
    # As plain text: apprise escapes what the service would interpret as markup.
    text = apprise.NotifyFormat.TEXT
    if not service.notify(title=title, body=body, notify_type=kind, body_format=text):
        raise SendingFailed("apprise could not deliver it")
