"""What each way of ending a process keeps, and what a fork counts."""

import os
import signal

import pytest

from redismetrics import Metrics
from tests.fixtures.programs import Programs
from tests.fixtures.servers import PATIENCE

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise RuntimeError"])
def test_a_program_that_exits_keeps_its_last_counts(
    programs: Programs, metrics: Metrics, end: str
) -> None:
    process = programs.start(f"""
        import sys
        from prometheus_client import Counter
        Counter("jobs", "Jobs").inc(7)
        {end}
    """)
    process.communicate(timeout=4 * PATIENCE)
    assert [family.series[0].value for family in metrics.live("jobs_total")] == [7]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_program_as_before_and_loses_nothing(
    programs: Programs, metrics: Metrics, number: signal.Signals
) -> None:
    process = programs.start("""
        import time
        from prometheus_client import Counter
        Counter("jobs", "Jobs").inc(7)
        print(flush=True)
        time.sleep(60)
    """)
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(process.pid, number)
    process.communicate(timeout=4 * PATIENCE)
    assert process.returncode == -number
    assert [family.series[0].value for family in metrics.live("jobs_total")] == [7]


def test_a_program_that_handles_sigterm_is_left_alone(programs: Programs) -> None:
    out = programs("""
        import os, signal
        from prometheus_client import Counter
        jobs = Counter("jobs", "Jobs")
        signal.signal(signal.SIGTERM, lambda *_: jobs.inc(3))
        os.kill(os.getpid(), signal.SIGTERM)
        print(jobs._value.get())
    """)
    assert out == "3.0\n"
    assert programs.page()["jobs_total"] == 3


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_multiprocessing_keep_their_last_counts(
    programs: Programs, method: str, tmp_path: object
) -> None:
    (module := tmp_path / "work.py").write_text(  # type: ignore[operator]
        "from redismetrics.compat.prometheus_client import install\n"
        "install()\n"
        "from prometheus_client import Counter\n"
        "jobs = Counter('jobs', 'Jobs')\n"
        "def work(count):\n"
        "    jobs.inc(count)\n"
    )
    programs.environment["PYTHONPATH"] += os.pathsep + str(module.parent)
    programs(f"""
        import multiprocessing, work
        work.jobs.inc()
        with multiprocessing.get_context("{method}").Pool(3, maxtasksperchild=2) as pool:
            pool.map(work.work, [10] * 12, chunksize=1)
            pool.close()
            pool.join()
    """)
    assert programs.page() == {"jobs_total": 121}


def test_children_of_billiard_keep_their_last_counts(programs: Programs) -> None:
    pytest.importorskip("billiard")
    programs("""
        import billiard
        from prometheus_client import Counter
        jobs = Counter("jobs", "Jobs")
        children = [billiard.Process(target=jobs.inc, args=(10,)) for _ in range(3)]
        for child in children: child.start()
        for child in children: child.join()
    """)
    assert programs.page() == {"jobs_total": 30}


def test_counts_of_the_parent_count_once_after_a_fork(programs: Programs) -> None:
    out = programs("""
        import os, sys
        from prometheus_client import Counter, Gauge, Histogram
        jobs, wait = Counter("jobs", "Jobs"), Histogram("wait", "Wait", buckets=[1])
        level = Gauge("level", "Level", multiprocess_mode="mostrecent")
        jobs.inc(5); wait.observe(0.5); level.set(4)
        for _ in range(3):
            child = os.fork()
            if not child:
                print(jobs._value.get(), wait._sum.get(), level._value.get(), flush=True)
                jobs.inc(2); wait.observe(2)
                sys.exit()
            os.waitpid(child, 0)
        jobs.inc()
        print(jobs._value.get())
    """)
    assert out.splitlines() == ["0.0 0.0 0.0"] * 3 + ["6.0"]
    page = programs.page()
    assert (page["jobs_total"], page["level"]) == (12, 4)
    assert (page['wait_bucket{le="1.0"}'], page["wait_count"], page["wait_sum"]) == (1, 4, 6.5)


def test_a_child_of_a_parent_that_only_made_the_metric_counts(programs: Programs) -> None:
    programs("""
        import os, sys, threading
        from prometheus_client import Counter
        jobs = Counter("jobs", "Jobs", ["queue"])
        held = jobs.labels("a")
        held._value._lock.acquire()
        child = os.fork()
        if not child:
            held.inc(); jobs.labels("b").inc(2)
            sys.exit()
        os.waitpid(child, 0)
    """)
    assert programs.page() == {'jobs_total{queue="a"}': 1, 'jobs_total{queue="b"}': 2}
