"""Alerts on the cluster under the trainers. They are silent where Ray's own metrics are not scraped."""

from helm.generate.alerts import EACH, Alert, Severity

_STORAGE = "ray_gcs_storage_operation_latency_ms_count"
_GONE = "(sum {each} (max_over_time({metric}{{@}}[30m])) unless sum {each} ({metric}{{@}}))"

RAY = (
    Alert(
        "PloraRayHeadDown",
        _GONE.format(each=EACH, metric="ray_cluster_active_nodes") + " > 0",
        3,
        Severity.CRITICAL,
        "The head of Ray is gone in {{ $labels.namespace }}",
        "It counted {{ $value }} nodes within the last half hour and says nothing now. Replicas go on for a "
        "while; none is replaced.",
        "ray",
    ),
    Alert(
        "PloraRayStorageDown",
        f"sum {EACH} (rate({_STORAGE}{{@}}[5m])) == 0 and sum {EACH} (rate({_STORAGE}{{@}}[5m] offset 30m)) > 0",
        10,
        Severity.WARNING,
        "The head of Ray does not reach its storage in {{ $labels.namespace }}",
        "No operation on its stored state has ended for ten minutes: after a restart the head would know nothing.",
        "ray",
    ),
    Alert(
        "PloraRayNodesLost",
        f"sum {EACH} (ray_cluster_active_nodes{{@}}) < 0.5 * sum {EACH} (ray_cluster_active_nodes{{@}} offset 15m)",
        10,
        Severity.WARNING,
        "Half of Ray's nodes are gone in {{ $labels.namespace }}",
        "{{ $value }} are left of what there was 15 minutes ago.",
        "ray",
    ),
    Alert(
        "PloraRayAppUnhealthy",
        "max by (cluster, namespace, application) (ray_serve_application_status{@}) < 5",
        5,
        Severity.CRITICAL,
        "The {{ $labels.application }} of Ray Serve is not healthy in {{ $labels.namespace }}",
        "Its status is {{ $value }}: 1 failed to deploy, 2 unhealthy, 3 not started, 4 being deleted.",
        "ray",
    ),
    Alert(
        "PloraRayMemoryNearlyFull",
        "max by (cluster, namespace, ip) (ray_node_mem_used{@} / ray_node_mem_total{@}) > 0.93",
        10,
        Severity.WARNING,
        "The node {{ $labels.ip }} of Ray has little memory left",
        "{{ $value | humanizePercentage }} are in use; near 95 % Ray kills workers.",
        "ray",
    ),
    Alert(
        "PloraRayNodesNotStarting",
        f"sum {EACH} (min_over_time(autoscaler_pending_nodes{{@}}[20m])) > 0",
        10,
        Severity.WARNING,
        "Nodes that Ray asked for do not come in {{ $labels.namespace }}",
        "{{ $value }} have been pending for half an hour: no such machine is free, or its image cannot be pulled.",
        "ray",
    ),
)
