"""The command `redismetrics`, also `python -m redismetrics`. Needs core only to say that the extra `cli` is missing."""

import sys


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        import rich
        import typer
    except ImportError:
        print("the command line needs: pip install 'redismetrics[cli]'", file=sys.stderr)
        return 1
    del rich, typer
    from redismetrics.cli.main import run

    return run()


if __name__ == "__main__":  # the demo's processes import this file under another name
    sys.exit(main())
