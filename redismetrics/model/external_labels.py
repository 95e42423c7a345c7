"""Labels that an operator adds to all series."""

import re
from collections.abc import Iterable, Mapping

from redismetrics.errors import InvalidSetting, shown

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Labels with a special meaning in Prometheus or in a form of a metric.
_RESERVED = ("le", "quantile")


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return *labels*, checked.

    Raises:
        InvalidSetting: If a name is not allowed, or a value is empty or not text.
    """
    for name, value in labels.items():
        if not isinstance(name, str) or not _NAME.match(name) or name.startswith("__"):
            raise InvalidSetting(
                "external label must have a name of letters, digits and underscores, "
                f"got {shown(name, 80)}"
            )
        if name in _RESERVED:
            raise InvalidSetting(
                f"external label must not be {name!r}, which histograms use; choose another name"
            )
        if not isinstance(value, str) or not value:
            raise InvalidSetting(
                f"external label {name!r} must have a value that is not empty, "
                f"got {shown(value, 80)}"
            )
    return dict(labels)


def read_labels(texts: Iterable[str]) -> dict[str, str]:
    """Parse labels given as ``NAME=VALUE`` on the command line.

    Raises:
        InvalidSetting: If a label has another form, or a name is given twice.
    """
    labels: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidSetting(
                f"external label must be NAME=VALUE such as job=api, got {shown(text, 80)}"
            )
        if name in labels:
            raise InvalidSetting(f"external label {name!r} must be given once, got it twice")
        labels[name] = value
    return check_labels(labels)
