"""What Prometheus can ask a consumer. Its registry is its own: it is no daemon."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from daemon import clock
from daemon.ingest.answers import Fate, Settled
from daemon.metric_table import TABLE


class Figures:
    """Every metric of one consumer. `broker` is kafka, nats or redis."""

    def __init__(self, broker: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        messages, duration = TABLE["ingest_messages"], TABLE["ingest_batch_duration_seconds"]
        self._messages = Counter(messages.exported, messages.help, tuple(messages.labels), registry=self.registry)
        self._duration = Histogram(duration.exported, duration.help, buckets=duration.buckets, registry=self.registry)
        self._last_poll = self._gauge("ingest_last_poll_timestamp_seconds")
        self._connected = self._gauge("ingest_connected")
        self._pending = self._gauge("ingest_pending_messages")
        self._broker = broker
        for fate in Fate:
            self._messages.labels(broker, fate.value)

    def expose(self) -> bytes:
        """The page in Prometheus' text format."""
        return generate_latest(self.registry)

    def count(self, settled: Iterable[Settled], seconds: float) -> None:
        """A batch was acknowledged."""
        for each in settled:
            self._messages.labels(self._broker, each.fate.value).inc()
        self._duration.observe(seconds)
        self.polled()

    def polled(self) -> None:
        """The consumer took something, or there was nothing to take."""
        self._last_poll.set(clock.now().timestamp())

    def watch(self, *, connected: bool, pending: int | None = None) -> None:
        """What the broker said, or that it did not; without `pending` what it said last stands."""
        self._connected.set(connected)
        if pending is not None:
            self._pending.set(pending)

    def _gauge(self, name: str) -> Gauge:
        return Gauge(TABLE[name].exported, TABLE[name].help, registry=self.registry)
