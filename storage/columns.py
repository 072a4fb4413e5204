"""What a column holds: moments, states, and numbers that a database gives out."""

from datetime import UTC, datetime, timedelta
from enum import Enum

from sqlalchemy import BigInteger, Dialect, Integer, String
from sqlalchemy.types import TypeDecorator

START = datetime(1970, 1, 1, tzinfo=UTC)
Number = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows only in a column of type INTEGER


class Moment(TypeDecorator[datetime]):
    """An aware datetime, kept as microseconds since 1970 so that every database orders and stores it alike."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        # Subtracting an aware START makes a naive `value` fail here instead of being taken for UTC.
        return None if value is None else (value - START) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else START + timedelta(microseconds=value)


class State(TypeDecorator[Enum]):
    """A member of one Enum, kept as its value."""

    impl = String(16)
    cache_ok = True

    def __init__(self, kind: type[Enum]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Enum | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else str(self.kind(value).value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Enum | None:  # noqa: ARG002
        return None if value is None else self.kind(value)
