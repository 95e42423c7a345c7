"""The command `redismetrics`, also `python -m redismetrics`.

Without the extra `cli`, it only prints how to install it.
"""

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


# The processes of the demo import this file under another name.
if __name__ == "__main__":
    sys.exit(main())
