"""Quality: what adapters are worth, why others were refused, and whom they may harm."""

from helm.generate.boards.panels import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    RED,
    Board,
    Kind,
    Panel,
    Query,
    Row,
    quantile,
    rate,
    standing,
    stat,
)

_GAIN = "plora_gain_over_generic_nats"


def _share(decision: str) -> str:
    return (
        f'sum(increase(plora_versions_total{{decision="{decision}",@}}[1h]))'
        ' / (sum(increase(plora_versions_total{decision=~"promoted|rejected",@}[1h])) > 0)'
    )


_NOW = Row(
    "Now",
    (
        stat(
            "Gain of users served, nats",
            "Mean nats for each example that users served now believably gain over the generic model.",
            "none",
            Query("max(plora_population_gain_nats{@})", "nats"),
            base=RED,
            steps=((0.0, AMBER), (0.01, GREEN)),
            decimals=3,
            width=6,
            least=None,
        ),
        stat(
            "Users harmed, estimated",
            "Mean chance that the generic model would serve a user better than the adapter in use.",
            "percentunit",
            Query("max(plora_harmed_ratio{@})", "chance"),
            steps=((0.1, AMBER), (0.2, RED)),
            decimals=1,
            width=6,
        ),
        stat(
            "Promoted, of those judged in the last hour",
            "The others stay on what they had. A low share alone is no fault: the bar keeps users from harm.",
            "percentunit",
            Query(_share("promoted"), "share"),
            base=BLUE,
            decimals=0,
            width=6,
        ),
        stat(
            "Rolled back, beside those promoted",
            "In the last hour: adapters in use that lost to the generic model on examples that came since.",
            "percentunit",
            Query(
                'sum(increase(plora_versions_total{decision="rolled_back",@}[1h]))'
                ' / (sum(increase(plora_versions_total{decision="promoted",@}[1h])) > 0)',
                "share",
            ),
            steps=((0.03, AMBER), (0.1, RED)),
            decimals=1,
            width=6,
        ),
    ),
)

_WORTH = Row(
    "What adapters are worth",
    (
        Panel(
            "Gain over the generic model, users served",
            "Mean nats for each example, over the newest versions; below 0 users would be better off without.",
            "none",
            (Query("max by (namespace) (plora_population_gain_nats{@})", "{{namespace}}"),),
            width=8,
            least=None,
            decimals=3,
            steps=((0.0, RED),),
        ),
        Panel(
            "Gain over the generic model, as judged",
            "Of vectors judged, also those refused: nats for each unseen example.",
            "none",
            tuple(
                Query(quantile(q, _GAIN), name, colour)
                for q, name, colour in (
                    (0.9, "best tenth above", GREEN),
                    (0.5, "half above", BLUE),
                    (0.1, "worst tenth below", RED),
                )
            ),
            least=None,
            decimals=2,
        ),
        Panel(
            "Estimate of users harmed",
            "Mean chance that generic would serve a user better; what the promotion bar keeps low.",
            "percentunit",
            (Query("max by (namespace) (plora_harmed_ratio{@})", "{{namespace}}"),),
            steps=((0.2, RED),),
        ),
    ),
)

_DECISIONS = Row(
    "Decisions",
    (
        Panel(
            "Versions, by decision",
            "Each second: promoted to current, rejected, rolled back to what was before.",
            "ops",
            tuple(
                Query(f'sum(rate(plora_versions_total{{decision="{name}",@}}[$__rate_interval]))', name, colour)
                for name, colour in (("promoted", GREEN), ("rejected", GREY), ("rolled_back", RED))
            ),
            stacked=True,
        ),
        Panel(
            "Why, in the last hour",
            "Judged runs by the reason's code.",
            "none",
            (
                Query(
                    'sort_desc(sum by (code) (increase(plora_runs_total{outcome="succeeded",@}[1h])) > 0)', "{{code}}"
                ),
            ),
            kind=Kind.BARS,
            base=BLUE,
            decimals=0,
        ),
        Panel(
            "Promoted, by the part of the vector served",
            "`whole`: the vector; `label_bias`: only what it adds to the labels.",
            "ops",
            (Query(rate("plora_promotions_total", "part"), "{{part}}"),),
            stacked=True,
        ),
    ),
)

_ANSWERS = Row(
    "Answers",
    (
        Panel(
            "Held answers",
            "Of answers by label, those too unsure to be given: a person is to choose. PLORA_HOLD_* set the bar.",
            "percentunit",
            (
                Query(
                    'sum by (namespace) (rate(plora_predictions_total{kind="held",@}[$__rate_interval]))'
                    ' / (sum by (namespace) (rate(plora_predictions_total{kind=~"personal|generic|held",@}'
                    "[$__rate_interval])) > 0)",
                    "{{namespace}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Corrections, by what became of them",
            "Each second: what people said would have been right.",
            "ops",
            (
                Query(
                    'sum by (outcome) (rate(plora_events_received_total{type="correction",@}[$__rate_interval]))',
                    "{{outcome}}",
                ),
            ),
            width=12,
            stacked=True,
        ),
    ),
)

_DRIFT = Row(
    "Drift",
    (
        Panel(
            "Looks at what came since the version in use",
            "`drifted`: worse than promised, so it is learnt anew; `rolled_back`: worse than the generic model.",
            "ops",
            tuple(
                Query(f'sum(rate(plora_drift_total{{state="{name}",@}}[$__rate_interval]))', name, colour)
                for name, colour in (("steady", GREEN), ("drifted", AMBER), ("rolled_back", RED))
            ),
            stacked=True,
        ),
        Panel(
            "How far a promoted version moves answers",
            "Divergence in nats from the answers given before. Large moves are refused as `moved_too_far`.",
            "none",
            tuple(
                Query(quantile(q, "plora_moved_nats"), name, colour)
                for q, name, colour in ((0.5, "half within", GREEN), (0.95, "95 % within", AMBER))
            ),
            logarithmic=True,
            least=None,
        ),
        Panel(
            "Users served by their own adapter",
            "All others are served by the generic model.",
            "short",
            (
                Query(standing("plora_users"), "known", GREY),
                Query(standing("plora_current_adapters"), "served by their own adapter", GREEN),
            ),
        ),
    ),
)

QUALITY = Board(
    "quality",
    "plora / Quality",
    "What adapters are worth to those they serve, why others were refused, and whom they may harm.",
    (_NOW, _WORTH, _DECISIONS, _ANSWERS, _DRIFT),
)
