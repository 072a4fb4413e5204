"""A whole population goes back to an instant, in parts, however often it is cut short."""

import threading
from datetime import timedelta

from sqlalchemy import select

from storage import FinishedRun, StorageError, returning
from storage.tables import users as user_table


def serving(world, *names) -> list[int]:
    found = world.store.serving(world.tenant, names).users
    return [0 if (current := found[name].current) is None else current.version for name in names]


def test_everybody_is_served_what_served_them_then(world):
    ann, bob, eve, new = (world.user(name) for name in ("ann", "bob", "eve", "new"))
    for user in (ann, bob, bob, eve):
        world.finished(user)
    world.store.rollback(bob, 1, "op", world.later())
    world.store.rollback(eve, 0, "op", world.later())
    then = world.now
    world.later()
    for user in (ann, bob, eve, new):
        world.finished(user)
    assert serving(world, "ann", "bob", "eve", "new") == [2, 3, 2, 1]
    assert world.store.roll_back_all(world.tenant, then, "op", world.later()) == 4
    assert serving(world, "ann", "bob", "eve", "new") == [1, 1, 0, 0]
    assert world.store.roll_back_all(world.tenant, then, "op", world.later()) == 0
    told = [each for each in world.store.moves(world.tenant) if each.at == world.now - timedelta(seconds=1)]
    assert [each.cause for each in told] == ["rollback"] * 4
    assert len({each.revoked for each in told} - {None}) == 4
    assert world.store.roll_back_all(world.tenant, world.now, "op", world.later()) == 0
    assert world.store.verify_audit().ok


def test_the_way_back_has_a_way_forward(world):
    ann = world.user("ann")
    world.finished(ann)
    before = world.later()
    world.later()
    world.finished(ann)
    after = world.later()
    world.store.roll_back_all(world.tenant, before, "op", world.later())
    assert serving(world, "ann") == [1]
    world.store.roll_back_all(world.tenant, after, "op", world.later())
    assert serving(world, "ann") == [2]


def test_a_version_that_is_not_kept_any_more_gives_way_to_the_generic_model(world):
    ann = world.user("ann")
    world.finished(ann)
    then = world.now
    world.later()
    world.finished(ann), world.finished(ann)
    world.store.delete_versions(ann, [1], world.later())
    assert world.store.roll_back_all(world.tenant, then, "op", world.later()) == 1
    assert serving(world, "ann") == [0]


def test_another_tenant_and_the_forgotten_are_left_alone(world):
    ann = world.user("ann")
    world.finished(ann), world.finished(world.user("gone"))
    world.store.forget(world.tenant, "gone", "op", world.later())
    other = world.store.ensure_tenant("other", world.now).id
    assert world.store.roll_back_all(other, world.now - timedelta(days=1), "op", world.later()) == 0
    assert serving(world, "ann") == [1]
    assert world.store.roll_back_all(world.tenant, world.now - timedelta(days=1), "op", world.later()) == 1


def test_who_was_cut_short_calls_again(world):
    users = [world.user(f"user-{number}", examples=1) for number in range(6)]
    then = world.later()
    world.later()
    for user in users:
        world.finished(user)
    with world.store._write(world.later()) as tx:  # a first part, as if killed after it
        whom = sorted(users)[:2]
        rows = [row for row in _rows(tx, world.tenant) if row.id in whom]
        returning._point(tx, rows, dict.fromkeys(whom, 0), "op", "rollback")
    assert world.store.roll_back_all(world.tenant, then, "op", world.later()) == 4


def test_a_population_of_several_parts(world):
    events = [world.event(f"user-{number}") for number in range(returning.AT_ONCE + 40)]
    world.store.record_events(world.tenant, events, world.now, default_consent=True)
    then = world.later()
    world.later()
    whom = [each.id for each in world.store.users(world.tenant, 1_000)]
    world.store.open_runs([(user, "basis-1", "due") for user in whom], world.now)
    claimed = world.store.claim_runs("daemon-1", 1_000, 60, world.now)
    world.store.finish_runs([(run.id, run.epoch, _outcome()) for run in claimed], world.now)
    assert world.store.roll_back_all(world.tenant, then, "op", world.later()) == len(whom)
    assert world.store.health(world.now).current_adapters == 0


def test_history_that_is_pruned_still_tells_what_served_since(world):
    ann = world.user("ann")
    world.finished(ann), world.later()
    world.finished(ann)
    horizon = world.later()
    world.later()
    world.finished(ann)
    assert world.store.prune_history(horizon, world.later()) == 1
    assert world.store.roll_back_all(world.tenant, horizon, "op", world.later()) == 1
    assert serving(world, "ann") == [2]


def test_pointers_and_moves_agree_while_others_promote_and_forget(world):
    """What is told last of each user is what serves them, whoever was first."""
    users = {f"user-{number}": world.user(f"user-{number}", examples=1) for number in range(8)}
    then = world.later()
    world.later()
    problems: list[Exception] = []

    def act(turn) -> None:
        try:
            for _ in range(6):
                turn()
        except StorageError as problem:
            problems.append(problem)

    def promote() -> None:
        world.store.open_runs([(user, "basis-1", "due") for user in users.values()], world.now)
        claimed = world.store.claim_runs("daemon-1", 100, 60, world.now)
        world.store.finish_runs([(run.id, run.epoch, _outcome()) for run in claimed], world.now)

    def back() -> None:
        world.store.roll_back_all(world.tenant, then, "op", world.now)

    def forget() -> None:
        world.store.forget(world.tenant, "user-7", "op", world.now)

    threads = [threading.Thread(target=act, args=(turn,)) for turn in (promote, back, back, forget)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert problems == []
    promote()
    assert serving(world, "user-0") != [0]
    back()
    last = dict(world.sql(LAST_TOLD))
    assert "user-7" not in world.store.serving(world.tenant, list(users)).users
    assert serving(world, *list(users)[:7]) == [0] * 7
    assert {last[user] for name, user in users.items() if name != "user-7"} == {0}
    assert world.sql("SELECT count(*) FROM versions WHERE state = 'current'") == [(0,)]


LAST_TOLD = (
    "SELECT user, version FROM moves WHERE seq IN (SELECT max(seq) FROM moves GROUP BY user) AND user IS NOT NULL"
)


def _rows(tx, tenant):
    return tx.connection.execute(select(user_table).where(user_table.c.tenant == tenant)).all()


def _outcome() -> FinishedRun:
    return FinishedRun(b"p" * 64, True, "beats_generic", "because", "{}", "base-1", "basis-1", 1)
