"""The OpenAPI document is true: schemathesis asks what it allows, and what it forbids, and holds the answers to it."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("opentelemetry.proto", reason="needs redismetrics[otel]")
schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")
import hypothesis
from schemathesis import GenerationMode
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from starlette.testclient import TestClient

from redismetrics import Metrics
from redismetrics.api.app import create_app

TOKEN = "t0ken"
