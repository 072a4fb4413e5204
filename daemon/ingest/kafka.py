"""Kafka: one member of a consumer group, whose offsets are committed behind what the daemon has made durable.

A record is one event: the event as JSON, or its data with the attributes in `ce_` headers. A batch that is held long
costs no membership: the client beats in the background, and PLORA_INGEST_STALL_S watches what it does.
"""

from collections.abc import Sequence
from typing import Any

from aiokafka import ConsumerRecord  # type: ignore[import-untyped]
from aiokafka.errors import ConsumerStoppedError, KafkaError  # type: ignore[import-untyped]
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaAckableMessage

from daemon.ingest.brokers import LOGGER, Backlog, meeting, security_of
from daemon.ingest.choices import IngestChoices
from daemon.ingest.letters import Letter, Take

HELD_MS = 24 * 3_600_000
CODE = "plora-code"
ORIGIN = "plora-origin"
ERRORS = (KafkaError, ConsumerStoppedError)
Records = tuple[ConsumerRecord[Any, Any], ...]


class KafkaBatch:
    """Records of the partitions of one topic."""

    def __init__(self, message: KafkaAckableMessage, broker: KafkaBroker, choices: IngestChoices) -> None:
        self._message, self._broker, self._choices = message, broker, choices
        self._raw: Sequence[ConsumerRecord[Any, Any]] = message.raw_message
        self.letters = [_letter(each) for each in self._raw]

    async def keep(self) -> None:
        """Nothing: the client's heartbeat does it."""

    async def bury(self, at: int, code: str) -> None:
        raw = self._raw[at]
        headers = {name: _text(value) for name, value in raw.headers}
        origin = f"{raw.topic}/{raw.partition}/{raw.offset}"
        added = {**headers, CODE: code, ORIGIN: origin}
        with meeting(self._choices, *ERRORS):
            await self._broker.publish(raw.value or b"", self._choices.dead_place, key=raw.key, headers=added)

    async def settle(self) -> None:
        with meeting(self._choices, *ERRORS):
            await self._message.ack()

    async def release(self) -> None:
        """Without it the next commit would step over what was not settled."""
        with meeting(self._choices, *ERRORS):
            await self._message.nack()


class KafkaIntake:
    """One topic."""

    def __init__(self, choices: IngestChoices) -> None:
        self._choices = choices
        self._broker = KafkaBroker(
            list(choices.addresses),
            security=security_of(choices),
            logger=LOGGER,
            apply_types=False,
            graceful_timeout=0,
            acks="all",
            client_id=f"plora-{choices.name}",
            allow_auto_create_topics=False,
        )
        self._subscriber: Any = None

    async def start(self, take: Take) -> None:
        async def handle(message: KafkaAckableMessage) -> None:
            await take(KafkaBatch(message, self._broker, self._choices))

        self._subscriber = self._broker.subscriber(
            self._choices.topic,
            group_id=self._choices.group,
            batch=True,
            max_records=self._choices.batch,
            batch_timeout_ms=int(self._choices.gather_s * 1000),
            auto_offset_reset="earliest",
            max_poll_interval_ms=HELD_MS,
            rebalance_timeout_ms=int(self._choices.redeliver_s * 1000),
            isolation_level="read_committed",
            parser=self._parse,
            decoder=_decode,
            ack_policy=AckPolicy.MANUAL,
        )
        self._subscriber(handle)
        with meeting(self._choices, *ERRORS):
            await self._broker.start()

    async def stop(self) -> None:
        with meeting(self._choices, *ERRORS):
            await self._broker.stop()

    async def backlog(self) -> Backlog:
        """Of the partitions that this member has: what it does not have it could not take."""
        with meeting(self._choices, *ERRORS):
            return await self._backlog(self._subscriber.consumer)

    def consuming(self) -> bool:
        tasks = self._subscriber.tasks
        return bool(self._subscriber.running and any(not each.done() for each in tasks))

    async def _backlog(self, consumer: Any) -> Backlog:
        places = list(consumer.assignment())
        ends = await consumer.end_offsets(places) if places else {}
        waiting = taken = 0
        for place in places:
            position = await consumer.position(place)
            committed = await consumer.committed(place)
            waiting += max(0, ends[place] - position)
            taken += max(0, position - (committed or 0))
        return Backlog(waiting, taken)

    async def _parse(self, raw: Records) -> KafkaAckableMessage:
        """The library's own parser fails at a header that is no text, and would then step over the batch."""
        return KafkaAckableMessage(raw_message=raw, body=b"", headers={}, consumer=self._subscriber.consumer)


async def _decode(message: KafkaAckableMessage) -> KafkaAckableMessage:
    return message


def _letter(raw: ConsumerRecord[Any, Any]) -> Letter:
    headers = tuple((name.lower(), _text(value)) for name, value in raw.headers)
    return Letter(raw.value or b"", headers)


def _text(value: bytes | None) -> str:
    """What is no UTF-8 comes out as half characters, which the daemon refuses."""
    return (value or b"").decode("utf-8", "surrogateescape")
