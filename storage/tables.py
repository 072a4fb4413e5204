"""The tables, as the newest migration leaves them. They never leave this package.

Times are UTC microseconds, ids are uuid4 in hex, numbered rows never reuse a number. Columns that end in `_sealed` hold
ciphertext; `lookup`, `identity` and `dedup` are HMACs under keys of the tenant or the user, useless without them.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from storage.columns import Moment, Number, State
from storage.states import BasisState, EpochState, EventKind, RunState, UserState, VersionState

metadata = MetaData()

tenants = Table(
    "tenants",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("created_at", Moment, nullable=False),
)

callers = Table(
    "callers",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(32), ForeignKey("tenants.id"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("token_hash", LargeBinary(32), nullable=False, unique=True),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("revoked_at", Moment),
    UniqueConstraint("tenant", "name"),
)

key_epochs = Table(
    "key_epochs",
    metadata,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("provider", String(32), nullable=False),
    Column("state", State(EpochState), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("destroyed_at", Moment),
)

# Every row has the same size for its whole life, and none is deleted: a key is rewrapped or destroyed (zeroed) in
# place. SQLite's secure_delete zeroes a deleted row, but not the copies that balancing a b-tree left in the free
# space of its pages: measured, about one deleted key in a thousand stayed in the file. The epoch that wraps a
# key is therefore read from `wrapped` and is no column, which could change its size.
data_keys = Table(
    "data_keys",
    metadata,
    Column("id", Number, primary_key=True),
    Column("tenant", String(32), ForeignKey("tenants.id"), nullable=False),
    Column("owner", String(32), nullable=False, unique=True),
    Column("key_id", LargeBinary(16), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("wrapped", LargeBinary(65), nullable=False),
    sqlite_autoincrement=True,
)

users = Table(
    "users",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(32), ForeignKey("tenants.id"), nullable=False),
    Column("lookup", LargeBinary(16)),
    Column("external_id_sealed", LargeBinary),
    Column("state", State(UserState), nullable=False),
    Column("consented", Boolean(create_constraint=False), nullable=False),
    Column("consent_at", Moment, nullable=False),
    Column("fresh", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("fresh_since", Moment),
    Column("watermark", BigInteger, nullable=False),
    Column("not_before", Moment, nullable=False),
    Column("last_event_at", Moment),
    Column("last_run_at", Moment),
    Column("open_run", BigInteger),
    Column("dead_run", BigInteger),
    Column("current_version", Integer, nullable=False),
    Column("last_version", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("trace", String(64)),
    Column("synthetic", Boolean(create_constraint=False)),
    UniqueConstraint("tenant", "lookup"),
)
DUE = text("state = 'active' AND consented AND open_run IS NULL AND fresh > 0")
PENDING = text("state = 'active' AND consented AND fresh > 0")
TEACHING = text("state = 'active' AND consented AND total > 0")
Index("users_due", users.c.fresh, users.c.not_before, sqlite_where=DUE, postgresql_where=DUE)
Index("users_pending", users.c.fresh_since, sqlite_where=PENDING, postgresql_where=PENDING)
Index("users_teaching", users.c.tenant, users.c.total, sqlite_where=TEACHING, postgresql_where=TEACHING)

tombstones = Table(
    "tombstones",
    metadata,
    Column("tenant", String(32), ForeignKey("tenants.id"), primary_key=True),
    Column("lookup", LargeBinary(16), primary_key=True),
    Column("user", String(32), nullable=False),
    Column("forgotten_at", Moment, nullable=False),
    Column("scrubbed_at", Moment),
    Column("rolled_at", Moment),
)

events = Table(
    "events",
    metadata,
    Column("seq", Number, primary_key=True),
    Column("tenant", String(32), nullable=False),
    Column("user", String(32), ForeignKey("users.id"), nullable=False),
    Column("identity", LargeBinary(16), nullable=False),
    Column("dedup", LargeBinary(16), nullable=False),
    Column("kind", State(EventKind), nullable=False),
    Column("time", Moment),
    Column("received_at", Moment, nullable=False),
    Column("body_sealed", LargeBinary, nullable=False),
    UniqueConstraint("tenant", "identity"),
    sqlite_autoincrement=True,
)
Index("events_of_user", events.c.user, events.c.seq)

runs = Table(
    "runs",
    metadata,
    Column("id", Number, primary_key=True),
    Column("tenant", String(32), nullable=False),
    Column("user", String(32), ForeignKey("users.id"), nullable=False),
    Column("basis", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", State(RunState), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("run_at", Moment, nullable=False),
    Column("claimable_at", Moment, nullable=False),
    Column("owner", String(128)),
    Column("error_code", String(64)),
    Column("error_reason", Text),
    Column("created_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("replaced_by", BigInteger),
    Column("trace", String(64)),
    sqlite_autoincrement=True,
)
OPEN = text("state IN ('queued', 'running')")
Index("runs_one_open", runs.c.user, unique=True, sqlite_where=OPEN, postgresql_where=OPEN)
Index("runs_claimable", runs.c.claimable_at, runs.c.id, sqlite_where=OPEN, postgresql_where=OPEN)
Index("runs_of_user", runs.c.user, runs.c.created_at)
DEAD = text("state = 'failed' AND replaced_by IS NULL")
Index("runs_dead", runs.c.id, sqlite_where=DEAD, postgresql_where=DEAD)

versions = Table(
    "versions",
    metadata,
    Column("user", String(32), ForeignKey("users.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("tenant", String(32), nullable=False),
    Column("run", BigInteger, nullable=False, unique=True),
    Column("epoch", BigInteger, nullable=False),
    Column("state", State(VersionState), nullable=False),
    Column("code", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("scores", Text, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("base", String(128), nullable=False),
    Column("basis", String(128), nullable=False),
    Column("watermark_seq", BigInteger, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("adapter_sealed", LargeBinary, nullable=False),
    Column("statistics_sealed", LargeBinary),
)
CURRENT = text("state = 'current'")
Index("versions_one_current", versions.c.user, unique=True, sqlite_where=CURRENT, postgresql_where=CURRENT)

bases = Table(
    "bases",
    metadata,
    Column("id", Number, primary_key=True),
    Column("tenant", String(32), ForeignKey("tenants.id"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("labels_hint", Text, nullable=False),
    Column("state", State(BasisState), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("run_at", Moment, nullable=False),
    Column("claimable_at", Moment, nullable=False),
    Column("owner", String(128)),
    Column("error_code", String(64)),
    Column("fingerprint", String(128)),
    Column("base", String(128)),
    Column("report", Text),
    Column("blob", String(64)),
    Column("size_bytes", BigInteger),
    Column("created_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("checked_at", Moment),
    sqlite_autoincrement=True,
)
Index("bases_claimable", bases.c.claimable_at, bases.c.id, sqlite_where=OPEN, postgresql_where=OPEN)
Index("bases_of_tenant", bases.c.tenant, bases.c.id)

audit = Table(
    "audit",
    metadata,
    Column("seq", Number, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("tenant", String(32), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("object", String(128), nullable=False),
    Column("outcome", String(256), nullable=False),
    Column("prev", LargeBinary(32), nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    sqlite_autoincrement=True,
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    Column("mac", LargeBinary(32), nullable=False),
)

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Moment, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
    Column("exported_at", Moment),
)

# One row per committed write on PostgreSQL: after a connection that broke during COMMIT, whether the row is there tells
# whether the transaction is.
commits = Table(
    "commits",
    metadata,
    Column("token", LargeBinary(16), primary_key=True),
    Column("at", Moment, nullable=False),
)

# The oldest revision whose release still works on this schema: it may be newer than a release that runs.
compatibility = Table(
    "compatibility",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("oldest", String(32), nullable=False),
)

# What an operator has switched off; a row is off, no row is on.
switches = Table(
    "switches",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("at", Moment, nullable=False),
    Column("actor", String(128), nullable=False),
)
