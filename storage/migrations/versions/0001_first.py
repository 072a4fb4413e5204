"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _tenants()
    _callers()
    _data_keys()
    _users()
    _tombstones()
    _events()
    _runs()
    _versions()
    _bases()
    _audit()
    _audit_head()


def _tenants() -> None:
    op.create_table(
        "tenants",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("name"),
    )


def _callers() -> None:
    op.create_table(
        "callers",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("tenant", sa.String(32), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"]),
        sa.UniqueConstraint("tenant", "name"),
        sa.UniqueConstraint("token_hash"),
    )


def _data_keys() -> None:
    op.create_table(
        "data_keys",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("tenant", sa.String(32), nullable=False),
        sa.Column("owner", sa.String(32), nullable=False),
        sa.Column("key_id", sa.LargeBinary(16), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(65), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"]),
        sa.UniqueConstraint("owner"),
        sqlite_autoincrement=True,
    )


def _users() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("tenant", sa.String(32), nullable=False),
        sa.Column("lookup", sa.LargeBinary(16), nullable=True),
        sa.Column("external_id_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("consented", sa.Boolean(), nullable=False),
        sa.Column("consent_at", sa.BigInteger(), nullable=False),
        sa.Column("fresh", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("fresh_since", sa.BigInteger(), nullable=True),
        sa.Column("watermark", sa.BigInteger(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("last_event_at", sa.BigInteger(), nullable=True),
        sa.Column("last_run_at", sa.BigInteger(), nullable=True),
        sa.Column("open_run", sa.BigInteger(), nullable=True),
        sa.Column("current_version", sa.Integer(), nullable=False),
        sa.Column("last_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"]),
        sa.UniqueConstraint("tenant", "lookup"),
    )
    _partial(
        "users_due",
        "users",
        ["fresh", "not_before"],
        "state = 'active' AND consented AND open_run IS NULL AND fresh > 0",
    )
    _partial("users_pending", "users", ["fresh_since"], "state = 'active' AND consented AND fresh > 0")
    _partial("users_teaching", "users", ["tenant", "total"], "state = 'active' AND consented AND total > 0")


def _tombstones() -> None:
    op.create_table(
        "tombstones",
        sa.Column("tenant", sa.String(32), primary_key=True),
        sa.Column("lookup", sa.LargeBinary(16), primary_key=True),
        sa.Column("user", sa.String(32), nullable=False),
        sa.Column("forgotten_at", sa.BigInteger(), nullable=False),
        sa.Column("scrubbed_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"]),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("seq", NUMBER, primary_key=True),
        sa.Column("tenant", sa.String(32), nullable=False),
        sa.Column("user", sa.String(32), nullable=False),
        sa.Column("identity", sa.LargeBinary(16), nullable=False),
        sa.Column("dedup", sa.LargeBinary(16), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=True),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("body_sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["user"], ["users.id"]),
        sa.UniqueConstraint("tenant", "identity"),
        sqlite_autoincrement=True,
    )
    op.create_index("events_of_user", "events", ["user", "seq"])


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("tenant", sa.String(32), nullable=False),
        sa.Column("user", sa.String(32), nullable=False),
        sa.Column("basis", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("run_at", sa.BigInteger(), nullable=False),
        sa.Column("claimable_at", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(128), nullable=True),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("error_reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["user"], ["users.id"]),
        sqlite_autoincrement=True,
    )
    _partial("runs_claimable", "runs", ["claimable_at", "id"], "state IN ('queued', 'running')")
    op.create_index("runs_of_user", "runs", ["user", "created_at"])
    _partial("runs_one_open", "runs", ["user"], "state IN ('queued', 'running')", unique=True)


def _versions() -> None:
    op.create_table(
        "versions",
        sa.Column("user", sa.String(32), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("tenant", sa.String(32), nullable=False),
        sa.Column("run", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("scores", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("base", sa.String(128), nullable=False),
        sa.Column("basis", sa.String(128), nullable=False),
        sa.Column("watermark_seq", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("adapter_sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["user"], ["users.id"]),
        sa.UniqueConstraint("run"),
    )
    _partial("versions_one_current", "versions", ["user"], "state = 'current'", unique=True)


def _bases() -> None:
    op.create_table(
        "bases",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("tenant", sa.String(32), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("labels_hint", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("run_at", sa.BigInteger(), nullable=False),
        sa.Column("claimable_at", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(128), nullable=True),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("fingerprint", sa.String(128), nullable=True),
        sa.Column("base", sa.String(128), nullable=True),
        sa.Column("report", sa.Text(), nullable=True),
        sa.Column("blob", sa.String(64), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"]),
        sqlite_autoincrement=True,
    )
    _partial("bases_claimable", "bases", ["claimable_at", "id"], "state IN ('queued', 'running')")
    op.create_index("bases_of_tenant", "bases", ["tenant", "id"])


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", NUMBER, primary_key=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("object", sa.String(128), nullable=False),
        sa.Column("outcome", sa.String(256), nullable=False),
        sa.Column("prev", sa.LargeBinary(32), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sqlite_autoincrement=True,
    )


def _audit_head() -> None:
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("mac", sa.LargeBinary(32), nullable=False),
    )


def _partial(name: str, table: str, columns: list[str], where: str, unique: bool = False) -> None:
    """An index of those rows only that `where` admits."""
    op.create_index(name, table, columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
