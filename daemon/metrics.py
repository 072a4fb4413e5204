"""The metrics of one daemon, built from the table. One registry per daemon."""

from itertools import product
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)

from daemon.metric_table import RUN_CODES, TABLE, Row

Made = TypeVar("Made", Counter, Gauge)


class Metrics:
    """Every metric of one daemon. Its attributes are prometheus_client's own; `expose` is the page."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each, and nobody asks for it
        self.registry = registry or CollectorRegistry()
        self._restarts_seen = 0
        self._count_events_and_runs()
        self._measure_training()
        self._measure_judging()
        self._watch_storage()
        self._watch_keys()
        self._watch_http()
        for outcome, codes in RUN_CODES.items():
            for code in codes:
                self.runs.labels(outcome, code)
        for kind in TABLE["gate"].labels["kind"] or ():
            self.gate.labels(kind, "ok")

    def expose(self) -> bytes:
        """The page in Prometheus' text format."""
        return generate_latest(self.registry)

    def observe_restarts(self, restarts: int) -> None:
        """State how often the supervised trainer was started again so far."""
        self.trainer_restarts.inc(restarts - self._restarts_seen)
        self._restarts_seen = restarts

    def observe_build(self, version: str, schema_revision: str) -> None:
        """State what runs here."""
        self._info("build").info({"version": version})
        self._info("schema_revision").info({"revision": schema_revision})

    def _count_events_and_runs(self) -> None:
        self.events = counter("events_received", self.registry)
        self.rate_limited = counter("rate_limited", self.registry)
        self.oldest_pending_event = gauge("oldest_pending_event_timestamp_seconds", self.registry)
        self.heartbeat = gauge("heartbeat_timestamp_seconds", self.registry)
        self.heartbeat_failures = counter("heartbeat_failures", self.registry)
        self.ticks = counter("ticks", self.registry)
        self.queue_depth = gauge("queue_depth", self.registry)
        self.runs_in_progress = gauge("runs_in_progress", self.registry)
        self.dead_letters = gauge("dead_letters", self.registry)
        self.paused = gauge("paused", self.registry)
        self.runs = counter("runs", self.registry)
        self.run_duration = histogram("run_duration_seconds", self.registry)
        self.fence_rejections = counter("fence_rejections", self.registry)
        self.leases_lost = counter("leases_lost", self.registry)

    def _measure_training(self) -> None:
        self.trainer_up = gauge("trainer_up", self.registry)
        self.trainer_replicas = gauge("trainer_replicas", self.registry)
        self.trainer_restarts = counter("trainer_restarts", self.registry)
        self.fit_duration = histogram("fit_duration_seconds", self.registry)
        self.fit_tokens = counter("fit_tokens", self.registry)
        self.base_tokens = gauge("base_tokens_per_second", self.registry)
        self.fits = counter("fits", self.registry)
        self.fit_passes = counter("fit_passes", self.registry)
        self.cohort_users = histogram("cohort_users", self.registry)
        self.basis_duration = histogram("basis_duration_seconds", self.registry)
        self.basis_epoch = gauge("basis_epoch", self.registry)
        self.basis_epochs = gauge("basis_epochs", self.registry)
        self.basis_loss = gauge("basis_loss_nats", self.registry)
        self.basis_pace = gauge("basis_examples_per_second", self.registry)

    def _measure_judging(self) -> None:
        self.event_to_adapter = histogram("event_to_adapter_seconds", self.registry)
        self.last_success = gauge("last_success_timestamp_seconds", self.registry)
        self.versions = counter("versions", self.registry)
        self.rollouts = counter("rollouts", self.registry)
        self.promotions = counter("promotions", self.registry)
        self.drift = counter("drift", self.registry)
        self.gain_over_generic = histogram("gain_over_generic_nats", self.registry)
        self.moved = histogram("moved_nats", self.registry)
        self.population_gain = gauge("population_gain_nats", self.registry)
        self.harmed = gauge("harmed_ratio", self.registry)

    def _watch_storage(self) -> None:
        self.storage_up = gauge("storage_up", self.registry)
        self.storage_errors = counter("storage_errors", self.registry)
        self.database_bytes = gauge("database_bytes", self.registry)
        self.blobs_bytes = gauge("blobs_bytes", self.registry)
        self.disk_free = gauge("disk_free_bytes", self.registry)
        self.standing_at = gauge("standing_timestamp_seconds", self.registry)
        self.lost = counter("lost", self.registry)

    def _watch_keys(self) -> None:
        self.seal = counter("seal", self.registry)
        self.unseal = counter("unseal", self.registry)
        self.gate = counter("gate", self.registry)
        self.keys_up = gauge("keys_up", self.registry)
        self.key_epochs = gauge("key_epochs", self.registry)
        self.key_epoch_created = gauge("key_epoch_created_timestamp_seconds", self.registry)
        self.erasures_pending = gauge("erasures_pending", self.registry)
        self.oldest_pending_erasure = gauge("oldest_pending_erasure_timestamp_seconds", self.registry)
        self.exports_pending = gauge("exports_pending", self.registry)
        self.audit_entries = gauge("audit_entries", self.registry)
        self.audit_checkpoint = gauge("audit_checkpoint_timestamp_seconds", self.registry)

    def _watch_http(self) -> None:
        self.current_adapters = gauge("current_adapters", self.registry)
        self.users = gauge("users", self.registry)
        self.predictions = counter("predictions", self.registry)
        self.http_requests = counter("http_requests", self.registry)
        self.http_duration = histogram("http_request_duration_seconds", self.registry)
        self.denied = counter("requests_denied", self.registry)
        self.loop_stall = gauge("loop_stall_seconds", self.registry)
        self.telemetry_spans = counter("telemetry_spans", self.registry)

    def _info(self, name: str) -> Info:
        return Info(f"plora_{name}", TABLE[name].help, registry=self.registry)


def counter(name: str, registry: CollectorRegistry) -> Counter:
    """The counter of the row `name`."""
    row = TABLE[name]
    return _zeroed(row, Counter(row.exported, row.help, tuple(row.labels), registry=registry))


def gauge(name: str, registry: CollectorRegistry) -> Gauge:
    """The gauge of the row `name`."""
    row = TABLE[name]
    return _zeroed(row, Gauge(row.exported, row.help, tuple(row.labels), registry=registry))


def histogram(name: str, registry: CollectorRegistry) -> Histogram:
    """The histogram of the row `name`."""
    row = TABLE[name]
    return Histogram(row.exported, row.help, tuple(row.labels), buckets=row.buckets, registry=registry)


def _zeroed(row: Row, made: Made) -> Made:
    """`made` with a series at zero for each combination of known label values."""
    known = [values for values in row.labels.values() if values is not None]
    if known and len(known) == len(row.labels):
        for values in product(*known):
            made.labels(*values)
    return made
