"""What the adapter in use makes of examples that came since it was made, and how far a new one moves its answers."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

import plora
from daemon.messages import FreshLoss
from daemon.places import Place
from plora.examples import encode_all
from plora.passes import Passes, with_room

Fit = plora.Fitted | plora.FitFailed


def fresh_losses(engine: plora.Engine, places: Sequence[Place], fits: Sequence[Fit]) -> list[tuple[FreshLoss, ...]]:
    """For each place the losses of its fresh rows: one forward over them, three where the fit has no losses itself."""
    pairs = list(zip(places, fits, strict=True))
    chosen = [_fresh(place, fit) for place, fit in pairs]
    rows = [
        encode_all(engine.base, engine.basis, [place.rows[at] for at in fresh])
        for place, fresh in zip(places, chosen, strict=True)
    ]
    if not any(rows):
        return [() for _ in places]
    nobody = torch.zeros(engine.basis.spec.dimensions)
    current = [nobody if place.current is None else place.current.vector for place in places]
    candidate = [nobody if isinstance(fit, plora.FitFailed) else fit.adapter.vector for fit in fits]
    held = any(place.held_out for place in places)

    def measure(run: Passes, counts: list[int]) -> list[list[float]]:
        told = [run.losses(_each(current, counts)).tolist()]
        return [*told, run.losses(None).tolist(), run.losses(_each(candidate, counts)).tolist()] if held else told

    found = with_room(engine, rows, measure)
    told, done = [], 0
    for (place, fit), fresh in zip(pairs, chosen, strict=True):
        here = [[side[done + at] for side in found] for at in range(len(fresh))]
        told.append(tuple(_loss(place, fit, at, each) for at, each in zip(fresh, here, strict=True)))
        done += len(fresh)
    return told


def moved(basis: plora.Basis, vector: Tensor, other: Tensor) -> float | None:
    """Nats between the answers of two vectors on the Basis's own sample; None where the Basis has none."""
    nats = basis.divergence(vector, other)
    return None if math.isnan(nats) else nats


def _fresh(place: Place, fit: Fit) -> tuple[int, ...]:
    """Those that the fit looked at and was judged on: what is held out, or what is learnt from anew."""
    if place.current is None or isinstance(fit, plora.FitFailed):
        return ()
    first = len(place.learn) if place.held_out else len(place.learn) - len(fit.left_out_losses)
    return tuple(at for at in place.fresh if at >= first)


def _each(vectors: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    return torch.repeat_interleave(torch.stack(list(vectors)), torch.tensor(counts), dim=0)


def _loss(place: Place, fit: Fit, at: int, found: Sequence[float]) -> FreshLoss:
    """`found` are the losses under the current adapter, and with a held-out part under nobody's and the new one."""
    if place.held_out or isinstance(fit, plora.FitFailed):
        current, generic, candidate = found
        return FreshLoss(generic, current, candidate)
    looked = at - len(place.learn) + len(fit.left_out_losses)  # a refit looks at what is new, which comes last
    return FreshLoss(fit.generic_losses[looked], found[0], fit.left_out_losses[looked])
