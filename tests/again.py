"""Run the tests that failed once more: alone, and three times.

    python -m tests.again [CACHE]           # CACHE is pytest's cache folder, default .pytest_cache

A test that fails only while the machine is busy is wrong itself and must be fixed, but the software
is not wrong. The exit status is 0 if there were at most three failures and all pass three times.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST, TIMES = 3, 3
# Seconds for one run of all of them.
PATIENCE = 600


def failures(cache: Path) -> list[str]:
    """Return the tests that failed in the last run that used the folder *cache*."""
    try:
        return list(json.loads((cache / "v" / "cache" / "lastfailed").read_text()))
    except (FileNotFoundError, ValueError):
        return []


def pass_alone(cache: Path, *options: str, **environment: str) -> bool:
    """Run the failures of the last run again; return True if they are few and pass each time."""
    failed = failures(cache)
    if not failed:
        print("\nNo failed test is known: the run ended for another reason.", flush=True)
        return False
    if len(failed) > MOST:
        print(f"\n{len(failed)} tests failed: at most {MOST} are run again.", flush=True)
        return False
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *failed]
    for _ in range(TIMES):
        try:
            ended = subprocess.run(
                command, cwd=ROOT, env={**os.environ, **environment}, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            print(f"\nStopped after {PATIENCE} s.", flush=True)
            return False
        if ended.returncode:
            return False
    print(f"\nFAILED ONCE, but passed alone {TIMES} times; make these independent of the machine:")
    print(*(f"  {test}" for test in failed), sep="\n", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(not pass_alone(Path(*sys.argv[1:2] or [ROOT / ".pytest_cache"])))
