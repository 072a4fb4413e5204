"""Switches: what an operator has paused, for every daemon on this database. A row is off; no row is on."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from storage.errors import BadRecord
from storage.tables import switches as table
from storage.transaction import Transaction

NAMES = ("training", "ingest")


@dataclass(frozen=True, slots=True)
class Switch:
    """What is off, since when, and which caller did it."""

    name: str
    at: datetime
    actor: str


def listed(connection: Connection) -> list[Switch]:
    """Those that are off, by name."""
    return [Switch(row.name, row.at, row.actor) for row in connection.execute(select(table).order_by(table.c.name))]


def turn(tx: Transaction, name: str, actor: str, *, off: bool) -> bool:
    """Turn the switch; whether that changed anything. Raises BadRecord for a name that is none."""
    if name not in NAMES:
        raise BadRecord("switch", f"one of {', '.join(NAMES)}")
    known = tx.connection.execute(select(table.c.name).where(table.c.name == name)).scalar()
    if (known is not None) == off:
        return False
    if off:
        tx.connection.execute(insert(table).values(name=name, at=tx.now, actor=actor))
    else:
        tx.connection.execute(delete(table).where(table.c.name == name))
    tx.audit("", actor, "switch.off" if off else "switch.on", name, "done")
    return True
