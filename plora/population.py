"""Population training: the Basis and its users' vectors, learned together from many users."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .attachment import Attachment, attach
from .basemodel import BaseModel
from .basis import HEADS, USUAL_TARGETS, Basis, BasisSpec, Kind, find_targets, fresh_basis
from .errors import NothingToLearn
from .examples import Example, MicroBatch, Row, encode, micro_batches, row_losses
from .objective import MutualInformation, consistency_term, feature_term, infomax_term, personalized_dropout
from .passes import forward
from .spectral import spectral_start


@dataclass(frozen=True, slots=True)
class PopulationSettings:
    """Rates are per step; `personalized_dropout` and `dropout` are probabilities; `last_layers` None means all."""

    targets: tuple[str, ...] = USUAL_TARGETS
    last_layers: int | None = 2
    rank: int = 16
    alpha: float = 32.0
    dimensions: int = 16
    epochs: int = 7
    shared_rate: float = 2e-3
    user_rate: float = 5e-3
    prior: float = 1.0
    personalized_dropout: float = 0.15
    dropout: float = 0.1
    mutual_information: MutualInformation = MutualInformation.NONE
    mutual_information_weight: float = 0.1
    strangers: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far population training has come; `loss` is the epoch's mean in nats."""

    epoch: int
    epochs: int
    loss: float


@dataclass(frozen=True, slots=True)
class Population:
    """A trained Basis, the (users, d) vectors it was trained with, and the loss of each epoch."""

    basis: Basis
    vectors: Tensor = field(repr=False)
    history: tuple[float, ...]


def train_population(
    base: BaseModel,
    population: Sequence[Sequence[Example]],
    settings: PopulationSettings | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Population:
    """Learn A, B, P, the task head and one vector for each user of `population`.

    The labels are those that occur. Raises NothingToLearn and TargetsNotFound.
    """
    chosen = settings or PopulationSettings()
    fresh = _fresh(base, population, chosen)
    live = attach(base, fresh)
    try:
        with torch.random.fork_rng([base.device] if base.device.type == "cuda" else []):
            torch.manual_seed(chosen.seed)  # the layers' dropout draws from torch's own generators
            return _Training(base, live, population, chosen).run(on_progress)
    finally:
        base.module.eval()
        live.detach()


def _fresh(base: BaseModel, population: Sequence[Sequence[Example]], settings: PopulationSettings) -> Basis:
    labels = sorted({example.target for user in population for example in user})
    if not labels:
        raise NothingToLearn("the population has no examples")
    if base.kind is Kind.CLASSIFICATION and len(labels) < 2:
        raise NothingToLearn("all examples have the same label")
    spec = BasisSpec(
        base=base.fingerprint,
        kind=base.kind,
        labels=tuple(labels) if base.kind is Kind.CLASSIFICATION else (),
        targets=find_targets(base.module, settings.targets, settings.last_layers),
        rank=settings.rank,
        alpha=settings.alpha,
        dimensions=settings.dimensions,
    )
    return fresh_basis(base.module, spec, settings.seed)


class _Training:
    def __init__(
        self, base: BaseModel, live: Attachment, population: Sequence[Sequence[Example]], settings: PopulationSettings
    ) -> None:
        self.base, self.live, self.settings = base, live, settings
        self.rows: list[Row] = []
        self.owner: list[int] = []
        for user, examples in enumerate(population):
            self.rows += [encode(base, live.basis, example) for example in examples]
            self.owner += [user] * len(examples)
        self.counts = torch.tensor([float(max(1, len(examples))) for examples in population])
        self.generator = torch.Generator().manual_seed(settings.seed)
        start = spectral_start(base, self.rows, self.owner, len(population), settings.dimensions)
        self.vectors = start.requires_grad_()
        self.shared = [p for layer in live.layers.values() for p in (layer.A, layer.B, layer.P)]
        self.shared += [p for name, p in live.module.named_parameters() if name.split(".")[0] in HEADS]
        for parameter in self.shared:
            parameter.requires_grad_(True)
        for layer in live.layers.values():
            layer.dropout = settings.dropout
            layer.train()

    def run(self, on_progress: Callable[[Progress], None] | None) -> Population:
        settings, history = self.settings, []
        optimizer = torch.optim.AdamW(
            [
                {"params": self.shared, "lr": settings.shared_rate},
                {"params": [self.vectors], "lr": settings.user_rate, "weight_decay": 0.0},
            ]
        )
        for epoch in range(settings.epochs):
            for group, rate in zip(optimizer.param_groups, (settings.shared_rate, settings.user_rate), strict=True):
                group["lr"] = rate * max(0.1, 1 - epoch / settings.epochs)
            total = 0.0
            for batch in self._shuffled(epoch):
                optimizer.zero_grad()
                loss, examples_loss = self._loss(batch)
                torch.autograd.backward(loss)
                torch.nn.utils.clip_grad_norm_(self.shared, 1.0)
                optimizer.step()
                total += float(examples_loss) * len(batch.index)
            history.append(total / len(self.rows))
            if on_progress:
                on_progress(Progress(epoch + 1, settings.epochs, history[-1]))
        return self._whitened(tuple(history))

    def _shuffled(self, epoch: int) -> Iterator[MicroBatch]:
        """The epoch's micro-batches in an order of their own, users mixed."""
        order = list(range(len(self.rows)))
        shuffle = random.Random(f"{self.settings.seed}/{epoch}")
        shuffle.shuffle(order)
        batches = micro_batches(self.base, self.live.basis.kind, [self.rows[i] for i in order])
        shuffle.shuffle(batches)
        places = torch.tensor(order)
        for batch in batches:
            yield MicroBatch(places[batch.index], batch.ids, batch.mask, batch.targets)

    def _loss(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """The whole objective of one micro-batch, and the part of it that is the examples' mean loss."""
        real = len(batch.index)
        owners = torch.tensor([self.owner[i] for i in batch.index.tolist()])
        vectors = personalized_dropout(self.vectors[owners], self.settings.personalized_dropout, self.generator)
        mode = self.settings.mutual_information
        terms: list[tuple[Tensor, int]] = []
        for layer in self.live.layers.values():
            layer.feature_terms = terms if mode is MutualInformation.REFERENCE else None
        with self.live.use(self._padded(vectors, batch)):
            logits = forward(self.base, batch.ids, batch.mask)
        losses = row_losses(logits, batch.targets)[:real]
        loss = losses.mean() + self._prior(owners)
        if mode is MutualInformation.REFERENCE:
            extra = feature_term(terms) + self._consistency(batch, logits[:real])
        elif mode is MutualInformation.INFOMAX:
            extra = self._infomax(batch, owners)
        else:
            return loss, losses.detach().mean()
        return loss + self.settings.mutual_information_weight * extra, losses.detach().mean()

    def _prior(self, owners: Tensor) -> Tensor:
        """-log N(p_u; 0, 1), each user's share spread over the user's examples: the table is a MAP estimate."""
        chosen = self.vectors[owners].square().sum(1) / self.counts[owners]
        return 0.5 * self.settings.prior * chosen.mean()

    def _consistency(self, batch: MicroBatch, personal: Tensor) -> Tensor:
        """The generic body gets no gradient, the task head does, as in the published code."""
        for layer in self.live.layers.values():
            layer.feature_terms = None
        generic = generic_logits(self.base, self.live, batch)[: len(personal)]
        if personal.dim() == 3:
            return consistency_term(personal.flatten(0, 1), generic.flatten(0, 1))
        return consistency_term(personal, generic)

    def _infomax(self, batch: MicroBatch, owners: Tensor) -> Tensor:
        """Own vector against `strangers` other users' on the same example; no personalized dropout here."""
        count = self.vectors.shape[0]
        draws = [owners]
        for _ in range(self.settings.strangers):
            shift = torch.randint(1, max(2, count), owners.shape, generator=self.generator)
            draws.append((owners + shift) % count)
        found = []
        for drawn in draws:
            with self.live.use(self._padded(self.vectors[drawn], batch)):
                found.append(-row_losses(forward(self.base, batch.ids, batch.mask), batch.targets)[: len(owners)])
        return infomax_term(found[0], torch.stack(found[1:], dim=1))

    def _padded(self, vectors: Tensor, batch: MicroBatch) -> Tensor:
        blank = torch.zeros(batch.ids.shape[0] - vectors.shape[0], vectors.shape[1])
        return torch.cat([vectors, blank]).to(batch.ids.device)

    @torch.no_grad()
    def _whitened(self, history: tuple[float, ...]) -> Population:
        """The Basis in coordinates where the population's vectors have unit covariance: P <- P L, p <- L^-1 p."""
        vectors = self.vectors.detach()
        mean = vectors.mean(0)
        spread = (vectors - mean).T @ (vectors - mean) / max(1, len(vectors) - 1)
        d = spread.shape[0]
        floor = 1e-2 * spread.diagonal().mean() + 1e-6  # directions nobody used stay defined
        factor = torch.linalg.cholesky(spread + floor * torch.eye(d))
        tensors = {"prior.mean": torch.linalg.solve_triangular(factor, mean[:, None], upper=False)[:, 0]}
        for name, layer in self.live.layers.items():
            tensors[f"A.{name}"] = layer.A.detach().cpu().clone()
            tensors[f"B.{name}"] = layer.B.detach().cpu().clone()
            tensors[f"P.{name}"] = layer.P.detach().cpu() @ factor
        for head in HEADS:
            module = getattr(self.live.module, head, None)
            if module is not None and self.live.basis.kind is Kind.CLASSIFICATION:
                tensors |= {f"head.{name}": value.detach().cpu().clone() for name, value in module.state_dict().items()}
        whitened = torch.linalg.solve_triangular(factor, vectors.T, upper=False).T.contiguous()
        return Population(Basis(self.live.basis.spec, tensors), whitened, history)


def generic_logits(base: BaseModel, live: Attachment, batch: MicroBatch) -> Tensor:
    """The generic model's logits (p = 0): no gradient into the body, the task head keeps its own.

    (rows, labels), or (rows, length, vocabulary) without gradient for a causal LM.
    """
    head = next((h for n in HEADS if (h := getattr(live.module, n, None)) is not None), None)

    def learn_from_here(_: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        torch.set_grad_enabled(True)  # until no_grad ends
        return (args[0].detach(), *args[1:])

    hook = head.register_forward_pre_hook(learn_from_here) if head is not None else None
    try:
        with torch.no_grad(), live.use(None):
            return forward(base, batch.ids, batch.mask)
    finally:
        if hook is not None:
            hook.remove()
