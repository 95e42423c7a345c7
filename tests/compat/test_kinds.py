"""Gauges in all modes, functions, infos and enums, and what is removed."""

import os
import signal
import subprocess

import pytest

from tests.fixtures.programs import Page, Programs
from tests.fixtures.servers import PROCESS_PATIENCE

pytestmark = pytest.mark.slow

GAUGES = """
    import sys, time
    from prometheus_client import Gauge
    modes = sorted(Gauge._MULTIPROC_MODES)
    gauges = {mode: Gauge(mode, "Mode", multiprocess_mode=mode) for mode in modes}
    for gauge in gauges.values():
        gauge.set(float(sys.argv[1]))
    gauges["sum"].inc(10); gauges["sum"].dec(10)
    from redismetrics import flush
    flush()
    print(flush=True)
    sys.stdin.readline()
"""


def begin(programs: Programs, value: int) -> "subprocess.Popen[str]":
    process = programs.start(GAUGES, str(value), stdin=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def rows(page: Page, mode: str) -> list[float]:
    return sorted(value for name, value in page.items() if name.split("{")[0] == mode)


def test_gauges_are_merged_as_their_modes_say(programs: Programs) -> None:
    processes = [begin(programs, value) for value in (3, 7, 5)]
    page = programs.page()
    for live in ("", "live"):
        assert rows(page, f"{live}all") == [3, 5, 7]
        assert page[f"{live}min"], page[f"{live}max"] == (3, 7)
        assert page[f"{live}sum"] == 15
        assert page[f"{live}mostrecent"] == 5
    pids = {f'all{{pid="{process.pid}"}}' for process in processes}
    assert pids == {name for name in page if name.startswith("all")}
    for process in processes[1:]:
        process.communicate("\n", timeout=PROCESS_PATIENCE)
    page = programs.page()
    assert (rows(page, "liveall"), page["livesum"], page["livemax"]) == ([3], 3, 3)
    assert (rows(page, "all"), page["sum"], page["max"]) == ([3, 5, 7], 15, 7)
    processes[0].communicate("\n", timeout=PROCESS_PATIENCE)
    assert "livesum" not in programs.page()


def test_a_function_gauge_shows_its_result_everywhere(programs: Programs) -> None:
    process = programs.start(
        """
        import sys
        from prometheus_client import Gauge, REGISTRY
        waiting = [1, 2]
        size = Gauge("size", "Size", multiprocess_mode="livesum")
        size.set_function(lambda: len(waiting))
        size.set(99)
        broken = Gauge("broken", "Broken", multiprocess_mode="livesum")
        broken.set_function(lambda: 1 / 0)
        waiting.append(3)
        print(REGISTRY.get_sample_value("size"), size.collect()[0].samples[0].value, flush=True)
        sys.stdin.readline()
        """,
        stdin=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline().split() == ["3.0", "3.0"]
    assert programs.page() == {"size": 3, "broken": 0}
    _, err = process.communicate("\n", timeout=PROCESS_PATIENCE)
    assert err.count("the function of gauge 'broken' failed") == 1


def test_infos_and_enums_are_on_the_pages_of_all_processes(programs: Programs) -> None:
    programs("""
        from prometheus_client import Enum, Info
        Info("build", "Build", ["app"]).labels("shop").info({"version": "1.2", "größe": "ü"})
        door = Enum("door", "Door", states=["open", "shut"])
        door.state("shut")
    """)
    out = programs("""
        from prometheus_client import Enum, Info, REGISTRY
        Info("build", "Build", ["app"]).labels("other")
        Enum("door", "Door", states=["open", "shut"])
        Enum("unset", "Unset", states=["a", "b"])
        value = REGISTRY.get_sample_value
        print(value("build_info", {"app": "shop", "version": "1.2", "größe": "ü"}),
              value("build_info", {"app": "other"}), value("door", {"door": "open"}),
              value("door", {"door": "shut"}), value("unset", {"unset": "a"}))
    """)
    assert out.split() == ["1.0", "1.0", "0.0", "1.0", "1"]
    programs("""
        from prometheus_client import Info
        Info("build", "Build", ["app"]).labels("shop").info({"version": "1.3"})
    """)
    assert programs.page() == {
        'build_info{app="shop",version="1.3"}': 1,
        'door{door="open"}': 0,
        'door{door="shut"}': 1,
    }


def test_removals_apply_to_all_processes(programs: Programs) -> None:
    count = """
        from prometheus_client import Counter, Histogram
        jobs = Counter("jobs", "Jobs", ["queue", "kind"])
        for queue in "abc":
            jobs.labels(queue, "x").inc()
        wait = Histogram("wait", "Wait", ["queue"], buckets=[1])
        wait.labels("a").observe(1); wait.labels("b").observe(1)
        Counter("kept", "Kept").inc()
    """
    programs(count)
    programs(
        count
        + """
        jobs.remove("a", "x"); jobs.labels("a", "x").inc(5)
        jobs.remove_by_labels({"queue": "b"})
        wait.clear()
        """
    )
    assert programs.page() == {
        'jobs_total{kind="x",queue="a"}': 5,
        'jobs_total{kind="x",queue="c"}': 2,
        "kept_total": 2,
    }


def test_exemplars_are_on_pages_of_other_processes_in_openmetrics(programs: Programs) -> None:
    programs("""
        from prometheus_client import Counter, Histogram
        jobs = Counter("jobs", "Jobs", ["queue"])
        jobs.labels("a").inc(2, exemplar={"trace_id": "abc"})
        jobs.labels("b").inc(1, exemplar={"größe": "only local"})
        wait = Histogram("wait", "Wait", buckets=[1, 5])
        wait.observe(3, exemplar={"trace_id": "def"})
        wait.observe(9, exemplar={"trace_id": "ghi"})
        wait.observe(0.5)
    """)
    out = programs("""
        from prometheus_client import REGISTRY
        from prometheus_client.openmetrics.exposition import generate_latest
        print(generate_latest(REGISTRY).decode())
    """)
    shown = [line.rpartition(" ")[0] for line in out.splitlines() if " # " in line]
    assert shown == [
        'jobs_total{queue="a"} 2.0 # {trace_id="abc"} 2.0',
        'wait_bucket{le="5.0"} 2.0 # {trace_id="def"} 3.0',
        'wait_bucket{le="+Inf"} 3.0 # {trace_id="ghi"} 9.0',
    ]


def test_a_process_that_is_marked_dead_has_no_live_gauges(programs: Programs) -> None:
    process = begin(programs, 3)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PROCESS_PATIENCE)
    assert programs.page()["livesum"] == 3
    programs(f"""
        from prometheus_client.multiprocess import mark_process_dead
        mark_process_dead({process.pid})
    """)
    page = programs.page()
    assert "livesum" not in page
    assert (rows(page, "liveall"), rows(page, "all"), page["sum"]) == ([], [3], 3)
