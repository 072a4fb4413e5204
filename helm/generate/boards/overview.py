"""Overview: is it healthy, at one glance; what else there is to see lies on the other boards."""

from helm.generate.boards.panels import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    RED,
    Board,
    Panel,
    Query,
    Row,
    age,
    quantiles,
    standing,
    stat,
)
from helm.generate.objectives import OBJECTIVES

_FIRING = 'count(ALERTS{alertstate="firing",alertname=~"Plora.+",@})'

_HEALTH = Row(
    "Is it healthy?",
    (
        stat(
            "Alerts that fire",
            "Alerts of plora that fire now. 0 is healthy; no data means that no daemon is seen at all.",
            "none",
            Query(f"{_FIRING} or 0 * max(plora_build_info{{@}})", "alerts"),
            steps=((1, RED),),
            words={"0": "none"},
        ),
        stat(
            "Daemons",
            "Replicas of the daemon that Prometheus reaches.",
            "none",
            Query("count(plora_build_info{@})", "daemons"),
            base=RED,
            steps=((1, GREEN),),
        ),
        stat(
            "Trainer",
            "Whether a trainer answers. Without one events are recorded and wait.",
            "none",
            Query("max(plora_trainer_up{@})", "trainer"),
            base=RED,
            steps=((1, GREEN),),
            words={"0": "down", "1": "up"},
        ),
        stat(
            "Database and keys",
            "Whether every daemon reaches its database and its key ring.",
            "none",
            Query("min(plora_storage_up{@}) * min(plora_keys_up{@})", "both"),
            base=RED,
            steps=((1, GREEN),),
            words={"0": "down", "1": "up"},
        ),
        stat(
            "Oldest stage of the heartbeat",
            "Age of the stage that the heartbeat, an event of nobody that walks the whole pipeline, passed "
            "longest ago.",
            "s",
            Query("max(time() - max by (cluster, namespace, stage) (plora_heartbeat_timestamp_seconds{@} > 0))", "age"),
            steps=((600, AMBER), (900, RED)),
            decimals=0,
        ),
        stat(
            "Paused by an operator",
            "Switches that an operator holds: training (nothing is claimed) or ingest (events are answered 503).",
            "none",
            Query("sum(max by (cluster, namespace, switch) (plora_paused{@}))", "switches"),
            steps=((1, AMBER),),
            words={"0": "nothing"},
        ),
        stat(
            "Events not stored",
            "Events of the last hour that we failed to store and answered with an error; their hosts send them again.",
            "none",
            Query('sum(increase(plora_events_received_total{outcome="failed",@}[1h]))', "events"),
            steps=((1, AMBER), (10, RED)),
            decimals=0,
        ),
        stat(
            "Event to adapter, 95 %",
            "Of the last hour: seconds from a user's last event to the judged adapter, that 95 % stay below.",
            "s",
            Query("histogram_quantile(0.95, sum by (le) (rate(plora_event_to_adapter_seconds_bucket{@}[1h])))", "95 %"),
            steps=((40, AMBER), (300, RED)),
            decimals=1,
        ),
        stat(
            "Runs that fail",
            "Of the last hour: share of runs that ended as failed or had to be tried again.",
            "percentunit",
            Query(
                'sum(increase(plora_runs_total{outcome=~"failed|retried",@}[1h])) / '
                "sum(increase(plora_runs_total{@}[1h]))",
                "share",
            ),
            steps=((0.05, AMBER), (0.2, RED)),
            decimals=1,
        ),
        stat(
            "Dead letters",
            "Runs that were given up and wait for an operator.",
            "none",
            Query(standing("plora_dead_letters"), "runs"),
            steps=((1, AMBER), (100, RED)),
            words={"0": "none"},
        ),
        stat(
            "Users harmed, estimated",
            "Mean chance that the generic model would serve a user better than the adapter in use.",
            "percentunit",
            Query("max(plora_harmed_ratio{@})", "chance"),
            steps=((0.1, AMBER), (0.2, RED)),
            decimals=1,
        ),
        stat(
            "Users served by their own adapter",
            "Users that have a current adapter; all others are served by the generic model.",
            "short",
            Query(standing("plora_current_adapters"), "users"),
            base=BLUE,
        ),
    ),
)

_BUDGETS = Row(
    "Error budgets of the last 30 days",
    (
        *(
            stat(
                f"{each.title}: budget left",
                f"{each.says} Below 0 the objective of {each.objective:.2%} is missed.",
                "percentunit",
                Query(f'min(plora:slo_budget_left:ratio{{slo="{each.name}",@}})', "left"),
                base=RED,
                steps=((0.0, AMBER), (0.25, GREEN)),
                decimals=0,
                most=1.0,
                least=None,
                height=7,
            )
            for each in OBJECTIVES
        ),
        Panel(
            "Budget burnt, times what is sustainable (1 h)",
            "1 spends the whole budget in exactly 30 days. Alerts fire at 14.4, 6, 3 and 1 over growing windows.",
            "none",
            (Query("max by (slo) (plora:slo_burn:ratio_rate1h{@})", "{{slo}}"),),
            width=12,
            height=7,
            steps=((14.4, RED),),
        ),
    ),
)

_FLOW = Row(
    "From event to adapter",
    (
        Panel(
            "Events received, by outcome",
            "Events each second. `failed` could not be stored; `rejected` and `conflict` are the host's mistakes.",
            "reqps",
            (
                Query('sum(rate(plora_events_received_total{outcome="stored",@}[$__rate_interval]))', "stored", GREEN),
                Query(
                    'sum(rate(plora_events_received_total{outcome="duplicate",@}[$__rate_interval]))', "duplicate", GREY
                ),
                Query(
                    'sum(rate(plora_events_received_total{outcome=~"rejected|conflict|forgotten",@}[$__rate_interval]))',
                    "rejected, conflict or forgotten",
                    AMBER,
                ),
                Query('sum(rate(plora_events_received_total{outcome="failed",@}[$__rate_interval]))', "failed", RED),
            ),
            stacked=True,
        ),
        Panel(
            "Event to adapter",
            "Seconds from a user's last event to the judged adapter; dashed: the objective.",
            "s",
            quantiles("plora_event_to_adapter_seconds"),
            steps=((OBJECTIVES[2].within_s, RED),),
            logarithmic=True,
            least=None,
        ),
        Panel(
            "Runs, by outcome",
            "Runs each second. `retried` were put back because no trainer answered.",
            "ops",
            tuple(
                Query(f'sum(rate(plora_runs_total{{outcome="{name}",@}}[$__rate_interval]))', name, colour)
                for name, colour in (("succeeded", GREEN), ("cancelled", GREY), ("retried", AMBER), ("failed", RED))
            ),
            stacked=True,
        ),
    ),
)

_WAITING = Row(
    "What waits, and who is served",
    (
        Panel(
            "Runs that wait and that are worked on",
            "Open runs by state. A queue that only grows needs more trainers.",
            "none",
            (
                Query(standing("plora_queue_depth"), "queued", AMBER),
                Query(standing("plora_runs_in_progress"), "running", BLUE),
            ),
        ),
        Panel(
            "Age of the oldest event no run has used",
            "Also events of users that have too few of them yet; it matters while runs are queued.",
            "s",
            (Query(age("plora_oldest_pending_event_timestamp_seconds"), "{{namespace}}"),),
        ),
        Panel(
            "Users",
            "Users that are not forgotten, and those served by an adapter of their own.",
            "short",
            (
                Query(standing("plora_users"), "known", GREY),
                Query(standing("plora_current_adapters"), "served by their own adapter", GREEN),
            ),
        ),
        Panel(
            "Answers by status class",
            "HTTP answers each second; 5xx is ours to mend.",
            "reqps",
            (
                Query('sum(rate(plora_http_requests_total{status=~"2..|3..",@}[$__rate_interval]))', "good", GREEN),
                Query(
                    'sum(rate(plora_http_requests_total{status=~"4..",@}[$__rate_interval]))',
                    "the caller's mistake (4xx)",
                    AMBER,
                ),
                Query(
                    'sum(rate(plora_http_requests_total{status=~"5..",@}[$__rate_interval]))', "our mistake (5xx)", RED
                ),
            ),
            stacked=True,
            width=12,
        ),
        Panel(
            "Age of the heartbeat, by stage",
            "The stage whose line climbs is the one that stands still.",
            "s",
            (
                Query(
                    "max by (stage) (time() - max by (cluster, namespace, stage) "
                    "(plora_heartbeat_timestamp_seconds{@} > 0))",
                    "{{stage}}",
                ),
            ),
            width=12,
            steps=((900, RED),),
        ),
    ),
)

OVERVIEW = Board(
    "overview",
    "plora / Overview",
    "Is it healthy? Red means act, amber means look; every alert names its section of the runbooks.",
    (_HEALTH, _BUDGETS, _FLOW, _WAITING),
)
