"""Six hours of an installation with one incident: the trainers' nodes vanish for forty minutes, then a backlog drains.

Everything the boards ask for has a series here.
"""

from collections.abc import Mapping

from tests.dashboards import ground
from tests.dashboards.installation import (
    BEGINS,
    DAEMONS,
    DRAINED,
    ENDS,
    EVENTS_A_SECOND,
    USERS_A_SECOND,
    backlog,
    during,
    fitting,
    half,
    quiet,
    stamp,
    steady,
    waited,
    when,
)
from tests.dashboards.openmetrics import At, History, lognormal, normal

STAGES = ("recorded", "opened", "claimed", "fitted", "settled")
STOPPED = ("fitted", "settled")
BASIS: Mapping[str, At] = {
    "epoch": lambda h: float(int((h - 4.4) * 8)),
    "epochs": steady(8),
    "loss_nats": lambda h: 0.42 + 0.5 * 0.2 ** (h - 4.4),
    "examples_per_second": steady(310),
}


def told(history: History, bounds: Mapping[str, tuple[float, ...]]) -> None:
    """Everything that the daemons, the ingest process and Ray export."""
    for number, at in enumerate(DAEMONS):
        _events(history, at)
        _runs(history, at)
        _fits(history, at, bounds)
        _waiting(history, at)
        _quality(history, at, bounds)
        ground.store(history, at, number)
        _http(history, at, bounds)
    ground.messages(history)
    ground.ray(history)
    ground.alerts(history)


def _events(history: History, at: Mapping[str, str]) -> None:
    stored = half(steady(EVENTS_A_SECOND))
    for kind, share in (("example", 0.9), ("correction", 0.07), ("consent", 0.02), ("forget", 0.01)):
        history.counter(
            "plora_events_received_total",
            {**at, "outcome": "stored", "type": kind},
            lambda h, share=share: stored(h) * share,
        )
    for outcome, rate in (("duplicate", 0.6), ("rejected", 0.15), ("conflict", 0.01), ("forgotten", 0.02)):
        history.counter(
            "plora_events_received_total", {**at, "outcome": outcome, "type": "example"}, half(steady(rate))
        )
    history.counter("plora_events_received_total", {**at, "outcome": "failed", "type": "example"}, quiet)
    for kind, rate in (("tenant", 0.0), ("user", 0.004), ("source", 0.0)):
        history.counter("plora_rate_limited_total", {**at, "kind": kind}, steady(rate))
    for code, rate in (("no_token", 0.002), ("wrong_token", 0.001), ("scope_missing", 0.0), ("not_theirs", 0.0)):
        history.counter("plora_requests_denied_total", {**at, "code": code}, steady(rate))


def _runs(history: History, at: Mapping[str, str]) -> None:
    fitted = half(fitting)
    codes = (
        ("beats_generic", 0.55),
        ("label_bias_beats_generic", 0.13),
        ("gain_within_noise", 0.17),
        ("too_little_evidence", 0.06),
        ("not_better_than_generic", 0.07),
        ("moved_too_far", 0.02),
    )
    for code, share in codes:
        history.counter(
            "plora_runs_total", {**at, "outcome": "succeeded", "code": code}, lambda h, share=share: fitted(h) * share
        )
    history.counter(
        "plora_runs_total", {**at, "outcome": "cancelled", "code": "not_enough"}, lambda h: fitted(h) * 0.03
    )
    history.counter("plora_runs_total", {**at, "outcome": "retried", "code": "trainer_unavailable"}, when(1.1))
    history.counter("plora_runs_total", {**at, "outcome": "failed", "code": "diverged"}, quiet)
    history.counter(
        "plora_runs_total",
        {**at, "outcome": "retried", "code": "trainer_lost"},
        lambda h: 0.8 if 0 <= h - BEGINS < 0.08 else 0.0,
    )


def _fits(history: History, at: Mapping[str, str], bounds: Mapping[str, tuple[float, ...]]) -> None:
    fitted = half(fitting)
    for mode, share, passes in (("full", 0.35, 3.0), ("refit", 0.6, 1.4), ("moved", 0.05, 2.0)):
        history.counter("plora_fits_total", {**at, "mode": mode}, lambda h, share=share: fitted(h) * share)
        history.counter(
            "plora_fit_passes_total",
            {**at, "mode": mode},
            lambda h, share=share, passes=passes: fitted(h) * share * passes,
        )
    history.counter("plora_fit_tokens_total", dict(at), lambda h: fitted(h) * 9_000)
    history.gauge("plora_base_tokens_per_second", at, steady(42_000), noise=0.02)
    history.histogram(
        "plora_event_to_adapter_seconds", at, bounds["plora_event_to_adapter_seconds"], fitted, lognormal(waited, 0.45)
    )
    history.histogram(
        "plora_cohort_users",
        at,
        bounds["plora_cohort_users"],
        lambda h: fitted(h) / (24 if ENDS <= h < DRAINED else 6),
        lognormal(lambda h: 24 if ENDS <= h < DRAINED else 6, 0.5),
    )
    history.histogram(
        "plora_fit_duration_seconds",
        at,
        bounds["plora_fit_duration_seconds"],
        lambda h: fitted(h) / 6,
        lognormal(steady(1.6), 0.4),
    )
    history.histogram(
        "plora_run_duration_seconds", at, bounds["plora_run_duration_seconds"], fitted, lognormal(steady(3.1), 0.4)
    )


def _waiting(history: History, at: Mapping[str, str]) -> None:
    history.counter("plora_trainer_restarts_total", dict(at), quiet)
    history.counter("plora_leases_lost_total", dict(at), lambda h: 0.05 if 0 <= h - BEGINS < 0.1 else 0.0)
    history.counter("plora_fence_rejections_total", dict(at), lambda h: 0.02 if 0 <= h - ENDS < 0.1 else 0.0)
    history.gauge("plora_queue_depth", at, backlog, noise=0.1)
    history.gauge("plora_runs_in_progress", at, lambda h: 0 if during(h) else 14 if backlog(h) < 10 else 48, noise=0.2)
    history.gauge("plora_dead_letters", at, quiet)
    history.gauge("plora_trainer_up", at, when(0, 1))
    history.gauge("plora_trainer_replicas", at, steady(2))
    history.gauge("plora_last_success_timestamp_seconds", at, stamp(history, stands=True))
    start = history.end - history.hours * 3600
    history.gauge(
        "plora_oldest_pending_event_timestamp_seconds",
        at,
        lambda h: (
            start
            + 3600 * h
            - 20
            - (3600 * (h - BEGINS) if during(h) else backlog(h) / USERS_A_SECOND if backlog(h) > 10 else 0)
        ),
    )
    for stage in STAGES:
        history.gauge(
            "plora_heartbeat_timestamp_seconds", {**at, "stage": stage}, stamp(history, stands=stage in STOPPED)
        )
        history.counter(
            "plora_heartbeat_failures_total", {**at, "stage": stage}, when(1 / 240) if stage == "fitted" else quiet
        )
    for name, value in (("epoch", 0.0), ("epochs", 0.0), ("loss_nats", 0.0), ("examples_per_second", 0.0)):
        history.gauge(
            f"plora_basis_{name}", at, lambda h, value=value, name=name: BASIS[name](h) if 4.4 <= h < 5.4 else value
        )


def _quality(history: History, at: Mapping[str, str], bounds: Mapping[str, tuple[float, ...]]) -> None:
    fitted = half(fitting)
    history.gauge("plora_population_gain_nats", at, lambda h: 0.082 - (0.016 if 4.6 <= h < 5.1 else 0), noise=0.03)
    history.gauge("plora_harmed_ratio", at, lambda h: 0.031 + (0.02 if 4.6 <= h < 5.1 else 0), noise=0.05)
    history.histogram(
        "plora_gain_over_generic_nats", at, bounds["plora_gain_over_generic_nats"], fitted, normal(steady(0.08), 0.11)
    )
    history.histogram(
        "plora_moved_nats", at, bounds["plora_moved_nats"], lambda h: fitted(h) * 0.68, lognormal(steady(0.045), 0.9)
    )
    for decision, share in (("promoted", 0.68), ("rejected", 0.3), ("rolled_back", 0.004)):
        history.counter("plora_versions_total", {**at, "decision": decision}, lambda h, share=share: fitted(h) * share)
    for part, share in (("whole", 0.55), ("label_bias", 0.13)):
        history.counter("plora_promotions_total", {**at, "part": part}, lambda h, share=share: fitted(h) * share)
    for state, share in (("steady", 0.5), ("drifted", 0.02), ("rolled_back", 0.004)):
        more = 6 if state != "steady" else 1
        history.counter(
            "plora_drift_total",
            {**at, "state": state},
            lambda h, share=share, more=more: fitted(h) * share * (more if 4.6 <= h < 5.1 else 1),
        )
    for kind, share in (("personal", 0.71), ("generic", 0.29)):
        history.counter(
            "plora_predictions_total", {**at, "kind": kind}, lambda h, share=share: 0.0 if during(h) else 19 * share
        )
    history.counter("plora_predictions_total", {**at, "kind": "failed"}, when(19))


def _http(history: History, at: Mapping[str, str], bounds: Mapping[str, tuple[float, ...]]) -> None:
    seconds = bounds["plora_http_request_duration_seconds"]
    events, adapter, predict = "/v1/events", "/v1/users/{user}/adapter", "/v1/predict"
    rates = (
        ("POST", events, "202", steady(11.5)),
        ("POST", events, "400", steady(0.07)),
        ("POST", events, "503", quiet),
        ("GET", adapter, "500", quiet),
        ("GET", adapter, "200", half(fitting)),
        ("GET", adapter, "304", steady(8.0)),
        ("GET", adapter, "404", steady(0.2)),
        ("POST", predict, "200", when(0, 6)),
        ("POST", predict, "503", when(6)),
    )
    for method, route, status, rate in rates:
        history.counter("plora_http_requests_total", {**at, "method": method, "route": route, "status": status}, rate)
    for method, route, rate, median in (
        ("POST", events, 11.5, 0.011),
        ("GET", adapter, 9.4, 0.004),
        ("POST", predict, 6.0, 0.045),
    ):
        history.histogram(
            "plora_http_request_duration_seconds",
            {**at, "method": method, "route": route},
            seconds,
            steady(rate / 4),
            lognormal(steady(median), 0.55),
        )
    history.gauge("plora_loop_stall_seconds", at, lambda h: 0.012 + (0.05 if 0 <= h - BEGINS < 0.05 else 0), noise=0.5)
    for switch in ("training", "ingest"):
        history.gauge("plora_paused", {**at, "switch": switch}, quiet)
