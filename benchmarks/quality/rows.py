"""One line of quality.json: a method on one data set in one part, over all its seeds."""

from dataclasses import asdict, dataclass

MEASURES = ("accuracy", "macro_f1", "rmse", "nll", "ece")
DELTAS = ("delta_nll", "delta_prior", "delta_ours")


@dataclass(frozen=True, slots=True)
class Row:
    """A measure is the mean over users of the user's mean over seeds, with a 95 % bootstrap interval over users.

    None means that there is no such figure. `shots` -1 is all of a user's rows, `learned` the mean number of them.
    `delta_nll` is this method's NLL less generic's on the same users, `delta_prior` less the label prior's and
    `delta_ours` less ours: below 0 is better than they are. `win`, `tie` and `loss` are shares of users; a difference
    from generic within 1.96 standard errors of a user's paired test differences, or 0.001 nats, is a tie.
    `harmed_share` is the loss share, whoever is served what; `promoted_share` is of those served an adapter of their
    own, and `gain_promoted` generic's NLL less theirs.
    """

    dataset: str
    regime: str
    shots: int
    method: str
    users: int
    seeds: int
    learned: float
    tests: float
    seconds_per_user: float
    bytes_per_user: float
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    macro_f1: float | None = None
    macro_f1_low: float | None = None
    macro_f1_high: float | None = None
    rmse: float | None = None
    rmse_low: float | None = None
    rmse_high: float | None = None
    nll: float | None = None
    nll_low: float | None = None
    nll_high: float | None = None
    ece: float | None = None
    ece_low: float | None = None
    ece_high: float | None = None
    delta_nll: float | None = None
    delta_nll_low: float | None = None
    delta_nll_high: float | None = None
    delta_prior: float | None = None
    delta_prior_low: float | None = None
    delta_prior_high: float | None = None
    delta_ours: float | None = None
    delta_ours_low: float | None = None
    delta_ours_high: float | None = None
    win: float | None = None
    tie: float | None = None
    loss: float | None = None
    harmed_share: float | None = None
    harmed_share_low: float | None = None
    harmed_share_high: float | None = None
    promoted_share: float | None = None
    promoted_share_low: float | None = None
    promoted_share_high: float | None = None
    gain_promoted: float | None = None
    gain_promoted_low: float | None = None
    gain_promoted_high: float | None = None

    def to_dict(self) -> dict[str, str | int | float | None]:
        """Ready for JSON, every field present."""
        return asdict(self)
