"""Examples as a model reads them: token rows in micro-batches of fixed shape.

A row is padded to a length that depends on itself alone, and every micro-batch of that length has the same number of
rows, filled up with blanks. So the arithmetic of one row never depends on who else is in the batch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from .basemodel import BaseModel
from .basis import Basis, Kind
from .errors import UnknownLabel

LENGTHS = (*range(8, 64, 8), *range(64, 128, 16), *range(128, 512, 64), 512, 768, 1024, 2048, 4096, 8192)
"""Tokens a row may be padded to: close steps where texts are, since padding costs as much as text."""

TOKENS_PER_BATCH = 512
"""Tokens in one micro-batch of population training, padding included."""

IGNORE = -100


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to learn from: a text and its target (a label, or the text that follows for a causal LM)."""

    text: str = field(repr=False)
    target: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One example as tokens. `target` is the label's index; for a causal LM the count of prompt tokens."""

    ids: tuple[int, ...] = field(repr=False)
    target: int


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows of one length. `index` (real rows,) says which; ids and mask are (rows, length)."""

    index: Tensor
    ids: Tensor = field(repr=False)
    mask: Tensor = field(repr=False)
    targets: Tensor = field(repr=False)  # (rows,) label indices, or (rows, length) token ids with IGNORE


def encode_text(base: BaseModel, text: str) -> tuple[int, ...]:
    """The tokens of one text, cut to the model's limit, never empty."""
    ids = base.tokenizer(text, truncation=True, max_length=base.max_tokens)["input_ids"]
    return tuple(ids) or (pad_id(base),)


def encode(base: BaseModel, basis: Basis, example: Example) -> Row:
    """Raises UnknownLabel where the target is not one of a classification Basis's labels."""
    if basis.kind is Kind.CLASSIFICATION:
        if example.target not in basis.labels:
            raise UnknownLabel(len(basis.labels))
        return Row(encode_text(base, example.text), basis.labels.index(example.target))
    prompt = encode_text(base, example.text)
    answer = base.tokenizer(example.target, add_special_tokens=False)["input_ids"]
    end = base.tokenizer.eos_token_id
    answer = (*answer, end) if end is not None else tuple(answer)
    room = max(1, base.max_tokens - len(answer))
    prompt = prompt[-room:]
    return Row((*prompt, *answer)[: base.max_tokens], len(prompt))


def encode_all(base: BaseModel, basis: Basis, examples: Sequence[Example]) -> list[Row]:
    """`encode` for many at once, which a fast tokenizer does in parallel and without holding up other threads."""
    if basis.kind is not Kind.CLASSIFICATION or not examples:
        return [encode(base, basis, example) for example in examples]
    known = {label: at for at, label in enumerate(basis.labels)}
    if any(example.target not in known for example in examples):
        raise UnknownLabel(len(basis.labels))
    found = base.tokenizer([example.text for example in examples], truncation=True, max_length=base.max_tokens)
    pairs = zip(found["input_ids"], examples, strict=True)
    return [Row(tuple(ids) or (pad_id(base),), known[example.target]) for ids, example in pairs]


def pad_id(base: BaseModel) -> int:
    """What fills a row up: the tokenizer's padding token, or its end token where it has none."""
    for token in (base.tokenizer.pad_token_id, base.tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


def micro_batches(
    base: BaseModel,
    kind: Kind,
    rows: Sequence[Row],
    chosen: Iterable[int] | None = None,
    *,
    tokens: int = TOKENS_PER_BATCH,
) -> list[MicroBatch]:
    """`rows` (or those `chosen`) in micro-batches of so many `tokens`, each of one length, on the model's device.

    A row longer than `tokens` is a micro-batch of its own.
    """
    by_length: dict[int, list[int]] = {}
    for index in range(len(rows)) if chosen is None else chosen:
        needed = len(rows[index].ids)
        length = next((n for n in LENGTHS if n >= needed), needed)
        by_length.setdefault(min(length, max(base.max_tokens, needed)), []).append(index)
    batches = []
    for length, indices in sorted(by_length.items()):
        size = max(1, tokens // length)
        for start in range(0, len(indices), size):
            part = indices[start : start + size]
            batches.append(_micro_batch(base, kind, [rows[i] for i in part], part, (size, length)))
    return batches


def _micro_batch(
    base: BaseModel, kind: Kind, rows: Sequence[Row], index: Sequence[int], shape: tuple[int, int]
) -> MicroBatch:
    pad = pad_id(base)
    ids = torch.full(shape, pad, dtype=torch.long)
    mask = torch.zeros(shape, dtype=torch.long)
    mask[:, 0] = 1  # a blank row attends to its first token, so that no softmax is over nothing
    lm = kind is Kind.CAUSAL_LM
    targets = torch.full(shape if lm else shape[:1], IGNORE, dtype=torch.long)
    for at, row in enumerate(rows):
        length = len(row.ids)
        ids[at, :length] = torch.tensor(row.ids)
        mask[at, :length] = 1
        if lm:
            targets[at, row.target : length] = ids[at, row.target : length]
        else:
            targets[at] = row.target
    move = base.device
    return MicroBatch(torch.tensor(index), ids.to(move), mask.to(move), targets.to(move))


def row_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """(rows,) negative log-likelihood in nats: of the label, or the mean over the answer's tokens. Blanks give 0.

    logits: (rows, labels) or (rows, length, vocabulary).
    """
    if logits.dim() == 2:
        return F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none")
    ahead, next_ids = logits[:, :-1], targets[:, 1:]
    losses = F.cross_entropy(ahead.transpose(1, 2), next_ids, ignore_index=IGNORE, reduction="none")
    return losses.sum(1) / (next_ids != IGNORE).sum(1).clamp_min(1)


def row_hits(logits: Tensor, targets: Tensor) -> Tensor:
    """(rows,) 1.0 where the likeliest label is right; for a causal LM the share of answer tokens guessed right."""
    if logits.dim() == 2:
        return (logits.argmax(-1) == targets).float()
    wanted = targets[:, 1:]
    right = (logits[:, :-1].argmax(-1) == wanted) & (wanted != IGNORE)
    return right.sum(1) / (wanted != IGNORE).sum(1).clamp_min(1)
