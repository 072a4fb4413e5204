"""The reading half of the Store: every method is one snapshot, and none waits for a writer."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from datetime import datetime
from typing import Self

from sqlalchemy import Connection

from storage import (
    bases,
    callers,
    deadletters,
    events,
    health,
    materials,
    moves,
    runs,
    schema,
    serving,
    switches,
    synthetic,
    tenants,
    users,
    versions,
)
from storage.blobs import Blobs
from storage.database import EVERYONE, Database
from storage.datakeys import DataKeys
from storage.errors import Unreadable
from storage.health import Guarded, Health
from storage.materials import Material
from storage.moves import Move
from storage.records import (
    ActivityRow,
    AdapterVersion,
    BasisRecord,
    Caller,
    CallerRecord,
    Event,
    Run,
    StoredAdapter,
    Tenant,
    User,
)
from storage.sealing import derive
from storage.serving import Servings
from storage.states import RunState
from storage.switches import Switch


class Readings:
    """What can be asked of an open store. Thread-safe."""

    def __init__(self, database: Database, keys: DataKeys, blobs: Blobs) -> None:
        self._database = database
        self._keys = keys
        self._blobs = blobs
        self._scope = EVERYONE

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._database.read(self._scope) as connection:
            yield connection

    def within(self, tenant: str) -> Self:
        """The same store for one tenant: on PostgreSQL no statement of it sees or changes a row of another."""
        narrowed = copy(self)
        narrowed._scope = tenant
        return narrowed

    @property
    def dialect(self) -> str:
        """Which kind of database it is: sqlite or postgresql."""
        return self._database.dialect

    @property
    def failed(self) -> bool:
        """Whether the disk has failed in a way that only a new process recovers from; until then nothing is written."""
        return self._database.failed

    def tenants(self) -> list[Tenant]:
        with self._read() as connection:
            return tenants.listed(connection)

    def tenant(self, name: str) -> Tenant | None:
        with self._read() as connection:
            return tenants.named(connection, name)

    def caller(self, token: str, now: datetime) -> Caller | None:
        """Who bears this token; None if nobody does, or not any more."""
        with self._read() as connection:
            return callers.find(connection, token, now)

    def callers(self, tenant: str) -> list[CallerRecord]:
        """By name, those whose token has ended too."""
        with self._read() as connection:
            return callers.listed(connection, tenant)

    def user(self, tenant: str, external_id: str) -> User | None:
        """The user of this external id; the forgotten one while only a tombstone is left."""
        with self._read() as connection:
            return users.find(connection, self._keys, tenant, external_id)

    def serving(self, tenant: str, whom: Collection[str], *, previous: bool = False) -> Servings:
        """What answers for each of `whom` that is an active user; with `previous` also what served them before."""
        with self._read() as connection:
            return serving.read(connection, self._keys, tenant, whom, previous=previous)

    def moves(self, tenant: str, after: int = 0, limit: int = 1_000) -> list[Move]:
        """What ceased to serve users of the tenant, behind number `after`, in the order in which it was committed."""
        with self._read() as connection:
            return moves.since(connection, tenant, after, limit)

    def newest_move(self, tenant: str) -> int:
        """The number of the newest one; 0 without any."""
        with self._read() as connection:
            return moves.newest(connection, tenant)

    def answer_key(self, tenant: str) -> bytes:
        """32 bytes that seal what a tenant's answers are called. Raises UnknownTenant."""
        with self._read() as connection:
            return derive(tenants.key_of(connection, self._keys, tenant).secret, b"answers/1")

    def user_by_id(self, user: str) -> User | None:
        with self._read() as connection:
            return users.get(connection, user)

    def users(self, tenant: str, limit: int = 100, after: str = "") -> list[User]:
        """By internal id, from the one behind `after`."""
        with self._read() as connection:
            return users.listed(connection, tenant, limit, after)

    def external_id(self, user: str) -> str:
        """The host's id of an active user: only for the host itself. Raises UnknownUser."""
        with self._read() as connection:
            return users.external_id(connection, self._keys, user)

    def events(self, user: str) -> list[Event]:
        """Everything still kept of the user, oldest first."""
        with self._read() as connection:
            return events.read(connection, self._keys, user)

    def materials(self, whom: Sequence[str]) -> dict[str, Material | Unreadable]:
        """What a run of each of these users works from, or why it can not be read."""
        with self._read() as connection:
            return materials.read(connection, self._keys, whom)

    def activity(self, user: str, now: datetime) -> ActivityRow | None:
        return self.activities([user], now).get(user)

    def activities(self, whom: Sequence[str], now: datetime) -> dict[str, ActivityRow]:
        """By user, without those who are unknown."""
        with self._read() as connection:
            return users.activities(connection, whom, now)

    def due_users(self, now: datetime, limit: int, min_fresh: int = 1, min_fresh_dead: int = 1) -> list[str]:
        """Active, consenting users with `min_fresh` fresh examples, no open run, and not postponed past `now`.

        Of those whose last run was given up, only who has `min_fresh_dead`.
        """
        with self._read() as connection:
            return users.due(connection, now, limit, min_fresh, min_fresh_dead)

    def population(self, tenant: str, limit: int) -> list[str]:
        """Consenting users with examples, those with the most first."""
        with self._read() as connection:
            return users.teaching(connection, tenant, limit)

    def run(self, run: int) -> Run | None:
        with self._read() as connection:
            return runs.get(connection, run)

    def runs(self, tenant: str | None = None, state: RunState | None = None, limit: int = 100) -> list[Run]:
        """Newest first."""
        with self._read() as connection:
            return runs.listed(connection, tenant, state, limit)

    def dead_letters(self, tenant: str, limit: int = 100, after: int = 0) -> list[Run]:
        """Runs that were given up and that no other run of their user has replaced, from the one behind `after`."""
        with self._read() as connection:
            return deadletters.listed(connection, tenant, limit, after)

    def current_version(self, user: str) -> AdapterVersion | None:
        """What the user is served, without unsealing it; None for the generic model."""
        with self._read() as connection:
            return versions.current(connection, user)

    def current_adapter(self, user: str) -> StoredAdapter | None:
        with self._read() as connection:
            return versions.current_adapter(connection, self._keys, user)

    def adapter(self, user: str, version: int) -> StoredAdapter | None:
        with self._read() as connection:
            return versions.adapter(connection, self._keys, user, version)

    def versions(self, user: str) -> list[AdapterVersion]:
        """Oldest first."""
        return self.versions_of([user])[user]

    def versions_of(self, whom: Sequence[str]) -> dict[str, list[AdapterVersion]]:
        """Of each of these users, oldest first."""
        with self._read() as connection:
            return versions.listed(connection, whom)

    def newest_versions(self, limit: int) -> list[AdapterVersion]:
        """Those made last, over all users and tenants, newest first."""
        with self._read() as connection:
            return versions.newest(connection, limit)

    def basis(self, basis: int) -> BasisRecord | None:
        with self._read() as connection:
            return bases.get(connection, basis)

    def current_basis(self, tenant: str) -> BasisRecord | None:
        """The tenant's newest READY Basis."""
        with self._read() as connection:
            return bases.current(connection, tenant)

    def bases(self, tenant: str) -> list[BasisRecord]:
        """Newest first."""
        with self._read() as connection:
            return bases.listed(connection, tenant)

    def basis_content(self, fingerprint: str, tenant: str) -> bytes:
        """Raises UnknownBasis, or Unreadable when the blob is gone or altered."""
        with self._read() as connection:
            blob, key, context = bases.located(connection, self._keys, fingerprint, tenant)
        return bases.opened(key, context, self._blobs.read(blob), fingerprint)

    def switches(self) -> list[Switch]:
        """Those that are off."""
        with self._read() as connection:
            return switches.listed(connection)

    def guarded(self) -> Guarded:
        """Figures about keys, erasures and the audit log."""
        with self._read() as connection:
            return health.guard(connection)

    def synthetic_users(self) -> list[str]:
        """Users that the daemon itself has made, of all tenants."""
        with self._read() as connection:
            return synthetic.listed(connection)

    def health(self, now: datetime) -> Health:  # noqa: ARG002
        with self._read() as connection:
            return health.read(connection, self._database.size_bytes(connection), schema.revision(connection))
