"""What fitting is told and what it gives back."""

from dataclasses import dataclass, field
from enum import Enum

from .adapter import Adapter
from .engine import Precision
from .errors import InvalidSetting
from .privacy import Privacy
from .scores import Scores
from .statistics import Statistics


class Optimizer(Enum):
    """How a vector is fitted: by Gauss-Newton in one or two passes, or by Adam in a dozen."""

    NEWTON = "newton"
    ADAM = "adam"


STEPS = {Optimizer.NEWTON: 1, Optimizer.ADAM: 12}


@dataclass(frozen=True, slots=True)
class FitSettings:
    """`prior` weighs 1/2 |p - mean|^2 against the summed loss; `steps` None is the optimizer's own number.

    A Newton fit looks again only where the losses it foresaw miss the true ones by over `tolerance` nats per example.
    `directions` is how many coordinates of the vector a causal LM is fitted in; a Basis has the leading ones first.

    `rate` is Adam's step in prior standard deviations; a user stops when `patience` steps improved its objective by
    less than the share `progress`.

    With `privacy` the vector is fitted by noised looks instead, and comes with no figure of its examples: nothing of
    them may be told beside it (plora/noised.py).
    """

    optimizer: Optimizer = Optimizer.NEWTON
    steps: int | None = None
    prior: float = 1.0
    precision: Precision = Precision.FP32
    tolerance: float = 0.05
    directions: int = 8
    rate: float = 0.3
    progress: float = 0.003
    patience: int = 3
    privacy: Privacy | None = None

    def __post_init__(self) -> None:
        if self.most_steps < 1 or self.directions < 1:
            raise InvalidSetting("steps and directions", "1 or more")
        if not 0 <= self.prior < float("inf"):
            raise InvalidSetting("prior", "a number from 0")
        if self.privacy is not None and self.optimizer is not Optimizer.NEWTON:
            raise InvalidSetting("privacy", "None with an optimizer: it has one of its own")

    @property
    def most_steps(self) -> int:
        return STEPS[self.optimizer] if self.steps is None else self.steps


class FitFailure(Enum):
    """Why a user's fit gave no adapter."""

    NO_EXAMPLES = "no_examples"
    UNKNOWN_LABEL = "unknown_label"
    NOT_FINITE = "not_finite"
    WRONG_BASIS = "wrong_basis"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An adapter, and what it is worth on the user's examples, each judged by what the others gave."""

    adapter: Adapter = field(repr=False)
    left_out: Scores


@dataclass(frozen=True, slots=True)
class Fitted:
    """A user's adapter, the passes it took over the user's examples, and their mean loss before and after, in nats.

    One forward and one backward is one pass. A Newton fit says what each example would have cost had it not been
    learned from: `left_out` of the whole vector, `bias` of its label bias alone, where the Basis has one, and every
    example's loss beside the generic model's, in nats. Statistics come only with a fit whose move was not shortened,
    since only such a one can be continued. A fit with privacy has an adapter alone: its losses are NaN.
    """

    adapter: Adapter = field(repr=False)
    steps: int
    passes: float
    loss_before: float
    loss: float
    left_out: Scores | None = None
    left_out_losses: tuple[float, ...] = field(default=(), repr=False)
    generic_losses: tuple[float, ...] = field(default=(), repr=False)
    bias: Candidate | None = None
    statistics: Statistics | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class FitFailed:
    """This user's fit gave nothing; the others' are untouched."""

    reason: FitFailure
