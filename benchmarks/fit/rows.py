"""One line of fit.json: a mode on one data set with so many examples for each user, in one run of the benchmark."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """None means that the figure does not exist for this mode, never that it was lost.

    Times are medians over rounds; `ratio_to_peft` and `ratio_to_adam` are medians of ratios within a round (above 1:
    more users a second). `nll` is the mean over users of each user's mean held-out negative log-likelihood in nats;
    `delta_adam` is this mode's minus Adam's on the same users and the same Basis. The intervals are 95 %.

    `passes` counts a forward and a backward-to-input over each of the user's examples as 1, a forward alone as 0.5.
    `fraction_of_limit` is bare seconds over ours: the blocks below the Basis's first target once forward, and each
    pass over the others. `fraction_of_full_limit` takes every pass over the whole model instead.

    `distinct_texts` is the number of different texts in a round over the number of its examples: equal
    texts may share the blocks below a Basis's first target.
    """

    part: str
    mode: str
    users: int
    examples_per_user: int
    dataset: str = ""
    basis: str = ""
    precision: str = "fp32"
    examples_mean: float | None = None
    tokens_per_user: float | None = None
    distinct_texts: float | None = None
    users_per_s: float | None = None
    seconds_per_user: float | None = None
    wall_s_per_user: float | None = None
    cpu_s_per_user: float | None = None
    rounds: int = 1
    ratio_to_peft: float | None = None
    ratio_to_adam: float | None = None
    passes: float | None = None
    nll: float | None = None
    nll_low: float | None = None
    nll_high: float | None = None
    delta_adam: float | None = None
    delta_adam_low: float | None = None
    delta_adam_high: float | None = None
    peak_mb: float | None = None
    fraction_of_limit: float | None = None
    fraction_of_full_limit: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, str | int | float | None]:
        """Ready for JSON, every field present."""
        return asdict(self)
