"""BasisSpec: the shape of a Basis, known without torch, so that files can be looked at where no model is."""

from dataclasses import dataclass
from enum import Enum

from .errors import WrongShape


class Kind(Enum):
    """What a model answers with."""

    CLASSIFICATION = "classification"
    CAUSAL_LM = "causal-lm"


class Link(Enum):
    """How a classifier's head scores labels: each on its own, or all of them from one number (ordered labels)."""

    CATEGORICAL = "categorical"
    ORDINAL = "ordinal"


@dataclass(frozen=True, slots=True)
class BasisSpec:
    """The shape of a Basis. `targets` are full module names; `dimensions` is d, the length of a user vector.

    The vector's first `bias` coordinates are the user's label bias: they move the answer whatever the text. The others
    are its content, which reaches the targets and, with `mixing`, the task head's weights.
    """

    base: str
    kind: Kind
    labels: tuple[str, ...]
    targets: tuple[str, ...]
    rank: int = 16
    alpha: float = 32.0
    dimensions: int = 16
    link: Link = Link.CATEGORICAL
    bias: int = 0
    mixing: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1 or self.dimensions < 1 or self.dimensions > 4096:
            raise WrongShape("rank and dimensions", (1, 4096), (self.rank, self.dimensions))
        if not 0 <= self.bias < self.dimensions:
            raise WrongShape("bias", (0, self.dimensions - 1), (self.bias,))
        if self.kind is not Kind.CLASSIFICATION and (self.bias or self.mixing):
            raise WrongShape("bias and mixing of a causal LM", (0, 0), (self.bias, int(self.mixing)))

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @property
    def personal_head(self) -> bool:
        """Whether user vectors reach the task head."""
        return bool(self.bias) or self.mixing

    @property
    def outputs(self) -> int:
        """How many numbers the head gives: one for ordered labels, else one for each label."""
        return 1 if self.link is Link.ORDINAL else len(self.labels)
