"""Serving: what hosts are answered, how fast, and who is turned away."""

from helm.generate.boards.panels import AMBER, BLUE, GREEN, GREY, RED, Board, Panel, Query, Row, rate, stat

_ADAPTERS = 'route="/v1/users/{user}/adapter"'
_LATENCY = "plora_http_request_duration_seconds"


def _within(q: float, route: str) -> str:
    return f"histogram_quantile({q:g}, sum by (le) (rate({_LATENCY}_bucket{{{route},@}}[$__rate_interval])))"


def _answered(route: str, *more: tuple[str, str, str]) -> tuple[Query, ...]:
    named = (("2..", "answered", GREEN), *more, ("4..", "refused (4xx)", AMBER), ("5..", "failed (5xx)", RED))
    return tuple(
        Query(f'sum(rate(plora_http_requests_total{{{route},status=~"{status}",@}}[$__rate_interval]))', name, colour)
        for status, name, colour in named
    )


def _latency(route: str) -> tuple[Query, ...]:
    named = ((0.5, "half within", GREEN), (0.95, "95 % within", AMBER), (0.99, "99 % within", RED))
    return tuple(Query(_within(q, route), name, colour) for q, name, colour in named)


_NOW = Row(
    "Now",
    (
        stat(
            "Answers that fail",
            "Share of all answers of the last 5 minutes with a 5xx.",
            "percentunit",
            Query(
                '(sum(rate(plora_http_requests_total{status=~"5..",@}[5m])) or vector(0))'
                " / sum(rate(plora_http_requests_total{@}[5m]))",
                "share",
            ),
            steps=((0.001, AMBER), (0.01, RED)),
            decimals=2,
        ),
        stat(
            "Requests each second",
            "All routes, over five minutes.",
            "reqps",
            Query("sum(rate(plora_http_requests_total{@}[5m]))", "requests/s"),
            base=BLUE,
        ),
        stat(
            "Adapter within (99 %)",
            "Seconds to answer a request for an adapter, over five minutes.",
            "s",
            Query(_within(0.99, _ADAPTERS).replace("$__rate_interval", "5m"), "99 %"),
            steps=((0.1, AMBER), (1.0, RED)),
            decimals=3,
        ),
        stat(
            "Predicted by an own adapter",
            "Share of texts predicted in the last hour that a user's own adapter answered.",
            "percentunit",
            Query(
                'sum(increase(plora_predictions_total{kind="personal",@}[1h]))'
                " / (sum(increase(plora_predictions_total{@}[1h])) > 0)",
                "share",
            ),
            base=BLUE,
            decimals=0,
        ),
        stat(
            "Turned away",
            "Requests and events of the last hour beyond what is let in (429), beside all requests.",
            "percentunit",
            Query(
                "sum(increase(plora_rate_limited_total{@}[1h])) / "
                "(sum(increase(plora_http_requests_total{@}[1h])) > 0)",
                "share",
            ),
            steps=((0.01, AMBER), (0.05, RED)),
            decimals=2,
        ),
        stat(
            "Longest pause of the event loop",
            "In the last minute, of any daemon: as long nobody was answered.",
            "s",
            Query("max(plora_loop_stall_seconds{@})", "pause"),
            steps=((0.1, AMBER), (1.0, RED)),
            decimals=3,
        ),
    ),
)

_EVENTS = Row(
    "Events in",
    (
        Panel(
            "Answers to events",
            "POST /v1/events, each second.",
            "reqps",
            _answered('route="/v1/events",method="POST"'),
            stacked=True,
        ),
        Panel(
            "Seconds to answer events",
            "Until they are durable and the host is told so.",
            "s",
            _latency('route="/v1/events",method="POST"'),
        ),
        Panel(
            "Events received, by type",
            "Events each second, all outcomes.",
            "ops",
            (Query(rate("plora_events_received_total", "type"), "{{type}}"),),
            stacked=True,
        ),
    ),
)

_OUT = Row(
    "Adapters and predictions out",
    (
        Panel(
            "Answers to requests for adapters",
            "GET of an adapter, each second; 304 costs next to nothing.",
            "reqps",
            _answered(_ADAPTERS, ("304", "unchanged (304)", BLUE)),
            stacked=True,
        ),
        Panel("Seconds to answer with an adapter", "Reading and unsealing it.", "s", _latency(_ADAPTERS)),
        Panel(
            "Texts predicted",
            "Each second: by the user's own adapter, by the generic model, or not at all.",
            "ops",
            tuple(
                Query(f'sum(rate(plora_predictions_total{{kind="{kind}",@}}[$__rate_interval]))', kind, colour)
                for kind, colour in (("personal", GREEN), ("generic", GREY), ("failed", RED))
            ),
            stacked=True,
        ),
        Panel(
            "Seconds to predict",
            "POST /v1/predict, the way to the trainers included.",
            "s",
            _latency('route="/v1/predict"'),
        ),
        Panel(
            "Ray Serve: seconds in a replica",
            "95 % of requests stay below, by application.",
            "s",
            (
                Query(
                    "histogram_quantile(0.95, sum by (le, application) "
                    "(rate(ray_serve_deployment_processing_latency_ms_bucket{@}[$__rate_interval]))) / 1000",
                    "{{application}}",
                ),
            ),
        ),
        Panel(
            "Ray Serve: requests that wait for a replica",
            "A queue that stays needs more replicas.",
            "none",
            (Query("sum by (application) (ray_serve_deployment_queued_queries{@})", "{{application}}"),),
        ),
    ),
)

_DOOR = Row(
    "At the door",
    (
        Panel(
            "Turned away (429)",
            "Requests and events each second beyond the rate of a tenant, a user or a source.",
            "reqps",
            (Query(rate("plora_rate_limited_total", "kind"), "{{kind}}"),),
            width=6,
        ),
        Panel(
            "Callers who may not",
            "Requests each second without a token, with a wrong one, or beyond what it allows.",
            "reqps",
            (Query(rate("plora_requests_denied_total", "code"), "{{code}}"),),
            width=6,
        ),
        Panel(
            "Messages of brokers",
            "Messages each second that the ingest process took, by outcome.",
            "ops",
            tuple(
                Query(
                    f'sum(rate(plora_ingest_messages_total{{outcome=~"{outcome}",@}}[$__rate_interval]))', name, colour
                )
                for outcome, name, colour in (
                    ("stored", "stored", GREEN),
                    ("duplicate|forgotten", "duplicate or forgotten", GREY),
                    ("dead_letter", "put aside", RED),
                )
            ),
            width=6,
            stacked=True,
        ),
        Panel(
            "Messages that wait in brokers",
            "What the ingest process has not acknowledged yet.",
            "none",
            (Query("max by (namespace) (plora_ingest_pending_messages{@})", "{{namespace}}"),),
            width=6,
        ),
        Panel(
            "Longest pause of the event loop",
            "Of each daemon, over the last minute.",
            "s",
            (Query("max by (instance) (plora_loop_stall_seconds{@})", "{{instance}}"),),
            width=24,
            height=6,
        ),
    ),
)

SERVING = Board(
    "serving",
    "plora / Serving",
    "What hosts are answered, how fast, and who is turned away.",
    (_NOW, _EVENTS, _OUT, _DOOR),
)
