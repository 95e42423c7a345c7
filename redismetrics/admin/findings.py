"""What the doctor found: findings, how bad they are, and the report."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warning", "failure"]

SEVERITY = ("ok", "warning", "failure")


@dataclass(frozen=True, slots=True)
class Finding:
    """*found* says how it is; *advice* says in one sentence what to do, and is empty where all is well."""

    check: str
    status: Status
    found: str
    advice: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings. *healthy*: none of them is a failure."""

    findings: list[Finding]

    @property
    def healthy(self) -> bool:
        return all(finding.status != "failure" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: ``{"healthy", "findings": [{"check", "status", "found", "advice", "details"}]}``."""
        return {"healthy": self.healthy, "findings": [asdict(finding) for finding in self.findings]}
