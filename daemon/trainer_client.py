"""How the daemon asks a Trainer: the same sealed bytes over HTTP to Ray Serve, or to functions in this process."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import httpx

from daemon.errors import DaemonError
from daemon.messages import (
    Answer,
    BasisMissing,
    BasisProgress,
    BasisRequest,
    BasisTrained,
    FitAnswer,
    FitRequest,
    ForgetShards,
    PredictAnswer,
    PredictRequest,
    ShardRequest,
    ShardsKept,
    ShardsMissing,
    WorkFailed,
    decode_answer,
    decode_progress,
    encode_request,
)
from daemon.messages import Request as WorkRequest
from daemon.shards import Shard, name_of
from daemon.telemetry_context import carried
from daemon.transport import KEY_UNKNOWN, Body, Head, Purpose, decode_unknown, head_of, seal_request, unseal_answer
from storage.sealing import Unreadable
from storage.transport_keys import Keys, TransportKeyUnknown, numbered

if TYPE_CHECKING:
    from daemon.models import Models

PROGRESS_S = 5.0
BUSY = frozenset({502, 503, 504})
ROUNDS = 3
"""How often a population may change, or be lost by a Trainer, while it is sent."""

Shards = Callable[[], Iterable[Shard]]
"""A population, read anew at every call."""


class TrainerError(DaemonError):
    """Root of what asking a Trainer can raise. `code` is short and stable, for metrics and rows."""

    code = "trainer_error"


class TrainerUnavailable(TrainerError):
    """No Trainer took the request: ask again later."""

    code = "trainer_unavailable"

    def __str__(self) -> str:
        return "no trainer can be reached: wait until it has started"


class TrainerLacksKey(TrainerUnavailable):
    """The Trainer has no key of the number that the request names: `newest` is its newest, which we lack."""

    code = "trainer_lacks_key"

    def __init__(self, newest: int) -> None:
        super().__init__(newest)
        self.newest = newest

    def __str__(self) -> str:
        return (
            f"the trainer's newest transport key is number {self.newest}, which is rolled: give it the daemon's newest"
        )


class TrainerLost(TrainerError):
    """A Trainer took the request and never answered: it died, or ran out of time. Ask again."""

    code = "trainer_lost"

    def __str__(self) -> str:
        return "the trainer was lost while it worked: ask again"


class TrainerRefused(TrainerError):
    """The Trainer could not unseal the request, or we not its answer: the two do not hold the same transport key."""

    code = "trainer_refused"

    def __str__(self) -> str:
        return "the trainer and the daemon do not understand each other: give both the same transport key and release"


class TrainerFailed(TrainerError):
    """The Trainer answered that the whole request failed."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"the trainer failed with {self.code}"


class TrainerClient(Protocol):
    """What the scheduler and the predictor need of a Trainer. `basis` is called only if the Trainer lacks the Basis."""

    def ready(self) -> bool: ...

    def fit(self, request: FitRequest, basis: Callable[[], bytes]) -> FitAnswer: ...

    def train_basis(self, request: BasisRequest, population: Shards) -> BasisTrained: ...

    def progress(self, basis: str) -> BasisProgress | None: ...

    def forget_population(self, basis: str) -> None: ...

    def predict(self, request: PredictRequest, basis: Callable[[], bytes]) -> PredictAnswer: ...

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

    def predict(self, request: PredictRequest, basis: Callable[[], bytes]) -> PredictAnswer:
        """Raises a TrainerError."""
        answer = self._with_basis(head_of(Purpose.PREDICT), request, basis)
        if not isinstance(answer, PredictAnswer) or len(answer.predictions) != len(request.rows):
            raise TrainerRefused
        return answer

    def _with_basis(self, head: Head, request: WorkRequest, basis: Callable[[], bytes]) -> Answer:
        answer = self._ask(head, request)
        if isinstance(answer, BasisMissing):  # another replica may take the repetition: it gets the bytes with it
            answer = self._ask(head_of(head.purpose, head.claims), request, basis())
        return answer

    def _ask(self, head: Head, request: WorkRequest, attachment: bytes = b"") -> Answer:
        number, key = self._keys.newest()
        body = Body(encode_request(request), attachment)
        try:
            return self._ask_under(number, key, head, body)
        except TrainerLacksKey as lacking:
            try:
                key = self._keys.of(lacking.newest)
            except TransportKeyUnknown:
                raise lacking from None
            return self._ask_under(lacking.newest, key, head, body)

    def _ask_under(self, number: int, key: bytes, head: Head, request: Body) -> Answer:
        head = replace(head, key=number)
        sealed = self._carry(head.purpose, seal_request(key, head, request))
        try:
            body = unseal_answer(key, head, sealed)
            answer = decode_answer(body.document, body.attachment)
        except (Unreadable, ValueError):
            raise TrainerRefused from None  # pydantic's error quotes what it read
        if isinstance(answer, WorkFailed):
            raise TrainerFailed(answer.failed)
        return answer

    @abstractmethod
    def _carry(self, purpose: Purpose, envelope: bytes) -> bytes: ...


class HttpTrainer(SealedTrainer):
    """A Trainer behind HTTP. `url` says where it is now, or None while it is down."""

    def __init__(
        self,
        url: Callable[[], str | None],
        keys: Keys | bytes,
        *,
        timeout_s: float = 1800.0,
        basis_timeout_s: float = 7 * 86_400.0,
    ) -> None:
        super().__init__(keys)
        self._url, self._basis_timeout = url, httpx.Timeout(basis_timeout_s, connect=5.0)
        timeout = httpx.Timeout(timeout_s, connect=5.0)
        self._client = httpx.Client(timeout=timeout, trust_env=False, limits=httpx.Limits(keepalive_expiry=5.0))

    def ready(self) -> bool:
        """Whether it is worth asking."""
        return self._url() is not None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def progress(self, basis: str) -> BasisProgress | None:
        url = self._url()
        try:
            response = self._client.get(f"{url}/progress/{basis}", timeout=PROGRESS_S) if url else None
            return decode_progress(response.content) if response is not None and response.is_success else None
        except (httpx.HTTPError, RuntimeError, ValueError):
            return None

    def _carry(self, purpose: Purpose, envelope: bytes) -> bytes:
        url = self._url()
        if url is None:
            raise TrainerUnavailable
        timeout = self._basis_timeout if purpose is Purpose.BASIS else self._client.timeout
        try:
            address, headers = f"{url}/{purpose.value}", carried()
            response = self._client.post(address, content=envelope, timeout=timeout, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            raise TrainerUnavailable from None
        except (httpx.HTTPError, RuntimeError):  # RuntimeError: the client was closed meanwhile
            raise TrainerLost from None
        if response.status_code == httpx.codes.OK:
            return response.content
        if response.status_code == KEY_UNKNOWN:
            raise TrainerLacksKey(decode_unknown(response.content))
        if response.status_code in BUSY:
            raise TrainerUnavailable
        raise TrainerRefused if response.is_client_error else TrainerLost


class InProcessTrainer(SealedTrainer):
    """The same bytes through the same functions in this process, one request at a time. Loads its model when asked."""

    def __init__(self, load: Callable[[], "Models"], keys: Keys | bytes) -> None:
        super().__init__(keys)
        self._load = load
        self._models: Models | None = None
        self._lock = threading.Lock()

    def ready(self) -> bool:
        """Always: there is nothing to wait for."""
        return True

    def progress(self, basis: str) -> BasisProgress | None:
        models = self._models
        return None if models is None else models.spool.progress(basis)

    def close(self) -> None:
        """Let the model go."""
        with self._lock:
            self._models = None

    def _carry(self, purpose: Purpose, envelope: bytes) -> bytes:  # noqa: ARG002 - the envelope says it too
        from daemon.work import answer, receive, reply  # noqa: PLC0415 - torch is loaded only where work is done

        try:
            received = receive(self._keys, envelope)
        except TransportKeyUnknown as unknown:
            raise TrainerLacksKey(unknown.newest) from None
        except Unreadable:
            raise TrainerRefused from None
        with self._lock:
            self._models = self._models or self._load()
            answered = answer(self._models, received)
        return reply(received, answered)
