"""What fitting of low-rank adapters is told and what it gives back."""

import math
from dataclasses import dataclass, field

from .engine import Precision
from .errors import InvalidSetting
from .lowrank import LowRankAdapter


@dataclass(frozen=True, slots=True)
class LowRankSettings:
    """`prior` weighs 1/2 |numbers - start|^2 against the summed loss; the start is an adapter that changes nothing.

    `rate` is Adam's step; a user stops when `patience` steps improved its objective by less than the share `progress`.
    `window` bounds memory: the numbers of all users who are fitted at a time, of which Adam keeps half a dozen copies.
    """

    rank: int = 4
    alpha: float = 8.0
    steps: int = 20
    rate: float = 0.003
    prior: float = 30.0
    precision: Precision = Precision.FP32
    window: int = 1 << 25
    progress: float = 0.003
    patience: int = 3

    def __post_init__(self) -> None:
        if self.rank < 1 or self.steps < 1 or self.patience < 1 or not self.prior >= 0:
            raise InvalidSetting("rank, steps and patience", "1 or more, and prior 0 or more")
        if not math.isfinite(self.alpha) or not self.rate > 0:
            raise InvalidSetting("alpha and rate", "finite, and rate above 0")


@dataclass(frozen=True, slots=True)
class LowRankFitted:
    """A user's adapter, the passes it took over the user's examples, and their mean loss before and after, in nats."""

    adapter: LowRankAdapter = field(repr=False)
    steps: int
    passes: float
    loss_before: float
    loss: float
