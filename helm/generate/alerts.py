"""What an alert is, as a value. In an expression `@` stands for the matcher that the chart narrows to its release."""

from dataclasses import dataclass
from enum import StrEnum

from helm.generate.objectives import HERE

RUNBOOKS = "https://github.com/plora/plora/blob/main/docs/runbooks.md"
"""The chart puts the operator's own address in its place, where one is given."""

EACH = "by (cluster, namespace)"
HOURS = 60


class Severity(StrEnum):
    """`critical`: hosts or users are hurt now, or will be soon. `warning`: look on the next working day."""

    CRITICAL = "critical"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Alert:
    """Fires when `expr` has held for `minutes`. `summary` and `says` may name labels and the value."""

    name: str
    expr: str
    minutes: int
    severity: Severity
    summary: str
    says: str
    board: str = "overview"

    @property
    def anchor(self) -> str:
        """Of its section in the runbooks."""
        return self.name.lower()

    @property
    def rule(self) -> dict[str, object]:
        """As Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expr.replace("@", HERE),
            "for": f"{self.minutes}m",
            "labels": {"severity": self.severity.value},
            "annotations": {
                "summary": self.summary,
                "description": self.says,
                "runbook_url": f"{RUNBOOKS}#{self.anchor}",
                "dashboard_url": f"/d/plora-{self.board}",
            },
        }


def age(metric: str, by: str = "") -> str:
    """Seconds since the newest time that a replica states; none while it is 0, which means never."""
    return f"time() - max by (cluster, namespace{', ' + by if by else ''}) ({metric}{{@}} > 0)"
