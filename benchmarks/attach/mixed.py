"""A batch of 64 users, each other's strangers, beside the same batch through the bare model, and through PEFT."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec

import torch
from torch import Tensor, nn

import plora
from benchmarks.attach.subjects import RANK, Subject
from benchmarks.fit.stats import median
from benchmarks.fit.stopwatch import Clock, Turn, take_turns
from plora import Adapter, Attachment, Kind, LowRankAdapter, Precision, Residents, Speaker, Worn
from plora.passes import logits_of

if TYPE_CHECKING:
    from peft import PeftModel

P = ParamSpec("P")

BARE = "bare model"
PEFT_MIXED = "PEFT adapter_names, 64 LoRAs"


@dataclass(frozen=True, slots=True)
class Mixed:
    """What a batch takes, and its throughput over the bare model's and over PEFT's mixed batch, round by round."""

    subject: str
    way: str
    rounds: int
    batch_ms: float
    of_bare: float
    of_peft: float | None


class Batches:
    """One batch of random words, and every way to let each of its rows be another user's."""

    def __init__(self, subject: Subject, vectors: Sequence[Adapter], low_ranks: Sequence[LowRankAdapter]) -> None:
        self.subject, self.rows = subject, len(vectors)
        self.ids = subject.ids(self.rows, 3)
        self.mask = torch.ones_like(self.ids)
        self.speaker = Speaker(subject.base, subject.basis)
        self.half: Speaker | None = None  # a CPU takes seventeen times as long for a decoder in bf16: not in turns
        if subject.base.kind is Kind.CLASSIFICATION:
            self.half = Speaker(subject.base, subject.basis, Precision.BF16)
        self.held = Residents[tuple[str, int]](subject.basis, self.rows)
        for at, (vector, low_rank) in enumerate(zip(vectors, low_ranks, strict=True)):
            self.held.put(("vector", at), vector)
            self.held.put(("low-rank", at), low_rank)

    def keys(self, kind: str) -> list[tuple[str, int] | None]:
        return [(kind, at) for at in range(self.rows)]

    @torch.no_grad()
    def bare(self, module: nn.Module, ids: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        ids, mask = (self.ids, self.mask) if ids is None or mask is None else (ids, mask)
        found: Tensor = module(input_ids=ids, attention_mask=mask, **self.subject.most).logits
        return found

    def attached(self, live: Attachment, kind: str) -> Tensor:
        """The rows are taken from the table of residents within the clock."""
        with live.use(self.held.rows(self.keys(kind))):
            return self.bare(live.module)

    def by_speaker(self, speaker: Speaker, kind: str) -> Tensor:
        """By the private copy that the daemon's predictors answer with."""
        return self.spoken(speaker, self.held.rows(self.keys(kind)), self.ids, self.mask)

    @torch.no_grad()
    def spoken(self, speaker: Speaker, worn: Worn, ids: Tensor, mask: Tensor) -> Tensor:
        if speaker.engine.encoder is not None:
            return logits_of(speaker.engine, ids, mask, worn.vectors, worn.changes)
        with speaker.engine.rows.use(worn.vectors, worn.changes):
            return self.bare(speaker.engine.module, ids, mask)

    @torch.no_grad()
    def named(self, model: "PeftModel") -> Tensor:
        most: dict[str, object] = {**self.subject.most, "adapter_names": [str(at) for at in range(self.rows)]}
        found: Tensor = model(input_ids=self.ids, attention_mask=self.mask, **most).logits
        return found

    @torch.no_grad()
    def one_by_one(self, model: "PeftModel") -> Tensor:
        """A call for each user, after set_adapter."""
        found = []
        for at in range(self.rows):
            model.set_adapter(str(at))
            row = slice(at, at + 1)
            found.append(self.bare(model, self.ids[row], self.mask[row]))
        return torch.cat(found)


def measure(batches: Batches, model: "PeftModel | None", rounds: int, alone: bool) -> list[Mixed]:
    """All ways in turns; `alone` is whether PEFT's one call for each user is among them, which takes long."""
    module = batches.subject.base.module
    basis = batches.subject.basis
    live, folded = (plora.attach(copy.deepcopy(module), basis, folded=each) for each in (False, True))  # twins
    rank = f"rank {RANK}"
    turns = [
        _turn(BARE, batches.bare, module),
        _turn("attached, vectors", batches.attached, live, "vector"),
        _turn(f"attached, {rank}", batches.attached, live, "low-rank"),
        _turn("folded, vectors", batches.attached, folded, "vector"),
        _turn(f"folded, {rank}", batches.attached, folded, "low-rank"),
        _turn("speaker, vectors", batches.by_speaker, batches.speaker, "vector"),
        _turn(f"speaker, {rank}", batches.by_speaker, batches.speaker, "low-rank"),
    ]
    if batches.half is not None:
        turns.append(_turn("speaker, vectors, bf16", batches.by_speaker, batches.half, "vector"))
    if model is not None:
        turns.append(_turn(PEFT_MIXED, batches.named, model))
        if alone:
            turns.append(_turn("PEFT, set_adapter and a call for each", batches.one_by_one, model))
    for turn in turns:
        turn.work(0)
    taken = take_turns(turns, rounds)
    clock = Clock.CPU if torch.get_num_threads() == 1 else Clock.WALL
    seconds = {way: [one.seconds(clock) for one in each] for way, each in taken.items()}
    return [
        Mixed(
            batches.subject.name,
            way,
            rounds,
            round(1e3 * median(each), 1),
            round(_ratio(seconds[BARE], each), 3),
            round(_ratio(seconds[PEFT_MIXED], each), 3) if PEFT_MIXED in seconds else None,
        )
        for way, each in seconds.items()
    ]


def _turn(way: str, work: Callable[P, Tensor], *given: P.args, **named: P.kwargs) -> Turn[Tensor]:
    return Turn(way, lambda _: work(*given, **named))


def _ratio(above: Sequence[float], below: Sequence[float]) -> float:
    return median([a / b for a, b in zip(above, below, strict=True)])
