"""What operators promise their hosts: three objectives over 30 days, each a share of good among all."""

from dataclasses import dataclass

HERE = 'namespace=~".*"'
"""In every rule; the chart puts the release's namespace for `.*`: installations do not answer for each other."""

WITHIN = "40.0"
"""A bound of the buckets of plora_event_to_adapter_seconds; the chart may put another one in its place."""


@dataclass(frozen=True, slots=True)
class Objective:
    """`bad` and `all` are rates over a range that is still to be put for WINDOW."""

    name: str
    title: str
    says: str
    objective: float
    bad: str
    all: str
    within_s: float = 0.0  # of freshness

    @property
    def budget(self) -> float:
        """The share that may be bad."""
        return round(1.0 - self.objective, 6)

    def ratio(self, window: str) -> str:
        """The share that was bad; 0 where nothing was asked of a daemon that is there."""
        bad, every = (each.replace("WINDOW", window) for each in (self.bad, self.all))
        there = f"max by (cluster, namespace) (plora_build_info{{{HERE}}})"
        return f"(({bad}) or 0 * ({every})) / (({every}) > 0) or 0 * {there}"

    def count_of_bad(self, window: str) -> str:
        """How many were bad."""
        return self.bad.replace("rate(", "increase(").replace("WINDOW", window)


_BY = "sum by (cluster, namespace)"
_INGEST = f'plora_http_requests_total{{method="POST",route="/v1/events",{HERE}'
_SERVED = f'plora_http_requests_total{{method=~"GET|POST",route=~"/v1/users/{{user}}/adapter|/v1/predict",{HERE}'
_FRESH = "plora_event_to_adapter_seconds"

OBJECTIVES = (
    Objective(
        "ingest",
        "Ingest",
        "Requests with events that we answered, and not with a 5xx.",
        0.999,
        f'{_BY} (rate({_INGEST},status=~"5.."}}[WINDOW]))',
        f"{_BY} (rate({_INGEST}}}[WINDOW]))",
    ),
    Objective(
        "adapters",
        "Adapters",
        "Requests for adapters and predictions that we answered, and not with a 5xx.",
        0.999,
        f'{_BY} (rate({_SERVED},status=~"5.."}}[WINDOW]))',
        f"{_BY} (rate({_SERVED}}}[WINDOW]))",
    ),
    Objective(
        "freshness",
        "Freshness",
        "Adapters that were judged within 40 seconds of the user's last event.",
        0.95,
        f"{_BY} (rate({_FRESH}_count{{{HERE}}}[WINDOW]))"
        f' - {_BY} (rate({_FRESH}_bucket{{le="{WITHIN}",{HERE}}}[WINDOW]))',
        f"{_BY} (rate({_FRESH}_count{{{HERE}}}[WINDOW]))",
        within_s=float(WITHIN),
    ),
)
