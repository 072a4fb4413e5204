"""Real brokers for tests: nats-server and redis-server as processes on files, Kafka as librdkafka's own cluster.

Each can be asked to carry events, to say what lies where dead letters go, and, but for Kafka, to die and come back.
"""

import asyncio
import contextlib
import json
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import confluent_kafka
import nats
import redis
from nats.js.api import ConsumerConfig, StreamConfig

from daemon.ray_child import free_port
from tests import tools
from tests.faults.killing import until

TOPIC, DEAD = "plora.events", "plora.events.dead"
Told = tuple[bytes, Mapping[str, str]]


def structured(event: object) -> Told:
    return json.dumps(event).encode(), {"content-type": "application/cloudevents+json"}


@dataclass(frozen=True)
class Door:
    """What a broker behind TLS asks for; its certificate is its own authority and names localhost."""

    certificate: Path
    key: Path
    user: str = "ann"
    password: str = "a-word-that-only-they-know"


class Server:
    """A program that listens on a port."""

    def __init__(self, command: Sequence[str], port: int, log: Path) -> None:
        self.command, self.port, self.log = command, port, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(self.command, env=tools.environment(), stdout=out, stderr=out)
        assert until(self._listens, 20, 0.02), self.log.read_text()[-2000:]

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


class Redis:
    """Streams that survive the server's death: every write is in its file before it is answered."""

    kind = "redis"
    can_die = True

    def __init__(self, folder: Path, door: Door | None = None) -> None:
        self.port = free_port()
        options = {"port": self.port, "bind": "127.0.0.1", "dir": folder, "appendonly": "yes", "appendfsync": "always"}
        met: dict[str, object] = {}
        if door is not None:
            options |= {
                "port": 0,
                "tls-port": self.port,
                "tls-auth-clients": "no",
                "tls-ca-cert-file": door.certificate,
            }
            options |= {"tls-cert-file": door.certificate, "tls-key-file": door.key}
            met = {"ssl": True, "ssl_ca_certs": str(door.certificate), "username": door.user, "password": door.password}
        command = [str(tools.need("redis-server")), *(str(x) for k, v in options.items() for x in (f"--{k}", v))]
        who = ["--user", door.user, "on", f">{door.password}", "~*", "&*", "+@all"] if door else []
        self.server = Server([*command, *who, "--save", ""], self.port, folder / "redis.log")
        self.server.start()
        self.client = redis.Redis("localhost", self.port, retry=None, **met)

    def carry(self, told: Sequence[Told]) -> None:
        pipe = self.client.pipeline(transaction=False)
        for body, headers in told:
            pipe.xadd(TOPIC, {**headers, "data": body})
        pipe.execute()

    def dead(self) -> list[tuple[bytes, str]]:
        entries = self.client.xrange(DEAD)
        return [(entry.get(b"data", b""), entry[b"plora-code"].decode()) for _, entry in entries]

    def left(self) -> int:
        """Messages that are not acknowledged."""
        groups = self.client.xinfo_groups(TOPIC)
        return sum((each["lag"] or 0) + each["pending"] for each in groups) if groups else self.client.xlen(TOPIC)

    def lose_group(self) -> None:
        self.client.xgroup_destroy(TOPIC, "plora")

    def close(self) -> None:
        self.client.close()
        self.server.kill()


class Nats:
    """A JetStream on files."""

    kind = "nats"
    can_die = True

    def __init__(self, folder: Path, door: Door | None = None) -> None:
        self.port, self._met = free_port(), {}
        program, store = str(tools.need("nats-server")), str(folder / "js")
        command = [program, "-js", "-sd", store, "-a", "127.0.0.1", "-p", str(self.port)]
        if door is not None:
            command += ["--tls", "--tlscert", str(door.certificate), "--tlskey", str(door.key)]
            command += ["--user", door.user, "--pass", door.password]
            context = ssl.create_default_context(cafile=str(door.certificate))
            self._met = {"tls": context, "user": door.user, "password": door.password}
        self.server = Server(command, self.port, folder / "nats.log")
        self.server.start()
        self._do(_make_streams)

    def carry(self, told: Sequence[Told]) -> None:
        async def publish(stream) -> None:
            for start in range(0, len(told), 500):
                await asyncio.gather(
                    *(stream.publish(TOPIC, body, headers=dict(headers)) for body, headers in told[start : start + 500])
                )

        self._do(publish)

    def dead(self) -> list[tuple[bytes, str]]:
        async def read(stream) -> list[tuple[bytes, str]]:
            state = (await stream.stream_info("dead")).state
            if not state.messages:
                return []
            found = [await stream.get_msg("dead", seq) for seq in range(state.first_seq, state.last_seq + 1)]
            return [(each.data, each.headers["plora-code"]) for each in found]

        return self._do(read)

    def left(self) -> int:
        async def count(stream) -> int:
            try:
                info = await stream.consumer_info("events", "plora")
            except nats.js.errors.NotFoundError:
                return (await stream.stream_info("events")).state.messages
            return info.num_pending + info.num_ack_pending

        return self._do(count)

    def starve(self) -> None:
        """Make the group with room for one message that is not acknowledged, and take it."""

        async def take(stream) -> None:
            limits = ConsumerConfig(durable_name="plora", max_ack_pending=1, ack_wait=3600)
            await (await stream.pull_subscribe(TOPIC, "plora", stream="events", config=limits)).fetch(1, 5)

        self._do(take)

    def lose_group(self) -> None:
        self._do(lambda stream: stream.delete_consumer("events", "plora"))

    def close(self) -> None:
        self.server.kill()

    def _do(self, act: Callable):
        async def ask():
            client = await nats.connect(f"nats://localhost:{self.port}", **self._met)
            try:
                return await act(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(ask())


class Kafka:
    """The cluster that librdkafka has for its own tests: the protocol over TCP, records in memory."""

    kind = "kafka"
    can_die = False

    def __init__(self, _: Path) -> None:
        self.cluster = confluent_kafka.Producer({"test.mock.num.brokers": 1, "log_level": 0})
        [broker] = self.cluster.list_topics(timeout=10).brokers.values()
        self.port = broker.port
        for topic in (TOPIC, DEAD):
            self.cluster.list_topics(topic, timeout=10)

    def carry(self, told: Sequence[Told]) -> None:
        for body, headers in told:
            renamed = [(name.replace("ce-", "ce_", 1), value) for name, value in headers.items()]
            self.cluster.produce(TOPIC, body, key=b"one", headers=renamed)
            self.cluster.poll(0)
        assert self.cluster.flush(20) == 0

    def dead(self) -> list[tuple[bytes, str]]:
        reader = self._reader("dead")
        places = self._places(DEAD)
        reader.assign(places)
        count = sum(reader.get_watermark_offsets(each, timeout=5)[1] for each in places)
        found = [each for each in reader.consume(count, timeout=10) if not each.error()] if count else []
        reader.close()
        return [(each.value(), dict(each.headers())["plora-code"].decode()) for each in found]

    def left(self) -> int:
        reader = self._reader("plora")
        places = self._places(TOPIC)
        ends = [reader.get_watermark_offsets(each, timeout=5)[1] for each in places]
        done = [max(0, each.offset) for each in reader.committed(places, timeout=5)]
        reader.close()
        return sum(ends) - sum(done)

    def close(self) -> None:
        self.cluster.flush(1)

    def _places(self, topic: str) -> list[confluent_kafka.TopicPartition]:
        partitions = self.cluster.list_topics(topic).topics[topic].partitions
        return [confluent_kafka.TopicPartition(topic, at, 0) for at in partitions]

    def _reader(self, group: str) -> confluent_kafka.Consumer:
        settings = {"bootstrap.servers": f"127.0.0.1:{self.port}", "group.id": group, "auto.offset.reset": "earliest"}
        return confluent_kafka.Consumer({**settings, "enable.auto.commit": False, "log_level": 0})


async def _make_streams(stream) -> None:
    await stream.add_stream(StreamConfig(name="events", subjects=[TOPIC]))
    await stream.add_stream(StreamConfig(name="dead", subjects=[DEAD]))


BROKERS = {"redis": Redis, "nats": Nats, "kafka": Kafka}
Broker = Redis | Nats | Kafka
