"""A small causal LM trained on a population's texts, since no pretrained one is at hand; or a pretrained one by name.

Nobody's text reaches the tokenizer or the model but those of the people it is given.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import plora
from benchmarks.quality.folds import Person
from benchmarks.quality.text.settings import Language, TextSettings
from plora import BaseModel, Example, Kind
from plora.examples import IGNORE

PAD, END, STOP = "<pad>", "<end>", "<sep>"
"""The last ends a prompt."""

TEXT_PER_TOKEN = 400
"""Characters that are read for each token of the vocabulary, at least: few texts cannot teach many words."""

WARM_UP = 50
"""Steps until the rate is whole."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A model, and how many of a text's last words are its prompt."""

    base: BaseModel
    prompt_words: int

    def examples(self, examples: Sequence[Example]) -> list[Example]:
        """As the model reads them."""
        return [Example(shortened(one.text, self.prompt_words), one.target) for one in examples]


@dataclass(frozen=True, slots=True)
class _Row:
    ids: list[int] = field(repr=False)
    prompt: int


def spoken(people: Sequence[Person], settings: TextSettings, seed: int) -> Spoken:
    """The model of `settings`, or one trained on what `people` learn from. Raises BaseModelNotFound."""
    language = settings.language
    rows = [example for person in people for example in person.learn]
    low, high = language.prompt_words
    words = max(low, min(high, language.words_read // len(rows)))
    if settings.model:
        return Spoken(plora.load(settings.model, kind=Kind.CAUSAL_LM, max_tokens=settings.max_tokens), words)
    shown = [Example(shortened(one.text, words), one.target) for one in rows]
    tokenizer = make_tokenizer([text for one in rows for text in (one.text, one.target)], language.vocabulary)
    module = train(tokenizer, shown, language, limit=settings.max_tokens, seed=seed)
    base = plora.wrap(module, tokenizer, kind=Kind.CAUSAL_LM, name="trained", max_tokens=settings.max_tokens)
    return Spoken(base, words)


def shortened(text: str, words: int) -> str:
    return " ".join(text.split()[-words:])


def make_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE: no text is unknown to it. A prompt ends with a token of its own, and is cut at its beginning."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = decoders.ByteLevel()
    size = max(300, min(vocabulary, sum(map(len, texts)) // TEXT_PER_TOKEN))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    how = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[PAD, END, STOP], initial_alphabet=sorted(alphabet), show_progress=False
    )
    made.train_from_iterator(texts, how)
    made.post_processor = processors.TemplateProcessing(
        single=f"$A {STOP}", special_tokens=[(STOP, made.token_to_id(STOP))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token=PAD, eos_token=END, truncation_side="left")


def train(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], language: Language, *, limit: int, seed: int
) -> LlamaForCausalLM:
    """A model of `examples`: their targets after their texts."""
    rows = [_row(tokenizer, example, limit) for example in examples]
    draw = random.Random(seed)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        module = _fresh(tokenizer, language, limit).train()
        optimizer = torch.optim.AdamW(module.parameters(), lr=language.rate, weight_decay=0.05, betas=(0.9, 0.98))
        each = len(list(_batches(rows, language.tokens, random.Random(seed))))
        low, high = language.epochs
        epochs = max(low, min(high, language.steps // each))
        steps, step = epochs * each, 0
        for _ in range(epochs):
            for batch in _batches(rows, language.tokens, draw):
                step += 1
                optimizer.param_groups[0]["lr"] = language.rate * _share(step, steps)
                optimizer.zero_grad()
                _loss(module, batch, language).backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
                optimizer.step()
    return module


def _share(step: int, steps: int) -> float:
    """Of the rate: a short rise, then half a cosine."""
    return min(1.0, step / WARM_UP) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))


def _fresh(tokenizer: PreTrainedTokenizerFast, language: Language, limit: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=language.width,
        intermediate_size=5 * language.width // 2,
        num_hidden_layers=language.layers,
        num_attention_heads=language.heads,
        max_position_embeddings=limit,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def _row(tokenizer: PreTrainedTokenizerFast, example: Example, limit: int) -> _Row:
    """As plora encodes an example."""
    answer = [*tokenizer(example.target, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    prompt = tokenizer(example.text, truncation=True, max_length=limit)["input_ids"][-max(1, limit - len(answer)) :]
    return _Row([*prompt, *answer][:limit], len(prompt))


def _batches(rows: Sequence[_Row], tokens: int, draw: random.Random) -> Iterator[list[_Row]]:
    """Rows of about one length together, in an order of their own."""
    ranked = sorted(rows, key=lambda row: len(row.ids) + 6 * draw.random())
    found: list[list[_Row]] = [[]]
    longest = 0
    for row in ranked:
        longest = max(longest, len(row.ids))
        if found[-1] and longest * (len(found[-1]) + 1) > tokens:
            found.append([])
            longest = len(row.ids)
        found[-1].append(row)
    draw.shuffle(found)
    yield from found


def _loss(module: LlamaForCausalLM, batch: Sequence[_Row], language: Language) -> Tensor:
    """Mean over the answers' tokens, and of the prompts' by their share."""
    length = max(len(row.ids) for row in batch)
    ids, targets = torch.zeros(len(batch), length, dtype=torch.long), torch.full((len(batch), length), IGNORE)
    mask, prompts = torch.zeros_like(ids), torch.full((len(batch), length), IGNORE)
    for at, row in enumerate(batch):
        end = len(row.ids)
        ids[at, :end], mask[at, :end] = torch.tensor(row.ids), 1
        targets[at, row.prompt : end] = ids[at, row.prompt : end]
        prompts[at, : row.prompt] = ids[at, : row.prompt]
    hidden = module.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[:, :-1]
    loss = _mean(module, F.dropout(hidden, language.dropout), targets[:, 1:])
    asked = bool((prompts[:, 1:] != IGNORE).any()) and language.prompt_share > 0
    return loss + language.prompt_share * _mean(module, hidden, prompts[:, 1:]) if asked else loss


def _mean(module: LlamaForCausalLM, hidden: Tensor, targets: Tensor) -> Tensor:
    wanted = targets != IGNORE
    return F.cross_entropy(module.lm_head(hidden[wanted]), targets[wanted])
