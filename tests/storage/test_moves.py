"""What ceased to serve, told in the order in which it was committed, and to nobody else's tenant."""

import threading
from datetime import timedelta

from storage import NewEvent, Store
from storage.moves import prune, served_at


def causes(world) -> list[str]:
    return [each.cause for each in world.store.moves(world.tenant)]


def test_every_move_is_told_with_what_ceased_to_serve(world):
    user = world.user("alice")
    first = world.finished(user, b"a" * 64)
    second = world.finished(user, b"b" * 64)
    world.finished(user, b"c" * 64, promoted=False)
    world.store.rollback(user, None, "operator", world.later())
    world.store.forget(world.tenant, "alice", "operator", world.later())
    told = world.store.moves(world.tenant)
    assert [each.cause for each in told] == ["promote", "promote", "rollback", "forget"]
    assert [each.revoked for each in told] == [None, first.digest, second.digest, first.digest]
    assert [each.seq for each in told] == sorted({each.seq for each in told})
    assert world.store.moves(world.tenant, told[1].seq) == told[2:]
    assert world.store.newest_move(world.tenant) == told[-1].seq


def test_nothing_of_a_forgotten_user_is_left_in_it(world):
    user = world.user("alice")
    world.finished(user)
    world.store.forget(world.tenant, "alice", "operator", world.later())
    assert world.sql('SELECT count(*) FROM moves WHERE "user" IS NOT NULL') == [(0,)]


def test_another_tenant_hears_nothing(world):
    world.finished(world.user("alice"))
    other = world.store.ensure_tenant("other", world.now).id
    assert world.store.moves(other) == []
    assert world.store.within(other).moves(world.tenant) == [] or world.store.dialect == "sqlite"


def test_who_follows_misses_nothing_while_many_write(world):
    """A number is given when nothing can be committed before it any more: a reader who goes on from it misses none."""
    users = [world.user(f"user-{number}") for number in range(12)]
    for user in users:
        world.finished(user)
    store, seen, done = world.store, list[int](), threading.Event()

    def follow() -> None:
        while True:
            over = done.is_set()
            told = store.moves(world.tenant, seen[-1] if seen else 0, 7)
            seen.extend(each.seq for each in told)
            if over and not told:
                return

    def roll_back(user: str) -> None:
        for _ in range(3):
            store.rollback(user, 0, "operator", world.now)
            store.rollback(user, 1, "operator", world.now)

    follower = threading.Thread(target=follow)
    writers = [threading.Thread(target=roll_back, args=(user,)) for user in users]
    follower.start()
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    done.set()
    follower.join()
    assert len(seen) == 12 + 12 * 6
    assert seen == [each.seq for each in store.moves(world.tenant)]


def test_what_served_at_a_moment_is_known(world):
    user, since = world.user("alice"), []
    for content in (b"a" * 64, b"b" * 64):
        world.finished(user, content)
        since.append(world.later())
    world.store.rollback(user, 0, "operator", world.later())
    with world.store._read() as connection:
        assert served_at(connection, [user], world.later()) == {user: 0}
        assert set(served_at(connection, [user], since[0] - timedelta(days=1))) == set()


def test_old_moves_go_but_never_the_last_of_a_user(world):
    user = world.user("alice")
    for content in (b"a" * 64, b"b" * 64, b"c" * 64):
        world.finished(user, content)
    with world.store._write(world.later()) as tx:
        assert prune(tx.connection, tx.now + timedelta(days=1)) == 2
    assert causes(world) == ["promote"]


def test_a_newcomer_has_made_no_move(world):
    event: NewEvent = world.event("bob")
    store: Store = world.store
    store.record_events(world.tenant, [event], world.now, default_consent=True)
    assert store.moves(world.tenant) == []
    assert store.serving(world.tenant, ["bob", "nobody"]).users["bob"].current is None
