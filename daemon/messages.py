"""What the daemon asks of a Trainer and what it is answered: plain values, encoded as JSON plus one attachment.

The attachment is the one thing that may be large, a Basis; it stays out of the JSON so that no interpreter spends
time on turning megabytes into text.
"""

from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache
from typing import Literal

from pydantic import Base64Bytes, TypeAdapter

from daemon.predict_messages import AdaptersMissing, GenerateRequest, Piece, PredictAnswer, PredictRequest, Refused
from daemon.promises import Kept, Promise

Labelled = tuple[str, str]
"""A text and its target."""


@dataclass(frozen=True, slots=True)
class Member:
    """One run's place in a cohort.

    Every example to learn from is judged by what the others give; `judged` are the places of those that are evidence,
    None: all. Only an optimizer that cannot judge so needs `held_out`. `fresh` are the places, in `learn` followed by
    `held_out`, of what the adapter in use, `current`, has not learnt. With `statistics`, which cover the first
    `covered` examples to learn from and were worth `kept`, a document of scores, only the others are new. `spent` is
    what Kept says of the user's last version, 0 of nobody's. `trace` is a W3C traceparent, of a run that is recorded.
    """

    run: int
    epoch: int
    learn: tuple[Labelled, ...] = field(repr=False)
    held_out: tuple[Labelled, ...] = field(default=(), repr=False)
    judged: tuple[int, ...] | None = None
    fresh: tuple[int, ...] = ()
    current: Base64Bytes | None = field(default=None, repr=False)
    statistics: Base64Bytes | None = field(default=None, repr=False)
    covered: int = 0
    kept: str | None = None
    spent: float | None = 0.0
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class FitRequest:
    """Fit and score a cohort on the Basis with this fingerprint. None leaves a choice to the library.

    With `privacy` every vector is fitted under that promise, and judged on what is held out alone.
    """

    basis: str
    members: tuple[Member, ...] = field(repr=False)
    steps: int | None = None
    learning_rate: float | None = None
    optimizer: str | None = None
    precision: str = "auto"
    privacy: Promise | None = None


class Mode(Enum):
    """How a member was fitted: from all examples, from statistics and the new ones, or from all after the latter."""

    FULL = "full"
    REFIT = "refit"
    MOVED = "moved"


@dataclass(frozen=True, slots=True)
class FreshLoss:
    """The losses, in nats, of one example that the adapter in use has not learnt, nor the candidate as judged here."""

    generic: float
    current: float
    candidate: float


@dataclass(frozen=True, slots=True)
class Offer:
    """An adapter that could serve, and what it is worth: a JSON document of scores, null where there is no number.

    `moved` is how far its answers are from those given now, `from_generic` from the generic model's; None: not known.
    """

    adapter: Base64Bytes = field(repr=False)
    scores: str
    moved: float | None = None
    from_generic: float | None = None


@dataclass(frozen=True, slots=True)
class MemberFitted:
    """What a member could be served: the whole vector, or its label bias alone, where the Basis has one.

    `fresh` are losses of what the adapter in use has not learnt. `unknown_labels` counts examples left out as the Basis
    lacks their label. `passes` counts the frozen model's passes over each example learnt from; `statistics` are for the
    next refit. `privacy` is the promise that was kept.
    """

    run: int
    base: str
    whole: Offer
    label_bias: Offer | None = None
    fresh: tuple[FreshLoss, ...] = ()
    unknown_labels: int = 0
    mode: Mode = Mode.FULL
    passes: float = 0.0
    statistics: Base64Bytes | None = field(default=None, repr=False)
    privacy: Kept | None = None


@dataclass(frozen=True, slots=True)
class MemberFailed:
    """A member that got no adapter, and the short code of why."""

    run: int
    code: str


@dataclass(frozen=True, slots=True)
class FitAnswer:
    """One outcome for each member, in their order, and how long fitting and scoring took.

    `tokens` are those of the examples learnt from, each once; `base_tokens_per_s` what the frozen model alone reaches.
    """

    outcomes: tuple[MemberFitted | MemberFailed, ...]
    fit_s: float
    score_s: float
    tokens: int = 0
    base_tokens_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class BasisRequest:
    """Train a Basis on the population in these shards, which were sent before. None leaves a choice to the library."""

    basis: str
    epoch: int
    shards: tuple[str, ...] = ()
    dimensions: int | None = None
    rank: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    accumulate: int | None = None
    patience: int | None = None
    held_out: float | None = None
    window: int | None = None
    link: Literal["categorical", "ordinal"] = "categorical"


@dataclass(frozen=True, slots=True)
class ShardRequest:
    """Keep the shard of this name at its place in the population of a Basis: one tuple of examples for each User."""

    basis: str
    index: int
    name: str
    users: tuple[tuple[Labelled, ...], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ForgetShards:
    """Forget the population of this Basis: nothing will be made of it."""

    forget: str


@dataclass(frozen=True, slots=True)
class ShardsKept:
    """How many shards the request was about are now held."""

    shards_kept: int


@dataclass(frozen=True, slots=True)
class ShardsMissing:
    """The places of the shards that must be sent before the Basis can be trained."""

    shards_missing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BasisProgress:
    """How far population training has come: `epoch` epochs of `epochs` are done; losses are means in nats."""

    epoch: int
    epochs: int
    loss: float
    held_out: float | None
    examples: int
    examples_per_s: float


@dataclass(frozen=True, slots=True)
class BasisTrained:
    """A new Basis; `content` travels as the attachment. `report` is a JSON document of how training went."""

    fingerprint: str
    base: str
    labels: tuple[str, ...]
    report: str
    content: Base64Bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class BasisMissing:
    """The replica does not hold the Basis: ask again with its bytes attached."""

    missing: str


@dataclass(frozen=True, slots=True)
class WorkFailed:
    """The whole request failed; `failed` is the class name of the error, never its text."""

    failed: str


Request = FitRequest | BasisRequest | ShardRequest | ForgetShards | PredictRequest | GenerateRequest
Answer = (
    FitAnswer
    | BasisTrained
    | ShardsKept
    | ShardsMissing
    | PredictAnswer
    | Piece
    | AdaptersMissing
    | Refused
    | BasisMissing
    | WorkFailed
)


def encode_request(value: Request) -> bytes:
    """The JSON document of `value`."""
    return _requests().dump_json(value)


def decode_request(document: bytes) -> Request:
    """The reverse. Raises ValueError, whose text may quote the document: let it go no further."""
    return _requests().validate_json(document)


def encode_answer(value: Answer) -> tuple[bytes, bytes]:
    """The JSON document of `value` and its attachment."""
    if isinstance(value, BasisTrained):
        return _answers().dump_json(replace(value, content=b"")), value.content
    return _answers().dump_json(value), b""


def decode_answer(document: bytes, attachment: bytes) -> Answer:
    """The reverse. Raises ValueError, whose text may quote the document: let it go no further."""
    value = _answers().validate_json(document)
    return replace(value, content=attachment) if isinstance(value, BasisTrained) else value


def encode_progress(value: BasisProgress) -> bytes:
    """The JSON document of `value`."""
    return _progress().dump_json(value)


def decode_progress(document: bytes) -> BasisProgress:
    """The reverse. Raises ValueError."""
    return _progress().validate_json(document)


@cache
def _progress() -> TypeAdapter[BasisProgress]:
    return TypeAdapter(BasisProgress)


@cache
def _requests() -> TypeAdapter[Request]:
    return TypeAdapter(Request)


@cache
def _answers() -> TypeAdapter[Answer]:
    return TypeAdapter(Answer)
