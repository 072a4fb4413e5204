"""A whole daemon in this process: real store, real keys, real routes; the trainer is in-process and not started."""

import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from daemon import logs
from daemon.service import Service, assemble
from daemon.settings import Settings
from storage import AdapterVersion, FinishedRun

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
JSON_EVENT = {"Content-Type": "application/cloudevents+json"}


@dataclass
class World:
    """A daemon and its callers."""

    service: Service
    client: TestClient
    log: io.StringIO
    tenant: str

    def token(self, name: str = "host") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.service.keyring.ensure_token(name)}"}

    def caller(self, *scopes: str, tenant: str | None = None) -> dict[str, str]:
        """A new caller with these scopes."""
        name = f"caller-{len(scopes)}-{abs(hash((scopes, tenant)))}"
        token = self.service.keyring.ensure_token(name)
        store = self.service.parts.store
        if store.caller(token, NOW) is None:
            store.add_caller(tenant or self.tenant, name, scopes, token, NOW)
        return {"Authorization": f"Bearer {token}"}

    def post(self, event: object, **headers: str) -> object:
        return self.client.post("/v1/events", json=event, headers=self.token() | JSON_EVENT | headers)

    def internal_id(self, user: str) -> str:
        found = self.service.parts.store.user(self.tenant, user)
        if found is None:
            raise LookupError("no such user")
        return found.id

    def files(self) -> list[Path]:
        """Everything under the data directory."""
        return [path for path in self.service.parts.settings.data_dir.rglob("*") if path.is_file()]

    def counts(self) -> int:
        """How many events are stored, over all users."""
        store = self.service.parts.store
        return sum(len(store.events(user.id)) for user in store.users(self.tenant, 1000))

    def give_basis(self, content: bytes, fingerprint: str, base: str = "ba5e") -> None:
        store = self.service.parts.store
        store.open_basis(self.tenant, "main", "", NOW)
        record = store.claim_basis("test", 60, NOW)
        store.finish_basis(record.id, record.epoch, fingerprint, base, content, "{}", NOW)

    def give_adapter(
        self,
        user: str,
        content: bytes,
        basis: str,
        *,
        promoted: bool = True,
        scores: str = '{"gain": 0.5}',
        watermark: int = 1,
    ) -> AdapterVersion:
        """Carry one run of `user` through by hand."""
        store = self.service.parts.store
        internal = self.internal_id(user)
        store.open_run(internal, basis, "a test", NOW)
        (run,) = store.claim_runs("test", 1, 60, NOW)
        code = "beats_generic" if promoted else "not_better_than_generic"
        made = FinishedRun(content, promoted, code, "a reason", scores, "ba5e", basis, watermark)
        return store.finish_run(run.id, run.epoch, made, NOW)


def example(number: int = 1, user: str = "ann", **changes: object) -> dict[str, object]:
    """A structured example event."""
    event = {
        "specversion": "1.0",
        "type": "plora.example.v1",
        "source": "/shop",
        "id": f"{user}-{number}",
        "subject": user,
        "data": {"text": f"text {number}", "label": "good"},
    }
    return {name: value for name, value in (event | changes).items() if value is not ...}


@pytest.fixture
def event() -> Callable[..., dict[str, object]]:
    return example


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", keys_dir=tmp_path / "keys", port=0, trainer="in-process")


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    yield from open_world(replace(settings, default_consent=True))


@pytest.fixture(scope="module")
def quiet_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One daemon for a whole file, with one event of `ann`: for requests that change nothing."""
    folder = tmp_path_factory.mktemp("quiet")
    chosen = Settings(data_dir=folder / "data", keys_dir=folder / "keys", trainer="in-process", default_consent=True)
    for world in open_world(chosen):
        world.post(example())
        yield world


def open_world(settings: Settings) -> Iterator[World]:
    log = io.StringIO()
    before = logging.getLogger().handlers[:], logging.getLogger().level
    logs.configure("json", log)
    service = assemble(settings)
    try:
        tenant = service.parts.store.ensure_tenant(settings.tenant, NOW).id
        with TestClient(service.app) as client:
            yield World(service, client, log, tenant)
    finally:
        service.parts.store.close()
        logging.getLogger().handlers[:], logging.getLogger().level = before[0], before[1]
