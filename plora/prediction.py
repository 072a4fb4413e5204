"""Prediction: texts of many users answered in one batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from transformers import GenerationMixin

from .attachment import Attachment, attached
from .basemodel import BaseModel
from .basis import Basis, Kind
from .errors import WrongRows
from .examples import encode_text, pad_id
from .passes import forward
from .users import User

ROWS_PER_BATCH = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """A label (or the text that follows, for a causal LM) and how sure the model is, from 0 to 1.

    For a causal LM `confidence` is the geometric mean of its tokens' probabilities and `probabilities` is empty.
    """

    answer: str = field(repr=False)
    confidence: float
    probabilities: Mapping[str, float] = field(repr=False)


def predict(
    base: BaseModel,
    basis: Basis,
    texts: Sequence[str],
    adapters: Sequence[User],
    *,
    max_new_tokens: int = 32,
) -> list[Answer]:
    """Answer each text as its own user; None is the generic model. Raises WrongRows, WrongBasis, WrongBaseModel."""
    if len(texts) != len(adapters):
        raise WrongRows(len(adapters), len(texts))
    answers: list[Answer] = []
    with attached(base, basis) as live, torch.no_grad():
        live.check(adapters)
        encoded = [encode_text(base, text) for text in texts]
        for start in range(0, len(texts), ROWS_PER_BATCH):
            part = slice(start, start + ROWS_PER_BATCH)
            if basis.kind is Kind.CLASSIFICATION:
                answers += _classify(base, live, encoded[part], adapters[part])
            else:
                with live.use(adapters[part]):
                    answers += continued(base, base.module, encoded[part], max_new_tokens)
    return answers


def _classify(
    base: BaseModel, live: Attachment, encoded: Sequence[tuple[int, ...]], users: Sequence[User]
) -> list[Answer]:
    width = max(len(ids) for ids in encoded)
    ids = torch.full((len(encoded), width), pad_id(base))
    mask = torch.zeros(len(encoded), width, dtype=torch.long)
    for row, tokens in enumerate(encoded):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    with live.use(users):
        chances = forward(base, ids.to(base.device), mask.to(base.device)).float().softmax(-1).cpu()
    return [answer_of(live.basis.labels, row) for row in chances]


def answer_of(labels: Sequence[str], chances: Tensor) -> Answer:
    """The likeliest of `labels`, whose probabilities are (labels,)."""
    shares = dict(zip(labels, chances.tolist(), strict=True))
    best = labels[int(chances.argmax())]
    return Answer(best, shares[best], shares)


def continued(
    base: BaseModel, module: nn.Module, encoded: Sequence[tuple[int, ...]], max_new_tokens: int
) -> list[Answer]:
    """Greedy continuations by `module`, on which the rows' users are. Padded on the left: all grow at the same end."""
    width = max(len(ids) for ids in encoded)
    ids = torch.full((len(encoded), width), pad_id(base))
    mask = torch.zeros(len(encoded), width, dtype=torch.long)
    for row, prompt in enumerate(encoded):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    out = cast(GenerationMixin, module).generate(
        input_ids=ids.to(base.device),
        attention_mask=mask.to(base.device),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=pad_id(base),
        return_dict_in_generate=True,
        output_scores=True,
    )
    tokens = out.sequences[:, width:].cpu()
    chances = torch.stack(out.scores, dim=1).float().log_softmax(-1).cpu()  # (rows, new, vocabulary)
    chosen = chances.gather(2, tokens[:, :, None])[..., 0]
    real = (tokens != pad_id(base)).float()
    sure = ((chosen * real).sum(1) / real.sum(1).clamp_min(1)).exp()
    answers = base.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [Answer(text, float(share), {}) for text, share in zip(answers, sure, strict=True)]
