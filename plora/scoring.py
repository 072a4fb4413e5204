"""Scoring: what an adapter is worth on examples it has not seen, beside its three controls."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .adapter import Adapter
from .basemodel import BaseModel
from .basis import Basis, Kind
from .controls import prior_shift, strangers
from .engine import Engine
from .errors import WrongBaseModel, WrongBasis
from .examples import Example, Row, encode_all, row_hits, row_losses
from .fitting import checked
from .passes import Passes, with_room
from .scores import Score, Scores, scores_of

__all__ = ["Judged", "Score", "Scores", "score"]

MEMBERS_AT_A_TIME = 64
"""What bounds the memory of scoring."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What is to be scored: an adapter, the examples it learned from, and those it has not seen."""

    adapter: Adapter = field(repr=False)
    learned: Sequence[Example] = field(repr=False)
    held_out: Sequence[Example] = field(repr=False)


def score(base: BaseModel, basis: Basis, cohort: Sequence[Judged], *, engine: Engine | None = None) -> list[Scores]:
    """Scores for each member, in common passes; no member's figures depend on another's data.

    The label prior is the generic model with its label shares moved to the user's smoothed ones (learned examples
    only); for a causal LM, which has no labels, it is the generic model. An `engine` made before for this Basis saves
    making one. Raises WrongBasis, WrongBaseModel, UnknownLabel.
    """
    for member in cohort:
        _check(basis, member.adapter)
    made = checked(engine, basis) or Engine(base, basis)
    found: list[Scores] = []
    for start in range(0, len(cohort), MEMBERS_AT_A_TIME):
        found += _score(made, cohort[start : start + MEMBERS_AT_A_TIME])
    return found


def _score(engine: Engine, cohort: Sequence[Judged]) -> list[Scores]:
    base, basis = engine.base, engine.basis
    held = [encode_all(base, basis, member.held_out) for member in cohort]
    learned = [encode_all(base, basis, member.learned) for member in cohort]
    figures = with_room(engine, [*held, *learned], lambda run, _: _figures(basis, run, cohort, held, learned))
    counts = [len(part) for part in held]
    return [scores_of(*parts) for parts in zip(*(torch.split(figure, counts) for figure in figures), strict=True)]


def _figures(
    basis: Basis, run: Passes, cohort: Sequence[Judged], held: Sequence[list[Row]], learned: Sequence[list[Row]]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(held-out rows, 2) hits and losses of generic, label prior, wrong user (mean of strangers) and personal."""
    total = sum(len(part) for part in held)
    unseen = torch.arange(run.count) < total
    if total == 0:
        nothing = torch.zeros(0, 2)
        return nothing, nothing, nothing, nothing
    own = torch.zeros(run.count, basis.spec.dimensions)
    own[:total] = torch.cat([m.adapter.vector.expand(len(part), -1) for m, part in zip(cohort, held, strict=True)])
    personal = run.each(own, _hits_and_losses, unseen)[:total]
    wrong = [run.alike(vector, _hits_and_losses, unseen)[:total] for vector in strangers(basis)]
    if basis.kind is not Kind.CLASSIFICATION:
        generic = run.alike(None, _hits_and_losses, unseen)[:total]
        return generic, generic, torch.stack(wrong).mean(0), personal
    everything = torch.ones(run.count, dtype=torch.bool)
    logits = run.alike(None, lambda found, _: found, everything)
    generic = _hits_and_losses(logits[:total], run.targets[:total])
    return generic, _label_prior(logits.log_softmax(-1), held, learned), torch.stack(wrong).mean(0), personal


def _hits_and_losses(logits: Tensor, targets: Tensor) -> Tensor:
    logits = logits.float()
    return torch.stack([row_hits(logits, targets), row_losses(logits, targets)], dim=1)


def _label_prior(chances: Tensor, held: Sequence[list[Row]], learned: Sequence[list[Row]]) -> Tensor:
    """chances: (rows, labels) generic log-probabilities, the held-out rows of all members first."""
    total = sum(len(part) for part in held)
    held_parts = torch.split(chances[:total], [len(part) for part in held])
    learned_parts = torch.split(chances[total:], [len(part) for part in learned])
    found = []
    for unseen, rows, seen, examples in zip(held_parts, held, learned_parts, learned, strict=True):
        shifted = unseen + prior_shift(seen.exp(), [row.target for row in examples])
        found.append(_hits_and_losses(shifted, torch.tensor([row.target for row in rows], dtype=torch.long)))
    return torch.cat(found)


def _check(basis: Basis, adapter: Adapter) -> None:
    if adapter.base != basis.base:
        raise WrongBaseModel(adapter.base, basis.base)
    if adapter.basis != basis.fingerprint:
        raise WrongBasis(adapter.basis, basis.fingerprint)
