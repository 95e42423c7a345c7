"""Read the responses of Prometheus' HTTP API."""

import time
from typing import Any

# A whole minute, about an hour ago.
BASE = int(time.time()) // 60 * 60 - 3600


def data(response: Any) -> Any:
    """Return the data of a success."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body["status"] == "success"
    assert set(body) <= {"status", "data", "warnings", "infos"}
    return body["data"]


def error(response: Any, code: int, kind: str) -> str:
    """Return the message of an error in Prometheus' envelope."""
    assert response.status_code == code, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"status", "errorType", "error"}
    assert (body["status"], body["errorType"]) == ("error", kind)
    return str(body["error"])
