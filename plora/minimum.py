"""The least of a user's loss on its curves: Newton's steps that run no model."""

import torch
from torch import Tensor

from .curves import Curves, by_user
from .statistics import newton_moves

STEPS, HALVINGS = 8, 6
NEAR = 1e-7
"""A user is done when no coordinate moves further, in prior standard deviations."""


def least(found: Curves, owner: Tensor, away: Tensor, prior: float) -> Tensor:
    """(users, d) how far each user goes from where the curves were taken.

    Minimises the rows' losses on their curves plus prior / 2 |away + move|^2, where `away` (users, d) is the point
    less the prior's mean. A step that does not lower it is halved. Every user's moves depend on its own rows alone.
    """
    users = len(away)
    moves, here = torch.zeros_like(away), found
    active = torch.ones(users, dtype=torch.bool)
    value = by_user(found.losses, owner, users) + 0.5 * prior * away.square().sum(1)
    ridge = torch.full((users,), prior, dtype=torch.float64)
    for _ in range(STEPS):
        gradient = by_user(here.gradients, owner, users) + prior * (away + moves)
        step = newton_moves(by_user(here.information, owner, users), gradient, ridge)
        active &= step.abs().amax(1) > NEAR
        trying = active.clone()
        for _ in range(HALVINGS):
            if not bool(trying.any()):
                break
            there = moves + step
            reached = by_user(found.losses_at(there[owner]), owner, users)
            reached = reached + 0.5 * prior * (away + there).square().sum(1)
            better = trying & (reached <= value)
            moves = torch.where(better[:, None], there, moves)
            value = torch.where(better, reached, value)
            trying &= ~better
            step = step * 0.5
        active &= ~trying  # no shorter step helps either: rounding
        if not bool(active.any()):
            break
        here = found.moved(moves[owner])
    return moves


def left_out(found: Curves, owner: Tensor, moves: Tensor, away: Tensor, prior: float) -> Tensor:
    """(rows, d) the moves that each row's user would make without that row.

    One Newton step from the user's least, without the row's own gradient and information: approximate leave-one-out
    (Rad & Maleki 2020).
    """
    users = len(away)
    here = found.moved(moves[owner])
    gradient = by_user(here.gradients, owner, users) + prior * (away + moves)
    information = by_user(here.information, owner, users)
    ridge = torch.full((len(owner),), prior, dtype=torch.float64)
    step = newton_moves(information[owner] - here.information, gradient[owner] - here.gradients, ridge)
    return moves[owner] + step
