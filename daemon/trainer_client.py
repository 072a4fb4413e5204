"""How the daemon asks a Trainer: the same sealed bytes over HTTP to Ray Serve, or to functions in this process."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Protocol, TypeVar

from daemon.frames import read_frames
from daemon.messages import (
    Answer,
    BasisMissing,
    BasisProgress,
    BasisRequest,
    BasisTrained,
    FitAnswer,
    FitRequest,
    ForgetShards,
    ShardRequest,
    ShardsKept,
    ShardsMissing,
    WorkFailed,
    decode_answer,
    encode_request,
)
from daemon.messages import Request as WorkRequest
from daemon.predict_messages import (
    AdaptersMissing,
    Carried,
    GenerateRequest,
    Named,
    Piece,
    PredictAnswer,
    PredictRequest,
    Refused,
)
from daemon.shards import Shard, name_of
from daemon.trainer_errors import TrainerFailed, TrainerLacksKey, TrainerLost, TrainerRefused, TrainerRefuses
from daemon.transport import Body, Head, Purpose, head_of, seal_request, unseal_answer
from storage.sealing import Unreadable
from storage.transport_keys import Keys, TransportKeyUnknown, numbered

ROUNDS = 3
"""How often a population may change, or be lost by a Trainer, while it is sent."""

Shards = Callable[[], Iterable[Shard]]
"""A population, read anew at every call."""

Contents = Callable[[Named], bytes | None]
"""The bytes of an adapter by its name, None where it is gone."""

Result = TypeVar("Result")


class TrainerClient(Protocol):
    """What the scheduler and the predictor need of a Trainer.

    `basis` is called only if the Trainer lacks the Basis, `adapter` for each adapter that it lacks.
    """

    def ready(self) -> bool: ...

    def fit(self, request: FitRequest, basis: Callable[[], bytes]) -> FitAnswer: ...

    def train_basis(self, request: BasisRequest, population: Shards) -> BasisTrained: ...

    def progress(self, basis: str) -> BasisProgress | None: ...

    def forget_population(self, basis: str) -> None: ...

    def predict(self, request: PredictRequest, basis: Callable[[], bytes], adapter: Contents) -> PredictAnswer: ...

    def generate(self, request: GenerateRequest, basis: Callable[[], bytes], adapter: Contents) -> Iterator[Piece]: ...

    def close(self) -> None: ...


class SealedTrainer(ABC):
    """Seals requests and unseals answers; a child class carries the bytes. Thread-safe."""

    def __init__(self, keys: Keys | bytes) -> None:
        self._keys = numbered(keys)

    def fit(self, request: FitRequest, basis: Callable[[], bytes]) -> FitAnswer:
        """Raises a TrainerError."""
        claims = tuple((f"run:{member.run}", member.epoch) for member in request.members)
        answer = self._with_basis(head_of(Purpose.FIT, claims), request, basis)
        if not isinstance(answer, FitAnswer) or len(answer.outcomes) != len(request.members):
            raise TrainerRefused
        return answer

    def train_basis(self, request: BasisRequest, population: Shards) -> BasisTrained:
        """Sends the shards of `population` that the Trainer lacks, and then asks. Raises a TrainerError."""
        claims = ((f"basis:{request.basis}", request.epoch),)
        for _ in range(ROUNDS):
            key = self._keys.newest()[1]
            named = replace(request, shards=tuple(name_of(key, shard) for shard in population()))
            answer = self._ask(head_of(Purpose.BASIS, claims), named)
            if isinstance(answer, ShardsMissing):
                self._send(key, named, frozenset(answer.shards_missing), population)
                answer = self._ask(head_of(Purpose.BASIS, claims), named)
            if isinstance(answer, BasisTrained):
                return answer
            if not isinstance(answer, ShardsMissing):
                raise TrainerRefused
        raise TrainerLost

    def forget_population(self, basis: str) -> None:
        """Have the Trainer remove what it holds of a population. Raises a TrainerError."""
        self._ask(head_of(Purpose.SHARD, ((f"basis:{basis}", 0),)), ForgetShards(basis))

    @abstractmethod
    def progress(self, basis: str) -> BasisProgress | None:
        """How far the training of this Basis has come, if it can be told now."""

    def _send(self, key: bytes, request: BasisRequest, missing: frozenset[int], population: Shards) -> None:
        """Those at the `missing` places, if they still have the names that were given."""
        for index, shard in enumerate(population()):
            if index in missing and index < len(request.shards):
                name = name_of(key, shard)
                head = head_of(Purpose.SHARD, ((f"basis:{request.basis}", request.epoch), ("shard", index)))
                if name == request.shards[index]:
                    answer = self._ask(head, ShardRequest(request.basis, index, name, shard))
                    if not isinstance(answer, ShardsKept):
                        raise TrainerRefused

    def predict(self, request: PredictRequest, basis: Callable[[], bytes], adapter: Contents) -> PredictAnswer:
        """Raises a TrainerError."""
        attachment = b""
        for _ in range(ROUNDS):
            answer = self._ask(head_of(Purpose.PREDICT), request, attachment)
            if isinstance(answer, BasisMissing):  # another replica may take the repetition: it gets the bytes with it
                attachment = basis()
            elif isinstance(answer, AdaptersMissing):
                names = (row.adapter for row in request.rows)
                request = replace(request, adapters=_carried(names, answer, adapter))
            elif isinstance(answer, PredictAnswer) and len(answer.predictions) == len(request.rows):
                return answer
            else:
                raise TrainerRefused
        raise TrainerLost

    def generate(self, request: GenerateRequest, basis: Callable[[], bytes], adapter: Contents) -> Iterator[Piece]:
        """The pieces of a text, as they are written; the last one says why it ended. Close the iterator to end it.

        Raises a TrainerError, before the first piece wherever that can be known by then.
        """
        attachment = b""
        for _ in range(ROUNDS):
            pieces = self._keyed(lambda number, key: self._pieces(number, key, request, attachment))  # noqa: B023
            first = next(pieces)
            if isinstance(first, BasisMissing):
                attachment = basis()
            elif isinstance(first, AdaptersMissing):
                request = replace(request, adapters=_carried([request.adapter], first, adapter))
            elif isinstance(first, Piece):
                return _told(first, pieces)
            else:
                raise TrainerRefused
        raise TrainerLost

    def _pieces(self, number: int, key: bytes, request: GenerateRequest, attachment: bytes) -> Iterator[Answer]:
        """What a stream tells, until its last frame. The request is sent before this returns."""
        head = replace(head_of(Purpose.GENERATE), key=number)
        opening = self._open(seal_request(key, head, Body(encode_request(request), attachment)))
        chunks = opening.__enter__()
        return _answers(key, head, chunks, opening)

    def _with_basis(self, head: Head, request: WorkRequest, basis: Callable[[], bytes]) -> Answer:
        answer = self._ask(head, request)
        if isinstance(answer, BasisMissing):  # another replica may take the repetition: it gets the bytes with it
            answer = self._ask(head_of(head.purpose, head.claims), request, basis())
        return answer

    def _ask(self, head: Head, request: WorkRequest, attachment: bytes = b"") -> Answer:
        body = Body(encode_request(request), attachment)
        return self._keyed(lambda number, key: self._ask_under(number, key, head, body))

    def _keyed(self, ask: Callable[[int, bytes], Result]) -> Result:
        """`ask` under our newest key; once more under the Trainer's newest where it lacks ours and we have that."""
        number, key = self._keys.newest()
        try:
            return ask(number, key)
        except TrainerLacksKey as lacking:
            try:
                key = self._keys.of(lacking.newest)
            except TransportKeyUnknown:
                raise lacking from None
            return ask(lacking.newest, key)

    def _ask_under(self, number: int, key: bytes, head: Head, request: Body) -> Answer:
        head = replace(head, key=number)
        sealed = self._carry(head.purpose, seal_request(key, head, request))
        try:
            body = unseal_answer(key, head, sealed)
            answer = decode_answer(body.document, body.attachment)
        except (Unreadable, ValueError):
            raise TrainerRefused from None  # pydantic's error quotes what it read
        return _unless_failed(answer)

    @abstractmethod
    def _carry(self, purpose: Purpose, envelope: bytes) -> bytes: ...

    @abstractmethod
    def _open(self, envelope: bytes) -> AbstractContextManager[Iterable[bytes]]:
        """The frames of a text, in any pieces; at the end of the `with` nobody waits for more."""


def _unless_failed(answer: Answer) -> Answer:
    if isinstance(answer, WorkFailed):
        raise TrainerFailed(answer.failed)
    if isinstance(answer, Refused):
        raise TrainerRefuses(answer.refused)
    return answer


def _answers(
    key: bytes, head: Head, chunks: Iterable[bytes], opening: AbstractContextManager[Iterable[bytes]]
) -> Iterator[Answer]:
    """What each frame says. Raises TrainerLost where the stream is cut, TrainerRefused where it is not ours."""
    with _closing(opening):
        try:
            for document in read_frames(key, head, chunks):
                yield _unless_failed(decode_answer(document, b""))
        except (Unreadable, ValueError):
            raise TrainerLost from None


@contextmanager
def _closing(opening: AbstractContextManager[Iterable[bytes]]) -> Iterator[None]:
    try:
        yield
    finally:
        opening.__exit__(None, None, None)


def _told(first: Piece, pieces: Iterator[Answer]) -> Iterator[Piece]:
    yield first
    if first.finish is None:
        for piece in pieces:
            if not isinstance(piece, Piece):
                raise TrainerRefused
            yield piece


def _carried(names: Iterable[Named | None], missing: AdaptersMissing, adapter: Contents) -> tuple[Carried, ...]:
    """The adapters that are missing. Raises TrainerLost where one is gone since it was looked up."""
    found = []
    for name in dict.fromkeys(name for name in names if name is not None):
        if name.digest in missing.adapters_missing:
            content = adapter(name)
            if content is None:
                raise TrainerLost
            found.append(Carried(name, content))
    return tuple(found)
