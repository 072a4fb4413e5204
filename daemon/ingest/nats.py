"""NATS JetStream: a durable pull consumer, shared by all processes of the group.

A message is one event: the event as JSON, or its data with the attributes in `ce-` headers. What was taken and is not
acknowledged within PLORA_INGEST_REDELIVER_S is given to another.
"""

from collections.abc import Sequence
from typing import Any

from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, PullSub
from faststream.nats.message import NatsBatchMessage
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy as JsAckPolicy
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import NoStreamResponseError, NotFoundError

from daemon.ingest.brokers import LOGGER, Backlog, GroupGone, PlaceMissing, meeting, security_of
from daemon.ingest.choices import IngestChoices
from daemon.ingest.letters import Letter, Take

MOST_TAKEN = 20_000
"""Of the whole group at a time, not acknowledged."""
CODE = "plora-code"
ORIGIN = "plora-origin"


class NatsBatch:
    """Messages of one subject."""

    def __init__(self, message: NatsBatchMessage, stream: Any, choices: IngestChoices) -> None:
        self._message, self._stream, self._choices = message, stream, choices
        self._raw: Sequence[Msg] = message.raw_message
        self.letters = [_letter(each) for each in self._raw]

    async def keep(self) -> None:
        with meeting(self._choices, NatsError):
            for each in self._raw:
                if not each.is_acked:
                    await each.in_progress()

    async def bury(self, at: int, code: str) -> None:
        raw = self._raw[at]
        origin = f"{raw.metadata.stream}/{raw.metadata.sequence.stream}"
        headers = {**(raw.headers or {}), CODE: code, ORIGIN: origin}
        place = self._choices.dead_place
        with meeting(self._choices, NatsError):
            try:
                await self._stream.publish(place, raw.data, headers=headers)
            except NoStreamResponseError:
                raise PlaceMissing("stream", place) from None

    async def settle(self) -> None:
        with meeting(self._choices, NatsError):
            await self._message.ack()

    async def release(self) -> None:
        with meeting(self._choices, NatsError):
            await self._message.nack()


class NatsIntake:
    """One subject, consumed through one durable consumer of the stream that holds it."""

    def __init__(self, choices: IngestChoices) -> None:
        scheme = "tls" if choices.tls else "nats"
        servers = [f"{scheme}://{each}" for each in choices.addresses]
        self._choices = choices
        self._broker = NatsBroker(
            servers,
            security=security_of(choices),
            logger=LOGGER,
            apply_types=False,
            graceful_timeout=0,
            max_reconnect_attempts=-1,
            name=choices.name,
        )
        self._stream: Any = None
        self._place = ""
        self._subscriber: Any = None

    async def start(self, take: Take) -> None:
        async def handle(message: NatsBatchMessage) -> None:
            await take(NatsBatch(message, self._stream, self._choices))

        with meeting(self._choices, NatsError):
            client = await self._broker.connect()
            self._stream = client.jetstream()
            self._place = await self._find(self._choices.topic)
            await self._find(self._choices.dead_place)
            self._subscriber = self._broker.subscriber(
                self._choices.topic,
                durable=self._choices.group,
                stream=JStream(self._place, declare=False),
                config=self._config(),
                pull_sub=PullSub(self._choices.batch, timeout=self._choices.gather_s, batch=True),
                parser=_parse,
                decoder=_decode,
                ack_policy=AckPolicy.MANUAL,
            )
            self._subscriber(handle)
            await self._broker.start()

    async def stop(self) -> None:
        with meeting(self._choices, NatsError):
            await self._broker.stop()

    async def backlog(self) -> Backlog:
        with meeting(self._choices, NatsError):
            try:
                found = await self._stream.consumer_info(self._place, self._choices.group)
            except NotFoundError:
                raise GroupGone from None
        return Backlog(waiting=found.num_pending, taken=found.num_ack_pending)

    def consuming(self) -> bool:
        tasks = self._subscriber.tasks
        return bool(self._subscriber.running and any(not each.done() for each in tasks))

    async def _find(self, subject: str) -> str:
        try:
            return str(await self._stream.find_stream_name_by_subject(subject))
        except NotFoundError:
            raise PlaceMissing("stream", subject) from None

    def _config(self) -> ConsumerConfig:
        return ConsumerConfig(
            ack_policy=JsAckPolicy.EXPLICIT,
            ack_wait=self._choices.redeliver_s,
            deliver_policy=DeliverPolicy.ALL,
            max_ack_pending=MOST_TAKEN,
        )


async def _parse(raw: Sequence[Msg]) -> NatsBatchMessage:
    return NatsBatchMessage(raw_message=list(raw), body=b"", headers={})


async def _decode(message: NatsBatchMessage) -> NatsBatchMessage:
    return message


def _letter(raw: Msg) -> Letter:
    headers = tuple((name.lower(), value) for name, value in (raw.headers or {}).items())
    return Letter(raw.data, headers)
