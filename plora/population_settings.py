"""What can be chosen of population training."""

from dataclasses import dataclass
from enum import Enum

from .basis import USUAL_TARGETS
from .errors import InvalidSetting
from .links import Link
from .objective import MutualInformation


class Reach(Enum):
    """Where a classifier's users enter with their content: the task head, the targets as in the paper, or both.

    A causal LM's users always enter at the targets.
    """

    HEAD = "head"
    TARGETS = "targets"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class PopulationSettings:
    """`dimensions` is d without the label bias, which a classifier's users have where `label_bias` says so.

    `head_rate`, `head_prior` and `mixing_prior` are of the task head while it is descended with the rest, where users
    reach it; `Reach.HEAD` then settles it, with priors of its own choice.

    Rates are per step; `personalized_dropout` and `dropout` are probabilities; `last_layers` None means all.

    A step of the optimiser takes `accumulate` micro-batches. With `patience`, the share `held_out` of the examples is
    kept aside, training ends after so many epochs without their loss improving, and the best epoch is what counts.
    Without, which is the default, every example is learned from: the rates fall over `epochs`, which suits few users.

    `window` examples are in memory at once and shuffled together; `kept_bytes` is for what the blocks below the first
    adapted one gave, so that they run once and not in every epoch; a checkpoint is made each `checkpoint_steps` steps.
    """

    targets: tuple[str, ...] = USUAL_TARGETS
    last_layers: int | None = 1
    rank: int = 16
    alpha: float = 32.0
    dimensions: int = 16
    label_bias: bool = True
    reach: Reach = Reach.HEAD
    epochs: int = 3
    shared_rate: float = 5e-4
    user_rate: float = 5e-3
    head_rate: float = 5e-3
    head_prior: float = 300.0
    mixing_prior: float = 3000.0
    weight_decay: float = 0.01
    prior: float = 1.0
    personalized_dropout: float = 0.15
    dropout: float = 0.1
    mutual_information: MutualInformation = MutualInformation.NONE
    mutual_information_weight: float = 0.1
    strangers: int = 1
    seed: int = 0
    link: Link = Link.CATEGORICAL
    accumulate: int = 1
    patience: int | None = None
    held_out: float = 0.1
    window: int = 65_536
    kept_bytes: int = 1 << 30
    checkpoint_steps: int = 256

    def __post_init__(self) -> None:
        for name in ("accumulate", "patience", "window", "checkpoint_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidSetting(name, f"1 or more, not {value}")
        if not 0 < self.held_out < 1:
            raise InvalidSetting("held_out", f"between 0 and 1, not {self.held_out}")
