"""Who a row of a batch can be, and what must hold before a row of that user goes through a model."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .adapter import Adapter
from .basis import Basis
from .errors import WrongBaseModel, WrongBasis
from .lowrank import LowRankAdapter

User = Adapter | LowRankAdapter | None
"""Whose one row of a batch is; None is the generic model."""


def check_users(users: Sequence[User], basis: Basis) -> None:
    """Raises WrongBaseModel, WrongBasis or WrongShape where one of them does not belong to `basis`."""
    for user in users:
        if user is None:
            continue
        if user.base != basis.base:
            raise WrongBaseModel(user.base, basis.base)
        if user.basis != basis.fingerprint:
            raise WrongBasis(user.basis, basis.fingerprint)
        if isinstance(user, LowRankAdapter):
            user.check(basis)


def vectors_of(users: Sequence[User], basis: Basis) -> Tensor:
    """(rows, d) user vectors, zeros where a row is generic."""
    table = torch.zeros(len(users), basis.spec.dimensions)
    for row, user in enumerate(users):
        if user is not None:
            table[row] = user.vector
    return table
