"""Settling: a task head and its users' vectors brought to their best on features that no longer change.

Descent in micro-batches learns what the head reads; of the head itself it leaves a noisy guess. On fixed features x the
rest is a small model,

    z = W x + b + sum_k p_uk M_k x + C p_u

with Gaussian priors on W, M and every p_u: a multinomial regression for each user whose directions all users share, the
common reading of a user's label bias and of what its content says. It is solved over all examples at once. How much the
priors of W and M weigh is chosen by texts kept aside, so that a population whose users do not differ in content gets
none. Personalized dropout is taken in the mean: an example counts as everyone's with its rate.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .examples import Row
from .layer import PersonalHead
from .links import Link, Thresholds
from .losses import Objective
from .windows import Windows

STEPS, TRIAL_STEPS = 300, 80
RATE = 0.02
HEAD_PRIORS = (300.0, 1000.0, 3000.0, 10_000.0)
MIXING_PRIORS = (1000.0, 3000.0, 10_000.0, 30_000.0, 300_000.0)
"""Weights of 1/2 |W|^2 and 1/2 |M|^2 against the examples' summed loss, features of unit variance."""

ASIDE, ENOUGH = 5, 100
"""One text in so many judges the priors; where these are not enough, further shares take their turn."""

ROWS = 262_144
"""Examples settled on at most: an equal share of every user's where there are more."""

START = 0.1
"""Length of each of M's directions at the start."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Examples by number: whose, which text, which label. features: (texts, width), centred, of unit variance."""

    features: Tensor = field(repr=False)
    text: Tensor
    user: Tensor
    target: Tensor
    users: int

    def only(self, chosen: Tensor) -> "_Rows":
        return replace(self, text=self.text[chosen], user=self.user[chosen], target=self.target[chosen])


@dataclass(slots=True)
class _Model:
    W: Tensor  # (outputs, width)
    b: Tensor  # (outputs,)
    M: Tensor  # (content, outputs, width)
    vectors: Tensor  # (users, bias + content)
    contrasts: Tensor  # (outputs, bias)
    thresholds: Thresholds | None

    def leaves(self) -> list[Tensor]:
        own: list[Tensor] = [self.b] if self.thresholds is None else [*self.thresholds.parameters()]
        return [self.W, self.M, self.vectors, *own]  # thresholds hold what b would

    def logits(self, rows: _Rows) -> tuple[Tensor, Tensor]:
        """(rows, labels) for everyone and for each row's own user."""
        bias = self.contrasts.shape[1]
        common = (rows.features @ self.W.T + self.b)[rows.text]  # (rows, outputs)
        read = torch.einsum("tw,dow->tdo", rows.features, self.M)[rows.text]  # (rows, content, outputs)
        own = self.vectors[rows.user]
        personal = common + torch.einsum("rdo,rd->ro", read, own[:, bias:]) + own[:, :bias] @ self.contrasts.T
        if self.thresholds is None:
            return common, personal
        return self.thresholds(common), self.thresholds(personal)


def settle(objective: Objective, windows: Windows) -> None:
    """Write the solution into the live head and the objective's vectors. The blocks' layers stay as they are."""
    head = next(m for m in objective.live.module.modules() if isinstance(m, PersonalHead))
    rows, centre, scale = _rows(objective, windows)
    thresholds = None
    if objective.live.basis.spec.link is Link.ORDINAL:
        thresholds = next(m for m in objective.live.module.modules() if isinstance(m, Thresholds))
    start = _start(objective, head, rows, thresholds)
    model = _solve(start, rows, _priors(start, rows, objective), STEPS, objective)
    bias = objective.live.basis.spec.bias
    with torch.no_grad():
        W, M = model.W / scale, model.M / scale
        for name, value in (("weight", W), ("bias", model.b - W @ centre)):
            parameter = getattr(head.linear, name)
            if parameter is not None:
                parameter.copy_(value)
        head.M.zero_()
        head.M[bias:] = M.to(head.M)
        head.C.zero_()
        head.C[:, :bias] = model.contrasts.to(head.C)
        head.C[:, bias:] = -(M @ centre).T.to(head.C)  # features are centred here, and not in the head
        if thresholds is not None and model.thresholds is not None:
            thresholds.load_state_dict(model.thresholds.state_dict())
        objective.vectors.data.copy_(model.vectors)


def _rows(objective: Objective, windows: Windows) -> tuple[_Rows, Tensor, float]:
    """Everyone's examples with what the head's last layer reads of them; the features' mean and deviation."""
    found = objective.survey
    share = max(1, ROWS // max(1, found.users)) if found.total > ROWS else found.total
    places: dict[tuple[int, ...], int] = {}
    features: list[Tensor] = []
    text, user, target = [], [], []
    for window in windows:
        owners = found.owners(torch.arange(window.first, window.first + len(window.rows))).tolist()
        taken: dict[int, int] = {}
        fresh: list[Row] = []
        for row, owner in zip(window.rows, owners, strict=True):
            taken[owner] = taken.get(owner, 0) + 1
            if taken[owner] > share:
                continue
            if row.ids not in places:
                places[row.ids] = len(places)
                fresh.append(row)
            text.append(places[row.ids])
            user.append(owner)
            target.append(row.target)
        features += [objective.read(fresh)] if fresh else []
    table = torch.cat(features)
    centre = table.mean(0)
    scale = float((table - centre).std(0).mean().clamp_min(1e-4)) if len(table) > 1 else 1.0
    made = _Rows((table - centre) / scale, torch.tensor(text), torch.tensor(user), torch.tensor(target), found.users)
    return made, centre, scale


def _start(objective: Objective, head: PersonalHead, rows: _Rows, thresholds: Thresholds | None) -> _Model:
    """Nobody's head, and the principal directions of what tells users apart."""
    spec = objective.live.basis.spec
    bias, content = spec.bias, spec.dimensions - spec.bias
    outputs, width = spec.outputs, rows.features.shape[1]
    places = rows.target[:, None].float()
    signs = places if thresholds is not None else F.one_hot(rows.target, outputs).float()
    signs = signs - signs.mean(0)
    table = torch.zeros(rows.users, outputs * width)
    for at in range(0, len(rows.target), 8192):
        part = slice(at, at + 8192)
        pairs = signs[part, :, None] * rows.features[rows.text[part], None, :]
        table.index_add_(0, rows.user[part], pairs.flatten(1))
    counts = torch.bincount(rows.user, minlength=rows.users).clamp_min(1)[:, None]
    table = table / counts
    table = table - table.mean(0)
    M, vectors = torch.zeros(content, outputs, width), torch.zeros(rows.users, spec.dimensions)
    if len(table) > 1:
        right = _principal(table, content)
        M[: right.shape[1]] = START * right.T.reshape(-1, outputs, width)
        own = table @ right
        vectors[:, bias : bias + right.shape[1]] = 0.5 * own / own.std(0).clamp_min(1e-9)
    made = None
    if thresholds is not None:
        made = Thresholds(len(objective.live.basis.labels))
        made.load_state_dict(thresholds.state_dict())
    return _Model(
        torch.zeros(outputs, width), torch.zeros(outputs), M, vectors, head.C[:, :bias].detach().cpu().clone(), made
    )


def _principal(table: Tensor, count: int) -> Tensor:
    """(columns, at most `count`) the directions in which rows differ most, on one side of a plane each."""
    if len(table) < table.shape[1]:
        right = torch.linalg.svd(table, full_matrices=False)[2][:count].T
    else:
        right = torch.linalg.eigh(table.T @ table)[1].flip(1)[:, :count]
    largest = right[right.abs().argmax(0), torch.arange(right.shape[1])]
    found: Tensor = right * torch.where(largest < 0, -1.0, 1.0)
    return found


def _priors(start: _Model, rows: _Rows, objective: Objective) -> tuple[float, float]:
    """The heaviest weights of both priors whose loss on the texts kept aside is the least, but for chance.

    Chance is one standard error over texts. The heaviest of all where nothing can be kept aside.
    """
    texts = len(rows.features)
    if texts < ASIDE:
        return HEAD_PRIORS[-1], MIXING_PRIORS[-1]
    order = torch.randperm(texts, generator=torch.Generator().manual_seed(objective.settings.seed))
    folds = min(ASIDE, -(-ENOUGH * ASIDE // texts))
    rate = objective.settings.personalized_dropout

    def costs(head: float, mixing: float) -> Tensor:
        """(texts kept aside in all folds,) each one's loss."""
        found = []
        for fold in range(folds):
            aside = torch.zeros(texts, dtype=torch.bool)
            aside[order[fold::ASIDE]] = True
            judged = rows.only(aside[rows.text])
            model = _solve(start, rows.only(~aside[rows.text]), (head, mixing), TRIAL_STEPS, objective)
            with torch.no_grad():
                each = _losses(*model.logits(judged), judged.target, rate)
            found.append(torch.zeros(texts).index_add_(0, judged.text, each)[aside])
        return torch.cat(found)

    mixing = _heaviest({weight: costs(HEAD_PRIORS[1], weight) for weight in MIXING_PRIORS})
    head = _heaviest({weight: costs(weight, mixing) for weight in HEAD_PRIORS})
    return head, mixing


def _heaviest(costs: dict[float, Tensor]) -> float:
    """The heaviest weight that is within one standard error of the best."""
    best = min(costs, key=lambda weight: float(costs[weight].sum()))
    fair = []
    for weight, each in costs.items():
        worse = each - costs[best]
        chance = float(worse.std()) * len(worse) ** 0.5 if len(worse) > 1 else 0.0
        if weight == best or float(worse.sum()) <= chance:
            fair.append(weight)
    return max(fair)


def _solve(start: _Model, rows: _Rows, priors: tuple[float, float], steps: int, objective: Objective) -> _Model:
    """Adam on all rows at once with a falling rate: the problem is smooth and small."""
    thresholds = None
    if start.thresholds is not None:
        thresholds = Thresholds(len(objective.live.basis.labels))
        thresholds.load_state_dict(start.thresholds.state_dict())
    model = _Model(
        start.W.clone(), start.b.clone(), start.M.clone(), start.vectors.clone(), start.contrasts, thresholds
    )
    leaves = [leaf.requires_grad_() for leaf in model.leaves()]
    optimizer = torch.optim.Adam(leaves, lr=RATE)
    n, prior = len(rows.target), objective.settings.prior
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
        common, personal = model.logits(rows)
        loss = _losses(common, personal, rows.target, objective.settings.personalized_dropout).mean()
        weights = priors[0] * model.W.square().sum() + priors[1] * model.M.square().sum()
        loss = loss + 0.5 * (weights + prior * model.vectors.square().sum()) / n
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    for leaf in leaves:
        leaf.requires_grad_(False)
    return model


def _losses(common: Tensor, personal: Tensor, target: Tensor, rate: float) -> Tensor:
    """(rows,) in nats, with personalized dropout at its mean."""
    generic, own = (F.cross_entropy(logits, target, reduction="none") for logits in (common, personal))
    return (1 - rate) * own + rate * generic
