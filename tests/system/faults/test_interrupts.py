"""An exception of a signal handler, such as Ctrl-C, at any point of `flush` and `close`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.servers import PROCESS_PATIENCE

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.slow

# An alarm comes after a random time that is about as long as the call. The number of samples is
# counted apart from the client: it knows nothing of those that it has lost.
BEGIN = """
import json, random, signal, sys
from redismetrics import Metrics

class Stop(BaseException):
    pass

def handler(*_):
    raise Stop

def interrupted(call):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, longest))
        call()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Stop:
        return 1
    return 0

def new():
    return Metrics(sys.argv[1], namespace=sys.argv[2], flush_interval=3600)

def record(metrics):
    for number in range(50):
        metrics.increment("jobs", tags={"n": number})

random.seed(int(sys.argv[3]))
signal.signal(signal.SIGALRM, handler)
longest = 0.003
stops = 0
"""
FLUSH = """
metrics = new()
record(metrics)
metrics.flush()
for _ in range(200):
    record(metrics)
    stops += interrupted(metrics.flush)
metrics.flush()
stats = metrics.stats()
print(json.dumps([201 * 50, stats["stored"], stats["dropped"], stops]))
"""
CLOSE = """
stored, dropped = 0, {}
for _ in range(100):
    metrics = new()
    record(metrics)
    stops += interrupted(metrics.close)
    metrics.close()
    stored += metrics.stats()["stored"]
    dropped |= metrics.stats()["dropped"]
print(json.dumps([100 * 50, stored, dropped, stops]))
"""


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("code", [FLUSH, CLOSE], ids=["flush", "close"])
def test_an_interrupted_call_loses_nothing(url: str, namespace: str, code: str, seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code, url, namespace, str(seed)],
        cwd=ROOT,
        timeout=PROCESS_PATIENCE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    recorded, stored, dropped, stops = json.loads(done.stdout)
    assert (stored, dropped) == (recorded, {})
    assert stops > 0
