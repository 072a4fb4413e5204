"""Generation: texts of many users written together, one token each at a time, handed on as they are written.

A crew is a batch of prompts that began together. Rows that are done leave it; prompts that come meanwhile form another
crew, and crews take turns, so that a short answer never waits for a long one to end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor
from transformers import DynamicCache

from .basemodel import BaseModel, positions
from .basis import Kind
from .engine import Engine
from .errors import InvalidSetting, NoChatTemplate, PromptTooLong, WrongKind
from .examples import pad_id
from .lowrank import stacked
from .users import User, check_users, vectors_of

LONGEST = 8_192
"""Tokens of a prompt and its answer together, where the model itself names no bound."""

HALF = "\ufffd"
"""What a tokenizer gives for a character of which only some bytes are written yet."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn: `temperature` 0 takes the likeliest, else the likeliest that make `top_p` are drawn from.

    A row draws by its own `seed` alone, whoever is in its batch. The text ends before the first of `stop`.
    """

    most_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.most_tokens < 1 or not 0 <= self.temperature <= 100 or not 0 < self.top_p <= 1:
            raise InvalidSetting("most_tokens, temperature and top_p", "at least 1, from 0 to 100, above 0 up to 1")


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids to go on from, as whom, and how."""

    ids: tuple[int, ...] = field(repr=False)
    user: User = field(default=None, repr=False)
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, slots=True)
class Written:
    """What one step added to one row's text. `finish` says why it ended: the model or a stop string, or the bound.

    `failed`: by this row's user the model gives no numbers, so that there is nothing more to write.
    """

    row: int
    text: str = field(repr=False)
    finish: Literal["stop", "length"] | None = None
    tokens: int = 0
    failed: bool = False


def encode_prompt(base: BaseModel, prompt: str | Sequence[tuple[str, str]]) -> tuple[int, ...]:
    """Tokens of a plain text, or of (role, content) turns by the model's chat template, up to where it answers.

    Raises NoChatTemplate, PromptTooLong, and InvalidSetting for turns that the template does not take.
    """
    if isinstance(prompt, str):
        found = base.tokenizer(prompt, add_special_tokens=True)["input_ids"]
    else:
        found = _by_template(base, prompt)
    ids = tuple(cast(list[int], found)) or (pad_id(base),)
    if len(ids) >= longest(base):
        raise PromptTooLong(len(ids), longest(base) - 1)
    return ids


def longest(base: BaseModel) -> int:
    """How many tokens prompt and answer may have together."""
    return min(positions(base.module) or LONGEST, LONGEST)


class Crew:
    """Prompts that are continued together on the engine of their Basis. Not for two threads at once.

    Raises WrongKind, WrongBasis, WrongBaseModel or WrongShape before any forward.
    """

    def __init__(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        if engine.basis.kind is not Kind.CAUSAL_LM:
            raise WrongKind(engine.basis.kind.value)
        check_users([prompt.user for prompt in prompts], engine.basis)
        self._engine, self._base = engine, engine.base
        self._rows = [_Row(at, prompt, self._base) for at, prompt in enumerate(prompts)]
        self._ids, self._mask = _padded(self._base, prompts)
        config = cast(Any, engine.module).config
        self._cache = DynamicCache(config=config)

    @property
    def rows(self) -> int:
        """How many are still being written."""
        return len(self._rows)

    def drop(self, row: int) -> None:
        """Nobody waits for this row any more."""
        for each in self._rows:
            each.dropped |= each.at == row

    @torch.no_grad()
    def step(self) -> list[Written]:
        """One more token for each row; what can be told of each text by now."""
        self._leave([at for at, row in enumerate(self._rows) if not row.dropped])
        if not self._rows:
            return []
        logits = self._forward()
        told, staying = list[Written](), list[int]()
        tokens = [pad_id(self._base)] * len(self._rows)
        for at, row in enumerate(self._rows):
            written, tokens[at] = row.step(logits[at], tokens[at])
            if written is not None:
                told.append(written)
            if not row.finished:
                staying.append(at)
        self._ids = torch.tensor(tokens, device=self._mask.device)[:, None]
        self._leave(staying)
        return told

    def _forward(self) -> Tensor:
        """(rows, vocabulary) logits of the next token."""
        users = [row.prompt.user for row in self._rows]
        device = self._base.device
        vectors = vectors_of(users, self._engine.basis).to(device)
        changes = stacked(users, self._engine.basis, device)
        places = (self._mask.cumsum(1) - 1).clamp_min(0)[:, -self._ids.shape[1] :]
        with self._engine.rows.use(vectors, changes):
            out = self._engine.module(
                input_ids=self._ids,
                attention_mask=self._mask,
                position_ids=places,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return cast(Tensor, out.logits)[:, -1].float().cpu()

    def _leave(self, staying: Sequence[int]) -> None:
        """Go on with these rows only; what they have written is attended to from now on."""
        if len(staying) < len(self._rows):
            keep = torch.tensor(staying, dtype=torch.long, device=self._mask.device)
            self._rows = [self._rows[at] for at in staying]
            self._ids, self._mask = self._ids[keep], self._mask[keep]
            if self._rows and self._cache.get_seq_length():
                self._cache.batch_select_indices(keep)
        if self._mask.shape[1] == self._cache.get_seq_length():
            self._mask = torch.cat([self._mask, torch.ones_like(self._ids)], 1)


class _Row:
    """One text in the making."""

    def __init__(self, at: int, prompt: Prompt, base: BaseModel) -> None:
        self.at, self.prompt, self._tokenizer = at, prompt, base.tokenizer
        self._ends = _ends(base)
        self._most = min(prompt.sampling.most_tokens, longest(base) - len(prompt.ids))
        self._ids: list[int] = []
        self._told = 0
        self._generator = torch.Generator().manual_seed(prompt.sampling.seed)
        self.finished = self.dropped = False

    def step(self, logits: Tensor, blank: int) -> tuple[Written | None, int]:
        """Go on by (vocabulary,) logits: what can be told, and the token, `blank` where no number came of it."""
        if not bool(logits.logsumexp(-1).isfinite()):
            self.finished = True
            return Written(self.at, "", tokens=len(self._ids), failed=True), blank
        token = self.draw(logits)
        return self.take(token), token

    def draw(self, logits: Tensor) -> int:
        """The next token by (vocabulary,) logits."""
        sampling = self.prompt.sampling
        if sampling.temperature == 0:
            return int(logits.argmax())
        chances = (logits / sampling.temperature).softmax(-1)
        ordered, places = chances.sort(descending=True, stable=True)
        before = ordered.cumsum(0) - ordered
        ordered[before >= sampling.top_p] = 0  # the likeliest stays: nothing is before it
        return int(places[torch.multinomial(ordered, 1, generator=self._generator)])

    def take(self, token: int) -> Written | None:
        """Add a token; what of the text can be told: not what may be the beginning of a stop string."""
        if token in self._ends:
            return self._end("stop", self._text())
        self._ids.append(token)
        text = self._text()
        stop = min((at for at in map(text.find, self.prompt.sampling.stop) if at >= 0), default=-1)
        if stop >= 0:
            return self._end("stop", text[:stop])
        if len(self._ids) >= self._most:
            return self._end("length", text)
        sure = len(text) - _open_end(text, self.prompt.sampling.stop)
        if sure <= self._told:
            return None
        told, self._told = text[self._told : sure], sure
        return Written(self.at, told, tokens=len(self._ids))

    def _end(self, why: Literal["stop", "length"], text: str) -> Written:
        self.finished = True
        return Written(self.at, text[self._told :], why, len(self._ids))

    def _text(self) -> str:
        return str(self._tokenizer.decode(self._ids, skip_special_tokens=True))


def _open_end(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end may yet turn into something else: half a character, or a stop string."""
    half = len(text) - len(text.rstrip(HALF))
    begun = (n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
    return max(half, max(begun, default=0))


def _padded(base: BaseModel, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
    """(rows, width) ids and mask, padded on the left: all rows grow at the same end."""
    width = max(len(prompt.ids) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad_id(base))
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt.ids) :] = torch.tensor(prompt.ids)
        mask[row, width - len(prompt.ids) :] = 1
    return ids.to(base.device), mask.to(base.device)


def _ends(base: BaseModel) -> frozenset[int]:
    """The tokens that end a text."""
    told = getattr(getattr(base.module, "generation_config", None), "eos_token_id", None)
    ids = told if isinstance(told, list) else [told, base.tokenizer.eos_token_id]
    return frozenset(each for each in ids if isinstance(each, int))


def _by_template(base: BaseModel, turns: Sequence[tuple[str, str]]) -> object:
    if not getattr(base.tokenizer, "chat_template", None):
        raise NoChatTemplate
    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        found = base.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True)
    except Exception:  # noqa: BLE001 - a template is a program of the model's: it refuses what it does not know
        raise InvalidSetting("messages", "turns that the model's chat template takes") from None
    return found["input_ids"] if hasattr(found, "keys") else found
