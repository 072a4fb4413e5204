"""What operators steer and watch: switches, the trace that an event arrived in, users that are nobody's.

Only adds, so that the release before works on it while daemons are replaced one by one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
OLDEST = "0003"


def upgrade() -> None:
    op.create_table(
        "switches",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
    )
    op.add_column("users", sa.Column("trace", sa.String(64), nullable=True))
    op.add_column("users", sa.Column("synthetic", sa.Boolean(create_constraint=False), nullable=True))
    op.add_column("runs", sa.Column("trace", sa.String(64), nullable=True))
    op.execute(sa.text("UPDATE compatibility SET oldest = :oldest WHERE id = 1").bindparams(oldest=OLDEST))
