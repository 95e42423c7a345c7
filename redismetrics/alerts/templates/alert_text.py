"""Labels and annotations of alerts: templates with the labels and the value of a series."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from .errors import ExpansionError, TemplateSyntaxError
from .execute import Expansion, Record
from .functions import NAMES, Query, functions_for
from .nodes import Node
from .parser import parse

_VARIABLES = ("$labels", "$externalLabels", "$externalURL", "$value")


@lru_cache(4096)
def _parsed(template: str) -> tuple[list[Node], dict[str, list[Node]]]:
    return parse(template, NAMES, _VARIABLES)


def check(template: str, alert: str) -> None:
    """Check a label or annotation of *alert*.

    Raises:
        ValueError: If it is not a valid template, with Prometheus' message.
    """
    try:
        _parsed(template)
    except TemplateSyntaxError as error:
        raise ValueError(f"template: __alert_{alert}:{error.line}: {error.problem}") from error


class AlertText:
    """Expands the labels and annotations of one series of an alert."""

    def __init__(
        self,
        alert: str,
        labels: Mapping[str, str],
        value: float,
        *,
        query: Query,
        now_s: float,
        external_labels: Mapping[str, str],
        external_url: str,
    ) -> None:
        self._alert = alert
        self._functions = functions_for(query, now_s, external_url)
        self._dot = Record(
            "template.alertTemplateData",
            Labels=dict(labels),
            ExternalLabels=dict(external_labels),
            ExternalURL=external_url,
            Value=float(value),
        )

    def expand(self, template: str) -> str:
        """Return the text; `<error expanding template: ...>` if it cannot be expanded."""
        # Most texts have no action.
        if "{{" not in template:
            return template
        try:
            nodes, defined = _parsed(template)
            fields = self._dot.fields
            variables: dict[str, Any] = {
                "$labels": fields["Labels"],
                "$externalLabels": fields["ExternalLabels"],
                "$externalURL": fields["ExternalURL"],
                "$value": fields["Value"],
            }
            return Expansion(self._functions, defined).run(nodes, self._dot, variables)
        except TemplateSyntaxError as error:
            problem = f"error parsing template __alert_{self._alert}: {error}"
        except ExpansionError as error:
            problem = f"error executing template __alert_{self._alert}: {error}"
        return f"<error expanding template: {problem}>"
