"""The JSON of the endpoints that clients of OpenAI's API speak to: what is taken, and what is told.

https://platform.openai.com/docs/api-reference/chat. A field that would change the answer and that is not taken is
refused by name; none is ignored.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from daemon.events import TEXT_BYTES, USER_CHARS

MOST_TOKENS = 4_096
MOST_TURNS = 256
Text = Annotated[str, Field(max_length=TEXT_BYTES)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]


class StreamOptions(BaseModel):
    """What a stream tells beside the text."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False


class Drawn(BaseModel):
    """What both endpoints take. `user` is the host's id of who speaks."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(min_length=1, max_length=256)]
    user: Annotated[str | None, Field(min_length=1, max_length=USER_CHARS)] = None
    max_tokens: Annotated[int | None, Field(ge=1, le=MOST_TOKENS)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    n: Literal[1] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # What is not done here, so that asking for it is refused by name.
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None
    logit_bias: None = None
    response_format: None = None
    service_tier: None = None


class Part(BaseModel):
    """A part of a message; only text is read."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: Text


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[Part], Field(min_length=1)]
    name: str | None = None

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(Drawn):
    """A conversation to answer."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_TURNS)]
    max_completion_tokens: Annotated[int | None, Field(ge=1, le=MOST_TOKENS)] = None
    logprobs: Literal[False] | None = None
    top_logprobs: None = None
    tools: None = None
    tool_choice: None = None
    parallel_tool_calls: None = None
    functions: None = None
    function_call: None = None
    modalities: None = None
    audio: None = None
    prediction: None = None
    reasoning_effort: None = None
    metadata: None = None
    store: Literal[False] | None = None
    web_search_options: None = None


class CompletionRequest(Drawn):
    """A text to go on from."""

    prompt: Text
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    logprobs: None = None
    suffix: None = None


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Speaker(BaseModel):
    """Whose adapter spoke: an addition of ours, which clients of OpenAI's leave alone."""

    version: int | None
    generic: bool
    known_user: bool
    arm: str | None


class AnswerMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    index: int = 0
    message: AnswerMessage
    finish_reason: str
    logprobs: None = None


class ChatAnswer(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    plora: Speaker


class TextChoice(BaseModel):
    index: int = 0
    text: str
    finish_reason: str
    logprobs: None = None


class CompletionAnswer(BaseModel):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    plora: Speaker


class Model(BaseModel):
    """A Basis by name, or the newest by `plora`."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "plora"


class Models(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]
