"""Every metric of this project, one row each: name, kind, help, the stage of the path that it watches, labels, buckets.

Labels are few and their values known: a known series starts at zero, so that a rate exists from the first scrape and an
absent series means an absent process. A label whose values are not listed here is bounded by code (routes, error
classes). No label names a user. Times are exported as timestamps: alerts compute `time() - x` themselves.
docs/metrics.md is written from this table by `python -m daemon.metric_table`.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path


class Kind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


class Stage(Enum):
    """Where on the path of an event a metric looks."""

    INGEST = "ingest"
    SCHEDULE = "schedule"
    TRAIN = "train"
    JUDGE = "judge"
    SERVE = "serve"
    STORE = "store"
    GUARD = "guard"
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class Row:
    """One metric. `name` lacks prefix and `_total`. `labels` have their known values; None: bounded by code."""

    name: str
    kind: Kind
    stage: Stage
    help: str
    labels: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()

    @property
    def exported(self) -> str:
        """The name that Prometheus sees."""
        suffix = {Kind.COUNTER: "_total", Kind.INFO: "_info"}.get(self.kind, "")
        return f"plora_{self.name}{suffix}"


EVENT_TYPES = ("example", "correction", "consent", "forget", "outcome", "unknown")
EVENT_OUTCOMES = ("stored", "duplicate", "forgotten", "conflict", "ignored", "rejected", "failed")
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
ROLLOUT_ENDS = ("promoted", "rolled_back", "cancelled")
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
PREDICTION_KINDS = ("personal", "generic", "held", "failed")
SWITCHES = ("training", "ingest")
EPOCH_STATES = ("primary", "enabled", "destroy_pending", "destroyed")
BEATS = ("recorded", "opened", "claimed", "fitted", "settled")
BROKERS = ("kafka", "nats", "redis")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
FIT_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 600.0)
RUN_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 600.0, 3600.0)
WAIT_SECONDS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 40.0, 60.0, 80.0, 300.0, 1800.0, 7200.0, 86400.0)
COHORT_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BATCH_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
MOVES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 3.0, 10.0)
NATS = (-1.0, -0.5, -0.2, -0.1, -0.05, -0.02, 0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
C, G, H, I = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM, Kind.INFO  # noqa: E741 - one letter keeps a row one line
_ = Stage

ROWS = (
    Row("events_received", C, _.INGEST, "Events received.", {"outcome": EVENT_OUTCOMES, "type": EVENT_TYPES}),
    Row("rate_limited", C, _.INGEST, "Requests and events beyond what is let in.", {"kind": RATE_KINDS}),
    Row(
        "oldest_pending_event_timestamp_seconds",
        *(G, _.INGEST, "Arrival of the oldest event no run has used; 0 if none waits."),
    ),
    Row(
        "heartbeat_timestamp_seconds",
        G,
        _.SCHEDULE,
        "When a synthetic user's event last passed a stage.",
        {"stage": BEATS},
    ),
    Row("heartbeat_failures", C, _.SCHEDULE, "Beats that did not pass a stage in time.", {"stage": BEATS}),
    Row("ticks", C, _.SCHEDULE, "Looks at who is due."),
    Row("queue_depth", G, _.SCHEDULE, "Runs that wait for a trainer."),
    Row("runs_in_progress", G, _.SCHEDULE, "Runs that a trainer works on."),
    Row("dead_letters", G, _.SCHEDULE, "Runs that were given up, and that wait for an operator."),
    Row("paused", G, _.SCHEDULE, "1 while an operator has switched this off.", {"switch": SWITCHES}),
    Row("runs", C, _.TRAIN, "Training runs ended or retried, by the reason's code.", {"outcome": None, "code": None}),
    Row("run_duration_seconds", H, _.TRAIN, "Seconds from claiming a run to settling it.", {}, RUN_SECONDS),
    Row("fence_rejections", C, _.TRAIN, "Writes refused because their epoch was stale."),
    Row("leases_lost", C, _.TRAIN, "Claims that could not be extended in time and were given up."),
    Row("trainer_up", G, _.TRAIN, "1 while the trainer answers."),
    Row("trainer_replicas", G, _.TRAIN, "Trainer replicas that this daemon keeps busy at most."),
    Row("trainer_restarts", C, _.TRAIN, "Restarts of the supervised trainer process."),
    Row("fit_duration_seconds", H, _.TRAIN, "Seconds to fit one cohort.", {}, FIT_SECONDS),
    Row("fit_tokens", C, _.TRAIN, "Tokens of what users were fitted on, each counted once."),
    Row("base_tokens_per_second", G, _.TRAIN, "Tokens a second of the frozen model alone: the limit of a fit."),
    Row("fits", C, _.TRAIN, "Users fitted: from all examples, or going on from statistics.", {"mode": FIT_MODES}),
    Row(
        "fit_passes", C, _.TRAIN, "Passes over each learnt example, summed over the users fitted.", {"mode": FIT_MODES}
    ),
    Row("cohort_users", H, _.TRAIN, "Users fitted together.", {}, tuple(map(float, COHORT_SIZES))),
    Row("basis_duration_seconds", H, _.TRAIN, "Seconds to train one Basis.", {}, FIT_SECONDS),
    Row("basis_epoch", G, _.TRAIN, "Epochs done of the Basis in training; 0 if none is."),
    Row("basis_epochs", G, _.TRAIN, "Epochs that the Basis in training has; 0 if none is."),
    Row("basis_loss_nats", G, _.TRAIN, "Mean loss of the Basis in training."),
    Row("basis_examples_per_second", G, _.TRAIN, "Examples that the Basis in training learns from."),
    Row(
        "event_to_adapter_seconds",
        *(H, _.JUDGE, "Seconds from a user's last event to the judged adapter.", {}, WAIT_SECONDS),
    ),
    Row("last_success_timestamp_seconds", G, _.JUDGE, "When a run last succeeded."),
    Row("versions", C, _.JUDGE, "Decisions on adapter versions.", {"decision": DECISIONS}),
    Row("promotions", C, _.JUDGE, "Versions promoted, by the part of the vector served.", {"part": PARTS}),
    Row("rollouts", C, _.JUDGE, "Rollouts ended.", {"end": ROLLOUT_ENDS}),
    Row("drift", C, _.JUDGE, "Looks at what came since the version in use.", {"state": DRIFTS}),
    Row(
        "gain_over_generic_nats",
        *(H, _.JUDGE, "Nats per unseen example that fitted vectors gain over the generic model.", {}, NATS),
    ),
    Row(
        "moved_nats",
        *(H, _.JUDGE, "Divergence in nats between a promoted version's answers and those given before.", {}, MOVES),
    ),
    Row(
        "population_gain_nats",
        *(G, _.JUDGE, "Mean nats per example that users served now believably gain, of the newest 2,000 versions."),
    ),
    Row(
        "harmed_ratio",
        *(G, _.JUDGE, "Mean chance, 0 to 1, that generic would serve a user better, of the newest 2,000 versions."),
    ),
    Row("current_adapters", G, _.SERVE, "Users served by an adapter of their own."),
    Row("users", G, _.SERVE, "Users that are not forgotten."),
    Row("predictions", C, _.SERVE, "Texts predicted.", {"kind": PREDICTION_KINDS}),
    Row("http_requests", C, _.SERVE, "Requests answered.", {"method": None, "route": None, "status": None}),
    Row(
        "http_request_duration_seconds",
        H,
        _.SERVE,
        "Seconds to answer a request.",
        {"method": None, "route": None},
        SECONDS,
    ),
    Row("storage_up", G, _.STORE, "1 while the database answers."),
    Row(
        "storage_errors",
        C,
        _.STORE,
        "Requests refused because of the store, by the class of its error.",
        {"error": None},
    ),
    Row("database_bytes", G, _.STORE, "Size of the database."),
    Row("blobs_bytes", G, _.STORE, "Size of the sealed Bases that rows name."),
    Row("disk_free_bytes", G, _.STORE, "Room left where the data directory lies."),
    Row("standing_timestamp_seconds", G, _.STORE, "When the counts of the database were last read."),
    Row("lost", C, _.STORE, "Stored things found damaged or gone, and replaced.", {"kind": LOST_KINDS}),
    Row("seal", C, _.GUARD, "Values sealed.", {"kind": SEALED_KINDS, "outcome": SEAL_OUTCOMES}),
    Row("unseal", C, _.GUARD, "Values unsealed.", {"kind": SEALED_KINDS, "outcome": SEAL_OUTCOMES}),
    Row("gate", C, _.GUARD, "Files that wanted in, by why they were refused.", {"kind": GATED_KINDS, "code": None}),
    Row("requests_denied", C, _.GUARD, "Requests of callers who may not.", {"code": DENIED_CODES}),
    Row("keys_up", G, _.GUARD, "1 while the provider of the key epochs answers."),
    Row("key_epochs", G, _.GUARD, "Key epochs.", {"state": EPOCH_STATES}),
    Row("key_epoch_created_timestamp_seconds", G, _.GUARD, "When the primary key epoch was made."),
    Row("erasures_pending", G, _.GUARD, "Forgotten users whose key epoch is not rolled yet."),
    Row(
        "oldest_pending_erasure_timestamp_seconds",
        G,
        _.GUARD,
        "When the oldest of them was forgotten; 0 if there is none.",
    ),
    Row("exports_pending", G, _.GUARD, "Erasures that could not be exported yet."),
    Row("audit_entries", G, _.GUARD, "Entries of the audit log."),
    Row("audit_checkpoint_timestamp_seconds", G, _.GUARD, "When the audit log was last signed; 0 if never."),
    Row("build", I, _.PROCESS, "The version that runs.", {"version": None}),
    Row("schema_revision", I, _.PROCESS, "The database's revision.", {"revision": None}),
    Row("telemetry_spans", C, _.PROCESS, "Spans, by what became of them.", {"outcome": ("sent", "failed", "dropped")}),
    Row("loop_stall_seconds", G, _.PROCESS, "Longest pause of the event loop in the last minute."),
    Row(
        "ingest_messages",
        *(C, _.INGEST, "Messages of a broker settled, by a consumer.", {"broker": BROKERS, "outcome": None}),
    ),
    Row(
        "ingest_batch_duration_seconds",
        H,
        _.INGEST,
        "Seconds from taking a batch to acknowledging it.",
        {},
        BATCH_SECONDS,
    ),
    Row("ingest_last_poll_timestamp_seconds", G, _.INGEST, "When the consumer was last seen to consume."),
    Row("ingest_connected", G, _.INGEST, "1 while the broker answers."),
    Row("ingest_pending_messages", G, _.INGEST, "Messages of the group that are not acknowledged."),
)
TABLE: Mapping[str, Row] = {row.name: row for row in ROWS}
PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
HEAD = """# Metrics

What `/metrics` of a daemon says, and of a consumer of a broker (`plora_ingest_*`). Written from
`daemon/metric_table.py` by `python -m daemon.metric_table`. Gauges of the database are the same on all daemons: take
the maximum of them, and the sum of counters. No label names a user: `python -m daemon explain USER` answers what a
series can not, and a trace id goes with the slowest requests where a scraper asks for OpenMetrics.

Words: what others call a job is a *run* here, so there is `plora_runs_total` and `plora_run_duration_seconds`;
whether Ray is connected is `plora_trainer_up`.

| metric | kind | stage | labels | |
|---|---|---|---|---|
"""


def page() -> str:
    """docs/metrics.md."""
    lines = [
        f"| `{row.exported}` | {row.kind.value} | {row.stage.value} | {', '.join(row.labels)} | {row.help} |"
        for row in ROWS
    ]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE}\n")
