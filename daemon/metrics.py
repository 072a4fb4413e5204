"""What Prometheus can ask. One registry per daemon; every label has few values; no label names a user.

Known series start at zero, so that a rate exists from the first scrape and an absent series means an
absent daemon. Times are exported as timestamps: alerts compute `time() - x` themselves.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)

EVENT_TYPES = ("example", "correction", "consent", "forget", "unknown")
EVENT_OUTCOMES = ("stored", "duplicate", "forgotten", "conflict", "rejected", "failed")
RUN_CODES = {
    "succeeded": (
        "beats_generic",
        "label_bias_beats_generic",
        "too_little_evidence",
        "not_finite",
        "not_better_than_generic",
        "gain_within_noise",
        "not_better_than_label_prior",
        "matched_by_wrong_user",
        "content_adds_nothing",
        "moved_too_far",
        "worse_than_current",
    ),
    "cancelled": ("not_enough",),
    "retried": ("trainer_unavailable", "trainer_lacks_key", "trainer_lost"),
}
DECISIONS = ("promoted", "rejected", "rolled_back")
PARTS = ("whole", "label_bias")
DRIFTS = ("steady", "drifted", "rolled_back")
SEALED_KINDS = ("event", "adapter", "statistics", "basis", "material")
GATED_KINDS = ("adapter", "statistics", "basis")
LOST_KINDS = ("adapter", "basis")
FIT_MODES = ("full", "refit", "moved")
SEAL_OUTCOMES = ("ok", "unreadable")
RATE_KINDS = ("tenant", "user", "source")
DENIED_CODES = ("no_token", "wrong_token", "scope_missing", "not_theirs")
PREDICTION_KINDS = ("personal", "generic", "failed")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
FIT_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 600.0)
WAIT_SECONDS = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 300.0, 1800.0, 7200.0, 86400.0)
COHORT_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MOVES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 3.0, 10.0)
NATS = (-1.0, -0.5, -0.2, -0.1, -0.05, -0.02, 0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class Standing(Protocol):
    """What the database says of the whole: `Store.health` gives one."""

    @property
    def queue_depth(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def oldest_pending_event_at(self) -> datetime | None: ...
    @property
    def current_adapters(self) -> int: ...
    @property
    def users(self) -> int: ...
    @property
    def database_bytes(self) -> int: ...
    @property
    def dead_letters(self) -> int: ...


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
        self._watch_http()
        self._start_at_zero()

    def expose(self) -> bytes:
        """The page in Prometheus' text format."""
        return generate_latest(self.registry)

    def observe_standing(self, standing: Standing) -> None:
        """Copy what the database says into the gauges; done at each scrape."""
        oldest = standing.oldest_pending_event_at
        self.queue_depth.set(standing.queue_depth)
        self.runs_in_progress.set(standing.running)
        self.oldest_pending_event.set(oldest.timestamp() if oldest else 0)
        self.current_adapters.set(standing.current_adapters)
        self.users.set(standing.users)
        self.database_bytes.set(standing.database_bytes)
        self.dead_letters.set(standing.dead_letters)

    def observe_restarts(self, restarts: int) -> None:
        """State how often the supervised trainer was started again so far."""
        self.trainer_restarts.inc(restarts - self._restarts_seen)
        self._restarts_seen = restarts

    def observe_build(self, version: str, schema_revision: str) -> None:
        """State what runs here."""
        self.build_info.info({"version": version})
        self.schema_revision_info.info({"revision": schema_revision})

    def _count_events_and_runs(self) -> None:
        self.events = self._counter("events_received", "Events received.", ("outcome", "type"))
        self.runs = self._counter("runs", "Training runs ended or retried, by the reason's code.", ("outcome", "code"))
        self.versions = self._counter("versions", "Decisions on adapter versions.", ("decision",))
        self.predictions = self._counter("predictions", "Texts predicted.", ("kind",))
        self.fence_rejections = self._counter("fence_rejections", "Writes refused because their epoch was stale.", ())
        self.trainer_restarts = self._counter("trainer_restarts", "Restarts of the supervised trainer process.", ())
        self.ticks = self._counter("ticks", "Looks at who is due.", ())

    def _measure_training(self) -> None:
        self.fit_duration = self._histogram("fit_duration_seconds", "Seconds to fit one cohort.", FIT_SECONDS)
        self.basis_duration = self._histogram("basis_duration_seconds", "Seconds to train one Basis.", FIT_SECONDS)
        self.basis_epoch = self._gauge("basis_epoch", "Epochs done of the Basis in training; 0 if none is.")
        self.basis_epochs = self._gauge("basis_epochs", "Epochs that the Basis in training has; 0 if none is.")
        self.basis_loss = self._gauge("basis_loss_nats", "Mean loss of the Basis in training.")
        self.basis_pace = self._gauge("basis_examples_per_second", "Examples that the Basis in training learns from.")
        self.fits = self._counter("fits", "Users fitted: from all examples, or going on from statistics.", ("mode",))
        self.fit_passes = self._counter(
            "fit_passes", "Passes over each learnt example, summed over the users fitted.", ("mode",)
        )
        self.cohort_users = self._histogram("cohort_users", "Users fitted together.", COHORT_SIZES)
        self.event_to_adapter = self._histogram(
            "event_to_adapter_seconds", "Seconds from a user's last event to the judged adapter.", WAIT_SECONDS
        )
        self.last_success = self._gauge("last_success_timestamp_seconds", "When a run last succeeded.")
        self.trainer_up = self._gauge("trainer_up", "1 while the trainer answers.")

    def _measure_judging(self) -> None:
        self.gain_over_generic = self._histogram(
            "gain_over_generic_nats", "Nats per unseen example that fitted vectors gain over the generic model.", NATS
        )
        self.promotions = self._counter("promotions", "Versions promoted, by the part of the vector served.", ("part",))
        self.population_gain = self._gauge(
            "population_gain_nats",
            "Mean nats per example that users served now believably gain, of the newest 2,000 versions.",
        )
        self.harmed = self._gauge(
            "harmed_ratio", "Mean chance, 0 to 1, that generic would serve a user better, of the newest 2,000 versions."
        )
        self.drift = self._counter("drift", "Looks at what came since the version in use.", ("state",))
        self.moved = self._histogram(
            "moved_nats", "Divergence in nats between a promoted version's answers and those given before.", MOVES
        )

    def _watch_storage(self) -> None:
        self.gate = self._counter("gate", "Files that wanted in, by why they were refused.", ("kind", "code"))
        self.lost = self._counter("lost", "Stored things found damaged or gone, and replaced.", ("kind",))
        self.seal = self._counter("seal", "Values sealed.", ("kind", "outcome"))
        self.unseal = self._counter("unseal", "Values unsealed.", ("kind", "outcome"))
        self.queue_depth = self._gauge("queue_depth", "Runs that wait for a trainer.")
        self.dead_letters = self._gauge("dead_letters", "Runs that were given up, and that wait for an operator.")
        self.runs_in_progress = self._gauge("runs_in_progress", "Runs that a trainer works on.")
        self.oldest_pending_event = self._gauge(
            "oldest_pending_event_timestamp_seconds", "Arrival of the oldest event no run has used; 0 if none waits."
        )
        self.current_adapters = self._gauge("current_adapters", "Users served by an adapter of their own.")
        self.users = self._gauge("users", "Users that are not forgotten.")
        self.database_bytes = self._gauge("database_bytes", "Size of the database.")
        self.build_info = Info("plora_build", "The version that runs.", registry=self.registry)
        self.schema_revision_info = Info("plora_schema_revision", "The database's revision.", registry=self.registry)

    def _watch_http(self) -> None:
        self.rate_limited = self._counter("rate_limited", "Requests and events beyond what is let in.", ("kind",))
        self.denied = self._counter("requests_denied", "Requests of callers who may not.", ("code",))
        self.http_requests = self._counter("http_requests", "Requests answered.", ("method", "route", "status"))
        self.http_duration = self._histogram(
            "http_request_duration_seconds", "Seconds to answer a request.", SECONDS, ("method", "route")
        )

    def _start_at_zero(self) -> None:
        for outcome in EVENT_OUTCOMES:
            for kind in EVENT_TYPES:
                self.events.labels(outcome, kind)
        for outcome, codes in RUN_CODES.items():
            for code in codes:
                self.runs.labels(outcome, code)
        for decision in DECISIONS:
            self.versions.labels(decision)
        for part in PARTS:
            self.promotions.labels(part)
        for state in DRIFTS:
            self.drift.labels(state)
        for mode in FIT_MODES:
            self.fits.labels(mode)
            self.fit_passes.labels(mode)
        for kind in PREDICTION_KINDS:
            self.predictions.labels(kind)
        self._start_storage_at_zero()

    def _start_storage_at_zero(self) -> None:
        for kind in GATED_KINDS:
            self.gate.labels(kind, "ok")
        for kind in LOST_KINDS:
            self.lost.labels(kind)
        for kind in RATE_KINDS:
            self.rate_limited.labels(kind)
        for code in DENIED_CODES:
            self.denied.labels(code)
        for kind in SEALED_KINDS:
            for outcome in SEAL_OUTCOMES:
                self.seal.labels(kind, outcome)
                self.unseal.labels(kind, outcome)

    def _counter(self, name: str, help_: str, labels: Sequence[str]) -> Counter:
        return Counter(f"plora_{name}_total", help_, labels, registry=self.registry)

    def _gauge(self, name: str, help_: str) -> Gauge:
        return Gauge(f"plora_{name}", help_, registry=self.registry)

    def _histogram(self, name: str, help_: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
        return Histogram(f"plora_{name}", help_, labels, buckets=buckets, registry=self.registry)
