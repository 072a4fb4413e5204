"""What a daemon answers, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from plora.adapter import Adapter
from plora.lowrank import LowRankAdapter


@dataclass(frozen=True, slots=True)
class Said:
    """What became of one event: `outcome` is stored, duplicate, forgotten, or why it was refused."""

    accepted: bool
    outcome: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """One of the user's own examples, and how far it moved the answer, in nats of the label's log-odds."""

    text: str = field(repr=False)
    label: str = field(repr=False)
    nats: float


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. A held one has no label: a person chooses among `alternatives`, and `Client.correct` tells us.

    `token` is what corrections and outcomes call it. `version` None is the generic model.
    """

    token: str = field(repr=False)
    label: str | None = field(repr=False)
    text: str | None = field(repr=False)
    confidence: float
    probabilities: Mapping[str, float] = field(repr=False)
    version: int | None
    known_user: bool
    held: bool
    hold_reason: str | None = None
    alternatives: tuple[tuple[str, float], ...] = field(default=(), repr=False)
    arm: str | None = None
    reasons: tuple[Reason, ...] = field(default=(), repr=False)
    from_generic: float | None = None

    @property
    def generic(self) -> bool:
        return self.version is None


@dataclass(frozen=True, slots=True)
class Fetched:
    """An adapter as the daemon serves it. `adapter` None: the generic model answers for this user."""

    adapter: Adapter | LowRankAdapter | None = field(repr=False)
    version: int | None
    digest: str = field(repr=False)


GENERIC = Fetched(None, None, "")


def answer_of(told: Mapping[str, Any]) -> Answer:
    """From the JSON of /v1/predict."""
    hold, why = told.get("hold"), told.get("why")
    return Answer(
        token=told["answer"],
        label=told["label"],
        text=told["text"],
        confidence=told["confidence"],
        probabilities=told["probabilities"],
        version=told["version"],
        known_user=told["known_user"],
        held=told["held"],
        hold_reason=hold["reason"] if hold else None,
        alternatives=tuple((each["label"], each["probability"]) for each in hold["alternatives"]) if hold else (),
        arm=told["arm"],
        reasons=tuple(Reason(each["text"], each["label"], each["nats"]) for each in why["moved_by"]) if why else (),
        from_generic=why["from_generic_nats"] if why else None,
    )
