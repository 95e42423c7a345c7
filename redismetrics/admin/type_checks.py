"""A check for metrics that `redismetrics.compat.prometheus_client` stores with two types."""

from collections.abc import Mapping

from redismetrics.model.definition import Definition

from .findings import Finding

# Maximum number of names in the text of a finding; its details list all.
_SHOWN = 5


def judge_types(definitions: Mapping[str, Definition]) -> list[Finding]:
    """Return a warning if programs disagree about the type of a metric, otherwise nothing.

    A metric whose type differs from the stored one is stored with its type appended to its name,
    such as ``jobs:gauge``. This is correct during a rolling deployment, but a mistake if it
    persists.
    """
    double = {
        name: definition.type
        for name, definition in definitions.items()
        if name.endswith(f":{definition.type}")
        and name.removesuffix(f":{definition.type}") in definitions
    }
    if not double:
        return []
    first = ", ".join(sorted(double)[:_SHOWN]) + (", ..." if len(double) > _SHOWN else "")
    name = min(double).removesuffix(f":{double[min(double)]}")
    return [
        Finding(
            "types",
            "warning",
            f"{len(double)} metric{'s' * (len(double) > 1)} of prometheus_client with two types: "
            f"{first}",
            "Use one type in all programs, or different names or namespaces. Once only the new "
            f"type is used, delete the old metric, for example `redismetrics delete {name}`.",
            details={"metrics": double},
        )
    ]
