"""What a replica does with requests for answers: many of them in one pass, each row as its own user.

A request whose Basis or adapters are not held is told so at once. What one request brings along fails that one alone.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

import plora
from daemon.adapter_cache import Worn
from daemon.generating import Heard, Ticket
from daemon.messages import BasisMissing, WorkFailed
from daemon.models import Models
from daemon.predict_messages import (
    AdaptersMissing,
    Carried,
    GenerateRequest,
    Moved,
    Named,
    PredictAnswer,
    Prediction,
    PredictRequest,
    Refused,
    Row,
    Turn,
    Why,
)

REASONS = 3
"""Examples that an answer names."""

Missing = BasisMissing | AdaptersMissing | Refused
Predicted = PredictAnswer | BasisMissing | AdaptersMissing | Refused | WorkFailed


def predict(models: Models, requests: Sequence[PredictRequest]) -> list[Predicted]:
    """An answer to each request; those of one Basis go through the model together."""
    answers: dict[int, Predicted] = {}
    by_basis = defaultdict[str, list[int]](list)
    with ExitStack() as kept:  # a pass may take longer than a lease: whoever waits for theirs keeps what they need
        for at, request in enumerate(requests):
            lacking = _lacking(models, request)
            if lacking is None:
                kept.enter_context(models.adapters.using(_names(request)))
                by_basis[request.basis].append(at)
            else:
                answers[at] = lacking
        for places in by_basis.values():
            found = _together(models, [requests[at] for at in places])
            answers.update(zip(places, found, strict=True))
    return [answers[at] for at in range(len(requests))]


def generate(
    models: Models, request: GenerateRequest, heard: Heard
) -> Ticket | BasisMissing | AdaptersMissing | Refused:
    """Begin a text, whose pieces `heard` gets from another thread. Raises QueueFull."""
    names = [] if request.adapter is None else [request.adapter]
    missing = _missing(models, request.basis, request.adapters, names)
    if missing is not None:
        return missing
    speaker = models.speaker(request.basis)
    try:
        prompt = plora.encode_prompt(models.base, _prompt(request.prompt))
    except plora.NoChatTemplate:
        return Refused("no_chat_template")
    except plora.PromptTooLong:
        return Refused("prompt_too_long")
    except plora.InvalidSetting:
        return Refused("wrong_messages")
    if speaker.basis.kind is plora.Kind.CLASSIFICATION:
        return Refused("not_a_language_model")
    kept = ExitStack()
    worn = kept.enter_context(models.adapters.using(names))
    user = worn.get(request.adapter) if request.adapter is not None else None
    asked = plora.Prompt(prompt, user, _sampling(request))
    ticket = Ticket(speaker.engine, asked, heard, kept)
    models.generating.submit(ticket)
    return ticket


def _lacking(models: Models, request: PredictRequest) -> Predicted | None:
    return _missing(models, request.basis, request.adapters, _names(request))


def _names(request: PredictRequest) -> list[Named]:
    names = {row.adapter for row in request.rows if row.adapter is not None}
    return sorted(names, key=lambda name: name.digest)


def _missing(models: Models, basis: str, carried: Sequence[Carried], names: Sequence[Named]) -> Missing | None:
    """What must be sent first, after taking in what was."""
    if models.basis(basis) is None:
        return BasisMissing(basis)
    for each in carried:
        try:
            models.adapters.put(each.name, read_adapter(each.content, models.speaker(basis)))
        except plora.PLoRAError:
            return Refused("wrong_adapter")
    missing = models.adapters.missing(names)
    return AdaptersMissing(missing) if missing else None


def _together(models: Models, requests: Sequence[PredictRequest]) -> list[Predicted]:
    """One pass for all; where it fails, each alone."""
    rows = [row for request in requests for row in request.rows]
    names = {row.adapter for row in rows if row.adapter is not None}
    try:
        with models.adapters.using(names) as worn:
            found = _answers(models, requests[0], rows, worn)
    except Exception as error:  # noqa: BLE001 - around requests: its text may hold content and goes nowhere
        if len(requests) == 1:
            return [WorkFailed(type(error).__name__)]
        return [answer for request in requests for answer in _together(models, [request])]
    answers: list[Predicted] = []
    for request in requests:
        answers.append(PredictAnswer(tuple(found[: len(request.rows)])))
        found = found[len(request.rows) :]
    return answers


def _answers(
    models: Models, request: PredictRequest, rows: Sequence[Row], worn: Mapping[Named, Worn]
) -> list[Prediction]:
    speaker = models.speaker(request.basis)
    users = [None if row.adapter is None else worn[row.adapter] for row in rows]
    texts = [row.text for row in rows]
    kind = speaker.basis.kind
    if kind is plora.Kind.CLASSIFICATION:
        found = speaker.classify(list(zip(texts, users, strict=True)))
    else:
        found = speaker.go_on(texts, users, request.most_tokens)
    return [
        replace(prediction_of(kind, answer), why=_why(speaker, row, user))
        for row, user, answer in zip(rows, users, found, strict=True)
    ]


def _why(speaker: plora.Speaker, row: Row, user: plora.User) -> Why | None:
    """What moved an answer, where that is asked for and the model answers with labels."""
    if row.taught is None or speaker.basis.kind is not plora.Kind.CLASSIFICATION:
        return None
    if isinstance(user, plora.LowRankAdapter):  # what an example gave one has no such form
        return None
    taught = [plora.Example(text, label) for text, label in row.taught]
    found = plora.influence(speaker.engine, row.text, user, taught)
    moved = tuple(Moved(each.example, each.nats) for each in found.moved[:REASONS])
    return Why(moved, found.from_generic, found.generic_label)


def read_adapter(content: bytes, speaker: plora.Speaker) -> Worn:
    """The adapter in `content`, of either form. Raises a plora.PLoRAError unless it belongs to the speaker's Basis."""
    adapter = plora.loads_low_rank(content) if plora.is_low_rank(content) else plora.loads_adapter(content)
    speaker.check(adapter)
    return adapter


def prediction_of(kind: plora.Kind, answer: plora.Answer) -> Prediction:
    """As it travels. Raises FloatingPointError for an adapter by which the model answers no numbers."""
    if not all(map(math.isfinite, answer.probabilities.values())):
        raise FloatingPointError
    label, text = (answer.answer, None) if kind is plora.Kind.CLASSIFICATION else (None, answer.answer)
    confidence = answer.confidence if math.isfinite(answer.confidence) else 0.0
    return Prediction(label, text, confidence, dict(answer.probabilities))


def _prompt(prompt: str | tuple[Turn, ...]) -> str | list[tuple[str, str]]:
    return prompt if isinstance(prompt, str) else [(turn.role, turn.content) for turn in prompt]


def _sampling(request: GenerateRequest) -> plora.Sampling:
    asked = request.sampling
    return plora.Sampling(asked.most_tokens, asked.temperature, asked.top_p, asked.seed or 0, asked.stop)
