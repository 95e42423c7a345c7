"""The pytest plugin: its fixtures, and what it loads."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]


def test_the_plugin_provides_its_fixtures(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(
        """
        import redismetrics

        jobs = redismetrics.Counter("jobs", {"queue": "mail"})

        def test_it_counts(captured):
            jobs.increment()
            captured.counter("jobs", queue="mail").increased_by(1)

        def test_it_starts_empty(captured, metrics_clock):
            captured.nothing_recorded()
            jobs.increment()
            assert captured.samples()[0].timestamp.timestamp() <= metrics_clock()

        def test_it_fails(captured):
            jobs.increment(3)
            captured.counter("jobs", queue="mail").increased_by(1)
        """
    )
    monkeypatch.setenv(
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"
    )  # if installed, it would be loaded twice
    result = pytester.runpytest_subprocess(
        "-p", "redismetrics.testing.pytest_plugin", "-p", "no:cacheprovider"
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*counter jobs{queue='mail'}: expected an increase of 1, got 3*"])
    assert "in _check" not in result.stdout.str()


def test_the_plugin_loads_neither_numpy_nor_redis() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {
        "redismetrics": "redismetrics.testing.pytest_plugin"
    }
    code = """
import sys, pytest
before = set(sys.modules)
import redismetrics.testing.pytest_plugin
new = {name.split(".")[0] for name in set(sys.modules) - before}
sys.exit(",".join(sorted(new & {"numpy", "pcodec", "fastdigest", "redis", "asyncio"})) or None)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
