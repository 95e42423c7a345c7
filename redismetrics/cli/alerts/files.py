"""The commands that need no server: alerts check, test, template."""

from pathlib import Path
from typing import Annotated, Any

import typer

from redismetrics.cli.options import AsJson
from redismetrics.cli.printing import is_for_people, print_json

Files = Annotated[list[Path], typer.Argument(help="Files.", metavar="FILE...")]


def check(files: Files, as_json: AsJson = False) -> None:
    """Check rule files, as promtool check rules does.

    The exit status is 1 if a file is not valid. Duplicate rules are only a warning.
    """
    from redismetrics.alerts.expressions import check_expression
    from redismetrics.alerts.rule_file import duplicate_rules, load_rules
    from redismetrics.alerts.yaml_nodes import InvalidFile

    results: list[dict[str, Any]] = []
    for path in files:
        result: dict[str, Any] = {"file": str(path), "rules": 0, "problems": [], "duplicates": []}
        try:
            groups = load_rules(path, check_expression)
            result["rules"] = sum(len(group.rules) for group in groups)
            result["duplicates"] = [rule.name for rule in duplicate_rules(groups)]
        except InvalidFile as error:
            result["problems"] = error.problems
        except OSError as error:
            result["problems"] = [error.strerror or str(error)]
        results.append(result)
        if not as_json:
            _print_checked(result)
    if as_json:
        print_json(results)
    if any(result["problems"] for result in results):
        raise typer.Exit(1)


def _print_checked(result: dict[str, Any]) -> None:
    print(f"Checking {result['file']}")
    if result["problems"]:
        print("  FAILED:")
        for problem in result["problems"]:
            print(f"    {problem}")
        return
    print(f"  SUCCESS: {result['rules']} rules found")
    names = result["duplicates"]
    if names:
        print(f"  WARNING: {len(names)} of the same name and labels as an earlier rule:")
        for name in names:
            print(f"    {name}")


def run_tests(files: Files, as_json: AsJson = False) -> None:
    """Run unit tests of rules, as promtool test rules does.

    The exit status is 1 if a test fails.
    """
    from redismetrics.alerts.unit_tests.run import run_test_file

    results: list[dict[str, Any]] = []
    for path in files:
        if not as_json:
            print(f"Unit testing {path}")
        try:
            outcome = _with_progress(path) if is_for_people() else run_test_file(path)
            failures, notes = outcome.failures, outcome.notes
        except OSError as error:
            failures, notes = [error.strerror or str(error)], []
        results.append({"file": str(path), "failures": failures, "warnings": notes})
        if not as_json:
            for note in notes:
                print(f"  WARNING: {note}")
            print("\n".join(("  FAILED:", *failures)) if failures else "  SUCCESS")
    if as_json:
        print_json(results)
    if any(result["failures"] for result in results):
        raise typer.Exit(1)


def _with_progress(path: Path) -> Any:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from redismetrics.alerts.unit_tests.run import run_test_file

    columns = (SpinnerColumn(), TextColumn("{task.completed} tests done"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        return run_test_file(path, progress=lambda: progress.advance(task))
