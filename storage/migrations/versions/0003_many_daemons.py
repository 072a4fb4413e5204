"""Several daemons on one database: key epochs, tokens of commits, checkpoints of the audit log, dead letters.

Only adds, so that the release before works on it while daemons are replaced one by one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
OLDEST = "0002"
SEEN = "(tenant = current_setting('plora.tenant', true) OR current_setting('plora.tenant', true) = '*')"
GUARDED = ("callers", "data_keys", "users", "tombstones", "events", "runs", "versions", "bases")


def upgrade() -> None:
    _columns()
    _tables()
    op.create_index(
        "runs_dead",
        "runs",
        ["id"],
        sqlite_where=sa.text("state = 'failed' AND replaced_by IS NULL"),
        postgresql_where=sa.text("state = 'failed' AND replaced_by IS NULL"),
    )
    op.execute(sa.text("INSERT INTO compatibility (id, oldest) VALUES (1, :oldest)").bindparams(oldest=OLDEST))
    if op.get_bind().dialect.name == "postgresql":
        _guard()


def _columns() -> None:
    for table, column in (
        ("callers", "expires_at"),
        ("callers", "revoked_at"),
        ("users", "dead_run"),
        ("tombstones", "rolled_at"),
        ("runs", "replaced_by"),
        ("bases", "checked_at"),
    ):
        op.add_column(table, sa.Column(column, sa.BigInteger(), nullable=True))


def _tables() -> None:
    op.create_table(
        "key_epochs",
        sa.Column("epoch", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("provider", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("destroyed_at", sa.BigInteger(), nullable=True),
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("seq", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("signature", sa.LargeBinary(64), nullable=False),
        sa.Column("exported_at", sa.BigInteger(), nullable=True),
    )
    op.create_table(
        "commits",
        sa.Column("token", sa.LargeBinary(16), primary_key=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "compatibility",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("oldest", sa.String(32), nullable=False),
    )


def _guard() -> None:
    """Row-level security, for the tables' owner too: without a scope a transaction sees no row of any tenant."""
    for table in GUARDED:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY of_tenant ON {table} USING {SEEN} WITH CHECK {SEEN}")
    seen = SEEN.replace("tenant = ", "id = ", 1)
    op.execute("ALTER TABLE tenants ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE tenants FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY of_tenant ON tenants USING {seen} WITH CHECK {seen}")
