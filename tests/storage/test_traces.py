"""The trace of a user's last event is that of the run it leads to, and goes with the user."""

from sqlalchemy import Table, select

from storage import EventKind, NewEvent
from storage.tables import runs, users

FIRST, SECOND = (f"00-{letter * 32}-{letter * 16}-01" for letter in "ab")


def send(world, user: str, number: int, trace: str | None, kind: EventKind = EventKind.EXAMPLE) -> str:
    """The internal id."""
    consent = True if kind is EventKind.CONSENT else None
    sent = NewEvent("/shop", f"{user}-{number}", user, kind, b"{}", consent=consent, trace=trace)
    [recorded] = world.store.record_events(world.tenant, [sent], world.now, default_consent=True)
    return recorded.user


def traces(world, table: Table) -> list[str | None]:
    with world.store._read() as connection:
        return list(connection.execute(select(table.c.trace)).scalars())


def test_a_run_is_in_the_trace_of_the_last_example_before_it(world):
    user = send(world, "ann", 1, FIRST)
    send(world, "ann", 2, SECOND)
    send(world, "ann", 3, FIRST, EventKind.CONSENT)
    opened = world.store.open_run(user, "basis", "a test", world.now)
    send(world, "ann", 4, None)
    [claimed] = world.store.claim_runs("test", 10, 60, world.now)
    assert (opened.trace, claimed.trace) == (SECOND, SECOND)
    world.reopen()
    world.store.retry_run(claimed.id, claimed.epoch, world.now, "lost", world.now)
    [again] = world.store.claim_runs("another", 10, 60, world.now)
    assert (again.id, again.trace) == (claimed.id, SECOND)
    assert traces(world, users) == [None]


def test_each_user_of_a_batch_keeps_the_trace_of_their_own(world):
    sent = [
        NewEvent("/shop", user, user, EventKind.EXAMPLE, b"{}", trace=trace)
        for user, trace in (("ann", FIRST), ("bob", SECOND), ("cid", None))
    ]
    people = [each.user for each in world.store.record_events(world.tenant, sent, world.now, default_consent=True)]
    opened = world.store.open_runs([(user, "basis", "a test") for user in people], world.now)
    assert [opened[user].trace for user in people] == [FIRST, SECOND, None]


def test_a_forgotten_user_leaves_no_trace(world):
    user = send(world, "ann", 1, FIRST)
    world.store.open_run(user, "basis", "a test", world.now)
    send(world, "ann", 2, SECOND)
    world.store.forget(world.tenant, "ann", "operator", world.now)
    assert traces(world, users) == [None]
    assert traces(world, runs) == [None]
