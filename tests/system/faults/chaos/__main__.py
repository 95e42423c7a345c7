"""The command, and the processes that it starts."""

import argparse
import sys
import time
from functools import partial

from tests.fixtures.servers import default_binary, version

from .processes import without_guard, work, write
from .run import bugs, run


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["write-unguarded"]:
        without_guard()
    if arguments[:1] in (["write"], ["write-unguarded"]):
        seed, number, base_ms = map(int, arguments[3:])
        write(arguments[1], arguments[2], seed, number, base_ms)
        return 0
    if arguments[:1] == ["work"]:
        return work(arguments[1])
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.faults.chaos",
        description="Disturb everything at random, then account for every sample.",
        epilog="The server is that of the tests; REDISMETRICS_TEST_SERVER names another program.",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        help="how long to disturb (default: %(default)g)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=int(time.time()),
        help="determines what is done and when (default: the time)",
    )
    parser.add_argument(
        "--without-guard",
        action="store_true",
        help="remove the guard from record.lua: the balance must be wrong",
    )
    parser.add_argument(
        "--still-clock",
        action="store_true",
        help="do not move the clock of the server, and end it by SIGTERM instead of SHUTDOWN",
    )
    parser.add_argument("--verbose", action="store_true", help="print each action")
    given = parser.parse_args(arguments)
    print(f"{version(default_binary())}, seed {given.seed}, {given.seconds:g} s", flush=True)
    report = partial(print, flush=True) if given.verbose else lambda _: None
    balance, log = run(
        given.seconds,
        given.seed,
        report,
        guarded=not given.without_guard,
        movable=False if given.still_clock else None,
    )
    print(balance)
    for line in (found := bugs(log)):
        print(f"log: {line}")
    return int(bool(balance.wrong or found))


if __name__ == "__main__":
    sys.exit(main())
