"""What served whom since when, rollouts of a tenant, and what became of the answers that they gave.

Only adds, so that the release before works on it while daemons are replaced one by one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
OLDEST = "0003"
GUARDED = ("moves", "rollouts", "outcomes")
SEEN = "(tenant = current_setting('plora.tenant', true) OR current_setting('plora.tenant', true) = '*')"


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "moves",
        sa.Column("seq", number, primary_key=True),
        sa.Column("tenant", sa.String(32), nullable=False),
        sa.Column("user", sa.String(32), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("revoked", sa.String(64), nullable=True),
        sa.Column("cause", sa.String(32), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("moves_of_tenant", "moves", ["tenant", "seq"])
    op.create_index("moves_of_user", "moves", ["user", "seq"])
    op.create_table(
        "rollouts",
        sa.Column("id", number, primary_key=True),
        sa.Column("tenant", sa.String(32), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("treatment", sa.String(16), nullable=False),
        sa.Column("control", sa.String(16), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("salt", sa.String(32), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("code", sa.String(64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_after", sa.BigInteger(), nullable=True),
        sqlite_autoincrement=True,
    )
    running = sa.text("state = 'open'")
    op.create_index(
        "rollouts_one_open", "rollouts", ["tenant"], unique=True, sqlite_where=running, postgresql_where=running
    )
    op.create_table(
        "outcomes",
        sa.Column("seq", number, primary_key=True),
        sa.Column("tenant", sa.String(32), nullable=False),
        sa.Column("identity", sa.LargeBinary(16), nullable=False),
        sa.Column("user", sa.String(32), nullable=False),
        sa.Column("rollout", sa.BigInteger(), nullable=True),
        sa.Column("arm", sa.String(16), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("tenant", "identity"),
        sqlite_autoincrement=True,
    )
    op.create_index("outcomes_of_rollout", "outcomes", ["rollout", "arm", "user"])
    op.create_index("outcomes_of_user", "outcomes", ["user"])
    _begin_history()
    if op.get_bind().dialect.name == "postgresql":
        for table in GUARDED:
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY of_tenant ON {table} USING {SEEN} WITH CHECK {SEEN}")
    op.execute(sa.text("UPDATE compatibility SET oldest = :oldest WHERE id = 1").bindparams(oldest=OLDEST))


def _begin_history() -> None:
    """What serves now counts as having served since it was made."""
    op.execute(
        'INSERT INTO moves (tenant, "user", version, revoked, cause, at) '
        "SELECT tenant, \"user\", version, NULL, 'promote', created_at FROM versions WHERE state = 'current' "
        "ORDER BY created_at"
    )
