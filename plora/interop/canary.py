"""The canary: does an engine's answer come from this user's adapter, and from no other?

A probe is a few texts with the answers that the user, others and the generic model give here. An engine that serves
an export is asked the same: its answers must differ from the generic ones (the adapter is applied), be nearer to this
user's than to anybody else's, and agree with them as closely as the engine agrees with us when it serves no adapter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from plora.attachment import attached
from plora.basemodel import BaseModel
from plora.basis import Basis, Kind
from plora.errors import NothingToLearn, WrongShape
from plora.examples import encode_text
from plora.passes import forward
from plora.users import User

from .errors import CanaryFailed, UselessProbe

LEAST_NOISE = 1e-5
"""Nats by which float32 itself may differ between two ways to compute the same."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Token ids of a few texts, and log-probabilities (texts, outputs) that the labels or the next tokens get.

    `others` is (users, texts, outputs), the generic model first; `bare` is the base without Basis or user.
    """

    tokens: tuple[tuple[int, ...], ...] = field(repr=False)
    mine: Tensor = field(repr=False)
    others: Tensor = field(repr=False)
    bare: Tensor = field(repr=False)


@dataclass(frozen=True, slots=True)
class Canary:
    """What was seen, in nats, each the largest difference of a log-probability.

    `applied` is how far the answers are from the generic ones, `nearest_other` from those of the user who comes
    nearest, `off` from this user's own; `allowed` is what the noise explains.
    """

    applied: float
    nearest_other: float
    off: float
    allowed: float


def probe_of(base: BaseModel, basis: Basis, user: User, others: Sequence[User], texts: Sequence[str]) -> Probe:
    """Answer the texts as this user, as the others and as nobody, one text at a time.

    Raises NothingToLearn without texts, and what attaching raises.
    """
    if not texts:
        raise NothingToLearn("a probe needs a text")
    tokens = tuple(encode_text(base, text) for text in texts)
    bare = _answers(base, tokens)
    with attached(base, basis) as live:
        found = []
        for each in (user, None, *others):
            with live.use([each]):
                found.append(_answers(base, tokens))
    return Probe(tokens, found[0], torch.stack(found[1:]), bare)


def noise_of(one: Tensor, other: Tensor) -> float:
    """How far two sets of logits or log-probabilities are apart, in nats: the same engine asked twice without an
    adapter, or an engine without an adapter against `Probe.bare`. Raises WrongShape."""
    if one.shape != other.shape:
        raise WrongShape("answers", tuple(one.shape), tuple(other.shape))
    return _apart(_logs(one), _logs(other))


def canary(probe: Probe, served: Tensor, *, noise: float = 0.0) -> Canary:
    """Check the logits or log-probabilities (texts, outputs) that an engine gives for the probe's tokens.

    Twice the `noise` passes as agreement. Raises CanaryFailed with the check that failed; UselessProbe where the texts
    could not tell the user from another one.
    """
    if served.shape != probe.mine.shape:
        raise WrongShape("answers", tuple(probe.mine.shape), tuple(served.shape))
    answers = _logs(served)
    if not bool(torch.isfinite(answers).all()):
        raise CanaryFailed("finite", float("nan"), 0.0)
    allowed = max(2 * noise, LEAST_NOISE)
    told = min(_apart(probe.mine, other) for other in probe.others)
    if not told > 2 * allowed:
        raise UselessProbe(told, 2 * allowed)
    off, apart = _apart(answers, probe.mine), [_apart(answers, other) for other in probe.others]
    seen = Canary(apart[0], min(apart), off, allowed)
    if not seen.applied > allowed:
        raise CanaryFailed("applied", seen.applied, allowed)
    if not off < seen.nearest_other:
        raise CanaryFailed("right_user", off, seen.nearest_other)
    if not off <= allowed:
        raise CanaryFailed("agrees", off, allowed)
    return seen


@torch.no_grad()
def _answers(base: BaseModel, tokens: Sequence[tuple[int, ...]]) -> Tensor:
    rows = []
    for ids in tokens:
        row = torch.tensor([ids], device=base.device)
        logits = forward(base, row, torch.ones_like(row))[0]
        rows.append(logits if base.kind is Kind.CLASSIFICATION else logits[-1])
    return _logs(torch.stack(rows))


def _logs(answers: Tensor) -> Tensor:
    return answers.detach().cpu().double().log_softmax(-1)


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
