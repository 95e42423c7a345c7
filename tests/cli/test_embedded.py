"""`embedded status` and `embedded stop`."""

import json
import re
from pathlib import Path

import pytest

import redismetrics
from redismetrics.store import embedded
from tests.fixtures.home import Home, needs_server


@pytest.mark.slow
@needs_server
def test_status_and_stop_of_a_running_server(
    home: Home, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home.folder))
    with redismetrics.Metrics(f"embedded://{folder}") as metrics:
        metrics.increment("jobs", tags={"queue": "mail"})
        metrics.flush()
        code, out, err = home.run("embedded", "status", "--folder", str(folder))
        assert (code, err) == (0, "")
        assert out.startswith(f"The embedded server runs on {folder}.\n")
        pid = embedded.status(folder)["pid"]
        assert re.search(rf"^pid +{pid} *$", out, re.MULTILINE)
        assert re.search(r"^memory +\d+\.\d MB *$", out, re.MULTILINE)
        code, out, _ = home.run("embedded", "status", "--json", "--folder", str(folder))
        found = json.loads(out)
        assert (code, found["running"], found["folder"], found["pid"]) == (
            0,
            True,
            str(folder),
            pid,
        )
        stop = ("embedded", "stop", "--folder", str(folder))
        assert home.run(*stop) == (0, f"Stopped the embedded server on {folder}.\n", "")
        assert home.run(*stop) == (0, f"No embedded server was running on {folder}.\n", "")
    status = embedded.status(folder)
    assert not status["running"]


def test_status_without_a_server_creates_nothing(home: Home) -> None:
    default = home.folder / "redismetrics-none"
    code, out, err = home.run("embedded", "status", "--folder", str(default))
    assert (code, out, err) == (0, f"No embedded server runs on {default}.\n", "")
    assert not default.exists()
