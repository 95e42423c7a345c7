"""The endpoints of Prometheus' HTTP API."""

import time
from collections.abc import Mapping

from redismetrics.api.endpoint import Endpoint
from redismetrics.api.service import Service
from redismetrics.promql.mapping.reads import MappingOptions
from redismetrics.promql.matchers import import_re2
from redismetrics.promql.parsing import import_parser

from .catalog_endpoints import catalog_endpoints
from .evaluation import PromqlService
from .exemplar_endpoints import exemplar_endpoints
from .federate import federate_endpoint
from .query_endpoints import query_endpoints
from .rule_endpoints import rule_endpoints
from .status_endpoints import status_endpoints
from .syntax_endpoints import syntax_endpoints


def read_endpoints(service: Service, external_labels: Mapping[str, str]) -> list[Endpoint]:
    """Return the endpoints that read.

    Raises:
        MissingExtra: If a package of the extra `promql` is not installed.
    """
    import_parser()
    import_re2()
    idle_ms = round(service.metrics.settings.series_idle * 1000)
    options = MappingOptions(idle_ms, dict(external_labels))
    evaluation = PromqlService(service.metrics, service.limits, options, time.time())
    return [
        *query_endpoints(evaluation),
        *catalog_endpoints(evaluation),
        *exemplar_endpoints(evaluation),
        *status_endpoints(evaluation),
        *rule_endpoints(evaluation),
        *syntax_endpoints(),
        federate_endpoint(evaluation),
    ]
