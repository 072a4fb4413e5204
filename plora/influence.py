"""Influence: which of a user's own examples moved an answer, and how far the answer is from the generic model's.

What an example did to the user's vector is what the vector would lack without it: one Newton step from the least of
the user's curves, the example's own gradient and information left out (approximate leave-one-out, Rad & Maleki 2020).
Those vectors are then worn by rows of the text itself, so that the answer's change is the model's own, not a line's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from .adapter import Adapter
from .basis import Basis
from .curves import curves
from .engine import Engine
from .errors import WrongKind
from .examples import Example, encode, encode_text
from .minimum import least, left_out
from .outcome import FitSettings
from .passes import logits_of, passes

MOST = 64
"""Examples that are looked at, the newest."""


@dataclass(frozen=True, slots=True)
class Moved:
    """How much one example, by its place, moved the log-odds of the answered label: nats, above 0 towards it."""

    example: int
    nats: float


@dataclass(frozen=True, slots=True)
class Influence:
    """What moved an answer, most first. `from_generic` is KL(answer, the generic model's answer) in nats."""

    moved: tuple[Moved, ...]
    from_generic: float
    generic_label: str = field(repr=False)


def influence(
    engine: Engine, text: str, adapter: Adapter | None, taught: Sequence[Example], settings: FitSettings | None = None
) -> Influence:
    """What of `taught` moved the answer to `text` by `adapter`; None is the generic model, which nothing moved.

    Examples with a label that the Basis lacks moved nothing. Raises WrongKind for a Basis that writes text.
    """
    if engine.link is None:
        raise WrongKind(engine.basis.kind.value)
    basis, start = engine.basis, max(0, len(taught) - MOST)
    known = [at for at in range(start, len(taught)) if taught[at].target in basis.labels]
    d = basis.spec.dimensions
    whole = torch.zeros(d, dtype=torch.float64) if adapter is None else adapter.vector.double()
    worn = [whole, torch.zeros(d, dtype=torch.float64)]
    if adapter is not None and known:
        bias = basis.spec.bias
        width = bias if bias and not bool(whole[bias:].any()) else d  # of a label bias alone, content gave nothing
        parts = _parts(engine, [taught[at] for at in known], settings or FitSettings(), width)
        worn += list(whole - parts)
    chances = _chances(engine, text, torch.stack(worn))
    own, generic = chances[0], chances[1]
    label = int(own.argmax())
    odds = chances[:, label].log() - torch.log1p(-chances[:, label].clamp_max(1 - 1e-12))
    moved = [Moved(at, float(odds[0] - odds[2 + k])) for k, at in enumerate(known if adapter is not None else [])]
    return Influence(
        moved=tuple(sorted(moved, key=lambda each: -abs(each.nats))),
        from_generic=float((own * (own.log() - generic.log())).sum()),
        generic_label=_label(basis, generic),
    )


def _parts(engine: Engine, taught: Sequence[Example], settings: FitSettings, width: int) -> torch.Tensor:
    """(examples, d) what each gave the vector that they fit together, along its first `width` coordinates alone."""
    rows = [encode(engine.base, engine.basis, example) for example in taught]
    owner = torch.zeros(len(rows), dtype=torch.long)
    away, d = -engine.basis.prior_mean.double()[None, :width], engine.basis.spec.dimensions
    with passes(engine, rows) as run:
        found = curves(run, torch.zeros(len(rows), d)).narrowed(width)
        moves = least(found, owner, away, settings.prior)
        parts = moves - left_out(found, owner, moves, away, settings.prior)
    return torch.nn.functional.pad(parts, (0, d - width))


@torch.no_grad()
def _chances(engine: Engine, text: str, worn: torch.Tensor) -> torch.Tensor:
    """(vectors, labels) what the text is answered with under each vector (vectors, d)."""
    ids = torch.tensor([encode_text(engine.base, text)]).expand(len(worn), -1).to(engine.base.device)
    vectors = worn.float().to(engine.base.device)
    return logits_of(engine, ids, torch.ones_like(ids), vectors, None).double().softmax(-1).cpu().clamp_min(1e-12)


def _label(basis: Basis, chances: torch.Tensor) -> str:
    return basis.labels[int(chances.argmax())]
