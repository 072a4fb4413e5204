"""Texts in the form that clients of OpenAI's API read: whole, or part by part."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from daemon.api.openai_schemas import (
    AnswerMessage,
    ChatAnswer,
    ChatChoice,
    CompletionAnswer,
    Speaker,
    TextChoice,
    Usage,
)
from daemon.predict_messages import Piece
from daemon.predictor import GENERIC, Speaking


@dataclass(frozen=True, slots=True)
class Form:
    """How an endpoint names its objects and where it puts text."""

    prefix: str
    part: str
    chat: bool


chat_form = Form("chatcmpl-", "chat.completion.chunk", chat=True)
text_form = Form("cmpl-", "text_completion", chat=False)


@dataclass(slots=True)
class Written:
    """One text on its way to a client."""

    form: Form
    model: str
    speaking: Speaking
    at: datetime
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    begun: bool = False

    def whole(self, pieces: Sequence[Piece]) -> str:
        """The answer of one who did not ask for parts."""
        text, last = "".join(piece.text for piece in pieces), pieces[-1]
        finish = last.finish or "stop"
        common = {"id": self.form.prefix + self.id, "created": int(self.at.timestamp()), "model": self.model}
        told = {"usage": _usage(last), "plora": self._speaker()}
        answer: BaseModel
        if self.form.chat:
            choice = ChatChoice(message=AnswerMessage(content=text), finish_reason=finish)
            answer = ChatAnswer.model_validate({**common, **told, "choices": [choice]})
        else:
            answer = CompletionAnswer.model_validate(
                {**common, **told, "choices": [TextChoice(text=text, finish_reason=finish)]}
            )
        return answer.model_dump_json()

    def part(self, piece: Piece, *, usage: bool) -> Iterator[bytes]:
        """The events of one piece; with `usage` the last one counts tokens."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": piece.finish, "logprobs": None}
        if self.form.chat:
            delta: dict[str, Any] = {} if self.begun else {"role": "assistant"}
            choice["delta"] = delta | {"content": piece.text}
        else:
            choice["text"] = piece.text
        self.begun = True
        yield self._event([choice], None)
        if usage and piece.finish is not None:
            yield self._event([], _usage(piece))

    def _event(self, choices: list[dict[str, Any]], usage: Usage | None) -> bytes:
        event = _Event(
            id=self.form.prefix + self.id,
            object=self.form.part,
            created=int(self.at.timestamp()),
            model=self.model,
            choices=choices,
            usage=usage,
            plora=self._speaker(),
        )
        return event.model_dump_json().encode()

    def _speaker(self) -> Speaker:
        generic = self.speaking.version == GENERIC
        return Speaker(
            version=None if generic else self.speaking.version,
            generic=generic,
            known_user=self.speaking.user is not None,
            arm=self.speaking.arm,
        )


class _Event(BaseModel):
    id: str
    object: str
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: Usage | None
    plora: Speaker


def _usage(last: Piece) -> Usage:
    total = last.prompt_tokens + last.tokens
    return Usage(prompt_tokens=last.prompt_tokens, completion_tokens=last.tokens, total_tokens=total)
