"""The command `alerts template`: print rule files to start from."""

from typing import Annotated

import typer

template_app = typer.Typer(
    help="Print a rule file to start from: read it, edit it, and check it with alerts check.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="A name for the rules: letters, digits, _.")]
Selector = Annotated[
    str, typer.Argument(help="The metric, as in PromQL: 'jobs_total{queue=\"mail\"}'.")
]


@template_app.command()
def slo(
    name: Name,
    errors: Annotated[str, typer.Argument(help="The counter of failed requests, as in PromQL.")],
    total: Annotated[str, typer.Argument(help="The counter of all requests, as in PromQL.")],
    objective: Annotated[float, typer.Option(help="Percent of requests that must succeed.")] = 99.9,
) -> None:
    """Alert when the error budget of an objective is used up too fast, in several windows."""
    from redismetrics.alerts import ready_made

    print(ready_made.slo(name, errors, total, objective), end="")


@template_app.command()
def anomaly(
    name: Name,
    selector: Selector,
    function: Annotated[
        str, typer.Option(help="What is compared: rate for counters, avg_over_time for gauges.")
    ] = "rate",
    window: Annotated[str, typer.Option(help="The window of the function.")] = "1h",
    weeks: Annotated[int, typer.Option(help="How many weeks it is compared with.")] = 4,
    width: Annotated[float, typer.Option(help="How many standard deviations are usual.")] = 3,
) -> None:
    """Alert when a metric is far from what it was at the same time of the last weeks."""
    from redismetrics.alerts import ready_made

    text = ready_made.anomaly(name, selector, function, window=window, weeks=weeks, width=width)
    print(text, end="")


@template_app.command()
def absent(
    name: Name,
    selector: Selector,
    window: Annotated[str, typer.Option(help="How long nothing may be recorded.")] = "10m",
) -> None:
    """Alert when a metric, or some of its series, stopped coming."""
    from redismetrics.alerts import ready_made

    print(ready_made.absent(name, selector, window=window), end="")


@template_app.command()
def forecast(
    name: Name,
    selector: Selector,
    limit: Annotated[float, typer.Argument(help="The value that must not be reached.")],
    history: Annotated[str, typer.Option(help="How far back the line is fitted.")] = "6h",
    ahead: Annotated[str, typer.Option(help="How long before the alert comes.")] = "1d",
) -> None:
    """Alert when a disk or a queue reaches its limit soon, if it goes on like this."""
    from redismetrics.alerts import ready_made

    print(ready_made.forecast(name, selector, limit, history=history, ahead=ahead), end="")
