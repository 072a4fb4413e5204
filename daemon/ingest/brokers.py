"""What a consumer needs of a broker, and which of them there are."""

import contextlib
import logging
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from daemon.errors import DaemonError
from daemon.ingest.choices import IngestChoices, WrongIngest
from daemon.ingest.letters import Take
from storage.keyfiles import read_secret

LOGGER = logging.getLogger("faststream.plora")
"""Only where it came from is kept of a record of this logger: what the library says may quote messages."""


class BrokerAway(DaemonError):
    """The broker does not answer, or refuses; `problem` is the type of its client's error."""

    def __init__(self, broker: str, address: str, problem: str) -> None:
        super().__init__(broker, address, problem)
        self.broker, self.address, self.problem = broker, address, problem

    def __str__(self) -> str:
        return f"{self.broker} at {self.address} does not take this consumer ({self.problem}): look at PLORA_INGEST_*"


class PlaceMissing(DaemonError):
    """The broker has no place of this name."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.kind, self.name = kind, name

    def __str__(self) -> str:
        return f"there is no {self.kind} for {self.name}: make one, or set another name"


class GroupGone(DaemonError):
    """The broker does not know the group any more that this process consumes for."""

    def __str__(self) -> str:
        return "the broker has lost this consumer's group: the process must start anew"


@dataclass(frozen=True, slots=True)
class Backlog:
    """Messages that were given to nobody yet, and those that were given and are not acknowledged."""

    waiting: int
    taken: int


class Intake(Protocol):
    """One broker, consumed for one group."""

    async def start(self, take: Take) -> None:
        """Hand each batch to `take`, one at a time. Raises BrokerAway or PlaceMissing."""

    async def stop(self) -> None:
        """Take nothing more, and close."""

    async def backlog(self) -> Backlog:
        """Raises GroupGone or BrokerAway."""

    def consuming(self) -> bool:
        """Whether the loops that take batches still run."""


@contextlib.contextmanager
def meeting(choices: IngestChoices, *errors: type[Exception]) -> Iterator[None]:
    """The client's own `errors`, and those of the network, come out as BrokerAway."""
    known: tuple[type[Exception], ...] = (*errors, OSError, TimeoutError)
    try:
        yield
    except known as error:
        raise BrokerAway(choices.broker, choices.address, type(error).__name__) from error


def security_of(choices: IngestChoices) -> BaseSecurity:
    """How the broker is met: TLS, and who asks. Raises WrongIngest, or StorageError for the password's file."""
    context = _context(choices) if choices.tls else None
    if not choices.username or choices.password_file is None:
        return BaseSecurity(ssl_context=context, use_ssl=choices.tls)
    kinds = {"plain": SASLPlaintext, "scram-sha-256": SASLScram256, "scram-sha-512": SASLScram512}
    password = read_secret(choices.password_file).decode().strip()
    kind = kinds[choices.mechanism]
    return kind(username=choices.username, password=password, ssl_context=context, use_ssl=choices.tls)


def intake_of(choices: IngestChoices) -> Intake:
    """The Intake for the chosen broker; the libraries of the others are not imported."""
    if choices.broker == "kafka":
        from daemon.ingest.kafka import KafkaIntake  # noqa: PLC0415

        return KafkaIntake(choices)
    if choices.broker == "nats":
        from daemon.ingest.nats import NatsIntake  # noqa: PLC0415

        return NatsIntake(choices)
    from daemon.ingest.redis import RedisIntake  # noqa: PLC0415

    return RedisIntake(choices)


def _context(choices: IngestChoices) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(choices.ca_file) if choices.ca_file else None)
    except OSError:
        raise WrongIngest("ca_file", "a file of certificates that can be read") from None
