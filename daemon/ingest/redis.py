"""Redis Streams: a consumer group that reads what is new, beside one that claims what others left lying.

An entry is one event: its field `data` is the event as JSON, or the fields `ce-id`, `ce-source`, `ce-type`, ... are
the attributes and `data` is the data. What a consumer took and never acknowledged stays pending in Redis, and is
claimed by any of the group once it has been idle for PLORA_INGEST_REDELIVER_S.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from faststream import AckPolicy
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.message import RedisBatchStreamMessage
from redis.exceptions import RedisError, ResponseError

from daemon.ingest.brokers import LOGGER, Backlog, GroupGone, meeting, security_of
from daemon.ingest.choices import IngestChoices
from daemon.ingest.letters import Letter, Take

DATA = b"data"
FIRST = "0"
BLOCK_MS = 1_000
CODE = b"plora-code"
ORIGIN = b"plora-origin"


class RedisBatch:
    """Entries of one stream, by their ids."""

    def __init__(self, message: RedisBatchStreamMessage, client: Any, choices: IngestChoices) -> None:
        self._message, self._client, self._choices = message, client, choices
        self._ids: Sequence[bytes] = message.raw_message["message_ids"]
        self._entries: Sequence[Mapping[bytes, bytes]] = message.raw_message["data"]
        self.letters = [_letter(entry) for entry in self._entries]

    async def keep(self) -> None:
        """Claim for oneself what one has: that sets the idle time back."""
        choices = self._choices
        with meeting(choices, RedisError):
            await self._client.xclaim(choices.topic, choices.group, choices.name, 0, list(self._ids), justid=True)

    async def bury(self, at: int, code: str) -> None:
        entry = {**self._entries[at], CODE: code.encode(), ORIGIN: self._ids[at]}
        with meeting(self._choices, RedisError):
            await self._client.xadd(self._choices.dead_place, entry)

    async def settle(self) -> None:
        with meeting(self._choices, RedisError):
            await self._message.ack()

    async def release(self) -> None:
        """Redis has no giving back: what was not acknowledged is claimed once it has been idle."""


class RedisIntake:
    """One stream, read by one member of one group."""

    def __init__(self, choices: IngestChoices) -> None:
        scheme = "rediss" if choices.tls else "redis"
        url = f"{scheme}://{choices.addresses[0]}"
        self._choices = choices
        self._broker = RedisBroker(
            url, security=security_of(choices), logger=LOGGER, apply_types=False, graceful_timeout=0
        )
        self._client: Any = None
        self._subscribers: list[Any] = []

    async def start(self, take: Take) -> None:
        async def handle(message: RedisBatchStreamMessage) -> None:
            await take(RedisBatch(message, self._client, self._choices))

        with meeting(self._choices, RedisError):
            self._client = await self._broker.connect()
            await self._make_group()
            for idle_ms in (None, int(self._choices.redeliver_s * 1000)):
                subscriber = self._broker.subscriber(
                    stream=self._stream(idle_ms), parser=self._parse, decoder=_decode, ack_policy=AckPolicy.MANUAL
                )
                subscriber(handle)
                self._subscribers.append(subscriber)
            await self._broker.start()

    async def stop(self) -> None:
        with meeting(self._choices, RedisError):
            await self._broker.stop()

    async def backlog(self) -> Backlog:
        with meeting(self._choices, RedisError):
            return await self._backlog()

    def consuming(self) -> bool:
        return all(each.running and any(not task.done() for task in each.tasks) for each in self._subscribers)

    async def _backlog(self) -> Backlog:
        groups = await self._client.xinfo_groups(self._choices.topic)
        named = self._choices.group.encode()
        found = next((each for each in groups if each["name"] in {named, self._choices.group}), None)
        if found is None:
            raise GroupGone
        lag = found.get("lag")
        if lag is None:  # Redis does not know once entries were deleted
            lag = int(is_behind(found["last-delivered-id"], await self._newest()))
        return Backlog(waiting=lag, taken=found["pending"])

    async def _newest(self) -> bytes:
        entries = await self._client.xrevrange(self._choices.topic, count=1)
        return entries[0][0] if entries else b""

    async def _make_group(self) -> None:
        """From the first entry on: the library's own way would begin behind those that are there."""
        try:
            await self._client.xgroup_create(self._choices.topic, self._choices.group, id=FIRST, mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _stream(self, idle_ms: int | None) -> StreamSub[Any]:
        return StreamSub(
            self._choices.topic,
            polling_interval=BLOCK_MS,
            group=self._choices.group,
            consumer=self._choices.name,
            batch=True,
            max_records=self._choices.batch,
            min_idle_time=idle_ms,
        )

    async def _parse(self, raw: Any) -> RedisBatchStreamMessage:
        """The library's own parser wants its own format in an entry, and fails at others."""
        return RedisBatchStreamMessage(
            raw_message=raw, body=b"", consumer=self._client, group=self._choices.group, headers={}
        )


def is_behind(delivered: bytes, newest: bytes) -> bool:
    """Whether the entry `newest` came after `delivered`; a stream whose entries are all gone has no newest, b""."""
    return bool(newest) and _order(newest) > _order(delivered)


def _order(entry: bytes) -> tuple[int, ...]:
    return tuple(int(each) for each in entry.split(b"-"))


async def _decode(message: RedisBatchStreamMessage) -> RedisBatchStreamMessage:
    return message


def _letter(entry: Mapping[bytes, bytes]) -> Letter:
    headers = tuple((_text(name).lower(), _text(value)) for name, value in entry.items() if name != DATA)
    return Letter(entry.get(DATA, b""), headers)


def _text(value: bytes) -> str:
    """What is no UTF-8 comes out as half characters, which the daemon refuses."""
    return value.decode("utf-8", "surrogateescape")
