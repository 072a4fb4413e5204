"""Population training: the Basis and its users' vectors, learned together from many users."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from .attachment import Attachment, attach
from .basemodel import BaseModel
from .basis import HEADS, Basis, BasisSpec, Kind, find_targets, fresh_basis
from .checkpoints import Checkpoint
from .descent import Descent, Listeners, Progress
from .errors import WrongCheckpoint
from .layer import PersonalHead
from .links import Link
from .losses import Objective
from .peers import Alone, Peers
from .population_settings import PopulationSettings, Reach
from .settling import settle
from .spectral import SpectralStart
from .whitening import SAMPLE_ROWS, SAMPLE_ROWS_LM, whiten
from .windows import Survey, Users, Windows, survey

__all__ = ["Population", "PopulationSettings", "Progress", "train_population"]

ROWS_ASIDE = 4096
"""Examples kept aside at most, however many users there are."""

MIXING_START = 0.1
"""Length of each user direction of the task head at the start, for features of unit variance."""

FREE = ("kept_bytes", "checkpoint_steps")
"""Settings that do not touch the result, so that a checkpoint need not share them."""


@dataclass(frozen=True, slots=True)
class Population:
    """A trained Basis, the (users, d) vectors it was trained with, and the loss of each epoch.

    `held_out` is the loss of the examples kept aside after each epoch, where `patience` was asked for.
    """

    basis: Basis
    vectors: Tensor = field(repr=False)
    history: tuple[float, ...]
    held_out: tuple[float, ...] = ()


def train_population(
    base: BaseModel,
    population: Users,
    settings: PopulationSettings | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    resume: Checkpoint | None = None,
    peers: Peers | None = None,
) -> Population:
    """Learn A, B, P, the task head and one vector for each user of `population`.

    `population` is read several times, and of its texts only a window is held: a list will do, and so does an object
    that reads users from elsewhere each time it is iterated. The labels are those that occur. With `resume` the result
    is bit for bit that of the training which made the checkpoint. Raises NothingToLearn, TargetsNotFound,
    ChangedPopulation, UnorderedLabels, WrongCheckpoint and MalformedCheckpoint.
    """
    chosen = settings or PopulationSettings()
    found = survey(population, base.kind, chosen.link)
    fresh = _fresh(base, found, chosen)
    identity = _identity(fresh, found, chosen)
    if resume is not None and resume.identity != identity:
        raise WrongCheckpoint(identity, resume.identity)
    windows = Windows(base, fresh, population, found, chosen.window)
    told = Listeners(on_progress or (lambda _: None), on_checkpoint)
    live = attach(base, fresh)
    objective = Objective(base, live, found, chosen)
    try:
        with torch.random.fork_rng([base.device] if base.device.type == "cuda" else []):
            return _train(objective, windows, peers or Alone(), told, (identity, resume))
    finally:
        objective.prefix.close()
        base.module.eval()
        live.detach()


def personal_heads(live: Attachment) -> list[PersonalHead]:
    """The task head, where user vectors reach it."""
    return [module for module in live.module.modules() if isinstance(module, PersonalHead)]


def trained_leaves(live: Attachment) -> list[Tensor]:
    """What all users share, ready to be learned."""
    layers = list(live.layers.values())
    shared: list[Tensor] = [p for layer in layers for p in (layer.A, layer.B)]
    shared += [layer.P for layer in layers if bool(layer.P.any())]  # zeros where users reach the head alone
    shared += [p for name, p in live.module.named_parameters() if name.split(".")[0] in HEADS]
    for parameter in shared:
        parameter.requires_grad_(True)
    content = torch.arange(live.basis.spec.dimensions) >= live.basis.spec.bias
    for layer in layers:  # a label bias reaches no target
        if layer.P.requires_grad:
            _masked(layer.P, content)
    for head in personal_heads(live):
        _masked(head.M, content[:, None, None])
    return shared


def _masked(parameter: Tensor, mask: Tensor) -> None:
    """Its gradient is 0 where `mask` is."""
    parameter.register_hook(lambda gradient: gradient * mask.to(gradient))  # type: ignore[no-untyped-call]


def _fresh(base: BaseModel, found: Survey, settings: PopulationSettings) -> Basis:
    labels = found.labels if base.kind is Kind.CLASSIFICATION else ()
    bias = 0
    if labels and settings.label_bias:
        bias = 1 if settings.link is Link.ORDINAL else len(labels) - 1
    spec = BasisSpec(
        base=base.fingerprint,
        kind=base.kind,
        labels=labels,
        targets=find_targets(base.module, settings.targets, settings.last_layers),
        rank=settings.rank,
        alpha=settings.alpha,
        dimensions=settings.dimensions + bias,
        link=settings.link,
        bias=bias,
        mixing=bool(labels) and settings.reach is not Reach.TARGETS,
    )
    fresh = fresh_basis(base.module, spec, settings.seed)
    if not spec.mixing or settings.reach is not Reach.HEAD:
        return fresh
    return Basis(spec, {n: torch.zeros_like(v) if n.startswith("P.") else v for n, v in fresh.tensors.items()})


def _train(
    objective: Objective, windows: Windows, peers: Peers, told: Listeners, past: tuple[str, Checkpoint | None]
) -> Population:
    settings, live, found = objective.settings, objective.live, objective.survey
    identity, resume = past
    aside = windows.gather(_aside(found, settings))
    if aside:
        users, counts = torch.unique(found.owners(torch.tensor(sorted(aside))), return_counts=True)
        objective.counts[users] -= counts
    start = SpectralStart(objective, peers)
    objective.spread = start.spread(windows)
    if resume is None:
        vectors, mixing = start.vectors(windows, found)
        objective.vectors.data.copy_(vectors)
        for head in personal_heads(live):
            head.M.data.copy_(mixing * (MIXING_START / objective.spread**0.5))
    shared = trained_leaves(live)
    for layer in live.layers.values():
        layer.dropout = settings.dropout
        layer.train()
    descent = Descent(objective, shared, windows=windows, aside=aside, peers=peers)
    if resume is not None:
        descent.resume(resume)
    descent.run(identity, told)
    for layer in live.layers.values():
        layer.eval()
        layer.feature_terms = None
    if settings.reach is Reach.HEAD and personal_heads(live):
        settle(objective, windows)
    return _handed_out(objective, windows, descent)


def _handed_out(objective: Objective, windows: Windows, descent: Descent) -> Population:
    """The Basis in coordinates where the population has unit covariance and the first ones matter most."""
    live, found, settings = objective.live, objective.survey, objective.settings
    rows = SAMPLE_ROWS if live.basis.kind is Kind.CLASSIFICATION else SAMPLE_ROWS_LM
    made = whiten(objective, windows.gather(_drawn(found.total, rows, settings.seed)))
    tensors = {"prior.mean": made.vectors.mean(0), "prior.information": made.information, "prior.fisher": made.fisher}
    with torch.no_grad():
        for name, layer in live.layers.items():
            tensors[f"A.{name}"] = layer.A.detach().cpu().clone()
            tensors[f"B.{name}"] = layer.B.detach().cpu().clone()
            tensors[f"P.{name}"] = layer.P.detach().cpu() @ made.factor
        if live.head is not None:
            tensors |= {f"head.{name}": value.detach().cpu().clone() for name, value in live.head.state_dict().items()}
        for head in personal_heads(live):
            tensors["C"] = head.C.cpu() @ made.factor
            tensors["M"] = torch.einsum("de,dow->eow", made.factor, head.M.detach().cpu())
    standing = descent.standing
    return Population(Basis(live.basis.spec, tensors), made.vectors, standing.history, standing.held_out)


def _aside(found: Survey, settings: PopulationSettings) -> Tensor:
    """Numbers of the rows that only judge: a share of all, but never a user's first."""
    if settings.patience is None:
        return torch.zeros(0, dtype=torch.long)
    firsts = (found.ends - found.counts)[found.counts > 0]
    wanted = min(ROWS_ASIDE, max(1, int(settings.held_out * found.total)))
    drawn = _drawn(found.total, wanted, settings.seed + 1)
    return drawn[~torch.isin(drawn, firsts)]


def _drawn(total: int, wanted: int, seed: int) -> Tensor:
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:wanted]


def _identity(fresh: Basis, found: Survey, settings: PopulationSettings) -> str:
    """What must be the same for a checkpoint to be gone on from. The texts themselves are for the caller to compare."""
    chosen = {each.name: str(getattr(settings, each.name)) for each in fields(settings) if each.name not in FREE}
    digest = hashlib.sha256(fresh.fingerprint.encode())
    digest.update(json.dumps(chosen, sort_keys=True).encode())
    digest.update(found.counts.numpy().astype("<i8").tobytes())
    return digest.hexdigest()
