"""The tables of what served whom when, and of how good it was: as the newest migration leaves them."""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from storage.columns import Moment, Number
from storage.tables import metadata

# Every move of a user's pointer, in the order of commits: numbers are given while the audit log's head is held.
# `revoked` is the digest of what ceased to serve; a forgotten user's moves stand for nobody.
moves = Table(
    "moves",
    metadata,
    Column("seq", Number, primary_key=True),
    Column("tenant", String(32), nullable=False),
    Column("user", String(32)),
    Column("version", Integer, nullable=False),
    Column("revoked", String(64)),
    Column("cause", String(32), nullable=False),
    Column("at", Moment, nullable=False),
    sqlite_autoincrement=True,
)
Index("moves_of_tenant", moves.c.tenant, moves.c.seq)
Index("moves_of_user", moves.c.user, moves.c.seq)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Number, primary_key=True),
    Column("tenant", String(32), nullable=False),
    Column("name", String(128), nullable=False),
    Column("treatment", String(16), nullable=False),
    Column("control", String(16), nullable=False),
    Column("share", Float, nullable=False),
    Column("salt", String(32), nullable=False),
    Column("rules", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("code", String(64)),
    Column("reason", Text),
    Column("started_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("ended_after", BigInteger),
    sqlite_autoincrement=True,
)
RUNNING = text("state = 'open'")
Index("rollouts_one_open", rollouts.c.tenant, unique=True, sqlite_where=RUNNING, postgresql_where=RUNNING)

outcomes = Table(
    "outcomes",
    metadata,
    Column("seq", Number, primary_key=True),
    Column("tenant", String(32), nullable=False),
    Column("identity", LargeBinary(16), nullable=False),
    Column("user", String(32), nullable=False),
    Column("rollout", BigInteger),
    Column("arm", String(16)),
    Column("version", Integer, nullable=False),
    Column("value", Float, nullable=False),
    Column("at", Moment, nullable=False),
    UniqueConstraint("tenant", "identity"),
    sqlite_autoincrement=True,
)
Index("outcomes_of_rollout", outcomes.c.rollout, outcomes.c.arm, outcomes.c.user)
Index("outcomes_of_user", outcomes.c.user)
