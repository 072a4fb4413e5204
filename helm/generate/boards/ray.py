"""Ray: the cluster under the trainers, by what Ray itself exports."""

from helm.generate.boards.panels import AMBER, GREEN, RED, Board, Panel, Query, Row, rate, stat

_STORAGE = "ray_gcs_storage_operation_latency_ms"

_NOW = Row(
    "Now",
    (
        stat(
            "Nodes",
            "Nodes that are alive, as the head counts them.",
            "none",
            Query("sum(max by (cluster, namespace, node_type) (ray_cluster_active_nodes{@}))", "nodes"),
            base=RED,
            steps=((1, GREEN),),
        ),
        stat(
            "Applications that run",
            "Serve applications in state RUNNING, of trainer and predictor: 2 is healthy.",
            "none",
            Query("count(max by (application) (ray_serve_application_status{@}) == 6)", "applications"),
            base=RED,
            steps=((1, AMBER), (2, GREEN)),
        ),
        stat(
            "Healthy replicas",
            "Replicas of trainer and predictor.",
            "none",
            Query("sum(ray_serve_deployment_replica_healthy{@})", "replicas"),
            base=RED,
            steps=((1, GREEN),),
        ),
        stat(
            "Nodes asked for",
            "Nodes that the autoscaler has started and that are not there yet.",
            "none",
            Query("sum(autoscaler_pending_nodes{@})", "nodes"),
            steps=((1, AMBER),),
        ),
        stat(
            "Fullest node: memory",
            "Share of its memory that a node uses; Ray kills workers near 95 %.",
            "percentunit",
            Query("max(ray_node_mem_used{@} / ray_node_mem_total{@})", "share"),
            steps=((0.8, AMBER), (0.95, RED)),
            decimals=0,
        ),
        stat(
            "Fullest node: disk",
            "Share of its disk that a node uses.",
            "percent",
            Query("max(ray_node_disk_utilization_percentage{@})", "share"),
            steps=((80, AMBER), (95, RED)),
            decimals=0,
        ),
    ),
)

_SERVE = Row(
    "Serve",
    (
        Panel(
            "Requests to replicas",
            "Each second, by application.",
            "reqps",
            (Query(rate("ray_serve_deployment_request_counter_total", "application"), "{{application}}"),),
        ),
        Panel(
            "Requests that failed in a replica",
            "Each second, by application.",
            "reqps",
            (Query(rate("ray_serve_deployment_error_counter_total", "application"), "{{application}}"),),
        ),
        Panel(
            "Replicas: wanted and healthy",
            "By application.",
            "none",
            (
                Query(
                    "sum by (application) (max by (application, deployment) "
                    "(ray_serve_autoscaling_target_replicas{@}))",
                    "{{application}} wanted",
                ),
                Query("sum by (application) (ray_serve_deployment_replica_healthy{@})", "{{application}} healthy"),
            ),
        ),
        Panel(
            "Replicas started",
            "In ten minutes, by application. More than a few without a rollout: look why they end.",
            "none",
            (
                Query(
                    "sum by (application) (increase(ray_serve_deployment_replica_starts_total{@}[10m]))",
                    "{{application}}",
                ),
            ),
        ),
        Panel(
            "Requests in work",
            "In all replicas, and beside it what one replica is meant to hold.",
            "none",
            (Query("sum by (application) (ray_serve_replica_processing_queries{@})", "{{application}}"),),
        ),
        Panel(
            "How busy replicas are",
            "Percent of their capacity, the busiest of each application.",
            "percent",
            (Query("max by (application) (ray_serve_replica_utilization_percent{@})", "{{application}}"),),
            most=100.0,
        ),
    ),
)

_NODES = Row(
    "Nodes",
    (
        Panel(
            "Processor",
            "Percent of a node's processors in use.",
            "percent",
            (Query("max by (ip, RayNodeType) (ray_node_cpu_utilization{@})", "{{ip}} {{RayNodeType}}"),),
            most=100.0,
        ),
        Panel(
            "Memory",
            "Share of a node's memory in use.",
            "percentunit",
            (
                Query(
                    "max by (ip, RayNodeType) (ray_node_mem_used{@} / ray_node_mem_total{@})", "{{ip}} {{RayNodeType}}"
                ),
            ),
            most=1.0,
            steps=((0.95, RED),),
        ),
        Panel(
            "Object store",
            "Share of the object store in use; our cohorts are ciphertext and small, so it should stay low.",
            "percentunit",
            (
                Query(
                    "max by (NodeAddress) (ray_object_store_used_memory{@}"
                    " / (ray_object_store_used_memory{@} + ray_object_store_available_memory{@}))",
                    "{{NodeAddress}}",
                ),
            ),
            most=1.0,
        ),
        Panel(
            "GPU",
            "Percent of each GPU in use. No data on machines without one.",
            "percent",
            (Query("max by (ip, GpuIndex) (ray_node_gpus_utilization{@})", "{{ip}} GPU {{GpuIndex}}"),),
            most=100.0,
        ),
        Panel(
            "Disk left", "Bytes free on each node.", "bytes", (Query("min by (ip) (ray_node_disk_free{@})", "{{ip}}"),)
        ),
        Panel(
            "Autoscaler",
            "Worker nodes that run and that are asked for, and launches that failed in ten minutes.",
            "none",
            (
                Query("sum(autoscaler_active_nodes{@})", "active", GREEN),
                Query("sum(autoscaler_pending_nodes{@})", "pending", AMBER),
                Query("sum(increase(autoscaler_failed_create_nodes_total{@}[10m]))", "failed to launch", RED),
            ),
        ),
    ),
)

_CONTROL = Row(
    "Head",
    (
        Panel(
            "Storage of the head's state",
            "Milliseconds within which 95 % of its operations end. With Redis behind it, this is Redis.",
            "ms",
            (
                Query(
                    f"histogram_quantile(0.95, sum by (le, Operation) "
                    f"(rate({_STORAGE}_bucket{{@}}[$__rate_interval])))",
                    "{{Operation}}",
                ),
            ),
        ),
        Panel(
            "Actors, by state",
            "RESTARTING or DEAD that climb: replicas end.",
            "none",
            (Query("sum by (State) (ray_actors{@})", "{{State}}"),),
            stacked=True,
        ),
        Panel(
            "Lag of the event loops",
            "Milliseconds: the head's and the node agents'.",
            "ms",
            (Query("max by (Component) (ray_io_context_event_loop_lag_ms{@})", "{{Component}}"),),
        ),
    ),
)

RAY = Board(
    "ray",
    "plora / Ray",
    "The cluster under the trainers, by what Ray itself exports.",
    (_NOW, _SERVE, _NODES, _CONTROL),
)
