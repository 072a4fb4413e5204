"""Groups of settings that are the daemon's own: population training, fitting, and the bounds of the import gate."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class BasisChoices:
    """Population training: who takes part and how the Basis is made. None leaves a choice to the library.

    A step of the optimiser takes `accumulate` micro-batches, at least one for each of the `workers`, the processes that
    train together. With `patience`, the share `held_out` of the examples is kept aside, and training ends after so many
    epochs in which they were predicted no better. `window` examples are in a Trainer's memory at once. The population
    travels in shards of about `shard_bytes`. `link` ordinal is for labels that are numbers in an order, such as stars.
    """

    min_users: int = 8
    max_users: int = 2_000
    dim: int | None = None
    rank: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    accumulate: int | None = None
    patience: int | None = None
    held_out: float | None = None
    window: int | None = None
    link: Literal["categorical", "ordinal"] = "categorical"
    workers: int = 1
    shard_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class FitChoices:
    """How large a cohort may be and how it is fitted. None and "auto" leave a choice to the library.

    With `epsilon` every vector is fitted under (epsilon, delta) differential privacy for each of its examples, none of
    which pulls harder than `clip`; a third of the examples is then held out to judge it. See docs/privacy.md.
    """

    max_users: int = 256
    token_budget: int = 262_144
    optimizer: Literal["auto", "newton", "adam"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    steps: int | None = None
    learning_rate: float | None = None  # of adam
    epsilon: float | None = None
    delta: float = 1e-5
    clip: float = 1.0

    @property
    def divides(self) -> bool:
        """Whether a vector is judged on examples that are held out from it, and not on each by what the others give."""
        return self.optimizer == "adam" or self.epsilon is not None


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large any number of an adapter or a Basis may be, and the spectral norm of what a Basis adds to a matrix."""

    most: float = 1e4
    most_norm: float = 1e4
