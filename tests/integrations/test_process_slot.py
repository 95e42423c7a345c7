"""Slots: small numbers for the living processes of one user and host."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from redismetrics.integrations import process_slot

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_children_take_own_slots_and_reuse_those_of_dead_processes(
    url: str, namespace: str, tmp_path: Path
) -> None:
    code = """
import os, sys, gc
from redismetrics import Metrics
from redismetrics.integrations.process import watch_process
from redismetrics.integrations.process_slot import process_slot
metrics = Metrics(sys.argv[1], namespace=sys.argv[2])
watching = watch_process(metrics)
mine = process_slot()
seen = []
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        watching.sample()
        metrics.close()
        os._exit(int(process_slot()))
    seen.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
assert str(seen[0]) != mine, (seen, mine)
assert len(set(seen)) == 1, seen
assert process_slot() == mine
metrics.flush()
collected = sum(generation["collections"] for generation in gc.get_stats())
assert metrics.query("python_gc_collections", aggregation="sum") <= collected + 5
assert len(metrics.tag_values("process_open_fds", "slot")) == 2
"""
    # A folder of its own: other processes of this machine take slots too.
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, url, namespace],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_folder_that_is_a_symlink_gives_no_slot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"redismetrics-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    assert process_slot.take_slot(tmp_path) is None
    assert "no slot" in caplog.text
