"""The tests of prometheus_client itself, with the wrapper installed.

They are in its source distribution, of the same version as the package that is installed:

    pip download --no-deps --no-binary :all: prometheus-client==VERSION
    PROMETHEUS_CLIENT_SOURCE=.../prometheus_client-VERSION pytest tests/compat/test_upstream.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.programs import Programs

PLUGIN = "from redismetrics.compat.prometheus_client import install\ninstall()\n"
# Its certificates and the OpenSSL of this machine decide what the error is.
DESELECTED = "not mtls_untrusted_client_cert"


@pytest.mark.slow
def test_the_tests_of_prometheus_client_pass(programs: Programs, tmp_path: Path) -> None:
    source = os.environ.get("PROMETHEUS_CLIENT_SOURCE")
    if source is None:
        pytest.skip("PROMETHEUS_CLIENT_SOURCE is not set: see the head of this file")
    (tmp_path / "installed.py").write_text(PLUGIN)
    # Else a configuration above the folder counts, such as ours, which turns warnings into errors.
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = dict(programs.environment)
    environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "installed", "-p", "no:cacheprovider"),
            *("-c", str(tmp_path / "pytest.ini"), "--rootdir", source, "-k", DESELECTED, "tests"),
        ],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
