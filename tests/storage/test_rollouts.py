"""Rollouts: one at a time in a tenant, decided once, and the control that won is served to everybody, once."""

import pytest

from storage import NewRollout, RolloutEnded, RolloutOpen, StorageError, UnknownRollout, UnknownTenant

WANTED = NewRollout("summer", "previous", 0.25, "{}")


def versions(world, user) -> list[tuple[int, str]]:
    return [(each.version, each.state.value) for each in world.store.versions(user)]


def serving(world, name) -> int:
    current = world.store.serving(world.tenant, [name]).users[name].current
    return 0 if current is None else current.version


def lost(world, rollout):
    return world.store.end_rollout(rollout.id, "returning", ("surely_not_better", "it is not"), "op", world.later())


def test_a_tenant_has_one_open_rollout(world):
    opened = world.store.start_rollout(world.tenant, WANTED, "op", world.now)
    with pytest.raises(RolloutOpen, match=f"rollout {opened.id} "):
        world.store.start_rollout(world.tenant, WANTED, "op", world.now)
    assert world.store.open_rollout(world.tenant) == opened
    other = world.store.ensure_tenant("other", world.now).id
    assert world.store.open_rollout(other) is None
    assert world.store.rollout(other, opened.id) is None
    second = world.store.start_rollout(other, WANTED, "op", world.now)
    assert second.salt != opened.salt
    assert [each.id for each in world.store.unfinished_rollouts()] == [opened.id, second.id]


def test_it_ends_once_and_the_reason_is_kept(world):
    opened = world.store.start_rollout(world.tenant, WANTED, "op", world.now)
    ended = world.store.end_rollout(opened.id, "promoted", ("surely_better", "it is"), "op", world.later())
    assert (ended.state, ended.code, ended.reason, ended.ended_at) == ("promoted", "surely_better", "it is", world.now)
    with pytest.raises(RolloutEnded, match="promoted already"):
        world.store.end_rollout(opened.id, "cancelled", ("asked", "no"), "op", world.later())
    with pytest.raises(UnknownRollout):
        world.store.end_rollout(999, "promoted", ("asked", "no"), "op", world.later())
    assert world.store.rollouts(world.tenant) == [ended]
    assert world.store.start_rollout(world.tenant, WANTED, "op", world.now).id > opened.id
    assert "rollout.promoted" in {row[0] for row in world.sql("SELECT action FROM audit")}


def test_when_the_control_wins_everybody_is_served_what_was_before(world):
    ann, bob, eve = (world.user(name) for name in ("ann", "bob", "eve"))
    for user in (ann, ann, ann, bob):
        world.finished(user)
    opened = world.store.start_rollout(world.tenant, WANTED, "op", world.later())
    ended = lost(world, opened)
    with pytest.raises(RolloutOpen):
        world.store.start_rollout(world.tenant, WANTED, "op", world.now)
    assert world.store.return_rollout(ended, world.later()) == 1
    assert world.store.return_rollout(ended, world.later()) == 0  # again: nobody is moved twice
    assert [serving(world, name) for name in ("ann", "bob", "eve")] == [2, 1, 0]
    assert versions(world, ann) == [(1, "retired"), (2, "current"), (3, "retired")]
    assert world.store.versions(eve) == []
    assert world.store.rollout(world.tenant, opened.id).state == "rolled_back"
    assert [each.cause for each in world.store.moves(world.tenant)][-1] == "rollout"


def test_what_was_promoted_after_the_decision_stays(world):
    ann, bob = world.user("ann"), world.user("bob")
    world.finished(ann), world.finished(bob)
    wanted = NewRollout("winter", "generic", 0.5, "{}")
    ended = lost(world, world.store.start_rollout(world.tenant, wanted, "op", world.later()))
    world.later()
    world.finished(bob)
    assert world.store.return_rollout(ended, world.later()) == 1
    assert [serving(world, name) for name in ("ann", "bob")] == [0, 2]


@pytest.mark.parametrize(
    "changes", [{"control": "current"}, {"share": 0.0}, {"share": 1.0}, {"share": float("nan")}, {"name": ""}]
)
def test_what_is_no_rollout_is_refused(changes):
    with pytest.raises(StorageError, match="rollout's"):
        NewRollout(**{"name": "a", "control": "generic", "share": 0.5, "rules": "{}"} | changes)


def test_a_tenant_nobody_knows_has_none(world):
    with pytest.raises(UnknownTenant):
        world.store.start_rollout("0" * 32, WANTED, "op", world.now)
