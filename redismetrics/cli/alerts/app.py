"""The command `alerts` with its subcommands."""

import typer

from redismetrics.cli.passed_on import PASSED_ON

from . import files, service, states, templates

alerts_app = typer.Typer(
    help="Check and test alert rules, and list and silence alerts.", no_args_is_help=True
)
alerts_app.command("check")(files.check)
alerts_app.command("test")(files.run_tests)
alerts_app.command("run", context_settings=PASSED_ON)(service.run_alerts)
alerts_app.command("list")(states.list_alerts)
alerts_app.command("history")(states.history)
alerts_app.add_typer(states.silence_app, name="silence")
alerts_app.add_typer(templates.template_app, name="template")
