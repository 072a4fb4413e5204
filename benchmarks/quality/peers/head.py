"""A task head of its own for each user on the plain LoRA model's final features, drawn to the shared head by a ridge.

The loss is the shared head's, softmax or ordered; a user's change has a row for each of the head's outputs. Features
are centred and scaled on the population, so that the change of a bias is as cheap as that of an average text. The
strength of the ridge is the one that serves the trial's people best.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.quality.fits import processor_seconds
from benchmarks.quality.folds import Person
from benchmarks.quality.methods import Said, Unavailable
from benchmarks.quality.peers.descended import BYTES_PER_NUMBER, MOST_ROWS
from benchmarks.quality.peers.trial import Choice, mean_loss
from benchmarks.quality.peers.voices import VectorVoice, asked, learned
from benchmarks.quality.settings import ZERO
from benchmarks.quality.shared import Shared
from plora import Example
from plora.basis import HEADS
from plora.examples import Row
from plora.links import LabelLink
from plora.passes import passes

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
STEPS, LEAST_STEP = 300, 1e-5
STEEPEST = 0.5
"""No row's loss bends more than this along the head's outputs, softmax or ordered."""


class Head:
    """What the frozen body gives for a text is worked out once, whoever asks."""

    name = "head"

    def __init__(self, shared: Shared) -> None:
        """Raises Unavailable where the model has no head that labels a text."""
        self._voice = VectorVoice(shared.base, shared.plain.basis)
        link, module = self._voice.engine.link, self._voice.engine.module
        head = next((found for name in HEADS if isinstance(found := getattr(module, name, None), nn.Module)), None)
        if link is None or head is None:
            raise Unavailable("a head for each user needs a classifier")
        self._link: LabelLink = link
        self._head: nn.Module = head
        self._seen: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        people = shared.fold.population
        rows = [row for part in learned(self._voice, [person.learn for person in people]) for row in part]
        features, _ = self._read(rows)
        self._middle = features.mean(0)
        self._size = (features - self._middle).square().sum(1).mean().sqrt().clamp_min(1e-9)
        self._tried: Head | None = None
        self.choice = Choice(shared, STRENGTHS, self._cost)

    def say(self, people: Sequence[Person], shots: int, known: bool) -> Said:  # noqa: ARG002
        if shots == ZERO:
            return Said(self.answers(people, None), 0.0, 0)
        strength = self.choice.at(shots)
        with processor_seconds() as spent:
            changes = self.changes([person.first(shots) for person in people], strength)
        said = self.answers(people, changes)
        return Said(said, spent[0] / max(1, len(people)), BYTES_PER_NUMBER * changes[0].numel())

    def changes(self, users: Sequence[Sequence[Example]], strength: float) -> list[Tensor]:
        """(outputs, 1 + width) for each user."""
        return [self._fit(rows, strength) for rows in learned(self._voice, [part[:MOST_ROWS] for part in users])]

    def answers(self, people: Sequence[Person], changes: Sequence[Tensor] | None) -> tuple[Tensor, ...]:
        """(tests, labels) for each person; None is the shared head."""
        found = []
        for at, rows in enumerate(asked(self._voice, [person.test for person in people])):
            features, raw = self._scaled(rows)
            moved = raw if changes is None else raw + features @ changes[at].T
            found.append(self._link.log_chances(self._link.free(moved)).log_softmax(-1))
        return tuple(found)

    def _cost(self, inner: Shared, shots: int, strength: float) -> float:
        if self._tried is None:
            self._tried = Head(inner)
        people = inner.fold.newcomers
        changes = self._tried.changes([person.first(shots) for person in people], strength)
        return mean_loss(self._tried.answers(people, changes), inner.fold)

    def _fit(self, rows: Sequence[Row], strength: float) -> Tensor:
        """(outputs, 1 + width): Nesterov's steps on the summed loss and the ridge, in the span of the user's texts."""
        features, raw = self._scaled(rows)  # (n, 1 + width), (n, outputs)
        targets = torch.tensor([row.target for row in rows], dtype=torch.long)
        kernel = features @ features.T
        steepest = STEEPEST * float(torch.linalg.matrix_norm(kernel, 2)) + strength
        keeping = (1 - (strength / steepest) ** 0.5) / (1 + (strength / steepest) ** 0.5)
        weights = torch.zeros_like(raw)  # (n, outputs): the change is weights' features
        ahead = weights
        for _ in range(STEPS if rows else 0):
            z = (raw + kernel @ ahead).requires_grad_()
            (slope,) = torch.autograd.grad(self._link.losses(self._link.free(z), targets).sum(), z)
            step = (slope + strength * ahead) / steepest
            following = ahead - step
            ahead = following + keeping * (following - weights)
            weights = following
            if float(step.abs().max()) < LEAST_STEP:
                break
        return weights.T @ features

    def _scaled(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """(rows, 1 + width) features, 1 first, and (rows, outputs) what the shared head gives."""
        features, raw = self._read(rows)
        return torch.cat([torch.ones(len(features), 1).double(), (features - self._middle) / self._size], 1), raw

    def _read(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        missing = [row for row in {row.ids: row for row in rows}.values() if row.ids not in self._seen]
        if missing:
            self._look(missing)
        both = [self._seen[row.ids] for row in rows]
        width, outputs = (len(part) for part in next(iter(self._seen.values())))
        if not both:
            return torch.zeros(0, width).double(), torch.zeros(0, outputs).double()
        return torch.stack([one for one, _ in both]), torch.stack([one for _, one in both])

    @torch.no_grad()
    def _look(self, rows: Sequence[Row]) -> None:
        """Run the model on texts that are new, noting what its head reads and gives."""
        noted: list[Tensor] = []

        def note(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            noted.append(args[0])

        hook = last_layer(self._head).register_forward_pre_hook(note)
        try:
            with passes(self._voice.engine, rows) as run:
                for batch in run.batches():
                    raw = run.raw(batch, None)
                    features = noted.pop().reshape(len(raw), -1)  # (rows, width), of one token
                    for at, index in enumerate(batch.index.tolist()):
                        self._seen[rows[index].ids] = features[at].double().cpu(), raw[at].double().cpu()
        finally:
            hook.remove()


def last_layer(head: nn.Module) -> nn.Module:
    """The layer of a task head that gives its outputs."""
    return [child for child in head.modules() if isinstance(getattr(child, "weight", None), Tensor)][-1]
