"""The floor: no adapter, a linear head of one's own on frozen features, shrunk towards the population's head.

Features are the mean of the last hidden states over a text's tokens. The population's head is a multinomial logistic
regression; a user's is that head plus a change, under a squared penalty on the change: the ridge is the better of a
grid on users who are not reported.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from benchmarks.fit.modes import Cohort, Judge, Made
from benchmarks.fit.people import Crowd
from plora import BaseModel, Example

RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
STEPS, RATE = 150, 0.03
ROWS = 32


class Floor:
    """The population's head, ready to be changed for a user."""

    def __init__(self, base: BaseModel, crowd: Crowd, examples: int) -> None:
        self.base, self.labels = base, crowd.labels
        rows = [example for user in crowd.population for example in user]
        raw = self._raw([example.text for example in rows])
        self.mean, self.spread = raw.mean(0), raw.std(0).clamp_min(1e-6)
        zero = torch.zeros(1, len(self.labels), raw.shape[1] + 1)
        everybody = self._standard(raw)[None]  # (1, rows, features + 1)
        self.head = self._change(zero, everybody, self._targets(rows)[None], ridge=0.003)[0]
        self.ridge = self._best_ridge(crowd, examples)

    def fit(self, cohort: Cohort) -> Made:
        """One forward over every example, then small linear algebra for all users together."""
        heads = self._fit(cohort, self.ridge)
        return Made(0.5, self._judge(heads))

    def _best_ridge(self, crowd: Crowd, examples: int) -> float:
        cohort = [user.first(examples) for user in crowd.tuning]
        held_out = [user.held_out for user in crowd.tuning]
        found = []
        for ridge in RIDGES:
            losses = self._judge(self._fit(cohort, ridge))(held_out)
            found.append((sum(sum(user) / len(user) for user in losses), ridge))
        return min(found)[1]

    def _fit(self, cohort: Cohort, ridge: float) -> Tensor:
        """(users, labels, features + 1); users with equally many examples together."""
        heads = torch.zeros(len(cohort), *self.head.shape)
        by_count: dict[int, list[int]] = {}
        for at, user in enumerate(cohort):
            by_count.setdefault(len(user), []).append(at)
        for chosen in by_count.values():
            rows = [example for at in chosen for example in cohort[at]]
            features = self._standard(self._raw([row.text for row in rows])).view(len(chosen), -1, self.head.shape[1])
            targets = self._targets(rows).view(len(chosen), -1)
            heads[chosen] = self._change(self.head.expand(len(chosen), -1, -1), features, targets, ridge=ridge)
        return heads

    def _change(self, start: Tensor, features: Tensor, targets: Tensor, *, ridge: float) -> Tensor:
        """start: (users, labels, f), features: (users, rows, f), targets: (users, rows)."""
        change = torch.zeros_like(start).requires_grad_()
        adam = torch.optim.Adam([change], lr=RATE)
        for _ in range(STEPS):
            logits = features @ (start + change).transpose(1, 2)
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
            penalty = ridge * change.square().sum((1, 2))
            total = loss.view(targets.shape).mean(1) + penalty
            (change.grad,) = torch.autograd.grad(total.sum(), change)
            adam.step()
        return (start + change).detach()

    def _judge(self, heads: Tensor) -> Judge:
        def judge(held_out: Cohort) -> list[list[float]]:
            found = []
            for head, rows in zip(heads, held_out, strict=True):
                logits = self._standard(self._raw([row.text for row in rows])) @ head.T
                found.append(F.cross_entropy(logits, self._targets(rows), reduction="none").tolist())
            return found

        return judge

    def _targets(self, rows: Sequence[Example]) -> Tensor:
        return torch.tensor([self.labels.index(row.target) for row in rows])

    def _standard(self, raw: Tensor) -> Tensor:
        """Whitened by feature, a 1 appended for the bias."""
        return torch.cat([(raw - self.mean) / self.spread / raw.shape[1] ** 0.5, torch.ones(len(raw), 1)], 1)

    @torch.no_grad()
    def _raw(self, texts: Sequence[str]) -> Tensor:
        """(texts, width) mean of the last hidden states, rows of like length together."""
        tokens = [self.base.tokenizer(t, truncation=True, max_length=self.base.max_tokens)["input_ids"] for t in texts]
        order = sorted(range(len(texts)), key=lambda at: len(tokens[at]))
        found: list[Tensor] = [torch.empty(0)] * len(texts)
        for start in range(0, len(order), ROWS):
            part = order[start : start + ROWS]
            batch = self.base.tokenizer.pad({"input_ids": [tokens[at] for at in part]}, return_tensors="pt")
            ids, mask = (batch[name].to(self.base.device) for name in ("input_ids", "attention_mask"))
            body = cast(PreTrainedModel, self.base.module).base_model
            hidden = body(input_ids=ids, attention_mask=mask).last_hidden_state
            means = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            for at, mean in zip(part, means.float().cpu(), strict=True):
                found[at] = mean
        return torch.stack(found)
