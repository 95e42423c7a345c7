"""`run`: programs with their prometheus_client metrics in Redis, without editing them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from redismetrics import Metrics
from tests.fixtures.servers import PROCESS_PATIENCE
from tests.fixtures.shell import Shell

pytest.importorskip("prometheus_client")

COUNT = "from prometheus_client import Counter; Counter('jobs', 'Jobs').inc(2)"


@pytest.mark.slow
def test_the_program_and_its_children_count_in_redis(shell: Shell, metrics: Metrics) -> None:
    code = f"import subprocess, sys; {COUNT}; subprocess.run([sys.executable, '-c', {COUNT!r}])"
    assert shell.process("run", "--", sys.executable, "-c", code) == (0, "", "")
    (family,) = metrics.live("jobs_total")
    assert family.series[0].value == 4


@pytest.mark.slow
def test_a_program_may_check_first_whether_prometheus_client_is_installed(
    shell: Shell, metrics: Metrics
) -> None:
    code = (
        "from importlib.util import find_spec; assert find_spec('prometheus_client');"
        f"{COUNT}; import sys; print([each for each in sys.meta_path if 'Install' in str(each)])"
    )
    assert shell.process("run", "--", sys.executable, "-c", code) == (0, "[]\n", "")
    (family,) = metrics.live("jobs_total")
    assert family.series[0].value == 2


@pytest.mark.slow
def test_the_command_becomes_the_program(shell: Shell) -> None:
    code = "import os, sys; print(os.getpid()); sys.exit(7)"
    process = shell.start("run", "--", sys.executable, "-c", code)
    out, err = process.communicate(timeout=PROCESS_PATIENCE)
    assert (process.returncode, int(out), err) == (7, process.pid, "")


@pytest.mark.slow
def test_programs_that_do_not_use_prometheus_client_load_nothing(shell: Shell) -> None:
    code = "import sys; print([name for name in sys.modules if 'redismetrics' in name])"
    assert shell.process("run", "--", sys.executable, "-c", code) == (0, "[]\n", "")


@pytest.mark.slow
def test_process_metrics_replace_those_of_one_process(shell: Shell, metrics: Metrics) -> None:
    code = (
        "from prometheus_client import REGISTRY;"
        "print({m.name: sorted(m.samples[0].labels) for m in REGISTRY.collect() if m.samples})"
    )
    status, out, err = shell.process("run", "--process-metrics", "--", sys.executable, "-c", code)
    assert (status, err) == (0, "")
    assert "'process_resident_memory_bytes': ['host', 'slot']" in out
    assert "'python_info': ['host', 'implementation', 'version']" in out
    assert len(metrics.live("process_cpu_seconds")[0].series) == 1


@pytest.mark.slow
def test_the_program_s_own_sitecustomize_runs(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('mine')")
    shell.environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    # Once for `redismetrics` itself.
    assert shell.process("run", "--", sys.executable, "-c", "") == (0, "mine\nmine\n", "")


def test_a_python_without_redismetrics_runs_the_program_as_it_is(
    shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "prometheus_client.py").write_text("print('theirs')")
    code = "import sys; sys.modules['redismetrics'] = None; import prometheus_client"
    shell.environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    startup = Path(__file__).parents[2] / "redismetrics" / "cli" / "startup"
    environment = {**shell.environment, "PYTHONPATH": f"{startup}{os.pathsep}{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "theirs\n"
    assert done.stderr.startswith("redismetrics: prometheus_client counts for this process alone: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_run_needs_a_server(shell: Shell) -> None:
    shell.environment["REDISMETRICS_URL"] = ""
    assert shell.process("run", "--", "true") == (
        2,
        "",
        (
            "redismetrics: run needs a server: pass --url, or set REDISMETRICS_URL, such as "
            "redis://localhost:6379/0\n"
        ),
    )
    status, _, err = shell.process("run", "--url", "localhost", "--", "true")
    assert (status, err.startswith("redismetrics: url must start with one of")) == (2, True)


@pytest.mark.slow
def test_a_program_that_cannot_be_run_has_the_status_of_a_shell(shell: Shell) -> None:
    assert shell.process("run", "--", "no-such-program") == (
        127,
        "",
        "redismetrics: no-such-program: no such command\n",
    )
    assert shell.process("run", "--", "/")[0] == 126
