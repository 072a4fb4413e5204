"""A version's statistics, from which the next run goes on. Versions made before have none."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("versions", sa.Column("statistics_sealed", sa.LargeBinary(), nullable=True))
