"""The commands that read and write alerts in Redis: alerts list, history, silence."""

import getpass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from redismetrics.cli import options
from redismetrics.cli.options import AsJson, Namespace, Url
from redismetrics.cli.printing import (
    cell,
    is_for_people,
    make_console,
    plain,
    print_json,
    print_rows,
)

silence_app = typer.Typer(
    help="Silence alerts for a time: they are evaluated, but not sent.", no_args_is_help=True
)
_COLOURS = {"firing": "bold red", "pending": "yellow"}


def list_alerts(
    everything: Annotated[
        bool, typer.Option("--rules", help="List all rules, also those without alerts.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """List the alerts that are pending or firing, or all rules."""
    with options.client(url, namespace) as metrics:
        found = metrics.list_rules() if everything else metrics.list_alerts()
    if as_json:
        print_json(found)
    elif everything:
        print_rows([_rule_row(group, rule) for group in found for rule in group["rules"]])
    elif not is_for_people():
        print_rows([_alert_row(alert) for alert in found])
    elif not found:
        print("No alerts are pending or firing.")
    else:
        make_console().print(_alert_table(found))


def _alert_row(alert: dict[str, Any]) -> dict[str, Any]:
    return {
        "state": alert["state"],
        "alert": alert["labels"].get("alertname", ""),
        "since": alert["activeAt"],
        "value": alert["value"],
        "labels": _labels(alert["labels"]),
    }


def _rule_row(group: dict[str, Any], rule: dict[str, Any]) -> dict[str, Any]:
    return {
        "group": group["name"],
        "rule": rule["name"],
        "type": rule["type"],
        "state": rule.get("state", ""),
        "health": rule["health"],
        "evaluated": rule["lastEvaluation"],
        "error": rule.get("lastError", ""),
    }


def _labels(labels: dict[str, str]) -> str:
    return ", ".join(f"{k}={v}" for k, v in sorted(labels.items()) if k != "alertname")


def _alert_table(alerts: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("state", "alert", "since (UTC)", "value", "labels", "summary"):
        table.add_column(name, overflow="fold")
    for alert in sorted(alerts, key=lambda each: (each["state"] != "firing", each["activeAt"])):
        row = _alert_row(alert)
        summary = alert["annotations"].get("summary", "")
        table.add_row(
            Text(row["state"], _COLOURS.get(row["state"], "")),
            *(Text(cell(row[name])) for name in ("alert", "since", "value", "labels")),
            Text(cell(summary)),
        )
    return table


def history(
    since: Annotated[
        str, typer.Option(help=f"Changes since then: {options.TIME_FORMS}.", metavar="TIME")
    ] = "1d",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of changes.")] = 100,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """List changes of alert states, newest first. They are kept for 30 days."""
    with options.client(url, namespace) as metrics:
        found = metrics.alert_history(since=options.time(since, "--since"), limit=limit)
    if as_json:
        print_json(found)
        return
    rows = [{**each, "labels": _labels(each["labels"])} for each in found]
    print_rows(rows)


@silence_app.command("add")
def add_silence(
    matchers: Annotated[
        list[str], typer.Argument(help="Conditions on labels: job=api 'instance=~\"web-.*\"'.")
    ],
    comment: Annotated[str, typer.Option(help="Why.")],
    duration: Annotated[str, typer.Option(help="How long, such as 2h.")] = "1h",
    author: Annotated[str | None, typer.Option(help="Author (default: your user name).")] = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Silence alerts that match all conditions, and print the id of the silence."""
    with options.client(url, namespace) as metrics:
        silence = metrics.silence_alerts(
            ", ".join(matchers),
            duration=duration,
            comment=comment,
            author=author or getpass.getuser(),
        )
    print(silence["id"])


@silence_app.command("list")
def list_silences(as_json: AsJson = False, url: Url = None, namespace: Namespace = None) -> None:
    """List silences, including those that ended in the last five days."""
    with options.client(url, namespace) as metrics:
        found = metrics.list_silences()
    if as_json:
        print_json(found)
        return
    print_rows(
        [
            {
                "id": each["id"],
                "state": each["status"]["state"],
                "ends": each["endsAt"],
                "author": plain(each["createdBy"]),
                "comment": plain(each["comment"]),
                "matchers": plain(", ".join(map(_matcher, each["matchers"]))),
            }
            for each in found
        ]
    )


def _matcher(matcher: dict[str, Any]) -> str:
    op = {(True, False): "=", (False, False): "!=", (True, True): "=~", (False, True): "!~"}
    return f'{matcher["name"]}{op[matcher["isEqual"], matcher["isRegex"]]}"{matcher["value"]}"'


@silence_app.command("expire")
def expire_silence(
    silence: Annotated[str, typer.Argument(help="The id, as printed by list and add.")],
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """End a silence now."""
    with options.client(url, namespace) as metrics:
        found = metrics.expire_silence(silence)
    print(f"ended at {datetime.now(UTC):%H:%M:%S} UTC: {found['comment']}")
