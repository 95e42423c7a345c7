"""The code on the pages about telemetry, testing and frameworks runs as it stands there."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from redismetrics.testing import Captured

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"


def blocks(page: str) -> list[str]:
    found = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert found, f"no code on {page}"
    return found


def test_telemetry(url: str, namespace: str) -> None:
    runner = (
        "import doctest, sys; sys.exit(doctest.testfile(sys.argv[1], module_relative=False).failed)"
    )
    environ = {
        **os.environ,
        "REDISMETRICS_URL": url,
        "REDISMETRICS_NAMESPACE": namespace,
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", runner, str(DOCS / "telemetry.md")],
        env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_testing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(
        **{
            f"test_{number}": f"import pytest\n{code}"
            for number, code in enumerate(blocks("testing.md"))
        }
    )
    monkeypatch.setenv(
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"
    )  # where it is installed it would come twice
    result = pytester.runpytest_subprocess(
        "-p", "redismetrics.testing.pytest_plugin", "-p", "no:cacheprovider"
    )
    result.assert_outcomes(passed=2)


def test_the_message_on_the_page_is_the_one_that_is_raised(captured: Captured) -> None:
    import redismetrics

    for amount in (12.5, 3):
        redismetrics.increment("refunds", tags={"shop": "de"})
        redismetrics.histogram("refund_amount", amount, tags={"shop": "de"})
    with pytest.raises(AssertionError) as failed:
        captured.counter("refunds", shop="de").increased_by(1)
    shown = re.findall(r"```text\n(.*?)```", (DOCS / "testing.md").read_text(), re.DOTALL)
    assert f"AssertionError: {failed.value}\n" in shown


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
@pytest.mark.parametrize(
    "number", range(5), ids=["fastapi", "flask", "django", "celery", "process"]
)
def test_frameworks(captured: Captured, number: int) -> None:
    code = blocks("frameworks.md")
    assert len(code) == 5
    needed = ("fastapi", "flask", "django", "celery", "json")[number]
    pytest.importorskip(needed)
    if number == 3:  # signals stay connected for as long as a process lives
        done = subprocess.run(
            [sys.executable, "-c", code[number]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return
    names: dict[str, object] = {}
    exec(compile(code[number], "frameworks.md", "exec"), names)
    app: object = names.get("app")
    if needed == "fastapi":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it would rather find than httpx
            from starlette.testclient import TestClient

        TestClient(app).get("/users/7")  # type: ignore[arg-type]
        assert captured.counter("http_requests", endpoint="/users/{id}", status="200").increased_by(
            1
        )
    elif needed == "flask":
        app.test_client().get("/users/7", buffered=True)  # type: ignore[attr-defined]
        assert captured.counter(
            "http_requests", endpoint="/users/<int:id>", status="200"
        ).increased_by(1)
    elif needed == "django":
        from django.utils.module_loading import import_string

        assert all(callable(import_string(path)) for path in names["MIDDLEWARE"])  # type: ignore[attr-defined]
    else:
        assert captured.gauge("python_info").is_now(1)
        names["watching"].stop()  # type: ignore[attr-defined]
