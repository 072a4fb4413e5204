"""The loss that population training lowers: the examples', the prior, and perhaps a term of mutual information."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from .attachment import Attachment
from .basemodel import BaseModel
from .basis import HEADS, Kind
from .examples import MicroBatch, Row, micro_batches, row_losses
from .layer import last_linear
from .objective import MutualInformation, consistency_term, feature_term, infomax_term, personalized_dropout
from .passes import forward
from .pooled import Pooled
from .population_settings import PopulationSettings
from .prefixes import Prefix
from .windows import Survey


class Objective:
    """The loss of one micro-batch, whose rows are numbered over the whole population.

    `counts` (users,) says among how many examples a user's prior is divided.
    """

    def __init__(self, base: BaseModel, live: Attachment, found: Survey, settings: PopulationSettings) -> None:
        self.base, self.live, self.survey, self.settings = base, live, found, settings
        self.vectors = torch.zeros(found.users, live.basis.spec.dimensions, requires_grad=True)
        self.spread = 1.0  # the variance of what the task head's last layer reads
        self.counts = found.counts.clamp_min(1).float()
        self.prefix = Prefix(base, live, settings.kept_bytes)
        whole = settings.mutual_information is MutualInformation.REFERENCE  # its feature term is of all tokens
        self.pooled = None if whole else Pooled(base)

    def loss(self, batch: MicroBatch, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """The whole objective of one micro-batch, and the part of it that is the examples' mean loss."""
        real = len(batch.index)
        owners = self.survey.owners(batch.index)
        vectors = personalized_dropout(self.vectors[owners], self.settings.personalized_dropout, draw)
        mode = self.settings.mutual_information
        terms: list[tuple[Tensor, int]] = []
        for layer in self.live.layers.values():
            layer.feature_terms = terms if mode is MutualInformation.REFERENCE else None
        logits = self.logits(batch, vectors)
        losses = row_losses(logits, batch.targets)[:real]
        loss = losses.mean() + self._prior(owners) + self._head_prior()
        if mode is MutualInformation.REFERENCE:
            extra = feature_term(terms) + self._consistency(batch, logits[:real])
        elif mode is MutualInformation.INFOMAX:
            extra = self._infomax(batch, owners, draw)
        else:
            return loss, losses.detach().mean()
        return loss + self.settings.mutual_information_weight * extra, losses.detach().mean()

    def logits(self, batch: MicroBatch, vectors: Tensor | None) -> Tensor:
        """The model's logits for one micro-batch; vectors: (real rows, d), or None for the generic model."""
        padded = None if vectors is None else self._padded(vectors, batch)
        short = nullcontext() if self.pooled is None else self.pooled.standing()
        with self.live.use(padded), self.prefix.reuse(batch), short:
            return forward(self.base, batch.ids, batch.mask)

    def features(self, batch: MicroBatch) -> Tensor:
        """(real rows, width): what the task head's last layer reads of each row, the generic model before it."""
        head = self.live.head
        linear = None if head is None else last_linear(head)
        if linear is None:
            raise TypeError("a causal LM has no task head")
        seen: list[Tensor] = []
        hook = linear.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            self.logits(batch, None)
        finally:
            hook.remove()
        read = seen[-1]
        if read.dim() == 3:  # a head that answers at every token: its answer at the last is what counts
            read = read[torch.arange(len(read)), batch.mask.sum(1) - 1]
        return read[: len(batch.index)].detach().float().cpu()

    @torch.no_grad()
    def read(self, rows: Sequence[Row]) -> Tensor:
        """(rows, width) features of these rows, whatever their numbers."""
        found: list[Tensor] = []
        order: list[int] = []
        batches = micro_batches(self.base, Kind.CLASSIFICATION, [Row(row.ids, 0) for row in rows])
        for batch in self.prefix.walk(batches, lambda number: rows[number]):
            found.append(self.features(batch))
            order += batch.index.tolist()
        return torch.cat(found)[torch.tensor(order).argsort()]

    def generic_logits(self, batch: MicroBatch) -> Tensor:
        """The generic model's logits (p = 0): no gradient into the body, the task head keeps its own.

        (rows, labels), or (rows, length, vocabulary) without gradient for a causal LM.
        """
        head = next((h for n in HEADS if (h := getattr(self.live.module, n, None)) is not None), None)

        def learn_from_here(_: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            torch.set_grad_enabled(True)  # until no_grad ends
            return (args[0].detach(), *args[1:])

        hook = head.register_forward_pre_hook(learn_from_here) if head is not None else None
        try:
            with torch.no_grad():
                return self.logits(batch, None)
        finally:
            if hook is not None:
                hook.remove()

    def _prior(self, owners: Tensor) -> Tensor:
        """-log N(p_u; 0, 1), each user's share spread over the user's examples: the table is a MAP estimate."""
        chosen = self.vectors[owners].square().sum(1) / self.counts[owners]
        return 0.5 * self.settings.prior * chosen.mean()

    def _head_prior(self) -> Tensor:
        """-log N of the task head's weights, its user directions' above all, spread over all examples."""
        total = torch.zeros(())
        if not self.live.basis.spec.personal_head:
            return total  # the paper's own objective
        for name, parameter in self.live.module.named_parameters():
            if name.split(".")[0] in HEADS and parameter.dim() > 1 and parameter.requires_grad:
                weight = self.settings.mixing_prior if parameter.dim() == 3 else self.settings.head_prior
                total = total + 0.5 * weight * self.spread * parameter.square().sum().cpu()
        return total / max(1.0, float(self.survey.total))

    def _consistency(self, batch: MicroBatch, personal: Tensor) -> Tensor:
        """The generic body gets no gradient, the task head does, as in the published code."""
        for layer in self.live.layers.values():
            layer.feature_terms = None
        generic = self.generic_logits(batch)[: len(personal)]
        if personal.dim() == 3:
            return consistency_term(personal.flatten(0, 1), generic.flatten(0, 1))
        return consistency_term(personal, generic)

    def _infomax(self, batch: MicroBatch, owners: Tensor, draw: torch.Generator) -> Tensor:
        """Own vector against `strangers` other users' on the same example; no personalized dropout here."""
        count = self.vectors.shape[0]
        draws = [owners]
        for _ in range(self.settings.strangers):
            shift = torch.randint(1, max(2, count), owners.shape, generator=draw)
            draws.append((owners + shift) % count)
        found = []
        for drawn in draws:
            logits = self.logits(batch, self.vectors[drawn])
            found.append(-row_losses(logits, batch.targets)[: len(owners)])
        return infomax_term(found[0], torch.stack(found[1:], dim=1))

    def _padded(self, vectors: Tensor, batch: MicroBatch) -> Tensor:
        blank = torch.zeros(batch.ids.shape[0] - vectors.shape[0], vectors.shape[1])
        return torch.cat([vectors, blank]).to(batch.ids.device)


def numbered_batches(base: BaseModel, kind: Kind, rows: Mapping[int, Row]) -> list[MicroBatch]:
    """Micro-batches of `rows`, whose index are the rows' own numbers."""
    numbers = torch.tensor(sorted(rows))
    batches = micro_batches(base, kind, [rows[number] for number in sorted(rows)])
    return [MicroBatch(numbers[b.index], b.ids, b.mask, b.targets) for b in batches]
