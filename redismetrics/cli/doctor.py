"""The commands that check a server: doctor, cardinality."""

import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from . import options
from .options import AsJson, Namespace, Url
from .printing import cell, is_for_people, make_console, plain, print_json, print_rows

if TYPE_CHECKING:
    from redismetrics.admin.findings import Finding


_MARKS = {
    "ok": ("ok", "green"),
    "warning": ("warning", "yellow"),
    "failure": ("failure", "bold red"),
}


def doctor(as_json: AsJson = False, url: Url = None, namespace: Namespace = None) -> None:
    """Check the server and the namespace, and suggest what to do.

    The exit status is 1 if a check fails.
    """
    # Imported here because it loads redis.
    from redismetrics.admin.doctor import examine

    logging.getLogger("redismetrics").setLevel(logging.ERROR)
    report = examine(url, namespace=namespace)
    if as_json:
        print_json(report.to_dict())
    elif is_for_people():
        make_console().print(_table(report.findings), end="")
    else:
        for finding in report.findings:
            print(
                "\t".join(
                    plain(text)
                    for text in (finding.status, finding.check, finding.found, finding.advice)
                )
            )
    if not report.healthy:
        raise typer.Exit(1)


def cardinality(
    limit: Annotated[int, typer.Option("--limit", min=1, help="Maximum number of metrics.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Print the metrics with the most series, and how many values each tag has.

    overflow: some series were merged into one.
    """
    with options.client(url, namespace) as metrics:
        found = metrics.cardinality(limit=limit)
    if as_json:
        print_json(found)
        return
    rows: list[dict[str, Any]] = []
    for each in found:
        first = {
            "name": each["name"],
            "series": each["series"],
            "overflow": "yes" if each["overflow"] else "",
        }
        tags = list(each["tags"].items()) or [("", None)]
        for at, (tag, values) in enumerate(tags):
            shown = (
                first
                if at == 0 or not is_for_people()
                else {"name": "", "series": None, "overflow": ""}
            )
            rows.append({**shown, "tag": tag, "values": values})
    print_rows(rows)


def _table(findings: list["Finding"]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column()
    for finding in findings:
        mark, style = _MARKS[finding.status]
        text = Text(cell(finding.found))
        if finding.advice:
            text.append(f"\n{cell(finding.advice)}", style=style)
        table.add_row(Text(mark, style=style), finding.check, text)
    return table
