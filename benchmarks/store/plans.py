"""How PostgreSQL finds who is due: the plan of the statement that the store itself sends."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta

import psycopg
from sqlalchemy import Engine, event

from benchmarks.store.places import START, Place


@dataclass(frozen=True, slots=True)
class Plan:
    """`scans` are the nodes that read users; `read` the rows they read, those that a filter then dropped among them."""

    scans: tuple[str, ...]
    read: int
    found: int
    buffers: int

    @property
    def holds(self) -> bool:
        """Whether no user who is not due was looked at."""
        return self.read == self.found and not any("Seq Scan" in scan for scan in self.scans)

    def to_dict(self) -> dict[str, object]:
        return asdict(self) | {"holds": self.holds}


def plan_of_due(place: Place, min_fresh: int = 8, min_fresh_dead: int = 32) -> Plan:
    """Of `due_users`, explained by the role that the store uses."""
    sent: list[tuple[str, Mapping[str, object]]] = []

    def note(
        _connection: object, _cursor: object, statement: str, parameters: Mapping[str, object], *_: object
    ) -> None:
        if "users" in statement and statement.lstrip().upper().startswith("SELECT"):
            sent.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        found = place.store.due_users(START + timedelta(days=1), 500, min_fresh, min_fresh_dead)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    statement, parameters = sent[-1]
    with psycopg.connect(str(place.admin), autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE) users")  # what the preparation has outdated is no cost of a million users
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
        row = connection.execute(explain.encode(), parameters).fetchone()
    told = row[0][0] if row and not isinstance(row[0], str) else json.loads(row[0] if row else "[{}]")[0]
    nodes = [node for node in _nodes(told["Plan"]) if node.get("Relation Name") == "users" or "Index Name" in node]
    read = max(_number(node, "Actual Rows") + _number(node, "Rows Removed by Filter") for node in nodes)
    names = tuple(f"{node['Node Type']} {node.get('Index Name', '')}".strip() for node in nodes)
    buffers = told["Plan"].get("Shared Hit Blocks", 0) + told["Plan"].get("Shared Read Blocks", 0)
    return Plan(names, read, len(found), buffers)


def _number(node: Mapping[str, object], name: str) -> int:
    value = node.get(name, 0)
    return int(value) if isinstance(value, (int, float)) else 0


def _nodes(plan: dict[str, object]) -> Iterator[dict[str, object]]:
    yield plan
    children = plan.get("Plans", [])
    if isinstance(children, list):
        for child in children:
            yield from _nodes(child)
