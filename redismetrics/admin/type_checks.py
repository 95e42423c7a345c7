"""A check of what `redismetrics.compat.prometheus_client` stores: metrics with two types."""

from collections.abc import Mapping

from redismetrics.model.definition import Definition

from .findings import Finding

# Names in the text of a finding; its details have all.
_SHOWN = 5


def judge_types(definitions: Mapping[str, Definition]) -> list[Finding]:
    """Return a warning if programs disagree about the type of a metric; else nothing.

    A metric whose type differs from the stored one is stored with its type behind its name, such as
    ``jobs:gauge``. That is right while a deployment rolls, and a mistake if it stays.
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
