"""A daemon on a socket in this process, a broker, and consumers in processes of their own."""

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvicorn
from uvicorn import Config

from daemon.ray_child import free_port
from daemon.service import Service, assemble
from daemon.settings import Settings
from tests.daemon.ingest.brokers import Broker
from tests.faults.killing import until
from tests.faults.zygote import Child, Zygote

Points = dict[str, tuple[str, int]]


class Daemon:
    """The whole daemon, but that it trains nobody; it can go and come back on its port."""

    def __init__(self, folder: Path, **chosen: object) -> None:
        self.port = free_port()
        self.settings = Settings(
            data_dir=folder / "data", keys_dir=folder / "keys", trainer="in-process", default_consent=True, **chosen
        )
        self.service: Service = assemble(self.settings)
        self.service.parts.store.ensure_tenant(self.settings.tenant, self.service.parts.now())
        self.service.keyring.ensure_token("host")
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        config = Config(self.service.app, port=self.port, log_config=None, lifespan="off", ws="none", access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=asyncio.run, args=(self._server.serve(),), daemon=True)
        self._thread.start()
        assert until(lambda: self._server.started, 10, 0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def close(self) -> None:
        self.stop()
        self.service.parts.store.close()

    def stored(self) -> Counter[str]:
        """How often each text is stored."""
        store, found = self.service.parts.store, Counter()
        for tenant in store.tenants():
            after = ""
            while people := store.users(tenant.id, 500, after):
                after = people[-1].id
                for person in people:
                    found.update(each.content.decode() for each in store.events(person.id))
        return found

    def count(self) -> int:
        return self.stored().total()


@dataclass
class World:
    """What a test of one broker has."""

    folder: Path
    children: Zygote
    broker: Broker
    daemon: Daemon
    consumers: list[tuple[Child, int]] = field(default_factory=list)

    def environ(self, name: str, port: int, **chosen: object) -> dict[str, str]:
        own = {
            "BROKER": self.broker.kind,
            "ADDRESS": f"127.0.0.1:{self.broker.port}",
            "REDELIVER_S": "1",
            "STALL_S": "3",
            "MEMBER": name,
            "PORT": port,
        }
        choices = {f"PLORA_INGEST_{key}": str(value) for key, value in (own | chosen).items()}
        keys = self.daemon.settings.keys_path
        return {**choices, "PLORA_URL": self.daemon.url, "PLORA_KEYS_DIR": str(keys), "PLORA_LOG_FORMAT": "json"}

    def start(self, name: str = "one", points: Points | None = None, **chosen: object) -> tuple[Child, int]:
        port = free_port()
        child = self.children.start(
            "tests.daemon.ingest.consuming:consume",
            log=self.log,
            environ=self.environ(name, port, **chosen),
            points=points or {},
        )
        self.consumers.append((child, port))
        return child, port

    @property
    def log(self) -> Path:
        return self.folder / "consumers.log"

    def settled(self, count: int, limit_s: float = 30.0) -> bool:
        """Whether so many events are stored, and the broker waits for no acknowledgement."""
        return until(lambda: self.broker.left() == 0 and self.daemon.count() >= count, limit_s, 0.1)

    def close(self) -> None:
        for child, _ in self.consumers:
            child.kill()
            child.close()
        self.broker.close()
        self.daemon.close()


def ask(port: int, path: str) -> httpx.Response | None:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5, trust_env=False)
    except httpx.HTTPError:
        return None


def says(port: int, path: str, status: int, word: str = "", limit_s: float = 20.0) -> bool:
    """Whether a consumer answers so in time."""

    def seen() -> bool:
        answer = ask(port, path)
        return answer is not None and answer.status_code == status and word in answer.text

    return until(seen, limit_s, 0.05)


def figure(port: int, name: str) -> float:
    """The sum of a metric's series."""
    answer = ask(port, "/metrics")
    lines = answer.text.splitlines() if answer is not None else []
    return sum(float(each.rpartition(" ")[2]) for each in lines if each.startswith((f"{name} ", f"{name}{{")))
