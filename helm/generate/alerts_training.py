"""Alerts on the way from event to adapter: what waits, what fails, and who fits."""

from helm.generate.alerts import EACH, HOURS, Alert, Severity, age

TRAINING = (
    Alert(
        "PloraEventsWait",
        f"{age('plora_oldest_pending_event_timestamp_seconds')} > 1800"
        f" and max {EACH} (min_over_time(plora_queue_depth{{@}}[30m])) > 0",
        5,
        Severity.WARNING,
        "Events wait too long in {{ $labels.namespace }}",
        "The oldest event that no run has used is {{ $value | humanizeDuration }} old, and for half an hour runs "
        "have waited for a trainer.",
        "training",
    ),
    Alert(
        "PloraNoRunSucceeds",
        f"{age('plora_last_success_timestamp_seconds')} > 900"
        f" and max {EACH} (min_over_time(plora_queue_depth{{@}}[15m])) > 0",
        5,
        Severity.CRITICAL,
        "No run succeeds in {{ $labels.namespace }}",
        "Runs wait, and the last that succeeded did so {{ $value | humanizeDuration }} ago.",
        "training",
    ),
    Alert(
        "PloraRunsFail",
        f'sum {EACH} (increase(plora_runs_total{{outcome=~"failed|retried",@}}[15m]))'
        f" / sum {EACH} (increase(plora_runs_total{{@}}[15m])) > 0.2"
        f' and sum {EACH} (increase(plora_runs_total{{outcome=~"failed|retried",@}}[15m])) > 5',
        10,
        Severity.WARNING,
        "{{ $value | humanizePercentage }} of the runs fail in {{ $labels.namespace }}",
        "Share of the runs of 15 minutes that failed or had to be tried again. The board names their codes.",
        "training",
    ),
    Alert(
        "PloraRunsGivenUp",
        f"max {EACH} (plora_dead_letters{{@}}) > 0",
        15,
        Severity.WARNING,
        "Runs were given up in {{ $labels.namespace }}",
        "{{ $value }} runs failed too often. Their users stay on what they had until an operator looks.",
        "training",
    ),
    Alert(
        "PloraHeartbeatStale",
        f"{age('plora_heartbeat_timestamp_seconds', 'stage')} > 900",
        5,
        Severity.CRITICAL,
        "The heartbeat has not passed {{ $labels.stage }} in {{ $labels.namespace }}",
        "An event of nobody walks the whole pipeline every five minutes. It passed {{ $labels.stage }} "
        "{{ $value | humanizeDuration }} ago: "
        "what hosts send stands still there too.",
    ),
    Alert(
        "PloraHeartbeatFails",
        "sum by (cluster, namespace, stage) (increase(plora_heartbeat_failures_total{@}[30m])) > 1",
        5,
        Severity.WARNING,
        "The heartbeat fails at {{ $labels.stage }} in {{ $labels.namespace }}",
        "{{ $value | humanize }} times in half an hour.",
    ),
    Alert(
        "PloraTrainerDown",
        f"max {EACH} (plora_trainer_up{{@}}) == 0",
        5,
        Severity.CRITICAL,
        "No trainer answers in {{ $labels.namespace }}",
        "Events are recorded and wait; adapters grow old; predictions fail.",
        "training",
    ),
    Alert(
        "PloraTrainerRestarts",
        f"sum {EACH} (increase(plora_trainer_restarts_total{{@}}[1h])) > 3",
        0,
        Severity.WARNING,
        "The trainer does not stay up in {{ $labels.namespace }}",
        "It was started again {{ $value | humanize }} times in an hour.",
        "training",
    ),
    Alert(
        "PloraLeasesLost",
        f"sum {EACH} (increase(plora_leases_lost_total{{@}}[15m])) > 10",
        0,
        Severity.WARNING,
        "Leases run out in {{ $labels.namespace }}",
        "{{ $value | humanize }} in 15 minutes: daemons or trainers die in the middle of runs, or runs take "
        "longer than their lease is renewed.",
        "training",
    ),
    Alert(
        "PloraStaleWritesRefused",
        f"sum {EACH} (increase(plora_fence_rejections_total{{@}}[15m])) > 5",
        0,
        Severity.WARNING,
        "Writes of lost claims arrive in {{ $labels.namespace }}",
        "{{ $value | humanize }} in 15 minutes. They were refused, and nothing is wrong with what is stored; but "
        "somebody works on who was taken for dead.",
        "training",
    ),
    Alert(
        "PloraTrainersAtMost",
        f"sum {EACH} (max by (cluster, namespace, deployment) "
        f'(ray_serve_autoscaling_desired_replicas{{application="trainer",@}}))'
        f" > sum {EACH} (max by (cluster, namespace, deployment) "
        f'(ray_serve_autoscaling_target_replicas{{application="trainer",@}}))'
        f" and on (cluster, namespace) max {EACH} (min_over_time(plora_queue_depth{{@}}[15m])) > 0",
        30,
        Severity.WARNING,
        "All trainers are in use in {{ $labels.namespace }}, and runs wait",
        "The load wants {{ $value }} replicas, more than it may have. Adapters come later than they could.",
        "ray",
    ),
    Alert(
        "PloraUsersHarmed",
        f"max {EACH} (plora_harmed_ratio{{@}}) > 0.2",
        HOURS,
        Severity.WARNING,
        "Adapters in use may harm users in {{ $labels.namespace }}",
        "The mean chance that the generic model would serve a user better is {{ $value | humanizePercentage }}.",
        "quality",
    ),
    Alert(
        "PloraQualityFalls",
        f"max {EACH} (plora_population_gain_nats{{@}}) < 0"
        f" or (max {EACH} (plora_population_gain_nats{{@}}) < 0.5 * max {EACH} "
        f"(max_over_time(plora_population_gain_nats{{@}}[1d]))"
        f" and max {EACH} (max_over_time(plora_population_gain_nats{{@}}[1d])) > 0.01)",
        HOURS,
        Severity.WARNING,
        "Adapters are worth less than a day ago in {{ $labels.namespace }}",
        "Users served gain {{ $value | humanize }} nats for each example: below 0, or less than half of the best "
        "of the last day.",
        "quality",
    ),
    Alert(
        "PloraAdaptersRolledBack",
        f'sum {EACH} (increase(plora_versions_total{{decision="rolled_back",@}}[1h]))'
        f' / sum {EACH} (increase(plora_versions_total{{decision="promoted",@}}[1h])) > 0.1'
        f' and sum {EACH} (increase(plora_versions_total{{decision="rolled_back",@}}[1h])) > 5',
        15,
        Severity.WARNING,
        "Many adapters are rolled back in {{ $labels.namespace }}",
        "For each promoted version of the last hour {{ $value | humanize }} were rolled back, because they lost "
        "to the generic model.",
        "quality",
    ),
)
