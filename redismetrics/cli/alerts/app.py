"""The command `alerts` and its subcommands."""

import typer

from . import files, templates

alerts_app = typer.Typer(
    help="Check and test alert rules, and see and silence alerts.", no_args_is_help=True
)
alerts_app.command("check")(files.check)
alerts_app.command("test")(files.run_tests)
alerts_app.add_typer(templates.template_app, name="template")
