"""What a Trainer does with a sealed request. Knows no Ray: an in-process trainer runs the very same functions.

A Trainer keeps a BaseModel and the Bases it was last given, and nothing of any User. Vectors it read or made are zeroed
before it answers; Python gives no way to zero its strings, so texts live until the request's values are collected.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import plora
from daemon.members import fit_cohort
from daemon.messages import (
    Answer,
    BasisRequest,
    BasisTrained,
    FitRequest,
    ForgetShards,
    Request,
    ShardRequest,
    ShardsKept,
    ShardsMissing,
    WorkFailed,
    decode_request,
    encode_answer,
)
from daemon.models import Models
from daemon.population import Crowd, Made, train
from daemon.predict_messages import PredictRequest
from daemon.predicting import predict
from daemon.telemetry_runs import fitting
from daemon.transport import Body, Head, Purpose, key_named, seal_answer, unseal_request
from storage.sealing import Unreadable
from storage.transport_keys import Keys, numbered


@dataclass(frozen=True, slots=True)
class Received:
    """A request that was unsealed, or the failure that its document already is, and the key that it came under."""

    head: Head
    key: bytes = field(repr=False)
    request: Request | WorkFailed = field(repr=False)
    attachment: bytes = field(repr=False)


def work(models: Models, keys: Keys | bytes, envelope: bytes) -> bytes:
    """Unseal one request, do it, and seal the answer to it.

    Raises Unreadable for what was not sealed under one of `keys` as a request, TransportKeyUnknown where it names a key
    that is not among them. Every other failure is an answer: WorkFailed, which carries the error's class name and never
    its text.
    """
    received = receive(keys, envelope)
    return reply(received, answer(models, received))


def receive(keys: Keys | bytes, envelope: bytes) -> Received:
    """Unseal one request. May run beside `answer` to another. Raises Unreadable or TransportKeyUnknown."""
    key = numbered(keys).of(key_named(envelope))
    head, body = unseal_request(key, envelope)
    try:
        return Received(head, key, decode_request(body.document), body.attachment)
    except Exception as error:  # noqa: BLE001 - around a request: its text may hold content and goes nowhere
        return Received(head, key, WorkFailed(type(error).__name__), b"")


def answer(models: Models, received: Received) -> Answer:
    """Do what was asked. One thread at a time: this is what uses the model."""
    if isinstance(received.request, WorkFailed):
        return received.request
    try:
        if received.attachment:
            models.give(received.attachment)
        return _perform(models, received.head.purpose, received.request)
    except Exception as error:  # noqa: BLE001 - around a request: its text may hold content and goes nowhere
        return WorkFailed(type(error).__name__)


def answer_all(models: Models, received: Sequence[Received]) -> list[Answer]:
    """Answer many requests for predictions together. One thread at a time."""
    answers: dict[int, Answer] = {}
    asked: dict[int, PredictRequest] = {}
    for at, each in enumerate(received):
        try:
            asked[at] = _prediction(models, each)
        except Exception as error:  # noqa: BLE001 - around a request: its text may hold content and goes nowhere
            answers[at] = WorkFailed(type(error).__name__)
    answers.update(zip(asked, predict(models, list(asked.values())), strict=True))
    return [answers[at] for at in range(len(received))]


def _prediction(models: Models, received: Received) -> PredictRequest:
    """What is asked, the Basis that came along taken in."""
    if received.head.purpose is not Purpose.PREDICT or not isinstance(received.request, PredictRequest):
        raise Unreadable("the request")
    if received.attachment:
        models.give(received.attachment)
    return received.request


def rows_of(received: Received) -> int:
    """How many rows a request brings."""
    return len(received.request.rows) if isinstance(received.request, PredictRequest) else 1


def reply(received: Received, answered: Answer) -> bytes:
    """Seal the answer under the key of the request. May run beside `answer` to another."""
    return seal_answer(received.key, received.head, Body(*encode_answer(answered)))


def train_basis(models: Models, request: BasisRequest) -> BasisTrained | ShardsMissing:
    """Train a Basis on the population in the spool, keep it at hand, and forget the population."""
    missing = Crowd(models.spool, request).missing()
    if missing:
        return ShardsMissing(missing)
    made = train_alone(models, request) if models.train is None else models.train(request)
    models.give(made.content)
    models.spool.forget(request.basis)
    basis = plora.loads_basis(made.content)
    return BasisTrained(basis.fingerprint, basis.base, basis.labels, made.report, made.content)


def train_alone(models: Models, request: BasisRequest) -> Made:
    """In this process."""
    return train(models.base, models.spool, request)


def keep_shard(models: Models, request: ShardRequest) -> ShardsKept:
    """Spool one shard; what is left of other populations goes."""
    models.spool.forget_others(request.basis)
    models.spool.keep(request.basis, request.index, request.name, request.users)
    return ShardsKept(1)


def forget_shards(models: Models, request: ForgetShards) -> ShardsKept:
    """Remove a population from the spool."""
    models.spool.forget(request.forget)
    return ShardsKept(0)


def _perform(models: Models, purpose: Purpose, request: Request) -> Answer:
    match purpose, request:
        case Purpose.FIT, FitRequest():
            with fitting(request.members):
                return fit_cohort(models, request)
        case Purpose.BASIS, BasisRequest():
            return train_basis(models, request)
        case Purpose.SHARD, ShardRequest():
            return keep_shard(models, request)
        case Purpose.SHARD, ForgetShards():
            return forget_shards(models, request)
        case Purpose.PREDICT, PredictRequest():
            return predict(models, [request])[0]
        case _:
            raise Unreadable("the request")
