"""What the daemon asks of a Predictor replica and what it is answered: plain values, like those of `messages`.

An adapter is named by User, version and the digest of its sealed row, and travels only where a replica may lack it.
Whoever is named in a request was looked up for that request: a replica keeps nothing that nobody names any more.
"""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import Base64Bytes

Labelled = tuple[str, str]
"""A text and its target."""


@dataclass(frozen=True, slots=True)
class Named:
    """One AdapterVersion: the daemon's own id of the User, the version, and the digest that the store has of it."""

    user: str
    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class Carried:
    """An adapter's bytes, for a replica that may not hold it."""

    name: Named
    content: Base64Bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One text to answer, as the User of this adapter or as the generic model.

    With `taught`, the examples the adapter was fitted on, the answer says which of them moved it.
    """

    text: str = field(repr=False)
    adapter: Named | None = None
    taught: tuple[Labelled, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """Answer every row on the Basis with this fingerprint. `most_tokens` bounds the text a causal LM may write."""

    basis: str
    rows: tuple[Row, ...] = field(repr=False)
    adapters: tuple[Carried, ...] = field(default=(), repr=False)
    most_tokens: int = 32


@dataclass(frozen=True, slots=True)
class Moved:
    """How much one taught example, by its place in `taught`, moved an answer: nats of the answered label's log-odds."""

    example: int
    nats: float


@dataclass(frozen=True, slots=True)
class Why:
    """What moved an answer, largest first, and how far it is from the generic model's: KL divergence in nats."""

    moved: tuple[Moved, ...]
    from_generic: float
    generic_label: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A label or a text, how sure the model is of it, and for a classifier the probability of every label."""

    label: str | None = field(repr=False)
    text: str | None = field(repr=False)
    confidence: float
    probabilities: dict[str, float] = field(repr=False)
    why: Why | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PredictAnswer:
    """One prediction for each row, in their order."""

    predictions: tuple[Prediction, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: str
    content: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How text is drawn. `temperature` 0 is greedy. The same seed gives the same text on the same machine."""

    most_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """Continue one prompt, or answer one conversation by the model's chat template, as the User of this adapter."""

    basis: str
    prompt: str | tuple[Turn, ...] = field(repr=False)
    adapter: Named | None = None
    adapters: tuple[Carried, ...] = field(default=(), repr=False)
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of the text that is being written. The last piece says why it ended, and counts tokens."""

    text: str = field(repr=False)
    finish: Literal["stop", "length"] | None = None
    prompt_tokens: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class AdaptersMissing:
    """The replica does not hold these adapters, by their digests: ask again with their bytes."""

    adapters_missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The request is one that no replica can serve; `refused` is a stable code, such as `no_chat_template`."""

    refused: Literal["no_chat_template", "not_a_language_model", "prompt_too_long", "wrong_adapter", "wrong_messages"]
