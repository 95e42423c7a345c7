"""Findings of the doctor, and the report with all of them."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warning", "failure"]

# In ascending order of severity.
SEVERITY = ("ok", "warning", "failure")


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check.

    *found* describes the state. *advice* says in one sentence what to do, and is empty if all is
    well.
    """

    check: str
    status: Status
    found: str
    advice: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings. *healthy* means that none of them is a failure."""

    findings: list[Finding]

    @property
    def healthy(self) -> bool:
        """Whether no finding is a failure."""
        return all(finding.status != "failure" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"healthy": bool, "findings": [...]}``, ready for JSON."""
        return {"healthy": self.healthy, "findings": [asdict(finding) for finding in self.findings]}


def worst_of(check: str, found: dict[str, Finding]) -> Finding:
    """Combine the findings of several nodes: return the worst, with the details of all nodes."""
    worst = max(found.values(), key=lambda finding: SEVERITY.index(finding.status))
    nodes_by_text: dict[str, list[str]] = {}
    for node, finding in found.items():
        if finding.status == worst.status:
            nodes_by_text.setdefault(finding.found, []).append(node)
    if len(nodes_by_text.get(worst.found, [])) == len(found):
        text = f"{worst.found}, on all {len(found)} primaries"
    else:
        text = "; ".join(f"{', '.join(nodes)}: {each}" for each, nodes in nodes_by_text.items())
    details = {node: finding.details for node, finding in found.items()}
    return Finding(check, worst.status, text, worst.advice, {"nodes": details})


def readable_size(nbytes: float) -> str:
    """Return a number of bytes with a unit."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while nbytes >= 1000 and len(units) > 1:
        nbytes /= 1000
        units.pop(0)
    return f"{nbytes:.{0 if units[0] == 'B' else 1}f} {units[0]}"
