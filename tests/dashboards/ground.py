"""What lies under the daemons of the made-up installation: database, keys, disk, brokers, Ray; and what fired."""

from collections.abc import Mapping
from math import nan

from tests.dashboards.installation import (
    BEGINS,
    DRAINED,
    ENDS,
    INGEST,
    NODES,
    RAY,
    backlog,
    during,
    quiet,
    stamp,
    steady,
    when,
)
from tests.dashboards.openmetrics import History, lognormal

DAY_H = 24.0
MILLISECONDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)
TRAINER, PREDICTOR = (
    {"application": "trainer", "deployment": "Trainer"},
    {"application": "predictor", "deployment": "Predictor"},
)


def store(history: History, at: Mapping[str, str], number: int) -> None:
    """Database, keys, seals, erasures, audit, disk."""
    start = history.end - history.hours * 3600
    for kind, rate in (("event", 12.0), ("adapter", 1.2), ("statistics", 1.2), ("basis", 0.0), ("material", 0.0)):
        history.counter("plora_seal_total", {**at, "kind": kind, "outcome": "ok"}, steady(rate))
        history.counter(
            "plora_unseal_total", {**at, "kind": kind, "outcome": "ok"}, steady(rate * 1.6 if kind != "basis" else 0.01)
        )
        history.counter("plora_unseal_total", {**at, "kind": kind, "outcome": "unreadable"}, quiet)
    for kind in ("adapter", "basis"):
        history.counter("plora_lost_total", {**at, "kind": kind}, quiet)
    history.counter("plora_gate_total", {**at, "kind": "adapter", "code": "ok"}, steady(1.2))
    history.counter("plora_gate_total", {**at, "kind": "adapter", "code": "too_large"}, quiet)
    history.gauge("plora_users", at, lambda h: 48_000 + 120 * h)
    history.gauge("plora_current_adapters", at, lambda h: 31_000 + 90 * (h - max(0.0, min(h, DRAINED) - BEGINS)))
    history.gauge("plora_database_bytes", at, lambda h: 3.1e9 + 9e6 * h)
    history.gauge("plora_blobs_bytes", at, lambda h: 4.4e8 + (1.1e8 if h > 5.4 else 0.0))
    history.gauge("plora_disk_free_bytes", at, lambda h: 61e9 - 9e6 * h - number * 2e9)
    history.gauge("plora_storage_up", at, steady(1))
    history.gauge("plora_keys_up", at, steady(1))
    for error, rate in (("locked", 0.002), ("away", 0.0)):
        history.counter("plora_storage_errors_total", {**at, "error": error}, steady(rate))
    history.gauge("plora_key_epoch_created_timestamp_seconds", at, steady(start - 41 * DAY_H * 3600))
    for state, count in (("primary", 1), ("retired", 2), ("destroy_pending", 0), ("destroyed", 3)):
        history.gauge("plora_key_epochs", {**at, "state": state}, steady(count))
    history.gauge("plora_erasures_pending", at, lambda h: 3 + int(h) // 3)
    history.gauge("plora_oldest_pending_erasure_timestamp_seconds", at, steady(start - 3.2 * DAY_H * 3600))
    history.gauge("plora_exports_pending", at, quiet)
    history.gauge("plora_audit_checkpoint_timestamp_seconds", at, stamp(history, stands=False))
    history.gauge("plora_audit_entries", at, lambda h: 912_000 + 2_400 * h)
    history.gauge("plora_standing_timestamp_seconds", at, stamp(history, stands=False))
    history.gauge("plora_build_info", {**at, "version": "0.1.0"}, steady(1))


def messages(history: History) -> None:
    """The ingest process beside a broker."""
    for outcome, rate in (("stored", 9.0), ("duplicate", 0.1), ("forgotten", 0.0), ("dead_letter", 0.0)):
        history.counter("plora_ingest_messages_total", {**INGEST, "broker": "nats", "outcome": outcome}, steady(rate))
    history.gauge("plora_ingest_pending_messages", INGEST, steady(40), noise=0.5)
    history.gauge("plora_ingest_connected", INGEST, steady(1))
    history.gauge("plora_ingest_last_poll_timestamp_seconds", INGEST, stamp(history, stands=False))


def ray(history: History) -> None:
    """The cluster, by what Ray exports."""
    head = {**RAY, "instance": "head:8080"}
    for at in ({**head, "node_type": "head"}, {**head, "node_type": "gpu"}):
        there = 2.0 if at["node_type"] == "gpu" else 1.0
        history.gauge("ray_cluster_active_nodes", at, when(0, there) if there == 2 else steady(1))
    for name, node in zip(("10", "11"), NODES, strict=True):
        _node(
            history,
            {**RAY, "instance": f"gpu-{name}:8080", "ip": node, "IsHeadNode": "false", "RayNodeType": "worker"},
            gpu=True,
        )
        _replica(history, {**RAY, "instance": f"gpu-{name}:8080", **TRAINER, "replica": f"t{name}"}, 2.6, 1_600)
        _replica(history, {**RAY, "instance": f"gpu-{name}:8080", **PREDICTOR, "replica": f"p{name}"}, 6.0, 24)
    _node(
        history,
        {**RAY, "instance": "head:8080", "ip": "192.0.2.10", "IsHeadNode": "true", "RayNodeType": "head"},
        gpu=False,
    )
    for name in (TRAINER, PREDICTOR):
        history.gauge("ray_serve_application_status", {**head, "application": name["application"]}, when(5, 6))
        history.gauge("ray_serve_autoscaling_target_replicas", {**head, **name}, steady(2))
        history.gauge(
            "ray_serve_autoscaling_desired_replicas", {**head, **name}, lambda h: 4 if backlog(h) > 600 else 2
        )
        history.gauge(
            "ray_serve_deployment_queued_queries", {**head, **name}, lambda h: 12 if during(h) else 1, noise=0.4
        )
    _head(history)


def _head(history: History) -> None:
    """The autoscaler, the stored state, and what the head counts."""
    head = {**RAY, "instance": "head:44217"}
    history.gauge("autoscaler_active_nodes", {**head, "NodeType": "gpu"}, when(0, 2))
    history.gauge("autoscaler_pending_nodes", {**head, "NodeType": "gpu"}, when(2))
    history.counter("autoscaler_failed_create_nodes_total", head, when(1 / 300))
    head = {**RAY, "instance": "head:8080", "NodeAddress": "192.0.2.10", "Component": "gcs_server"}
    for operation, median in (("Get", 0.6), ("Put", 0.9), ("GetAll", 2.2)):
        named = {**head, "Operation": operation}
        history.histogram(
            "ray_gcs_storage_operation_latency_ms", named, MILLISECONDS, steady(0.3), lognormal(steady(median), 0.6)
        )
    for state, usual, then in (("ALIVE", 9, 4), ("RESTARTING", 0, 4), ("DEAD", 1, 2)):
        history.gauge("ray_actors", {**head, "State": state, "Name": "replica"}, when(then, usual))
    for component, lag in (("gcs_server", 1.4), ("raylet", 0.9)):
        history.gauge(
            "ray_io_context_event_loop_lag_ms", {**head, "Component": component, "Name": "main"}, steady(lag), noise=0.7
        )


def _node(history: History, at: Mapping[str, str], *, gpu: bool) -> None:
    """A machine; those with a GPU are the ones that go."""

    def there(value: float, more: float = 0.0):
        return lambda h: nan if gpu and during(h) else value + (more if ENDS <= h < DRAINED else 0.0)

    history.gauge("ray_node_cpu_utilization", at, there(31 if gpu else 12, 22 if gpu else 3), noise=0.2)
    history.gauge("ray_node_mem_used", at, there(41e9 if gpu else 6e9), noise=0.03)
    history.gauge("ray_node_mem_total", at, there(128e9 if gpu else 16e9))
    history.gauge("ray_node_disk_free", at, there(72e9 if gpu else 30e9))
    history.gauge("ray_node_disk_utilization_percentage", at, there(38))
    store = {**RAY, "instance": at["instance"], "NodeAddress": at["ip"], "Component": "raylet"}
    history.gauge("ray_object_store_used_memory", store, there(2.2e8), noise=0.4)
    history.gauge("ray_object_store_available_memory", store, there(1e10))
    if gpu:
        card = {**at, "GpuIndex": "0", "GpuDeviceName": "H100"}
        history.gauge("ray_node_gpus_utilization", card, there(38, 51), noise=0.2)
        history.gauge("ray_node_gram_used", card, there(19_000, 8_000), noise=0.02)
        history.gauge("ray_node_gram_available", card, there(62_000, -8_000))


def _replica(history: History, at: Mapping[str, str], rate: float, median_ms: float) -> None:
    """One replica of Ray Serve, gone with its node."""
    busy = 0.3 if at["application"] == "predictor" else 0.45
    history.gauge("ray_serve_deployment_replica_healthy", at, lambda h: nan if during(h) else 1)
    history.gauge("ray_serve_replica_processing_queries", at, lambda h: nan if during(h) else busy * 4, noise=0.5)
    history.gauge(
        "ray_serve_replica_utilization_percent",
        at,
        lambda h: nan if during(h) else busy * 100 + (40 if ENDS <= h < DRAINED else 0),
        noise=0.2,
    )
    routed = {**at, "route": "/"}
    history.counter("ray_serve_deployment_request_counter_total", routed, when(0, rate))
    history.counter(
        "ray_serve_deployment_error_counter_total", routed, lambda h: 0.2 if 0 <= h - BEGINS < 0.05 else 0.0
    )
    history.counter(
        "ray_serve_deployment_replica_starts_total", at, lambda h: 1 / 120 if 0 <= h - ENDS < 0.034 else 0.0
    )
    history.histogram(
        "ray_serve_deployment_processing_latency_ms",
        routed,
        MILLISECONDS,
        when(0, rate / 4),
        lognormal(steady(median_ms), 0.3),
    )


def alerts(history: History) -> None:
    """Those that fired, as Prometheus keeps them."""
    for name, severity, late in (
        ("PloraTrainerDown", "critical", 5),
        ("PloraNoRunSucceeds", "critical", 20),
        ("PloraHeartbeatStale", "critical", 20),
        ("PloraRunsFail", "warning", 12),
    ):
        labels = {"alertname": name, "alertstate": "firing", "severity": severity, "namespace": "plora"}
        history.gauge("ALERTS", labels, lambda h, late=late: 1 if BEGINS + late / 60 <= h < ENDS + 0.04 else nan)
