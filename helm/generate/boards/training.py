"""Training: how fast users are fitted, what limits it, and what waits."""

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
    rate,
    standing,
    stat,
)

_TOKENS = "sum(rate(plora_fit_tokens_total{@}[$__rate_interval]))"
_MEAN_COHORT = (
    "sum(rate(plora_cohort_users_sum{@}[$__rate_interval]))"
    " / (sum(rate(plora_cohort_users_count{@}[$__rate_interval])) > 0)"
)
_LIMIT = "max(plora_base_tokens_per_second{@}) * max(plora_trainer_replicas{@})"

_NOW = Row(
    "Now",
    (
        stat(
            "Trainer",
            "Whether a trainer answers the daemon.",
            "none",
            Query("max(plora_trainer_up{@})", "trainer"),
            base=RED,
            steps=((1, GREEN),),
            words={"0": "down", "1": "up"},
        ),
        stat(
            "Replicas of the trainer",
            "Replicas that a daemon keeps busy at most; board Ray has those that are healthy.",
            "none",
            Query("max(plora_trainer_replicas{@})", "replicas"),
            base=RED,
            steps=((1, BLUE),),
        ),
        stat(
            "Runs that wait",
            "Runs that no trainer has claimed yet.",
            "none",
            Query(standing("plora_queue_depth"), "runs"),
            steps=((1_000, AMBER), (10_000, RED)),
            decimals=0,
        ),
        stat(
            "Users fitted each second",
            "Over the last five minutes.",
            "ops",
            Query("sum(rate(plora_fits_total{@}[5m]))", "users/s"),
            base=BLUE,
            decimals=2,
        ),
        stat(
            "Of the frozen model's pace",
            "Tokens fitted each second over what the frozen model alone reaches: 100 % is the limit.",
            "percentunit",
            Query(f"{_TOKENS} / ({_LIMIT} > 0)", "share"),
            base=BLUE,
            most=1.0,
            decimals=0,
        ),
        stat(
            "Since a run last succeeded",
            "Matters while runs wait.",
            "s",
            Query(f"min({age('plora_last_success_timestamp_seconds')})", "age"),
            steps=((900, AMBER), (3_600, RED)),
            decimals=0,
        ),
    ),
)

_PACE = Row(
    "Pace",
    (
        Panel(
            "Users fitted, by the way taken",
            "`full`: from all examples; `refit`: going on from statistics; `moved`: to another Basis.",
            "ops",
            (Query(rate("plora_fits_total", "mode"), "{{mode}}"),),
            stacked=True,
        ),
        Panel(
            "Tokens each second, beside the frozen model's limit",
            "Tokens that cohorts were fitted on, and what the frozen model alone reaches on all replicas.",
            "short",
            (Query(_TOKENS, "fitted", GREEN), Query(_LIMIT, "limit of the frozen model", RED)),
        ),
        Panel(
            "Passes over each example",
            "Mean passes over a learnt example, by the way taken. More passes for each user cost time on all.",
            "none",
            (
                Query(
                    "sum by (mode) (rate(plora_fit_passes_total{@}[$__rate_interval]))"
                    " / (sum by (mode) (rate(plora_fits_total{@}[$__rate_interval])) > 0)",
                    "{{mode}}",
                ),
            ),
            decimals=1,
        ),
        Panel(
            "Users in a cohort",
            "Users fitted in the same passes. Small cohorts leave a GPU idle.",
            "none",
            (*quantiles("plora_cohort_users")[:2], Query(_MEAN_COHORT, "mean", BLUE)),
        ),
        Panel(
            "Seconds to fit a cohort",
            "As the trainer measured it, without the way there and back.",
            "s",
            quantiles("plora_fit_duration_seconds"),
        ),
        Panel(
            "Seconds of a run, claim to settled",
            "All that a run holds its lease for: reading, fitting, judging, writing.",
            "s",
            quantiles("plora_run_duration_seconds"),
        ),
    ),
)

_HARDWARE = Row(
    "Trainers and their hardware",
    (
        Panel(
            "Use of each GPU",
            "As Ray's node agent reads it from the driver. No data on machines without a GPU.",
            "percent",
            (Query("max by (ip, GpuIndex) (ray_node_gpus_utilization{@})", "{{ip}} GPU {{GpuIndex}}"),),
            most=100.0,
        ),
        Panel(
            "Memory used of each GPU",
            "Share of the GPU's memory. No data on machines without a GPU.",
            "percentunit",
            (
                Query(
                    "max by (ip, GpuIndex) (ray_node_gram_used{@})"
                    " / (max by (ip, GpuIndex) (ray_node_gram_used{@}) + max by (ip, GpuIndex) "
                    "(ray_node_gram_available{@}))",
                    "{{ip}} GPU {{GpuIndex}}",
                ),
            ),
            most=1.0,
            steps=((0.95, RED),),
        ),
        Panel(
            "Replicas, wanted and there",
            "Replicas of the Trainer that Ray Serve wants, and those that are healthy.",
            "none",
            (
                Query(
                    'sum(max by (deployment) (ray_serve_autoscaling_target_replicas{application="trainer",@}))',
                    "wanted",
                    AMBER,
                ),
                Query('sum(ray_serve_deployment_replica_healthy{application="trainer",@})', "healthy", GREEN),
            ),
        ),
        Panel(
            "Runs that wait and that are worked on",
            "Open runs by state.",
            "none",
            (
                Query(standing("plora_queue_depth"), "queued", AMBER),
                Query(standing("plora_runs_in_progress"), "running", BLUE),
            ),
        ),
        Panel(
            "Why runs did not succeed",
            "Runs each second by outcome and the reason's code, successes left out.",
            "ops",
            (
                Query(
                    'sum by (outcome, code) (rate(plora_runs_total{outcome!="succeeded",@}[$__rate_interval])) > 0',
                    "{{outcome}}: {{code}}",
                ),
            ),
        ),
        Panel(
            "Trainers lost",
            "In five minutes: restarts of a supervised trainer, leases that ran out, and writes of the dead that "
            "were refused.",
            "none",
            (
                Query("sum(increase(plora_trainer_restarts_total{@}[5m]))", "trainer started again", AMBER),
                Query("sum(increase(plora_leases_lost_total{@}[5m]))", "leases lost", BLUE),
                Query("sum(increase(plora_fence_rejections_total{@}[5m]))", "stale writes refused", RED),
            ),
        ),
    ),
)

_BASIS = Row(
    "Basis in training",
    (
        Panel(
            "Epochs",
            "Epochs done, and those it has; both 0 while no Basis is trained.",
            "none",
            (Query("max(plora_basis_epoch{@})", "done", BLUE), Query("max(plora_basis_epochs{@})", "to do", GREY)),
        ),
        Panel(
            "Loss",
            "Mean loss of the Basis in training.",
            "none",
            (Query("max(plora_basis_loss_nats{@})", "nats"),),
            least=None,
        ),
        Panel(
            "Examples each second",
            "What the Basis in training learns from.",
            "ops",
            (Query("max(plora_basis_examples_per_second{@})", "examples/s"),),
        ),
    ),
)

TRAINING = Board(
    "training",
    "plora / Training",
    "How fast users are fitted, beside what the frozen model allows, and what holds them up.",
    (_NOW, _PACE, _HARDWARE, _BASIS),
)
