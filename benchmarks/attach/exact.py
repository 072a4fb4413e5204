"""Whether a row of a mixed batch is what its user would have got alone, and what a broken row does to the others."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import plora
from benchmarks.attach.mixed import Batches
from plora import Attachment, LowRankAdapter, Worn
from plora.basis import Basis

if TYPE_CHECKING:
    from peft import PeftModel

Speak = Callable[[Worn, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Exact:
    """One way's largest differences, of logits in float32.

    `solo` is against each row in a batch of its own, `strangers` against the same batch with every other row another
    user's, `broken` the most that a user of NaN changed in anybody else's row. `moved` is how far users are from the
    generic model and `size` the largest logit: what the differences are to be held against.
    """

    subject: str
    way: str
    rows: int
    solo: float
    strangers: float
    broken: float
    moved: float
    size: float


def measure(batches: Batches, rows: int) -> list[Exact]:
    """Both ways, both kinds of adapters, on the first `rows` rows."""
    found = []
    for way, folded in (("attached", False), ("folded", True)):
        with plora.attached(batches.subject.base, batches.subject.basis, folded=folded) as live:
            found += [_compare(batches, way, _attached(batches, live), kind, rows) for kind in KINDS]
    speak = partial(batches.spoken, batches.speaker)
    return found + [_compare(batches, "speaker", speak, kind, rows) for kind in KINDS]


KINDS = ("vector", "low-rank")


@torch.no_grad()
def _compare(batches: Batches, way: str, speak: Speak, kind: str, rows: int) -> Exact:
    ids, mask = batches.ids[:rows], batches.mask[:rows]
    worn = batches.held.rows(batches.keys(kind)[:rows])
    mixed = speak(worn, ids, mask)
    solo = [
        _most(speak(_only(worn, [at]), ids[at : at + 1], mask[at : at + 1]), mixed[at : at + 1]) for at in range(rows)
    ]
    turned = [(at + 1) % rows for at in range(rows)]
    strangers = 0.0
    for at in range(0, rows, max(1, rows // 8)):
        others = [at if row == at else turned[row] for row in range(rows)]
        strangers = max(strangers, _most(speak(_only(worn, others), ids, mask)[at], mixed[at]))
    hurt = worn.vectors.clone()
    hurt[0] = torch.nan
    broken = speak(Worn(worn.basis, hurt, worn.changes), ids, mask)
    if not bool(broken[0].isnan().any()):
        raise RuntimeError("a vector of NaN changed nothing")
    moved = _most(speak(Worn(worn.basis, torch.zeros_like(worn.vectors)), ids, mask), mixed)
    hurts = _most(broken[1:], mixed[1:])
    return Exact(
        batches.subject.name, f"{way}, {kind}", rows, max(solo), strangers, hurts, moved, float(mixed.abs().max())
    )


def against_peft(batches: Batches, model: "PeftModel", users: list[LowRankAdapter]) -> float:
    """The largest difference of logits from PEFT's mixed batch, on a Basis that changes nothing itself."""
    basis = batches.subject.basis
    silent = {
        name: torch.zeros_like(value) if name[:2] in ("B.", "M", "C") else value
        for name, value in basis.tensors.items()
    }
    still = Basis(basis.spec, silent)
    moved = [LowRankAdapter(each.base, still.fingerprint, each.rank, each.alpha, each.tensors) for each in users]
    with plora.attached(batches.subject.base, still) as live, live.use(moved):
        if live.head is not None:  # PEFT's users share the model's own
            live.head.load_state_dict(model.get_submodule("base_model.model.classifier").state_dict())
        return _most(batches.bare(live.module), batches.named(model))


def _attached(batches: Batches, live: Attachment) -> Speak:
    def speak(worn: Worn, ids: Tensor, mask: Tensor) -> Tensor:
        with live.use(worn):
            return batches.bare(live.module, ids, mask)

    return speak


def _only(worn: Worn, rows: list[int]) -> Worn:
    changes = worn.changes and {name: type(each)(each.A[rows], each.B[rows]) for name, each in worn.changes.items()}
    return Worn(worn.basis, worn.vectors[rows], changes)


def _most(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max())
