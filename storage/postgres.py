"""PostgreSQL, for several daemons on several machines.

Theory. A write is READ COMMITTED and takes its row locks in one order (users by id, then runs by id, the head of the
audit chain last), a read is one REPEATABLE READ snapshot. The first round trip of either says which tenant's rows the
transaction may see (row-level security asks `plora.tenant`); a write's also reads the database's clock and leaves a
random token in `commits`.

The token is for a connection that breaks during COMMIT, when nobody can tell whether the transaction is there.
Another connection then inserts the same token: a transaction that is still at it makes the insert wait, one that is
there makes it a duplicate, and one that is not lets it through. `pg_xact_status` would not do: a number whose
transaction never reached the log on disk is given out again after a crash.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from time import monotonic, sleep

from sqlalchemy import Connection, Engine, RootTransaction, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage.columns import START
from storage.database import EVERYONE, Writing
from storage.errors import (
    CommitUnknown,
    DiskFull,
    RoleBypassesIsolation,
    StorageError,
    StoreAway,
    StoreBusy,
    StoreDamaged,
    UnsupportedDatabase,
    WrongPragma,
)

CONNECT_S = 5
RESOLVE_S = 10.0
PAUSE_S = 0.2
OLDEST_SERVER = 140_000
BOUNDED_SERVER = 170_000
COMMITS_KEPT = timedelta(hours=1)
PATIENCE = "2s"
MIGRATING, SCRUBBING = 0x706C6F7261, 0x706C6F7262
"""Numbers of advisory locks: one daemon migrates, one scrubs."""

OPTIONS = " ".join(
    f"-c {name}={value}"
    for name, value in {
        "synchronous_commit": "on",  # an acknowledged commit survives power loss
        "lock_timeout": "10s",
        "statement_timeout": "60s",
        "idle_in_transaction_session_timeout": "60s",
        "timezone": "UTC",
        "row_security": "on",
    }.items()
)
KEEPALIVES = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
NEEDED = {"fsync": {"on"}, "full_page_writes": {"on"}, "synchronous_commit": {"on", "remote_write", "remote_apply"}}

BEGIN_WRITE = text(
    "WITH told AS (INSERT INTO commits (token, at) "
    "VALUES (:token, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)) "
    "SELECT set_config('idle_in_transaction_session_timeout', '5s', true), "  # a frozen daemon holds nobody up for long
    "set_config('plora.tenant', :scope, true), clock_timestamp()"
)
BOUND = text(BEGIN_WRITE.text.replace("SELECT set", "SELECT set_config('transaction_timeout', '20s', true), set", 1))
"""From PostgreSQL 17 on: a daemon that freezes between the messages of one pipeline is not idle to the server, and held
its rows for as long as it stayed frozen. Writes take milliseconds, and wait for a lock ten seconds at most."""
BEGIN_READ = text("SELECT set_config('plora.tenant', :scope, true)")
RESOLVE = text(
    "INSERT INTO commits (token, at) "
    "VALUES (:token, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) ON CONFLICT DO NOTHING"
)
TIDY = text("DELETE FROM commits WHERE at < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - :kept")
OLDEST_READER = text(
    "SELECT min(xact_start) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
)
ROLE = text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
VACUUMS = ("VACUUM (FULL) data_keys", "VACUUM users", "VACUUM events", "VACUUM versions", "VACUUM tombstones")

# https://www.postgresql.org/docs/current/errcodes-appendix.html
BUSY = frozenset({"40001", "40P01", "55P03", "57014", "23505", "53300", "25P03"})
AWAY = frozenset({"57P01", "57P02", "57P03", "57P05"})
FULL = frozenset({"53100"})
DAMAGED = frozenset({"XX001", "XX002"})

Clock = Callable[[datetime, datetime], datetime]
"""From what the caller takes for the time, and the database's: the time of a write."""


def databases_clock(callers: datetime, databases: datetime) -> datetime:  # noqa: ARG001
    """Daemons whose clocks differ must agree on when a lease ends."""
    return databases


class Postgres:
    """An open database on a server."""

    dialect = "postgresql"

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        address = make_url(url).set(drivername="postgresql+psycopg")
        self.name = _public(address)
        self._clock = clock or databases_clock
        self._begin_write = BEGIN_WRITE
        self._engine = create_engine(
            address,
            pool_size=8,
            max_overflow=24,
            pool_timeout=10,
            hide_parameters=True,  # an error's text must not carry a row
            connect_args={"connect_timeout": CONNECT_S, "options": OPTIONS, **KEEPALIVES},
        )
        self._readers = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    @property
    def failed(self) -> bool:
        """The server looks after its own syncs."""
        return False

    @contextlib.contextmanager
    def write(self, now: datetime = START, scope: str = EVERYONE) -> Iterator[Writing]:
        """One transaction. Raises StoreBusy or StoreAway when nothing was written, CommitUnknown when nobody knows."""
        token = secrets.token_bytes(16)
        with self._translated():
            connection, begun, databases = self._begun(
                self._engine, self._begin_write, {"token": token, "scope": scope}
            )
            with contextlib.closing(connection):
                try:
                    yield Writing(connection, self._clock(now, databases))
                except BaseException:
                    with contextlib.suppress(DBAPIError):
                        begun.rollback()
                    raise
                self._commit(begun, token)

    @contextlib.contextmanager
    def read(self, scope: str = EVERYONE) -> Iterator[Connection]:
        """One snapshot."""
        with self._translated():
            connection, begun, _ = self._begun(self._readers, BEGIN_READ, {"scope": scope})
            with contextlib.closing(connection):
                try:
                    yield connection
                finally:
                    with contextlib.suppress(DBAPIError):
                        begun.rollback()

    def migrate(self, upgrade: Callable[[Connection], None]) -> None:
        """Run `upgrade` in one transaction; who migrates meanwhile waits for it.

        A table that somebody holds is waited for no longer than PATIENCE, as every statement of theirs would queue up
        behind: StoreBusy, and nothing is changed.
        """
        with self._translated(), self._engine.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATING})
            connection.execute(text(f"SET LOCAL lock_timeout = '{PATIENCE}'"))
            connection.execute(BEGIN_READ, {"scope": EVERYONE})
            upgrade(connection)

    def no_older_readers(self, since: datetime) -> bool:
        """Whether every transaction of this database began after `since`."""
        with self._translated(), self._engine.connect() as connection:
            oldest = connection.execute(OLDEST_READER).scalar()
        return oldest is None or oldest > since

    def scrub(self) -> bool:
        """Rewrite the table of keys and empty the others of what was deleted. False while another daemon does.

        What is left in the server's log, its replicas and its backups is ciphertext, which the next roll of the key
        epoch makes useless.
        """
        with self._translated(), self._engine.connect() as plain:
            connection = plain.execution_options(isolation_level="AUTOCOMMIT")
            if not connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": SCRUBBING}).scalar():
                return False
            try:
                connection.execute(text("SET statement_timeout = 0"))
                for statement in VACUUMS:
                    connection.execute(text(statement))
                connection.execute(TIDY, {"kept": COMMITS_KEPT // timedelta(microseconds=1)})
            finally:
                connection.execute(text("RESET statement_timeout"))
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": SCRUBBING})
        return True

    def size_bytes(self, connection: Connection) -> int:
        size: int = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
        return size

    def close(self) -> None:
        self._engine.dispose()

    def _check(self) -> None:
        """Refuse a server on which what is promised would not hold."""
        with self._translated(), self._engine.connect() as connection:
            for name, wanted in NEEDED.items():
                found = str(connection.execute(text(f"SHOW {name}")).scalar())
                if found not in wanted:
                    raise WrongPragma(name, " or ".join(sorted(wanted)), found)
            version = int(connection.execute(text("SHOW server_version_num")).scalar_one())
            if version < OLDEST_SERVER:
                raise UnsupportedDatabase("postgresql before 14")
            self._begin_write = BOUND if version >= BOUNDED_SERVER else BEGIN_WRITE
            if connection.execute(ROLE).scalar():
                raise RoleBypassesIsolation(self.name)

    def _begun(
        self, engine: Engine, statement: object, values: dict[str, object]
    ) -> tuple[Connection, RootTransaction, datetime]:
        """A connection in a transaction that knows its scope; a pooled connection that broke meanwhile is replaced."""
        for last in (False, True):
            connection = engine.connect()
            try:
                begun = connection.begin()
                row = connection.execute(statement, values).one()  # type: ignore[call-overload]  # one of ours
            except DBAPIError as problem:
                connection.close()
                if last or not problem.connection_invalidated:
                    raise
            except BaseException:
                connection.close()
                raise
            else:
                return connection, begun, row[-1] if len(row) > 1 else START
        raise AssertionError

    def _commit(self, begun: RootTransaction, token: bytes) -> None:
        # failpoint: postgres-before-commit
        try:
            begun.commit()
        except DBAPIError as problem:
            if not problem.connection_invalidated and _state(problem) not in AWAY:
                raise
            if not self._is_there(token):
                raise StoreAway(self.name) from problem

    def _is_there(self, token: bytes) -> bool:
        until = monotonic() + RESOLVE_S
        while True:
            try:
                with self._engine.begin() as connection:
                    return connection.execute(RESOLVE, {"token": token}).rowcount == 0
            except (DBAPIError, PoolTimeout) as problem:
                if monotonic() > until:
                    raise CommitUnknown(self.name) from problem
                sleep(PAUSE_S)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as problem:
            raise StoreBusy(self.name) from problem
        except DBAPIError as problem:
            known = translate(problem, self.name)
            if known is None:
                raise
            raise known from problem


def translate(problem: DBAPIError, name: str) -> StorageError | None:
    """The error of this package that a foreign one means, if it means one."""
    state = _state(problem)
    if state in FULL:
        return DiskFull(name, "no space left")
    if state in BUSY:
        return StoreBusy(name)
    if state in DAMAGED:
        return StoreDamaged(name, "its pages do not add up")
    if problem.connection_invalidated or state in AWAY or state is None or state.startswith("08"):
        return StoreAway(name)
    return None


def _state(problem: DBAPIError) -> str | None:
    state = getattr(problem.orig, "sqlstate", None)
    return state if isinstance(state, str) else None


def _public(address: URL) -> str:
    """What the address leaves open, libpq takes from its own variables."""
    host = address.host or address.query.get("host") or os.environ.get("PGHOST", "localhost")
    return f"postgresql://{host}/{address.database or os.environ.get('PGDATABASE', '')}"
