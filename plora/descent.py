"""The descent of population training: epochs of steps over windows of rows, alone or with peers, from a checkpoint on.

A step takes `accumulate` micro-batches and divides by all their examples. Peers take turns with the micro-batches of
a step and add up their gradients, so everyone takes the step that one process would take alone. Every micro-batch draws
its random numbers from a seed of its own: what it draws depends neither on who works it out nor on what came before.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .basis import HEADS
from .checkpoints import Checkpoint, Standing, restore_tensors, state_tensors
from .examples import MicroBatch, Row, micro_batches, row_losses
from .losses import Objective, numbered_batches
from .objective import MutualInformation
from .peers import Peers
from .windows import Window, Windows

STRETCH = 16
"""Steps whose rows go through the lower blocks together, where those are not kept."""

Numbered = tuple[int, MicroBatch]

REPORT_STEPS = 32
"""Steps between two reports of progress within an epoch."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far population training has come: `epoch` epochs of `epochs` are done.

    `loss` is the mean in nats of the epoch just done, or of the one under way so far; `held_out` that of the examples
    kept aside, after an epoch and where there are any. `examples` counts every example learned from, over all epochs.
    """

    epoch: int
    epochs: int
    loss: float
    held_out: float | None = None
    examples: int = 0


@dataclass(frozen=True, slots=True)
class Listeners:
    """Whom to tell. `checkpoint` is given something to go on from every so many steps."""

    progress: Callable[[Progress], None] = lambda _: None
    checkpoint: Callable[[Checkpoint], None] | None = None


class Descent:
    """Moves `shared` and the objective's vectors, in place. The rows `aside` judge and are not learned from."""

    def __init__(
        self, objective: Objective, shared: list[Tensor], *, windows: Windows, aside: Mapping[int, Row], peers: Peers
    ) -> None:
        settings = objective.settings
        self._objective, self._settings, self._windows = objective, settings, windows
        self._shared, self._leaves = shared, [*shared, objective.vectors]
        self._aside, self._peers = aside, peers
        head: set[int] = set()  # without user vectors in it, it is learned like everything else that is shared
        if objective.live.basis.spec.personal_head:
            head = {id(p) for n, p in objective.live.module.named_parameters() if n.split(".")[0] in HEADS}
        parts = ([p for p in shared if id(p) not in head], [p for p in shared if id(p) in head], [objective.vectors])
        self._rates = (settings.shared_rate, settings.head_rate / objective.spread**0.5, settings.user_rate)
        decays = (settings.weight_decay, 0.0, 0.0)  # the head and the vectors have priors
        self._optimizer = torch.optim.AdamW(
            [{"params": p, "lr": r, "weight_decay": w} for p, r, w in zip(parts, self._rates, decays, strict=True)]
        )
        self._best: dict[str, Tensor] = {}
        self.standing = Standing()

    def run(self, identity: str, listeners: Listeners) -> None:
        """Descend to the last epoch, or until the rows kept aside are predicted no better."""
        settings = self._settings
        while self.standing.epoch < settings.epochs and not self._is_over():
            self._set_rates()
            for number, step in self._steps(self.standing.epoch):
                self._count(*self._take(step))
                if number % REPORT_STEPS == 0:
                    listeners.progress(self._progress())
                if listeners.checkpoint and number % settings.checkpoint_steps == 0:
                    listeners.checkpoint(self._checkpoint(identity))
            self._end_epoch()
            listeners.progress(self._progress())
            if listeners.checkpoint:
                listeners.checkpoint(self._checkpoint(identity))
        if self._best:
            restore_tensors(self._optimizer, self._leaves, self._best)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Stand where the checkpoint stands. Raises MalformedCheckpoint."""
        restore_tensors(self._optimizer, self._leaves, checkpoint.tensors)
        best = {n.removeprefix("best."): v for n, v in checkpoint.tensors.items() if n.startswith("best.")}
        self._best, self.standing = best, checkpoint.standing

    def _is_over(self) -> bool:
        return self._settings.patience is not None and self.standing.waited >= self._settings.patience

    def _set_rates(self) -> None:
        settings, groups = self._settings, self._optimizer.param_groups
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate * max(0.1, 1 - self.standing.epoch / settings.epochs)

    def _steps(self, epoch: int) -> Iterator[tuple[int, list[Numbered]]]:
        """The epoch's steps that are still to be taken, from 1, each with its numbered micro-batches."""
        done, step, drawn = self.standing.steps, 0, 0
        for place, window in enumerate(self._windows):
            name = f"{epoch}/{place}" if place else f"{epoch}"
            batches = list(enumerate(self._shuffled(window, name), drawn))
            drawn += len(batches)
            size = self._settings.accumulate
            steps = [batches[at : at + size] for at in range(0, len(batches), size)]
            left = steps[max(0, done - step) :]
            step += len(steps) - len(left)
            for at in range(0, len(left), STRETCH):
                mine = [b for each in left[at : at + STRETCH] for _, b in self._share(each)]
                self._objective.prefix.prepare({n: window.row(n) for batch in mine for n in batch.index.tolist()})
                for each in left[at : at + STRETCH]:
                    step += 1
                    yield step, each

    def _share(self, step: Sequence[Numbered]) -> Sequence[Numbered]:
        return step[self._peers.rank :: self._peers.size]

    def _shuffled(self, window: Window, name: str) -> list[MicroBatch]:
        """A window's micro-batches in an order of their own, users mixed; rows by their number."""
        order = [at for at in range(len(window.rows)) if window.first + at not in self._aside]
        shuffle = random.Random(f"{self._settings.seed}/{name}")
        shuffle.shuffle(order)
        base, kind = self._objective.base, self._objective.live.basis.kind
        batches = micro_batches(base, kind, window.rows, order)
        shuffle.shuffle(batches)
        return [MicroBatch(b.index + window.first, b.ids, b.mask, b.targets) for b in batches]

    def _take(self, step: Sequence[Numbered]) -> tuple[float, int]:
        """One step of the optimiser; the sum of its examples' losses, and how many they are."""
        examples, total = sum(len(batch.index) for _, batch in step), 0.0
        self._optimizer.zero_grad()
        for number, batch in self._share(step):
            seed = hashlib.sha256(f"{self._settings.seed}/{self.standing.epoch}/{number}".encode()).digest()
            torch.manual_seed(int.from_bytes(seed[:7], "big"))  # the layers' dropout draws from torch's own generators
            draw = torch.Generator().manual_seed(int.from_bytes(seed[7:14], "big"))
            loss, mean = self._objective.loss(batch, draw)
            torch.autograd.backward(loss * (len(batch.index) / examples))
            total += float(mean) * len(batch.index)
        if self._peers.size > 1:
            total = self._add_up([batch for _, batch in step], total)
        torch.nn.utils.clip_grad_norm_(self._shared, 1.0)
        self._optimizer.step()
        return total, examples

    def _add_up(self, batches: Sequence[MicroBatch], total: float) -> float:
        """Everyone's gradients become their sum. Of the vectors only the step's own users' travel, if that is all."""
        vectors = self._objective.vectors
        owners = self._objective.survey.owners(torch.cat([batch.index for batch in batches]))
        touched = torch.unique(owners)
        if self._settings.mutual_information is MutualInformation.INFOMAX:
            touched = torch.arange(len(vectors))
        for leaf in self._leaves:
            leaf.grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        grads = [leaf.grad for leaf in self._shared if leaf.grad is not None]
        own = torch.zeros(0) if vectors.grad is None else vectors.grad[touched]
        flat = torch.cat([*(grad.flatten().cpu() for grad in grads), own.flatten(), torch.tensor([total])])
        parts = torch.split(self._peers.sum(flat), [*(grad.numel() for grad in grads), own.numel(), 1])
        for grad, part in zip(grads, parts, strict=False):
            grad.copy_(part.view_as(grad))
        if vectors.grad is not None:
            vectors.grad[touched] = parts[-2].view_as(own)
        return float(parts[-1])

    def _count(self, loss: float, examples: int) -> None:
        now = self.standing
        self.standing = replace(now, steps=now.steps + 1, loss=now.loss + loss, examples=now.examples + examples)

    def _end_epoch(self) -> None:
        now = self.standing
        found, waited = now.held_out, now.waited
        if self._aside:
            found = (*found, self._judge())
            waited = 0 if found[-1] <= min(found) else waited + 1
            if waited == 0:
                state = state_tensors(self._optimizer, self._leaves)
                self._best = {name: value for name, value in state.items() if name.startswith("leaf.")}
        history = (*now.history, now.loss / max(1, now.examples))
        self.standing = Standing(now.epoch + 1, history=history, held_out=found, waited=waited)

    @torch.no_grad()
    def _judge(self) -> float:
        """The mean loss of the rows kept aside, each as its own user, without dropout."""
        objective, total = self._objective, 0.0
        for layer in objective.live.layers.values():
            layer.eval()
        batches = numbered_batches(objective.base, objective.live.basis.kind, self._aside)
        mine = batches[self._peers.rank :: self._peers.size]
        for batch in objective.prefix.walk(mine, self._aside.__getitem__):
            logits = objective.logits(batch, objective.vectors[objective.survey.owners(batch.index)])
            total += float(row_losses(logits, batch.targets)[: len(batch.index)].double().sum())
        for layer in objective.live.layers.values():
            layer.train()
        return float(self._peers.sum(torch.tensor([total], dtype=torch.float64))) / len(self._aside)

    def _progress(self) -> Progress:
        now, epochs = self.standing, self._settings.epochs
        before = now.epoch * (self._objective.survey.total - len(self._aside))
        if now.steps:
            return Progress(now.epoch, epochs, now.loss / now.examples, None, before + now.examples)
        return Progress(now.epoch, epochs, now.history[-1], now.held_out[-1] if now.held_out else None, before)

    def _checkpoint(self, identity: str) -> Checkpoint:
        tensors = state_tensors(self._optimizer, self._leaves)
        return Checkpoint(identity, self.standing, tensors | {f"best.{n}": v for n, v in self._best.items()})
