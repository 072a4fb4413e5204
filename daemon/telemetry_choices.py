"""Where spans are sent, and how many."""

from dataclasses import dataclass

MOST_QUEUED = 1_000_000


@dataclass(frozen=True, slots=True)
class OtlpChoices:
    """The group PLORA_OTLP_*. Headers and certificates of the collector are OpenTelemetry's own OTEL_EXPORTER_OTLP_*.

    `sample` is the share of the traces begun here that is recorded. Whether a caller's own is, its flag says.
    """

    endpoint: str = ""  # of OTLP over HTTP, such as http://collector:4318; empty: no spans, at no cost
    sample: float = 1.0
    queue: int = 2048  # spans that wait for the collector; more are dropped and counted
    timeout_s: float = 5.0  # for one export, its repetitions included
