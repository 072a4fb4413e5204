"""What an operator says of the broker that events are taken from."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from daemon.errors import DaemonError

MOST_BATCH = 500
DEAD = ".dead"
DEFAULT_PORTS = {"kafka": 9092, "nats": 4222, "redis": 6379}


class WrongIngest(DaemonError):
    """What is said of the broker does not fit; `field` is the setting."""

    def __init__(self, field: str, needed: str) -> None:
        super().__init__(field, needed)
        self.field, self.needed = field, needed

    def __str__(self) -> str:
        return f"PLORA_INGEST_{self.field.upper()} must be {self.needed}"


@dataclass(frozen=True, slots=True)
class IngestChoices:
    """Read by `python -m daemon ingest` alone. `topic` is a Kafka topic, a NATS subject or a Redis stream.

    A message that was taken and not acknowledged for `redeliver_s` is given to another consumer. A consumer that
    takes nothing for `stall_s` although messages wait is not alive.
    """

    broker: Literal["none", "kafka", "nats", "redis"] = "none"
    address: str = ""  # host:port; several of one Kafka or NATS cluster with commas between
    tls: bool = False
    ca_file: Path | None = None  # of the broker's certificate; without it the system's
    username: str = ""
    password_file: Path | None = None
    mechanism: Literal["plain", "scram-sha-256", "scram-sha-512"] = "plain"  # of Kafka, with a username
    topic: str = "plora.events"
    dead_letter: str = ""  # empty: the topic with .dead behind it
    group: str = "plora"
    member: str = ""  # this process's own name in the group; empty: the name of its host
    batch: int = 200
    gather_s: float = 0.1  # how long a batch that is not full waits for more
    redeliver_s: float = 60.0
    stall_s: float = 120.0
    token_file: Path | None = None  # of a caller with the scope events:write; empty: the host's token of the keys
    host: str = "127.0.0.1"
    port: int = 8471

    def __post_init__(self) -> None:
        if self.broker != "none":
            self._check_places()
        if not 1 <= self.batch <= MOST_BATCH:
            raise WrongIngest("batch", f"from 1 to {MOST_BATCH}")
        if not 0.01 <= self.gather_s <= 5.0:
            raise WrongIngest("gather_s", "from 0.01 to 5 seconds")
        for name in ("redeliver_s", "stall_s"):
            if not 1.0 <= getattr(self, name) <= 3600.0:
                raise WrongIngest(name, "from 1 to 3600 seconds")
        if not 0 <= self.port <= 65_535:
            raise WrongIngest("port", "a port from 0 to 65535")
        if self.username and self.password_file is None:
            raise WrongIngest("password_file", "a file that holds the password of PLORA_INGEST_USERNAME")
        if self.ca_file is not None and not self.tls:
            raise WrongIngest("tls", "true with PLORA_INGEST_CA_FILE")

    def _check_places(self) -> None:
        if not self.address:
            raise WrongIngest("address", f"the {self.broker} to take events from, as host:port")
        if "://" in self.address or "@" in self.address:
            raise WrongIngest("address", "host:port alone; who asks is said by PLORA_INGEST_USERNAME")
        if self.broker == "redis" and "," in self.address:
            raise WrongIngest("address", "one Redis; Cluster and Sentinel are not known here")
        for each in self.addresses:
            port = each.rpartition(":")[2]
            if not port.isdigit() or not 0 < int(port) < 65_536:
                raise WrongIngest("address", "host:port, with a port from 1 to 65535")
        for name in ("topic", "group"):
            value = getattr(self, name)
            if not value or not value.isprintable() or " " in value or not value.isascii():
                raise WrongIngest(name, "a name without spaces")
        if self.broker == "nats" and ("." in self.group or "*" in self.group or ">" in self.group):
            raise WrongIngest("group", "a name without . * > for NATS")
        if self.dead_place == self.topic:
            raise WrongIngest("dead_letter", "another place than PLORA_INGEST_TOPIC")

    @property
    def addresses(self) -> tuple[str, ...]:
        """Each as host:port."""
        port = DEFAULT_PORTS.get(self.broker, 0)
        found = (each.strip() for each in self.address.split(","))
        return tuple(each if ":" in each else f"{each}:{port}" for each in found if each)

    @property
    def dead_place(self) -> str:
        """Where messages go that no retry would help."""
        return self.dead_letter or f"{self.topic}{DEAD}"

    @property
    def name(self) -> str:
        """Who this process is in its group."""
        return self.member or socket.gethostname()
