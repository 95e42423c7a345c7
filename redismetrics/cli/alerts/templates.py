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
    """Alert when an error budget is used up too fast, over several windows."""
    from redismetrics.alerts import ready_made

    print(ready_made.slo(name, errors, total, objective), end="")


@template_app.command()
def anomaly(
    name: Name,
    selector: Selector,
    function: Annotated[
        str, typer.Option(help="Function to compare: rate for counters, avg_over_time for gauges.")
    ] = "rate",
    window: Annotated[str, typer.Option(help="The window of the function.")] = "1h",
    weeks: Annotated[int, typer.Option(help="The number of weeks to compare with.")] = 4,
    width: Annotated[float, typer.Option(help="How many standard deviations are normal.")] = 3,
) -> None:
    """Alert when a metric is far from its values at the same time in past weeks."""
    from redismetrics.alerts import ready_made

    text = ready_made.anomaly(name, selector, function, window=window, weeks=weeks, width=width)
    print(text, end="")


@template_app.command()
def absent(
    name: Name,
    selector: Selector,
    window: Annotated[str, typer.Option(help="How long the metric may have no samples.")] = "10m",
) -> None:
    """Alert when a metric, or some of its series, has no more samples."""
    from redismetrics.alerts import ready_made

    print(ready_made.absent(name, selector, window=window), end="")


@template_app.command()
def forecast(
    name: Name,
    selector: Selector,
    limit: Annotated[float, typer.Argument(help="The limit that the metric must not reach.")],
    history: Annotated[str, typer.Option(help="How much history the line is fitted to.")] = "6h",
    ahead: Annotated[str, typer.Option(help="How long in advance to alert.")] = "1d",
) -> None:
    """Alert when a disk or a queue will soon reach its limit, if the trend continues."""
    from redismetrics.alerts import ready_made

    print(ready_made.forecast(name, selector, limit, history=history, ahead=ahead), end="")
