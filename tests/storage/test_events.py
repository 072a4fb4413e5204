# ruff: noqa: S608 -- the test tampers with its own database

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy.event import listen

from storage import BadRecord, EventIdReused, EventKind, NewEvent, Recorded, UnknownTenant, UnknownUser, Unreadable


def test_an_event_comes_back_as_it_was_sent(world):
    event = world.event("alice", "これは日本語です")
    [recorded] = world.record(event)
    [stored] = world.store.events(recorded.user)
    assert (stored.seq, stored.kind, stored.content) == (recorded.seq, EventKind.EXAMPLE, event.content)
    assert (stored.time, stored.received_at) == (event.time, world.now)


def test_an_empty_and_a_64_kib_event_come_back(world):
    big = bytes(range(256)) * 256
    [first, second] = world.record(world.event("alice", content=b""), world.event("alice", content=big))
    assert [event.content for event in world.store.events(first.user)] == [b"", big]
    assert second.seq > first.seq


def test_the_same_event_again_is_a_duplicate_also_within_a_batch(world):
    event = world.event("alice")
    first, again = world.record(event, event)
    [later] = world.record(event)
    assert (first.duplicate, again.duplicate, later.duplicate) == (False, True, True)
    assert first.seq == again.seq == later.seq
    assert world.store.activity(first.user, world.now).total == 1


@pytest.mark.parametrize(
    "change", [{"content": b"other"}, {"user": "bob"}, {"kind": EventKind.CORRECTION}], ids=["content", "user", "kind"]
)
def test_a_reused_id_with_anything_else_is_refused_and_leaves_nothing(world, change):
    event = world.event("alice")
    [first] = world.record(event)
    changed = {name: getattr(event, name) for name in NewEvent.__dataclass_fields__} | change
    [reused] = world.record(NewEvent(**changed))
    assert isinstance(reused, EventIdReused)
    assert reused.seq == first.seq
    assert world.store.user(world.tenant, "bob") is None
    assert len(world.store.events(first.user)) == 1


def test_a_reused_id_within_one_batch_names_the_first_event(world):
    event = world.event("alice")
    first, reused = world.record(event, world.event("alice", "other", id=event.id))
    assert isinstance(reused, EventIdReused)
    assert reused.seq == first.seq


def test_a_bad_event_of_a_batch_does_not_harm_the_others(world):
    event = world.event("alice")
    outcomes = world.record(event, world.event("bob", "x", id=event.id), world.event("carol"))
    assert [type(each) for each in outcomes] == [Recorded, EventIdReused, Recorded]
    assert [event.user for event in world.store.events(outcomes[2].user)] == [outcomes[2].user]


def test_the_same_source_and_id_of_another_tenant_is_another_event(world):
    other = world.store.ensure_tenant("other", world.now).id
    event = world.event("alice")
    [mine], [theirs] = world.record(event), world.store.record_events(other, [event], world.now)
    assert not theirs.duplicate
    assert mine.user != theirs.user
    assert world.store.user(other, "alice").id == theirs.user


def test_source_and_id_do_not_run_together(world):
    [one, two] = world.record(world.event("a", source="s1", id="2"), world.event("a", source="s", id="12"))
    assert not two.duplicate
    assert one.seq != two.seq


def test_users_start_without_consent_unless_the_tenant_says_so(world):
    [first] = world.record(world.event("alice"))
    [second] = world.store.record_events(world.tenant, [world.event("bob")], world.now, default_consent=True)
    assert not world.store.user_by_id(first.user).consented
    assert world.store.user_by_id(second.user).consented


def test_the_latest_consent_wins_whatever_order_it_arrives_in(world):
    early, late = world.now, world.later(60)
    [first] = world.record(world.consent("alice", False, time=late))
    world.record(world.consent("alice", True, time=early))
    assert not world.store.user_by_id(first.user).consented
    world.record(world.consent("alice", True, time=world.later(60)))
    assert world.store.user_by_id(first.user).consented


def test_a_consent_from_the_future_does_not_freeze_the_user(world):
    [first] = world.record(world.consent("alice", True, time=world.now + timedelta(days=9999)))
    world.record(world.consent("alice", False, time=world.later(1)))
    assert not world.store.user_by_id(first.user).consented


def test_withdrawing_consent_cancels_the_open_run(world):
    user = world.user("alice")
    run = world.claimed(user)
    world.record(world.consent("alice", False, time=world.later()))
    assert world.store.run(run.id).state.value == "cancelled"
    assert world.store.due_users(world.now, 10) == []


def test_activity_counts_examples_and_corrections_but_no_consents(world):
    user = world.user("alice", examples=2)
    world.record(world.event("alice", kind=EventKind.CORRECTION))
    activity = world.store.activity(user, world.now)
    assert (activity.total, activity.fresh, activity.last_event_at) == (3, 3, world.now)
    assert world.store.activity("0" * 32, world.now) is None


def test_due_users_are_those_with_consent_examples_and_no_run(world):
    ready = world.user("ready", 3)
    world.later()
    few = world.user("few", 1)
    world.record(world.event("silent"))
    busy = world.user("busy", 3)
    world.store.open_run(busy, "basis-1", "x", world.now)
    assert world.store.due_users(world.now, 10, 2) == [ready]
    assert world.store.due_users(world.now, 10, 1) == [ready, few]
    assert world.store.due_users(world.now, 1, 1) == [ready]


def test_a_postponed_user_does_not_hide_those_behind(world):
    first, second = world.user("first"), world.user("second")
    world.store.postpone_users({first: world.now + timedelta(seconds=60)}, world.now)
    assert world.store.due_users(world.now, 1) == [second]
    assert set(world.store.due_users(world.later(60), 10)) == {first, second}


def test_the_due_are_found_by_an_index_that_holds_nobody_else(world):
    assert world.database.exists()
    asked = []
    readers = world.store._database._readers
    listen(readers, "before_cursor_execute", lambda _c, _u, statement, values, *_: asked.append((statement, values)))
    world.store.due_users(world.now, 5, 2)
    statement, values = next(each for each in asked if "fresh" in each[0])
    with readers.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    assert any("SEARCH users USING INDEX users_due" in step[3] for step in plan), plan


def test_population_lists_consenting_users_with_most_examples_first(world):
    small, large = world.user("small", 1), world.user("large", 4)
    world.record(world.event("silent"))
    assert world.store.population(world.tenant, 10) == [large, small]


def test_deleted_events_are_gone_and_no_longer_counted(world):
    user = world.user("alice", examples=3)
    seqs = [event.seq for event in world.store.events(user) if event.kind is EventKind.EXAMPLE]
    assert world.store.delete_events(user, seqs[:2], world.now) == 2
    assert world.store.delete_events(user, seqs[:2], world.now) == 0
    assert [event.seq for event in world.store.events(user) if event.kind is EventKind.EXAMPLE] == seqs[2:]
    assert world.store.activity(user, world.now).fresh == 1
    with pytest.raises(UnknownUser):
        world.store.delete_events("0" * 32, [1], world.now)


def test_another_users_events_are_not_deleted(world):
    alice, bob = world.user("alice"), world.user("bob")
    seqs = [event.seq for event in world.store.events(bob)]
    assert world.store.delete_events(alice, seqs, world.now) == 0
    assert len(world.store.events(bob)) == len(seqs)


def test_users_are_listed_page_by_page(world):
    made = sorted(world.user(f"user-{i}", 1) for i in range(5))
    first = world.store.users(world.tenant, 2, "")
    rest = world.store.users(world.tenant, 10, first[-1].id)
    assert [user.id for user in (*first, *rest)] == made


def test_the_external_id_comes_back_to_its_host_only(world):
    user = world.user("alice@example.com")
    assert world.store.external_id(user) == "alice@example.com"
    assert "alice" not in repr(world.store.user_by_id(user))


@pytest.mark.parametrize("column", ["user", "identity", "body_sealed"])
def test_a_row_moved_to_another_place_does_not_open(world, column):
    alice, bob = world.user("alice", 1), world.user("bob", 1)
    world.sql(
        f"CREATE TEMP TABLE b AS SELECT {column} AS value FROM events WHERE user = '{bob}' ORDER BY seq DESC LIMIT 1",
        f"DELETE FROM events WHERE user = '{bob}'",
        f"UPDATE events SET {column} = (SELECT value FROM b) WHERE user = '{alice}' AND kind = 'example'",
    )
    with pytest.raises(Unreadable):
        world.store.events(bob if column == "user" else alice)


def test_an_example_turned_into_a_correction_does_not_open(world):
    user = world.user("alice", 1)
    world.sql("UPDATE events SET kind = 'correction' WHERE kind = 'example'")
    with pytest.raises(Unreadable):
        world.store.events(user)


def test_an_unknown_tenant_is_named(world):
    with pytest.raises(UnknownTenant):
        world.store.record_events("0" * 32, [world.event("alice")], world.now)
    with pytest.raises(UnknownTenant):
        world.store.user("not-hex", "alice")


@pytest.mark.parametrize(
    "change",
    [{"source": ""}, {"id": "x" * 5000}, {"consent": True}, {"kind": EventKind.CONSENT}],
)
def test_an_event_that_can_not_be_is_refused_without_repeating_it(world, change):
    with pytest.raises(BadRecord) as refused:
        world.event("alice", **change)
    assert "alice" not in str(refused.value)


def test_an_event_needs_a_user(world):
    with pytest.raises(BadRecord):
        world.event("")


def test_a_naive_time_is_refused(world):
    with pytest.raises(BadRecord):
        world.event("alice", time=world.now.replace(tzinfo=None))
    with pytest.raises(Exception, match="offset-naive"):
        world.store.record_events(world.tenant, [world.event("alice")], world.now.replace(tzinfo=None))


def test_callers_are_found_by_token_and_replaced_by_name(world):
    first = world.store.add_caller(world.tenant, "shop", ["predict", "events:write"], "token-1", world.now)
    assert world.store.caller("token-1", world.now) == first
    assert first.scopes == {"predict", "events:write"}
    again = world.store.add_caller(world.tenant, "shop", ["predict"], "token-2", world.now)
    assert again.id == first.id
    assert world.store.caller("token-1", world.now) is None
    assert world.store.caller("token-2", world.now).scopes == {"predict"}
    digest = hashlib.sha256(b"token-2").hexdigest().upper()
    assert world.sql("SELECT hex(token_hash) FROM callers") == [(digest,)]


def test_ensuring_a_tenant_twice_gives_the_same_one(world):
    assert world.store.ensure_tenant("acme", world.later()).id == world.tenant
    assert [tenant.name for tenant in world.store.tenants()] == ["acme"]


def test_threads_record_and_read_at_once(world):
    names = [f"user-{i % 5}" for i in range(40)]
    events = [world.event(name, f"text {i}") for i, name in enumerate(names)]
    with ThreadPoolExecutor(8) as pool:
        recorded = list(pool.map(lambda event: world.record(event)[0], events))
        counts = list(pool.map(lambda user: len(world.store.events(user)), {each.user for each in recorded}))
    assert counts == [8] * 5
    assert len({each.seq for each in recorded}) == 40
