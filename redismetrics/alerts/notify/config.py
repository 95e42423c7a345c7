"""The file for `--notify-config`: routes and receivers, with Alertmanager's keys.

https://prometheus.io/docs/alerting/latest/configuration/
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redismetrics.alerts.durations import parse_duration
from redismetrics.alerts.label_matchers import LabelMatcher, matches_all, parse_matchers
from redismetrics.alerts.yaml_nodes import InvalidFile, Scalar, Value, YamlReader, read_yaml

MAX_SECRET_BYTES = 64 * 1024
# group_by that groups by all labels.
ALL_LABELS = "..."

_ROUTE_FIELDS = {
    "receiver",
    "group_by",
    "group_wait",
    "group_interval",
    "repeat_interval",
    "matchers",
    "continue",
    "routes",
}
_WEBHOOK_FIELDS = {"url", "url_file", "send_resolved", "max_alerts", "timeout", "bearer_token_file"}
_APPRISE_FIELDS = {"url", "url_file", "send_resolved", "title", "body"}

TITLE = (
    '[{{ .Status | toUpper }}{{ if eq .Status "firing" }}:{{ len .Alerts.Firing }}{{ end }}] '
    '{{ join " " .GroupLabels.Values }}'
)
BODY = (
    "{{ range .Alerts }}{{ .Status }}: {{ .Labels.alertname }}"
    "{{ if .Annotations.summary }}: {{ .Annotations.summary }}{{ end }}\n"
    "{{ range .Labels.SortedPairs }}  {{ .Name }} = {{ .Value }}\n{{ end }}{{ end }}"
)


@dataclass(frozen=True, slots=True)
class Webhook:
    """Sends Alertmanager's version 4 payload. *url* is a secret, because it may contain a token."""

    url: str = field(repr=False)
    send_resolved: bool = True
    max_alerts: int = 0
    timeout_s: float = 10.0
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Apprise:
    """Sends a message to a service by its Apprise URL, which is a secret."""

    url: str = field(repr=False)
    send_resolved: bool = True
    title: str = TITLE
    body: str = BODY


@dataclass(frozen=True, slots=True)
class Callback:
    """Calls a function of the program with the webhook payload. Not available in files."""

    call: Callable[[dict[str, Any]], None]
    send_resolved: bool = True


@dataclass(frozen=True, slots=True)
class NotifyReceiver:
    """A receiver of notifications, with all its channels."""

    name: str
    webhooks: tuple[Webhook, ...] = ()
    apprises: tuple[Apprise, ...] = ()
    functions: tuple[Callback, ...] = ()

    @property
    def ways(self) -> list[tuple[str, Webhook | Apprise | Callback]]:
        """Return all channels with their names, such as `webhook[0]`."""
        return [
            *((f"function[{number}]", each) for number, each in enumerate(self.functions)),
            *((f"webhook[{number}]", each) for number, each in enumerate(self.webhooks)),
            *((f"apprise[{number}]", each) for number, each in enumerate(self.apprises)),
        ]


@dataclass(frozen=True, slots=True)
class Route:
    """Sends matching alerts to a receiver, in groups. Times are in ms.

    Attributes:
        path: The position of the route, such as `{}/{severity="page"}`; part of the key of its
            groups.
        goes_on: Whether an alert that matches this route is also passed to later routes.
    """

    path: str
    receiver: str
    group_by: tuple[str, ...] = ()
    group_wait: int = 30_000
    group_interval: int = 300_000
    repeat_interval: int = 14_400_000
    matchers: tuple[LabelMatcher, ...] = ()
    goes_on: bool = False
    routes: tuple["Route", ...] = ()

    def find(self, labels: Mapping[str, str]) -> list["Route"]:
        """Return the routes for an alert with *labels*: the deepest that match."""
        if not matches_all(self.matchers, labels):
            return []
        found: list[Route] = []
        for each in self.routes:
            deeper = each.find(labels)
            found += deeper
            if deeper and not each.goes_on:
                break
        return found or [self]

    def group_labels(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Return the labels of the group that an alert belongs to."""
        if ALL_LABELS in self.group_by:
            return dict(labels)
        return {name: labels[name] for name in self.group_by if name in labels}

    def all(self) -> Iterator["Route"]:
        """Yield this route and all routes below it."""
        yield self
        for each in self.routes:
            yield from each.all()


@dataclass(frozen=True, slots=True)
class NotifyConfig:
    """Routes, receivers by name, and the contents of template files."""

    route: Route
    receivers: dict[str, NotifyReceiver]
    templates: tuple[str, ...] = ()


def load_config(path: Path) -> NotifyConfig:
    """Read and check a file, and the secret and template files that it names.

    Raises:
        InvalidFile: If the file is not valid, with all reasons.
        OSError: If it cannot be read.
    """
    root = read_yaml(path.read_bytes())
    if root is None:
        raise InvalidFile([f"{path.name}: the file must have a route and receivers, got nothing"])
    return _ConfigParser(path.parent).config(root)


class _ConfigParser:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reader = YamlReader()

    def wrong(self, value: Value, problem: str) -> None:
        self.reader.problems.append(f"line {value.line}: {problem}")

    def config(self, root: Value) -> NotifyConfig:
        read = self.reader
        fields = read.fields(root, "the notification file", {"route", "receivers", "templates"})
        receivers = {}
        for value in read.items(fields.get("receivers"), "receiver"):
            receiver = self.receiver(value)
            if receiver.name in receivers:
                self.wrong(value, f"receiver {receiver.name!r} is repeated")
            receivers[receiver.name] = receiver
        templates = [
            text
            for value in read.items(fields.get("templates"), "string")
            for text in self.templates(value)
        ]
        route = None
        if "route" in fields:
            route = self.route(fields["route"], Route("", ""), receivers, is_root=True)
        else:
            self.wrong(root, "route must be given, with the receiver of all alerts")
        read.check()
        assert route is not None
        return NotifyConfig(route, receivers, tuple(templates))

    def route(
        self, value: Value, parent: Route, receivers: Mapping[str, NotifyReceiver], *, is_root: bool
    ) -> Route:
        read = self.reader
        fields = read.fields(value, "route", _ROUTE_FIELDS)
        receiver = read.text(fields.get("receiver"), parent.receiver)
        if receiver not in receivers:
            known = ", ".join(receivers) or "none"
            self.wrong(value, f"receiver must be one of {known}, got {receiver!r}")
        matchers = []
        for each in read.items(fields.get("matchers"), "string"):
            try:
                matchers += parse_matchers(read.text(each))
            except ValueError as error:
                self.wrong(each, str(error))
        if is_root and matchers:
            self.wrong(value, "the root route must not have matchers: it receives all alerts")
        by = tuple(read.text(each) for each in read.items(fields.get("group_by"), "string"))
        route = Route(
            f"{parent.path}/{{{','.join(map(str, matchers))}}}" if not is_root else "{}",
            receiver,
            by if "group_by" in fields else parent.group_by,
            self.duration(fields.get("group_wait"), parent.group_wait, 0),
            self.duration(fields.get("group_interval"), parent.group_interval),
            self.duration(fields.get("repeat_interval"), parent.repeat_interval),
            tuple(matchers),
            read.number(fields.get("continue"), "bool", _parse_boolean, False),
        )
        below = tuple(
            self.route(each, route, receivers, is_root=False)
            for each in read.items(fields.get("routes"), "route")
        )
        return Route(
            route.path,
            route.receiver,
            route.group_by,
            route.group_wait,
            route.group_interval,
            route.repeat_interval,
            route.matchers,
            route.goes_on,
            below,
        )

    def duration(self, value: Value | None, default: int, least: int = 1) -> int:
        if value is None or (isinstance(value, Scalar) and value.is_null):
            return default
        try:
            found = parse_duration(self.reader.text(value))
        except ValueError as error:
            self.wrong(value, str(error))
            return default
        if found < least:
            self.wrong(value, "a duration must be longer than 0")
        return found

    def receiver(self, value: Value) -> NotifyReceiver:
        read = self.reader
        fields = read.fields(value, "receiver", {"name", "webhook_configs", "apprise_configs"})
        name = read.text(fields.get("name"))
        if not name:
            self.wrong(value, "name of a receiver must not be empty")
        return NotifyReceiver(
            name,
            tuple(
                self.webhook(each) for each in read.items(fields.get("webhook_configs"), "webhook")
            ),
            tuple(
                self.apprise(each) for each in read.items(fields.get("apprise_configs"), "apprise")
            ),
        )

    def webhook(self, value: Value) -> Webhook:
        read = self.reader
        fields = read.fields(value, "webhook_configs", _WEBHOOK_FIELDS)
        url = self.secret(value, fields, "url")
        if not url.startswith(("http://", "https://")):
            self.wrong(value, "url of a webhook must begin with http:// or https://")
        token = fields.get("bearer_token_file")
        return Webhook(
            url,
            read.number(fields.get("send_resolved"), "bool", _parse_boolean, True),
            read.number(fields.get("max_alerts"), "int", _natural, 0),
            self.duration(fields.get("timeout"), 10_000) / 1000,
            self.file(token) if token else "",
        )

    def apprise(self, value: Value) -> Apprise:
        read = self.reader
        fields = read.fields(value, "apprise_configs", _APPRISE_FIELDS)
        return Apprise(
            self.secret(value, fields, "url"),
            read.number(fields.get("send_resolved"), "bool", _parse_boolean, True),
            read.text(fields.get("title"), TITLE),
            read.text(fields.get("body"), BODY),
        )

    def secret(self, value: Value, fields: Mapping[str, Value], name: str) -> str:
        """Return a secret given as *name*, or in a file given as *name*_file."""
        given = [each for each in (name, f"{name}_file") if each in fields]
        if len(given) != 1:
            self.wrong(value, f"exactly one of {name} and {name}_file must be given")
            return ""
        if given == [name]:
            return self.reader.text(fields[name])
        return self.file(fields[f"{name}_file"])

    def file(self, value: Value) -> str:
        path = self.folder / self.reader.text(value)
        try:
            with path.open("rb") as file:
                data = file.read(MAX_SECRET_BYTES + 1)
            if len(data) > MAX_SECRET_BYTES:
                self.wrong(value, f"the file must have at most {MAX_SECRET_BYTES} bytes")
                return ""
            return data.decode().strip()
        except (OSError, ValueError) as error:
            self.wrong(value, f"the file cannot be read: {error}")
            return ""

    def templates(self, value: Value) -> list[str]:
        pattern = self.reader.text(value)
        found = sorted(
            Path("/").glob(pattern.lstrip("/"))
            if pattern.startswith("/")
            else self.folder.glob(pattern)
        )
        if not found:
            self.wrong(value, f"no file matches {pattern!r}")
        texts = []
        for path in found:
            try:
                texts.append(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                self.wrong(value, f"{path.name} cannot be read: {error}")
        return texts


def _parse_boolean(text: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    raise ValueError


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number
