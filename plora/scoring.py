"""Scoring: what an adapter is worth on examples it has not seen, beside its three controls."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from .adapter import Adapter
from .basemodel import BaseModel
from .basis import Basis, Kind
from .engine import Engine
from .errors import WrongBaseModel, WrongBasis
from .examples import Example, Row, encode_all, row_hits, row_losses
from .fitting import checked
from .passes import Passes, with_room

STRANGERS = 4
"""Wrong-user vectors, drawn once for a Basis from its population's distribution: nobody's, and the same for all."""

SMOOTHING = 2.0
"""Pseudo-examples of the generic model's own label shares in a user's label prior."""

MEMBERS_AT_A_TIME = 64
"""What bounds the memory of scoring."""

CONTROLS = ("generic", "label_prior", "wrong_user", "personal")


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy (share) and mean negative log-likelihood (nats per example)."""

    accuracy: float
    nll: float


@dataclass(frozen=True, slots=True)
class Scores:
    """One user's held-out figures. `gain` is generic minus personal NLL, mean over examples; `gain_se` its error."""

    examples: int
    generic: Score
    label_prior: Score
    wrong_user: Score
    personal: Score
    gain: float
    gain_se: float

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Scores":
        fields = json.loads(text)
        generic, prior, wrong, personal = (Score(**fields[name]) for name in CONTROLS)
        return Scores(fields["examples"], generic, prior, wrong, personal, fields["gain"], fields["gain_se"])


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
    return [_scores(*parts) for parts in zip(*(torch.split(figure, counts) for figure in figures), strict=True)]


def strangers(basis: Basis) -> Tensor:
    """(STRANGERS, d) vectors of nobody: draws from N(prior mean, 1), seeded by the Basis's fingerprint.

    In pairs on both sides of the mean: a few free draws could all share one taste, and would match whoever has it.
    """
    generator = torch.Generator().manual_seed(int(basis.fingerprint[:15], 16))
    away = torch.randn(STRANGERS // 2, basis.spec.dimensions, generator=generator)
    return basis.prior_mean + torch.cat([away, -away])


def prior_shift(generic: Tensor, learned: Sequence[int]) -> Tensor:
    """(labels,) what to add to the generic log-probabilities so that they follow a user's own label shares.

    generic: (n, labels) probabilities on the learned texts; learned: their labels. With the generic mean g and n_y
    examples of label y: log((n_y + SMOOTHING g_y) / (n + SMOOTHING)) - log g_y.
    """
    if len(learned) == 0:
        return torch.zeros(generic.shape[1])
    mean = generic.mean(0).clamp_min(1e-6)
    counts = torch.bincount(torch.tensor(learned), minlength=generic.shape[1])
    return ((counts + SMOOTHING * mean) / (len(learned) + SMOOTHING)).log() - mean.log()


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


def _scores(generic: Tensor, prior: Tensor, wrong: Tensor, personal: Tensor) -> Scores:
    """Each (examples, 2) hits and losses; with no examples every figure is NaN."""
    gains = generic[:, 1] - personal[:, 1]
    n = len(gains)
    error = float(gains.std() / n**0.5) if n > 1 else float("nan")
    means = [Score(float(part[:, 0].mean()), float(part[:, 1].mean())) for part in (generic, prior, wrong, personal)]
    return Scores(n, means[0], means[1], means[2], means[3], float(gains.mean()), error)


def _check(basis: Basis, adapter: Adapter) -> None:
    if adapter.base != basis.base:
        raise WrongBaseModel(adapter.base, basis.base)
    if adapter.basis != basis.fingerprint:
        raise WrongBasis(adapter.basis, basis.fingerprint)
