"""Fitting of low-rank adapters: many users' matrices in common passes, each exactly as if its user were alone."""

import hashlib
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .adapter import Adapter
from .basemodel import BaseModel
from .basis import Basis
from .engine import Engine
from .errors import WrongRows
from .examples import Example, Row
from .fitting import checked, windows
from .lowrank import Layout
from .lowrank_descent import descend
from .lowrank_outcome import LowRankFitted, LowRankSettings
from .outcome import FitFailed, FitFailure
from .passes import with_room


def fit_low_rank(
    base: BaseModel,
    basis: Basis,
    cohort: Sequence[Sequence[Example]],
    settings: LowRankSettings | None = None,
    *,
    engine: Engine | None = None,
    start: Sequence[Adapter | None] | None = None,
) -> list[LowRankFitted | FitFailed]:
    """Fit one low-rank adapter for each user's examples, on top of the generic model or of the `start` vector.

    One outcome for each user, in order. Raises WrongBasis where an `engine` made before is of another Basis, WrongRows
    where `start` is not one for each user.
    """
    chosen = settings or LowRankSettings()
    begun = start if start is not None else [None] * len(cohort)
    if len(begun) != len(cohort):
        raise WrongRows(len(begun), len(cohort))
    made = checked(engine, basis) or Engine(base, basis, chosen.precision)
    layout = Layout.of(basis, chosen.rank, chosen.alpha)
    origin, most = beginning(basis, layout), max(1, chosen.window // layout.numbers)
    waiting = iter(begun)
    outcomes: list[LowRankFitted | FitFailed] = []
    for window in windows(base, basis, cohort):
        for at in range(0, len(window.users), most):
            users = [_startable(rows, next(waiting), basis) for rows in window.users[at : at + most]]
            outcomes += _fit_window(made, users, origin, chosen)
    return outcomes


def beginning(basis: Basis, layout: Layout) -> Tensor:
    """(numbers,) that change nothing: B = 0, A Kaiming-uniform from a seed of the Basis and target, alike for all."""
    flat = torch.zeros(1, layout.numbers)
    for name, part in layout.parts(flat).items():
        if name.startswith("A."):
            digest = hashlib.sha256(f"{basis.fingerprint}|{name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
            part[0] = (torch.rand(part.shape[1:], generator=generator) * 2 - 1) / math.sqrt(part.shape[2])
    return flat[0]


_Begun = tuple[tuple[Row, ...], Tensor]
"""A user's rows and the (d,) vector the fit starts beside."""


def _startable(rows: tuple[Row, ...] | FitFailed, start: Adapter | None, basis: Basis) -> _Begun | FitFailed:
    if isinstance(rows, FitFailed):
        return rows
    if start is None:
        return rows, torch.zeros(basis.spec.dimensions)
    fits = start.base == basis.base and start.basis == basis.fingerprint
    if not fits or start.vector.numel() != basis.spec.dimensions:
        return FitFailed(FitFailure.WRONG_BASIS)
    return rows, start.vector


def _fit_window(
    engine: Engine, users: Sequence[_Begun | FitFailed], origin: Tensor, settings: LowRankSettings
) -> list[LowRankFitted | FitFailed]:
    begun = [user for user in users if not isinstance(user, FitFailed)]
    found: Iterator[LowRankFitted | FitFailed] = iter(())
    if begun:
        vectors = torch.stack([vector for _, vector in begun])
        rows = [rows for rows, _ in begun]
        found = iter(with_room(engine, rows, lambda run, counts: descend(run, counts, vectors, origin, settings)))
    return [user if isinstance(user, FitFailed) else next(found) for user in users]
