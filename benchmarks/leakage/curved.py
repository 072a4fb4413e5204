"""Losses under any number of vectors from one pass: a text's curve around the generic model.

It is exact where users enter at the task head; `checked` says how exact, by the model itself.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from plora import Adapter, Basis, Engine, Example
from plora.curves import LabelCurves, curves
from plora.examples import encode_all
from plora.passes import passes


def curves_of(engine: Engine, examples: Sequence[Example]) -> LabelCurves:
    """Those of the examples, for a classifier."""
    with passes(engine, encode_all(engine.base, engine.basis, list(examples))) as run:
        found = curves(run, torch.zeros(run.count, engine.basis.spec.dimensions))
    if not isinstance(found, LabelCurves):
        raise TypeError("a classifier is needed")
    return found


def gains(found: LabelCurves, vectors: Tensor) -> Tensor:
    """(vectors, rows) nats that each vector makes each row likelier than the generic model does."""
    rows = len(found.losses)
    return torch.stack([found.losses - found.losses_at(v.double().expand(rows, -1)) for v in vectors])


def ranks(found: LabelCurves, vectors: Tensor) -> Tensor:
    """(vectors, rows) of each row's own label among all, 0 the likeliest."""
    rows = len(found.losses)
    told = []
    for vector in vectors:
        chances = found.log_chances_at(vector.double().expand(rows, -1))
        own = chances.gather(1, found.targets[:, None])
        told.append((chances > own).sum(1))
    return torch.stack(told)


def checked(engine: Engine, adapter: Adapter, examples: Sequence[Example]) -> float:
    """The most that curves miss the model's own losses by, in nats."""
    vector = adapter.vector
    found = curves_of(engine, examples)
    with passes(engine, encode_all(engine.base, engine.basis, list(examples))) as run:
        true = run.losses(vector.expand(run.count, -1)).double()
    return float((true - found.losses_at(vector.double().expand(len(true), -1))).abs().max())


def vectors_of(basis: Basis, adapters: Sequence[Adapter | None]) -> Tensor:
    """(people, d), nobody's where a fit failed."""
    nobody = torch.zeros(basis.spec.dimensions)
    return torch.stack([nobody if each is None else each.vector for each in adapters])
